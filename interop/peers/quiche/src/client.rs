//! The client: each connection has a task that moves its packets; fetches wait for what it read.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quiche::h3::{Event, Header, NameValue};
use quiche::{Config, Connection, RecvInfo, h3};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use warpline_interop_kit::args::ClientArgs;
use warpline_interop_kit::{Result, client, hq};

use crate::{config, connection_id, offer_ids};

/// BoringSSL's word for early data that was accepted (`ssl_early_data_accepted`).
const EARLY_DATA_ACCEPTED: u32 = 2;
/// Longest sleep of a connection without a timer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fetches what `args` ask for.
pub async fn run(args: &ClientArgs) -> Result<Value> {
    args.refuse(&["key-update", "v2"])?;
    let dialer = Dialer {
        config: AsyncMutex::new(config::client(args)?),
        remote: args.connect,
        name: args.server_name.clone(),
        http3: args.http3,
        key_log: args.key_log.clone(),
        session: Arc::default(),
        latest: Mutex::new(None),
    };
    client::run(&dialer, args).await
}

fn any_port(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The latest session of the client's, as quiche serializes it.
type Session = Arc<Mutex<Option<Vec<u8>>>>;

struct Dialer {
    config: AsyncMutex<Config>,
    remote: SocketAddr,
    name: String,
    http3: bool,
    key_log: Option<PathBuf>,
    session: Session,
    latest: Mutex<Option<Opened>>,
}

impl client::Dialer for Dialer {
    type Connection = Opened;

    async fn dial(&self, early: bool) -> Result<Opened> {
        let socket = UdpSocket::bind(any_port(self.remote)).await?;
        let local = socket.local_addr()?;
        let mut config = self.config.lock().await;
        let mut connection = quiche::connect(Some(&self.name), &connection_id()?, local, self.remote, &mut config)?;
        if let Some(file) = config::key_log(self.key_log.as_deref())? {
            connection.set_keylog(Box::new(file));
        }
        if let Some(session) = lock(&self.session).take() {
            connection.set_session(&session)?;
        } else if early {
            return Err("there is no session for early data".into());
        }
        let state = State { connection, http: None, next_stream: 0, answers: HashMap::new(), new_socket: None };
        let shared = Shared { state: Mutex::new(state), wake: Notify::new(), changed: Notify::new() };
        let opened = Opened { shared: Arc::new(shared), http3: self.http3, session: Arc::clone(&self.session) };
        tokio::spawn(drive(Arc::clone(&opened.shared), socket));
        opened
            .until(|state| {
                (state.connection.is_established() || early && state.connection.is_in_early_data()).then_some(Ok(()))
            })
            .await?;
        *lock(&self.latest) = Some(opened.clone());
        Ok(opened)
    }

    async fn migrate(&self) -> Result<()> {
        let opened = lock(&self.latest).clone().ok_or("there is no connection yet")?;
        let socket = UdpSocket::bind(any_port(self.remote)).await?;
        let local = socket.local_addr()?;
        opened.until(|state| (state.connection.available_dcids() > 0).then_some(Ok(()))).await?;
        {
            let mut state = opened.shared.state();
            state.new_socket = Some(socket);
            state.connection.migrate_source(local)?;
        }
        opened.shared.wake.notify_one();
        Ok(())
    }
}

struct Shared {
    state: Mutex<State>,
    /// For the task that moves packets.
    wake: Notify,
    /// For those who wait for what it does.
    changed: Notify,
}

struct State {
    connection: Connection,
    http: Option<h3::Connection>,
    next_stream: u64,
    answers: HashMap<u64, Answer>,
    /// To go over to.
    new_socket: Option<UdpSocket>,
}

#[derive(Default)]
struct Answer {
    content: Vec<u8>,
    /// How it ended.
    end: Option<Result<(), String>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves a connection's packets until it is closed.
async fn drive(shared: Arc<Shared>, socket: UdpSocket) {
    let mut sockets = vec![socket];
    while let Ok(Some(deadline)) = turn(&shared, &mut sockets).await {
        shared.changed.notify_waiters();
        let [first, .., last] = &sockets[..] else {
            tokio::select! {
                _ = sockets[0].readable() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = shared.wake.notified() => {}
            }
            continue;
        };
        tokio::select! {
            _ = first.readable() => {}
            _ = last.readable() => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = shared.wake.notified() => {}
        }
    }
    shared.changed.notify_waiters();
}

/// Reads, lets time pass, and sends; says until when nothing needs to be done, none if the connection is closed.
async fn turn(shared: &Shared, sockets: &mut Vec<UdpSocket>) -> Result<Option<Instant>> {
    let mut buffer = vec![0; 64 << 10];
    let mut out = Vec::new();
    let deadline = {
        let mut state = shared.state();
        if let Some(socket) = state.new_socket.take() {
            sockets.push(socket);
        }
        for socket in &*sockets {
            let to = socket.local_addr()?;
            while let Ok((len, from)) = socket.try_recv_from(&mut buffer) {
                // What the connection does not want closes it or is dropped; both show.
                let _ = state.connection.recv(&mut buffer[..len], RecvInfo { from, to });
            }
        }
        if state.connection.timeout_instant().is_some_and(|deadline| deadline <= Instant::now()) {
            state.connection.on_timeout();
        }
        offer_ids(&mut state.connection)?;
        state.read()?;
        while let Ok((len, info)) = state.connection.send(&mut buffer) {
            out.push((info, buffer[..len].to_vec()));
        }
        if state.connection.is_closed() { None } else { Some(state.connection.timeout_instant()) }
    };
    for (info, packet) in out {
        let from = sockets.iter().find(|socket| socket.local_addr().is_ok_and(|local| local == info.from));
        if let Some(socket) = from {
            // What the system does not take is lost, as on any network.
            let _ = socket.send_to(&packet, info.to).await;
        }
    }
    Ok(deadline.map(|deadline| deadline.unwrap_or_else(|| Instant::now() + PATIENCE)))
}

impl State {
    /// Takes in what streams brought.
    fn read(&mut self) -> Result<()> {
        if self.http.is_some() {
            return self.read_http();
        }
        let mut buffer = vec![0; 64 << 10];
        for stream in self.connection.readable() {
            let answer = self.answers.entry(stream).or_default();
            loop {
                match self.connection.stream_recv(stream, &mut buffer) {
                    Ok((len, fin)) => {
                        answer.content.extend_from_slice(&buffer[..len]);
                        if fin {
                            answer.end = Some(Ok(()));
                            break;
                        }
                    }
                    Err(quiche::Error::Done) => break,
                    Err(error) => {
                        answer.end = Some(Err(error.to_string()));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn read_http(&mut self) -> Result<()> {
        let Self { connection, http: Some(http), answers, .. } = self else { return Ok(()) };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (stream, event) = match http.poll(connection) {
                Ok(event) => event,
                Err(h3::Error::Done) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let answer = answers.entry(stream).or_default();
            match event {
                Event::Headers { list, .. } => {
                    let status = list.iter().find(|header| header.name() == b":status");
                    if status.is_none_or(|header| header.value() != b"200") {
                        answer.end = Some(Err(format!("{status:?}")));
                    }
                }
                Event::Data => {
                    while let Ok(len) = http.recv_body(connection, stream, &mut buffer) {
                        answer.content.extend_from_slice(&buffer[..len]);
                    }
                }
                Event::Finished => answer.end = answer.end.take().or(Some(Ok(()))),
                Event::Reset(code) => answer.end = Some(Err(format!("reset with {code}"))),
                Event::PriorityUpdate | Event::GoAway => {}
            }
        }
    }

    /// Asks for `path`, and returns the stream; none if there are too many already.
    fn ask(&mut self, path: &str, http3: bool) -> Result<Option<u64>> {
        if self.connection.peer_streams_left_bidi() == 0 {
            return Ok(None);
        }
        if !http3 {
            let (stream, request) = (self.next_stream, hq::request(path));
            return match self.connection.stream_send(stream, &request, true) {
                Ok(len) if len == request.len() => {
                    self.next_stream += 4;
                    Ok(Some(stream))
                }
                Ok(_) => Err("a request did not fit the window".into()),
                Err(quiche::Error::Done) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        if self.http.is_none() {
            self.http = Some(h3::Connection::with_transport(&mut self.connection, &h3::Config::new()?)?);
        }
        let Some(http) = &mut self.http else { return Ok(None) };
        let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        let headers = pseudo.map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
        match http.send_request(&mut self.connection, &headers, true) {
            Ok(stream) => Ok(Some(stream)),
            Err(h3::Error::StreamBlocked) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(Clone)]
struct Opened {
    shared: Arc<Shared>,
    http3: bool,
    session: Session,
}

impl Opened {
    /// Waits until `look` has found something, or the connection has ended.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<Result<T>>) -> Result<T> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let mut state = self.shared.state();
                if let Some(found) = look(&mut state) {
                    return found;
                }
                if state.connection.is_closed() {
                    let (ours, theirs) = (state.connection.local_error(), state.connection.peer_error());
                    return Err(format!("closed: by us {ours:?}, by the peer {theirs:?}").into());
                }
            }
            changed.await;
        }
    }
}

impl client::Connection for Opened {
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let stream = self.until(|state| state.ask(path, self.http3).transpose()).await?;
        self.shared.wake.notify_one();
        self.until(|state| {
            state.answers.get(&stream)?.end.as_ref()?;
            let answer = state.answers.remove(&stream)?;
            Some(answer.end?.map(|()| answer.content).map_err(Into::into))
        })
        .await
    }

    async fn update_keys(&self) -> Result<()> {
        Err("the option has been refused".into())
    }

    async fn ticket(&self) -> Result<()> {
        let session = self.until(|state| state.connection.session().map(|session| Ok(session.to_vec()))).await?;
        *lock(&self.session) = Some(session);
        Ok(())
    }

    async fn close(self) -> Result<Value> {
        let early = {
            let mut state = self.shared.state();
            let early = state.connection.early_data_reason() == EARLY_DATA_ACCEPTED;
            state.connection.close(true, 0, b"done")?;
            early
        };
        self.shared.wake.notify_one();
        // Ends when the draining period has passed.
        let _: Result<()> = self.until(|_| None).await;
        Ok(json!({ "early_data": early }))
    }
}
