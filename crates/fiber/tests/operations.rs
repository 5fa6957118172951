//! Cancellation of every kind of operation: asked for in the turn that began it, and long after the kernel has it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{everywhere, local, on_rings, pair, settle};
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use warpline_fiber::reactor::{File, OpenHow, RegisteredBuffer, TcpListener, TcpStream, UdpSocket};
use warpline_fiber::{JoinError, JoinHandle, spawn, yield_now};

/// How long the kernel has had an operation when its fiber is cancelled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Age {
    /// It is not asked for yet: the fiber did not run.
    Unborn,
    /// The operation is queued.
    Queued,
    /// The kernel has it.
    Pending,
}

const AGES: [Age; 3] = [Age::Unborn, Age::Queued, Age::Pending];

/// Cancels a fiber whose operation cannot have ended by itself.
fn cancel<T: std::fmt::Debug + 'static>(fiber: JoinHandle<T>, age: Age) {
    match age {
        Age::Unborn => {}
        Age::Queued => yield_now(),
        Age::Pending => settle(),
    }
    assert!(!fiber.is_finished(), "{age:?}");
    fiber.cancel();
    let result = fiber.join();
    assert!(matches!(result, Err(JoinError::Cancelled)), "{age:?}: {result:?}");
}

/// A pipe whose end for reading is a file of the reactor's.
fn pipe() -> (Rc<File>, std::io::PipeWriter) {
    let (out, into) = std::io::pipe().unwrap();
    (Rc::new(File::from_std(std::fs::File::from(OwnedFd::from(out))).unwrap()), into)
}

#[test]
fn a_read_of_a_connection() {
    everywhere(|| {
        let (near, far) = pair();
        let near = Rc::new(near);
        for age in AGES {
            let reader = {
                let near = near.clone();
                spawn(move || near.read(&mut [0; 4096]))
            };
            cancel(reader, age);
            far.write_all(b"next").unwrap();
            let mut next = [0; 4];
            near.read_exact(&mut next).unwrap();
            assert_eq!(&next, b"next", "{age:?}: nothing went to the cancelled read");
        }
    });
}

#[test]
fn a_receive_of_datagrams() {
    everywhere(|| {
        let socket = Rc::new(UdpSocket::bind(local()).unwrap());
        let other = UdpSocket::bind(local()).unwrap();
        for age in AGES {
            let receiver = {
                let socket = socket.clone();
                spawn(move || socket.recv_from(&mut [0; 100]))
            };
            cancel(receiver, age);
            other.send_to(b"next", socket.local_addr().unwrap()).unwrap();
            assert_eq!(socket.recv_from(&mut [0; 100]).unwrap(), (4, other.local_addr().unwrap()));
        }
    });
}

#[test]
fn a_send_that_the_peer_does_not_take() {
    everywhere(|| {
        for age in AGES {
            let (near, far) = pair();
            let near = Rc::new(near);
            let sent = Rc::new(Cell::new(0));
            let writer = {
                let (near, sent) = (near.clone(), sent.clone());
                spawn(move || -> std::io::Result<()> {
                    loop {
                        // Every byte says where it is.
                        let bytes: Vec<_> = (sent.get()..sent.get() + 50_000).map(|at| (at % 251) as u8).collect();
                        sent.set(sent.get() + near.write(&bytes)?);
                    }
                })
            };
            // Until nothing more goes in.
            let mut before = None;
            while age == Age::Pending && before != Some(sent.get()) {
                before = Some(sent.get());
                settle();
            }
            cancel(writer, age);
            near.shutdown(std::net::Shutdown::Write).unwrap();
            drop(near);
            let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
            loop {
                let len = far.read(&mut buffer).unwrap();
                assert!(buffer[..len].iter().zip(at..).all(|(byte, at)| *byte == (at % 251) as u8));
                at += len;
                if len == 0 {
                    break;
                }
            }
            assert_eq!(at, sent.get(), "{age:?}: what was said to be sent, and no byte else");
        }
    });
}

#[test]
fn an_accept() {
    everywhere(|| {
        let listener = Rc::new(TcpListener::bind(local()).unwrap());
        let address = listener.local_addr().unwrap();
        for age in AGES {
            let acceptor = {
                let listener = listener.clone();
                spawn(move || listener.accept())
            };
            cancel(acceptor, age);
            let client = spawn(move || TcpStream::connect(address).unwrap());
            let (_, from) = listener.accept().unwrap();
            assert_eq!(client.join().unwrap().local_addr().unwrap(), from);
        }
    });
}

#[test]
fn a_connect_that_is_not_answered() {
    everywhere(|| {
        for age in AGES {
            // What does not fit into the queue of a listener is not answered.
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&local().into()).unwrap();
            socket.listen(0).unwrap();
            let listener = std::net::TcpListener::from(socket);
            let address = listener.local_addr().unwrap();
            let connect = move || spawn(move || TcpStream::connect(address));
            let mut fill = vec![connect()];
            settle();
            while fill.last().is_some_and(|last| last.is_finished()) {
                fill.push(connect());
                settle();
            }
            let waits = fill.pop().unwrap();
            cancel(waits, Age::Pending);
            cancel(connect(), age);
            // One that was answered is there; those that were cancelled are gone.
            assert!(!fill.is_empty());
            for client in fill {
                let client = client.join().unwrap().unwrap();
                assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
            }
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn a_read_of_a_pipe() {
    on_rings(|| {
        for age in AGES {
            let (pipe, mut into) = pipe();
            let reader = {
                let pipe = pipe.clone();
                spawn(move || pipe.read_at(&mut [0; 100], 0))
            };
            cancel(reader, age);
            into.write_all(b"next").unwrap();
            let mut buffer = [0; 100];
            assert_eq!(pipe.read_at(&mut buffer, 0).unwrap(), 4);
            assert_eq!(&buffer[..4], b"next");
        }
    });
}

#[test]
fn a_read_of_a_pipe_into_a_registered_buffer() {
    on_rings(|| {
        for age in AGES {
            let (pipe, mut into) = pipe();
            let Some(buffer) = RegisteredBuffer::take() else { return };
            assert!(RegisteredBuffer::take().is_none(), "there is one");
            let reader = {
                let (pipe, mut buffer) = (pipe.clone(), buffer);
                spawn(move || {
                    buffer.as_mut().fill(0);
                    pipe.read_fixed(&mut buffer, 0..100, 0)
                })
            };
            cancel(reader, age);
            let mut buffer = RegisteredBuffer::take().expect("the cancelled fiber gave it back");
            into.write_all(b"next").unwrap();
            settle();
            if age != Age::Unborn {
                assert_eq!(buffer.as_ref()[..100], [0; 100], "{age:?}: it is nobody's but this fiber's");
            }
            assert_eq!(pipe.read_fixed(&mut buffer, 10..100, 0).unwrap(), 4);
            assert_eq!(&buffer.as_ref()[10..14], b"next");
        }
    });
}

#[test]
fn a_write_to_a_pipe_that_nobody_reads() {
    on_rings(|| {
        for age in AGES {
            let (mut out, into) = std::io::pipe().unwrap();
            let into = Rc::new(File::from_std(std::fs::File::from(OwnedFd::from(into))).unwrap());
            let written = Rc::new(Cell::new(0));
            let writer = {
                let (into, written) = (into.clone(), written.clone());
                spawn(move || -> std::io::Result<()> {
                    loop {
                        written.set(written.get() + into.write_at(&[7; 4096], 0)?);
                    }
                })
            };
            let mut before = None;
            while age == Age::Pending && before != Some(written.get()) {
                before = Some(written.get());
                settle();
            }
            cancel(writer, age);
            drop(into);
            let mut got = Vec::new();
            out.read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), written.get(), "{age:?}");
        }
    });
}

/// A regular file waits for nobody: the read may be done before the cancellation, and then it counts.
#[test]
fn a_read_of_a_regular_file() {
    everywhere(|| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let file = Rc::new(File::from_std(file).unwrap());
        for round in 0..40 {
            let reader = {
                let file = file.clone();
                spawn(move || {
                    let mut buffer = vec![0; 100_000];
                    let read = file.read_at(&mut buffer, 0)?;
                    std::io::Result::Ok((read, buffer))
                })
            };
            match round % 3 {
                0 => {}
                1 => yield_now(),
                _ => settle(),
            }
            reader.cancel();
            match reader.join() {
                Err(JoinError::Cancelled) => {}
                Ok(Ok((100_000, buffer))) => assert!(buffer.iter().all(|byte| *byte == 7)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(file.read_at(&mut [0; 10], 99_995).unwrap(), 5);
    });
}

/// A FIFO is opened when the other end is. The flag for making it sends the opening to a thread of the kernel's, where it waits;
/// others are tried without waiting first, which a FIFO for reading always lets pass.
#[test]
fn the_opening_of_a_file() {
    everywhere(|| {
        for age in AGES {
            let folder = tempfile::tempdir().unwrap();
            let path = std::ffi::CString::new(folder.path().join("fifo").to_str().unwrap()).unwrap();
            // SAFETY: the path is a string that lives for the call.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
            let root = std::fs::File::open(folder.path()).unwrap();
            let how = OpenHow { flags: libc::O_RDONLY | libc::O_CREAT | libc::O_CLOEXEC, ..OpenHow::default() };
            let opener = spawn(move || File::open_at(&root, c"fifo", how).map(drop));
            cancel(opener, age);
            // A helper thread that opens it without the fiber comes to its end, and nobody is there once it has. With both
            // ends this does not block.
            drop(std::fs::OpenOptions::new().read(true).write(true).open(folder.path().join("fifo")).unwrap());
        }
    });
}

/// Many at once, more than the ring has places, so that some wait for room when they are cancelled.
#[test]
fn many_operations_of_all_ages_at_once() {
    on_rings(|| {
        let pipes: Vec<_> = (0..40).map(|_| pipe()).collect();
        let readers: Vec<_> = pipes
            .iter()
            .map(|(pipe, _)| {
                let pipe = pipe.clone();
                spawn(move || pipe.read_at(&mut [0; 100], 0))
            })
            .collect();
        yield_now();
        for (index, reader) in readers.into_iter().enumerate() {
            if index == 20 {
                settle();
            }
            reader.cancel();
            assert!(matches!(reader.join(), Err(JoinError::Cancelled)));
        }
        for (pipe, mut into) in pipes {
            into.write_all(b"next").unwrap();
            assert_eq!(pipe.read_at(&mut [0; 100], 0).unwrap(), 4);
        }
    });
}
