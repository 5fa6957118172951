//! The client's loop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use boring::ssl::SslRef;
use quiche::{Config, Connection, ConnectionId, Header, MAX_CONN_ID_LEN, RecvInfo};
use warpline_peer_kit::driven::{ClientSession, Inbox, Plan, Step, Tick, Train, Wire};
use warpline_peer_kit::{ClientArgs, Result, SERVER_NAME, Scenario, exit_on_stdin_eof};

use crate::config;
use crate::link::QuicheLink;
use crate::pace;
use crate::timers::Timers;

/// Batches read before answers go out.
const BATCHES: usize = 4;
/// Times that a session may hand over more before packets are read again.
const PUMPS: usize = 8;

struct Peer {
    connection: Connection,
    session: ClientSession,
    next_stream: u64,
    id: ConnectionId<'static>,
    dirty: bool,
}

struct Client {
    config: Config,
    plan: Rc<Plan>,
    local: SocketAddr,
    remote: SocketAddr,
    payload: usize,
    peers: Vec<Option<Peer>>,
    vacant: Vec<usize>,
    ids: HashMap<ConnectionId<'static>, usize>,
    dirty: Vec<usize>,
    timers: Timers,
    buffer: Vec<u8>,
    /// Connections that count as open: those that have been replaced may still be draining.
    open: usize,
    issued: u64,
}

/// Runs the scenario of `args` and prints its report.
pub fn run(args: ClientArgs) -> Result<()> {
    let remote = args.address()?;
    let any = SocketAddr::new(if remote.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let wire = Wire::bind(any)?;
    let mut client = Client {
        config: config::client(&args.ca, args.payload, args.window, args.congestion)?,
        local: wire.local(),
        remote,
        payload: args.payload.into(),
        plan: Plan::new(args),
        peers: Vec::new(),
        vacant: Vec::new(),
        ids: HashMap::new(),
        dirty: Vec::new(),
        timers: Timers::default(),
        buffer: vec![0; 64 << 10],
        open: 0,
        issued: 0,
    };
    let (mut inbox, mut train) = (Inbox::default(), Train::default());
    loop {
        for _ in 0..client.plan.to_open(client.open) {
            client.open(None)?;
        }
        let patience = client.timers.quiet(Instant::now(), client.plan.patience());
        if client.dirty.is_empty() {
            wire.wait(patience)?;
        }
        for _ in 0..BATCHES {
            if !wire.recv(&mut inbox, |packet, from| client.packet(packet, from))? {
                break;
            }
        }
        let now = Instant::now();
        if client.turn(now, &wire)? {
            return Ok(());
        }
        for index in std::mem::take(&mut client.dirty) {
            client.work(index, &wire, &mut train)?;
        }
    }
}

impl Client {
    fn open(&mut self, ticket: Option<&[u8]>) -> Result<()> {
        self.issued += 1;
        let mut id = [0xa5; MAX_CONN_ID_LEN];
        id[..8].copy_from_slice(&self.issued.to_be_bytes());
        let id = ConnectionId::from_vec(id.to_vec());
        let mut connection = quiche::connect(Some(SERVER_NAME), &id, self.local, self.remote, &mut self.config)?;
        if let Some(ticket) = ticket {
            connection.set_session(ticket)?;
        }
        let session = ClientSession::new(self.plan.clone(), ticket.is_some());
        let index = self.vacant.pop().unwrap_or(self.peers.len());
        if index == self.peers.len() {
            self.peers.push(None);
        }
        self.peers[index] = Some(Peer { connection, session, next_stream: 0, id: id.clone(), dirty: false });
        self.ids.insert(id, index);
        self.open += 1;
        self.mark(index);
        Ok(())
    }

    fn mark(&mut self, index: usize) {
        if let Some(peer) = &mut self.peers[index]
            && !peer.dirty
        {
            peer.dirty = true;
            self.dirty.push(index);
        }
    }

    fn packet(&mut self, packet: &mut [u8], from: SocketAddr) {
        let Ok(header) = Header::from_slice(packet, MAX_CONN_ID_LEN) else { return };
        let Some(&index) = self.ids.get(&header.dcid) else { return };
        let info = RecvInfo { from, to: self.local };
        if let Some(peer) = &mut self.peers[index] {
            // An error closes the connection, which shows when it is worked on.
            let _ = peer.connection.recv(packet, info);
        }
        self.mark(index);
    }

    /// Timers and the plan's time. Whether the run is over.
    fn turn(&mut self, now: Instant, wire: &Wire) -> Result<bool> {
        while let Some(index) = self.timers.due(now) {
            if let Some(peer) = &mut self.peers[index] {
                if peer.connection.timeout_instant().is_some_and(|deadline| deadline <= now) {
                    peer.connection.on_timeout();
                }
                self.mark(index);
            }
        }
        if self.plan.args.scenario == Scenario::DatagramEcho {
            // Lost echoes are noticed without a packet.
            (0..self.peers.len()).for_each(|index| self.mark(index));
        }
        match self.plan.tick(now) {
            None => Ok(false),
            Some(Tick::Ask) => {
                if let Some(Some(peer)) = self.peers.first_mut() {
                    let Peer { connection, session, next_stream, .. } = peer;
                    session.ask(&mut QuicheLink { connection, next_stream })?;
                    self.mark(0);
                }
                Ok(false)
            }
            Some(Tick::Over(mut report)) => {
                let mut peers = self.peers.iter_mut().flatten();
                if let Some(first) = peers.find(|peer| peer.connection.is_established()) {
                    report.cipher = cipher(&mut first.connection);
                }
                if self.plan.args.is_bulk() {
                    report.udp_payload = wire.full_packet();
                }
                report.print()?;
                if self.plan.args.scenario == Scenario::Idle {
                    exit_on_stdin_eof();
                    return Ok(false);
                }
                Ok(true)
            }
        }
    }

    /// Lets a connection's session do what it can, sends what came of it, and replaces a connection that is done.
    fn work(&mut self, index: usize, wire: &Wire, train: &mut Train) -> Result<()> {
        let Some(peer) = &mut self.peers[index] else { return Ok(()) };
        peer.dirty = false;
        let mut replace = false;
        if !peer.connection.is_closed() && !peer.connection.is_draining() {
            pace::flush(&mut peer.connection, wire, train, self.payload)?;
            if serve(peer, &mut self.buffer)? == Step::Replace {
                replace = true;
                peer.connection.close(true, 0, b"")?;
            }
            pace::flush(&mut peer.connection, wire, train, self.payload)?;
            let Peer { connection, session, next_stream, .. } = peer;
            let mut pumps = 0;
            while !replace && session.pump(&mut QuicheLink { connection, next_stream })? {
                pace::flush(connection, wire, train, self.payload)?;
                pumps += 1;
                if pumps == PUMPS {
                    peer.dirty = true;
                    self.dirty.push(index);
                    break;
                }
            }
        }
        if replace {
            let ticket = peer.connection.session().map(<[u8]>::to_vec);
            self.open -= 1;
            self.timers.set(index, peer.connection.timeout_instant());
            let wanted = self.plan.args.scenario != Scenario::Connect;
            return self.open(ticket.as_deref().filter(|_| wanted));
        }
        if !peer.connection.is_closed() {
            self.timers.set(index, pace::deadline(&peer.connection, Instant::now()));
            return Ok(());
        }
        let closed_by_us = peer.connection.local_error().is_some_and(|error| error.is_app && error.error_code == 0);
        if !closed_by_us {
            let (ours, theirs) = (peer.connection.local_error(), peer.connection.peer_error());
            return Err(format!("connection lost: our error {ours:?}, the server's {theirs:?}").into());
        }
        self.ids.remove(&peer.id);
        self.peers[index] = None;
        self.vacant.push(index);
        Ok(())
    }
}

fn serve(peer: &mut Peer, buffer: &mut [u8]) -> Result<Step> {
    let Peer { connection, session, next_stream, .. } = peer;
    let readable = connection.readable();
    for stream in readable {
        session.readable(&mut QuicheLink { connection, next_stream }, stream, buffer)?;
    }
    let writable = connection.writable();
    for stream in writable {
        session.writable(&mut QuicheLink { connection, next_stream }, stream)?;
    }
    let mut link = QuicheLink { connection, next_stream };
    session.datagrams(&mut link, buffer);
    session.step(&mut link)
}

/// The cipher suite by its IANA name.
fn cipher(connection: &mut Connection) -> Option<String> {
    let tls: &mut SslRef = connection.as_mut();
    Some(tls.current_cipher()?.standard_name()?.to_owned())
}
