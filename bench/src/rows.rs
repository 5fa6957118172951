//! The rows of the comparison: a client scenario with its parameters, and the figure that counts.

use clap::ValueEnum;
use warpline_peer_kit::{Congestion, Report, Scenario};

/// UDP payload of a full packet on an Ethernet path: 1,500 bytes less the IPv6 and UDP headers.
const PAYLOAD: u16 = 1_452;
/// UDP payload of a full packet on a path with jumbo frames: 9,020 bytes less the same.
const PAYLOAD_JUMBO: u16 = 8_972;

/// The figure that a row compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Application bits per second.
    Goodput,
    /// The same of a slow link.
    LinkGoodput,
    /// Requests, streams or messages per second.
    Requests,
    /// Median latency.
    Latency,
    /// Handshakes per second.
    Handshakes,
    /// Datagrams per second.
    Datagrams,
    /// Resident memory of the server for each connection.
    Memory,
}

impl Metric {
    /// The unit of [`value`](Self::value).
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Goodput => "Gbit/s",
            Metric::LinkGoodput => "Mbit/s",
            Metric::Latency => "µs",
            Metric::Memory => "KiB",
            Metric::Requests | Metric::Handshakes | Metric::Datagrams => "1/s",
        }
    }

    /// Whether less is better.
    pub fn lower_is_better(self) -> bool {
        matches!(self, Metric::Latency | Metric::Memory)
    }

    /// The figure in a client's report; `None` if it is not there. Memory is not the client's to report.
    pub fn value(self, report: &Report) -> Option<f64> {
        match self {
            Metric::Goodput => report.goodput_bps.map(|bps| bps / 1e9),
            Metric::LinkGoodput => report.goodput_bps.map(|bps| bps / 1e6),
            Metric::Requests => report.requests_per_s,
            Metric::Latency => report.p50_us,
            Metric::Handshakes => report.handshakes_per_s,
            Metric::Datagrams => report.datagrams_per_s,
            Metric::Memory => None,
        }
    }
}

/// A link that is not the loopback, as the impairment proxy takes it.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Megabits per second, each way.
    pub rate_mbit: u64,
    /// Milliseconds, there and back.
    pub rtt_ms: u64,
    /// Percent of the packets, towards the client.
    pub loss_percent: f64,
    /// Percent of the packets, towards the server.
    pub loss_up_percent: f64,
    /// Bytes that wait at the bottleneck; `None` for as much as is under way.
    pub queue: Option<u64>,
}

impl Link {
    /// The proxy's arguments.
    pub fn proxy_args(&self) -> Vec<String> {
        let flags = [
            ("--rate", format!("{}mbit", self.rate_mbit)),
            ("--delay", format!("{}us", self.rtt_ms * 500)),
            ("--loss-down", format!("{}%", self.loss_percent)),
            ("--loss-up", format!("{}%", self.loss_up_percent)),
        ];
        let queue = self.queue.map(|bytes| ("--queue", bytes.to_string()));
        flags.into_iter().chain(queue).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name on the command line and in the results.
    pub name: &'static str,
    /// What the client does.
    pub scenario: Scenario,
    /// Bytes of a transfer, message or datagram.
    pub bytes: u64,
    /// Streams at a time on each connection.
    pub streams: u32,
    /// Connections.
    pub connections: u32,
    /// Operations in flight.
    pub in_flight: u32,
    /// UDP payload of a full packet.
    pub payload: u16,
    /// What lies between client and server; `None` for the loopback by itself.
    pub link: Option<Link>,
    /// Controller of both sides; `None` for the stack's default, which is CUBIC with all of them.
    pub congestion: Option<Congestion>,
    /// The figure that counts.
    pub metric: Metric,
}

/// A download as fast as it goes.
pub const BULK: Row = Row {
    name: "download",
    scenario: Scenario::Download,
    bytes: 1 << 30,
    streams: 1,
    connections: 1,
    in_flight: 1,
    payload: PAYLOAD,
    link: None,
    congestion: None,
    metric: Metric::Goodput,
};
/// A round trip of 50 ms at 100 Mbit/s, with a queue of as much as is under way.
const WAN: Link = Link { rate_mbit: 100, rtt_ms: 50, loss_percent: 0.0, loss_up_percent: 0.0, queue: None };
const LOSSY: Link = Link { loss_percent: 1.0, loss_up_percent: 1.0, ..WAN };
const UPLOAD: Row = Row { name: "upload", scenario: Scenario::Upload, ..BULK };
const REQUESTS: Row =
    Row { name: "reqresp-100", scenario: Scenario::ReqResp, in_flight: 100, metric: Metric::Requests, ..BULK };
const DATAGRAM: Row =
    Row { name: "datagram", scenario: Scenario::Datagram, bytes: 1_200, metric: Metric::Datagrams, ..BULK };
const CONNECT: Row =
    Row { name: "connect", scenario: Scenario::Connect, in_flight: 8, metric: Metric::Handshakes, ..BULK };
const IDLE: Row = Row { name: "idle", scenario: Scenario::Idle, connections: 20_000, metric: Metric::Memory, ..BULK };

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    BULK,
    Row { name: "download-8", streams: 8, ..BULK },
    Row { name: "download-16c", connections: 16, ..BULK },
    Row { name: "download-jumbo", payload: PAYLOAD_JUMBO, ..BULK },
    UPLOAD,
    Row { name: "upload-8", streams: 8, ..UPLOAD },
    Row { name: "upload-16c", connections: 16, ..UPLOAD },
    Row { name: "upload-jumbo", payload: PAYLOAD_JUMBO, ..UPLOAD },
    Row { name: "download-wan", link: Some(WAN), metric: Metric::LinkGoodput, ..BULK },
    Row { name: "download-lossy", link: Some(LOSSY), metric: Metric::LinkGoodput, ..BULK },
    Row { name: "bidi", scenario: Scenario::Bidi, ..BULK },
    Row { name: "reqresp-1", in_flight: 1, metric: Metric::Latency, ..REQUESTS },
    REQUESTS,
    Row { name: "churn", scenario: Scenario::Churn, ..REQUESTS },
    Row { name: "smallmsg", scenario: Scenario::SmallMsg, bytes: 100, in_flight: 1, ..REQUESTS },
    DATAGRAM,
    Row { name: "datagram-echo", scenario: Scenario::DatagramEcho, in_flight: 256, ..DATAGRAM },
    CONNECT,
    Row { name: "resume", scenario: Scenario::Resume, ..CONNECT },
    Row { name: "zerortt", scenario: Scenario::ZeroRtt, metric: Metric::Requests, ..CONNECT },
    Row { name: "idle-1000", connections: 1_000, ..IDLE },
    IDLE,
];

/// The rows called `names`, in the table's order; all of them if `names` is empty.
pub fn select(names: &[String]) -> Result<Vec<Row>, String> {
    let known = |name: &String| ROWS.iter().any(|row| row.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("no scenario {unknown}; there are {}", all.join(", ")));
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).copied().collect())
}

impl Row {
    /// The client's arguments, without the address, the certificate and the times.
    pub fn client_args(&self, window: u64) -> Vec<String> {
        let scenario = self.scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let numbers = [
            ("--bytes", self.bytes),
            ("--streams", self.streams.into()),
            ("--connections", self.connections.into()),
            ("--in-flight", self.in_flight.into()),
            ("--payload", self.payload.into()),
            ("--window", window),
        ];
        let mut args = vec!["--scenario".to_owned(), scenario];
        args.extend(numbers.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.to_string()]));
        args.extend(self.congestion_args());
        args
    }

    /// The argument of both sides that chooses the controller.
    pub fn congestion_args(&self) -> impl Iterator<Item = String> {
        self.congestion.into_iter().flat_map(|congestion| ["--congestion".to_owned(), congestion.name().to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_selectable() {
        for row in ROWS {
            let selected = select(&[row.name.to_owned()]).unwrap();
            assert_eq!(selected.len(), 1, "{}", row.name);
        }
        assert_eq!(select(&[]).unwrap().len(), ROWS.len());
        assert!(select(&["donwload".to_owned()]).unwrap_err().contains("download"));
    }

    #[test]
    fn peers_understand_the_arguments() {
        use clap::Parser;
        for row in ROWS {
            let mut line: Vec<String> = ["peer", "client", "127.0.0.1:1", "--ca", "ca.pem"].map(str::to_owned).to_vec();
            line.extend(row.client_args(4 << 20));
            let warpline_peer_kit::Command::Client(args) = warpline_peer_kit::Command::parse_from(line) else {
                panic!("not a client")
            };
            assert_eq!((args.scenario, args.bytes, args.payload), (row.scenario, row.bytes, row.payload));
        }
    }
}
