//! Being started and stopped by the runner.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Result;

/// Socket buffers in bytes, both directions. The kernel grants up to `net.core.{r,w}mem_max`.
const SOCKET_BUFFER: usize = 8 << 20;

/// Writes one line to standard output at once.
pub(crate) fn print_line(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Tells the runner that the server listens on `address`.
///
/// # Errors
///
/// If standard output is closed.
pub fn announce(address: SocketAddr) -> Result<()> {
    print_line(&format!("{{\"ready\":true,\"addr\":\"{address}\"}}"))
}

/// Waits until the other end of standard input closes.
pub fn hold_until_stdin_eof() {
    let mut buffer = [0; 64];
    let mut input = std::io::stdin().lock();
    while matches!(input.read(&mut buffer), Ok(1..)) {}
}

/// Ends the process when standard input closes, from a thread of its own.
pub fn exit_on_stdin_eof() {
    std::thread::spawn(|| {
        hold_until_stdin_eof();
        std::process::exit(0);
    });
}

/// A UDP socket with large buffers.
///
/// # Errors
///
/// If the address is taken or not ours.
pub fn udp_socket(bind: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&bind.into())?;
    Ok(socket.into())
}
