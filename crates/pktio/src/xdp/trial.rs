//! Whether a queue really gives and takes packets, before traffic is trusted to it.
//!
//! Nobody else is needed for that. For reception the kernel runs the attached program on a packet as if the interface had
//! brought it (`BPF_PROG_TEST_RUN` on live frames, Linux 5.18), and the packet has to come out of the queue's ring. For sending a
//! frame to the interface's own MAC address, of an EtherType for experiments (IEEE 802, 0x88b5), has to come back as sent; no
//! switch forwards it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use warpline_wire::net::{self, Peer, Template};

use super::backend::Xdp;
use super::lane::{Lane, Outbound, PAYLOAD_AT};
use crate::selftest::{NOT_REACHED, Verdict};

/// How long either way may take. It takes some ten microseconds; the rest is for a machine under load, which is no reason for another
/// back end.
const LIMIT: Duration = Duration::from_secs(2);
/// Between looks.
const PAUSE: Duration = Duration::from_micros(100);
/// Bytes of the packet's payload.
const PAYLOAD: [u8; 64] = *b"warpline tries its queue before any packet of a peer's comes now";
/// For experiments in a network of one's own (IEEE 802).
const ETHERTYPE_EXPERIMENT: u16 = 0x88b5;
/// Bytes of the shortest frame of Ethernet, without its checksum.
const FRAME_LEN: usize = 60;
/// Senders that there are not: documentation's addresses (RFC 5737 §3, RFC 3849 §2).
const STRANGERS: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

impl Xdp {
    /// Whether this worker's first queue gives and takes packets. `NotReached` if that cannot be found out here: there is no
    /// queue, the interface is down or has no address, or the kernel makes no packets for it. Fails with what went wrong.
    pub(crate) fn try_out(&mut self) -> io::Result<Verdict> {
        let Some(link) = self.router.link().filter(|link| link.up).cloned() else { return Ok(Verdict::NotReached) };
        if self.lanes.is_empty() {
            return Ok(Verdict::NotReached);
        }
        self.send_to_itself(&link.mac)?;
        let served = self.router.addresses().find(|address| self.device.serves(*address));
        // The kernel makes packets for the first queue only.
        let Some(destination) = served.filter(|_| self.lanes[0].queue() == 0) else { return Ok(Verdict::NotReached) };
        let packet = packet(destination, self.local_addr().port(), link.mac);
        match self.device.run_on(&packet, link.index) {
            Ok(()) => self.await_packet().map(|()| Verdict::Works),
            Err(error) => {
                tracing::debug!(%error, "AF_XDP is not tested: {NOT_REACHED}");
                Ok(Verdict::NotReached)
            }
        }
    }

    fn send_to_itself(&mut self, mac: &[u8; 6]) -> io::Result<()> {
        let lane = &mut self.lanes[0];
        let Some(mut frame) = lane.take_tx(&self.stats) else { return Err(failed("has no frame to send")) };
        let packet = &mut frame[PAYLOAD_AT..PAYLOAD_AT + FRAME_LEN];
        packet.fill(0);
        packet[..6].copy_from_slice(mac);
        packet[6..12].copy_from_slice(mac);
        packet[12..14].copy_from_slice(&ETHERTYPE_EXPERIMENT.to_be_bytes());
        if !lane.send(Outbound { frame, start: PAYLOAD_AT, len: FRAME_LEN, unfinished: false }) {
            return Err(failed("takes no packet"));
        }
        let start = Instant::now();
        loop {
            lane.flush(&self.stats);
            if lane.pending() == 0 && lane.frames(0).sending == 0 {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(failed("has not sent a packet"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Others' packets are dropped: the program has not begun to listen.
    fn await_packet(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            for lane in &mut self.lanes {
                lane.receive(&self.stats);
                if lane.packets().0.any(|packet| packet.ends_with(&PAYLOAD)) {
                    return Ok(());
                }
            }
            if !self.lanes.iter().any(Lane::is_ready) {
                std::thread::sleep(PAUSE);
            }
        }
        Err(failed("did not give the packet that the program was given"))
    }
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("its test: the queue {what}"))
}

/// A packet from nobody to one of our addresses.
fn packet(destination: IpAddr, port: u16, mac: [u8; 6]) -> Vec<u8> {
    let stranger = if destination.is_ipv4() { IpAddr::from(STRANGERS.0) } else { IpAddr::from(STRANGERS.1) };
    let template = Template::new(&Peer {
        // Locally administered, nobody's.
        source_mac: [2, 0, 0, 0, 0, 1],
        next_hop_mac: mac,
        vlans: [None; net::VLAN_TAGS_MAX],
        source: SocketAddr::new(stranger, port),
        destination,
        hop_limit: 1,
        flow_label: 0,
    })
    .expect("both addresses are of one family");
    let mut packet = vec![0; template.len()];
    packet.extend_from_slice(&PAYLOAD);
    template.write(&mut packet, port, 0);
    packet
}

#[cfg(test)]
#[path = "../../tests/common/netns.rs"]
mod netns;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IoConfig;
    use crate::udp::Steering;
    use crate::xdp::{InterfaceName, XdpConfig};

    #[test]
    fn a_queue_that_gives_or_takes_nothing_fails() {
        let Some(pair) = netns::Pair::new("trial") else { return };
        for bind in ["10.77.0.1:4000", "[fd77::1]:4000", "[::]:4000"] {
            pair.inside(0, || {
                let xdp = XdpConfig::new(InterfaceName::new("wl0").expect("a short name"));
                let (bind, io) = (bind.parse().expect("an address"), IoConfig::default());
                let mut group = Xdp::group(bind, 1, &io, xdp, &Steering::ALONE).expect("AF_XDP on veth");
                let xdp = &mut group[0];
                match xdp.try_out().expect("it works") {
                    Verdict::Works => {}
                    Verdict::NotReached => return println!("skipped: this kernel makes no packets (before 5.18)"),
                }
                // The program is told of no address any more, and leaves everything to the kernel.
                let addresses: Vec<IpAddr> = xdp.router.addresses().collect();
                addresses.iter().for_each(|ip| xdp.device.set_address(*ip, false).expect("it was there"));
                let error = xdp.try_out().expect_err("nothing comes").to_string();
                assert!(error.contains("did not give"), "{error}");
                xdp.lanes[0].close(0);
                let error = xdp.try_out().expect_err("nothing goes").to_string();
                assert!(error.contains("takes no packet"), "{error}");
            });
        }
    }
}
