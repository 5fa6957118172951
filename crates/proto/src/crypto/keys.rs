//! Packet protection keys of a connection, per level, and key update (RFC 9001 sections 4.9 and 6).

use core::mem::offset_of;
use core::ops::Range;

use rustls::quic::{DirectionalKeys, HeaderProtectionKey, PacketKeySet};

use warpline_gcm::{AeadKey, MaskKey};

use super::batch::{BATCH_MAX, HeaderKey, Job, PacketKey};
use super::packet;
use super::session::NextKeys;
use crate::time::Instant;

/// Keys of one of the levels that are not updated: Initial and Handshake.
pub(crate) type LevelKeys = rustls::quic::Keys;

/// The keys that a connection holds.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Keys {
    /// In place: every packet needs them.
    pub(crate) one_rtt: Option<OneRttKeys>,
    pub(crate) initial: Option<Box<LevelKeys>>,
    /// (Server) Initial keys of the version that the client began with, after the change to another one: its Initial packets may
    /// still come (RFC 9369 section 4.1).
    pub(crate) initial_original: Option<Box<LevelKeys>>,
    /// For early data: a client seals with them, a server opens.
    pub(crate) zero_rtt: Option<Box<DirectionalKeys>>,
    pub(crate) handshake: Option<Box<LevelKeys>>,
    /// Packets that failed to open, over all keys (RFC 9001 section 6.6).
    pub(crate) failed_opens: u64,
}

/// What opening a 1-RTT packet brought.
#[derive(Default)]
pub(crate) struct Opened {
    /// Length of the payload, which starts behind the header.
    pub(crate) payload_len: usize,
    /// The peer used the next generation of keys: a key update happened.
    pub(crate) updated: bool,
    /// The first packet that came under keys that this side updated to: the peer goes along.
    pub(crate) settled: bool,
    /// It was sealed with old keys although its number is higher than that of a packet under newer ones, which the peer must not do (RFC
    /// 9001 section 6.4).
    pub(crate) outdated: bool,
}

/// 1-RTT keys: the current generation, the previous one for packets that were under way, and the next on demand.
#[repr(C)]
pub(crate) struct OneRttKeys {
    remote_header: HeaderKey,
    current: PacketKeys,
    local_header: HeaderKey,
    /// By itself, since packets of the current phase do without.
    others: Box<OtherKeys>,
    /// Lowest packet number received in the current phase; `None` until one arrived.
    first_received: Option<u64>,
    /// First packet number sent in the current phase.
    first_sent: u64,
    sealed: u64,
    limits: KeyLimits,
    phase: bool,
    /// No acknowledgement was sent since the last update.
    owes_ack: bool,
    /// The application wants an update.
    requested: bool,
}

/// The keys of other phases than the current one.
struct OtherKeys {
    previous: Option<Box<Previous>>,
    /// Made when a packet first shows the other phase, or when this side is about to update: an idle connection
    /// need not hold a second set of keys.
    next: Option<Box<PacketKeys>>,
    secrets: NextKeys,
    /// This side updates no earlier.
    not_before: Instant,
}

/// Limits below those of the cipher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyLimits {
    /// Packets sealed after which an update is due.
    pub(crate) update_after: u64,
    /// Packets that may fail to open.
    pub(crate) forgeries: u64,
}

impl NextKeys {
    fn next(&mut self) -> PacketKeys {
        PacketKeys::new(match self {
            Self::Tls(secrets) => secrets.next_packet_keys(),
            Self::Own(secrets) => secrets.next_packet_keys(),
        })
    }
}

/// One generation's keys.
#[repr(C)]
struct PacketKeys {
    remote: PacketKey,
    local: PacketKey,
}

impl PacketKeys {
    fn new(keys: PacketKeySet) -> Self {
        Self { local: PacketKey::new(keys.local), remote: PacketKey::new(keys.remote) }
    }
}

/// A packet of a train that waits to be sealed with others: where it is, and what [`OneRttKeys::seal`] must know.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    /// Where it begins in the train.
    pub(crate) at: usize,
    /// Its length, tag included.
    pub(crate) len: usize,
    /// Where its number begins, from its own first byte on.
    pub(crate) pn_at: usize,
    pub(crate) pn_len: usize,
    pub(crate) number: u64,
}

struct Previous {
    remote: PacketKey,
    /// Packets of the previous phase are below this number.
    end: u64,
}

impl Keys {
    /// What a short packet touches of them, as bytes from their beginning. The keys of `warpline-gcm` are in place, and of those of libraries
    /// it is their boxes.
    pub(crate) const SHORT: [Range<usize>; 5] = {
        const fn behind(at: usize, bytes: &Range<usize>) -> Range<usize> {
            at + bytes.start..at + bytes.end
        }
        let (mask, key) = (MaskKey::SHORT, AeadKey::SHORT);
        let current = offset_of!(OneRttKeys, current);
        [
            behind(offset_of!(OneRttKeys, remote_header), &mask),
            behind(current + offset_of!(PacketKeys, remote), &key),
            behind(current + offset_of!(PacketKeys, local), &key),
            behind(offset_of!(OneRttKeys, local_header), &mask),
            offset_of!(OneRttKeys, others)..size_of::<Self>(),
        ]
    };
}

impl OneRttKeys {
    pub(crate) fn new(keys: LevelKeys, secrets: NextKeys, limits: KeyLimits) -> Self {
        Self {
            local_header: HeaderKey::new(keys.local.header),
            remote_header: HeaderKey::new(keys.remote.header),
            current: PacketKeys::new(PacketKeySet { local: keys.local.packet, remote: keys.remote.packet }),
            others: Box::new(OtherKeys { previous: None, next: None, secrets, not_before: Instant::default() }),
            phase: false,
            first_received: None,
            first_sent: 0,
            owes_ack: false,
            sealed: 0,
            requested: false,
            limits,
        }
    }

    /// Has keys that are not in place brought into the caches.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.remote_header.prefetch();
        self.current.remote.prefetch();
        self.local_header.prefetch();
        self.current.local.prefetch();
    }

    /// What unmasks the headers of the peer's packets.
    #[inline]
    pub(crate) fn remote_header(&self) -> &dyn HeaderProtectionKey {
        self.remote_header.as_dyn()
    }

    /// Key phase bit of packets sent now.
    #[inline]
    pub(crate) fn phase(&self) -> bool {
        self.phase
    }

    /// How many packets of a train to seal at once.
    #[inline]
    pub(crate) fn seals_at_once(&self) -> usize {
        self.current.local.seals_at_once()
    }

    /// Seals a 1-RTT packet; see [`packet::seal`].
    #[inline]
    pub(crate) fn seal(&mut self, bytes: &mut [u8], pn_at: usize, pn: (u64, usize)) {
        let (number, pn_len) = pn;
        self.sealed += 1;
        self.current.local.seal(&mut [Job::new(bytes, pn_at + pn_len, number)]);
        packet::protect(self.local_header.as_dyn(), bytes, pn_at, pn_len);
    }

    /// Seals packets of a train, at most [`BATCH_MAX`], in the order in which they lie there.
    pub(crate) fn seal_batch(&mut self, train: &mut [u8], waiting: &[Waiting]) {
        if let [one] = waiting {
            return self.seal(&mut train[one.at..one.at + one.len], one.pn_at, (one.number, one.pn_len));
        }
        self.sealed += waiting.len() as u64;
        let mut jobs: [Job<'_>; BATCH_MAX] = std::array::from_fn(|_| Job::new(&mut [], 0, 0));
        let jobs = &mut jobs[..waiting.len()];
        let (mut rest, mut end) = (train, 0);
        for (job, packet) in jobs.iter_mut().zip(waiting) {
            let (_, from) = rest.split_at_mut(packet.at - end);
            let (bytes, behind) = from.split_at_mut(packet.len);
            *job = Job::new(bytes, packet.pn_at + packet.pn_len, packet.number);
            (rest, end) = (behind, packet.at + packet.len);
        }
        self.current.local.seal(jobs);
        for (job, packet) in jobs.iter_mut().zip(waiting) {
            packet::protect(self.local_header.as_dyn(), job.packet, packet.pn_at, packet.pn_len);
        }
    }

    /// Opens packets of the current phase whose headers are unmasked. What they bring is for [`accept`](Self::accept) to say, in
    /// their turn.
    #[inline]
    pub(crate) fn open_batch(&self, jobs: &mut [Job<'_>]) {
        self.current.remote.open(jobs);
    }

    /// What a packet that was opened under the current keys brings.
    #[inline]
    pub(crate) fn accept(&mut self, payload_len: usize, number: u64) -> Opened {
        let mut settled = false;
        if self.first_received.is_none_or(|first| number < first) {
            settled = self.first_received.is_none() && self.others.previous.is_some();
            self.first_received = Some(number);
            if let Some(previous) = &mut self.others.previous {
                previous.end = number;
            }
        }
        Opened { payload_len, settled, ..Opened::default() }
    }

    /// Opens a 1-RTT packet whose header is unmasked. `None`: not authentic under the keys that its phase and number call for.
    #[inline]
    pub(crate) fn open(&mut self, phase: bool, bytes: &mut [u8], header_len: usize, number: u64) -> Option<Opened> {
        let mut job = [Job::new(bytes, header_len, number)];
        let payload_len = (job[0].packet.len() - header_len).checked_sub(packet::TAG_LEN)?;
        if phase == self.phase {
            self.current.remote.open(&mut job);
            return job[0].is_done.then(|| self.accept(payload_len, number));
        }
        // RFC 9001 section 6.5: a lower number than any of the current phase belongs to the previous one.
        if let Some(previous) = self.others.previous.as_ref().filter(|p| number < p.end) {
            previous.remote.open(&mut job);
            return job[0].is_done.then(|| Opened { payload_len, ..Opened::default() });
        }
        if self.first_received.is_some_and(|first| number < first) {
            return None;
        }
        let OtherKeys { previous, next, secrets, .. } = &mut *self.others;
        // Opening spoils what it does not open.
        let copy = previous.as_ref().filter(|_| self.first_received.is_some()).map(|_| job[0].packet.to_vec());
        next.get_or_insert_with(|| Box::new(secrets.next())).remote.open(&mut job);
        if job[0].is_done {
            return Some(Opened { payload_len, updated: true, ..Opened::default() });
        }
        let (previous, mut copy) = previous.as_ref().zip(copy)?;
        let mut job = [Job::new(&mut copy, header_len, number)];
        previous.remote.open(&mut job);
        job[0].is_done.then(|| Opened { payload_len, outdated: true, ..Opened::default() })
    }

    /// Moves to the next generation because the peer did, with packet `number`.
    ///
    /// Returns false when the peer updated again before this side acknowledged anything under the last update: a
    /// KEY_UPDATE_ERROR (RFC 9001 section 6.2). Whether the peer acknowledged what was sent says nothing: a side that only
    /// receives sends nothing that is acknowledged.
    pub(crate) fn follow(&mut self, number: u64, next_pn: u64) -> bool {
        if self.owes_ack {
            return false;
        }
        self.advance(next_pn);
        self.first_received = Some(number);
        if let Some(previous) = &mut self.others.previous {
            previous.end = number;
        }
        true
    }

    /// An acknowledgement goes out under the current keys.
    #[inline]
    pub(crate) fn note_ack_sent(&mut self) {
        self.owes_ack = false;
    }

    /// Starts a key update with the next packet to send, `next_pn`, if RFC 9001 section 6.1 allows one now.
    pub(crate) fn initiate(&mut self, now: Instant, next_pn: u64, largest_acked: Option<u64>) -> bool {
        if now < self.others.not_before || self.others.previous.is_some() || !self.may_update(largest_acked) {
            return false;
        }
        self.advance(next_pn);
        self.first_received = None;
        true
    }

    /// True when a packet of the current phase was acknowledged (RFC 9001 section 6.1).
    fn may_update(&self, largest_acked: Option<u64>) -> bool {
        largest_acked.is_some_and(|acked| acked >= self.first_sent)
    }

    fn advance(&mut self, next_pn: u64) {
        let next = self.others.next.take().unwrap_or_else(|| Box::new(self.others.secrets.next()));
        let old = std::mem::replace(&mut self.current, *next);
        self.others.previous = Some(Box::new(Previous { remote: old.remote, end: u64::MAX }));
        self.phase = !self.phase;
        self.first_sent = next_pn;
        self.owes_ack = true;
        self.sealed = 0;
        self.requested = false;
    }

    /// Drops the keys of the previous phase; no further update before `not_before`. Nothing happens as long as the peer may not know
    /// of the phase and seal with them.
    pub(crate) fn forget_previous(&mut self, not_before: Instant) {
        if self.first_received.is_some() && self.others.previous.take().is_some() {
            self.others.not_before = not_before;
        }
    }

    /// Makes an update due. An update by the peer in the meantime is one.
    pub(crate) fn request_update(&mut self) {
        self.requested = true;
    }

    /// True when so many packets were sealed that an update is due (RFC 9001 section 6.6), with room to spare, or when one was
    /// asked for.
    #[inline]
    pub(crate) fn update_due(&self) -> bool {
        self.requested || self.sealed >= self.limits.update_after.min(self.current.local.confidentiality_limit() / 2)
    }

    /// True when no further packet may be sealed with these keys.
    pub(crate) fn exhausted(&self) -> bool {
        self.sealed >= self.current.local.confidentiality_limit()
    }

    /// Packets that may fail to open before the connection must end.
    pub(crate) fn integrity_limit(&self) -> u64 {
        self.current.remote.integrity_limit().min(self.limits.forgeries)
    }
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;
    use warpline_wire::Version;

    use super::super::schedule::{Secret, SuiteParts, TrafficSecrets};
    use super::*;

    fn secrets(local: u8, remote: u8) -> TrafficSecrets {
        TrafficSecrets {
            parts: SuiteParts::of(CipherSuite::TLS13_AES_128_GCM_SHA256).unwrap(),
            version: Version::V1,
            local: Secret::new(&[local; 32]).unwrap(),
            remote: Secret::new(&[remote; 32]).unwrap(),
        }
    }

    fn side(local: u8, remote: u8, limits: KeyLimits) -> OneRttKeys {
        let mut secrets = secrets(local, remote);
        let keys = secrets.keys();
        secrets.update();
        OneRttKeys::new(keys, NextKeys::Own(Box::new(secrets)), limits)
    }

    const FREE: KeyLimits = KeyLimits { update_after: u64::MAX, forgeries: u64::MAX };

    fn packet(keys: &mut OneRttKeys, number: u64) -> Vec<u8> {
        let mut packet = vec![0x40; 60];
        keys.seal(&mut packet, 9, (number, 2));
        packet
    }

    fn open(keys: &mut OneRttKeys, phase: bool, mut packet: Vec<u8>, number: u64) -> Option<bool> {
        packet::unmask(keys.remote_header(), &mut packet, 9)?;
        keys.open(phase, &mut packet, 11, number).map(|opened| opened.updated)
    }

    #[test]
    fn a_second_update_before_the_first_can_be_acknowledged_is_an_error() {
        let (mut client, mut server) = (side(1, 2, FREE), side(2, 1, FREE));
        let first = packet(&mut client, 1);
        assert_eq!(open(&mut server, client.phase(), first, 1), Some(false));
        client.advance(2);
        let second = packet(&mut client, 2);
        assert_eq!(open(&mut server, client.phase(), second, 2), Some(true));
        assert!(server.follow(2, 7), "the first update is followed");
        client.advance(3);
        let third = packet(&mut client, 3);
        assert_eq!(open(&mut server, client.phase(), third, 3), Some(true));
        assert!(!server.follow(3, 8), "the first one was not acknowledged");
        server.note_ack_sent();
        assert!(server.follow(3, 8));
    }

    #[test]
    fn packets_of_the_phase_before_still_open_and_forged_phases_do_not() {
        let (mut client, mut server) = (side(1, 2, FREE), side(2, 1, FREE));
        let (late, phase) = (packet(&mut client, 1), client.phase());
        client.advance(2);
        let new = packet(&mut client, 2);
        assert_eq!(open(&mut server, client.phase(), new.clone(), 2), Some(true));
        assert!(server.follow(2, 0));
        assert_eq!(open(&mut server, phase, late.clone(), 1), Some(false));
        assert_eq!(open(&mut server, !phase, late.clone(), 1), None);
        server.forget_previous(Instant::default());
        assert_eq!(open(&mut server, phase, late, 1), None, "its keys are gone");
    }

    #[test]
    fn an_update_is_due_by_the_smaller_limit() {
        let mut keys = side(1, 2, KeyLimits { update_after: 20, forgeries: 9 });
        for number in 0..20 {
            assert!(!keys.update_due());
            packet(&mut keys, number);
        }
        assert!(keys.update_due() && !keys.exhausted());
        assert_eq!((keys.integrity_limit(), side(1, 2, FREE).integrity_limit()), (9, 1 << 52));
    }
}
