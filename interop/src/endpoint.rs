//! Our own stack as an endpoint of the matrix.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use warpline::{ClientConfig, Connection, EarlyData, Endpoint, InterfaceName, ServerConfig, TransportConfig, Version};
use warpline_interop_kit::args::{ClientArgs, ServerArgs};
use warpline_interop_kit::http3::Requests;
use warpline_interop_kit::tls;
use warpline_interop_kit::{Result, client, http3, report};
use warpline_proto::config::{ClientMemory, PreferredAddress, RetryPolicy};

use crate::warpline_peer;

/// Larger than any file of the matrix.
const FILE_LEN_MAX: usize = 1 << 30;
/// A version that nobody speaks (RFC 9000 section 15).
const RESERVED_VERSION: Version = Version(0x1a2a_3a4a);
/// How often the memory of sessions is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Serves until standard input is closed; on AF_XDP if an interface is named.
///
/// # Errors
///
/// For options that the stack lacks, and when the endpoint does not start.
pub async fn server(args: &ServerArgs, interface: Option<InterfaceName>) -> Result<Value> {
    // With --v2 there is nothing to do: a server goes on with the version that the client wants most.
    let config = ServerConfig::with_rustls(Arc::new(tls::server_config(args)?))?;
    let mut config = config.early_data(true)?.transport(transport(args.http3))?;
    if args.retry {
        config.retry = RetryPolicy::Always;
    }
    config.preferred_address = args.preferred.map(|address| match address {
        SocketAddr::V4(v4) => PreferredAddress { v4: Some(v4), v6: None },
        SocketAddr::V6(v6) => PreferredAddress { v4: None, v6: Some(v6) },
    });
    let endpoint = warpline_peer::builder(interface).bind(args.bind).server(config).start()?;
    report::exit_with_parent();
    report::listening(endpoint.local_addr())?;
    if !args.http3 {
        warpline_peer::accept(endpoint, args.root.clone()).await;
        return Ok(Value::Null);
    }
    while let Some(connection) = endpoint.accept().await {
        let root = args.root.clone();
        tokio::spawn(async move { http3::serve(warpline_h3::Connection::new(connection)?, &root).await });
    }
    Ok(Value::Null)
}

/// Fetches what `args` ask for; on AF_XDP if an interface is named.
///
/// # Errors
///
/// For options that the stack lacks, and of the first thing that fails.
pub async fn client(args: &ClientArgs, interface: Option<InterfaceName>) -> Result<Value> {
    let config = ClientConfig::with_rustls(Arc::new(tls::client_config(args, Arc::default())?))?;
    let mut config = config.transport(transport(args.http3))?;
    config.early_data = args.zero_rtt;
    if !args.resume && !args.zero_rtt {
        config.memory = Arc::new(ClientMemory::new(0));
    }
    let mut builder = warpline_peer::builder(interface).bind(any_port(args.connect));
    if args.v2 {
        config.original_version = Some(Version::V1);
        builder = builder.versions([Version::V2, Version::V1]);
    }
    if args.unknown_version {
        config.original_version = Some(RESERVED_VERSION);
    }
    let endpoint = builder.start()?;
    let dialer = Dialer {
        endpoint: endpoint.clone(),
        config: Arc::new(config),
        remote: args.connect,
        name: args.server_name.clone(),
        http3: args.http3,
    };
    let result = client::run(&dialer, args).await;
    endpoint.shutdown(0, b"done").await;
    result
}

fn transport(http3: bool) -> TransportConfig {
    if http3 { warpline_h3::transport_config() } else { TransportConfig::default() }
}

fn any_port(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

struct Dialer {
    endpoint: Endpoint,
    config: Arc<ClientConfig>,
    remote: SocketAddr,
    name: String,
    http3: bool,
}

impl client::Dialer for Dialer {
    type Connection = Opened;

    async fn dial(&self, early: bool) -> Result<Opened> {
        let config = Arc::clone(&self.config);
        let connection = if early {
            self.endpoint.connect_early(self.remote, &self.name, config).await?
        } else {
            self.endpoint.connect(self.remote, &self.name, config).await?
        };
        let http = match self.http3 {
            true => Some(Requests::begin(warpline_h3::Connection::new(connection.clone())?).await?),
            false => None,
        };
        Ok(Opened { connection, http, memory: Arc::clone(&self.config.memory) })
    }

    async fn migrate(&self) -> Result<()> {
        Ok(self.endpoint.rebind(any_port(self.remote)).await?)
    }
}

struct Opened {
    connection: Connection,
    http: Option<Requests<warpline_h3::OpenStreams<Connection>>>,
    memory: Arc<ClientMemory>,
}

impl client::Connection for Opened {
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        if let Some(mut http) = self.http.clone() {
            return http.get(path).await;
        }
        Ok(warpline_peer::get(&self.connection, path, FILE_LEN_MAX).await?)
    }

    async fn update_keys(&self) -> Result<()> {
        Ok(self.connection.update_keys().await?)
    }

    async fn ticket(&self) -> Result<()> {
        while self.memory.stats().sessions == 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn close(self) -> Result<Value> {
        let stats = self.connection.stats().await?;
        let early = self.connection.early_data().await?;
        self.connection.close(0, b"done");
        Ok(json!({
            "early_data": early == EarlyData::Accepted,
            "key_updates": stats.key_updates,
            "packets_lost": stats.packets_lost,
            "packets_dropped": stats.packets_dropped,
            "probe_timeouts": stats.probe_timeouts,
            "mtu": stats.mtu,
        }))
    }
}
