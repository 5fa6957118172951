//! s2n-quic's calls behind the load program's traits.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use s2n_quic::application::Error as CloseCode;
use s2n_quic::client::Connect;
use s2n_quic::connection::{Handle, StreamAcceptor};
use s2n_quic::provider::datagram::default::{Receiver, Sender};
use s2n_quic::provider::tls::s2n_tls;
use s2n_quic::stream::{ReceiveStream, SendStream};
use s2n_quic::{Client, Connection as Established};
use tokio::sync::Mutex;
use warpline_peer_kit::load::{Connection, Dialer, Outcome, ReadBuffers, RecvHalf, SendHalf};
use warpline_peer_kit::{ALPN, ClientArgs, Result, SERVER_NAME, Scenario};

use crate::facts::{FactFinder, Facts};
use crate::resumption::{self, Tickets};

/// Opens connections from one endpoint.
#[derive(Clone)]
pub struct S2nDialer {
    client: Client,
    remote: SocketAddr,
    facts: FactFinder,
    /// Only if connections are to be resumed.
    tickets: Option<Arc<Tickets>>,
}

impl S2nDialer {
    /// A dialer as the scenario needs it.
    pub fn new(args: &ClientArgs) -> Result<Self> {
        let remote = args.address()?;
        let tickets = (args.scenario == Scenario::Resume).then(Arc::<Tickets>::default);
        let mut tls = s2n_tls::Client::builder()
            .with_empty_trust_store()?
            .with_certificate(args.ca.as_path())?
            .with_application_protocols([ALPN])?;
        if let Some(tickets) = &tickets {
            resumption::enable_client(tls.config_mut(), tickets)?;
        }
        let local = SocketAddr::new(if remote.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        let facts = FactFinder::default();
        let client = Client::builder()
            .with_tls(tls.build()?)?
            .with_io(crate::io(local, args.payload)?)?
            .with_limits(crate::limits(args.window)?)?
            .with_datagram(crate::datagrams()?)?
            .with_event(facts.clone())?
            .start()?;
        Ok(Self { client, remote, facts, tickets })
    }

    fn full_handshakes(&self) -> u64 {
        self.tickets.as_ref().map_or(0, |tickets| tickets.full_handshakes())
    }
}

impl Dialer for S2nDialer {
    type Connection = S2nConnection;

    async fn dial(&self) -> Result<S2nConnection> {
        let full_before = self.full_handshakes();
        let connection = self.client.connect(Connect::new(self.remote).with_server_name(SERVER_NAME)).await?;
        // Other slots share the count: one full handshake may count as several fallbacks, never as none.
        let resumed = self.full_handshakes() == full_before;
        Ok(S2nConnection::new(connection, Some((self.facts.clone(), resumed))))
    }

    async fn dial_early(&self) -> Result<S2nConnection> {
        Err("s2n-quic has no 0-RTT".into())
    }

    fn with_own_tickets(&self) -> Result<Self> {
        // Tickets serve more than once, so there is nothing to keep apart.
        Ok(self.clone())
    }

    async fn ticket(&self, _: &S2nConnection) -> Result<()> {
        if let Some(tickets) = &self.tickets {
            tickets.available().await;
        }
        Ok(())
    }
}

/// What a client knows beside the connection: what the stack says, and whether the handshake was a resumed one.
type Context = Option<(FactFinder, bool)>;

/// A connection of either side.
#[derive(Clone)]
pub struct S2nConnection {
    handle: Handle,
    acceptor: Arc<Mutex<StreamAcceptor>>,
    context: Context,
}

impl S2nConnection {
    /// Wraps a connection; `context` is the client's.
    pub fn new(connection: Established, context: Context) -> Self {
        let (handle, acceptor) = connection.split();
        Self { handle, acceptor: Arc::new(Mutex::new(acceptor)), context }
    }

    fn facts(&self) -> Option<Facts> {
        self.context.as_ref().map(|(facts, _)| facts.facts())
    }
}

impl Connection for S2nConnection {
    type Send = S2nSend;
    type Recv = S2nRecv;

    async fn open(&self) -> Result<(S2nSend, S2nRecv)> {
        let (recv, send) = self.handle.clone().open_bidirectional_stream().await?.split();
        Ok((S2nSend(send), S2nRecv(recv)))
    }

    async fn accept(&self) -> Option<(S2nSend, S2nRecv)> {
        let stream = self.acceptor.lock().await.accept_bidirectional_stream().await.ok()??;
        let (recv, send) = stream.split();
        Some((S2nSend(send), S2nRecv(recv)))
    }

    async fn send_datagram(&self, mut data: Bytes) -> Result<()> {
        poll_fn(|cx| match self.handle.datagram_mut(|sender: &mut Sender| sender.poll_send_datagram(&mut data, cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(sent)) => Poll::Ready(sent.map_err(|error| error.to_string().into())),
            Err(error) => Poll::Ready(Err(error.to_string().into())),
        })
        .await
    }

    async fn recv_datagram(&self) -> Option<Bytes> {
        poll_fn(|cx| match self.handle.datagram_mut(|receiver: &mut Receiver| receiver.poll_recv_datagram(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(received)) => Poll::Ready(received.ok()),
            Err(_) => Poll::Ready(None),
        })
        .await
    }

    fn close(&self) {
        self.handle.close(CloseCode::UNKNOWN);
    }

    fn received_payload(&self) -> Option<u64> {
        // Both sides start with the size of the run, and neither has a way to find a larger one.
        self.facts()?.payload
    }

    fn sent_payload(&self) -> Option<u64> {
        self.facts()?.payload
    }

    fn cipher(&self) -> Option<String> {
        self.facts()?.cipher
    }

    async fn outcome(&self) -> Outcome {
        match &self.context {
            Some((_, false)) => Outcome::Fallback,
            _ => Outcome::AsAsked,
        }
    }
}

/// The sending half of a stream.
pub struct S2nSend(SendStream);

impl SendHalf for S2nSend {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.send(data).await?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.0.finish()?)
    }
}

/// The receiving half of a stream.
pub struct S2nRecv(ReceiveStream);

impl RecvHalf for S2nRecv {
    async fn read(&mut self, buffers: &mut ReadBuffers) -> Result<Option<usize>> {
        // It takes empty buffers only.
        buffers.iter_mut().filter(|buffer| !buffer.is_empty()).for_each(|buffer| *buffer = Bytes::new());
        let (filled, open) = self.0.receive_vectored(buffers).await?;
        Ok((filled > 0 || open).then_some(filled))
    }
}
