//! What a client can be asked to do.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One kind of load. `bench/README.md` says exactly what each does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Streams that carry bytes from the server, one after another.
    Download,
    /// Streams that carry bytes to the server, one after another.
    Upload,
    /// Streams that carry bytes both ways at once.
    Bidi,
    /// 64-byte requests with 1 KiB responses, a new stream for each.
    #[value(name = "reqresp")]
    #[serde(rename = "reqresp")]
    ReqResp,
    /// Streams opened, one byte each way, closed.
    Churn,
    /// Small messages on one stream, one write each.
    #[value(name = "smallmsg")]
    #[serde(rename = "smallmsg")]
    SmallMsg,
    /// Datagrams to the server, counted there.
    Datagram,
    /// Datagrams to the server and back, counted at the client.
    DatagramEcho,
    /// Full handshakes.
    Connect,
    /// Resumed handshakes.
    Resume,
    /// Requests in 0-RTT data, a new connection for each.
    #[value(name = "zerortt")]
    #[serde(rename = "zerortt")]
    ZeroRtt,
    /// Connections that are opened and held.
    Idle,
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_and_json_use_the_same_names() {
        for scenario in Scenario::value_variants() {
            let json = serde_json::to_string(scenario).unwrap();
            assert_eq!(json, format!("\"{scenario}\""));
        }
    }
}
