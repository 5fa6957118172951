//! Secrets on their way out of TLS: to a key log, and to where this crate derives keys itself.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::KeyLog;

use super::schedule::Secret;

/// A key log that stands between TLS and the one that the user set, and keeps the secrets that are asked for.
pub(crate) struct Tap {
    log: Arc<dyn KeyLog>,
    wanted: Wanted,
    kept: Mutex<Kept>,
}

/// Which secrets to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of the Handshake and 1-RTT levels.
    Traffic,
    /// The one that keying material is exported from.
    Exporter,
}

#[derive(Default)]
struct Kept {
    handshake: [Option<Secret>; 2],
    traffic: [Option<Secret>; 2],
    exporter: Option<Secret>,
}

impl Tap {
    pub(crate) fn new(log: Arc<dyn KeyLog>, wanted: Wanted) -> Arc<Self> {
        Arc::new(Self { log, wanted, kept: Mutex::default() })
    }

    /// The secrets of client and server at the Handshake level.
    pub(crate) fn take_handshake(&self) -> Option<(Secret, Secret)> {
        let [client, server] = &mut self.lock().handshake;
        client.take().zip(server.take())
    }

    /// The secrets of client and server at the 1-RTT level.
    pub(crate) fn take_traffic(&self) -> Option<(Secret, Secret)> {
        let [client, server] = &mut self.lock().traffic;
        client.take().zip(server.take())
    }

    pub(crate) fn take_exporter(&self) -> Option<Secret> {
        self.lock().exporter.take()
    }

    /// One connection's secrets: nobody else asks at the same time, and nothing panics half-way.
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyLog for Tap {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if self.log.will_log(label) {
            self.log.log(label, client_random, secret);
        }
        let mut kept = self.lock();
        let place = match (self.wanted, label) {
            (Wanted::Traffic, "CLIENT_HANDSHAKE_TRAFFIC_SECRET") => &mut kept.handshake[0],
            (Wanted::Traffic, "SERVER_HANDSHAKE_TRAFFIC_SECRET") => &mut kept.handshake[1],
            (Wanted::Traffic, "CLIENT_TRAFFIC_SECRET_0") => &mut kept.traffic[0],
            (Wanted::Traffic, "SERVER_TRAFFIC_SECRET_0") => &mut kept.traffic[1],
            (Wanted::Exporter, "EXPORTER_SECRET") => &mut kept.exporter,
            _ => return,
        };
        *place = Secret::new(secret);
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tap")
    }
}
