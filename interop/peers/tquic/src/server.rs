//! The server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tquic::h3::connection::Http3Connection;
use tquic::h3::{Header, Http3Config, Http3Error, Http3Event, NameValue};
use tquic::{Connection, Endpoint, Error, Shutdown, TransportHandler};
use warpline_interop_kit::args::ServerArgs;
use warpline_interop_kit::hq::{self, Answer};
use warpline_interop_kit::{Result, report};

use crate::config;
use crate::wire::{Outbox, turn};

/// Serves until standard input is closed.
pub async fn run(args: &ServerArgs) -> Result<Value> {
    args.refuse(&["v2", "preferred"])?;
    let socket = UdpSocket::bind(args.bind).await?;
    let outbox = Rc::new(Outbox::default());
    let handler = Handler {
        root: args.root.clone(),
        key_log: args.key_log.clone(),
        http3: args.http3,
        connections: HashMap::new(),
    };
    let config = Box::new(config::server(args)?);
    let endpoint = RefCell::new(Endpoint::new(config, true, Box::new(handler), Rc::clone(&outbox) as Rc<_>));
    report::exit_with_parent();
    report::listening(socket.local_addr()?)?;
    let wake = Notify::new();
    loop {
        turn(&socket, &outbox, &endpoint, &wake).await?;
    }
}

struct Handler {
    root: PathBuf,
    key_log: Option<PathBuf>,
    http3: bool,
    connections: HashMap<u64, Known>,
}

#[derive(Default)]
struct Known {
    http: Option<Http3Connection>,
    requests: HashMap<u64, Vec<u8>>,
    bodies: HashMap<u64, Bytes>,
}

impl TransportHandler for Handler {
    fn on_conn_created(&mut self, connection: &mut Connection) {
        // A key log that cannot be opened shows in the matrix as a check that cannot be made.
        if let Ok(Some(file)) = config::key_log(self.key_log.as_deref()) {
            connection.set_keylog(Box::new(file));
        }
        if let Some(index) = connection.index() {
            self.connections.insert(index, Known::default());
        }
    }

    fn on_conn_established(&mut self, _: &mut Connection) {}

    fn on_conn_closed(&mut self, connection: &mut Connection) {
        if let Some(index) = connection.index() {
            self.connections.remove(&index);
        }
    }

    fn on_stream_created(&mut self, connection: &mut Connection, stream: u64) {
        // Nothing to write before there is a request.
        let _ = connection.stream_want_write(stream, false);
    }

    fn on_stream_readable(&mut self, connection: &mut Connection, stream: u64) {
        let known = connection.index().and_then(|index| self.connections.get_mut(&index));
        let Some(known) = known else { return };
        let read = if self.http3 {
            known.read_http(connection, &self.root)
        } else {
            known.read(connection, stream, &self.root)
        };
        end_if_failed(connection, read);
    }

    fn on_stream_writable(&mut self, connection: &mut Connection, stream: u64) {
        let known = connection.index().and_then(|index| self.connections.get_mut(&index));
        if let Some(known) = known {
            let written = known.write(connection, stream);
            end_if_failed(connection, written);
        }
    }

    fn on_stream_closed(&mut self, _: &mut Connection, _: u64) {}

    fn on_new_token(&mut self, _: &mut Connection, _: Vec<u8>) {}
}

/// Closes a connection on which something went wrong: the client reports it.
fn end_if_failed(connection: &mut Connection, result: Result<()>) {
    if let Err(error) = result {
        eprintln!("{error}");
        // It may be closed already.
        let _ = connection.close(true, hq::BAD_REQUEST.into(), b"");
    }
}

impl Known {
    fn read(&mut self, connection: &mut Connection, stream: u64, root: &Path) -> Result<()> {
        let mut buffer = [0; hq::REQUEST_LEN_MAX];
        let request = self.requests.entry(stream).or_default();
        loop {
            let (len, fin) = match connection.stream_read(stream, &mut buffer) {
                Err(Error::Done) => return Ok(()),
                read => read?,
            };
            request.extend_from_slice(&buffer[..len]);
            if !fin {
                continue;
            }
            return match hq::answer(request, root) {
                Answer::File(content) => {
                    self.bodies.insert(stream, content.into());
                    self.write(connection, stream)
                }
                Answer::Close(_) | Answer::Reset => {
                    Ok(connection.stream_shutdown(stream, Shutdown::Write, hq::BAD_REQUEST.into())?)
                }
            };
        }
    }

    fn read_http(&mut self, connection: &mut Connection, root: &Path) -> Result<()> {
        if self.http.is_none() {
            self.http = Some(Http3Connection::new_with_quic_conn(connection, &Http3Config::new()?)?);
        }
        while let Some(http) = &mut self.http {
            let (stream, event) = match http.poll(connection) {
                Err(Http3Error::Done) => break,
                event => event?,
            };
            let Http3Event::Headers { headers, .. } = event else { continue };
            let path = headers.iter().find(|header| header.name() == b":path").ok_or("a request without a path")?;
            let (status, content) = match hq::answer(&hq::request(&String::from_utf8_lossy(path.value())), root) {
                Answer::File(content) => ("200", content),
                Answer::Close(_) | Answer::Reset => ("404", Vec::new()),
            };
            http.send_headers(connection, stream, &[Header::new(b":status", status.as_bytes())], false)?;
            self.bodies.insert(stream, content.into());
            self.write(connection, stream)?;
        }
        Ok(())
    }

    /// Hands over as much of a body as fits the window.
    fn write(&mut self, connection: &mut Connection, stream: u64) -> Result<()> {
        let Some(body) = self.bodies.get_mut(&stream) else {
            return Ok(connection.stream_want_write(stream, false)?);
        };
        let taken = match &mut self.http {
            Some(http) => match http.send_body(connection, stream, body.clone(), true) {
                Err(Http3Error::Done) => 0,
                taken => taken?,
            },
            None => match connection.stream_write(stream, body.clone(), true) {
                Err(Error::Done) => 0,
                taken => taken?,
            },
        };
        let rest = body.split_off(taken);
        let more = !rest.is_empty();
        *body = rest;
        if !more {
            self.bodies.remove(&stream);
        }
        // Call again only if something is left.
        Ok(connection.stream_want_write(stream, more)?)
    }
}
