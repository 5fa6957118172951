//! What a client remembers of servers: TLS sessions and address tokens (RFC 8446 section 4.6.1, RFC 9000 section 8.1.3).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::Tls13ClientSessionValue;
use rustls_pki_types::ServerName;
use warpline_wire::Version;

use super::lru::Lru;
use super::saved::SavedSession;
use crate::limits::{CLIENT_SESSIONS, SESSIONS_PER_SERVER, TOKENS_PER_SERVER};

/// What a client remembers of the servers that it was connected to, shared by its connections and workers.
///
/// A session resumes without the server's certificate and signature, and can carry data in the first packet
/// ([`ClientConfig::early_data`](crate::config::ClientConfig::early_data)); with it are kept the server's transport
/// parameters, which that data obeys (RFC 9000 section 7.4.1). A token spares a client the proof of its address. Both
/// are used once, and only for the name, port and QUIC version that they came from (RFC 9369 section 5). What was not
/// used for longest is forgotten first. What outlives the process is moved out by [`export`](Self::export).
///
/// Locked for moments when a connection begins and when a server gives something; never for a packet of data.
pub struct ClientMemory {
    inner: Mutex<Inner>,
}

struct Inner {
    servers: Lru<ServerKey, Server>,
    sessions: usize,
    sessions_max: usize,
}

/// Whom something is remembered of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServerKey {
    pub(crate) name: Box<str>,
    pub(crate) port: u16,
    pub(crate) version: u32,
}

impl ServerKey {
    pub(crate) fn new(name: &ServerName<'_>, port: u16, version: Version) -> Self {
        Self { name: name.to_str().to_ascii_lowercase().into(), port, version: version.0 }
    }
}

/// What is remembered of one server.
#[derive(Default)]
pub(super) struct Server {
    /// Newest last.
    pub(super) sessions: VecDeque<Remembered>,
    /// Newest last.
    pub(super) tokens: VecDeque<Vec<u8>>,
    group: Option<NamedGroup>,
}

/// A session as TLS has it, as it outlives the process, or both.
pub(super) struct Remembered {
    pub(super) live: Option<Tls13ClientSessionValue>,
    pub(super) saved: Option<Box<SavedSession>>,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Servers, counted once per QUIC version.
    pub servers: usize,
    /// TLS sessions.
    pub sessions: usize,
    /// Address tokens.
    pub tokens: usize,
}

impl std::ops::AddAssign for MemoryStats {
    fn add_assign(&mut self, other: Self) {
        self.servers += other.servers;
        self.sessions += other.sessions;
        self.tokens += other.tokens;
    }
}

impl Default for ClientMemory {
    fn default() -> Self {
        Self::new(CLIENT_SESSIONS)
    }
}

impl ClientMemory {
    /// A memory of at most `sessions` sessions, and of as many servers.
    pub fn new(sessions: usize) -> Self {
        Self { inner: Mutex::new(Inner { servers: Lru::new(), sessions: 0, sessions_max: sessions }) }
    }

    /// How much is remembered now.
    pub fn stats(&self) -> MemoryStats {
        let inner = self.lock();
        MemoryStats {
            servers: inner.servers.len(),
            sessions: inner.sessions,
            tokens: inner.servers.iter().map(|(_, s)| s.tokens.len()).sum(),
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.servers = Lru::new();
        inner.sessions = 0;
    }

    /// Nothing that holds the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a session is kept for `key`: a sign that the server speaks that version (RFC 9369 section 6).
    pub(crate) fn has_session(&self, key: &ServerKey) -> bool {
        self.lock().servers.peek(key).is_some_and(|s| !s.sessions.is_empty())
    }

    /// Keeps a token from NEW_TOKEN.
    pub(crate) fn put_token(&self, key: ServerKey, token: &[u8]) {
        self.lock().with(key, |server| {
            if !server.tokens.iter().any(|known| known == token) {
                server.tokens.push_back(token.to_vec());
            }
            if server.tokens.len() > TOKENS_PER_SERVER {
                server.tokens.pop_front();
            }
        });
    }

    /// Takes the newest token for `key`; it is not used again (RFC 9000 section 8.1.3).
    pub(crate) fn take_token(&self, key: &ServerKey) -> Option<Vec<u8>> {
        self.lock().servers.get_mut(key)?.tokens.pop_back()
    }

    pub(super) fn set_group(&self, key: ServerKey, group: NamedGroup) {
        self.lock().with(key, |server| server.group = Some(group));
    }

    pub(super) fn group(&self, key: &ServerKey) -> Option<NamedGroup> {
        self.lock().servers.peek(key)?.group
    }

    pub(super) fn put_session(&self, key: ServerKey, mut session: Remembered) {
        self.lock().with(key, |server| {
            let before = server.sessions.back().and_then(|s| s.saved.as_ref());
            if let (Some(saved), Some(before)) = (&mut session.saved, before)
                && saved.chain == before.chain
            {
                saved.chain = before.chain.clone();
            }
            server.sessions.push_back(session);
            if server.sessions.len() > SESSIONS_PER_SERVER {
                server.sessions.pop_front();
            }
        });
    }

    /// Takes the newest session for `key` that TLS has, or that `fits`.
    pub(super) fn take_session(&self, key: &ServerKey, fits: impl Fn(&SavedSession) -> bool) -> Option<Remembered> {
        let mut inner = self.lock();
        let sessions = &mut inner.servers.get_mut(key)?.sessions;
        let usable = |s: &Remembered| s.live.is_some() || s.saved.as_deref().is_some_and(&fits);
        let session = sessions.remove(sessions.iter().rposition(usable)?);
        inner.sessions -= 1;
        session
    }

    /// Moves what is kept of the server `name` at `port`, in every version, to `other`, as the newest there; returns what it was.
    pub fn move_server(&self, name: &ServerName<'_>, port: u16, other: &Self) -> MemoryStats {
        let key = ServerKey::new(name, port, Version::V1);
        let is_it = |known: &ServerKey| known.name == key.name && known.port == port;
        let mut inner = self.lock();
        let keys: Vec<ServerKey> = inner.servers.iter().map(|(key, _)| key).filter(|key| is_it(key)).cloned().collect();
        let taken = keys.into_iter().filter_map(|key| inner.servers.remove(&key).map(|server| (key, server)));
        let moved: Vec<_> = taken.collect();
        inner.sessions -= moved.iter().map(|(_, server)| server.sessions.len()).sum::<usize>();
        drop(inner);
        other.take_over(moved)
    }

    /// Moves all there is to `other`, as the newest there; returns what it was.
    pub fn move_all(&self, other: &Self) -> MemoryStats {
        let mut inner = self.lock();
        let all = std::mem::replace(&mut inner.servers, Lru::new());
        inner.sessions = 0;
        drop(inner);
        other.take_over(all.into_entries())
    }

    fn take_over(&self, servers: impl IntoIterator<Item = (ServerKey, Server)>) -> MemoryStats {
        let mut came = MemoryStats::default();
        for (key, Server { sessions, tokens, .. }) in servers {
            came += MemoryStats { servers: 1, sessions: sessions.len(), tokens: tokens.len() };
            for token in tokens {
                self.put_token(key.clone(), &token);
            }
            for session in sessions {
                self.put_session(key.clone(), session);
            }
        }
        came
    }

    /// Takes out all tokens and all sessions that can outlive the process, oldest server first.
    pub(super) fn take_portable(&self) -> Vec<(ServerKey, Server)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let all = std::mem::replace(&mut inner.servers, Lru::new());
        inner.sessions = 0;
        let mut taken = Vec::new();
        for (key, mut server) in all.into_entries() {
            let (gone, left): (VecDeque<_>, VecDeque<_>) = server.sessions.drain(..).partition(|s| s.saved.is_some());
            (inner.sessions, server.sessions) = (inner.sessions + left.len(), left);
            let moved = Server { sessions: gone, tokens: std::mem::take(&mut server.tokens), group: None };
            taken.push((key.clone(), moved));
            inner.servers.insert(key, server);
        }
        taken
    }
}

impl Inner {
    /// Changes what is kept of `key` and then forgets what is too much.
    fn with(&mut self, key: ServerKey, change: impl FnOnce(&mut Server)) {
        if self.sessions_max == 0 {
            return;
        }
        if self.servers.peek(&key).is_none() {
            self.servers.insert(key.clone(), Server::default());
        }
        let Some(server) = self.servers.get_mut(&key) else { return };
        let before = server.sessions.len();
        change(server);
        self.sessions = self.sessions + server.sessions.len() - before;
        while self.sessions > self.sessions_max || self.servers.len() > self.sessions_max {
            let Some((key, mut server)) = self.servers.pop_oldest() else { break };
            if self.servers.len() == 0 && server.sessions.len() > 1 {
                // All there is belongs to one server: only its oldest session goes.
                server.sessions.pop_front();
                self.sessions -= 1;
                self.servers.insert(key, server);
            } else {
                self.sessions -= server.sessions.len();
            }
        }
    }
}

impl std::fmt::Debug for ClientMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientMemory({:?})", self.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> ServerKey {
        let name = ServerName::try_from(format!("host-{n}.example")).unwrap();
        ServerKey::new(&name, 443, Version::V1)
    }

    #[test]
    fn tokens_are_used_once_newest_first_and_only_where_they_came_from() {
        let memory = ClientMemory::new(10);
        for n in 0..TOKENS_PER_SERVER as u8 + 2 {
            memory.put_token(key(1), &[n]);
            memory.put_token(key(1), &[n]);
        }
        assert_eq!(memory.stats(), MemoryStats { servers: 1, sessions: 0, tokens: TOKENS_PER_SERVER });
        assert_eq!(memory.take_token(&ServerKey { version: Version::V2.0, ..key(1) }), None);
        assert_eq!(memory.take_token(&ServerKey { port: 444, ..key(1) }), None);
        let taken: Vec<_> = std::iter::from_fn(|| memory.take_token(&key(1))).collect();
        assert_eq!(taken, [[5], [4], [3], [2]]);
    }

    #[test]
    fn servers_are_bounded_and_the_longest_unused_goes() {
        let memory = ClientMemory::new(10);
        for n in 0..10 {
            memory.put_token(key(n), &[1]);
        }
        memory.put_token(key(0), &[2]);
        memory.put_token(key(10), &[1]);
        assert_eq!(memory.stats().servers, 10);
        assert!(memory.take_token(&key(1)).is_none(), "the oldest");
        assert!(memory.take_token(&key(0)).is_some(), "was used since");
        let none = ClientMemory::new(0);
        none.put_token(key(0), &[1]);
        assert_eq!(none.stats(), MemoryStats::default());
    }
}
