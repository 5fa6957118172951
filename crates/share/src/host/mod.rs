//! The host: shares a directory or a file with whoever holds the code.

mod ahead;
mod compare;
mod open;
mod outboard;
mod producer;
mod reading;
mod scan;
mod session;
mod source;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use warpline::{Endpoint, ServerConfig};

use self::outboard::Outboards;
pub use self::reading::{FileIo, Reading};
use self::source::Source;
use crate::code::{FINGERPRINT_LEN, JoinCode, SECRET_LEN};
use crate::error::ShareError;
use crate::identity::ShareIdentity;
use crate::limits::{FAILED_PROOFS_MAX, FAILED_PROOFS_PAUSE, SESSIONS_MAX};
use crate::message::ALPN;
use crate::net::NetOptions;

/// What to share and how.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The directory or file.
    pub root: PathBuf,
    /// Where key, secret and port are kept.
    pub state_dir: PathBuf,
    /// Address to bind; port 0 takes the one of the last run if it is free.
    pub bind: SocketAddr,
    /// How the network is used.
    pub net: NetOptions,
    /// How files are read.
    pub files: FileIo,
}

/// A share that is being served.
pub struct Host {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    code: JoinCode,
}

/// What all sessions of a host share.
pub(crate) struct Shared {
    pub(crate) source: Source,
    pub(crate) outboards: Outboards,
    pub(crate) reading: Reading,
    pub(crate) secret: [u8; SECRET_LEN],
    sessions: Arc<Semaphore>,
    counters: HostCounters,
    gate: Gate,
}

/// What a host has done, all receivers together.
#[derive(Debug, Default)]
pub struct HostCounters {
    /// Receivers that were let in.
    pub receivers: AtomicU64,
    /// Receivers that are connected now.
    pub active: AtomicU64,
    /// Bytes of files sent.
    pub bytes: AtomicU64,
    /// Ranges of files served.
    pub wants: AtomicU64,
    /// Bytes of files hashed; less than was sent where the host remembered their hashes.
    pub hashed: AtomicU64,
    /// Receivers that did not know the secret.
    pub refused: AtomicU64,
}

/// Slows down who guesses.
struct Gate {
    failed: AtomicU32,
    started: Instant,
    /// Milliseconds after `started` until which newcomers are refused.
    closed_until: AtomicU64,
}

impl Gate {
    fn is_open(&self) -> bool {
        self.started.elapsed().as_millis() as u64 >= self.closed_until.load(Ordering::Relaxed)
    }

    fn on_failure(&self) {
        if (self.failed.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(FAILED_PROOFS_MAX) {
            let until = self.started.elapsed() + FAILED_PROOFS_PAUSE;
            self.closed_until.store(until.as_millis() as u64, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn new(source: Source, outboards: Outboards, reading: Reading, secret: [u8; SECRET_LEN]) -> Self {
        Self {
            source,
            outboards,
            reading,
            secret,
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            counters: HostCounters::default(),
            gate: Gate { failed: AtomicU32::new(0), started: Instant::now(), closed_until: AtomicU64::new(0) },
        }
    }

    pub(crate) fn counters(&self) -> &HostCounters {
        &self.counters
    }
}

impl Host {
    /// Begins to serve.
    ///
    /// # Errors
    /// The path cannot be shared, the address cannot be bound, the state directory cannot be used, or files cannot be read as was asked for.
    pub fn open(options: &HostOptions) -> Result<Self, ShareError> {
        let reading =
            Reading::choose(options.files).map_err(|what| ShareError::Misuse { path: options.root.clone(), what })?;
        let root =
            options.root.canonicalize().map_err(|e| ShareError::io(options.root.display(), "cannot be shared", e))?;
        let source = Source::open(&root)?;
        let mut identity = ShareIdentity::load_or_create(&options.state_dir, &root)?;
        let endpoint = bind(options, &identity)?;
        identity.set_port(endpoint.local_addr().port())?;
        let mut fingerprint = [0; FINGERPRINT_LEN];
        fingerprint.copy_from_slice(&identity.tls.fingerprint().0[..FINGERPRINT_LEN]);
        let addresses = reachable_addresses(endpoint.local_addr());
        let code = JoinCode { addresses, fingerprint, secret: identity.secret };
        let outboards = Outboards::open(&options.state_dir);
        let shared = Arc::new(Shared::new(source, outboards, reading, identity.secret));
        Ok(Self { endpoint, shared, code })
    }

    /// What receivers need.
    pub fn code(&self) -> &JoinCode {
        &self.code
    }

    /// The address that is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// What was done so far.
    pub fn counters(&self) -> &HostCounters {
        &self.shared.counters
    }

    /// How files are read.
    pub fn reading(&self) -> &Reading {
        &self.shared.reading
    }

    /// The endpoint, for its counters.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Serves receivers until the endpoint is closed.
    pub async fn run(&self) {
        while let Some(connection) = self.endpoint.accept().await {
            let shared = self.shared.clone();
            let Ok(permit) = shared.sessions.clone().try_acquire_owned() else {
                connection.close(1, b"too many receivers");
                continue;
            };
            if !shared.gate.is_open() {
                connection.close(1, b"too many wrong codes, try again later");
                continue;
            }
            tokio::spawn(async move {
                let _permit = permit;
                shared.counters.active.fetch_add(1, Ordering::Relaxed);
                let outcome = session::serve(&shared, &connection).await;
                shared.counters.active.fetch_sub(1, Ordering::Relaxed);
                if let Err(error) = outcome {
                    if matches!(error, ShareError::WrongSecret) {
                        shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                        shared.gate.on_failure();
                    }
                    tracing::info!(remote = %connection.remote(), %error, "a receiver's session ended");
                    connection.close(1, b"");
                }
            });
        }
    }

    /// Closes all connections and waits until the receivers know.
    pub async fn shutdown(&self) {
        self.endpoint.shutdown(0, b"the host stops").await;
    }
}

/// Binds the wanted port; where none is named, the last run's if it is still free.
fn bind(options: &HostOptions, identity: &ShareIdentity) -> Result<Endpoint, ShareError> {
    let misuse = |what: String| ShareError::Misuse { path: options.root.clone(), what };
    let chain = vec![identity.tls.certificate.clone()];
    let server = ServerConfig::with_packet_crypto(options.net.crypto, chain, identity.tls.key(), &[ALPN])
        .and_then(|config| options.net.server(config))
        .map_err(|e| misuse(e.to_string()))?;
    let server = Arc::new(server);
    let start = |address: SocketAddr| {
        let builder = options.net.endpoint().bind(address);
        builder.secret(identity.endpoint_secret()).server(server.clone()).start()
    };
    if options.bind.port() == 0 && identity.port != 0 {
        let mut last = options.bind;
        last.set_port(identity.port);
        match start(last) {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => {
                tracing::warn!(%error, "the port of the last run is taken; codes given out before will not work")
            }
        }
    }
    start(options.bind).map_err(|e| misuse(format!("cannot serve on {}: {e}", options.bind)))
}

/// The addresses to put into the code: the one that is bound, or, when that is all of them, those that packets would leave from.
fn reachable_addresses(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let mut found: Vec<IpAddr> = interface_addresses();
    // The address towards the rest of the world first. Connecting a datagram socket sends nothing.
    for probe in ["192.0.2.1:9", "[2001:db8::1]:9"] {
        let any = if probe.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let source = UdpSocket::bind(any).and_then(|s| s.connect(probe).and_then(|()| s.local_addr()));
        if let Ok(source) = source {
            found.retain(|ip| *ip != source.ip());
            found.insert(0, source.ip());
        }
    }
    found.retain(|ip| bound.is_ipv6() || ip.is_ipv4());
    if found.is_empty() {
        found.push(IpAddr::from([127, 0, 0, 1]));
    }
    found.truncate(4);
    found.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

/// Addresses of the machine's interfaces that another machine could use.
fn interface_addresses() -> Vec<IpAddr> {
    let mut out = Vec::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let ip = interface.ip();
        let link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if !interface.is_loopback() && !link_local {
            out.push(ip);
        }
    }
    out
}
