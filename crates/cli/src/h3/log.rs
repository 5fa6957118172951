//! One line for each request.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

/// The version of HTTP that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Over TCP.
    Http11,
    /// Over QUIC.
    H3,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Http11 => "http/1.1",
            Self::H3 => "h3",
        }
    }
}

/// A request on its way to its line.
#[derive(Debug)]
pub struct Entry {
    began: Instant,
    remote: SocketAddr,
    protocol: Protocol,
    method: Method,
    path: String,
    json: bool,
}

/// How a response ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The status.
    pub status: StatusCode,
    /// Bytes of the body that were handed to the transport.
    pub bytes: u64,
    /// Why it was not delivered whole.
    pub error: Option<String>,
}

impl Entry {
    /// Begins now.
    pub fn new(remote: SocketAddr, protocol: Protocol, method: &Method, path: &str, json: bool) -> Self {
        Self { began: Instant::now(), remote, protocol, method: method.clone(), path: path.to_owned(), json }
    }

    /// Writes the line to standard output.
    pub fn done(&self, outcome: &Outcome) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Nobody reads them any more, perhaps; the files are served all the same.
        let _ = writeln!(std::io::stdout().lock(), "{}", self.line(time, self.began.elapsed(), outcome));
    }

    fn line(&self, time: Duration, took: Duration, outcome: &Outcome) -> String {
        let Self { remote, protocol, method, path, .. } = self;
        let Outcome { status, bytes, error } = outcome;
        let (status, ms) = (status.as_u16(), took.as_secs_f64() * 1e3);
        if self.json {
            let object = serde_json::json!({
                "time": time.as_secs_f64(), "remote": remote.to_string(), "protocol": protocol.name(),
                "method": method.as_str(), "path": path, "status": status, "bytes": bytes, "ms": ms, "error": error,
            });
            return object.to_string();
        }
        // Quoted and escaped: a request cannot forge a line.
        let error = error.as_deref().map_or(String::new(), |error| format!(" {error:?}"));
        let (time, protocol) = (time.as_secs_f64(), protocol.name());
        format!("{time:.3} {remote} {protocol} {method} {path:?} {status} {bytes} {ms:.1}ms{error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_and_one_for_machines() {
        let remote = "192.0.2.1:40000".parse().expect("an address");
        let outcome = Outcome { status: StatusCode::OK, bytes: 12, error: Some("cut\noff".to_owned()) };
        let (time, took) = (Duration::from_millis(1_500), Duration::from_millis(7));
        let entry = Entry::new(remote, Protocol::H3, &Method::GET, "/a\n\"b", false);
        let line = entry.line(time, took, &outcome);
        assert_eq!(line, r#"1.500 192.0.2.1:40000 h3 GET "/a\n\"b" 200 12 7.0ms "cut\noff""#);
        let line = Entry { json: true, ..entry }.line(time, took, &outcome);
        let object: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(
            (&object["path"], &object["status"], &object["protocol"]),
            (&"/a\n\"b".into(), &200.into(), &"h3".into())
        );
    }
}
