//! Many sockets that echo: one thread serves, and a process of its own ([`load`](crate::load)) keeps one message of 64 bytes going on every
//! connection.

use crate::Options;
use crate::load::{Load, fibers};
use crate::report::Report;
use std::cell::Cell;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use warpline_fiber::reactor::{ReactorConfig, TcpListener, UringConfig};
use warpline_fiber::spawn;

/// Serves a listener until the process ends.
type Server = fn(StdListener);

/// The test's name.
pub const TITLE: &str = "echo of 64 bytes over many sockets";

pub fn compare(options: &Options, report: &mut Report) {
    let sockets = allowed(options.sockets);
    let servers: [(&str, Server); 4] = [
        ("tokio current-thread", tokio),
        ("warpline io_uring", uring),
        ("warpline epoll", readiness),
        ("may, one worker", may),
    ];
    let servers: Vec<_> = servers.into_iter().filter(|(name, _)| name.contains(&options.contender)).collect();
    let mut figures = vec![Round::default(); servers.len()];
    for _ in 0..options.echo_rounds {
        for ((name, server), figures) in servers.iter().zip(&mut figures) {
            match measure(*server, sockets, Duration::from_secs(options.seconds)) {
                Ok((rate, cost)) => {
                    figures.rates.push(rate);
                    figures.costs.push(cost);
                }
                Err(error) => println!("  {name}: {error}"),
            }
        }
    }
    let names = || servers.iter().map(|(name, _)| *name);
    let (rates, costs): (Vec<_>, Vec<_>) = figures.into_iter().map(|figures| (figures.rates, figures.costs)).unzip();
    let title = format!("{TITLE} ({sockets})");
    report.add(&title, "thousand messages per second", names().zip(rates));
    // The threads of `may` serve the whole process and are not told apart.
    let costs = names().zip(costs).filter(|(name, _)| !name.starts_with("may"));
    report.add(&title, "µs of the server's processor time per message", costs);
}

#[derive(Clone, Default)]
struct Round {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

/// Raises the limit of descriptors, and says how many sockets it allows.
fn allowed(sockets: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = sockets as u64 + 200;
    if limit.current.is_none_or(|current| current >= wanted) {
        return sockets;
    }
    let raised = rustix::process::Rlimit { current: Some(wanted), maximum: limit.maximum.map(|max| max.max(wanted)) };
    match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => sockets,
        Err(error) => {
            let fit = sockets.min(limit.current.map_or(sockets, |current| (current as usize).saturating_sub(200)));
            println!("\n{fit} of {sockets} sockets: the limit of descriptors cannot be raised to {wanted} ({error})");
            fit
        }
    }
}

/// Thousand messages per second, and microseconds of the server's processor time per message.
fn measure(server: Server, sockets: usize, length: Duration) -> io::Result<(f64, f64)> {
    let listener = StdListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // How the kernel names the server's threads: those that are there now are not its own.
    let before = threads()?;
    thread::Builder::new().name("server".into()).spawn(move || server(listener))?;
    thread::sleep(Duration::from_millis(100));
    let served_by: Vec<_> = threads()?.into_iter().filter(|thread| !before.contains(thread)).collect();
    let mut load = Load::start(address, sockets)?;
    thread::sleep(length / 4);
    let (before, start, used) = (load.count()?, Instant::now(), processor_time(&served_by));
    thread::sleep(length);
    let messages = (load.count()? - before) as f64;
    let (took, used) = (start.elapsed(), processor_time(&served_by).saturating_sub(used));
    load.stop()?;
    Ok((messages / took.as_secs_f64() / 1e3, used.as_secs_f64() * 1e6 / messages))
}

/// The threads of this process.
fn threads() -> io::Result<Vec<std::ffi::OsString>> {
    std::fs::read_dir("/proc/self/task")?.map(|entry| Ok(entry?.file_name())).collect()
}

/// What threads have used, by the scheduler's own account in nanoseconds.
fn processor_time(threads: &[std::ffi::OsString]) -> Duration {
    let used = threads.iter().filter_map(|thread| {
        let text =
            std::fs::read_to_string(std::path::Path::new("/proc/self/task").join(thread).join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    used.sum()
}

fn uring(listener: StdListener) {
    serve_fibers(ReactorConfig::Uring(UringConfig { entries: 1024, ..UringConfig::default() }), listener);
}

fn readiness(listener: StdListener) {
    serve_fibers(ReactorConfig::Readiness, listener);
}

fn serve_fibers(reactor: ReactorConfig, listener: StdListener) {
    fibers(reactor).run(move || {
        let listener = TcpListener::from_std(listener).expect("the listener is good");
        // The figures of one server end with its last connection.
        let live = Rc::new(Cell::new(0usize));
        loop {
            let Ok((stream, _)) = listener.accept() else { return };
            live.set(live.get() + 1);
            let live = live.clone();
            spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
                live.set(live.get() - 1);
            })
            .detach();
        }
    });
}

fn tokio(listener: StdListener) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    runtime.block_on(async move {
        listener.set_nonblocking(true).expect("the listener is good");
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is good");
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..len]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn may(listener: StdListener) {
    use std::io::{Read as _, Write as _};
    may::config().set_workers(1);
    let address = listener.local_addr().expect("the listener is good");
    drop(listener);
    let serve = move || {
        let listener = may::net::TcpListener::bind(address).expect("the address was free a moment ago");
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let echo = move || {
                let mut buffer = [0; 1024];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
            };
            // SAFETY: nothing here uses thread-local storage across a switch, and the stacks suffice.
            drop(unsafe { may::coroutine::spawn(echo) });
        }
    };
    // SAFETY: as above.
    let server = unsafe { may::coroutine::spawn(serve) };
    drop(server.join());
}
