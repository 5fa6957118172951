//! GSO trains from one thread to another over loopback, each on a core of its own: what the kernel can carry.
//!
//! `cargo run --release -p warpline-pktio --example blast -- [datagram bytes] [seconds] [rounds] [datagrams a train]`
//!
//! Each round has a run on every back end, so that what drifts on the machine drifts for all of them.
//!
//! Nothing holds the sender back, so what the receiver cannot take is lost in its socket buffer and shows as the
//! difference of the two rates. The time per packet of a side is its CPU time (user and system) over its packets.

#[cfg(target_os = "linux")]
#[path = "common/thread.rs"]
mod thread;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("arguments are numbers"));
    let size = args.next().unwrap_or(1452);
    let seconds = args.next().unwrap_or(2) as u64;
    let rounds = args.next().unwrap_or(5);
    let segments = args.next().unwrap_or(usize::MAX);
    println!("{size}-byte datagrams, {seconds} s a run");
    for round in 1..=rounds {
        for backend in [warpline_pktio::Backend::Udp, warpline_pktio::Backend::Uring] {
            let load = linux::Load { size, segments, time: std::time::Duration::from_secs(seconds) };
            linux::round(round, backend, load)?;
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this measurement needs Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use warpline_pktio::{Backend, Io, IoConfig, TxMeta, limits};

    use super::thread::{cpu_time, pin};

    /// What a side did: packets, calls, and the CPU time that it took.
    struct Side {
        packets: u64,
        trains: u64,
        calls: u64,
        cpu: Duration,
    }

    /// What is sent.
    #[derive(Clone, Copy)]
    pub(super) struct Load {
        pub(super) size: usize,
        pub(super) segments: usize,
        pub(super) time: Duration,
    }

    pub(super) fn round(round: usize, backend: Backend, load: Load) -> io::Result<()> {
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = IoConfig { busy_poll: Duration::from_micros(50), backend, ..IoConfig::default() };
        let (tx, rx) = (Io::bind(here, &config)?, Io::bind(here, &config)?);
        let (to, stop) = (rx.local_addr(), AtomicBool::new(false));
        let start = Instant::now();
        let (sent, received) = thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(rx, &stop));
            let sender = scope.spawn(|| {
                let sent = send(tx, to, load);
                stop.store(true, Ordering::Relaxed);
                sent
            });
            (sender.join().expect("no panic"), receiver.join().expect("no panic"))
        });
        let (sent, received) = (sent?, received?);
        let seconds = start.elapsed().as_secs_f64();
        let rate = |side: &Side| side.packets as f64 / seconds / 1e6;
        let cost = |side: &Side| side.cpu.as_nanos() as f64 / side.packets as f64;
        println!(
            "round {round} {backend:>5}: sent {:.2} M/s ({:.0} ns/packet, {:.1} a train, {:.1} a call), received {:.2} M/s = {:.1} Gbit/s \
             ({:.0} ns/packet, {:.1} a train, {:.1} a call)",
            rate(&sent),
            cost(&sent),
            sent.packets as f64 / sent.trains as f64,
            sent.packets as f64 / sent.calls as f64,
            rate(&received),
            rate(&received) * load.size as f64 * 8e-3,
            cost(&received),
            received.packets as f64 / received.trains as f64,
            received.packets as f64 / received.calls as f64,
        );
        Ok(())
    }

    fn send(mut io: Io, remote: SocketAddr, load: Load) -> io::Result<Side> {
        pin(0)?;
        let segment_size = load.size;
        let segments = (limits::TRAIN_BYTES_MAX / segment_size).min(io.gso_segments_max()).min(load.segments);
        let len = segments * segment_size;
        // What fills the transmit buffer, in one call.
        let burst = (limits::TX_ARENA / len).min(limits::TX_TRAINS_MAX);
        let start = Instant::now();
        while start.elapsed() < load.time {
            while io.tx_pending() < burst
                && let Some(buffer) = io.tx_buffer()
            {
                // As much of the train is touched as a sender would write at least.
                buffer[..len].chunks_mut(segment_size).for_each(|datagram| datagram[0] = 0x40);
                io.tx_commit(TxMeta { remote, local: None, ecn: None, segment_size, len });
            }
            io.flush()?;
            if io.tx_pending() > 0 {
                io.wait(Some(Duration::from_millis(1)))?;
            }
        }
        let stats = io.stats().snapshot();
        Ok(Side { packets: stats.tx_datagrams, trains: stats.tx_trains, calls: stats.syscalls(), cpu: cpu_time() })
    }

    fn receive(mut io: Io, stop: &AtomicBool) -> io::Result<Side> {
        pin(1)?;
        let mut batch = Vec::new();
        loop {
            if io.recv(&mut batch)? == 0 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                io.wait(Some(Duration::from_millis(1)))?;
            }
        }
        let stats = io.stats().snapshot();
        assert_eq!(stats.drop_rx_no_memory, 0, "frames are dropped at once");
        Ok(Side { packets: stats.rx_datagrams, trains: stats.rx_trains, calls: stats.syscalls(), cpu: cpu_time() })
    }
}
