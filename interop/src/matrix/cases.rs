//! The cases of the public interop runner.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::proxy::{Config, Stats};
use crate::wire::{Trace, VERSION_1, VERSION_2};

/// TLS_CHACHA20_POLY1305_SHA256 (RFC 8446 appendix B.4).
const CHACHA20: u16 = 0x1303;
/// A link of the public runner: 10 Mbit/s, 15 ms one way, 25 packets of queue.
const RATE: u64 = 10_000_000;
const DELAY: Duration = Duration::from_millis(15);
const QUEUE: u64 = 25 * 1_500;

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// A case.
#[derive(Debug)]
pub struct Case {
    /// The public runner's name for it.
    pub name: &'static str,
    /// Sizes of the files that are fetched.
    pub files: Files,
    /// Sizes in the quick form.
    pub quick_files: Files,
    /// Options of both programs.
    pub both: &'static [&'static str],
    /// Options of the server's program.
    pub server: &'static [&'static str],
    /// Options of the client's program.
    pub client: &'static [&'static str],
    /// What is special about it beyond options.
    pub setup: Setup,
    /// The network, from a perfect one.
    pub network: fn(&mut Config, bool),
    /// How long the client may take at most, in seconds.
    pub limit_s: u64,
    /// What must have happened beside that the files arrived: something to show, or what is missing.
    pub check: fn(&Evidence<'_>) -> Result<String, String>,
}

/// How many files of which size.
#[derive(Debug, Clone, Copy)]
pub enum Files {
    /// Each of its own size.
    Each(&'static [usize]),
    /// Many of one size.
    Many(usize, usize),
}

impl Files {
    /// One size for each file.
    pub fn sizes(self) -> Vec<usize> {
        match self {
            Self::Each(sizes) => sizes.to_vec(),
            Self::Many(count, size) => vec![size; count],
        }
    }
}

/// What a case needs beyond options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Nothing.
    Plain,
    /// Everything is on the IPv6 loopback address.
    Ipv6,
    /// The server shows a long chain of certificates.
    LongChain,
    /// The server has a preferred address, which leads through a second proxy.
    Preferred,
    /// A second client fetches the same files at the same time.
    TwoClients,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the proxy wrote down.
    pub trace: &'a Trace,
    /// What the proxy of the preferred address wrote down.
    pub preferred: &'a Trace,
    /// What the proxy did.
    pub network: Stats,
    /// The client's own report.
    pub report: &'a serde_json::Value,
    /// Files that were fetched.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: usize,
    /// From the client's start to its end.
    pub took: Duration,
    /// Client addresses at the proxy.
    pub client_addresses: usize,
}

/// What every case has unless it says otherwise.
const PLAIN: Case = Case {
    name: "",
    files: Files::Each(&[KB]),
    quick_files: Files::Each(&[KB]),
    both: &[],
    server: &[],
    client: &[],
    setup: Setup::Plain,
    network: |config, _| config.delay = DELAY,
    limit_s: 60,
    check: |_| Ok(String::new()),
};

/// All cases, in the order of the table.
pub const CASES: &[Case] = &[
    Case { name: "handshake", check: handshake, ..PLAIN },
    Case {
        name: "transfer",
        files: Files::Each(&[2 * MB, 3 * MB, 5 * MB]),
        quick_files: Files::Each(&[200 * KB, 300 * KB, 500 * KB]),
        check: |e| one_connection(e, 3),
        ..PLAIN
    },
    Case { name: "longrtt", network: |config, _| config.delay = Duration::from_millis(750), check: long_rtt, ..PLAIN },
    Case {
        name: "chacha20",
        files: Files::Each(&[3 * MB]),
        quick_files: Files::Each(&[300 * KB]),
        both: &["--chacha20"],
        check: chacha20,
        ..PLAIN
    },
    Case {
        name: "multiplexing",
        files: Files::Many(2_000, 32),
        quick_files: Files::Many(2_000, 32),
        check: |e| one_connection(e, 2_000),
        ..PLAIN
    },
    Case { name: "retry", files: Files::Each(&[10 * KB]), server: &["--retry"], check: retry, ..PLAIN },
    Case {
        name: "resumption",
        files: Files::Each(&[5 * KB, 10 * KB]),
        quick_files: Files::Each(&[5 * KB, 10 * KB]),
        client: &["--resume"],
        check: resumption,
        ..PLAIN
    },
    Case {
        name: "zerortt",
        files: Files::Many(41, 32),
        quick_files: Files::Many(41, 32),
        client: &["--zero-rtt"],
        check: zero_rtt,
        ..PLAIN
    },
    Case {
        name: "http3",
        files: Files::Each(&[5 * KB, 10 * KB, 500 * KB]),
        quick_files: Files::Each(&[5 * KB, 10 * KB]),
        both: &["--http3"],
        check: http3,
        ..PLAIN
    },
    Case {
        name: "blackhole",
        files: Files::Each(&[10 * MB]),
        quick_files: Files::Each(&[3 * MB]),
        network: |config, quick| {
            link(config);
            let seconds = if quick { (2, 1) } else { (5, 2) };
            config.up_and_down = Some((Duration::from_secs(seconds.0), Duration::from_secs(seconds.1)));
        },
        check: black_holed,
        ..PLAIN
    },
    Case {
        name: "keyupdate",
        files: Files::Each(&[10 * KB, 3 * MB]),
        quick_files: Files::Each(&[10 * KB, 300 * KB]),
        client: &["--key-update"],
        check: key_update,
        ..PLAIN
    },
    Case { name: "ecn", files: Files::Each(&[100 * KB]), quick_files: Files::Each(&[100 * KB]), check: ecn, ..PLAIN },
    Case {
        name: "amplificationlimit",
        files: Files::Each(&[5 * KB]),
        setup: Setup::LongChain,
        network: |config, _| {
            link(config);
            // The client's second to seventh datagram: the server is left alone with what the first one allows.
            config.drop_up = 0b111_1110;
        },
        check: amplification,
        ..PLAIN
    },
    Case {
        name: "handshakeloss",
        files: Files::Many(50, KB),
        quick_files: Files::Many(10, KB),
        client: &["--multiconnect"],
        network: |config, _| *config = lossy(config, 0.3),
        limit_s: 300,
        check: connections_and_loss,
        ..PLAIN
    },
    Case {
        name: "transferloss",
        files: Files::Each(&[2 * MB]),
        quick_files: Files::Each(&[MB]),
        network: |config, _| *config = lossy(config, 0.02),
        check: lost,
        ..PLAIN
    },
    Case {
        name: "handshakecorruption",
        files: Files::Many(50, KB),
        quick_files: Files::Many(10, KB),
        client: &["--multiconnect"],
        network: |config, _| {
            link(config);
            config.corrupt = 0.3;
        },
        limit_s: 300,
        check: connections_and_damage,
        ..PLAIN
    },
    Case {
        name: "transfercorruption",
        files: Files::Each(&[2 * MB]),
        quick_files: Files::Each(&[MB]),
        network: |config, _| {
            link(config);
            config.corrupt = 0.02;
        },
        check: |e| Ok(format!("{}, {}", one_connection(e, 1)?, damaged(e)?)),
        ..PLAIN
    },
    Case { name: "ipv6", files: Files::Each(&[100 * KB]), setup: Setup::Ipv6, check: handshake, ..PLAIN },
    Case { name: "v2", files: Files::Each(&[10 * KB]), both: &["--v2"], check: version_2, ..PLAIN },
    Case {
        name: "rebind-port",
        files: Files::Each(&[10 * MB]),
        quick_files: Files::Each(&[3 * MB]),
        network: rebinding,
        check: rebound,
        ..PLAIN
    },
    Case {
        name: "rebind-addr",
        files: Files::Each(&[10 * MB]),
        quick_files: Files::Each(&[3 * MB]),
        network: |config, quick| {
            rebinding(config, quick);
            config.rebind_address = true;
        },
        check: rebound,
        ..PLAIN
    },
    Case {
        name: "connectionmigration",
        files: Files::Each(&[10 * KB, 2 * MB]),
        quick_files: Files::Each(&[10 * KB, MB]),
        setup: Setup::Preferred,
        network: |config, _| link(config),
        check: preferred,
        ..PLAIN
    },
    Case {
        name: "activemigration",
        files: Files::Each(&[10 * KB, 2 * MB]),
        quick_files: Files::Each(&[10 * KB, MB]),
        client: &["--migrate"],
        network: |config, _| link(config),
        check: migrated,
        ..PLAIN
    },
    Case { name: "versionnegotiation", client: &["--unknown-version"], check: negotiated, ..PLAIN },
    Case {
        name: "goodput",
        files: Files::Each(&[10 * MB]),
        quick_files: Files::Each(&[2 * MB]),
        network: |config, _| link(config),
        check: goodput,
        ..PLAIN
    },
    Case {
        name: "crosstraffic",
        files: Files::Each(&[10 * MB]),
        quick_files: Files::Each(&[2 * MB]),
        setup: Setup::TwoClients,
        network: |config, _| link(config),
        check: goodput,
        ..PLAIN
    },
];

fn link(config: &mut Config) {
    config.delay = DELAY;
    config.rate = Some(RATE);
    config.queue = Some(QUEUE);
}

fn lossy(config: &Config, probability: f64) -> Config {
    let mut config = config.clone().loss(probability);
    link(&mut config);
    config
}

/// As the public runner has it: `--first-rebind=1s --rebind-freq=5s`.
fn rebinding(config: &mut Config, _quick: bool) {
    link(config);
    config.rebind_after = Some(Duration::from_secs(1));
    config.rebind_every = Some(Duration::from_secs(5));
}

/// `text` if `is` holds, else what was seen instead.
fn demand(is: bool, text: String) -> Result<String, String> {
    if is { Ok(text) } else { Err(text) }
}

fn handshake(e: &Evidence<'_>) -> Result<String, String> {
    let (handshakes, retries) = (e.trace.handshakes.len(), e.trace.down.retries);
    demand(handshakes == 1 && retries == 0, format!("{handshakes} handshakes, {retries} retries"))
}

fn one_connection(e: &Evidence<'_>, streams: usize) -> Result<String, String> {
    let (handshakes, seen) = (e.trace.handshakes.len(), e.trace.down.streams.len());
    demand(handshakes == 1 && seen >= streams, format!("{handshakes} handshakes, {seen} streams{}", unread(e)))
}

/// A word of caution where packets could not be read.
fn unread(e: &Evidence<'_>) -> String {
    let (up, down) = (e.trace.up.unopened, e.trace.down.unopened);
    if up + down == 0 { String::new() } else { format!(", unread packets up {up}, down {down}") }
}

fn long_rtt(e: &Evidence<'_>) -> Result<String, String> {
    let hellos = e.trace.handshakes.first().map_or(0, |handshake| handshake.client_hellos);
    demand(hellos >= 2, format!("{hellos} ClientHellos"))
}

fn chacha20(e: &Evidence<'_>) -> Result<String, String> {
    let suite = e.trace.handshakes.first().and_then(|handshake| handshake.suite);
    demand(suite == Some(CHACHA20), format!("suite {:#06x}", suite.unwrap_or_default()))
}

fn retry(e: &Evidence<'_>) -> Result<String, String> {
    let (retries, tokens) = (e.trace.down.retries, e.trace.up.tokens);
    demand(retries >= 1 && tokens >= 1, format!("{retries} retries, {tokens} Initials with a token"))
}

fn resumption(e: &Evidence<'_>) -> Result<String, String> {
    let resumed: Vec<bool> = e.trace.handshakes.iter().map(|handshake| handshake.resumed).collect();
    demand(resumed == [false, true], format!("ServerHellos with a session: {resumed:?}"))
}

fn zero_rtt(e: &Evidence<'_>) -> Result<String, String> {
    resumption(e)?;
    let packets = e.trace.up.zero_rtt;
    let refused = e.report["connections"][1]["early_data"] == false;
    demand(packets >= 1 && !refused, format!("{packets} 0-RTT packets, refused: {refused}"))
}

/// Both sides have opened unidirectional streams, as only HTTP/3 does: one for control and two of QPACK. Which of them the trace has seen
/// depends: a server opens them before the handshake is over.
fn http3(e: &Evidence<'_>) -> Result<String, String> {
    let shown = one_connection(e, e.files)?;
    let (up, down) = (&e.trace.up.streams, &e.trace.down.streams);
    let opened = |streams: &BTreeSet<u64>, kind| streams.iter().any(|id| id % 4 == kind);
    demand(opened(up, 2) && opened(down, 3), format!("{shown}, streams up {up:?}, down {down:?}"))
}

fn lost(e: &Evidence<'_>) -> Result<String, String> {
    demand(e.network.lost > 0, format!("{} datagrams lost", e.network.lost))
}

fn black_holed(e: &Evidence<'_>) -> Result<String, String> {
    demand(e.network.black_holed > 0, format!("{} datagrams in the black hole", e.network.black_holed))
}

fn damaged(e: &Evidence<'_>) -> Result<String, String> {
    demand(e.network.damaged > 0, format!("{} datagrams damaged", e.network.damaged))
}

fn key_update(e: &Evidence<'_>) -> Result<String, String> {
    let (up, down) = (&e.trace.up.generations, &e.trace.down.generations);
    let packets = |ways: &[u64]| ways.get(1).copied().unwrap_or_default();
    demand(packets(up) > 0 && packets(down) > 0, format!("packets by generation: up {up:?}, down {down:?}"))
}

fn ecn(e: &Evidence<'_>) -> Result<String, String> {
    let (up, down) = (&e.trace.up, &e.trace.down);
    let all = [up.marked, down.marked, up.ecn_acks, down.ecn_acks];
    demand(all.iter().all(|&count| count > 0), format!("marked up, down; counted up, down: {all:?}"))
}

fn amplification(e: &Evidence<'_>) -> Result<String, String> {
    let factor = e.trace.amplification;
    demand(factor > 1.0 && factor <= 3.0, format!("at most {factor:.2} times what had come"))
}

fn connections(e: &Evidence<'_>) -> Result<String, String> {
    let seen = e.trace.handshakes.len();
    demand(seen >= e.files, format!("{seen} handshakes"))
}

fn connections_and_loss(e: &Evidence<'_>) -> Result<String, String> {
    Ok(format!("{}, {}", connections(e)?, lost(e)?))
}

fn connections_and_damage(e: &Evidence<'_>) -> Result<String, String> {
    Ok(format!("{}, {}", connections(e)?, damaged(e)?))
}

fn version_2(e: &Evidence<'_>) -> Result<String, String> {
    let (up, down) = (&e.trace.up.versions, &e.trace.down.versions);
    let is = up.contains(&VERSION_1) && up.contains(&VERSION_2) && down.contains(&VERSION_2);
    demand(is, format!("versions up {up:x?}, down {down:x?}"))
}

fn rebound(e: &Evidence<'_>) -> Result<String, String> {
    let (rebinds, challenges) = (e.network.rebinds, e.trace.down.path_challenges);
    demand(rebinds >= 1 && challenges >= 1, format!("{rebinds} new addresses, {challenges} challenges"))
}

fn preferred(e: &Evidence<'_>) -> Result<String, String> {
    let (up, down) = (e.preferred.up.datagrams, e.preferred.down.datagrams);
    demand(up > 10 && down > 100, format!("datagrams by the preferred address: up {up}, down {down}"))
}

fn migrated(e: &Evidence<'_>) -> Result<String, String> {
    let (addresses, challenges) = (e.client_addresses, e.trace.down.path_challenges);
    demand(addresses >= 2 && challenges >= 1, format!("{addresses} client addresses, {challenges} challenges"))
}

fn negotiated(e: &Evidence<'_>) -> Result<String, String> {
    let count = e.trace.down.version_negotiations;
    demand(count >= 1, format!("{count} Version Negotiation packets"))
}

fn goodput(e: &Evidence<'_>) -> Result<String, String> {
    Ok(format!("{:.1} Mbit/s of {}", 8e-6 * e.bytes as f64 / e.took.as_secs_f64(), RATE / 1_000_000))
}
