//! What a server keeps, or hands out sealed, so that clients can resume sessions (RFC 8446 section 4.6.1).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustls::server::{ProducesTickets, StoresServerSessions};
use warpline_wire::Version;

use super::lru::Lru;
use crate::crypto::FleetKeys;

/// How long a ticket is good for: the longest that RFC 8446 section 4.6.1 allows.
const TICKET_LIFETIME_SECS: u32 = 7 * 24 * 3600;

/// Sessions kept by this process, each for one use: resuming takes it out. That is what makes early data safe to accept: a
/// replayed first flight finds no session (RFC 8446 section 8.1).
pub(crate) struct SessionStore {
    inner: Mutex<Lru<Box<[u8]>, Vec<u8>>>,
    sessions_max: usize,
}

impl SessionStore {
    pub(crate) fn new(sessions: usize) -> Self {
        Self { inner: Mutex::new(Lru::new()), sessions_max: sessions }
    }

    /// Nothing that holds the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Lru<Box<[u8]>, Vec<u8>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionStore({} of {})", self.lock().len(), self.sessions_max)
    }
}

/// What a session began with and must meet again: the QUIC version (RFC 9369 section 5), and transport parameters that a client
/// applies to early data, none of which may have become smaller (RFC 9000 section 7.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    version: u32,
    limits: [u64; 7],
}

impl Binding {
    pub(crate) fn new(version: Version, limits: [u64; 7]) -> Self {
        Self { version: version.0, limits }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.version.to_be_bytes().to_vec();
        out.extend(self.limits.iter().flat_map(|l| l.to_be_bytes()));
        out
    }

    const LEN: usize = 4 + 7 * 8;

    /// What follows a binding that this one still fulfils.
    fn admit<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let (version, rest) = value.split_first_chunk::<4>()?;
        let (limits, session) = rest.split_at_checked(Self::LEN - 4)?;
        let mut then = limits.as_chunks::<8>().0.iter().map(|l| u64::from_be_bytes(*l));
        let kept = self.limits.iter().all(|now| then.next().is_some_and(|then| *now >= then));
        (u32::from_be_bytes(*version) == self.version && kept).then_some(session)
    }
}

/// A session store or sealed tickets as TLS sees them on connections of one version.
#[derive(Debug)]
pub(crate) struct VersionTickets<T> {
    pub(crate) inner: Arc<T>,
    pub(crate) binding: Binding,
}

impl StoresServerSessions for VersionTickets<SessionStore> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let mut bound = self.binding.encode();
        bound.extend_from_slice(&value);
        let mut sessions = self.inner.lock();
        sessions.insert(key.into(), bound);
        if sessions.len() > self.inner.sessions_max {
            sessions.pop_oldest();
        }
        self.inner.sessions_max > 0
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.binding.admit(self.inner.lock().peek(key)?).map(<[u8]>::to_vec)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.inner.lock().remove(key)?;
        self.binding.admit(&value).map(<[u8]>::to_vec)
    }

    fn can_cache(&self) -> bool {
        self.inner.sessions_max > 0
    }
}

/// Keys that seal sessions into tickets, so that any process of a fleet can resume them and none keeps anything. The first one
/// seals, all open.
pub(crate) struct TicketKeys {
    keys: Vec<LessSafeKey>,
    random: SystemRandom,
}

impl TicketKeys {
    pub(crate) fn new(keys: &FleetKeys) -> Self {
        let key = |secret: [u8; 32]| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).expect("an AES-256 key is 32 bytes long"))
        };
        Self { keys: keys.derive(b"session ticket").map(key).collect(), random: SystemRandom::new() }
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKeys({})", self.keys.len())
    }
}

impl ProducesTickets for VersionTickets<TicketKeys> {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME_SECS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.inner.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(self.binding.version.to_be_bytes());
        let key = self.inner.keys.first()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let mut ticket = nonce.to_vec();
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        let aad = self.binding.version.to_be_bytes();
        self.inner.keys.iter().find_map(|key| {
            let mut buf = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let len = key.open_in_place(nonce, Aad::from(aad), &mut buf).ok()?.len();
            buf.truncate(len);
            Some(buf)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(inner: &Arc<SessionStore>, version: Version, limit: u64) -> VersionTickets<SessionStore> {
        VersionTickets { inner: inner.clone(), binding: Binding::new(version, [limit; 7]) }
    }

    #[test]
    fn a_session_is_taken_once_and_only_where_it_is_valid() {
        let inner = Arc::new(SessionStore::new(3));
        let (v1, v2) = (store(&inner, Version::V1, 10), store(&inner, Version::V2, 10));
        assert!(v1.put(vec![1], b"session".to_vec()));
        assert_eq!(v1.get(&[1]).as_deref(), Some(&b"session"[..]));
        assert_eq!(v2.get(&[1]), None, "another version of QUIC");
        assert_eq!(store(&inner, Version::V1, 9).get(&[1]), None, "limits that have become smaller");
        assert_eq!(store(&inner, Version::V1, 11).get(&[1]).as_deref(), Some(&b"session"[..]));
        assert_eq!(v1.take(&[1]).as_deref(), Some(&b"session"[..]));
        assert_eq!(v1.take(&[1]), None, "a replay");
        for n in 0..10 {
            v1.put(vec![n], vec![n]);
        }
        let kept = inner.lock().len();
        assert_eq!((kept, v1.take(&[6]), v1.take(&[7])), (3, None, Some(vec![7])));
    }

    #[test]
    fn tickets_open_for_the_fleet_and_its_rotated_keys() {
        let tickets = |keys: &FleetKeys, version| VersionTickets {
            inner: Arc::new(TicketKeys::new(keys)),
            binding: Binding::new(version, [0; 7]),
        };
        let old = FleetKeys::new(&[1; 32]);
        let rotated = FleetKeys::new(&[2; 32]).with_previous(&[1; 32]).unwrap();
        let ticket = tickets(&old, Version::V1).encrypt(b"session").unwrap();
        assert_eq!(tickets(&old, Version::V1).decrypt(&ticket).as_deref(), Some(&b"session"[..]), "another process");
        assert_eq!(tickets(&rotated, Version::V1).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(&old, Version::V2).decrypt(&ticket), None);
        assert_eq!(tickets(&FleetKeys::new(&[2; 32]), Version::V1).decrypt(&ticket), None, "the secret was dropped");
        for at in 0..ticket.len() {
            let mut bad = ticket.clone();
            bad[at] ^= 1;
            assert_eq!(tickets(&old, Version::V1).decrypt(&bad), None, "byte {at}");
            assert_eq!(tickets(&old, Version::V1).decrypt(&ticket[..at]), None, "length {at}");
        }
    }
}
