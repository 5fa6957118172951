//! What is remembered of paths: how much they carried (draft-ietf-tsvwg-careful-resume).

use core::time::Duration;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lru::Lru;
use crate::limits::{PATHS_REMEMBERED, RESUME_RTT_GROWTH};
use crate::time::Instant;

/// How long what was seen of a path is good for, unless it is told otherwise. The draft wants minutes where paths change and allows
/// hours where they do not (section 4.2.2).
const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Largest window that is jumped to, unless it is told otherwise: 640 Mbit/s at 100 ms.
const JUMP_MAX: u64 = 8 << 20;

/// What connections remember of the paths that they took, for those that take them later.
///
/// Given to [`TransportConfig::careful_resume`](crate::config::TransportConfig::careful_resume), it turns careful resume on
/// (draft-ietf-tsvwg-careful-resume): a connection that ends leaves behind how much its path carried, and a later one between the same
/// two addresses jumps to half of that once a first window arrived and the round-trip time is what it was. Either side may have one;
/// it is about what that side sends. Connections, endpoints and workers share it, if their clocks have the same epoch.
///
/// What a connection uses no other can use meanwhile, and what led to loss is forgotten. At most 10,000 paths are kept, about
/// 100 bytes each; the one unused for longest is forgotten first. Locked for moments in which a connection begins to
/// resume or ends.
pub struct PathMemory {
    paths: Mutex<Lru<PathKey, SavedPath>>,
    lifetime: Duration,
    jump_max: u64,
}

/// The Remote Endpoint of the draft: between which addresses. Ports are not part of it, clients take another each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathKey {
    pub(crate) local: Option<IpAddr>,
    pub(crate) remote: IpAddr,
}

/// What is remembered of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SavedPath {
    /// `saved_cwnd`: bytes that were acknowledged in a round trip without a queue.
    pub(crate) window: u64,
    /// `saved_rtt`: the least round-trip time.
    pub(crate) rtt: Duration,
    /// When that was.
    pub(crate) at: Instant,
}

/// Why a path is not resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing is known of it, or nothing that is young enough.
    Unknown,
    /// It has another round-trip time than it had.
    OtherRtt,
}

impl Default for PathMemory {
    fn default() -> Self {
        Self::new(LIFETIME, JUMP_MAX)
    }
}

impl PathMemory {
    /// A memory of what was seen within `lifetime`, for windows of `jump_max` bytes at most. The default: ten minutes, 8 MiB.
    pub fn new(lifetime: Duration, jump_max: u64) -> Self {
        Self { paths: Mutex::new(Lru::new()), lifetime, jump_max }
    }

    /// Largest window in bytes that is jumped to (`max_jump`).
    pub fn jump_max(&self) -> u64 {
        self.jump_max
    }

    /// Paths that are remembered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything, as after a change of the network (section 4.2.2).
    pub fn clear(&self) {
        *self.lock() = Lru::new();
    }

    /// Nothing that holds the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Lru<PathKey, SavedPath>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is known of a path whose least round-trip time is `rtt`: nobody else gets it. What is too old is forgotten,
    /// what belongs to another round-trip time stays.
    pub(crate) fn claim(&self, key: &PathKey, now: Instant, rtt: Duration) -> Result<SavedPath, Refusal> {
        let mut paths = self.lock();
        let saved = *paths.peek(key).ok_or(Refusal::Unknown)?;
        if now - saved.at > self.lifetime {
            paths.remove(key);
            return Err(Refusal::Unknown);
        }
        // Half the round-trip time would make the rate twice what it was; ten times of it is another path.
        if rtt <= saved.rtt / 2 || rtt > saved.rtt * RESUME_RTT_GROWTH {
            return Err(Refusal::OtherRtt);
        }
        paths.remove(key);
        Ok(saved)
    }

    /// Remembers what was seen, in the place of what was.
    pub(crate) fn put(&self, key: PathKey, saved: SavedPath) {
        let mut paths = self.lock();
        paths.insert(key, saved);
        if paths.len() > PATHS_REMEMBERED {
            paths.pop_oldest();
        }
    }

    /// Puts back what was claimed and not refuted, unless something newer is there.
    pub(crate) fn give_back(&self, key: PathKey, saved: SavedPath) {
        if self.lock().peek(&key).is_none_or(|newer| newer.at < saved.at) {
            self.put(key, saved);
        }
    }
}

impl std::fmt::Debug for PathMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PathMemory({} paths, {:?}, jumps to {})", self.len(), self.lifetime, self.jump_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn key(n: u32) -> PathKey {
        PathKey { local: None, remote: IpAddr::from(n.to_be_bytes()) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn saved(seconds: u64) -> SavedPath {
        SavedPath { window: 1 << 20, rtt: MS(100), at: at(seconds) }
    }

    #[test]
    fn one_connection_at_a_time() {
        let memory = PathMemory::default();
        memory.put(key(1), saved(0));
        assert_eq!(memory.claim(&key(2), at(1), MS(100)), Err(Refusal::Unknown), "another address");
        let elsewhere = PathKey { local: Some(IpAddr::from([10, 0, 0, 1])), ..key(1) };
        assert_eq!(memory.claim(&elsewhere, at(1), MS(100)), Err(Refusal::Unknown), "from another address");
        let claimed = memory.claim(&key(1), at(1), MS(100)).unwrap();
        assert_eq!(memory.claim(&key(1), at(1), MS(100)), Err(Refusal::Unknown), "in use");
        memory.give_back(key(1), claimed);
        assert_eq!(memory.claim(&key(1), at(1), MS(100)), Ok(saved(0)));
        memory.put(key(1), saved(5));
        memory.give_back(key(1), claimed);
        assert_eq!(memory.claim(&key(1), at(6), MS(100)), Ok(saved(5)), "newer than what is given back");
    }

    #[test]
    fn only_while_it_is_young_and_at_a_like_round_trip_time() {
        let memory = PathMemory::new(Duration::from_secs(60), 1 << 20);
        memory.put(key(1), saved(0));
        for other in [MS(50), MS(1_001)] {
            assert_eq!(memory.claim(&key(1), at(60), other), Err(Refusal::OtherRtt), "{other:?}");
        }
        for like in [MS(51), MS(1_000)] {
            assert_eq!(memory.claim(&key(1), at(60), like), Ok(saved(0)), "{like:?}");
            memory.put(key(1), saved(0));
        }
        assert_eq!(memory.claim(&key(1), at(61), MS(100)), Err(Refusal::Unknown));
        assert!(memory.is_empty(), "what is too old is forgotten");
    }

    #[test]
    fn paths_are_bounded_and_can_be_forgotten() {
        let memory = PathMemory::default();
        for n in 0..=PATHS_REMEMBERED as u32 {
            memory.put(key(n), saved(0));
        }
        assert_eq!(memory.len(), PATHS_REMEMBERED);
        assert_eq!(memory.claim(&key(0), at(0), MS(100)), Err(Refusal::Unknown), "the oldest");
        memory.clear();
        assert!(memory.is_empty());
    }
}
