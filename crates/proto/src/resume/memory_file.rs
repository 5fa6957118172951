//! A client's memory as bytes, for a file: what may be there is anything.
//!
//! ```text
//! "warpline memory\n"  16 bytes
//! format               u8, 2
//! servers              u32, least recently used first, each:
//!   name               u8 length and bytes
//!   port, QUIC version u16, u32
//!   tokens             u8 count, each: u16 length and bytes
//!   sessions           u8 count, each:
//!     cipher suite     u16
//!     time of arrival  u64, seconds since 1970
//!     client           32 bytes: SHA-256 of the kind of its trust and its certificates, zeros for the usual and none
//!     ALPN             u8 length and bytes
//!     secret           u8 length and bytes: the resumption PSK
//!     ticket           u16 length and bytes: the NewSessionTicket message
//!     parameters       u16 length and bytes: the server's transport parameters
//!     chain            u8 count, each: u16 length and bytes; count 0: that of the session before
//! SHA-256 of all that  32 bytes
//! ```
//! Numbers are big-endian. Sessions are there if they are portable
//! ([`TlsOptions::portable_sessions`](crate::config::TlsOptions::portable_sessions)).

use core::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::ServerName;
use warpline_wire::{Reader, Version};
use zeroize::Zeroizing;

use super::memory::{ClientMemory, MemoryStats, Remembered, Server, ServerKey};
use super::saved::SavedSession;
use crate::limits::{MEMORY_BYTES_MAX, SESSIONS_PER_SERVER, TOKEN_LEN_MAX, TOKENS_PER_SERVER};

const MAGIC: &[u8; 16] = b"warpline memory\n";
const FORMAT: u8 = 2;
const DIGEST_LEN: usize = 32;

/// A memory was not taken from bytes; what was remembered before is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Something else than a memory.
    #[error("not a file of remembered servers")]
    Foreign,
    /// Written by another version of this library.
    #[error("format {0} of remembered servers is not known here")]
    Format(u8),
    /// Longer than what is ever written.
    #[error("longer than a file of remembered servers may be")]
    TooLong,
    /// Cut short, damaged or made up.
    #[error("the file of remembered servers is damaged")]
    Damaged,
}

impl ClientMemory {
    /// Moves all address tokens and portable sessions out, as bytes for [`import`](Self::import) by another process: each is used
    /// once (RFC 9000 section 8.1.3, RFC 8446 appendix C.4), so they are in one place only. `now`: the time since 1970;
    /// sessions that are over by then are dropped.
    ///
    /// The bytes are secrets. Who reads them can resume the sessions as this client, reads what was sent to resume them
    /// without a key exchange (early data), and passes for this client's address once. Who writes them can pass for the
    /// servers. At most [`MEMORY_BYTES_MAX`](crate::limits::MEMORY_BYTES_MAX): what was not used for longest is dropped beyond.
    pub fn export(&self, now: Duration) -> Vec<u8> {
        let servers = self.take_portable();
        let mut encoded: Vec<_> = servers.iter().filter_map(|(key, s)| encode(key, s, now.as_secs())).collect();
        let mut room = MEMORY_BYTES_MAX - MAGIC.len() - 1 - 4 - DIGEST_LEN;
        let fits = |server: &&Zeroizing<Vec<u8>>| {
            let left = room.checked_sub(server.len());
            room = left.unwrap_or_default();
            left.is_some()
        };
        let kept = encoded.iter().rev().take_while(fits).count();
        encoded.drain(..encoded.len() - kept);
        // With room for all of it, so that no copy stays behind.
        let len: usize = encoded.iter().map(|server| server.len()).sum();
        let mut out = Vec::with_capacity(MAGIC.len() + 1 + 4 + len + DIGEST_LEN);
        out.extend_from_slice(MAGIC);
        out.push(FORMAT);
        out.extend_from_slice(&(encoded.len() as u32).to_be_bytes());
        encoded.iter().for_each(|server| out.extend_from_slice(server));
        let sum = digest(&SHA256, &out);
        out.extend_from_slice(sum.as_ref());
        out
    }

    /// Adds what [`export`](Self::export) wrote, as the newest there is; returns what came. All or nothing, and never more than
    /// this memory holds. `now`: the time since 1970; sessions that are over by then are left out.
    ///
    /// # Errors
    /// [`MemoryError`] when the bytes are anything else.
    pub fn import(&self, bytes: &[u8], now: Duration) -> Result<MemoryStats, MemoryError> {
        if bytes.len() > MEMORY_BYTES_MAX {
            return Err(MemoryError::TooLong);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(MemoryError::Foreign)?;
        let format = *rest.first().ok_or(MemoryError::Damaged)?;
        if format != FORMAT {
            return Err(MemoryError::Format(format));
        }
        let (body, sum) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or(MemoryError::Damaged)?;
        if digest(&SHA256, body).as_ref() != sum {
            return Err(MemoryError::Damaged);
        }
        let body = body.get(MAGIC.len() + 1..).ok_or(MemoryError::Damaged)?;
        // Nothing is taken before all of it is known to be good.
        parse(&mut Reader::new(body), |_| ()).ok_or(MemoryError::Damaged)?;
        let mut came = MemoryStats::default();
        let take = |server| came += self.take_in(server, now.as_secs());
        parse(&mut Reader::new(body), take).ok_or(MemoryError::Damaged)?;
        Ok(came)
    }

    fn take_in(&self, server: WrittenServer<'_>, now: u64) -> MemoryStats {
        let WrittenServer { key, tokens, sessions } = server;
        let mut came = MemoryStats { servers: 1, sessions: 0, tokens: tokens.len() };
        for token in tokens {
            self.put_token(key.clone(), token);
        }
        for saved in sessions.into_iter().filter(|session| session.is_valid(now)) {
            came.sessions += 1;
            self.put_session(key.clone(), Remembered { live: None, saved: Some(Box::new(saved)) });
        }
        came
    }
}

/// `None` when there is nothing to write.
fn encode(key: &ServerKey, server: &Server, now: u64) -> Option<Zeroizing<Vec<u8>>> {
    let saved = server.sessions.iter().filter_map(|s| s.saved.as_deref());
    let sessions: Vec<&SavedSession> = saved.filter(|s| s.is_valid(now)).collect();
    if server.tokens.is_empty() && sessions.is_empty() {
        return None;
    }
    let mut out = Zeroizing::new(vec![u8::try_from(key.name.len()).ok()?]);
    out.extend_from_slice(key.name.as_bytes());
    out.extend_from_slice(&key.port.to_be_bytes());
    out.extend_from_slice(&key.version.to_be_bytes());
    out.push(server.tokens.len() as u8);
    for token in &server.tokens {
        out.extend_from_slice(&(token.len() as u16).to_be_bytes());
        out.extend_from_slice(token);
    }
    out.push(sessions.len() as u8);
    let mut before = None;
    for session in sessions {
        session.encode(before, &mut out);
        before = Some(&session.chain);
    }
    Some(out)
}

struct WrittenServer<'a> {
    key: ServerKey,
    tokens: Vec<&'a [u8]>,
    sessions: Vec<SavedSession>,
}

/// `None` when the bytes are not of the form that `export` writes. A digest shows damage, not intent: nothing is believed.
fn parse<'a>(r: &mut Reader<'a>, mut visit: impl FnMut(WrittenServer<'a>)) -> Option<()> {
    for _ in 0..r.u32().ok()? {
        visit(parse_server(r)?);
    }
    r.is_empty().then_some(())
}

fn parse_server<'a>(r: &mut Reader<'a>) -> Option<WrittenServer<'a>> {
    let name_len = usize::from(r.u8().ok()?);
    let name = std::str::from_utf8(r.bytes(name_len).ok()?).ok()?;
    let name = ServerName::try_from(name).ok()?;
    let port = r.u16().ok()?;
    let key = ServerKey::new(&name, port, Version(r.u32().ok()?));
    let count = usize::from(r.u8().ok()?);
    if count > TOKENS_PER_SERVER {
        return None;
    }
    let mut tokens = Vec::new();
    for _ in 0..count {
        let len = usize::from(r.u16().ok()?);
        if !(1..=TOKEN_LEN_MAX).contains(&len) {
            return None;
        }
        tokens.push(r.bytes(len).ok()?);
    }
    let count = usize::from(r.u8().ok()?);
    if count > SESSIONS_PER_SERVER {
        return None;
    }
    let mut sessions: Vec<SavedSession> = Vec::new();
    for _ in 0..count {
        let before = sessions.last().map(|s| &s.chain);
        let session = SavedSession::decode(before, r)?;
        sessions.push(session);
    }
    let is_empty = tokens.is_empty() && sessions.is_empty();
    (!is_empty).then_some(WrittenServer { key, tokens, sessions })
}

#[cfg(test)]
mod tests {
    use super::super::saved::tests::session;
    use super::*;
    use crate::limits::{CHAIN_LEN_MAX, CLIENT_SESSIONS};

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn key(n: usize) -> ServerKey {
        ServerKey::new(&ServerName::try_from(format!("host-{n}.example")).unwrap(), 443, Version::V1)
    }

    fn put(memory: &ClientMemory, key: ServerKey, saved: SavedSession) {
        memory.put_session(key, Remembered { live: None, saved: Some(Box::new(saved)) });
    }

    /// The marks in the tickets of a server's sessions, newest first.
    fn marks(memory: &ClientMemory, key: &ServerKey) -> Vec<u8> {
        let next = || memory.take_session(key, |_| true).and_then(|s| s.saved).map(|s| s.ticket[18]);
        std::iter::from_fn(next).collect()
    }

    fn filled() -> ClientMemory {
        let memory = ClientMemory::new(10);
        for (host, version) in [("a.example", Version::V1), ("a.example", Version::V2), ("192.0.2.7", Version::V1)] {
            let key = ServerKey::new(&ServerName::try_from(host).unwrap(), 4433, version);
            memory.put_token(key.clone(), b"one");
            memory.put_token(key.clone(), &[7; TOKEN_LEN_MAX]);
            put(&memory, key.clone(), session(1, NOW.as_secs()));
            put(&memory, key, session(2, NOW.as_secs()));
        }
        memory
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = filled().export(NOW);
        let copy = ClientMemory::new(10);
        let six = MemoryStats { servers: 3, sessions: 6, tokens: 6 };
        assert_eq!(copy.import(&bytes, NOW), Ok(six));
        assert_eq!(copy.export(NOW), bytes);
        let small = ClientMemory::new(2);
        assert_eq!(small.import(&bytes, NOW), Ok(six));
        let last = MemoryStats { servers: 1, sessions: 2, tokens: 2 };
        assert_eq!(small.stats(), last, "a memory holds no more than it is made for");
    }

    #[test]
    fn a_memory_of_two_servers_becomes_one_with_the_newest_last() {
        let (old, new) = (ClientMemory::default(), ClientMemory::default());
        for mark in 0..5 {
            put(&old, key(1), session(mark, NOW.as_secs()));
            put(&new, key(1), session(10 + mark, NOW.as_secs()));
        }
        put(&old, key(2), session(20, NOW.as_secs()));
        old.import(&new.export(NOW), NOW).unwrap();
        assert_eq!(marks(&old, &key(1)), [14, 13, 12, 11, 10, 4, 3, 2], "as many as are kept of one server");
        assert_eq!(marks(&old, &key(2)), [20]);
        assert_eq!(new.stats(), MemoryStats { servers: 1, sessions: 0, tokens: 0 });
    }

    #[test]
    fn a_server_is_moved_with_all_of_its_versions_and_no_other() {
        let (from, to) = (ClientMemory::default(), ClientMemory::default());
        let other_port = ServerKey { port: 444, ..key(1) };
        for key in [key(1), ServerKey { version: Version::V2.0, ..key(1) }, key(2), other_port.clone()] {
            put(&from, key.clone(), session(1, NOW.as_secs()));
            from.put_token(key, b"token");
        }
        from.move_server(&ServerName::try_from("HOST-1.example").unwrap(), 443, &to);
        assert_eq!(to.stats(), MemoryStats { servers: 2, sessions: 2, tokens: 2 });
        assert_eq!(from.stats(), MemoryStats { servers: 2, sessions: 2, tokens: 2 });
        assert_eq!((marks(&from, &key(2)).len(), marks(&from, &other_port).len()), (1, 1));
        assert_eq!(from.stats().sessions, 0, "the count is that of what is there");
    }

    #[test]
    fn ten_thousand_sessions_are_written_and_no_more_are_read() {
        let (large, memory) = (ClientMemory::new(2 * CLIENT_SESSIONS), ClientMemory::default());
        for n in 0..CLIENT_SESSIONS + 100 {
            put(&large, key(n), session(n as u32, NOW.as_secs()));
        }
        let bytes = large.export(NOW);
        assert_eq!(memory.import(&bytes, NOW).unwrap().sessions, CLIENT_SESSIONS + 100);
        assert_eq!(memory.stats().sessions, CLIENT_SESSIONS);
        assert!(marks(&memory, &key(99)).is_empty(), "the oldest");
        assert_eq!(marks(&memory, &key(100)).len(), 1);
    }

    #[test]
    fn the_bytes_are_bounded_and_the_oldest_servers_are_left_out() {
        let memory = ClientMemory::default();
        // Each server's sessions have the same long chain, which is written once.
        let chain: std::sync::Arc<[_]> = vec![rustls_pki_types::CertificateDer::from(vec![0x30; CHAIN_LEN_MAX])].into();
        let servers = MEMORY_BYTES_MAX / CHAIN_LEN_MAX + 10;
        for n in 0..servers {
            for mark in 0..2 {
                put(&memory, key(n), SavedSession { chain: chain.clone(), ..session(mark, NOW.as_secs()) });
            }
        }
        let bytes = memory.export(NOW);
        assert!(bytes.len() <= MEMORY_BYTES_MAX && bytes.len() > MEMORY_BYTES_MAX - 2 * CHAIN_LEN_MAX);
        let copy = ClientMemory::default();
        let came = copy.import(&bytes, NOW).unwrap();
        assert!((MEMORY_BYTES_MAX / (CHAIN_LEN_MAX + 1000)..servers).contains(&came.servers), "{came:?}");
        assert!(marks(&copy, &key(0)).is_empty());
        assert_eq!(marks(&copy, &key(servers - 1)), [1, 0]);
        assert_eq!(copy.import(&vec![0; MEMORY_BYTES_MAX + 1], NOW), Err(MemoryError::TooLong));
    }

    #[test]
    fn every_damage_is_found_and_nothing_is_taken() {
        let good = filled().export(NOW);
        let memory = ClientMemory::new(10);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(memory.import(&bad, NOW).is_err(), "byte {at}");
            assert!(memory.import(&good[..at], NOW).is_err(), "length {at}");
        }
        assert_eq!(memory.import(b"PK\x03\x04", NOW), Err(MemoryError::Foreign));
        assert_eq!(memory.stats().servers, 0);
    }

    fn seal(body: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(FORMAT);
        out.extend_from_slice(body);
        let sum = digest(&SHA256, &out);
        out.extend_from_slice(sum.as_ref());
        out
    }

    proptest::proptest! {
        /// What somebody made up is refused, or is something that could have been written.
        #[test]
        fn nothing_made_up_is_taken_that_could_not_be_written(
            edits in proptest::collection::vec((0..2048usize, proptest::prelude::any::<u8>(), 0..3u8), 1..6),
        ) {
            let good = filled().export(NOW);
            let mut body = good[MAGIC.len() + 1..good.len() - DIGEST_LEN].to_vec();
            for (at, byte, edit) in edits {
                let at = at % body.len();
                match edit {
                    0 => body[at] = byte,
                    1 => body.insert(at, byte),
                    _ => drop(body.remove(at)),
                }
            }
            let memory = ClientMemory::default();
            match memory.import(&seal(&body), NOW) {
                Ok(came) => {
                    let again = memory.export(NOW);
                    let copy = ClientMemory::default();
                    proptest::prop_assert!(copy.import(&again, NOW).is_ok_and(|kept| kept.sessions <= came.sessions));
                    proptest::prop_assert_eq!(copy.export(NOW), again);
                }
                Err(error) => {
                    proptest::prop_assert_eq!(error, MemoryError::Damaged);
                    proptest::prop_assert_eq!(memory.stats(), MemoryStats::default());
                }
            }
        }
    }

    #[test]
    fn a_well_summed_lie_is_refused() {
        let memory = ClientMemory::new(10);
        let empty = &[0, 0, 0, 1, 1, b'a', 0, 1, 0, 0, 0, 1, 0, 0];
        let lies: [&[u8]; 8] = [
            empty,                                                                      // a server of which nothing is known
            &[0, 0, 0, 1, 1, b'a', 0, 1, 0, 0, 0, 1, 0, SESSIONS_PER_SERVER as u8 + 1], // more sessions than are kept
            &[0xff, 0xff, 0xff, 0xff],                                                  // servers that are not there
            &[0, 0, 0, 0, 9],                                                           // something behind the end
            &[0, 0, 0, 1, 1, b' ', 0, 1, 0, 0, 0, 1, 0],                                // no host's name
            &[0, 0, 0, 1, 1, 0xff, 0, 1, 0, 0, 0, 1, 0],                                // no text
            &[0, 0, 0, 1, 1, b'a', 0, 1, 0, 0, 0, 1, 1, 0, 0],                          // a token of no bytes
            &[0, 0, 0, 1, 1, b'a', 0, 1, 0, 0, 0, 1, TOKENS_PER_SERVER as u8 + 1],      // more tokens than are kept
        ];
        for lie in lies {
            assert_eq!(memory.import(&seal(lie), NOW), Err(MemoryError::Damaged), "{lie:?}");
        }
        assert_eq!(memory.import(&seal(&[0, 0, 0, 0]), NOW), Ok(MemoryStats::default()));
    }
}
