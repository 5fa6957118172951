//! What the stack itself says about its connections.

use std::sync::{Arc, Mutex, PoisonError};

use s2n_quic::provider::event::events::{CipherSuite, KeyUpdate, MtuUpdated};
use s2n_quic::provider::event::{ConnectionInfo, ConnectionMeta, Subscriber, events};

/// The latest of each.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Largest UDP payload in bytes.
    pub payload: Option<u64>,
    /// Cipher suite.
    pub cipher: Option<String>,
}

/// Listens to the few rare events that tell.
#[derive(Debug, Clone, Default)]
pub struct FactFinder(Arc<Mutex<Facts>>);

impl FactFinder {
    /// What is known by now.
    pub fn facts(&self) -> Facts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Facts)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Subscriber for FactFinder {
    type ConnectionContext = ();

    fn create_connection_context(&mut self, _: &ConnectionMeta, _: &ConnectionInfo) {}

    fn on_mtu_updated(&mut self, (): &mut (), _: &ConnectionMeta, event: &MtuUpdated) {
        self.note(|facts| facts.payload = Some(event.mtu.into()));
    }

    fn on_key_update(&mut self, (): &mut (), _: &ConnectionMeta, event: &KeyUpdate) {
        if let events::KeyType::OneRtt { .. } = event.key_type {
            let cipher = match event.cipher_suite {
                CipherSuite::TLS_AES_128_GCM_SHA256 { .. } => "TLS_AES_128_GCM_SHA256",
                CipherSuite::TLS_AES_256_GCM_SHA384 { .. } => "TLS_AES_256_GCM_SHA384",
                CipherSuite::TLS_CHACHA20_POLY1305_SHA256 { .. } => "TLS_CHACHA20_POLY1305_SHA256",
                _ => "unknown",
            };
            self.note(|facts| facts.cipher = Some(cipher.to_owned()));
        }
    }
}
