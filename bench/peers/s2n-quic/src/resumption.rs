//! Session tickets with s2n-tls: the server makes them, the client keeps the latest and offers it to every connection.
//! The server keeps no state of tickets, so a ticket serves more than once. Servers do not send one on every resumed
//! connection, so a client that waited for a new one each time would wait in vain.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use s2n_tls::callbacks::{ConnectionFuture, SessionTicket, SessionTicketCallback, VerifyHostNameCallback};
use s2n_tls::config::{Builder, ConnectionInitializer};
use s2n_tls::connection::Connection;
use s2n_tls::error::Error;
use tokio::sync::Notify;
use warpline_peer_kit::{Result, SERVER_NAME};

/// The key of the tickets lives as long as a run, which nobody listens to.
const TICKET_KEY: [u8; 32] = [0x5a; 32];

/// Lets the server give out tickets.
pub fn enable_server(config: &mut Builder) -> Result<()> {
    config.enable_session_tickets(true)?.add_session_ticket_key(b"bench", &TICKET_KEY, SystemTime::now())?;
    Ok(())
}

/// Lets the client use `tickets`.
pub fn enable_client(config: &mut Builder, tickets: &Arc<Tickets>) -> Result<()> {
    config
        .enable_session_tickets(true)?
        .set_session_ticket_callback(Handler(tickets.clone()))?
        .set_connection_initializer(Handler(tickets.clone()))?
        .set_verify_host_callback(Handler(tickets.clone()))?;
    Ok(())
}

/// The latest ticket of a client.
#[derive(Debug, Default)]
pub struct Tickets {
    latest: Mutex<Option<Vec<u8>>>,
    arrived: Notify,
    full_handshakes: AtomicU64,
}

impl Tickets {
    /// Waits until there is a ticket.
    pub async fn available(&self) {
        loop {
            let arrived = self.arrived.notified();
            if self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return;
            }
            arrived.await;
        }
    }

    /// Full handshakes so far, counted where the certificate's name is verified, which resumed handshakes do not do.
    pub fn full_handshakes(&self) -> u64 {
        self.full_handshakes.load(Ordering::Relaxed)
    }
}

struct Handler(Arc<Tickets>);

impl SessionTicketCallback for Handler {
    fn on_session_ticket(&self, _: &mut Connection, ticket: &SessionTicket) {
        let Ok(length) = ticket.len() else { return };
        let mut data = vec![0; length];
        if ticket.data(&mut data).is_ok() {
            *self.0.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(data);
            self.0.arrived.notify_waiters();
        }
    }
}

impl ConnectionInitializer for Handler {
    fn initialize_connection(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Pin<Box<dyn ConnectionFuture>>>, Error> {
        if let Some(ticket) = &*self.0.latest.lock().unwrap_or_else(PoisonError::into_inner) {
            connection.set_session_ticket(ticket)?;
        }
        Ok(None)
    }
}

impl VerifyHostNameCallback for Handler {
    fn verify_host_name(&self, name: &str) -> bool {
        self.0.full_handshakes.fetch_add(1, Ordering::Relaxed);
        name == SERVER_NAME
    }
}
