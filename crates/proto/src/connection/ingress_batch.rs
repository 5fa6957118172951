//! Datagrams that came together: their packets are opened at once, and then handled in turn.
//!
//! What is done ahead changes nothing but the packets' bytes. Everything that depends on the packets before is decided when a packet's turn
//! has come: whether its number was seen, what its frames do, what it says of the keys. Where the first packet of another key phase
//! comes, it ends: which keys are behind a phase from there on depends on that packet.
//!
//! Packet numbers are expanded with what was received before the batch. A sender writes as many bytes of a number as take it from what
//! it knows to be acknowledged, all of which was received by then (RFC 9000 section A.2).

use warpline_frame::Frame as Memory;
use warpline_wire::PacketNumber;
use warpline_wire::header::{self, PacketKind, ProtectedHeader};

use super::Connection;
use super::ingress::{KEY_PHASE, OpenedPacket};
use super::stats::DropReason;
use crate::crypto::{BATCH_MAX, Job, Level, packet};
use crate::cx::Cx;
use crate::datagram_meta::DatagramMeta;
use crate::error::TransportError;

/// What was done of a 1-RTT packet before its turn.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The first byte of its unmasked header.
    first: u8,
    pn_len: usize,
    number: u64,
    done: Done,
}

/// How far it got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Its header is unmasked.
    Unmasked,
    /// It is open.
    Opened,
    /// It is not authentic.
    Failed,
}

impl Ahead {
    #[inline]
    fn phase(&self) -> bool {
        self.first & KEY_PHASE != 0
    }
}

impl Connection {
    /// Handles datagrams that came together, all from the same place; each `memory` is exactly one, and is opened in place.
    #[inline]
    pub(crate) fn handle_datagrams(&mut self, cx: &mut Cx<'_>, meta: &DatagramMeta, together: &mut [Memory]) {
        if let [memory] = together {
            return self.handle_datagram(cx, meta, memory, None);
        }
        for batch in together.chunks_mut(BATCH_MAX) {
            let ahead = self.open_ahead(cx, meta, batch);
            for (memory, ahead) in batch.iter_mut().zip(ahead) {
                self.handle_datagram(cx, meta, memory, ahead);
            }
        }
    }

    /// Opens the packets of a batch that can be opened now.
    fn open_ahead(&self, cx: &Cx<'_>, meta: &DatagramMeta, batch: &mut [Memory]) -> [Option<Ahead>; BATCH_MAX] {
        let mut ahead = [None; BATCH_MAX];
        let Some(keys) = self.keys.one_rtt.as_ref() else { return ahead };
        if !self.progress.complete || !self.lifecycle.is_open() || !self.is_from_peer(meta) {
            return ahead;
        }
        let acks = &self.spaces.data.acks;
        let mut jobs: [Job<'_>; BATCH_MAX] = std::array::from_fn(|_| Job::new(&mut [], 0, 0));
        let mut of_job = [0; BATCH_MAX];
        let mut count = 0;
        for (at, (memory, ahead)) in batch.iter_mut().zip(&mut ahead).enumerate() {
            let Ok(header) = header::parse(memory, cx.routes.cid_len()) else { continue };
            if header.kind != PacketKind::OneRtt {
                continue;
            }
            let bytes = &mut memory[..header.packet_len];
            let unmasked = packet::unmask(keys.remote_header(), bytes, header.pn_offset);
            let Some((first, truncated, pn_len)) = unmasked else { continue };
            let number = PacketNumber::expand(truncated, pn_len, acks.largest()).0;
            let packet = ahead.insert(Ahead { first, pn_len, number, done: Done::Unmasked });
            if packet.phase() != keys.phase() {
                break;
            }
            if !acks.is_duplicate(number) {
                jobs[count] = Job::new(bytes, header.pn_offset + pn_len, number);
                of_job[count] = at;
                count += 1;
            }
        }
        keys.open_batch(&mut jobs[..count]);
        for (job, at) in jobs[..count].iter().zip(of_job) {
            if let Some(packet) = &mut ahead[at] {
                packet.done = if job.is_done { Done::Opened } else { Done::Failed };
            }
        }
        ahead
    }

    /// A packet whose turn has come, from where it was left. `None`: dropped, which is counted.
    #[inline]
    pub(super) fn take_opened(
        &mut self,
        cx: &mut Cx<'_>,
        memory: &mut Memory,
        header: &ProtectedHeader,
        ahead: &Ahead,
    ) -> Result<Option<OpenedPacket>, TransportError> {
        let Ahead { first, pn_len, number, done } = *ahead;
        if self.spaces.data.acks.is_duplicate(number) {
            return self.dropped(cx.now, header, DropReason::Duplicate);
        }
        let header_len = header.pn_offset + pn_len;
        let payload_len = match done {
            Done::Unmasked => {
                self.open_one_rtt(cx, ahead.phase(), &mut memory[..header.packet_len], header_len, number)?
            }
            Done::Opened => {
                let payload_len = header.packet_len - header_len - packet::TAG_LEN;
                let Some(keys) = self.keys.one_rtt.as_mut() else { return Ok(None) };
                let opened = keys.accept(payload_len, number);
                self.on_opened(cx.now, &opened, number)?;
                Some(payload_len)
            }
            Done::Failed => None,
        };
        let Some(payload_len) = payload_len else { return self.not_authentic(cx, memory, header, Level::OneRtt) };
        self.check_opened(cx, header, OpenedPacket { level: Level::OneRtt, number, header_len, payload_len }, first)
    }
}
