//! The memory as TLS sees it on one connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;
use warpline_wire::Version;

use super::memory::{ClientMemory, Remembered, ServerKey};
use super::saved::SavedSession;
use crate::config::ClientConfig;
use crate::crypto::portable::{ClientIdentity, revive};

/// A client's memory, bound to a port and to a version, which may yet change.
#[derive(Debug)]
pub(crate) struct SessionView {
    memory: Arc<ClientMemory>,
    port: u16,
    version: AtomicU32,
    portable: Option<Portable>,
}

/// What a connection whose sessions outlive the process has beside the rest.
#[derive(Debug)]
struct Portable {
    tls: Arc<rustls::ClientConfig>,
    identity: ClientIdentity,
    /// What TLS has made of a ticket, until the rest is known of it.
    fresh: Mutex<Option<(ServerKey, Tls13ClientSessionValue)>>,
}

impl SessionView {
    pub(crate) fn new(config: &ClientConfig, port: u16, version: Version) -> Self {
        let portable = |identity| Portable { tls: config.tls.clone(), identity, fresh: Mutex::default() };
        Self {
            memory: config.memory.clone(),
            port,
            version: AtomicU32::new(version.0),
            portable: config.portable.map(portable),
        }
    }

    /// Tickets that come from now on are of `version` (RFC 9369 section 5).
    pub(crate) fn set_version(&self, version: Version) {
        self.version.store(version.0, Ordering::Relaxed);
    }

    /// Keeps the session that came of a ticket, with what `save` makes of it for other processes.
    pub(crate) fn settle(&self, save: impl FnOnce(&Tls13ClientSessionValue, ClientIdentity) -> Option<SavedSession>) {
        let Some(portable) = &self.portable else { return };
        let fresh = portable.fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((key, live)) = fresh {
            let saved = save(&live, portable.identity).filter(SavedSession::is_sound).map(Box::new);
            self.memory.put_session(key, Remembered { live: Some(live), saved });
        }
    }

    fn key(&self, name: &ServerName<'_>) -> ServerKey {
        ServerKey::new(name, self.port, Version(self.version.load(Ordering::Relaxed)))
    }
}

impl Portable {
    /// True for a session of the client that this one is, for a protocol that it offers: early data is of the protocol that the
    /// session was for (RFC 8446 section 4.2.10).
    fn fits(&self, saved: &SavedSession) -> bool {
        let offered = &self.tls.alpn_protocols;
        let is_offered = offered.iter().any(|alpn| alpn[..] == saved.alpn[..]);
        saved.identity == self.identity && (is_offered || offered.is_empty() && saved.alpn.is_empty())
    }
}

impl ClientSessionStore for SessionView {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.memory.set_group(self.key(&name), group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.memory.group(&self.key(name))
    }

    // QUIC has no TLS 1.2.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let key = self.key(&name);
        match &self.portable {
            Some(portable) => {
                *portable.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, value));
            }
            None => self.memory.put_session(key, Remembered { live: Some(value), saved: None }),
        }
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let key = self.key(name);
        let fits = |saved: &SavedSession| self.portable.as_ref().is_some_and(|portable| portable.fits(saved));
        // Each turn takes one out, and there are few of one server.
        loop {
            let Remembered { live, saved } = self.memory.take_session(&key, fits)?;
            if live.is_some() {
                return live;
            }
            let (portable, saved) = (self.portable.as_ref()?, saved?);
            match revive(&portable.tls, &saved, name.clone()) {
                Ok(live) => return Some(live),
                Err(error) => tracing::debug!(server = %key.name, %error, "a kept session is of no use"),
            }
        }
    }
}
