//! What a connection did, as qlog (draft-ietf-quic-qlog-main-schema and -quic-events in the form 0.3 that qvis and its like read).
//!
//! A log is text in memory, a JSON text sequence (RFC 7464). The endpoint hands it out piece by piece
//! ([`Endpoint::poll_log`](crate::Endpoint::poll_log)); the caller, which has files and a clock, puts it where it belongs. A
//! connection without a log pays one branch where it would write.

mod frames;
mod json;

use core::time::Duration;
use std::net::SocketAddr;

use warpline_wire::header::PacketKind;

use warpline_wire::{ConnectionId, Side, TransportParameters};

use crate::congestion::{CarefulResume, Controller, ResumePhase, Transition};
use crate::limits::{QLOG_BUFFER_MAX, QLOG_PIECE};
use crate::recovery::rtt::RttEstimator;
use crate::time::Instant;
use json::Object;

/// A part of a connection's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Names the log: the connection's first destination ID in hexadecimal, and the role.
    pub name: String,
    /// What is to be added to it.
    pub text: String,
}

/// A connection's log.
pub(crate) struct Log {
    name: String,
    text: String,
    start: Instant,
    metrics: Metrics,
    state: &'static str,
    congestion: &'static str,
    /// When loss detection acts next, as was last logged.
    timer: Option<Instant>,
    /// Events that did not fit.
    missed: u64,
}

/// What `recovery:metrics_updated` tells.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Metrics {
    smoothed: Duration,
    min: Duration,
    latest: Duration,
    var: Duration,
    pto_count: u64,
    cwnd: u64,
    bytes_in_flight: u64,
    ssthresh: u64,
}

/// A packet, sent or received.
pub(crate) struct Packet<'a> {
    pub(crate) kind: PacketKind,
    pub(crate) number: u64,
    /// Length of the whole packet in bytes.
    pub(crate) len: usize,
    /// The frames, in the clear.
    pub(crate) payload: &'a [u8],
    /// Exponent of the delays in ACK frames.
    pub(crate) ack_exponent: u8,
}

/// Why a packet was dropped; the names are those of qlog's `PacketDroppedTrigger`.
pub(crate) type Trigger = &'static str;

pub(crate) fn kind_name(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Initial => "initial",
        PacketKind::Handshake => "handshake",
        PacketKind::ZeroRtt => "0RTT",
        PacketKind::OneRtt => "1RTT",
        PacketKind::Retry => "retry",
        PacketKind::VersionNegotiation => "version_negotiation",
    }
}

impl Log {
    /// A log that begins now, `unix` after the epoch of Unix.
    pub(crate) fn new(now: Instant, unix: Duration, side: Side, original_dcid: &ConnectionId) -> Self {
        let role = if side == Side::Client { "client" } else { "server" };
        let mut name = String::new();
        for byte in original_dcid.iter() {
            use core::fmt::Write;
            // A string takes everything.
            let _ = write!(name, "{byte:02x}");
        }
        let mut text = String::from('\u{1e}');
        {
            let mut head = Object::begin(&mut text);
            head.text("qlog_version", "0.3").text("qlog_format", "JSON-SEQ").text("title", "warpline");
            head.object("trace", |o| {
                o.object("vantage_point", |o| {
                    o.text("name", "warpline").text("type", role);
                });
                o.object("common_fields", |o| {
                    o.text("ODCID", &name).text("group_id", &name).text("time_format", "relative");
                    o.millis("reference_time", unix).list("protocol_type", |list| list.text("QUIC"));
                });
            });
        }
        text.push('\n');
        name.push('_');
        name.push_str(role);
        Self { name, text, start: now, metrics: Metrics::default(), state: "", congestion: "", timer: None, missed: 0 }
    }

    /// The text so far, if it is long enough to be taken, or `all` is wanted.
    pub(crate) fn take(&mut self, all: bool) -> Option<LogPiece> {
        if self.text.is_empty() || (!all && self.text.len() < QLOG_PIECE) {
            return None;
        }
        let text = std::mem::take(&mut self.text);
        Some(LogPiece { name: self.name.clone(), text })
    }

    fn event(&mut self, now: Instant, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        if self.text.len() > QLOG_BUFFER_MAX {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            let message = format!("{} events were not logged: nobody took them", std::mem::take(&mut self.missed));
            self.write(now, "loglevel:warning", |o| {
                o.text("message", &message);
            });
        }
        self.write(now, name, fill);
    }

    fn write(&mut self, now: Instant, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.text.push('\u{1e}');
        Object::begin(&mut self.text).millis("time", now - self.start).text("name", name).object("data", fill);
        self.text.push('\n');
    }

    pub(crate) fn started(&mut self, now: Instant, remote: SocketAddr, src: &ConnectionId, dst: &ConnectionId) {
        self.event(now, "connectivity:connection_started", |o| {
            let (ip_version, ip) = (if remote.is_ipv4() { "v4" } else { "v6" }, remote.ip());
            o.text("ip_version", ip_version).text("src_ip", "").shown("dst_ip", ip);
            o.text("protocol", "QUIC").number("dst_port", remote.port().into()).hex("src_cid", src).hex("dst_cid", dst);
        });
    }

    /// The connection's state has changed, if it has.
    pub(crate) fn state(&mut self, now: Instant, new: &'static str) {
        if self.state == new {
            return;
        }
        let old = std::mem::replace(&mut self.state, new);
        self.event(now, "connectivity:connection_state_updated", |o| {
            if !old.is_empty() {
                o.text("old", old);
            }
            o.text("new", new);
        });
    }

    pub(crate) fn closed(&mut self, now: Instant, owner: &str, reason: &str) {
        self.event(now, "connectivity:connection_closed", |o| {
            o.text("owner", owner).text("reason", reason);
        });
    }

    pub(crate) fn key_updated(&mut self, now: Instant, trigger: &str) {
        for key in ["client_1rtt_secret", "server_1rtt_secret"] {
            self.event(now, "security:key_updated", |o| {
                o.text("key_type", key).text("trigger", trigger);
            });
        }
    }

    /// Transport parameters of `owner`, or those that a client remembers of an earlier connection.
    pub(crate) fn parameters(&mut self, now: Instant, owner: Option<&str>, p: &TransportParameters) {
        let name = if owner.is_some() { "transport:parameters_set" } else { "transport:parameters_restored" };
        self.event(now, name, |o| {
            if let Some(owner) = owner {
                o.text("owner", owner);
            }
            if let Some(cid) = &p.original_destination_connection_id {
                o.hex("original_destination_connection_id", cid);
            }
            if let Some(cid) = &p.initial_source_connection_id {
                o.hex("initial_source_connection_id", cid);
            }
            o.flag("disable_active_migration", p.disable_active_migration)
                .number("max_idle_timeout", p.max_idle_timeout)
                .number("max_udp_payload_size", p.max_udp_payload_size)
                .number("ack_delay_exponent", p.ack_delay_exponent)
                .number("max_ack_delay", p.max_ack_delay)
                .number("active_connection_id_limit", p.active_connection_id_limit)
                .number("initial_max_data", p.initial_max_data)
                .number("initial_max_stream_data_bidi_local", p.initial_max_stream_data_bidi_local)
                .number("initial_max_stream_data_bidi_remote", p.initial_max_stream_data_bidi_remote)
                .number("initial_max_stream_data_uni", p.initial_max_stream_data_uni)
                .number("initial_max_streams_bidi", p.initial_max_streams_bidi)
                .number("initial_max_streams_uni", p.initial_max_streams_uni);
            if let Some(size) = p.max_datagram_frame_size {
                o.number("max_datagram_frame_size", size);
            }
            o.flag("grease_quic_bit", p.grease_quic_bit);
        });
    }

    /// A packet that was sent or received.
    pub(crate) fn packet(&mut self, now: Instant, is_sent: bool, packet: &Packet<'_>) {
        let name = if is_sent { "transport:packet_sent" } else { "transport:packet_received" };
        self.event(now, name, |o| {
            o.object("header", |o| {
                o.text("packet_type", kind_name(packet.kind)).number("packet_number", packet.number);
            });
            o.object("raw", |o| {
                o.number("length", packet.len as u64).number("payload_length", packet.payload.len() as u64);
            });
            o.list("frames", |list| frames::write(packet.payload, packet.ack_exponent, list));
        });
    }

    /// A packet that was dropped, or kept for later.
    pub(crate) fn dropped(&mut self, now: Instant, kind: Option<PacketKind>, len: usize, trigger: Trigger) {
        self.set_aside(now, "transport:packet_dropped", kind, len, trigger);
    }

    /// A packet that is kept until its keys are there.
    pub(crate) fn buffered(&mut self, now: Instant, kind: PacketKind, len: usize) {
        self.set_aside(now, "transport:packet_buffered", Some(kind), len, "keys_unavailable");
    }

    fn set_aside(&mut self, now: Instant, name: &str, kind: Option<PacketKind>, len: usize, trigger: Trigger) {
        self.event(now, name, |o| {
            o.object("header", |o| {
                o.text("packet_type", kind.map_or("unknown", kind_name));
            });
            o.object("raw", |o| {
                o.number("length", len as u64);
            })
            .text("trigger", trigger);
        });
    }

    pub(crate) fn datagrams(&mut self, now: Instant, is_sent: bool, count: usize, len: usize) {
        let name = if is_sent { "transport:datagrams_sent" } else { "transport:datagrams_received" };
        self.event(now, name, |o| {
            o.number("count", count as u64).list("raw", |list| {
                list.object(|o| {
                    o.number("length", len as u64);
                })
            });
        });
    }

    pub(crate) fn recovery_parameters(&mut self, now: Instant, mtu: u16, initial_rtt: Duration, window: u64) {
        self.event(now, "recovery:parameters_set", |o| {
            o.number("reordering_threshold", 3).display("time_threshold", 9.0 / 8.0);
            o.number("timer_granularity", 1).millis("initial_rtt", initial_rtt);
            o.number("max_datagram_size", mtu.into()).number("initial_congestion_window", window);
        });
    }

    /// Logs what has changed of the estimates.
    pub(crate) fn metrics(&mut self, now: Instant, rtt: &RttEstimator, pto_count: u32, path: (&Controller, u64)) {
        let (congestion, bytes_in_flight) = path;
        let new = Metrics {
            smoothed: rtt.smoothed(),
            min: rtt.min(),
            latest: rtt.latest(),
            var: rtt.var(),
            pto_count: pto_count.into(),
            cwnd: congestion.window(),
            bytes_in_flight,
            ssthresh: congestion.ssthresh(),
        };
        let old = std::mem::replace(&mut self.metrics, new);
        if old != new {
            self.event(now, "recovery:metrics_updated", |o| {
                let times = [
                    ("smoothed_rtt", old.smoothed, new.smoothed),
                    ("min_rtt", old.min, new.min),
                    ("latest_rtt", old.latest, new.latest),
                    ("rtt_variance", old.var, new.var),
                ];
                for (name, _, value) in times.into_iter().filter(|(_, old, new)| rtt.has_sample() && old != new) {
                    o.millis(name, value);
                }
                let numbers = [
                    ("pto_count", old.pto_count, new.pto_count),
                    ("congestion_window", old.cwnd, new.cwnd),
                    ("bytes_in_flight", old.bytes_in_flight, new.bytes_in_flight),
                    ("ssthresh", old.ssthresh, new.ssthresh),
                ];
                for (name, _, value) in numbers.into_iter().filter(|(_, old, new)| old != new && *new != u64::MAX) {
                    o.number(name, value);
                }
            });
        }
        let state = congestion.state_name();
        if self.congestion != state {
            let old = std::mem::replace(&mut self.congestion, state);
            self.event(now, "recovery:congestion_state_updated", |o| {
                if !old.is_empty() {
                    o.text("old", old);
                }
                o.text("new", state);
            });
        }
    }

    /// A phase of careful resume begins (draft-ietf-tsvwg-careful-resume-qlog).
    pub(crate) fn careful_resume(
        &mut self,
        now: Instant,
        transition: &Transition,
        resume: &CarefulResume,
        congestion: &Controller,
    ) {
        let (state, [first, last]) = (resume.state(), resume.unvalidated());
        self.event(now, "recovery:careful_resume_phase_updated", |o| {
            o.text("old", transition.old.name()).text("new", transition.new.name());
            o.object("state_data", |o| {
                o.number("pipesize", state.pipe_size).number("first_unvalidated_packet", first);
                o.number("last_unvalidated_packet", last).number("congestion_window", congestion.window());
                if congestion.ssthresh() != u64::MAX {
                    o.number("ssthresh", congestion.ssthresh());
                }
            });
            if let Some(rtt) = resume.saved_rtt().filter(|_| transition.new == ResumePhase::Unvalidated) {
                o.object("restored_data", |o| {
                    o.number("saved_congestion_window", state.saved_window).millis("saved_rtt", rtt);
                });
            }
            if let Some(trigger) = transition.trigger {
                o.text("trigger", trigger);
            }
        });
    }

    pub(crate) fn lost(&mut self, now: Instant, kind: PacketKind, number: u64) {
        self.event(now, "recovery:packet_lost", |o| {
            o.object("header", |o| {
                o.text("packet_type", kind_name(kind)).number("packet_number", number);
            });
        });
    }

    /// The deadline of loss detection, if it is another one.
    pub(crate) fn loss_timer(&mut self, now: Instant, at: Option<Instant>) {
        if std::mem::replace(&mut self.timer, at) == at {
            return;
        }
        self.event(now, "recovery:loss_timer_updated", |o| match at {
            Some(at) => {
                o.text("event_type", "set").millis("delta", at - now);
            }
            None => {
                o.text("event_type", "cancelled");
            }
        });
    }

    pub(crate) fn loss_timer_expired(&mut self, now: Instant) {
        self.timer = None;
        self.event(now, "recovery:loss_timer_updated", |o| {
            o.text("event_type", "expired");
        });
    }
}
