//! Which worker a datagram belongs to: arithmetic on its destination connection ID, no table of connections.
//!
//! Two bytes at a fixed place of the ID are the partition key; the key modulo a prime is the slot; a slot belongs to
//! the worker with its number modulo the number of workers. The kernel steers by the same arithmetic, so this finds a
//! foreign datagram only when steering is not in force (one socket for all, or a datagram queued before it was).

use warpline_wire::cid::{partition_key, slot};

/// The share of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    worker: usize,
    workers: usize,
}

impl Partition {
    pub(crate) fn new(worker: usize, workers: usize) -> Self {
        debug_assert!(worker < workers, "workers are counted from 0");
        Self { worker, workers }
    }

    /// The worker to hand the datagram to, or `None` if it is this worker's own. A datagram without a readable key
    /// stays: whoever drops it counts it.
    #[inline]
    pub(crate) fn foreign(&self, datagram: &[u8]) -> Option<usize> {
        if self.workers == 1 {
            return None;
        }
        let owner = usize::from(slot(destination_key(datagram)?)) % self.workers;
        (owner != self.worker).then_some(owner)
    }
}

/// The partition key of a datagram's destination connection ID. Long headers carry the ID's length in octet 5 and the
/// ID after it (RFC 8999 section 5.1); short headers carry an ID of ours from octet 1 on (section 5.2).
#[inline]
fn destination_key(datagram: &[u8]) -> Option<u16> {
    let (&first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return partition_key(rest.get(..warpline_wire::cid::CID_LEN)?);
    }
    let len = usize::from(*datagram.get(5)?);
    partition_key(datagram.get(6..6 + len)?)
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
    fn both_header_forms_lead_to_the_same_worker() {
        for workers in 2..8 {
            for key in [0, 1, 5, 1020, 1021, 1022, 40_000, u16::MAX] {
                let owner = usize::from(key % 1021) % workers;
                for worker in 0..workers {
                    let partition = Partition::new(worker, workers);
                    let expected = (worker != owner).then_some(owner);
                    assert_eq!(partition.foreign(&short(key)), expected);
                    assert_eq!(partition.foreign(&long(key)), expected);
                }
            }
        }
    }

    #[test]
    fn datagrams_without_a_key_stay() {
        let partition = Partition::new(0, 3);
        for datagram in [&[][..], &[0x40], &[0x40, 1, 2, 3], &[0xc0, 0, 0, 0, 1], &[0xc0, 0, 0, 0, 1, 200, 1]] {
            assert_eq!(partition.foreign(datagram), None);
        }
    }

    #[test]
    fn a_single_worker_owns_everything() {
        assert_eq!(Partition::new(0, 1).foreign(&short(77)), None);
    }
}
