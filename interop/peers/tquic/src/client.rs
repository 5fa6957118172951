//! The client.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tquic::h3::connection::Http3Connection;
use tquic::h3::{Header, Http3Config, Http3Error, Http3Event, NameValue};
use tquic::{Connection, Endpoint, Error, TransportHandler};
use warpline_interop_kit::args::ClientArgs;
use warpline_interop_kit::{Result, client, hq};

use crate::config;
use crate::wire::{Outbox, turn};

/// BoringSSL's word for early data that was accepted (`ssl_early_data_accepted`).
const EARLY_DATA_ACCEPTED: &str = "accepted";

/// Fetches what `args` ask for.
pub async fn run(args: &ClientArgs) -> Result<Value> {
    args.refuse(&["key-update", "v2", "unknown-version", "migrate"])?;
    let any_port: SocketAddr = match args.connect {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any_port).await?;
    let local = socket.local_addr()?;
    let state = Rc::new(State { key_log: args.key_log.clone(), http3: args.http3, ..State::default() });
    let outbox = Rc::new(Outbox::default());
    let handler = Box::new(Handler(Rc::clone(&state)));
    let endpoint = Endpoint::new(Box::new(config::client(args)?), false, handler, Rc::clone(&outbox) as Rc<_>);
    let endpoint = Rc::new(RefCell::new(endpoint));
    let dialer = Dialer {
        state: Rc::clone(&state),
        endpoint: Rc::clone(&endpoint),
        local,
        remote: args.connect,
        name: args.server_name.clone(),
        session: Rc::default(),
    };
    let moved = async {
        loop {
            turn(&socket, &outbox, &endpoint, &state.wake).await?;
            state.changed.notify_waiters();
        }
    };
    tokio::select! {
        result = client::run(&dialer, args) => result,
        result = moved => result,
    }
}

/// What tquic's callbacks leave for those who wait.
#[derive(Default)]
struct State {
    key_log: Option<PathBuf>,
    http3: bool,
    connections: RefCell<HashMap<u64, Known>>,
    changed: Notify,
    wake: Notify,
}

#[derive(Default)]
struct Known {
    http: Option<Http3Connection>,
    answers: HashMap<u64, Answer>,
    /// How it ended.
    end: Option<String>,
}

#[derive(Default)]
struct Answer {
    content: Vec<u8>,
    /// How it ended.
    end: Option<Result<(), String>>,
}

struct Handler(Rc<State>);

impl TransportHandler for Handler {
    fn on_conn_created(&mut self, connection: &mut Connection) {
        // A key log that cannot be opened shows in the matrix as a check that cannot be made.
        if let Ok(Some(file)) = config::key_log(self.0.key_log.as_deref()) {
            connection.set_keylog(Box::new(file));
        }
    }

    fn on_conn_established(&mut self, _: &mut Connection) {}

    fn on_conn_closed(&mut self, connection: &mut Connection) {
        let Some(index) = connection.index() else { return };
        let (ours, theirs) = (connection.local_error(), connection.peer_error());
        let end = format!("closed: by us {ours:?}, by the peer {theirs:?}");
        self.0.connections.borrow_mut().entry(index).or_default().end = Some(end);
    }

    fn on_stream_created(&mut self, _: &mut Connection, _: u64) {}

    fn on_stream_readable(&mut self, connection: &mut Connection, stream: u64) {
        let Some(index) = connection.index() else { return };
        let mut connections = self.0.connections.borrow_mut();
        let known = connections.entry(index).or_default();
        if known.http.is_some() {
            known.read_http(connection);
        } else {
            known.read(connection, stream);
        }
    }

    fn on_stream_writable(&mut self, connection: &mut Connection, stream: u64) {
        // Requests fit at once; nothing is left to write.
        let _ = connection.stream_want_write(stream, false);
    }

    fn on_stream_closed(&mut self, _: &mut Connection, _: u64) {}

    fn on_new_token(&mut self, _: &mut Connection, _: Vec<u8>) {}
}

impl Known {
    fn read(&mut self, connection: &mut Connection, stream: u64) {
        let answer = self.answers.entry(stream).or_default();
        let mut buffer = vec![0; 64 << 10];
        while answer.end.is_none() {
            match connection.stream_read(stream, &mut buffer) {
                Ok((len, fin)) => {
                    answer.content.extend_from_slice(&buffer[..len]);
                    answer.end = fin.then_some(Ok(()));
                }
                Err(Error::Done) => return,
                Err(error) => answer.end = Some(Err(error.to_string())),
            }
        }
    }

    fn read_http(&mut self, connection: &mut Connection) {
        let Some(http) = &mut self.http else { return };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (stream, event) = match http.poll(connection) {
                Ok(event) => event,
                Err(Http3Error::Done) => return,
                Err(error) => {
                    self.end = Some(error.to_string());
                    return;
                }
            };
            let answer = self.answers.entry(stream).or_default();
            match event {
                Http3Event::Headers { headers, .. } => {
                    let status = headers.iter().find(|header| header.name() == b":status");
                    if status.is_none_or(|header| header.value() != b"200") {
                        answer.end = Some(Err(format!("{status:?}")));
                    }
                }
                Http3Event::Data => {
                    while let Ok(len) = http.recv_body(connection, stream, &mut buffer) {
                        answer.content.extend_from_slice(&buffer[..len]);
                    }
                }
                Http3Event::Finished => answer.end = answer.end.take().or(Some(Ok(()))),
                Http3Event::Reset(code) => answer.end = Some(Err(format!("reset with {code}"))),
                Http3Event::PriorityUpdate | Http3Event::GoAway => {}
            }
        }
    }

    /// Asks for `path`, and returns the stream; none if there are too many already.
    fn ask(&mut self, connection: &mut Connection, path: &str, http3: bool) -> Result<Option<u64>> {
        if !http3 {
            let stream = match connection.stream_bidi_new(0, false) {
                Err(Error::StreamLimitError) => return Ok(None),
                stream => stream?,
            };
            let request = Bytes::from(hq::request(path));
            let len = request.len();
            let taken = connection.stream_write(stream, request, true)?;
            return if taken == len { Ok(Some(stream)) } else { Err("a request did not fit the window".into()) };
        }
        if self.http.is_none() {
            self.http = Some(Http3Connection::new_with_quic_conn(connection, &Http3Config::new()?)?);
        }
        let Some(http) = &mut self.http else { return Ok(None) };
        let stream = match http.stream_new(connection) {
            Err(Http3Error::StreamBlocked | Http3Error::TransportError(Error::StreamLimitError)) => return Ok(None),
            stream => stream?,
        };
        let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        let headers = pseudo.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
        http.send_headers(connection, stream, &headers, true)?;
        Ok(Some(stream))
    }
}

struct Dialer {
    state: Rc<State>,
    endpoint: Rc<RefCell<Endpoint>>,
    local: SocketAddr,
    remote: SocketAddr,
    name: String,
    session: Rc<RefCell<Option<Vec<u8>>>>,
}

impl client::Dialer for Dialer {
    type Connection = Opened;

    async fn dial(&self, early: bool) -> Result<Opened> {
        let session = self.session.take();
        if early && session.is_none() {
            return Err("there is no session for early data".into());
        }
        let (name, session) = (Some(self.name.as_str()), session.as_deref());
        let index = self.endpoint.borrow_mut().connect(self.local, self.remote, name, session, None, None)?;
        self.state.wake.notify_one();
        let opened = Opened {
            state: Rc::clone(&self.state),
            endpoint: Rc::clone(&self.endpoint),
            index,
            session: Rc::clone(&self.session),
        };
        let ready = |connection: &mut Connection| connection.is_established() || early && connection.is_in_early_data();
        opened.until(|connection, _| ready(connection).then_some(Ok(()))).await?;
        Ok(opened)
    }

    async fn migrate(&self) -> Result<()> {
        Err("the option has been refused".into())
    }
}

struct Opened {
    state: Rc<State>,
    endpoint: Rc<RefCell<Endpoint>>,
    index: u64,
    session: Rc<RefCell<Option<Vec<u8>>>>,
}

impl Opened {
    /// Waits until `look` has found something, or the connection has ended.
    async fn until<T>(&self, mut look: impl FnMut(&mut Connection, &mut Known) -> Option<Result<T>>) -> Result<T> {
        loop {
            let changed = self.state.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let (mut endpoint, mut connections) = (self.endpoint.borrow_mut(), self.state.connections.borrow_mut());
                let known = connections.entry(self.index).or_default();
                if let Some(found) = endpoint.conn_get_mut(self.index).and_then(|connection| look(connection, known)) {
                    return found;
                }
                if let Some(end) = &known.end {
                    return Err(end.clone().into());
                }
            }
            changed.await;
        }
    }
}

impl client::Connection for Opened {
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let http3 = self.state.http3;
        let stream = self.until(|connection, known| known.ask(connection, path, http3).transpose()).await?;
        self.state.wake.notify_one();
        self.until(|_, known| {
            known.answers.get(&stream)?.end.as_ref()?;
            let answer = known.answers.remove(&stream)?;
            Some(answer.end?.map(|()| answer.content).map_err(Into::into))
        })
        .await
    }

    async fn update_keys(&self) -> Result<()> {
        Err("the option has been refused".into())
    }

    async fn ticket(&self) -> Result<()> {
        let session = self.until(|connection, _| connection.session().map(|session| Ok(session.to_vec()))).await?;
        self.session.replace(Some(session));
        Ok(())
    }

    async fn close(self) -> Result<Value> {
        let early = self
            .until(|connection, _| {
                let early = connection.early_data_reason().ok().flatten() == Some(EARLY_DATA_ACCEPTED);
                Some(connection.close(true, 0, b"done").map(|()| early).map_err(Into::into))
            })
            .await?;
        self.state.wake.notify_one();
        // Ends when the draining period has passed.
        let _: Result<()> = self.until(|_, _| None).await;
        Ok(json!({ "early_data": early }))
    }
}
