//! How packets reach the program: the same choice for every command that moves them.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use warpline::engine::WorkerHandle;
use warpline::{Backend, InterfaceName, IoConfig, XdpConfig, XdpModes};

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

/// The choice of a back end.
#[derive(Debug, Clone, Copy, Args)]
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
}

impl IoArgs {
    /// Whether the settings go together, wherever each came from.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), String> {
        let wants = match self {
            Self { interface: Some(_), .. } => return Ok(()),
            Self { name: Name::Xdp, .. } => "--io xdp",
            Self { xdp_mode: Mode::ZeroCopy | Mode::Copy | Mode::Generic, .. } => "--xdp-mode",
            Self { xdp_busy_poll: 1.., .. } => "--xdp-busy-poll",
            _ => return Ok(()),
        };
        Err(format!("{wants} needs --interface NAME"))
    }

    /// The settings of an endpoint.
    pub fn config(self) -> IoConfig {
        let backend = match self.name {
            Name::Auto => Backend::Auto,
            Name::Udp => Backend::Udp,
            Name::Uring => Backend::Uring,
            Name::Xdp => Backend::Xdp,
        };
        let modes = match self.xdp_mode {
            Mode::Best => XdpModes::Best,
            Mode::ZeroCopy => XdpModes::ZeroCopy,
            Mode::Copy => XdpModes::Copy,
            Mode::Generic => XdpModes::Generic,
        };
        let busy_poll_budget = self.xdp_busy_poll;
        let xdp = self.interface.map(|name| XdpConfig { modes, busy_poll_budget, ..XdpConfig::new(name) });
        IoConfig { backend, xdp, ..IoConfig::default() }
    }
}

/// How each worker uses its interface now, for machines; `null` for back ends other than AF_XDP.
pub fn xdp_report(workers: &[WorkerHandle]) -> Value {
    let status = workers.iter().filter_map(WorkerHandle::xdp_status).map(|status| {
        json!({
            "interface": status.interface,
            "queues": status.queues,
            "mode": status.mode.map(warpline::XdpMode::name),
            "reason": status.reason,
        })
    });
    let all: Vec<Value> = status.collect();
    if all.is_empty() { Value::Null } else { Value::Array(all) }
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
        for wrong in ["x --io xdp", "x --io xdp --interface a/b", "x --xdp-busy-poll 8", "x --io fast"] {
            parse(wrong).expect_err(wrong);
        }
        assert!(parse("x").expect("nothing is needed").xdp.is_none());
    }
}
