//! The clients of the echo test: a process of its own, since a process has so many descriptors. It is the same for all servers: a plain epoll
//! loop would be the least of it, but clients that are slower than the servers would hide them, so they are fibers with `io_uring`.
//!
//! It says on its standard output that all are connected, then answers each line of its standard input by the messages echoed so far,
//! and ends with it.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use warpline_fiber::reactor::{ReactorConfig, TcpStream, UringConfig};
use warpline_fiber::{Builder, Config, Scheduler, StackClass};

const MESSAGE: usize = 64;
const CONNECTED: &str = "connected";

/// The process, from the outside.
pub struct Load {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    /// Returns when all are connected.
    pub fn start(address: SocketAddr, sockets: usize) -> io::Result<Load> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--load", &address.to_string(), "--sockets", &sockets.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut load = Load { child, ask, answers: BufReader::new(answers) };
        match load.answer()?.as_str() {
            CONNECTED => Ok(load),
            other => Err(io::Error::other(format!("the clients did not connect: {other}"))),
        }
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Messages echoed so far.
    pub fn count(&mut self) -> io::Result<u64> {
        self.ask.write_all(b"\n")?;
        self.answer()?.parse().map_err(io::Error::other)
    }

    pub fn stop(mut self) -> io::Result<()> {
        drop(self.ask);
        match self.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("the clients: {status}"))),
        }
    }
}

/// The process itself.
pub fn run(address: SocketAddr, sockets: usize) -> io::Result<()> {
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    {
        let (count, stop) = (count.clone(), stop.clone());
        thread::Builder::new().name("asked".into()).spawn(move || {
            for _ in io::stdin().lines().map_while(Result::ok) {
                println!("{}", count.load(Ordering::Relaxed));
            }
            stop.store(true, Ordering::Relaxed);
        })?;
    }
    let scheduler = fibers(ReactorConfig::Auto(UringConfig { entries: 1024, ..UringConfig::default() }));
    let streams: Vec<_> = scheduler.run(move || {
        let connect = |_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        (0..sockets).map(connect).collect::<io::Result<_>>()
    })?;
    println!("{CONNECTED}");
    scheduler.run(move || {
        let echoed = Rc::new(Cell::new(0u64));
        let fibers: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let (count, stop, echoed) = (count.clone(), stop.clone(), echoed.clone());
                let body = move || {
                    let mut buffer = [7; MESSAGE];
                    while !stop.load(Ordering::Relaxed) {
                        stream.write_all(&buffer).expect("the server is there");
                        stream.read_exact(&mut buffer).expect("the server is there");
                        echoed.set(echoed.get() + 1);
                        count.store(echoed.get(), Ordering::Relaxed);
                    }
                };
                Builder::new().stack(StackClass::Small).spawn(body).expect("there are fibers enough")
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().expect("the fiber does not panic"));
    });
    Ok(())
}

/// A scheduler for this thread.
pub fn fibers(reactor: ReactorConfig) -> Scheduler {
    Scheduler::new(Config { reactor, ..Config::default() }).expect("this thread has no scheduler yet")
}
