//! Which slot a datagram belongs to: arithmetic on its destination connection ID, no table of connections.
//!
//! Two bytes at a fixed place of the ID are the partition key; the key modulo a prime is the slot; a table gives the
//! worker of a slot. The kernel steers by the same arithmetic, so workers find foreign datagrams only while slots move,
//! and where steering is not in force (one socket for all, or a datagram queued before it was).

use warpline_wire::cid::{self, Layout};

/// The slot of a datagram, where IDs are issued with this layout. One without a readable key has none: whoever drops it counts
/// it.
#[inline]
pub(crate) fn slot_of(layout: Layout, datagram: &[u8]) -> Option<u16> {
    slot_of_id(layout, destination(layout, datagram)?)
}

/// The slot of a connection ID.
#[inline]
pub(crate) fn slot_of_id(layout: Layout, id: &[u8]) -> Option<u16> {
    layout.partition_key(id).map(cid::slot)
}

/// A datagram's destination connection ID. Long headers carry the ID's length in octet 5 and the ID after it (RFC 8999
/// section 5.1); short headers carry an ID of ours from octet 1 on (section 5.2).
#[inline]
pub(crate) fn destination(layout: Layout, datagram: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return rest.get(..usize::from(layout.len));
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
            assert_eq!(slot_of(Layout::PLAIN, &short(key)), Some(key % 1021));
            assert_eq!(slot_of(Layout::PLAIN, &long(key)), Some(key % 1021));
        }
        assert_eq!(destination(Layout::PLAIN, &short(0x0102)), Some(&[1, 2, 3, 4, 5, 6, 1, 2][..]));
    }

    #[test]
    fn datagrams_without_a_key_have_no_slot() {
        for datagram in [&[][..], &[0x40], &[0x40, 1, 2, 3], &[0xc0, 0, 0, 0, 1], &[0xc0, 0, 0, 0, 1, 200, 1]] {
            assert_eq!(slot_of(Layout::PLAIN, datagram), None);
        }
    }
    #[test]
    fn behind_a_load_balancer_issued_ids_have_the_key_at_their_end_and_others_where_all_have_it() {
        let layout = Layout { len: 14, key_offset: 12 };
        let mut datagram = vec![0x40; 40];
        datagram[1 + 12..1 + 14].copy_from_slice(&7_u16.to_be_bytes());
        assert_eq!(slot_of(layout, &datagram), Some(7));
        assert_eq!(slot_of(layout, &long(9)), Some(9), "an ID of 10 bytes, which a client has chosen");
        assert_eq!(slot_of(layout, &datagram[..14]), None);
    }
}
