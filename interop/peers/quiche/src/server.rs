//! The server: one loop over all connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quiche::h3::{self, Event, NameValue};
use quiche::{Config, Connection, ConnectionId, Header, MAX_CONN_ID_LEN, RecvInfo, RetryConnectionIds, Type};
use serde_json::Value;
use tokio::net::UdpSocket;
use warpline_interop_kit::args::ServerArgs;
use warpline_interop_kit::hq::{self, Answer};
use warpline_interop_kit::{Result, report};

use crate::{config, connection_id, offer_ids};

/// Longest sleep without a timer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Begins a token: the address and the client's first destination follow. Nobody forges one here.
const TOKEN: &[u8] = b"interop";

/// Serves until standard input is closed.
pub async fn run(args: &ServerArgs) -> Result<Value> {
    args.refuse(&["v2", "preferred"])?;
    let socket = UdpSocket::bind(args.bind).await?;
    let local = socket.local_addr()?;
    report::exit_with_parent();
    report::listening(local)?;
    let mut server = Server {
        config: config::server(args)?,
        args: args.clone(),
        local,
        peers: Vec::new(),
        ids: HashMap::new(),
        out: Vec::new(),
        buffer: vec![0; 64 << 10],
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        let deadline = server.peers.iter().filter_map(|peer| peer.connection.timeout_instant()).min();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        tokio::select! {
            _ = socket.readable() => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        while let Ok((len, from)) = socket.try_recv_from(&mut buffer) {
            server.datagram(&mut buffer[..len], from)?;
        }
        server.turn()?;
        for (packet, to) in server.out.drain(..) {
            // What the system does not take is lost, as on any network.
            let _ = socket.send_to(&packet, to).await;
        }
    }
}

struct Server {
    config: Config,
    args: ServerArgs,
    local: SocketAddr,
    /// Those that are closed stay: a run has few.
    peers: Vec<Peer>,
    ids: HashMap<ConnectionId<'static>, usize>,
    out: Vec<(Vec<u8>, SocketAddr)>,
    buffer: Vec<u8>,
}

struct Peer {
    connection: Connection,
    http: Option<h3::Connection>,
    requests: HashMap<u64, Vec<u8>>,
    bodies: HashMap<u64, Body>,
}

struct Body {
    content: Vec<u8>,
    sent: usize,
}

impl Server {
    fn datagram(&mut self, datagram: &mut [u8], from: SocketAddr) -> Result<()> {
        // What cannot be read is dropped.
        let Ok(header) = Header::from_slice(datagram, MAX_CONN_ID_LEN) else { return Ok(()) };
        let index = match self.ids.get(&header.dcid) {
            Some(&index) => index,
            None => match self.accept(&header, from)? {
                Some(index) => index,
                None => return Ok(()),
            },
        };
        let info = RecvInfo { from, to: self.local };
        // An error closes the connection, which the client reports.
        let _ = self.peers[index].connection.recv(datagram, info);
        if self.peers[index].connection.stats().recv == 0 {
            // quiche has taken the client's connection ID from a packet that then did not open: it may be a damaged one.
            self.ids.retain(|_, owner| *owner != index);
        }
        Ok(())
    }

    /// A new connection, or a packet without one that leads to it.
    fn accept(&mut self, header: &Header<'_>, from: SocketAddr) -> Result<Option<usize>> {
        if header.ty != Type::Initial {
            return Ok(None);
        }
        if !quiche::version_is_supported(header.version) {
            let len = quiche::negotiate_version(&header.scid, &header.dcid, &mut self.buffer)?;
            self.out.push((self.buffer[..len].to_vec(), from));
            return Ok(None);
        }
        let own = connection_id()?;
        let token = header.token.as_deref().unwrap_or_default();
        let address = from.to_string();
        let prefix = [TOKEN, address.as_bytes(), b" "].concat();
        let connection = if let Some(original) = token.strip_prefix(&prefix[..]) {
            let original = ConnectionId::from_ref(original);
            let retry = RetryConnectionIds { original_destination_cid: &original, retry_source_cid: &header.dcid };
            quiche::accept_with_retry(&own, retry, self.local, from, &mut self.config)?
        } else if self.args.retry {
            let token = [&prefix[..], &header.dcid].concat();
            let version = header.version;
            let len = quiche::retry(&header.scid, &header.dcid, &own, &token, version, &mut self.buffer)?;
            self.out.push((self.buffer[..len].to_vec(), from));
            return Ok(None);
        } else {
            quiche::accept(&own, None, self.local, from, &mut self.config)?
        };
        let mut peer = Peer { connection, http: None, requests: HashMap::new(), bodies: HashMap::new() };
        if let Some(file) = config::key_log(self.args.key_log.as_deref())? {
            peer.connection.set_keylog(Box::new(file));
        }
        self.peers.push(peer);
        let index = self.peers.len() - 1;
        self.ids.insert(own, index);
        self.ids.insert(header.dcid.clone().into_owned(), index);
        Ok(Some(index))
    }

    /// Lets every connection do what it can.
    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        for (index, peer) in self.peers.iter_mut().enumerate().filter(|(_, peer)| !peer.connection.is_closed()) {
            if peer.connection.timeout_instant().is_some_and(|deadline| deadline <= now) {
                peer.connection.on_timeout();
            }
            offer_ids(&mut peer.connection)?;
            self.ids.extend(peer.connection.source_ids().map(|id| (id.clone().into_owned(), index)));
            if (peer.connection.is_established() || peer.connection.is_in_early_data())
                && let Err(error) = peer.serve(&self.args.root, self.args.http3)
            {
                eprintln!("{error}");
                // It may be closed already.
                let _ = peer.connection.close(true, hq::BAD_REQUEST.into(), b"");
            }
            while let Ok((len, info)) = peer.connection.send(&mut self.buffer) {
                self.out.push((self.buffer[..len].to_vec(), info.to));
            }
        }
        Ok(())
    }
}

impl Peer {
    fn serve(&mut self, root: &PathBuf, http3: bool) -> Result<()> {
        if http3 {
            self.answer_http(root)?;
        } else {
            self.answer(root)?;
        }
        let streams: Vec<u64> = self.bodies.keys().copied().collect();
        for stream in streams {
            self.send(stream)?;
        }
        Ok(())
    }

    fn answer(&mut self, root: &PathBuf) -> Result<()> {
        let mut buffer = [0; hq::REQUEST_LEN_MAX];
        for stream in self.connection.readable() {
            let request = self.requests.entry(stream).or_default();
            while let Ok((len, fin)) = self.connection.stream_recv(stream, &mut buffer) {
                request.extend_from_slice(&buffer[..len]);
                if !fin {
                    continue;
                }
                match hq::answer(request, root) {
                    Answer::File(content) => drop(self.bodies.insert(stream, Body { content, sent: 0 })),
                    Answer::Close(_) | Answer::Reset => {
                        self.connection.stream_shutdown(stream, quiche::Shutdown::Write, hq::BAD_REQUEST.into())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answer_http(&mut self, root: &PathBuf) -> Result<()> {
        if self.http.is_none() {
            self.http = Some(h3::Connection::with_transport(&mut self.connection, &h3::Config::new()?)?);
        }
        let Self { connection, http: Some(http), bodies, .. } = self else { return Ok(()) };
        loop {
            let (stream, event) = match http.poll(connection) {
                Ok(event) => event,
                Err(h3::Error::Done) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Event::Headers { list, .. } = event else { continue };
            let path = list.iter().find(|header| header.name() == b":path").ok_or("a request without a path")?;
            let answer = hq::answer(&hq::request(&String::from_utf8_lossy(path.value())), root);
            let (status, content) = match answer {
                Answer::File(content) => ("200", content),
                Answer::Close(_) | Answer::Reset => ("404", Vec::new()),
            };
            http.send_response(connection, stream, &[h3::Header::new(b":status", status.as_bytes())], false)?;
            bodies.insert(stream, Body { content, sent: 0 });
        }
    }

    /// Hands over as much of a body as fits the window.
    fn send(&mut self, stream: u64) -> Result<()> {
        let Self { connection, http, bodies, .. } = self;
        let Some(body) = bodies.get_mut(&stream) else { return Ok(()) };
        let rest = &body.content[body.sent..];
        let sent = match http {
            Some(http) => match http.send_body(connection, stream, rest, true) {
                Err(h3::Error::Done) => return Ok(()),
                sent => sent?,
            },
            None => match connection.stream_send(stream, rest, true) {
                Err(quiche::Error::Done) => return Ok(()),
                sent => sent?,
            },
        };
        body.sent += sent;
        if body.sent == body.content.len() {
            bodies.remove(&stream);
        }
        Ok(())
    }
}
