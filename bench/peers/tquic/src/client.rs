//! The client's loop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tquic::{Connection, Endpoint, TransportHandler};
use warpline_peer_kit::driven::{ClientSession, Inbox, Plan, Step, Tick, Wire};
use warpline_peer_kit::{ClientArgs, Result, SERVER_NAME, Scenario, exit_on_stdin_eof};

use crate::config;
use crate::link::TquicLink;
use crate::sender::Sender;
use crate::server::{read, wait};

/// What the loop and tquic's callbacks share.
struct Shared {
    plan: Rc<Plan>,
    sessions: HashMap<u64, ClientSession>,
    buffer: Vec<u8>,
    /// Whether the connection that is being opened has a ticket.
    with_ticket: bool,
    failure: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Runs the scenario of `args` and prints its report.
pub fn run(args: ClientArgs) -> Result<()> {
    let remote = args.address()?;
    let any = SocketAddr::new(if remote.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let wire = Rc::new(Wire::bind(any)?);
    let config = config::client(&args.ca, args.payload, args.window)?;
    let sender = Rc::new(Sender::new(wire.clone(), args.payload));
    let plan = Plan::new(args);
    let shared = Rc::new(RefCell::new(Shared {
        plan: plan.clone(),
        sessions: HashMap::new(),
        buffer: vec![0; 64 << 10],
        with_ticket: false,
        failure: None,
    }));
    let handler = Box::new(Handler(shared.clone()));
    let mut client = Client {
        endpoint: Endpoint::new(Box::new(config), false, handler, sender),
        shared,
        local: wire.local(),
        remote,
    };
    let mut inbox = Inbox::default();
    let mut open = 0;
    loop {
        for _ in 0..plan.to_open(open) {
            client.open(None)?;
            open += 1;
        }
        client.endpoint.process_connections()?;
        wait(&wire, &client.endpoint, plan.patience())?;
        read(&wire, &mut inbox, &mut client.endpoint)?;
        client.endpoint.on_timeout(Instant::now());
        client.endpoint.process_connections()?;
        if let Some(failure) = client.shared.borrow_mut().failure.take() {
            return Err(failure);
        }
        if plan.redials() || plan.args.scenario == Scenario::SmallMsg {
            client.turn()?;
        }
        match plan.tick(Instant::now()) {
            None => {}
            Some(Tick::Ask) => return Err("tquic has no datagrams".into()),
            Some(Tick::Over(mut report)) => {
                if plan.args.is_bulk() {
                    report.udp_payload = wire.full_packet();
                }
                report.print()?;
                if plan.args.scenario != Scenario::Idle {
                    return Ok(());
                }
                exit_on_stdin_eof();
            }
        }
    }
}

struct Client {
    endpoint: Endpoint,
    shared: Rc<RefCell<Shared>>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Client {
    fn open(&mut self, ticket: Option<&[u8]>) -> Result<()> {
        self.shared.borrow_mut().with_ticket = ticket.is_some();
        self.endpoint.connect(self.local, self.remote, Some(SERVER_NAME), ticket, None, None)?;
        Ok(())
    }

    /// What no callback tells: tickets that have come, and room for more messages.
    fn turn(&mut self) -> Result<()> {
        let mut tickets = Vec::new();
        {
            let shared = &mut *self.shared.borrow_mut();
            shared.sessions.retain(|&index, session| {
                let Some(connection) = self.endpoint.conn_get_mut(index) else { return false };
                let turned =
                    session.pump(&mut TquicLink(connection)).and_then(|_| session.step(&mut TquicLink(connection)));
                match turned {
                    Ok(Step::Keep) => true,
                    Ok(Step::Replace) => {
                        tickets.push(connection.session().map(<[u8]>::to_vec));
                        // It may be closing already.
                        let _ = connection.close(true, 0, b"");
                        false
                    }
                    Err(error) => {
                        shared.failure = Some(error);
                        true
                    }
                }
            });
        }
        let wanted = self.shared.borrow().plan.args.scenario != Scenario::Connect;
        for ticket in tickets {
            self.open(ticket.as_deref().filter(|_| wanted))?;
        }
        Ok(())
    }
}

struct Handler(Rc<RefCell<Shared>>);

impl Handler {
    fn with(
        &self,
        connection: &mut Connection,
        work: impl FnOnce(&mut ClientSession, &mut TquicLink<'_>, &mut [u8]) -> Result<()>,
    ) {
        let shared = &mut *self.0.borrow_mut();
        let session = connection.index().and_then(|index| shared.sessions.get_mut(&index));
        if let Some(session) = session
            && let Err(error) = work(session, &mut TquicLink(connection), &mut shared.buffer)
        {
            shared.failure = Some(error);
        }
    }
}

impl TransportHandler for Handler {
    fn on_conn_created(&mut self, connection: &mut Connection) {
        if let Some(index) = connection.index() {
            let shared = &mut *self.0.borrow_mut();
            shared.sessions.insert(index, ClientSession::new(shared.plan.clone(), shared.with_ticket));
        }
        // With a ticket early data may go at once.
        self.with(connection, |session, link, _| session.step(link).map(drop));
    }

    fn on_conn_established(&mut self, connection: &mut Connection) {
        // Connections that are replaced when they are established wait for the loop to see it.
        if !self.0.borrow().plan.redials() {
            self.with(connection, |session, link, _| session.step(link).map(drop));
        }
    }

    fn on_conn_closed(&mut self, connection: &mut Connection) {
        let shared = &mut *self.0.borrow_mut();
        // Sessions of connections that have done their work are gone by now.
        if connection.index().and_then(|index| shared.sessions.remove(&index)).is_some() {
            let (ours, theirs) = (connection.local_error(), connection.peer_error());
            shared.failure = Some(format!("connection lost: our error {ours:?}, the server's {theirs:?}").into());
        }
    }

    fn on_stream_created(&mut self, _: &mut Connection, _: u64) {}

    fn on_stream_readable(&mut self, connection: &mut Connection, stream: u64) {
        self.with(connection, |session, link, buffer| session.readable(link, stream, buffer));
    }

    fn on_stream_writable(&mut self, connection: &mut Connection, stream: u64) {
        self.with(connection, |session, link, _| session.writable(link, stream));
    }

    fn on_stream_closed(&mut self, _: &mut Connection, _: u64) {}

    fn on_new_token(&mut self, _: &mut Connection, _: Vec<u8>) {}
}
