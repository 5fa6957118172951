//! A TLS session in a form that outlives the process.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::tls13::OkmBlock;
use rustls_pki_types::CertificateDer;
use warpline_wire::{Reader, Side, TransportParameters};

use crate::crypto::portable::{ClientIdentity, NewTicket};
use crate::limits::{
    CERTIFICATES_MAX, CHAIN_LEN_MAX, SESSION_CLOCK_SKEW_SECS, SESSION_LIFETIME_SECS_MAX, SESSION_PARAMS_MAX,
    TICKET_MESSAGE_MAX,
};

/// What a session consists of, beside whom it is with.
#[derive(Clone)]
pub(crate) struct SavedSession {
    /// The cipher suite, by its number.
    pub(crate) suite: u16,
    /// When the ticket came, in seconds since 1970.
    pub(crate) received: u64,
    /// As whom this side showed itself.
    pub(crate) identity: ClientIdentity,
    /// The application's protocol; empty for none.
    pub(crate) alpn: Box<[u8]>,
    /// What the ticket stands for. Whoever has it can resume the session, in either role.
    pub(crate) secret: OkmBlock,
    /// The NewSessionTicket message as it came.
    pub(crate) ticket: Box<[u8]>,
    /// The server's transport parameters as they came.
    pub(crate) params: Box<[u8]>,
    /// The chain that the server showed.
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
}

impl SavedSession {
    /// True when it is within all bounds and whole: then it may be kept.
    pub(crate) fn is_sound(&self) -> bool {
        let chain_len: usize = self.chain.iter().map(|c| c.len()).sum();
        self.lifetime().is_some()
            && secret_len(self.suite) == Some(self.secret.as_ref().len())
            && self.alpn.len() <= usize::from(u8::MAX)
            && self.ticket.len() <= TICKET_MESSAGE_MAX
            && self.params.len() <= SESSION_PARAMS_MAX
            && TransportParameters::decode(&self.params, Side::Server).is_ok()
            && (1..=CERTIFICATES_MAX).contains(&self.chain.len())
            && chain_len <= CHAIN_LEN_MAX
    }

    /// Seconds that the ticket is good for: a week at most, whatever the server says (RFC 8446 section 4.6.1). `None` for
    /// a ticket that is to be dropped at once.
    fn lifetime(&self) -> Option<u64> {
        let said = NewTicket::parse(&self.ticket)?.lifetime;
        (said > 0).then(|| u64::from(said).min(SESSION_LIFETIME_SECS_MAX))
    }

    /// True while the ticket may be used, at `now` seconds since 1970. One from the future is not: nobody knows its age.
    pub(crate) fn is_valid(&self, now: u64) -> bool {
        let end = self.lifetime().map(|lifetime| self.received.saturating_add(lifetime));
        end.is_some_and(|end| now <= end) && self.received <= now.saturating_add(SESSION_CLOCK_SKEW_SECS)
    }

    /// Appends the session. `before`: the chain of the one before it, which is not repeated.
    pub(super) fn encode(&self, before: Option<&Arc<[CertificateDer<'static>]>>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.suite.to_be_bytes());
        out.extend_from_slice(&self.received.to_be_bytes());
        out.extend_from_slice(&self.identity);
        out.push(self.alpn.len() as u8);
        out.extend_from_slice(&self.alpn);
        out.push(self.secret.as_ref().len() as u8);
        out.extend_from_slice(self.secret.as_ref());
        for bytes in [&self.ticket, &self.params] {
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        if before == Some(&self.chain) {
            out.push(0);
            return;
        }
        out.push(self.chain.len() as u8);
        for certificate in self.chain.iter() {
            out.extend_from_slice(&(certificate.len() as u16).to_be_bytes());
            out.extend_from_slice(certificate);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote. `None` for anything else, and for what is not sound.
    pub(super) fn decode(before: Option<&Arc<[CertificateDer<'static>]>>, r: &mut Reader<'_>) -> Option<Self> {
        let (suite, received) = (r.u16().ok()?, r.u64().ok()?);
        let identity = r.bytes(32).ok()?.try_into().ok()?;
        let alpn_len = usize::from(r.u8().ok()?);
        let alpn = r.bytes(alpn_len).ok()?.into();
        let secret_len = usize::from(r.u8().ok()?);
        let secret = r.bytes(secret_len).ok().filter(|s| s.len() <= OkmBlock::MAX_LEN)?;
        let secret = OkmBlock::new(secret);
        let ticket_len = usize::from(r.u16().ok()?);
        let ticket = r.bytes(ticket_len).ok()?.into();
        let params_len = usize::from(r.u16().ok()?);
        let params = r.bytes(params_len).ok()?.into();
        let chain = match r.u8().ok()? {
            0 => before?.clone(),
            count => (0..count).map(|_| certificate(r)).collect::<Option<_>>()?,
        };
        let session = Self { suite, received, identity, alpn, secret, ticket, params, chain };
        session.is_sound().then_some(session)
    }
}

fn certificate(r: &mut Reader<'_>) -> Option<CertificateDer<'static>> {
    let len = usize::from(r.u16().ok()?);
    Some(CertificateDer::from(r.bytes(len).ok().filter(|c| !c.is_empty())?.to_vec()))
}

/// The length of a suite's hash, which is that of its secrets (RFC 8446 section 4.6.1).
fn secret_len(suite: u16) -> Option<usize> {
    match CipherSuite::from(suite) {
        CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(32),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(48),
        _ => None,
    }
}

impl std::fmt::Debug for SavedSession {
    /// Leaves out the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedSession")
            .field("suite", &CipherSuite::from(self.suite))
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sound session; `mark` is in its ticket.
    pub(in crate::resume) fn session(mark: u32, received: u64) -> SavedSession {
        let ticket = [&[4, 0, 0, 17, 0, 0, 0x1c, 0x20, 1, 2, 3, 4, 0, 0, 4][..], &mark.to_be_bytes(), &[0, 0]].concat();
        SavedSession {
            suite: 0x1301,
            received,
            identity: [0; 32],
            alpn: b"h3"[..].into(),
            secret: OkmBlock::new(&[7; 32]),
            ticket: ticket.into(),
            params: [4, 1, 9][..].into(),
            chain: vec![CertificateDer::from(vec![0x30; 100])].into(),
        }
    }

    #[test]
    fn what_is_too_much_or_makes_no_sense_is_not_kept() {
        let sound = session(1, 1_000);
        assert!(sound.is_sound());
        let certificate = |len| CertificateDer::from(vec![0x30; len]);
        let with_ticket = |ticket: Vec<u8>| SavedSession { ticket: ticket.into(), ..sound.clone() };
        let mut no_lifetime = sound.ticket.to_vec();
        no_lifetime[4..8].fill(0);
        let long = TICKET_MESSAGE_MAX as u32 - 4;
        let mut long = [&[4], &long.to_be_bytes()[1..], &[0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
        long.extend_from_slice(&((TICKET_MESSAGE_MAX - 17) as u16).to_be_bytes());
        long.resize(TICKET_MESSAGE_MAX - 2, 5);
        long.extend_from_slice(&[0, 0]);
        assert!(with_ticket(long.clone()).is_sound(), "the longest one");
        let longer = [&long[..2], &[long[2], long[3] + 1], &long[4..], &[0]].concat();
        let unsound = [
            with_ticket(no_lifetime),
            with_ticket(longer),
            with_ticket(vec![]),
            SavedSession { suite: 0x1304, ..sound.clone() },
            SavedSession { suite: 0x1302, ..sound.clone() },
            SavedSession { secret: OkmBlock::new(&[7; 48]), ..sound.clone() },
            SavedSession { alpn: vec![b'a'; 256].into(), ..sound.clone() },
            SavedSession { params: vec![1; SESSION_PARAMS_MAX + 1].into(), ..sound.clone() },
            SavedSession { params: [4, 9, 9][..].into(), ..sound.clone() },
            SavedSession { chain: Arc::new([]), ..sound.clone() },
            SavedSession { chain: vec![certificate(10); CERTIFICATES_MAX + 1].into(), ..sound.clone() },
            SavedSession { chain: vec![certificate(CHAIN_LEN_MAX / 2 + 1); 2].into(), ..sound.clone() },
        ];
        for (number, session) in unsound.into_iter().enumerate() {
            assert!(!session.is_sound(), "number {number}");
        }
    }

    #[test]
    fn a_session_is_valid_from_when_it_came_to_the_end_of_its_lifetime() {
        let two_hours = session(1, 100_000);
        let valid = |session: &SavedSession, now| session.is_valid(now);
        assert!(valid(&two_hours, 100_000) && valid(&two_hours, 107_200) && !valid(&two_hours, 107_201));
        assert!(valid(&two_hours, 100_000 - SESSION_CLOCK_SKEW_SECS), "a clock that was set back a little");
        assert!(!valid(&two_hours, 100_000 - SESSION_CLOCK_SKEW_SECS - 1));
        let mut years = two_hours.clone();
        years.ticket[4..8].fill(0xff);
        assert!(valid(&years, 100_000 + SESSION_LIFETIME_SECS_MAX), "a week at most");
        assert!(!valid(&years, 100_001 + SESSION_LIFETIME_SECS_MAX));
        let end = SavedSession { received: u64::MAX, ..years };
        assert!(!valid(&end, 0) && valid(&end, u64::MAX), "no sum runs over");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", session(1, 1_000)).contains('7'));
    }
}
