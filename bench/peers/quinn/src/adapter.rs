//! The stack's calls behind the load program's traits.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::stack::crypto::rustls::QuicClientConfig;
use crate::stack::{self, ClientConfig, Endpoint, RecvStream, SendStream, TransportConfig, VarInt, ZeroRttAccepted};
use bytes::Bytes;
use tokio::sync::Mutex;
use warpline_peer_kit::load::{Connection, Dialer, Outcome, ReadBuffers, RecvHalf, SendHalf};
use warpline_peer_kit::tls::{self, Tickets};
use warpline_peer_kit::{Result, SERVER_NAME};

/// Opens connections from one endpoint.
pub struct PeerDialer {
    endpoint: Endpoint,
    remote: SocketAddr,
    ca: PathBuf,
    transport: Arc<TransportConfig>,
    config: ClientConfig,
    tickets: Option<Arc<Tickets>>,
}

impl PeerDialer {
    /// A dialer of full handshakes.
    pub fn new(endpoint: Endpoint, remote: SocketAddr, ca: PathBuf, transport: Arc<TransportConfig>) -> Result<Self> {
        let config = client_config(&ca, None, &transport)?;
        Ok(Self { endpoint, remote, ca, transport, config, tickets: None })
    }

    fn opened(
        &self,
        connection: stack::Connection,
        early: Option<ZeroRttAccepted>,
        full_before: u64,
    ) -> PeerConnection {
        PeerConnection {
            connection,
            early: Arc::new(Mutex::new(early)),
            tickets: self.tickets.clone().map(|tickets| (tickets, full_before)),
        }
    }

    fn full_handshakes(&self) -> u64 {
        self.tickets.as_ref().map_or(0, |tickets| tickets.full_handshakes())
    }
}

fn client_config(ca: &Path, tickets: Option<Arc<Tickets>>, transport: &Arc<TransportConfig>) -> Result<ClientConfig> {
    let tls = QuicClientConfig::try_from(tls::client_config(ca, tickets)?)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport.clone());
    Ok(config)
}

impl Dialer for PeerDialer {
    type Connection = PeerConnection;

    async fn dial(&self) -> Result<PeerConnection> {
        let full_before = self.full_handshakes();
        let connecting = self.endpoint.connect_with(self.config.clone(), self.remote, SERVER_NAME)?;
        Ok(self.opened(connecting.await?, None, full_before))
    }

    async fn dial_early(&self) -> Result<PeerConnection> {
        let full_before = self.full_handshakes();
        let connecting = self.endpoint.connect_with(self.config.clone(), self.remote, SERVER_NAME)?;
        match connecting.into_0rtt() {
            Ok((connection, accepted)) => Ok(self.opened(connection, Some(accepted), full_before)),
            // No ticket: counts as a fallback, whatever the handshake becomes.
            Err(connecting) => Ok(self.opened(connecting.await?, None, u64::MAX)),
        }
    }

    fn with_own_tickets(&self) -> Result<Self> {
        let tickets = Arc::new(Tickets::default());
        Ok(Self {
            endpoint: self.endpoint.clone(),
            remote: self.remote,
            ca: self.ca.clone(),
            transport: self.transport.clone(),
            config: client_config(&self.ca, Some(tickets.clone()), &self.transport)?,
            tickets: Some(tickets),
        })
    }

    async fn ticket(&self, _: &PeerConnection) -> Result<()> {
        if let Some(tickets) = &self.tickets {
            tickets.available().await;
        }
        Ok(())
    }
}

/// A connection of either side.
#[derive(Clone)]
pub struct PeerConnection {
    connection: stack::Connection,
    early: Arc<Mutex<Option<ZeroRttAccepted>>>,
    /// The dialer's tickets, and the full handshakes it had made before this connection.
    tickets: Option<(Arc<Tickets>, u64)>,
}

impl PeerConnection {
    /// The server's side of a connection.
    pub fn accepted(connection: stack::Connection) -> Self {
        Self { connection, early: Arc::default(), tickets: None }
    }
}

impl Connection for PeerConnection {
    type Send = PeerSend;
    type Recv = PeerRecv;

    async fn open(&self) -> Result<(PeerSend, PeerRecv)> {
        let (send, recv) = self.connection.open_bi().await?;
        Ok((PeerSend(send), PeerRecv(recv)))
    }

    async fn accept(&self) -> Option<(PeerSend, PeerRecv)> {
        let (send, recv) = self.connection.accept_bi().await.ok()?;
        Some((PeerSend(send), PeerRecv(recv)))
    }

    async fn send_datagram(&self, data: Bytes) -> Result<()> {
        Ok(self.connection.send_datagram_wait(data).await?)
    }

    async fn recv_datagram(&self) -> Option<Bytes> {
        self.connection.read_datagram().await.ok()
    }

    fn close(&self) {
        self.connection.close(VarInt::from_u32(0), &[]);
    }

    fn received_payload(&self) -> Option<u64> {
        let received = self.connection.stats().udp_rx;
        received.bytes.checked_div(received.datagrams)
    }

    fn sent_payload(&self) -> Option<u64> {
        let sent = self.connection.stats().udp_tx;
        sent.bytes.checked_div(sent.datagrams)
    }

    async fn outcome(&self) -> Outcome {
        let early = self.early.lock().await.take();
        let refused = match early {
            Some(accepted) => !accepted.await,
            None => false,
        };
        match &self.tickets {
            Some((tickets, before)) if refused || tickets.full_handshakes() != *before => Outcome::Fallback,
            _ => Outcome::AsAsked,
        }
    }
}

/// The sending half of a stream.
pub struct PeerSend(SendStream);

impl SendHalf for PeerSend {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.write_chunk(data).await?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish()?)
    }
}

/// The receiving half of a stream.
pub struct PeerRecv(RecvStream);

impl RecvHalf for PeerRecv {
    async fn read(&mut self, buffers: &mut ReadBuffers) -> Result<Option<usize>> {
        Ok(crate::read_chunks(&mut self.0, buffers).await?)
    }
}
