//! Session tickets with s2n-tls: the server makes them, the client offers the latest to every connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use s2n_tls::callbacks::{ConnectionFuture, SessionTicket, SessionTicketCallback};
use s2n_tls::config::{Builder, ConnectionInitializer};
use s2n_tls::connection::Connection;
use s2n_tls::error::Error;
use tokio::sync::Notify;
use warpline_interop_kit::Result;

/// The key of the tickets lives as long as a run between two processes of one machine.
const TICKET_KEY: [u8; 32] = [0x5a; 32];

/// Lets the server give out tickets.
pub fn enable_server(config: &mut Builder) -> Result<()> {
    config.enable_session_tickets(true)?.add_session_ticket_key(b"interop", &TICKET_KEY, SystemTime::now())?;
    Ok(())
}

/// Lets the client use `tickets`.
pub fn enable_client(config: &mut Builder, tickets: &Arc<Tickets>) -> Result<()> {
    config
        .enable_session_tickets(true)?
        .set_session_ticket_callback(Handler(Arc::clone(tickets)))?
        .set_connection_initializer(Handler(Arc::clone(tickets)))?;
    Ok(())
}

/// The latest ticket of a client.
#[derive(Debug, Default)]
pub struct Tickets {
    latest: Mutex<Option<Vec<u8>>>,
    arrived: Notify,
}

impl Tickets {
    /// Waits until there is a ticket.
    pub async fn available(&self) {
        while self.latest().is_none() {
            self.arrived.notified().await;
        }
    }

    fn latest(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Handler(Arc<Tickets>);

impl SessionTicketCallback for Handler {
    fn on_session_ticket(&self, _: &mut Connection, ticket: &SessionTicket) {
        let Ok(length) = ticket.len() else { return };
        let mut data = vec![0; length];
        if ticket.data(&mut data).is_ok() {
            *self.0.latest() = Some(data);
            self.0.arrived.notify_one();
        }
    }
}

impl ConnectionInitializer for Handler {
    fn initialize_connection(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Pin<Box<dyn ConnectionFuture>>>, Error> {
        if let Some(ticket) = &*self.0.latest() {
            connection.set_session_ticket(ticket)?;
        }
        Ok(None)
    }
}
