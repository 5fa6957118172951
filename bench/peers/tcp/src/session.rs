//! A TLS connection over a blocking socket.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, Connection, ServerConnection};
use warpline_peer_kit::Result;

/// Bytes asked of the kernel at once. rustls itself reads 4 KiB at a time.
const READ_BUFFER: usize = 256 << 10;
/// Plaintext that rustls takes at once before it writes: sixteen full records.
const WRITE_BUFFER: usize = 256 << 10;

/// Length of what comes before every request: bytes to send back, and bytes that follow, both big-endian.
pub const HEADER_LEN: usize = 16;

/// A TLS connection of either side.
pub struct Session {
    tls: Connection,
    socket: Socket,
}

struct Socket(BufReader<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(data)
    }

    fn write_vectored(&mut self, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// The server's side.
    pub fn server(tls: ServerConnection, socket: TcpStream) -> Result<Self> {
        Self::new(Connection::Server(tls), socket)
    }

    /// The client's side.
    pub fn client(tls: ClientConnection, socket: TcpStream) -> Result<Self> {
        Self::new(Connection::Client(tls), socket)
    }

    fn new(mut tls: Connection, socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        tls.set_buffer_limit(Some(WRITE_BUFFER));
        Ok(Self { tls, socket: Socket(BufReader::with_capacity(READ_BUFFER, socket)) })
    }

    /// Completes the handshake.
    pub fn handshake(&mut self) -> Result<()> {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket)?;
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Reads one flight of records, such as session tickets.
    pub fn read_records(&mut self) -> Result<()> {
        if self.tls.read_tls(&mut self.socket)? == 0 {
            return Err("the other side closed the connection".into());
        }
        self.tls.process_new_packets()?;
        Ok(())
    }

    /// Reads some plaintext; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.read_records()?,
                read => return Ok(read?),
            }
        }
    }

    /// Writes all of `data`.
    pub fn write_all(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let taken = self.tls.writer().write(data)?;
            data = &data[taken..];
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}

/// What comes before a request.
pub fn header(down: u64, up: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&down.to_be_bytes());
    header[8..].copy_from_slice(&up.to_be_bytes());
    header
}
