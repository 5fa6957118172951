//! Single datagrams of different peers, each answered by a train, a few at a time: what the packets of handshakes cost a back end
//! without the handshakes.
//!
//! `cargo run --release -p warpline-pktio --example answers -- [rounds] [milliseconds a run] [µs of work for each datagram]`
//!
//! Peers are plain sockets of a thread on core 0; the server, on core 1, turns as a worker does. A burst is as many datagrams of 1,200
//! bytes as there are peers, and the next one comes when all are answered (1,200 and 700 bytes). The server's cost is the CPU time of its
//! thread, what loopback does with its answers included; ratios are the median of those round by round. With work for each datagram its answer
//! leaves at once, as that of a handshake does, and without together with those of the same turn.

#[cfg(target_os = "linux")]
#[path = "common/thread.rs"]
mod thread;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("arguments are numbers"));
    let mut number = |default| args.next().unwrap_or(default);
    let (rounds, run_ms, work_us) = (number(80), number(15), number(0));
    linux::run(rounds, std::time::Duration::from_millis(run_ms), std::time::Duration::from_micros(work_us))
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this measurement needs Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use warpline_pktio::{Backend, Io, IoConfig, Received, TxMeta};

    use super::thread::{cpu_time, pin};

    const ASKED: usize = 1_200;
    const ANSWER: usize = 1_900;
    /// An answer that takes longer is lost.
    const PATIENCE: Duration = Duration::from_millis(100);
    const PEERS: [usize; 4] = [1, 2, 4, 8];
    const BACKENDS: [Backend; 2] = [Backend::Udp, Backend::Uring];

    /// What the server did.
    struct Served {
        datagrams: u64,
        calls: u64,
        sleeps: u64,
        cpu: Duration,
    }

    pub(super) fn run(rounds: u64, time: Duration, work: Duration) -> io::Result<()> {
        println!(
            "{:>5} {:>6} {:>14} {:>12} {:>10} {:>10}",
            "peers", "", "ns a datagram", "of udp's", "calls", "sleeps"
        );
        for peers in PEERS {
            let mut served: [Vec<Served>; 2] = [Vec::new(), Vec::new()];
            for round in 0..rounds as usize {
                // Every second round the back ends change places.
                for place in [round % 2, 1 - round % 2] {
                    served[place].push(one(BACKENDS[place], peers, time, work)?);
                }
            }
            for (backend, of_it) in BACKENDS.iter().zip(&served) {
                let median = |what: fn(&Served) -> f64| median(of_it.iter().map(what).collect());
                let ratios = of_it.iter().zip(&served[0]).map(|(served, udp)| served.cost_ns() / udp.cost_ns());
                println!(
                    "{peers:>5} {:>6} {:>14.0} {:>12.3} {:>10.2} {:>10.2}",
                    backend.to_string(),
                    median(Served::cost_ns),
                    self::median(ratios.collect()),
                    median(|served| served.calls as f64 / served.datagrams as f64),
                    median(|served| served.sleeps as f64 / served.datagrams as f64),
                );
            }
        }
        Ok(())
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    impl Served {
        fn cost_ns(&self) -> f64 {
            self.cpu.as_nanos() as f64 / self.datagrams as f64
        }
    }

    fn one(backend: Backend, peers: usize, time: Duration, work: Duration) -> io::Result<Served> {
        let server = Io::bind(([127, 0, 0, 1], 0).into(), &IoConfig { backend, ..IoConfig::default() })?;
        let (to, stop) = (server.local_addr(), AtomicBool::new(false));
        thread::scope(|scope| {
            let server = scope.spawn(|| serve(server, &stop, work));
            let asked = scope.spawn(|| {
                let asked = ask(to, peers, time);
                stop.store(true, Ordering::Relaxed);
                asked
            });
            asked.join().expect("no panic")?;
            server.join().expect("no panic")
        })
    }

    /// Turns as a worker's are, without the worker.
    fn serve(mut io: Io, stop: &AtomicBool, work: Duration) -> io::Result<Served> {
        pin(1)?;
        let mut batch: Vec<Received> = Vec::new();
        let (mut datagrams, mut sleeps) = (0, 0);
        let start = cpu_time();
        while !stop.load(Ordering::Relaxed) {
            let worked = io.recv(&mut batch)? > 0;
            for Received { frame, remote, local, .. } in batch.drain(..) {
                let Some(buffer) = io.tx_buffer() else { continue };
                buffer[..frame.len()].copy_from_slice(&frame);
                let begun = Instant::now();
                while begun.elapsed() < work {}
                io.tx_commit(TxMeta { remote, local, ecn: None, segment_size: ASKED, len: ANSWER });
                if !work.is_zero() {
                    io.flush()?;
                }
                datagrams += 1;
            }
            io.flush_soon()?;
            if !worked || io.is_drained() {
                sleeps += 1;
                io.wait(Some(Duration::from_millis(5)))?;
            }
        }
        let calls = io.stats().snapshot().syscalls();
        Ok(Served { datagrams, calls, sleeps, cpu: cpu_time() - start })
    }

    /// Bursts for as long as that. It polls, so that the server never has to wake it.
    fn ask(to: SocketAddr, peers: usize, time: Duration) -> io::Result<()> {
        pin(0)?;
        let sockets: io::Result<Vec<UdpSocket>> =
            (0..peers).map(|_| UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).collect();
        let sockets = sockets?;
        for socket in &sockets {
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
        }
        let (start, mut answer) = (Instant::now(), [0; ANSWER]);
        while start.elapsed() < time {
            for socket in &sockets {
                socket.send(&[0x40; ASKED])?;
            }
            for socket in &sockets {
                let (asked, mut left) = (Instant::now(), ANSWER);
                while left > 0 && asked.elapsed() < PATIENCE {
                    left -= socket.recv(&mut answer).unwrap_or(0);
                }
            }
        }
        Ok(())
    }
}
