//! Answers requests, one thread for each connection.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::{ServerConfig, ServerConnection};
use warpline_peer_kit::{Result, ServerArgs, WRITE_CHUNK, announce, exit_on_stdin_eof, tls};

use crate::session::{HEADER_LEN, Session};

/// A static block of answer: bulk data costs no allocation.
static BLOCK: [u8; WRITE_CHUNK] = [0x5a; WRITE_CHUNK];

/// Serves until the process ends.
pub fn run(args: &ServerArgs) -> Result<()> {
    let config = Arc::new(tls::server_config(&args.cert, &args.key)?);
    let listener = TcpListener::bind(args.bind)?;
    exit_on_stdin_eof();
    announce(listener.local_addr()?)?;
    for socket in listener.incoming() {
        let (socket, config) = (socket?, config.clone());
        // A connection that fails takes only itself down: the client sees it and reports it.
        thread::spawn(move || serve(socket, config).ok());
    }
    Ok(())
}

fn serve(socket: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    let mut session = Session::server(ServerConnection::new(config)?, socket)?;
    session.handshake()?;
    let mut buffer = vec![0; 64 << 10];
    let mut have = 0;
    loop {
        while have < HEADER_LEN {
            match session.read(&mut buffer[have..])? {
                0 => return Ok(()),
                read => have += read,
            }
        }
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|index| buffer[at + index]));
        let (mut down, up) = (number(0), number(8));
        // Clients send nothing behind a request until its answer is there.
        let mut missing = up.saturating_sub((have - HEADER_LEN) as u64);
        while missing > 0 {
            match session.read(&mut buffer)? {
                0 => return Ok(()),
                read => missing = missing.saturating_sub(read as u64),
            }
        }
        while down > 0 {
            let part = down.min(BLOCK.len() as u64);
            session.write_all(&BLOCK[..part as usize])?;
            down -= part;
        }
        have = 0;
    }
}
