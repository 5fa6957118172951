//! One packet under construction in a transmit buffer.

use warpline_wire::header::{self, LongHeader, PacketKind};
use warpline_wire::{ConnectionId, PacketNumber, Version, Writer};

use crate::crypto::packet::TAG_LEN;
use crate::crypto::{Keys, Level, Waiting, packet};

/// Packet number and payload together are at least this long, so that there is a sample to protect the header with
/// (RFC 9001 section 5.4.2).
const PROTECTED_MIN: usize = 4;

/// What goes into a packet's header.
pub(crate) struct HeaderParts<'a> {
    pub(crate) version: Version,
    pub(crate) dcid: &'a ConnectionId,
    pub(crate) scid: &'a ConnectionId,
    pub(crate) token: &'a [u8],
    pub(crate) number: u64,
    pub(crate) largest_acked: Option<u64>,
    /// Key phase of 1-RTT packets.
    pub(crate) phase: bool,
    /// A packet of 1-RTT's number space that goes as 0-RTT: a client's, before it has 1-RTT keys.
    pub(crate) zero_rtt: bool,
    /// False clears the fixed bit (RFC 9287).
    pub(crate) fixed_bit: bool,
}

/// A packet whose header is written and whose frames are being written.
pub(crate) struct PacketBuilder<'a> {
    pub(crate) w: Writer<'a>,
    level: Level,
    number: u64,
    pn_len: usize,
    pn_at: usize,
    length_at: Option<usize>,
    zero_rtt: bool,
}

impl<'a> PacketBuilder<'a> {
    /// Writes the header into `room`, which is all that the packet may fill, tag included.
    #[inline]
    pub(crate) fn begin(room: &'a mut [u8], level: Level, parts: &HeaderParts<'_>) -> Self {
        let end = room.len() - TAG_LEN;
        let mut w = Writer::new(&mut room[..end]);
        let number = parts.number;
        let pn_len = PacketNumber(number).truncated_len(parts.largest_acked);
        let (pn_at, length_at) = match level {
            Level::OneRtt if !parts.zero_rtt => {
                let at = header::encode_short(
                    &mut w,
                    parts.dcid,
                    header::ShortFlags { spin: false, key_phase: parts.phase, fixed_bit: parts.fixed_bit },
                    number,
                    pn_len,
                );
                (at, None)
            }
            long => {
                let kind = match long {
                    Level::Initial => PacketKind::Initial,
                    Level::Handshake => PacketKind::Handshake,
                    Level::OneRtt => PacketKind::ZeroRtt,
                };
                let layout = LongHeader {
                    kind,
                    version: parts.version,
                    dcid: *parts.dcid,
                    scid: *parts.scid,
                    token: if long == Level::Initial { parts.token } else { &[] },
                }
                .encode(&mut w, number, pn_len);
                (layout.pn_at, Some(layout.length_at))
            }
        };
        Self { w, level, number, pn_len, pn_at, length_at, zero_rtt: parts.zero_rtt }
    }

    /// Header bytes of a packet with these parts, tag included: what a packet costs beyond its frames.
    pub(crate) fn overhead(level: Level, parts: &HeaderParts<'_>) -> usize {
        let long = match level {
            Level::OneRtt if !parts.zero_rtt => return 1 + parts.dcid.len() + 4 + TAG_LEN,
            Level::Initial => 8 + parts.token.len(),
            Level::Handshake | Level::OneRtt => 0,
        };
        1 + 4 + 1 + parts.dcid.len() + 1 + parts.scid.len() + long + 2 + 4 + TAG_LEN
    }

    /// True when no frame was written yet.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.w.position() == self.pn_at + self.pn_len
    }

    /// Bytes the finished packet would have now.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.w.position() + TAG_LEN
    }

    /// Adds PADDING until the finished packet has `len` bytes.
    pub(crate) fn pad_to(&mut self, len: usize) {
        let missing = len.saturating_sub(self.len()).min(self.w.remaining());
        self.w.zeros(missing);
    }

    /// Completes the layout; what is returned seals the bytes.
    #[inline]
    pub(crate) fn finish(mut self) -> Unsealed {
        let protected = self.w.position() - self.pn_at;
        if protected < PROTECTED_MIN {
            self.w.zeros(PROTECTED_MIN - protected);
        }
        let len = self.len();
        if let Some(at) = self.length_at {
            self.w.patch_varint2(at, (len - self.pn_at) as u64);
        }
        Unsealed {
            level: self.level,
            number: self.number,
            pn_len: self.pn_len,
            pn_at: self.pn_at,
            len,
            zero_rtt: self.zero_rtt,
        }
    }
}

/// A packet that only lacks its protection.
pub(crate) struct Unsealed {
    level: Level,
    number: u64,
    pn_len: usize,
    pn_at: usize,
    pub(crate) len: usize,
    zero_rtt: bool,
}

impl Unsealed {
    pub(crate) fn kind(&self) -> PacketKind {
        match self.level {
            Level::Initial => PacketKind::Initial,
            Level::Handshake => PacketKind::Handshake,
            Level::OneRtt if self.zero_rtt => PacketKind::ZeroRtt,
            Level::OneRtt => PacketKind::OneRtt,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// True for a packet with a short header.
    #[inline]
    pub(super) fn is_one_rtt(&self) -> bool {
        self.level == Level::OneRtt && !self.zero_rtt
    }

    /// What is left to do of a packet with a short header that begins at `at` of a train.
    #[inline]
    pub(super) fn waiting_at(&self, at: usize) -> Waiting {
        Waiting { at, len: self.len, pn_at: self.pn_at, pn_len: self.pn_len, number: self.number }
    }

    /// The frames, before the packet at the front of `room` is sealed.
    pub(crate) fn payload<'r>(&self, room: &'r [u8]) -> &'r [u8] {
        room.get(self.pn_at + self.pn_len..self.len - TAG_LEN).unwrap_or_default()
    }

    /// Seals the packet at the front of `room`.
    #[inline]
    pub(crate) fn seal(&self, keys: &mut Keys, room: &mut [u8]) {
        let bytes = &mut room[..self.len];
        let pn = (self.number, self.pn_len);
        match self.level {
            Level::OneRtt if self.zero_rtt => {
                let keys = keys.zero_rtt.as_deref().expect("a 0-RTT packet is only begun with 0-RTT keys");
                packet::seal(&*keys.packet, &*keys.header, bytes, self.pn_at, pn);
            }
            Level::OneRtt => {
                let keys = keys.one_rtt.as_mut().expect("a 1-RTT packet is only begun with 1-RTT keys");
                keys.seal(bytes, self.pn_at, pn);
            }
            level => {
                let keys = if level == Level::Initial { &keys.initial } else { &keys.handshake };
                let keys = keys.as_deref().expect("a packet is only begun with the keys of its level");
                packet::seal(&*keys.local.packet, &*keys.local.header, bytes, self.pn_at, pn);
            }
        }
    }
}
