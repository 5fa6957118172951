//! An echo server and a client that talks to it, both in one process.
//!
//! `cargo run --example echo`

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warpline::{ClientConfig, Endpoint, Identity, ServerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = Identity::generate(["localhost"])?;
    println!("the server is {}", id.fingerprint());

    // The server works inside its workers: chunks go back as they came, without a copy.
    let config = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"echo"])?;
    let server = Endpoint::builder().bind(([127, 0, 0, 1], 0)).workers(2).server(config).serve_local(
        |connection| async move {
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                    if send.write_chunk(chunk).await.is_err() {
                        break;
                    }
                }
            }
        },
    )?;
    println!("it listens on {}", server.local_addr());

    // The client works under tokio.
    let client = Endpoint::builder().bind(([127, 0, 0, 1], 0)).start()?;
    let config = ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[b"echo"])?;
    let connection = client.connect(server.local_addr(), "localhost", config).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(b"hello").await?;
    send.shutdown().await?;
    let mut answer = String::new();
    recv.read_to_string(&mut answer).await?;
    println!("it answers: {answer}");
    println!("round-trip time: {:?}", connection.stats().await?.rtt);

    client.shutdown(0, b"bye").await;
    server.shutdown(0, b"").await;
    Ok(())
}
