//! Packet headers (RFC 9000 section 17), as far as they can be read without keys.

/// RFC 9000.
pub const VERSION_1: u32 = 1;
/// RFC 9369.
pub const VERSION_2: u32 = 0x6b33_43cf;

/// What kind of packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Begins a handshake.
    Initial,
    /// Early data.
    ZeroRtt,
    /// The rest of the handshake.
    Handshake,
    /// Asks for the address to be validated.
    Retry,
    /// Says which versions there are.
    VersionNegotiation,
    /// 1-RTT.
    Short,
}

/// A packet within a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: Kind,
    /// Zero in version negotiation and in short headers.
    pub version: u32,
    /// Empty in short headers, whose length only the receiver knows.
    pub dcid: &'a [u8],
    /// The same.
    pub scid: &'a [u8],
    /// A token was sent along.
    pub has_token: bool,
    /// Where the packet number begins; 0 where there is none, and in short headers.
    pub pn_at: usize,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

/// The packets of a datagram, up to the first that makes no sense.
pub fn packets(datagram: &[u8]) -> Vec<Packet<'_>> {
    let mut rest = datagram;
    let mut packets = Vec::new();
    while let Some(packet) = parse(rest) {
        // Zeros behind a packet are padding of the datagram. At its beginning a zero can be the header of a packet whose
        // fixed bit was greased away (RFC 9287).
        if packet.kind == Kind::Short && packet.bytes[0] == 0 && !packets.is_empty() {
            break;
        }
        rest = &rest[packet.bytes.len()..];
        packets.push(packet);
    }
    packets
}

fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let first = *bytes.first()?;
    if first & 0x80 == 0 {
        let empty: &[u8] = &[];
        let kind = Kind::Short;
        return Some(Packet { kind, version: 0, dcid: empty, scid: empty, has_token: false, pn_at: 0, bytes });
    }
    let mut reader = Reader { bytes, at: 1 };
    let version = u32::from_be_bytes(reader.take(4)?.try_into().ok()?);
    let dcid_len = usize::from(reader.take(1)?[0]);
    let dcid = reader.take(dcid_len)?;
    let scid_len = usize::from(reader.take(1)?[0]);
    let scid = reader.take(scid_len)?;
    let kind = match (version, first >> 4 & 3) {
        (0, _) => Kind::VersionNegotiation,
        (VERSION_2, 1) | (VERSION_1, 0) => Kind::Initial,
        (VERSION_2, 2) | (VERSION_1, 1) => Kind::ZeroRtt,
        (VERSION_2, 3) | (VERSION_1, 2) => Kind::Handshake,
        (VERSION_1 | VERSION_2, _) => Kind::Retry,
        // A version that nobody speaks: the whole datagram is one packet of the client's first flight.
        _ => return Some(Packet { kind: Kind::Initial, version, dcid, scid, has_token: false, pn_at: 0, bytes }),
    };
    if matches!(kind, Kind::VersionNegotiation | Kind::Retry) {
        return Some(Packet { kind, version, dcid, scid, has_token: false, pn_at: 0, bytes });
    }
    let mut has_token = false;
    if kind == Kind::Initial {
        let len = usize::try_from(reader.varint()?).ok()?;
        has_token = len > 0;
        reader.take(len)?;
    }
    let len = usize::try_from(reader.varint()?).ok()?;
    let pn_at = reader.at;
    let bytes = bytes.get(..pn_at.checked_add(len)?)?;
    Some(Packet { kind, version, dcid, scid, has_token, pn_at, bytes })
}

/// Reads from the front.
pub struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    /// The next bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let part = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    /// A big-endian number.
    pub fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// RFC 9000 section 16.
    pub fn varint(&mut self) -> Option<u64> {
        let first = *self.bytes.get(self.at)?;
        let bytes = self.take(1 << (first >> 6))?;
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        Some(number & (u64::MAX >> (64 - (8 * bytes.len() - 2))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_is_padding_only_behind_a_packet() {
        let handshake = [0xe0, 0, 0, 0, 1, 0, 0, 2, 9, 9];
        assert_eq!(packets(&[&handshake[..], &[0; 30]].concat()).len(), 1);
        assert_eq!(packets(&[&handshake[..], &[0x41; 30]].concat()).len(), 2);
        assert_eq!(packets(&[0; 30]).len(), 1, "a greased short header");
    }
}
