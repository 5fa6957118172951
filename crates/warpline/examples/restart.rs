//! A server that can be replaced by a new process without a dropped connection.
//!
//! Start it, and start it again with the same restart socket: the second process takes over, the first one ends when its
//! last connection has. Each stream is answered with the process's number, four bytes, and then echoed.
//!
//! ```text
//! restart --bind 127.0.0.1:4433 --socket /run/echo.sock --fingerprint-file /run/echo.pin
//! ```
//! The first process makes a certificate and leaves it with its key beside the fingerprint, for those that follow.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use warpline::{CertificateDer, Connection, Endpoint, Identity, PrivateKeyDer, ServerConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Args {
    bind: std::net::SocketAddr,
    socket: PathBuf,
    pin: PathBuf,
    workers: usize,
}

fn args() -> Result<Args> {
    let mut args = Args { bind: ([127, 0, 0, 1], 0).into(), socket: PathBuf::new(), pin: PathBuf::new(), workers: 1 };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--bind" => args.bind = value.parse()?,
            "--socket" => args.socket = value.into(),
            "--fingerprint-file" => args.pin = value.into(),
            "--workers" => args.workers = value.parse()?,
            _ => return Err(format!("there is no {name}").into()),
        }
    }
    if args.socket.as_os_str().is_empty() || args.pin.as_os_str().is_empty() {
        return Err("--socket and --fingerprint-file are needed".into());
    }
    Ok(args)
}

/// The identity of all processes that serve this address.
fn identity(pin: &Path) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let (certificate, key) = (pin.with_extension("cert"), pin.with_extension("key"));
    if !certificate.exists() {
        let made = Identity::generate(["localhost"])?;
        std::fs::write(&key, made.key().secret_der())?;
        std::fs::write(&certificate, &*made.certificate)?;
        std::fs::write(pin, made.fingerprint().0)?;
    }
    let key = PrivateKeyDer::try_from(std::fs::read(key)?)?;
    Ok((CertificateDer::from(std::fs::read(certificate)?), key))
}

async fn serve(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let mut sent = send.write_all(&std::process::id().to_be_bytes()).await;
            while let (Ok(()), Ok(Some(chunk))) = (&sent, recv.read_chunk(usize::MAX).await) {
                sent = send.write_chunk(chunk).await;
            }
        });
    }
}

async fn run(args: Args) -> Result<()> {
    let (certificate, key) = identity(&args.pin)?;
    let server = ServerConfig::with_single_cert(vec![certificate], key, &[b"restart"])?;
    let builder = Endpoint::builder().bind(args.bind).workers(args.workers).server(server);
    let endpoint = builder.restart_socket(args.socket).start()?;
    println!("listening on {}", endpoint.local_addr());
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    endpoint.handed_over().await;
    println!("handed over");
    endpoint.finished().await;
    println!("finished");
    endpoint.shutdown(0, b"").await;
    Ok(())
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match args().and_then(|args| runtime?.block_on(run(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
