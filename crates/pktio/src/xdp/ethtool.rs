//! What `ethtool` would say of an interface (SIOCETHTOOL).

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use super::config::InterfaceName;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCOALESCE: u32 = 0x0e;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GRXFHINDIR: u32 = 0x38;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Kinds of flows: UDP over IPv4 and over IPv6.
const UDP_FLOWS: [u32; 2] = [0x02, 0x06];
/// Both halves of the ports (`RXH_L4_B_0_1`, `RXH_L4_B_2_3`).
const HASH_PORTS: u32 = 1 << 6 | 1 << 7;

/// The driver of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where the device is on its bus; empty for virtual ones.
    pub bus: String,
}

/// Queues of an interface, or entries of its rings: what is set and what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// For reception, now.
    pub rx: u32,
    /// For transmission, now.
    pub tx: u32,
    /// For reception, at most.
    pub rx_max: u32,
    /// For transmission, at most.
    pub tx_max: u32,
}

/// When a device interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coalescing {
    /// Microseconds after a received packet.
    pub rx_usecs: u32,
    /// Received packets.
    pub rx_frames: u32,
    /// Whether the driver adapts these.
    pub adaptive_rx: bool,
    /// Microseconds after a sent packet.
    pub tx_usecs: u32,
}

/// `struct ifreq` as SIOCETHTOOL reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    data: *mut u32,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<Request>() >= size_of::<libc::ifreq>() && cfg!(target_pointer_width = "64"));

/// Asks for a structure of `WORDS` 32-bit words that begins with the command.
fn ask<const WORDS: usize>(interface: InterfaceName, command: u32) -> io::Result<[u32; WORDS]> {
    let mut data = [0; WORDS];
    data[0] = command;
    complete(interface, data)
}

/// The same, with more than the command in the structure.
fn complete<const WORDS: usize>(interface: InterfaceName, mut data: [u32; WORDS]) -> io::Result<[u32; WORDS]> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).or_else(|_| UdpSocket::bind(("::", 0)))?;
    let mut request = Request { name: [0; 16], data: data.as_mut_ptr(), rest: [0; 2] };
    let name = interface.as_str().as_bytes();
    request.name[..name.len()].copy_from_slice(name);
    // SAFETY: the request names an interface and points to a structure of the command's size, which the kernel fills.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(data) }
}

/// The text in some words of an answer.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The driver (`ethtool -i`). Fails as ioctl(2) does, with `EOPNOTSUPP` if the driver does not say.
pub fn driver(interface: InterfaceName) -> io::Result<Driver> {
    // `struct ethtool_drvinfo`: driver, version and firmware version, bus, each 32 bytes, and more.
    let info: [u32; 49] = ask(interface, ETHTOOL_GDRVINFO)?;
    Ok(Driver { name: text(&info[1..9]), version: text(&info[9..17]), bus: text(&info[25..33]) })
}

/// The queues (`ethtool -l`): combined ones count for both directions.
pub fn channels(interface: InterfaceName) -> io::Result<Sizes> {
    // `struct ethtool_channels`: maxima of rx, tx, other, combined, then what is set.
    let [_, rx_max, tx_max, _, combined_max, rx, tx, _, combined]: [u32; 9] = ask(interface, ETHTOOL_GCHANNELS)?;
    Ok(Sizes {
        rx: rx + combined,
        tx: tx + combined,
        rx_max: rx_max.max(combined_max),
        tx_max: tx_max.max(combined_max),
    })
}

/// The device's rings (`ethtool -g`).
pub fn rings(interface: InterfaceName) -> io::Result<Sizes> {
    // `struct ethtool_ringparam`: maxima of rx, rx mini, rx jumbo, tx, then what is set.
    let [_, rx_max, _, _, tx_max, rx, _, _, tx]: [u32; 9] = ask(interface, ETHTOOL_GRINGPARAM)?;
    Ok(Sizes { rx, tx, rx_max, tx_max })
}

/// Entries of the table that spreads flows over queues (`ethtool -x`); 0 if there is none.
pub fn spreading_entries(interface: InterfaceName) -> io::Result<u32> {
    // `struct ethtool_rxfh_indir`: with a size of 0 the kernel only says how many there are.
    let [_, size]: [u32; 2] = ask(interface, ETHTOOL_GRXFHINDIR)?;
    Ok(size)
}

/// Whether the ports of UDP packets, IPv4's and IPv6's, count when flows are spread (`ethtool -n … rx-flow-hash udp4`).
pub fn spreads_udp_by_port(interface: InterfaceName) -> io::Result<bool> {
    for flow in UDP_FLOWS {
        // The beginning of `struct ethtool_rxnfc`: command, kind of flow, and what counts, in 64 bits.
        let mut data = [0; 4];
        (data[0], data[1]) = (ETHTOOL_GRXFH, flow);
        let [.., low, high]: [u32; 4] = complete(interface, data)?;
        if (low | high) & HASH_PORTS != HASH_PORTS {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the interface computes checksums of the packets that the kernel gives it (`tx-checksumming` of `ethtool -k`).
pub fn computes_checksums(interface: InterfaceName) -> io::Result<bool> {
    // `struct ethtool_value`.
    let [_, on]: [u32; 2] = ask(interface, ETHTOOL_GTXCSUM)?;
    Ok(on != 0)
}

/// Interrupt coalescing (`ethtool -c`).
pub fn coalescing(interface: InterfaceName) -> io::Result<Coalescing> {
    // `struct ethtool_coalesce`: rx usecs and frames (each also "in an interrupt"), tx the same, …, adaptive rx.
    let words: [u32; 23] = ask(interface, ETHTOOL_GCOALESCE)?;
    Ok(Coalescing { rx_usecs: words[1], rx_frames: words[2], tx_usecs: words[5], adaptive_rx: words[10] != 0 })
}
