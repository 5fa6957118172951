//! What an interface's driver offers to XDP, as the kernel tells it since 6.3 (the `netdev` family of generic netlink).

use std::io;

use super::config::InterfaceName;
use super::netlink::{Event, Netlink};

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;

const BASIC: u64 = 1;
const REDIRECT: u64 = 2;
const ZERO_COPY: u64 = 8;
const MULTI_BUFFER: u64 = 32;
/// `NETDEV_XSK_FLAGS_TX_CHECKSUM`
const TX_CHECKSUM: u64 = 2;

/// What a driver offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Programs run in the driver.
    pub native: bool,
    /// They can redirect packets, which AF_XDP needs.
    pub redirect: bool,
    /// AF_XDP without copies.
    pub zero_copy: bool,
    /// Packets of several buffers can be received.
    pub multi_buffer: bool,
    /// Checksums of what is sent are computed on request (TX metadata, Linux 6.8).
    pub tx_checksum: bool,
    /// Frames of one packet in zero-copy mode; 0 if the driver does not say.
    pub zero_copy_frames: u32,
}

/// Asks the kernel. Fails with `NotFound` if there is no such interface, and with `Unsupported` before Linux 6.3.
pub fn features(interface: InterfaceName) -> io::Result<Features> {
    let mut index = None;
    Netlink::requests()?.dump(libc::RTM_GETLINK, |event| {
        if let Event::Link(link) = event
            && link.name == interface.as_str()
        {
            index = Some(link.index);
        }
    })?;
    let Some(index) = index else {
        let what = format!("there is no interface {}", interface.as_str());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    };
    let mut netlink = Netlink::generic()?;
    let mut family = None;
    let asked = netlink.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, (CTRL_ATTR_FAMILY_NAME, b"netdev\0"), |kind, value| {
        if kind == CTRL_ATTR_FAMILY_ID {
            family = value.first_chunk().copied().map(u16::from_ne_bytes);
        }
    });
    let (Ok(()), Some(family)) = (asked, family) else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel does not tell (it does since 6.3)"));
    };
    let (mut bits, mut frames, mut on_sending) = (0, 0, 0);
    netlink.ask(family, NETDEV_CMD_DEV_GET, (NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes()), |kind, value| {
        match (kind, value.first_chunk().copied(), value.first_chunk().copied()) {
            (NETDEV_A_DEV_XDP_FEATURES, Some(value), _) => bits = u64::from_ne_bytes(value),
            (NETDEV_A_DEV_XSK_FEATURES, Some(value), _) => on_sending = u64::from_ne_bytes(value),
            (NETDEV_A_DEV_XDP_ZC_MAX_SEGS, _, Some(value)) => frames = u32::from_ne_bytes(value),
            _ => (),
        }
    })?;
    Ok(Features {
        native: bits & BASIC != 0,
        redirect: bits & REDIRECT != 0,
        zero_copy: bits & ZERO_COPY != 0,
        multi_buffer: bits & MULTI_BUFFER != 0,
        tx_checksum: on_sending & TX_CHECKSUM != 0,
        zero_copy_frames: frames,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_runs_no_programs_and_what_is_not_there_is_said() {
        let name = |name| InterfaceName::new(name).expect("a short name");
        match features(name("lo")) {
            Ok(features) => assert!(!features.native && !features.zero_copy && !features.tx_checksum, "{features:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
        assert_eq!(features(name("wl-none")).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    }
}
