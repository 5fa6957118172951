//! A kept session becomes one of TLS again: by a handshake in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::quic::{ClientConnection, Connection, ServerConnection, Version};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, Error, NamedGroup, NoKeyLog};
use rustls_pki_types::{ServerName, UnixTime};
use zeroize::Zeroizing;

use super::suites::{listen, nonce_for};
use super::ticket::NewTicket;
use super::trust::Voucher;
use crate::resume::SavedSession;

/// Flights that a handshake without detours takes, and one to spare.
const FLIGHTS_MAX: usize = 8;

/// The group of keys that is exchanged: the cheapest one, since nothing depends on it.
const GROUP: NamedGroup = NamedGroup::X25519;

/// Makes the session that TLS would have if the server had given it the ticket under this configuration.
///
/// # Errors
/// The chain is not trusted (any more), or the configuration lacks what the session takes, such as its cipher suite.
pub(crate) fn revive(
    tls: &rustls::ClientConfig,
    saved: &SavedSession,
    name: ServerName<'static>,
) -> Result<Tls13ClientSessionValue, Error> {
    let ticket = NewTicket::parse(&saved.ticket).ok_or_else(|| general("no ticket"))?;
    let nonce = nonce_for(&saved.secret).ok_or_else(|| general("portable sessions were not asked for"))?;
    let message = Zeroizing::new(ticket.with_nonce(&nonce).ok_or_else(|| general("a secret that is too long"))?);

    let clock = Arc::new(Clock { real: tls.time_provider.clone(), told: AtomicU64::new(Clock::REAL) });
    let caught = Arc::new(Catch::default());
    let mut config = tls.clone();
    config.time_provider = clock.clone();
    config.resumption = Resumption::store(caught.clone());
    config.key_log = Arc::new(NoKeyLog {});
    config.alpn_protocols = Vec::new();
    config.enable_early_data = false;
    let mut client: Connection = ClientConnection::new(Arc::new(config), Version::V1, name, Vec::new())?.into();
    let mut server: Connection = server(tls, saved)?.into();
    shake_hands(&mut client, &mut server)?;

    clock.told.store(saved.received, Ordering::Relaxed);
    let (result, secret) = listen(|| client.read_hs(&message));
    result?;
    // A session with another secret would not be refused by the server: it would end the connection.
    if secret.is_none_or(|secret| secret.as_ref() != saved.secret.as_ref()) {
        return Err(general("the secret was not taken"));
    }
    caught.take().ok_or_else(|| general("the ticket was not taken"))
}

fn general(why: &str) -> Error {
    Error::General(why.into())
}

/// A server that shows the chain that the real one showed, speaks the suite of the session and says the parameters that it
/// said.
fn server(tls: &rustls::ClientConfig, saved: &SavedSession) -> Result<ServerConnection, Error> {
    let mut provider = (**tls.crypto_provider()).clone();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::from(saved.suite));
    provider.kx_groups.retain(|group| group.name() == GROUP);
    let shown = Arc::new(CertifiedKey::new(saved.chain.to_vec(), Arc::new(Voucher)));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown(shown)));
    config.send_tls13_tickets = 0;
    ServerConnection::new(Arc::new(config), Version::V1, saved.params.to_vec())
}

fn shake_hands(client: &mut Connection, server: &mut Connection) -> Result<(), Error> {
    for _ in 0..FLIGHTS_MAX {
        hand_over(client, server)?;
        hand_over(server, client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err(general("a handshake in memory came to no end"))
}

fn hand_over(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = Vec::new();
    // What is written up to a change of keys is of one level.
    loop {
        bytes.clear();
        let change = from.write_hs(&mut bytes);
        to.read_hs(&bytes)?;
        if change.is_none() && bytes.is_empty() {
            return Ok(());
        }
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The time, until another one is told: the ticket came when it came.
#[derive(Debug)]
struct Clock {
    real: Arc<dyn TimeProvider>,
    /// In seconds since 1970.
    told: AtomicU64,
}

impl Clock {
    const REAL: u64 = u64::MAX;
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        match self.told.load(Ordering::Relaxed) {
            Self::REAL => self.real.current_time(),
            told => Some(UnixTime::since_unix_epoch(Duration::from_secs(told))),
        }
    }
}

/// Takes the one session that comes.
#[derive(Debug, Default)]
struct Catch(Mutex<Option<Tls13ClientSessionValue>>);

impl Catch {
    fn take(&self) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientSessionStore for Catch {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        Some(GROUP)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
