//! The one JSON line that a client prints.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Histogram, Scenario, Snapshot};

/// What the measured span of a run brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measurement {
    /// Length of the span.
    pub elapsed: Duration,
    /// What was counted in it.
    pub counted: Snapshot,
}

/// A client's result. Fields that do not apply to the scenario are left out of the JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Application bytes carried in the measured span.
    pub bytes: u64,
    /// Length of the measured span, or of the opening phase of `idle`.
    pub seconds: f64,
    /// Application bits per second; both directions together for `bidi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput_bps: Option<f64>,
    /// Operations in the measured span.
    #[serde(default)]
    pub requests: u64,
    /// Requests (`reqresp`, `zerortt`), streams (`churn`) or messages (`smallmsg`) per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<f64>,
    /// Median latency of an operation in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// 99th percentile in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// 99.9th percentile in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_us: Option<f64>,
    /// Handshakes per second (`connect`, `resume`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes_per_s: Option<f64>,
    /// Datagrams per second (`datagram`: received by the server; `datagram-echo`: back at the client).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams_per_s: Option<f64>,
    /// Connections held (`idle`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Operations that came about in another way than the scenario asks for.
    #[serde(default)]
    pub fallbacks: u64,
    /// The UDP payload size in bytes of full packets, where the run fills packets and the size is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_payload: Option<u64>,
    /// The cipher suite by its IANA name, where the stack could choose and can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
}

impl Report {
    /// The report of a measured span. `latency` holds the operations of that span only.
    #[must_use]
    pub fn new(scenario: Scenario, measured: &Measurement, latency: &Histogram) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        let Snapshot { bytes, ops, fallbacks } = measured.counted;
        let per_second = (seconds > 0.0).then(|| ops as f64 / seconds);
        let micros = |q| latency.quantile(q).map(|nanos| nanos as f64 / 1_000.0);
        let mut report = Self {
            scenario: scenario.to_string(),
            bytes,
            seconds,
            goodput_bps: (seconds > 0.0 && bytes > 0).then(|| bytes as f64 * 8.0 / seconds),
            requests: ops,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            fallbacks,
            ..Self::default()
        };
        match scenario {
            Scenario::Download | Scenario::Upload | Scenario::Bidi | Scenario::Idle => {}
            Scenario::ReqResp | Scenario::Churn | Scenario::SmallMsg | Scenario::ZeroRtt => {
                report.requests_per_s = per_second;
            }
            Scenario::Connect | Scenario::Resume => report.handshakes_per_s = per_second,
            Scenario::Datagram | Scenario::DatagramEcho => report.datagrams_per_s = per_second,
        }
        report
    }

    /// The report of `idle`: how many connections are open, and how long opening them took.
    #[must_use]
    pub fn idle(connections: u64, elapsed: Duration) -> Self {
        Self {
            scenario: Scenario::Idle.to_string(),
            seconds: elapsed.as_secs_f64(),
            connections: Some(connections),
            ..Self::default()
        }
    }

    /// Prints the report as one line of JSON on standard output.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn print(&self) -> crate::Result<()> {
        crate::process::print_line(&serde_json::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_that_apply_are_written() {
        let counted = Snapshot { bytes: 1_000, ops: 10, fallbacks: 0 };
        let measured = Measurement { elapsed: Duration::from_secs(2), counted };
        let report = Report::new(Scenario::Connect, &measured, &Histogram::default());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["handshakes_per_s"], 5.0);
        assert_eq!(json["goodput_bps"], 4_000.0);
        assert!(json.get("p50_us").is_none() && json.get("requests_per_s").is_none());
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
