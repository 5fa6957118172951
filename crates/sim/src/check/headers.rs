//! What header protection leaves open of packets with long headers (RFC 9000 section 17.2).

/// The kinds of the packets that begin a datagram, up to a short header or anything odd.
pub(super) fn long_packets(mut datagram: &[u8]) -> impl Iterator<Item = Kind> {
    std::iter::from_fn(move || {
        let (kind, rest) = long_packet(datagram)?;
        datagram = rest;
        Some(kind)
    })
}

/// What a packet with a long header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Initial { token: bool },
    Handshake,
    ZeroRtt,
}

/// The kind of the first packet and what follows it; `None` at the end, at a short header, at anything odd.
fn long_packet(datagram: &[u8]) -> Option<(Kind, &[u8])> {
    const V2: u32 = 0x6b33_43cf;
    let (&first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*version);
    let rest = skip_cid(skip_cid(rest)?)?;
    // RFC 9369, section 3.2: version 2 counts the same types from 1.
    let kind = if version == V2 { (first >> 4).wrapping_sub(1) & 3 } else { (first >> 4) & 3 };
    let (kind, rest) = match kind {
        0 => {
            let (token_len, rest) = varint(rest)?;
            (Kind::Initial { token: token_len > 0 }, rest.get(usize::try_from(token_len).ok()?..)?)
        }
        1 => (Kind::ZeroRtt, rest),
        2 => (Kind::Handshake, rest),
        _ => return None,
    };
    let (len, rest) = varint(rest)?;
    Some((kind, rest.get(usize::try_from(len).ok()?..)?))
}

fn skip_cid(bytes: &[u8]) -> Option<&[u8]> {
    let (&len, rest) = bytes.split_first()?;
    rest.get(usize::from(len)..)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = 1usize << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(len)?;
    let value = number.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    Some((value & ((1 << (8 * len - 2)) - 1), rest))
}

#[cfg(test)]
pub(super) mod testing {
    pub(in super::super) fn initial(token: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, token.len() as u8];
        packet.extend(token);
        packet.extend([0x40, 100]);
        packet.resize(packet.len() + 100, 0);
        packet
    }

    pub(in super::super) fn handshake() -> Vec<u8> {
        let mut packet = vec![0xe0, 0, 0, 0, 1, 0, 0, 3];
        packet.extend([1, 2, 3]);
        packet
    }
}
