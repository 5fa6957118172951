//! TCP and UDP.

use super::readiness::Watched;
use super::{Interest, Reactor, retry, wait_for_socket, with_reactor};
#[cfg(target_os = "linux")]
use crate::sched::Inner;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

/// A connection. All methods take `&self`: one fiber may read while another one writes.
///
/// It implements [`Read`] and [`Write`], so that libraries that know only those (TLS, WebSocket, HTTP) run on a fiber as
/// they are.
#[derive(Debug)]
pub struct TcpStream {
    /// First, so that the ring forgets the descriptor before it is closed.
    #[cfg(target_os = "linux")]
    registered: super::uring::Registered,
    /// The last read found less than it had room for: there is nothing to be had before something arrives.
    #[cfg(target_os = "linux")]
    dry: Cell<bool>,
    socket: Watched<std::net::TcpStream>,
}

impl TcpStream {
    /// Connects, parking the fiber. Fails as `connect(2)` does.
    pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let connecting = match socket.connect(&SockAddr::from(address)) {
            Ok(()) => false,
            Err(error) if is_in_progress(&error) => true,
            Err(error) => return Err(error),
        };
        let stream = TcpStream::from_std(socket.into())?;
        if connecting {
            stream.connected()?;
        }
        Ok(stream)
    }

    /// Waits for the end of a connection's set-up.
    fn connected(&self) -> io::Result<()> {
        let socket = self.socket.socket();
        loop {
            wait_for_socket(&self.socket, Interest::Write)?;
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            match socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                result => return result.map(drop),
            }
        }
    }

    /// Takes over a connection made elsewhere.
    pub fn from_std(socket: std::net::TcpStream) -> io::Result<TcpStream> {
        socket.set_nonblocking(true)?;
        Ok(TcpStream {
            #[cfg(target_os = "linux")]
            registered: super::uring::Registered::new(&socket),
            #[cfg(target_os = "linux")]
            dry: Cell::new(false),
            socket: Watched::new(socket),
        })
    }

    /// Reads what is there, parking until something is; 0 is the end.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => {
                let len = buffer.len();
                let read = match at_once(uring, !self.dry.get(), || self.socket.socket().read(buffer)) {
                    Some(result) => result,
                    None => uring.recv(&self.registered, buffer),
                };
                self.dry.set(read.as_ref().is_ok_and(|read| (1..len).contains(read)));
                read
            }
            Reactor::Readiness(_) => retry(&self.socket, Interest::Read, |mut socket| socket.read(buffer)),
        })
    }

    /// Writes as much as the kernel takes, parking until it takes some.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => match at_once(uring, true, || self.socket.socket().write(bytes)) {
                Some(result) => result,
                None => uring.send(&self.registered, bytes),
            },
            Reactor::Readiness(_) => retry(&self.socket, Interest::Write, |mut socket| socket.write(bytes)),
        })
    }

    /// Writes everything. On an error, or a cancellation, part of it may have been sent.
    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(&mut &*self, bytes)
    }

    /// Fills the buffer. Fails with `UnexpectedEof` if the stream ends before.
    pub fn read_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
        Read::read_exact(&mut &*self, buffer)
    }

    /// Ends one or both directions; a fiber parked in a read of this end gets its end.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.socket().shutdown(how)
    }

    /// Sends small writes at once.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.socket.socket().set_nodelay(on)
    }

    /// This end's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().local_addr()
    }

    /// The other end's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().peer_addr()
    }
}

/// Tries an operation without the ring, if that `makes_sense`: one that need not wait costs less as a call of its own than as
/// an operation with its completion and two switches. `None` if it has to wait.
#[cfg(target_os = "linux")]
fn at_once<T>(
    uring: &super::uring::Uring,
    makes_sense: bool,
    mut operation: impl FnMut() -> io::Result<T>,
) -> Option<io::Result<T>> {
    // With a kernel thread that polls, the calls are what is to be saved.
    if !makes_sense || uring.is_polled() {
        return None;
    }
    Inner::try_with(Inner::pace).unwrap_or(());
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Some(result),
        }
    }
}

#[cfg(unix)]
fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

#[cfg(not(unix))]
fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        TcpStream::read(self, buffer)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        TcpStream::read(self, buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that takes connections.
#[derive(Debug)]
pub struct TcpListener {
    socket: Watched<std::net::TcpListener>,
}

impl TcpListener {
    /// Listens at an address, with a backlog of 1,024 connections.
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    }

    /// Takes over a socket that listens.
    pub fn from_std(socket: std::net::TcpListener) -> io::Result<TcpListener> {
        socket.set_nonblocking(true)?;
        Ok(TcpListener { socket: Watched::new(socket) })
    }

    /// Takes the next connection, parking until there is one.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, address) = retry(&self.socket, Interest::Read, std::net::TcpListener::accept)?;
        Ok((TcpStream::from_std(socket)?, address))
    }

    /// The address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().local_addr()
    }
}

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Watched<std::net::UdpSocket>,
}

impl UdpSocket {
    /// Binds to an address.
    pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::from_std(std::net::UdpSocket::bind(address)?)
    }

    /// Takes over a socket made elsewhere.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocket { socket: Watched::new(socket) })
    }

    /// Receives a datagram, parking until there is one. What the buffer cannot take is cut off.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        retry(&self.socket, Interest::Read, |socket| socket.recv_from(buffer))
    }

    /// Sends a datagram, parking while the kernel's buffer is full.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        retry(&self.socket, Interest::Write, |socket| socket.send_to(bytes, to))
    }

    /// The socket's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().local_addr()
    }
}
