//! Which slot a datagram belongs to: arithmetic on its destination connection ID, no table of connections.
//!
//! Two bytes at a fixed place of the ID are the partition key; the key modulo a prime is the slot; a table gives the
//! worker of a slot. The kernel steers by the same arithmetic, so workers find foreign datagrams only while slots move,
//! and where steering is not in force (one socket for all, or a datagram queued before it was).

use warpline_wire::cid::{partition_key, slot};

/// The slot of a datagram. One without a readable key has none: whoever drops it counts it.
#[inline]
pub(crate) fn slot_of(datagram: &[u8]) -> Option<u16> {
    Some(slot(partition_key(destination(datagram)?)?))
}

/// A datagram's destination connection ID. Long headers carry the ID's length in octet 5 and the ID after it (RFC 8999
/// section 5.1); short headers carry an ID of ours from octet 1 on (section 5.2).
#[inline]
pub(crate) fn destination(datagram: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return rest.get(..warpline_wire::cid::CID_LEN);
    }
    let len = usize::from(*datagram.get(5)?);
    datagram.get(6..6 + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(key: u16) -> Vec<u8> {
        let mut datagram = vec![0x40, 1, 2, 3, 4, 5, 6];
        datagram.extend_from_slice(&key.to_be_bytes());
        datagram.extend_from_slice(&[0; 20]);
        datagram
    }

    fn long(key: u16) -> Vec<u8> {
        let mut datagram = vec![0xc0, 0, 0, 0, 1, 10, 1, 2, 3, 4, 5, 6];
        datagram.extend_from_slice(&key.to_be_bytes());
        datagram.extend_from_slice(&[9, 9, 0, 0]);
        datagram
    }

    #[test]
    fn both_header_forms_lead_to_the_same_slot() {
        for key in [0, 1, 5, 1020, 1021, 1022, 40_000, u16::MAX] {
            assert_eq!(slot_of(&short(key)), Some(key % 1021));
            assert_eq!(slot_of(&long(key)), Some(key % 1021));
        }
        assert_eq!(destination(&short(0x0102)), Some(&[1, 2, 3, 4, 5, 6, 1, 2][..]));
    }

    #[test]
    fn datagrams_without_a_key_have_no_slot() {
        for datagram in [&[][..], &[0x40], &[0x40, 1, 2, 3], &[0xc0, 0, 0, 0, 1], &[0xc0, 0, 0, 0, 1, 200, 1]] {
            assert_eq!(slot_of(datagram), None);
        }
    }
}
