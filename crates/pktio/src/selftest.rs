//! Whether a backend really sends and receives: a train to itself, through the loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use crate::io::Io;
use crate::meta::{Ecn, Received, TxMeta};
use crate::udp::Steering;
use crate::udp::socket::Bound;

/// Said where nothing comes back, by whatever means.
pub(crate) const NOT_REACHED: &str = "not tested, since packets to itself do not arrive (no loopback, or filtered)";

/// How long the train may take. It takes some ten microseconds; the rest is for a machine under load.
const LIMIT: Duration = Duration::from_millis(500);
/// Bytes of a datagram, and how many there are.
const DATAGRAM: usize = 256;
const DATAGRAMS: usize = 3;

/// How a test ended that found no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Works,
    /// The socket does not reach itself, so nothing is known.
    NotReached,
}

/// Sends a train from the socket to itself and receives it. With `steering`, the datagrams are addressed to `worker`.
/// Fails with what went wrong, in words.
pub(crate) fn run(io: &mut Io, bound: &Bound, worker: usize, steering: Option<&Steering>) -> io::Result<Verdict> {
    let payload = payload(worker, steering);
    let remote = itself(bound.local_addr());
    let len = DATAGRAM * DATAGRAMS;
    let Some(buffer) = io.tx_buffer() else { return Err(io::Error::other("a new socket takes no train")) };
    buffer[..len].chunks_mut(DATAGRAM).for_each(|datagram| datagram.copy_from_slice(&payload));
    io.tx_commit(TxMeta { remote, local: None, ecn: Some(Ecn::Ect0), segment_size: DATAGRAM, len });
    io.flush()?;
    let (start, mut batch, mut seen) = (Instant::now(), Vec::new(), 0);
    while seen < DATAGRAMS && start.elapsed() < LIMIT && io.stats().snapshot().drop_tx_refused == 0 {
        io.recv(&mut batch)?;
        for received in batch.drain(..) {
            seen += ours(received, &payload)?;
        }
        if seen < DATAGRAMS {
            io.wait(Some(LIMIT / 10))?;
        }
    }
    match seen {
        DATAGRAMS => Ok(Verdict::Works),
        _ if !plainly_reached(bound, remote, &payload) => Ok(Verdict::NotReached),
        _ => Err(io::Error::other(format!("{seen} of {DATAGRAMS} datagrams of its test arrived"))),
    }
}

/// How many of the test's datagrams a train has. Strangers' are dropped: the program has not begun to listen.
fn ours(received: Received, payload: &[u8]) -> io::Result<usize> {
    let ecn = received.ecn;
    let count = received.datagrams().filter(|datagram| datagram[..] == *payload).count();
    if count > 0 && ecn != Some(Ecn::Ect0) {
        return Err(io::Error::other("its test's ECN codepoint did not arrive"));
    }
    Ok(count)
}

/// A short header (RFC 8999 §5.2) with the worker's partition key, and bytes that nobody else sends.
fn payload(worker: usize, steering: Option<&Steering>) -> [u8; DATAGRAM] {
    let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
    let mut payload = [0x40; DATAGRAM];
    payload[DATAGRAM - 16..].copy_from_slice(&time.to_le_bytes());
    payload[DATAGRAM - 20..DATAGRAM - 16].copy_from_slice(&std::process::id().to_le_bytes());
    if let Some(steering) = steering {
        // Workers are fewer than slots, so the key that is the worker's number is its own.
        let key = 1 + usize::from(steering.key_offset);
        if let Some(place) = payload.get_mut(key..key + 2) {
            place.copy_from_slice(&(worker as u16).to_be_bytes());
        }
    }
    payload
}

/// Where the socket hears itself: a wildcard address stands for all of the host's.
fn itself(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut addr = addr;
    addr.set_ip(ip);
    addr
}

/// Whether a datagram reaches its own socket by the plainest of calls.
fn plainly_reached(bound: &Bound, remote: SocketAddr, payload: &[u8]) -> bool {
    let socket = bound.socket();
    if socket.send_to(payload, remote).is_err() {
        return false;
    }
    let (start, mut buffer) = (Instant::now(), [0; DATAGRAM]);
    while start.elapsed() < LIMIT {
        match socket.recv_from(&mut buffer) {
            Ok((len, _)) if buffer[..len] == *payload => return true,
            Ok(_) => (),
            Err(_) => std::thread::sleep(LIMIT / 100),
        }
    }
    false
}
