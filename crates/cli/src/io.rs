//! How packets reach the program: the same choice for every command that moves them.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};
use warpline::engine::WorkerHandle;
use warpline::{
    Backend, EndpointBuilder, InterfaceName, IoConfig, QueueSet, ScalingPolicy, XdpChecksums, XdpConfig, XdpModes,
    XdpWakeups,
};

/// Above every number of a core or queue.
const SPAN_END: u32 = 1024;

/// The back ends of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Name {
    /// The fastest that works here; AF_XDP only if an interface is named.
    #[default]
    Auto,
    /// A socket with the system's offloads.
    Udp,
    /// A socket behind an io_uring (Linux 6.1).
    Uring,
    /// The queues of --interface, past the kernel's network stack (Linux 5.9, privileges).
    Xdp,
}

/// The modes of AF_XDP on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Mode {
    /// The fastest that the device has.
    #[default]
    Best,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// Copy mode with the program in the driver.
    Copy,
    /// The program behind the driver; any interface.
    Generic,
}

/// Who computes the UDP checksums of what AF_XDP sends, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Checksums {
    /// The device where it offers to, ourselves otherwise.
    #[default]
    Best,
    /// Ourselves.
    Own,
    /// The device or nothing (Linux 6.8).
    Device,
    /// The kernel, in copy mode (Linux 6.8).
    Kernel,
}

/// How a worker on AF_XDP wakes the kernel and is woken, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Wakeups {
    /// A call for each turn with packets to send; poll(2) to sleep.
    #[default]
    Send,
    /// The poll(2) that sleeps sends, too.
    Poll,
    /// A call for each turn with packets to send; an io_uring to sleep (Linux 6.1).
    Uring,
}

/// The choice of a back end.
#[derive(Debug, Clone, Args)]
pub struct IoArgs {
    /// How packets move; what is named outright is used or the command fails.
    #[arg(long = "io", value_enum, value_name = "BACKEND", default_value_t)]
    name: Name,
    /// The interface for AF_XDP; its VLANs are served too.
    #[arg(long, value_name = "NAME", value_parser = InterfaceName::new)]
    interface: Option<InterfaceName>,
    /// Which modes of AF_XDP are acceptable; with --interface.
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    xdp_mode: Mode,
    /// Packets that the device's queue handles at most when a worker looks for some (busy polling); 0 leaves that to
    /// the kernel; with --interface.
    #[arg(long, value_name = "PACKETS", default_value_t = 0)]
    xdp_busy_poll: u16,
    /// How a worker wakes the kernel and is woken; with --interface.
    #[arg(long, value_enum, value_name = "WAY", default_value_t)]
    xdp_wakeups: Wakeups,
    /// Queues to serve, such as 0-3,6; all without it; with --interface.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    xdp_queues: Vec<Span>,
    /// Frames of packet memory for each queue; with --interface.
    #[arg(long, value_name = "COUNT")]
    xdp_frames: Option<usize>,
    /// Bytes of a frame, 2048 or 4096; the smaller one if packets fit, without it; with --interface.
    #[arg(long, value_name = "BYTES")]
    xdp_frame_size: Option<usize>,
    /// Who computes the UDP checksums of what is sent; with --interface.
    #[arg(long, value_enum, value_name = "WHO", default_value_t)]
    xdp_checksums: Checksums,
    /// The NUMA node that packet memory is taken from; that of the network card without it.
    #[arg(long, value_name = "NODE")]
    numa_node: Option<u32>,
    /// Cores to work on, such as 0-3,8: one for each worker, in their order; host and get are kept on all of them.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Vec<Span>,
}

/// One number, or a range of them such as 0-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    first: u32,
    last: u32,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number"));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let span = Self { first: number(first)?, last: number(last)? };
        // No machine has so many of anything.
        if span.first > span.last || span.last >= SPAN_END {
            return Err(format!("{text} is no range of numbers below {SPAN_END}"));
        }
        Ok(span)
    }
}

/// The numbers in a list of ranges.
pub(crate) fn numbers(spans: &[Span]) -> impl Iterator<Item = u32> {
    spans.iter().flat_map(|span| span.first..=span.last)
}

impl IoArgs {
    /// Whether the settings go together, wherever each came from.
    ///
    /// # Errors
    /// What is missing, or what cannot be honoured.
    pub fn check(&self) -> Result<(), String> {
        let wants = match self {
            Self { interface: Some(name), .. } => {
                return self.xdp(*name).and_then(|xdp| xdp.validate().map_err(|error| error.to_string()));
            }
            Self { name: Name::Xdp, .. } => "--io xdp",
            Self { xdp_mode: Mode::ZeroCopy | Mode::Copy | Mode::Generic, .. } => "--xdp-mode",
            Self { xdp_busy_poll: 1.., .. } => "--xdp-busy-poll",
            Self { xdp_queues, .. } if !xdp_queues.is_empty() => "--xdp-queues",
            Self { xdp_frames: Some(_), .. } => "--xdp-frames",
            Self { xdp_frame_size: Some(_), .. } => "--xdp-frame-size",
            Self { xdp_wakeups: Wakeups::Poll | Wakeups::Uring, .. } => "--xdp-wakeups",
            Self { xdp_checksums: Checksums::Own | Checksums::Device | Checksums::Kernel, .. } => "--xdp-checksums",
            _ => return Ok(()),
        };
        Err(format!("{wants} needs --interface NAME"))
    }

    /// The settings of an endpoint.
    pub fn config(&self) -> IoConfig {
        let backend = match self.name {
            Name::Auto => Backend::Auto,
            Name::Udp => Backend::Udp,
            Name::Uring => Backend::Uring,
            Name::Xdp => Backend::Xdp,
        };
        // What cannot be was refused by `check`.
        let xdp = self.interface.and_then(|name| self.xdp(name).ok());
        IoConfig { backend, xdp, numa_node: self.numa_node, ..IoConfig::default() }
    }

    fn xdp(&self, name: InterfaceName) -> Result<XdpConfig, String> {
        let modes = match self.xdp_mode {
            Mode::Best => XdpModes::Best,
            Mode::ZeroCopy => XdpModes::ZeroCopy,
            Mode::Copy => XdpModes::Copy,
            Mode::Generic => XdpModes::Generic,
        };
        let queues = (!self.xdp_queues.is_empty()).then(|| QueueSet::new(numbers(&self.xdp_queues)));
        let usual = XdpConfig::new(name);
        Ok(XdpConfig {
            modes,
            busy_poll_budget: self.xdp_busy_poll,
            frames: self.xdp_frames.unwrap_or(usual.frames),
            frame_size: self.xdp_frame_size,
            wakeups: match self.xdp_wakeups {
                Wakeups::Send => XdpWakeups::Send,
                Wakeups::Poll => XdpWakeups::Poll,
                Wakeups::Uring => XdpWakeups::Ring,
            },
            checksums: match self.xdp_checksums {
                Checksums::Best => XdpChecksums::Best,
                Checksums::Own => XdpChecksums::Own,
                Checksums::Device => XdpChecksums::Device,
                Checksums::Kernel => XdpChecksums::Kernel,
            },
            queues: queues.transpose().map_err(|error| error.to_string())?,
            ..usual
        })
    }

    /// An endpoint with these settings, its workers on their cores.
    pub fn endpoint(&self, builder: EndpointBuilder) -> EndpointBuilder {
        let builder = builder.io(self.config());
        if self.cores.is_empty() { builder } else { builder.cores(numbers(&self.cores).map(|core| core as usize)) }
    }

    /// Keeps this thread, and those that it starts, on the cores that were named.
    ///
    /// # Errors
    /// There is no such core, or it is not ours to use.
    pub fn keep_to_cores(&self) -> Result<(), String> {
        if self.cores.is_empty() {
            return Ok(());
        }
        let mut set = CpuSet::new();
        numbers(&self.cores).for_each(|core| set.set(core as usize));
        let named = numbers(&self.cores).collect::<std::collections::BTreeSet<_>>().len();
        let kept = sched_setaffinity(None, &set).and_then(|()| rustix::thread::sched_getaffinity(None));
        // The kernel leaves out those that there are not.
        if kept.is_ok_and(|kept| kept.count() as usize == named) {
            return Ok(());
        }
        Err("not all of the cores are there and ours to use".to_owned())
    }
}

/// An endpoint that has more workers under load, up to `max` if that is given, and fewer again without.
pub fn growing(builder: EndpointBuilder, max: Option<usize>) -> EndpointBuilder {
    match max {
        Some(max) => builder.max_workers(max).scaling(ScalingPolicy::default()),
        None => builder,
    }
}

/// How each worker uses its interface now, for machines; `null` for back ends other than AF_XDP.
pub fn xdp_report(workers: &[WorkerHandle]) -> Value {
    let all: Vec<Value> = workers.iter().filter_map(one_worker).collect();
    if all.is_empty() { Value::Null } else { Value::Array(all) }
}

fn one_worker(worker: &WorkerHandle) -> Option<Value> {
    let (status, io) = (worker.xdp_status()?, worker.io_stats());
    let (frames, kernel) = (worker.xdp_frames().unwrap_or_default(), worker.xdp_counters());
    Some(json!({
        "worker": worker.index(),
        "interface": status.interface,
        "queues": status.queues,
        "guest_of": status.guest_of,
        "mode": status.mode.map(warpline::XdpMode::name),
        "reason": status.reason,
        "kernel": {
            "rx_dropped": kernel.rx_dropped,
            "rx_ring_full": kernel.rx_ring_full,
            "fill_ring_empty": kernel.fill_ring_empty,
            "invalid_descriptors": kernel.invalid_descriptors,
        },
        "by_kernel": { "received": io.rx_by_kernel, "sent": io.tx_by_kernel },
        "frames": {
            "free": frames.free,
            "receiving": frames.receiving,
            "sending": frames.sending,
            "kept": frames.kept,
            "with_program": frames.with_program,
            "all": frames.capacity,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        io: IoArgs,
    }

    fn parse(line: &str) -> Result<IoConfig, String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        line.io.check().map(|()| line.io.config())
    }

    #[test]
    fn af_xdp_needs_an_interface_and_takes_its_settings() {
        let config = parse("x --io xdp --interface eth0 --xdp-mode copy --xdp-busy-poll 64").expect("it is complete");
        let xdp = config.xdp.expect("it was named");
        assert_eq!((config.backend, xdp.interface.as_str()), (Backend::Xdp, "eth0"));
        assert_eq!((xdp.modes, xdp.busy_poll_budget), (XdpModes::Copy, 64));
        assert!(parse("x --interface eth0").expect("auto may try").xdp.is_some());
        for wrong in [
            "x --interface eth0 --xdp-frames 100",
            "x --interface eth0 --xdp-frame-size 1500",
            "x --interface eth0 --xdp-queues 128",
            "x --xdp-queues 0",
            "x --xdp-frames 8192",
            "x --xdp-frame-size 4096",
            "x --xdp-checksums own",
            "x --xdp-wakeups poll",
            "x --interface eth0 --xdp-wakeups epoll",
            "x --interface eth0 --xdp-checksums none",
            "x --cores 3-1",
            "x --cores a",
            "x --cores 5000",
        ] {
            parse(wrong).expect_err(wrong);
        }
        for wrong in ["x --io xdp", "x --io xdp --interface a/b", "x --xdp-busy-poll 8", "x --io fast"] {
            parse(wrong).expect_err(wrong);
        }
        assert!(parse("x").expect("nothing is needed").xdp.is_none());
    }

    #[test]
    fn queues_memory_and_nodes_are_passed_on() {
        let line = "x --interface eth0 --xdp-queues 0-2,5 --xdp-frames 16384 --xdp-frame-size 4096 --numa-node 1 \
                    --xdp-checksums device --xdp-wakeups uring";
        let config = parse(line).expect("it is complete");
        let xdp = config.xdp.expect("it was named");
        assert_eq!(xdp.queues.expect("they were named").iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!((xdp.frames, xdp.frame_size, config.numa_node), (16_384, Some(4096), Some(1)));
        assert_eq!((xdp.checksums, xdp.wakeups), (XdpChecksums::Device, XdpWakeups::Ring));
    }

    #[test]
    fn cores_that_are_not_there_are_refused() {
        let keep = |line: &str| {
            let line = Line::try_parse_from(line.split(' ')).expect("it can be read");
            // On a thread of its own, which ends here.
            std::thread::spawn(move || line.io.keep_to_cores()).join().expect("no panic")
        };
        assert_eq!(keep("x --cores 0"), Ok(()));
        for wrong in ["x --cores 1023", "x --cores 0,1000-1023"] {
            assert!(keep(wrong).expect_err(wrong).contains("not all of the cores are there"), "{wrong}");
        }
    }
}
