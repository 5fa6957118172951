//! UDP checksums by whoever sends the packet (TX metadata, Linux 6.8).
//!
//! In front of a packet stands a `struct xsk_tx_metadata` that says where the checksum belongs and from where on it is to be
//! summed; the field itself holds the sum of the pseudo header. In zero-copy mode the driver reads that, if it offers
//! to. In copy mode the kernel does, on any interface: it gives the packet to the driver as it would its own, unfinished
//! where the interface computes checksums (on virtual links nobody ever does) and finished otherwise.

use std::io;

use super::config::{InterfaceName, XdpChecksums};
use super::ethtool;
use super::features::features;
use super::lane::PAYLOAD_AT;
use warpline_wire::net::{HEADERS_MAX, UDP_CHECKSUM_AT};

/// Bytes of `struct xsk_tx_metadata`: flags, place of the checksum, and the launch time that Linux 6.14 added. Older kernels
/// read as much of it as they know.
pub(super) const METADATA_LEN: usize = 24;

/// There is room for it in front of the longest headers.
const _: () = assert!(PAYLOAD_AT - HEADERS_MAX >= METADATA_LEN);

/// Who computes UDP checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offload {
    /// We do.
    Own,
    /// Whoever sends.
    Sender,
    /// The kernel, in software, in copy mode (`XDP_UMEM_TX_SW_CSUM`).
    Kernel,
}

/// Asks for the checksum of the packet that begins at `start` of a frame and has its UDP header `udp_at` bytes later.
#[inline]
pub(super) fn request(frame: &mut [u8], start: usize, udp_at: usize) {
    let mut metadata = [0; METADATA_LEN];
    let place = |at: usize| u16::try_from(at).expect("headers are short").to_ne_bytes();
    metadata[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM).to_ne_bytes());
    metadata[8..10].copy_from_slice(&place(udp_at));
    metadata[10..12].copy_from_slice(&place(UDP_CHECKSUM_AT));
    frame[start - METADATA_LEN..start].copy_from_slice(&metadata);
}

/// What a socket should be like whose packets' checksums somebody computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) interface: InterfaceName,
    pub(super) wanted: XdpChecksums,
    pub(super) zero_copy: bool,
    /// Packets may span several frames, for which nobody else computes any.
    pub(super) several_frames: bool,
}

/// Who should compute the checksums of an interface's packets, and why. Fails with `Unsupported` if that is not who was
/// asked for.
pub(super) fn choose(demand: Demand) -> io::Result<(Offload, &'static str)> {
    match demand.wanted {
        XdpChecksums::Own => Ok((Offload::Own, "checksums computed here, as asked for")),
        XdpChecksums::Kernel | XdpChecksums::Device if demand.several_frames => {
            Err(refusal("packets may span several frames, and then only we compute them"))
        }
        XdpChecksums::Kernel if demand.zero_copy => Err(refusal("the kernel computes them in copy mode only")),
        XdpChecksums::Kernel => Ok((Offload::Kernel, "checksums by the kernel, as asked for")),
        XdpChecksums::Device => match offered(demand) {
            (Offload::Own, why) => Err(refusal(why)),
            offer => Ok(offer),
        },
        XdpChecksums::Best => Ok(offered(demand)),
    }
}

/// What is there without insisting.
fn offered(demand: Demand) -> (Offload, &'static str) {
    if demand.several_frames {
        return (Offload::Own, "checksums computed here: packets may span several frames");
    }
    if demand.zero_copy {
        return match features(demand.interface) {
            Ok(features) if features.tx_checksum => (Offload::Sender, "checksums by the device"),
            Ok(_) => (Offload::Own, "checksums computed here: the driver does not offer them to AF_XDP"),
            Err(_) => (Offload::Own, "checksums computed here: the kernel does not tell what the driver offers"),
        };
    }
    match ethtool::computes_checksums(demand.interface) {
        Ok(true) => (Offload::Sender, "checksums by the device, as those of the kernel's packets"),
        Ok(false) | Err(_) => (Offload::Own, "checksums computed here: the device does not"),
    }
}

/// What was asked for is not there.
pub(super) fn refusal(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the checksums that were asked for cannot be had: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct xsk_tx_metadata` of include/uapi/linux/if_xdp.h: `__u64 flags`, then `__u16 csum_start`, `__u16 csum_offset`,
    /// padding to eight bytes, `__u64 launch_time`.
    #[test]
    fn the_request_is_laid_out_as_the_kernel_reads_it() {
        let mut frame = [0xaa; 128];
        request(&mut frame, 86, 34);
        let mut expected = vec![0xaa; 62];
        expected.extend_from_slice(&2u64.to_ne_bytes());
        expected.extend_from_slice(&34u16.to_ne_bytes());
        expected.extend_from_slice(&6u16.to_ne_bytes());
        expected.extend_from_slice(&[0; 12]);
        expected.resize(128, 0xaa);
        assert_eq!(frame[..], expected);
    }

    #[test]
    fn what_is_asked_for_counts_and_zero_copy_asks_the_driver() {
        let who = |name, wanted, zero_copy, several_frames| {
            let interface = InterfaceName::new(name).expect("a short name");
            let chosen = choose(Demand { interface, wanted, zero_copy, several_frames });
            chosen.map(|(who, _)| who).map_err(|error| error.kind())
        };
        let refused = Err(io::ErrorKind::Unsupported);
        assert_eq!(who("lo", XdpChecksums::Own, false, false), Ok(Offload::Own));
        assert_eq!(who("lo", XdpChecksums::Kernel, false, false), Ok(Offload::Kernel));
        assert_eq!(who("lo", XdpChecksums::Kernel, true, false), refused);
        assert_eq!(who("lo", XdpChecksums::Kernel, false, true), refused);
        assert_eq!(who("lo", XdpChecksums::Best, true, false), Ok(Offload::Own), "loopback has no driver");
        assert_eq!(who("lo", XdpChecksums::Device, true, false), refused);
        assert_eq!(who("lo", XdpChecksums::Best, false, false), Ok(Offload::Sender), "packets stay on the machine");
        assert_eq!(who("lo", XdpChecksums::Device, false, false), Ok(Offload::Sender));
        assert_eq!(who("lo", XdpChecksums::Device, false, true), refused);
        assert_eq!(who("lo", XdpChecksums::Best, false, true), Ok(Offload::Own));
        assert_eq!(who("wl-none", XdpChecksums::Best, false, false), Ok(Offload::Own));
        assert_eq!(who("wl-none", XdpChecksums::Device, false, false), refused);
    }
}
