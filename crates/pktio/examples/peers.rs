//! Small datagrams of many peers, each answered: what one core serves on each back end and with each way of waiting.
//!
//! `cargo run --release -p warpline-pktio --example peers -- [datagram bytes] [seconds] [rounds] [peers] [in flight]`
//!
//! Without a number in flight there are runs with 1 (one peer at a time, a core that mostly sleeps), 16 and 512 (a core that is
//! never done). Needs root: it makes two network namespaces with a veth pair between them, and removes them. The peers are addresses
//! of one AF_XDP end on core 0, the same in all runs; the server is on core 1. Each round has a run of every kind, so
//! that what drifts on the machine drifts for all of them.

#[cfg(target_os = "linux")]
#[path = "../tests/common/netns.rs"]
mod netns;

#[cfg(target_os = "linux")]
#[path = "common/thread.rs"]
mod thread;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("arguments are numbers"));
    let mut number = |default| args.next().unwrap_or(default);
    let load = linux::Load {
        size: number(64),
        seconds: number(2) as u64,
        rounds: number(3),
        peers: number(64),
        in_flight: number(0),
    };
    linux::run(load)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this measurement needs Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::{IpAddr, SocketAddr};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpModes, XdpWakeups};
    use warpline_pktio::{Backend, Io, IoConfig, Received, TxMeta};

    use super::netns::Pair;
    use super::thread::{cpu_time, pin};

    #[derive(Clone, Copy)]
    pub(super) struct Load {
        pub(super) size: usize,
        pub(super) seconds: u64,
        pub(super) rounds: usize,
        pub(super) peers: usize,
        pub(super) in_flight: usize,
    }

    /// A kind of run.
    struct Kind {
        name: &'static str,
        backend: Backend,
        /// How long `wait` looks before it sleeps.
        spin: Duration,
        /// Packets per busy poll.
        budget: u16,
        modes: XdpModes,
        wakeups: XdpWakeups,
        /// The server's NAPI on a thread of its own instead of the sender's core.
        threaded: bool,
    }

    fn kinds() -> Vec<Kind> {
        let spin = Duration::from_micros(50);
        let kind = |name, backend, spin, budget| {
            let (modes, wakeups) = (XdpModes::Best, XdpWakeups::Send);
            Kind { name, backend, spin, budget, modes, wakeups, threaded: false }
        };
        let xdp = |name, wakeups| Kind { wakeups, ..kind(name, Backend::Xdp, Duration::ZERO, 0) };
        vec![
            kind("udp", Backend::Udp, Duration::ZERO, 0),
            kind("udp spin", Backend::Udp, spin, 0),
            kind("uring", Backend::Uring, Duration::ZERO, 0),
            xdp("xdp sendto, poll", XdpWakeups::Send),
            xdp("xdp poll for both", XdpWakeups::Poll),
            xdp("xdp sendto, io_uring", XdpWakeups::Ring),
            kind("xdp spin", Backend::Xdp, spin, 0),
            kind("xdp busy poll", Backend::Xdp, spin, 64),
            Kind { threaded: true, ..kind("xdp spin, threaded NAPI", Backend::Xdp, spin, 0) },
            Kind { modes: XdpModes::Generic, ..kind("xdp generic", Backend::Xdp, spin, 0) },
        ]
    }

    fn config(kind: &Kind, interface: &str) -> io::Result<IoConfig> {
        let xdp = XdpConfig {
            modes: kind.modes,
            busy_poll_budget: kind.budget,
            wakeups: kind.wakeups,
            ..XdpConfig::new(InterfaceName::new(interface)?)
        };
        Ok(IoConfig { backend: kind.backend, busy_poll: kind.spin, xdp: Some(xdp), ..IoConfig::default() })
    }

    pub(super) fn run(load: Load) -> io::Result<()> {
        let Some(pair) = Pair::new("peers") else { return Ok(()) };
        let address = |peer: usize| IpAddr::from([10, 77, 1 + (peer / 200) as u8, (peer % 200) as u8 + 1]);
        for peer in 0..load.peers {
            pair.ip(1, &format!("addr add {}/16 dev wl1", address(peer)));
        }
        pair.ip(0, "addr add 10.77.0.1/16 dev wl0");
        println!("{} bytes, {} peers, {} s a run", load.size, load.peers, load.seconds);
        let loads = if load.in_flight == 0 { vec![1, 16, 512] } else { vec![load.in_flight] };
        for (round, in_flight) in (1..=load.rounds).flat_map(|round| loads.iter().map(move |&load| (round, load))) {
            let load = Load { in_flight, ..load };
            for (port, kind) in (4433..).zip(kinds()) {
                let server =
                    pair.inside(0, || Io::bind(SocketAddr::from(([0, 0, 0, 0], port)), &config(&kind, "wl0")?))?;
                let generator = Kind { name: "generator", backend: Backend::Xdp, ..kinds().remove(0) };
                let client =
                    pair.inside(1, || Io::bind(SocketAddr::from(([0, 0, 0, 0], 5000)), &config(&generator, "wl1")?))?;
                if kind.threaded
                    && let Err(error) = pair.write_sys(0, "threaded", "1")
                {
                    println!("threaded NAPI cannot be set: {error}");
                }
                let addresses: Vec<IpAddr> = (0..load.peers).map(address).collect();
                one((round, port), &kind, load, server, client, &addresses)?;
            }
        }
        Ok(())
    }

    fn one(
        (round, port): (usize, u16),
        kind: &Kind,
        load: Load,
        server: Io,
        client: Io,
        peers: &[IpAddr],
    ) -> io::Result<()> {
        let stop = AtomicBool::new(false);
        let (served, asked) = thread::scope(|scope| {
            let server = scope.spawn(|| serve(server, &stop));
            let client = scope.spawn(|| {
                let asked = ask(client, load, SocketAddr::from(([10, 77, 0, 1], port)), peers);
                stop.store(true, Ordering::Relaxed);
                asked
            });
            (server.join().expect("no panic"), client.join().expect("no panic"))
        });
        let (served, asked) = (served?, asked?);
        println!(
            "round {round} {:>3} in flight {:<24} {:>8.0} echoes/s  {:>5.0} µs a round  server {:>5.0} ns/echo  \
             {:.3} calls/echo  lost {}",
            load.in_flight,
            kind.name,
            asked.echoes as f64 / asked.time.as_secs_f64(),
            load.in_flight as f64 * asked.time.as_secs_f64() * 1e6 / asked.echoes.max(1) as f64,
            served.cpu.as_nanos() as f64 / served.echoes.max(1) as f64,
            served.calls as f64 / served.echoes.max(1) as f64,
            asked.lost,
        );
        Ok(())
    }

    #[derive(Default)]
    struct Side {
        echoes: u64,
        calls: u64,
        lost: u64,
        cpu: Duration,
        time: Duration,
    }

    fn serve(mut io: Io, stop: &AtomicBool) -> io::Result<Side> {
        pin(1)?;
        let mut batch: Vec<Received> = Vec::new();
        let mut echoes = 0;
        while !stop.load(Ordering::Relaxed) {
            if io.recv(&mut batch)? == 0 {
                io.wait(Some(Duration::from_millis(5)))?;
                continue;
            }
            for received in batch.drain(..) {
                let Received { remote, local, segment_size, .. } = received;
                let Some(buffer) = io.tx_buffer() else { continue };
                let len = received.frame.len();
                buffer[..len].copy_from_slice(&received.frame);
                echoes += received.count() as u64;
                io.tx_commit(TxMeta { remote, local, ecn: None, segment_size, len });
            }
            io.flush_soon()?;
        }
        let calls = io.stats().snapshot().syscalls();
        Ok(Side { echoes, calls, cpu: cpu_time(), ..Side::default() })
    }

    /// Keeps so many datagrams in flight; what does not come back within a tenth of a second is lost.
    fn ask(mut io: Io, load: Load, remote: SocketAddr, peers: &[IpAddr]) -> io::Result<Side> {
        pin(0)?;
        let (mut side, mut in_flight, mut next) = (Side::default(), 0, 0);
        let mut batch: Vec<Received> = Vec::new();
        let (start, mut heard) = (Instant::now(), Instant::now());
        while start.elapsed() < Duration::from_secs(load.seconds) {
            while in_flight < load.in_flight
                && let Some(buffer) = io.tx_buffer()
            {
                buffer[..load.size].fill(0x40);
                let local = Some(peers[next % peers.len()]);
                io.tx_commit(TxMeta { remote, local, ecn: None, segment_size: load.size, len: load.size });
                (next, in_flight) = (next + 1, in_flight + 1);
            }
            io.flush()?;
            if io.recv(&mut batch)? > 0 {
                let count: usize = batch.drain(..).map(|received| received.count()).sum();
                in_flight = in_flight.saturating_sub(count);
                side.echoes += count as u64;
                heard = Instant::now();
                continue;
            }
            io.wait(Some(Duration::from_millis(5)))?;
            if heard.elapsed() > Duration::from_millis(100) {
                side.lost += in_flight as u64;
                (in_flight, heard) = (0, Instant::now());
            }
        }
        side.time = start.elapsed();
        Ok(side)
    }
}
