//! The server's loop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiche::{Config, Connection, ConnectionId, Header, MAX_CONN_ID_LEN, RecvInfo, Type};
use warpline_peer_kit::driven::{Inbox, ServerSession, Train, Wire};
use warpline_peer_kit::{Result, ServerArgs, announce, exit_on_stdin_eof};

use crate::config;
use crate::link::QuicheLink;
use crate::pace;
use crate::timers::Timers;

/// Longest sleep: nothing but packets and timers ends one.
const PATIENCE: Duration = Duration::from_secs(1);
/// Batches read before answers go out.
const BATCHES: usize = 4;

struct Peer {
    connection: Connection,
    session: ServerSession,
    /// The IDs it is found by: the one of ours, and the one that the client chose.
    ids: [ConnectionId<'static>; 2],
    dirty: bool,
}

struct Server {
    config: Config,
    local: SocketAddr,
    payload: usize,
    peers: Vec<Option<Peer>>,
    vacant: Vec<usize>,
    ids: HashMap<ConnectionId<'static>, usize>,
    dirty: Vec<usize>,
    timers: Timers,
    buffer: Vec<u8>,
    issued: u64,
}

/// Serves until the process ends.
pub fn run(args: &ServerArgs) -> Result<()> {
    let wire = Wire::bind(args.bind)?;
    let mut server = Server {
        config: config::server(&args.cert, &args.key, args.payload, args.window, args.congestion)?,
        local: wire.local(),
        payload: args.payload.into(),
        peers: Vec::new(),
        vacant: Vec::new(),
        ids: HashMap::new(),
        dirty: Vec::new(),
        timers: Timers::default(),
        buffer: vec![0; 64 << 10],
        issued: 0,
    };
    let (mut inbox, mut train) = (Inbox::default(), Train::default());
    exit_on_stdin_eof();
    announce(wire.local())?;
    loop {
        wire.wait(server.timers.quiet(Instant::now(), PATIENCE))?;
        for _ in 0..BATCHES {
            if !wire.recv(&mut inbox, |packet, from| server.packet(packet, from))? {
                break;
            }
        }
        let now = Instant::now();
        while let Some(index) = server.timers.due(now) {
            if let Some(peer) = &mut server.peers[index] {
                if peer.connection.timeout_instant().is_some_and(|deadline| deadline <= now) {
                    peer.connection.on_timeout();
                }
                server.mark(index);
            }
        }
        while let Some(index) = server.dirty.pop() {
            server.work(index, &wire, &mut train)?;
        }
    }
}

impl Server {
    fn mark(&mut self, index: usize) {
        if let Some(peer) = &mut self.peers[index]
            && !peer.dirty
        {
            peer.dirty = true;
            self.dirty.push(index);
        }
    }

    /// A packet that is not for a connection, or that its connection does not want, is dropped.
    fn packet(&mut self, packet: &mut [u8], from: SocketAddr) {
        let Ok(header) = Header::from_slice(packet, MAX_CONN_ID_LEN) else { return };
        let index = match self.ids.get(&header.dcid) {
            Some(&index) => index,
            None if header.ty == Type::Initial => match self.accept(&header, from) {
                Some(index) => index,
                None => return,
            },
            None => return,
        };
        let info = RecvInfo { from, to: self.local };
        if let Some(peer) = &mut self.peers[index] {
            // An error closes the connection, which shows when it is worked on.
            let _ = peer.connection.recv(packet, info);
        }
        self.mark(index);
    }

    fn accept(&mut self, header: &Header<'_>, from: SocketAddr) -> Option<usize> {
        self.issued += 1;
        let mut id = [0x5a; MAX_CONN_ID_LEN];
        id[..8].copy_from_slice(&self.issued.to_be_bytes());
        let id = ConnectionId::from_vec(id.to_vec());
        let connection = quiche::accept(&id, None, self.local, from, &mut self.config).ok()?;
        let ids = [id, header.dcid.clone().into_owned()];
        let peer = Some(Peer { connection, session: ServerSession::default(), ids: ids.clone(), dirty: false });
        let index = self.vacant.pop().unwrap_or(self.peers.len());
        if index == self.peers.len() {
            self.peers.push(peer);
        } else {
            self.peers[index] = peer;
        }
        self.ids.extend(ids.into_iter().map(|id| (id, index)));
        Some(index)
    }

    /// Lets a connection's session do what it can, and sends what came of it.
    fn work(&mut self, index: usize, wire: &Wire, train: &mut Train) -> Result<()> {
        let Some(peer) = &mut self.peers[index] else { return Ok(()) };
        peer.dirty = false;
        if serve(peer, &mut self.buffer).is_err() {
            // The client sees the connection end, and reports it. That it may be closed already is no error either.
            let _ = peer.connection.close(true, 1, b"");
        }
        pace::flush(&mut peer.connection, wire, train, self.payload)?;
        if peer.connection.is_closed() {
            for id in &peer.ids {
                self.ids.remove(id);
            }
            self.peers[index] = None;
            self.vacant.push(index);
        } else {
            self.timers.set(index, pace::deadline(&peer.connection, Instant::now()));
        }
        Ok(())
    }
}

fn serve(peer: &mut Peer, buffer: &mut [u8]) -> Result<()> {
    let Peer { connection, session, .. } = peer;
    if !connection.is_established() && !connection.is_in_early_data() {
        return Ok(());
    }
    let mut no_stream = 0;
    let readable = connection.readable();
    for stream in readable {
        session.readable(&mut QuicheLink { connection, next_stream: &mut no_stream }, stream, buffer)?;
    }
    let writable = connection.writable();
    for stream in writable {
        session.writable(&mut QuicheLink { connection, next_stream: &mut no_stream }, stream)?;
    }
    if connection.dgram_recv_queue_len() > 0 {
        session.datagrams(&mut QuicheLink { connection, next_stream: &mut no_stream }, buffer)?;
    }
    Ok(())
}
