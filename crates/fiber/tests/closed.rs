//! Descriptors that are closed, and whose numbers are used again, while an operation on them is pending.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{everywhere, on_readiness, on_rings, settle, std_pair};
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use warpline_fiber::reactor::{File, TcpStream, readable};
use warpline_fiber::{JoinError, JoinHandle, shield, spawn};

/// Closes what has the number, whoever owns that, and makes it a second number of `file`: in one step, as no test that runs
/// beside this one may get it in between.
fn close_and_reuse(number: RawFd, file: &impl std::os::fd::AsRawFd) {
    // SAFETY: touches no memory. What the number stands for is the subject of these tests.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
}

fn assert_cancelled<T: std::fmt::Debug + 'static>(fiber: JoinHandle<T>) {
    fiber.cancel();
    let result = fiber.join();
    assert!(matches!(result, Err(JoinError::Cancelled)), "{result:?}");
}

#[test]
fn who_waits_for_a_closed_descriptor_can_be_cancelled_and_the_next_owner_of_its_number_waits_as_ever() {
    everywhere(|| {
        let (closed, _far) = UnixStream::pair().unwrap();
        let number = closed.as_raw_fd();
        let old = spawn(move || readable(&closed));
        settle();
        let (near, mut far) = UnixStream::pair().unwrap();
        close_and_reuse(number, &near);
        assert_cancelled(old);
        // That fiber closed the number when it left.
        let near = Rc::new(near);
        let waiter = {
            let near = near.clone();
            spawn(move || readable(&*near).unwrap())
        };
        settle();
        assert!(!waiter.is_finished());
        far.write_all(b"x").unwrap();
        waiter.join().unwrap();
    });
}

/// Somebody else waits for the new owner of the number while the first fiber still waits for the old one.
#[test]
fn two_wait_for_one_number_that_changed_its_owner_in_between() {
    everywhere(|| {
        let (closed, mut closed_far) = UnixStream::pair().unwrap();
        let number = closed.as_raw_fd();
        let old = spawn(move || {
            let result = readable(&closed);
            // The number is the other's.
            std::mem::forget(closed);
            result
        });
        settle();
        let (near, mut far) = UnixStream::pair().unwrap();
        close_and_reuse(number, &near);
        drop(near);
        // SAFETY: the number is this test's since it was used again; the first fiber forgets it.
        let near = UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) });
        let new = spawn(move || {
            readable(&near).unwrap();
            let mut byte = [0];
            (&near).read_exact(&mut byte).unwrap();
            byte[0]
        });
        settle();
        assert!(!new.is_finished(), "nothing has come yet");
        // The kernel may keep the old one open for the wait, and what comes there is no business of the new one.
        let _ = closed_far.write_all(b"o");
        settle();
        assert!(!new.is_finished(), "that was for the old one");
        far.write_all(b"n").unwrap();
        assert_eq!(new.join().unwrap(), b'n');
        // Its wait has ended: by the byte that came, or since its descriptor is gone.
        if let Err(error) = old.join().unwrap() {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    });
}

/// The number becomes that of a connection, which is with the poller for as long as it lives.
#[test]
fn a_connection_that_has_the_number_of_a_closed_descriptor_is_not_forgotten() {
    everywhere(|| {
        let (closed, _far) = UnixStream::pair().unwrap();
        let number = closed.as_raw_fd();
        let old = spawn(move || {
            let closed = std::mem::ManuallyDrop::new(closed);
            readable(&*closed)
        });
        settle();
        let (near, mut far) = std_pair();
        close_and_reuse(number, &near);
        drop(near);
        // SAFETY: as above.
        let near = TcpStream::from_std(StdStream::from(unsafe { OwnedFd::from_raw_fd(number) })).unwrap();
        let reader = spawn(move || {
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            byte
        });
        settle();
        old.cancel();
        let _ = old.join();
        settle();
        far.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), *b"x");
    });
}

/// A duplicate keeps the closed one open, so that the kernel goes on to tell of it.
#[test]
fn news_of_a_descriptor_that_is_closed_but_open_elsewhere_reaches_nobody_else() {
    everywhere(|| {
        let (closed, mut closed_far) = UnixStream::pair().unwrap();
        let kept = closed.try_clone().unwrap();
        let number = closed.as_raw_fd();
        let old = spawn(move || readable(&closed));
        settle();
        let (near, mut far) = UnixStream::pair().unwrap();
        close_and_reuse(number, &near);
        assert_cancelled(old);
        let waiter = spawn(move || readable(&near).unwrap());
        settle();
        closed_far.write_all(b"o").unwrap();
        settle();
        assert!(!waiter.is_finished(), "that was for the old one");
        far.write_all(b"n").unwrap();
        waiter.join().unwrap();
        drop(kept);
    });
}

/// A read that the kernel has begun stays with the file that it began with.
#[test]
fn a_pending_read_of_a_connection_never_reads_the_next_owner_of_its_number() {
    on_rings(|| {
        let (near, mut far) = std_pair();
        let number = near.as_raw_fd();
        let near = TcpStream::from_std(near).unwrap();
        let reader = spawn(move || {
            let mut buffer = [0; 16];
            let len = near.read(&mut buffer).unwrap();
            buffer[..len].to_vec()
        });
        settle();
        let (other, mut other_far) = UnixStream::pair().unwrap();
        close_and_reuse(number, &other);
        other_far.write_all(b"wrong").unwrap();
        settle();
        assert!(!reader.is_finished());
        far.write_all(b"right").unwrap();
        assert_eq!(reader.join().unwrap(), b"right");
        let mut buffer = [0; 16];
        let len = (&other).read(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"wrong", "it is all there");
    });
}

#[test]
fn a_connection_that_is_closed_under_its_reader_leaves_it_to_be_cancelled() {
    everywhere(|| {
        let (near, mut far) = std_pair();
        let number = near.as_raw_fd();
        let near = TcpStream::from_std(near).unwrap();
        let filled = Rc::new(Cell::new(0));
        let reader = {
            let filled = filled.clone();
            spawn(move || {
                let mut buffer = [0; 16];
                filled.set(near.read(&mut buffer).unwrap());
            })
        };
        settle();
        let (other, mut other_far) = UnixStream::pair().unwrap();
        close_and_reuse(number, &other);
        other_far.write_all(b"wrong").unwrap();
        settle();
        assert_cancelled(reader);
        // With readiness the connection ended when it was closed, on a ring when the read did.
        assert_eq!(far.read(&mut [0; 16]).unwrap(), 0, "nobody holds the connection any more");
        let mut buffer = [0; 16];
        let len = (&other).read(&mut buffer).unwrap();
        assert_eq!((filled.get(), &buffer[..len]), (0, &b"wrong"[..]));
    });
}

/// A reader's memory that looks at itself when its reader has been cancelled: by then the kernel must not write to it.
struct Looks {
    memory: [u8; 512],
    into: std::io::PipeWriter,
    unwritten: Rc<Cell<bool>>,
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.into.write_all(&[1; 512]).unwrap();
        shield(settle);
        self.unwritten.set(self.memory == [0; 512]);
    }
}

#[test]
fn a_cancelled_readers_memory_is_given_up_only_when_the_kernel_is_done_with_it() {
    on_rings(|| {
        for settled in [false, true] {
            let (out, into) = std::io::pipe().unwrap();
            let kept = out.try_clone().unwrap();
            let number = out.as_raw_fd();
            let pipe = File::from_std(std::fs::File::from(OwnedFd::from(out))).unwrap();
            let unwritten = Rc::new(Cell::new(false));
            let looks = Looks { memory: [0; 512], into, unwritten: unwritten.clone() };
            let reader = spawn(move || {
                let mut looks = looks;
                pipe.read_at(&mut looks.memory, 0)
            });
            settle();
            let (other, _other_far) = UnixStream::pair().unwrap();
            close_and_reuse(number, &other);
            if settled {
                settle();
            }
            assert_cancelled(reader);
            assert!(unwritten.get());
            let mut buffer = [0; 512];
            std::fs::File::from(OwnedFd::from(kept)).read_exact(&mut buffer).unwrap();
            assert_eq!(buffer, [1; 512], "what came afterwards is for the next reader");
        }
    });
}

#[test]
fn a_pending_read_of_a_file_never_reads_the_next_owner_of_its_number() {
    on_rings(|| {
        let (out, mut into) = std::io::pipe().unwrap();
        let number = out.as_raw_fd();
        let pipe = File::from_std(std::fs::File::from(OwnedFd::from(out))).unwrap();
        let reader = spawn(move || {
            let mut buffer = [0; 16];
            let len = pipe.read_at(&mut buffer, 0).unwrap();
            buffer[..len].to_vec()
        });
        settle();
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(b"wrong").unwrap();
        close_and_reuse(number, &other);
        settle();
        assert!(!reader.is_finished());
        into.write_all(b"right").unwrap();
        assert_eq!(reader.join().unwrap(), b"right");
    });
}

/// With readiness files are read by helper threads, which hold them open.
#[test]
fn a_file_stays_open_until_its_cancelled_reader_is_through() {
    on_readiness(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        for _ in 0..20 {
            let file = File::from_std(std::fs::File::open(&path).unwrap()).unwrap();
            let reader = spawn(move || file.read_at(&mut [0; 100], 0));
            warpline_fiber::yield_now();
            reader.cancel();
            // The thread may have been faster.
            let result = reader.join();
            assert!(matches!(result, Err(JoinError::Cancelled) | Ok(Ok(100))), "{result:?}");
        }
    });
}
