//! Messages and descriptors between two processes, over a Unix socket that keeps their boundaries.

use super::message::{MESSAGE_MAX, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Descriptors in one message at most; the kernel takes 253.
pub(crate) const DESCRIPTORS_MAX: usize = 250;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

/// What came over a line.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Where a successor may call.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// The file that is this listener's: device and number.
    file: (u64, u64),
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Waits until one of the descriptors has something; says which have.
pub(crate) fn wait<const N: usize>(on: [Option<BorrowedFd<'_>>; N], limit: Duration) -> io::Result<[bool; N]> {
    let mut polled: Vec<PollFd<'_>> =
        on.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    match poll(&mut polled, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(on.map(|fd| fd.is_some() && ready.next() == Some(true)))
}

impl Listener {
    /// Listens at `path`, in place of whoever did before; only for this user.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        // Under another name first: whoever finds the name finds a listener.
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let name = PathBuf::from(name);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        net::bind(&socket, &SocketAddrUnix::new(&name)?)?;
        rustix::fs::chmod(&name, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        net::listen(&socket, 4)?;
        let file = file_of(&name)?;
        std::fs::rename(&name, path)?;
        Ok(Self { socket, path: path.to_owned(), file })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next caller; none if there is none, or another user's process has called.
    pub(crate) fn accept(&self) -> io::Result<Option<Line>> {
        let socket = match net::accept_with(&self.socket, FLAGS) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let caller = net::sockopt::socket_peercred(&socket)?;
        if caller.uid != rustix::process::geteuid() {
            tracing::warn!(uid = caller.uid.as_raw(), "a process of another user called at the restart socket");
            return Ok(None);
        }
        Ok(Some(Line(socket)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if file_of(&self.path).is_ok_and(|file| file == self.file) {
            // It may have gone meanwhile, which is what is wanted.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Line {
    /// Calls at `path`; `None` if nobody listens there.
    pub(crate) fn call(path: &Path) -> io::Result<Option<Self>> {
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        match net::connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let owner = net::sockopt::socket_peercred(&socket)?;
        if owner.uid != rustix::process::geteuid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the restart socket is another user's"));
        }
        Ok(Some(Self(socket)))
    }

    /// Two ends for datagrams.
    pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = vec![std::mem::MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(descriptors).size()];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bytes = message.encode();
        net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message, if it comes in time. Fails with `UnexpectedEof` if the other process is gone.
    pub(crate) fn receive(&self, limit: Duration) -> io::Result<Option<Received>> {
        if !wait([Some(self.as_fd())], limit)?[0] {
            return Ok(None);
        }
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; MESSAGE_MAX];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = match net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => return Err(error.into()),
        };
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(Some(Received { message: Message::decode(&bytes[..received])?, descriptors }))
    }
}
