//! Waiting for the kernel: the same stories on every back end.
#![cfg(unix)]

mod common;

use common::{everywhere, local, on_ring, pair, scheduler};
use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use warpline_fiber::reactor::{
    File, ReactorConfig, TcpListener, TcpStream, UdpSocket, UringConfig, blocking, readable,
};
use warpline_fiber::time::sleep;
use warpline_fiber::{Baton, JoinError, spawn, yield_now};

#[test]
fn many_connections_echo_at_once() {
    everywhere(|| {
        let listener = TcpListener::bind(local()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                spawn(move || {
                    let mut buffer = [0; 1000];
                    loop {
                        match stream.read(&mut buffer).unwrap() {
                            0 => return,
                            len => stream.write_all(&buffer[..len]).unwrap(),
                        }
                    }
                })
                .detach();
            }
        });
        let clients: Vec<_> = (0..100u8)
            .map(|index| {
                spawn(move || {
                    let stream = TcpStream::connect(address).unwrap();
                    stream.set_nodelay(true).unwrap();
                    for round in 0..5u8 {
                        let sent = vec![index ^ round; 3000];
                        stream.write_all(&sent).unwrap();
                        let mut got = vec![0; sent.len()];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                    assert_eq!(stream.peer_addr().unwrap(), address);
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.cancel();
        assert!(matches!(server.join(), Err(JoinError::Cancelled)));
    });
}

#[test]
fn one_fiber_reads_while_another_writes_the_same_connection() {
    everywhere(|| {
        const BYTES: usize = 3 << 20;
        let (near, far) = pair();
        let near = Rc::new(near);
        let writer = {
            let near = near.clone();
            spawn(move || {
                near.write_all(&vec![7; BYTES]).unwrap();
                near.shutdown(Shutdown::Write).unwrap();
            })
        };
        let echo = spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                match far.read(&mut buffer).unwrap() {
                    0 => return,
                    len => far.write_all(&buffer[..len]).unwrap(),
                }
            }
        });
        let mut total = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match near.read(&mut buffer).unwrap() {
                0 => break,
                len => {
                    assert!(buffer[..len].iter().all(|byte| *byte == 7));
                    total += len;
                }
            }
        }
        assert_eq!(total, BYTES);
        writer.join().unwrap();
        echo.join().unwrap();
    });
}

#[test]
fn errors_come_as_the_kernel_says_them() {
    everywhere(|| {
        let unused = TcpListener::bind(local()).unwrap().local_addr().unwrap();
        let refused = TcpStream::connect(unused).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let (near, far) = pair();
        drop(far);
        let mut byte = [0];
        assert_eq!(near.read(&mut byte).unwrap(), 0);
        let missing = File::open("/does/not/exist", OpenOptions::new().read(true)).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    });
}

/// The buffer of a cancelled read is given up only when the kernel is done with it: the memory is written to afterwards by
/// others, so a late write by the kernel would show.
#[test]
fn cancelled_reads_leave_nothing_behind() {
    everywhere(|| {
        let (near, far) = pair();
        let near = Rc::new(near);
        for round in 0..50u8 {
            let reader = {
                let near = near.clone();
                spawn(move || {
                    let mut buffer = vec![0u8; 4096];
                    near.read(&mut buffer).map(|len| buffer[..len].to_vec())
                })
            };
            yield_now();
            reader.cancel();
            if round % 2 == 0 {
                yield_now();
            }
            assert!(matches!(reader.join(), Err(JoinError::Cancelled)), "round {round}");
            far.write_all(&[round]).unwrap();
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round], "no byte went to a read that was cancelled");
        }
    });
}

#[test]
fn a_shutdown_ends_the_read_that_is_pending() {
    everywhere(|| {
        let (near, _far) = pair();
        let near = Rc::new(near);
        let reader = {
            let near = near.clone();
            spawn(move || near.read(&mut [0; 16]))
        };
        yield_now();
        near.shutdown(Shutdown::Both).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    });
}

#[test]
fn foreign_descriptors_can_be_waited_for_by_several_fibers() {
    everywhere(|| {
        let (mut left, right) = UnixStream::pair().unwrap();
        let right = Rc::new(right);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let right = right.clone();
                spawn(move || readable(&*right).unwrap())
            })
            .collect();
        yield_now();
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        left.write_all(b"!").unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        let mut byte = [0];
        (&*right).read_exact(&mut byte).unwrap();
    });
}

#[test]
fn datagrams_go_both_ways() {
    everywhere(|| {
        let [left, right] = [(), ()].map(|()| UdpSocket::bind(local()).unwrap());
        let to = right.local_addr().unwrap();
        let echo = spawn(move || {
            let mut buffer = [0; 100];
            for _ in 0..20 {
                let (len, from) = right.recv_from(&mut buffer).unwrap();
                right.send_to(&buffer[..len], from).unwrap();
            }
        });
        let mut buffer = [0; 100];
        for round in 0..20u8 {
            left.send_to(&[round; 3], to).unwrap();
            assert_eq!(left.recv_from(&mut buffer).unwrap(), (3, to));
            assert_eq!(buffer[..3], [round; 3]);
        }
        echo.join().unwrap();
    });
}

/// Operations that are done at once are no waits, but a fiber that has only such is neither alone on its thread nor beyond
/// cancellation.
#[test]
fn a_fiber_whose_peer_never_lets_it_wait_leaves_room_for_others() {
    everywhere(|| {
        let [left, right] = [(), ()].map(|()| UdpSocket::bind(local()).unwrap());
        let to = right.local_addr().unwrap();
        let busy = spawn(move || {
            loop {
                left.send_to(b"again", to).unwrap();
            }
        });
        (0..10).for_each(|_| yield_now());
        busy.cancel();
        assert!(matches!(busy.join(), Err(JoinError::Cancelled)));

        let (near, far) = pair();
        let (near, far) = (Rc::new(near), Rc::new(far));
        let busy = spawn(move || {
            let mut byte = [0];
            loop {
                near.write_all(&[7]).unwrap();
                far.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [7]);
            }
        });
        (0..10).for_each(|_| yield_now());
        busy.cancel();
        assert!(matches!(busy.join(), Err(JoinError::Cancelled)));
    });
}

/// The kernel is looked at once a turn, and a turn ends, however many are ready all the time.
#[test]
fn fibers_that_are_always_ready_do_not_keep_others_from_the_kernel() {
    // A turn runs 256 of them. A round trip is a few turns where the kernel has it done at once, and more where that is
    // left to another of its threads; without a look at the kernel there would be none at all.
    const ROUNDS: u64 = 50;
    const RUNS_MAX: u64 = ROUNDS * 256 * 1000;
    everywhere(|| {
        let (near, far) = pair();
        let over = Rc::new(Cell::new(false));
        let busy: Vec<_> = (0..300)
            .map(|_| {
                let over = over.clone();
                spawn(move || {
                    let mut runs = 0u64;
                    while !over.get() {
                        runs += 1;
                        assert!(runs < RUNS_MAX / 300, "the others wait for the kernel");
                        yield_now();
                    }
                    runs
                })
            })
            .collect();
        let echo = spawn(move || {
            let mut byte = [0];
            while far.read(&mut byte).unwrap() == 1 {
                far.write_all(&byte).unwrap();
            }
        });
        let caller = spawn(move || {
            for round in 0..ROUNDS {
                let mut byte = [0];
                near.write_all(&[round as u8]).unwrap();
                near.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [round as u8]);
            }
        });
        caller.join().unwrap();
        over.set(true);
        for fiber in busy {
            assert!(fiber.join().unwrap() > 1, "it had its turns as well");
        }
        echo.join().unwrap();
    });
}

/// An end that arrives together with the last bytes is no event of its own.
#[test]
fn an_end_right_behind_the_data_is_seen() {
    everywhere(|| {
        for len in [1, 100, 4096] {
            let (near, far) = pair();
            let reader = spawn(move || {
                let mut buffer = [0; 4096];
                let mut total = 0;
                loop {
                    match near.read(&mut buffer).unwrap() {
                        0 => return total,
                        read => total += read,
                    }
                }
            });
            yield_now();
            far.write_all(&vec![1; len]).unwrap();
            drop(far);
            assert_eq!(reader.join().unwrap(), len);
        }
    });
}

#[test]
fn files_are_written_and_read_at_positions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    everywhere(move || {
        let file = File::open(&path, OpenOptions::new().create(true).truncate(true).read(true).write(true)).unwrap();
        let file = Rc::new(file);
        let writers: Vec<_> = (0..40u64)
            .map(|part| {
                let file = file.clone();
                spawn(move || assert_eq!(file.write_at(&[part as u8; 500], part * 500).unwrap(), 500))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        file.sync_all().unwrap();
        assert_eq!(file.len().unwrap(), 20_000);
        let mut buffer = [0; 500];
        for part in (0..40u64).rev() {
            assert_eq!(file.read_at(&mut buffer, part * 500).unwrap(), 500);
            assert_eq!(buffer, [part as u8; 500]);
        }
        assert_eq!(file.read_at(&mut buffer, 20_000).unwrap(), 0);
    });
}

#[test]
fn timers_and_other_threads_end_the_sleep_in_the_kernel() {
    everywhere(|| {
        sleep(Duration::from_millis(3));
        assert_eq!(blocking(|| 6 * 7), 42);
        let bad = spawn(|| blocking(|| panic!("in the helper")));
        assert!(bad.join().unwrap_err().to_string().contains("in the helper"));
    });
}

#[test]
fn ten_times_the_queue_waits_in_order_and_nothing_is_lost() {
    const ENTRIES: u32 = 8;
    let Some(scheduler) = on_ring(UringConfig { entries: ENTRIES, ..UringConfig::default() }) else { return };
    let done = scheduler.run(|| {
        let pairs: Vec<_> = (0..10 * ENTRIES).map(|_| pair()).collect();
        let mut writers = Vec::new();
        let readers: Vec<_> = pairs
            .into_iter()
            .enumerate()
            .map(|(index, (near, far))| {
                let byte = [index as u8];
                writers.push((far, byte));
                spawn(move || {
                    let mut got = [0];
                    near.read_exact(&mut got).unwrap();
                    assert_eq!(got, byte);
                })
            })
            .collect();
        // Every reader asks for its read in one turn, before the kernel is entered.
        yield_now();
        for (far, byte) in &writers {
            far.write_all(byte).unwrap();
        }
        let done = readers.len();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        done
    });
    assert_eq!(done, 80);
    let stats = scheduler.stats().reactor.unwrap();
    assert!(stats.overflow_max >= 9 * ENTRIES as usize, "{stats:?}");
}

/// Bytes that many fibers write to one pipe stand there in the order in which they were asked for, those that had to wait for room
/// in the queue included.
#[test]
fn what_waits_for_room_is_carried_out_in_order() {
    use std::os::fd::OwnedFd;
    const ENTRIES: u32 = 8;
    let Some(scheduler) = on_ring(UringConfig { entries: ENTRIES, ..UringConfig::default() }) else { return };
    let (mut out, into) = std::io::pipe().unwrap();
    let got = scheduler.run(move || {
        let pipe = Rc::new(File::from_std(std::fs::File::from(OwnedFd::from(into))).unwrap());
        let writers: Vec<_> = (0..10 * ENTRIES as u8)
            .map(|byte| {
                let pipe = pipe.clone();
                spawn(move || assert_eq!(pipe.write_at(&[byte], 0).unwrap(), 1))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop(pipe);
        let mut got = Vec::new();
        out.read_to_end(&mut got).unwrap();
        got
    });
    assert_eq!(got, (0..10 * ENTRIES as u8).collect::<Vec<_>>());
    assert!(scheduler.stats().reactor.unwrap().overflow_max >= 9 * ENTRIES as usize);
}

#[test]
fn registered_files_and_buffers_are_used_and_given_back() {
    use warpline_fiber::reactor::RegisteredBuffer;
    let uring = UringConfig { files: 4, buffers: (2, 8192), ..UringConfig::default() };
    let Some(scheduler) = on_ring(uring) else { return };
    let registered = Rc::new(Baton::new());
    let gate = registered.clone();
    let user = scheduler.spawn(move || {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(&[9; 10_000]).unwrap();
        let files: Vec<_> = (0..6).map(|_| File::from_std(named.reopen().unwrap()).unwrap()).collect();
        gate.wait();
        let mut buffers = [RegisteredBuffer::take().unwrap(), RegisteredBuffer::take().unwrap()];
        assert!(RegisteredBuffer::take().is_none());
        for file in &files {
            assert_eq!(file.read_fixed(&mut buffers[1], 0..8192, 5000).unwrap(), 5000);
            assert_eq!(buffers[1].as_ref()[..5000], [9; 5000]);
        }
        drop(buffers);
        RegisteredBuffer::take().unwrap();
    });
    scheduler.turn(1);
    assert_eq!(scheduler.stats().reactor.unwrap().registered_files, 4, "the other two are used as they are");
    registered.post();
    user.join().unwrap();
    assert_eq!(scheduler.stats().reactor.unwrap().registered_files, 0);
}

/// Files below a directory are opened as `openat2` would, and no way leads out of it.
#[test]
#[cfg(target_os = "linux")]
fn files_are_opened_below_a_directory() {
    use warpline_fiber::reactor::OpenHow;
    everywhere(|| {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(dir.path().join("outside"), b"not for you").unwrap();
        std::fs::write(below.join("file"), b"content").unwrap();
        std::os::unix::fs::symlink("../outside", below.join("link")).unwrap();
        let root = std::fs::File::open(&below).unwrap();
        let how = OpenHow { flags: libc::O_RDONLY | libc::O_CLOEXEC, mode: 0, resolve: libc::RESOLVE_BENEATH };
        let fibers: Vec<_> = (0..20)
            .map(|_| {
                let root = root.try_clone().unwrap();
                spawn(move || {
                    let file = File::open_at(&root, c"file", how).unwrap();
                    let mut content = [0; 10];
                    assert_eq!(file.read_at(&mut content, 0).unwrap(), 7);
                    assert_eq!(&content[..7], b"content");
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        let error = |path| File::open_at(&root, path, how).unwrap_err().raw_os_error();
        assert_eq!(error(c"missing"), Some(libc::ENOENT));
        assert_eq!(error(c"../outside"), Some(libc::EXDEV));
        assert_eq!(error(c"link"), Some(libc::EXDEV));
        let made = OpenHow { flags: libc::O_CREAT | libc::O_WRONLY, mode: 0o600, ..how };
        assert_eq!(File::open_at(&root, c"new", made).unwrap().write_at(b"made", 0).unwrap(), 4);
        assert_eq!(std::fs::read(below.join("new")).unwrap(), b"made");
    });
}

/// What a registered buffer holds is written from there, and parts of it are read into.
#[test]
#[cfg(target_os = "linux")]
fn parts_of_registered_buffers_are_read_and_written() {
    use warpline_fiber::reactor::RegisteredBuffer;
    let uring = UringConfig { buffers: (1, 4096), ..UringConfig::default() };
    let Some(scheduler) = on_ring(uring) else { return };
    let written = scheduler.run(|| {
        let named = tempfile::NamedTempFile::new().unwrap();
        let options = OpenOptions::new().read(true).write(true).clone();
        let file = File::open(named.path(), &options).unwrap();
        let mut buffer = RegisteredBuffer::take().unwrap();
        buffer.as_mut()[100..105].copy_from_slice(b"hello");
        assert_eq!(file.write_fixed(&buffer, 100..105, 3).unwrap(), 5);
        assert_eq!(file.read_fixed(&mut buffer, 2000..4096, 4).unwrap(), 4, "the file ends there");
        assert_eq!(&buffer.as_ref()[2000..2004], b"ello");
        std::fs::read(named.path()).unwrap()
    });
    assert_eq!(written, b"\0\0\0hello");
}

#[test]
fn the_end_of_the_scheduler_ends_pending_operations() {
    for reactor in [ReactorConfig::Auto(UringConfig::default()), ReactorConfig::Readiness] {
        let scheduler = scheduler(reactor);
        let (streams, handles) = scheduler.run(|| {
            let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
            let (far, near): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let read = |stream: TcpStream| move || stream.read(&mut [0; 100]).unwrap();
            (far, near.into_iter().map(|stream| spawn(read(stream))).collect::<Vec<_>>())
        });
        scheduler.turn(100);
        drop(scheduler);
        for handle in handles {
            assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
        }
        drop(streams);
    }
}

#[test]
fn without_a_reactor_the_error_says_so() {
    let scheduler = scheduler(ReactorConfig::None);
    let error = scheduler.run(|| TcpListener::bind(local()).unwrap().accept().unwrap_err());
    assert!(error.to_string().contains("no reactor"), "{error}");
}
