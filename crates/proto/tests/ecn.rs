//! What a sender of data does about marks of congestion on the way, and about a way that spoils the marks (RFC 9000 section 13.4,
//! RFC 9002 section 7.1).

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{Pair, Transfer};
use warpline_proto::config::TransportConfig;
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_proto::{ConnectionHandle, ConnectionStats, Ecn, Instant};

/// There and back.
const ROUND: Duration = Duration::from_millis(20);
/// How long it takes until the sender has heard of a packet: there, what an acknowledgement may be held back, and back.
const HEARD: Duration = Duration::from_millis(20 + 26);

/// A client that sends.
struct Upload {
    pair: Pair,
    client: ConnectionHandle,
    server: ConnectionHandle,
    transfer: Transfer,
}

impl Upload {
    fn begin(congestion: CongestionAlgorithm, bytes: u64, path: &Rc<RefCell<Path>>) -> Self {
        let mut pair = Pair::new(&TransportConfig { congestion, ..TransportConfig::default() });
        let path = Rc::clone(path);
        pair.marker =
            Box::new(move |now, to_server, ecn| if to_server { path.borrow_mut().pass(now, ecn) } else { ecn });
        let (client, server) = pair.established();
        let transfer = Transfer::open(&mut pair.client, client, bytes);
        Self { pair, client, server, transfer }
    }

    fn stats(&mut self) -> ConnectionStats {
        self.pair.client.connection(self.client).unwrap().stats()
    }

    fn step(&mut self) -> ConnectionStats {
        let Pair { now, client, server, .. } = &mut self.pair;
        self.transfer.pump(*now, (client, self.client), (server, self.server));
        assert!(self.pair.step());
        self.stats()
    }

    /// Calls `watch` after every step with the time and the sender's numbers.
    fn send_for(&mut self, time: Duration, mut watch: impl FnMut(Instant, &ConnectionStats)) {
        let end = self.pair.now + time;
        while self.pair.now < end {
            let now = self.pair.now;
            watch(now, &self.step());
        }
    }
}

/// What becomes of the codepoints of the client's packets.
#[derive(Default)]
enum Treatment {
    #[default]
    Untouched,
    /// One in ten meets a queue.
    Congested,
    /// All lose their mark.
    Bleached,
    /// All get another mark.
    Remarked,
}

#[derive(Default)]
struct Path {
    treatment: Treatment,
    /// Packets that came with a mark.
    sent: u64,
    /// When the last of them was sent.
    last_sent: Instant,
    /// When those were sent that met the queue.
    congested: Vec<Instant>,
}

impl Path {
    fn pass(&mut self, now: Instant, ecn: Option<Ecn>) -> Option<Ecn> {
        if ecn != Some(Ecn::Ect0) {
            return ecn;
        }
        self.sent += 1;
        self.last_sent = now;
        match self.treatment {
            Treatment::Congested if self.sent.is_multiple_of(10) => {
                self.congested.push(now);
                Some(Ecn::Ce)
            }
            Treatment::Untouched | Treatment::Congested => ecn,
            Treatment::Bleached => None,
            Treatment::Remarked => Some(Ecn::Ect1),
        }
    }
}

/// What a sender did in fifteen round trips, after five without any congestion.
struct Response {
    /// When it counted congestion.
    events: Vec<Instant>,
    /// Its window just before the first of these, just after, and in the end.
    before: u64,
    after: u64,
    end: u64,
    largest: u64,
    /// When packets were marked that it must have heard of.
    marked: Vec<Instant>,
}

fn response(congestion: CongestionAlgorithm, treatment: Treatment) -> Response {
    let path = Rc::new(RefCell::new(Path::default()));
    let mut upload = Upload::begin(congestion, 1 << 40, &path);
    upload.send_for(ROUND * 5, |_, stats| assert_eq!(stats.congestion_events, 0));
    path.borrow_mut().treatment = treatment;
    let mut last = upload.stats();
    let (mut events, mut before, mut after, mut largest) = (Vec::new(), 0, 0, 0);
    upload.send_for(ROUND * 15, |now, stats| {
        if stats.congestion_events > last.congestion_events {
            assert_eq!(stats.congestion_events, last.congestion_events + 1);
            if events.is_empty() {
                (before, after) = (last.cwnd, stats.cwnd);
            }
            events.push(now);
        }
        largest = largest.max(stats.cwnd);
        last = *stats;
    });
    assert_eq!((last.packets_lost, last.probe_timeouts), (0, 0), "marks are all that tells of congestion");
    let marked = path.borrow().congested.iter().copied().filter(|at| upload.pair.now - *at > HEARD).collect();
    Response { events, before, after, end: last.cwnd, largest, marked }
}

/// One packet in ten is marked, for fifteen round trips: that is one congestion event a round trip, and the window shows it.
/// Returns what the sender did, for what is the controller's own.
fn responds_once_a_round_trip(congestion: CongestionAlgorithm) -> Response {
    let untouched = response(congestion, Treatment::Untouched);
    assert!(untouched.events.is_empty());
    let marked = response(congestion, Treatment::Congested);
    assert!(marked.marked.len() > 2 * marked.events.len(), "several marks a round trip");
    for events in marked.events.windows(2) {
        assert!(events[1] - events[0] >= ROUND, "{:?}", marked.events);
    }
    for sent in &marked.marked {
        let is_answered = marked.events.iter().any(|event| event >= sent && *event - *sent <= HEARD);
        assert!(is_answered, "sent {sent:?}, congestion counted {:?}", marked.events);
    }
    assert!(marked.end * 4 < untouched.end, "{} and {} without marks", marked.end, untouched.end);
    marked
}

/// RFC 9002 section 7.3.2: half of the window.
#[test]
fn new_reno_halves_its_window_once_a_round_trip_of_marks() {
    let did = responds_once_a_round_trip(CongestionAlgorithm::NewReno);
    assert!((0.45..=0.55).contains(&(did.after as f64 / did.before as f64)), "{} to {}", did.before, did.after);
    assert!(did.end < did.before / 8, "{} to {}", did.before, did.end);
}

/// RFC 9438 section 4.6: seven tenths of it.
#[test]
fn cubic_reduces_its_window_once_a_round_trip_of_marks() {
    let did = responds_once_a_round_trip(CongestionAlgorithm::Cubic);
    assert!((0.65..=0.75).contains(&(did.after as f64 / did.before as f64)), "{} to {}", did.before, did.after);
    assert!(did.end < did.before / 4, "{} to {}", did.before, did.end);
}

/// BBRv3 counts marks as losses: more of them than it tolerates end Startup, and the window comes down to what the model says
/// (draft-ietf-ccwg-bbr sections 3.7 and 5.3.1.3).
#[test]
fn bbr_ends_its_search_for_more_and_comes_down_after_marks() {
    let did = responds_once_a_round_trip(CongestionAlgorithm::Bbr);
    assert!(did.end < did.largest / 2, "{} to {}", did.largest, did.end);
}

/// A path that spoils marks: from the first packet on, or only after five round trips of a transfer. The sender stops marking once it
/// has heard, and takes it for nothing worse.
fn goes_on_without_marks(treatment: fn() -> Treatment) {
    for rounds in [0, 5] {
        let path = Rc::new(RefCell::new(Path::default()));
        if rounds == 0 {
            path.borrow_mut().treatment = treatment();
        }
        let mut upload = Upload::begin(CongestionAlgorithm::Cubic, 8_000_000, &path);
        upload.send_for(ROUND * rounds, |_, _| {});
        let spoiled_at = upload.pair.now;
        assert!(path.borrow().sent > 0);
        assert!(rounds == 0 || path.borrow().last_sent + ROUND > spoiled_at, "it marks as long as marks pass");
        path.borrow_mut().treatment = treatment();
        let cwnd = upload.stats().cwnd;
        while !upload.transfer.done {
            upload.step();
        }
        assert!(upload.pair.now > spoiled_at + HEARD * 2, "the transfer outlasts the verdict");
        assert!(path.borrow().last_sent <= spoiled_at + HEARD, "{:?}", path.borrow().last_sent);
        let stats = upload.stats();
        assert_eq!((stats.congestion_events, stats.packets_lost), (0, 0));
        assert!(stats.cwnd > cwnd);
    }
}

#[test]
fn bleached_marks_end_the_marking_and_nothing_else() {
    goes_on_without_marks(|| Treatment::Bleached);
}

#[test]
fn changed_marks_end_the_marking_and_nothing_else() {
    goes_on_without_marks(|| Treatment::Remarked);
}
