//! One sender, one bottleneck, one receiver, on virtual time: the recovery and congestion code of the crate without a
//! connection around it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use warpline_proto::Instant;
use warpline_proto::congestion::{AckSample, Controller, LossSample};
use warpline_proto::pacing::Pacer;
use warpline_proto::recovery::pto;
use warpline_proto::recovery::rate::DeliveryRate;
use warpline_proto::recovery::rtt::RttEstimator;
use warpline_proto::recovery::sent::{SentInfo, SentPackets};

/// Bytes of every datagram.
pub const MTU: u16 = 1200;
/// Packets between two acknowledgements.
const ACK_EVERY: u64 = 2;
/// How long the receiver holds an acknowledgement back.
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// The default of a transport's configuration.
const PTO_MAX: Duration = Duration::from_secs(3);

/// The path.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bytes per second.
    pub rate: u64,
    /// There and back.
    pub rtt: Duration,
    /// Bytes that the bottleneck holds.
    pub buffer: u64,
    /// Packets lost at random, in a million.
    pub loss_ppm: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A packet reaches the receiver.
    Arrive(u64),
    /// The receiver's delayed acknowledgement is due.
    AckTimer(u64),
    /// An acknowledgement reaches the sender: what the receiver had at the time, by index.
    Ack(usize),
    /// The sender looks for something to do.
    Wake,
}

/// What became of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Bytes that arrived.
    pub delivered: u64,
    /// Packets declared lost.
    pub lost: u64,
    /// Bytes held by the bottleneck, summed over the packets that it took.
    queue_sum: u64,
    queued: u64,
    /// Moments at which the controller's state changed.
    pub states: Vec<(Duration, &'static str)>,
    /// Most bytes in the window.
    pub window_max: u64,
}

impl Report {
    /// Bytes that a packet found in the queue, on average.
    pub fn queue_mean(&self) -> u64 {
        self.queue_sum / self.queued.max(1)
    }
}

struct Receiver {
    /// Received ranges, largest first, as (start, end).
    ranges: VecDeque<(u64, u64)>,
    unacked: u64,
    timer: u64,
}

impl Receiver {
    fn receive(&mut self, pn: u64) {
        // Packets arrive in order on this link.
        match self.ranges.front_mut() {
            Some((_, end)) if *end + 1 == pn => *end = pn,
            _ => self.ranges.push_front((pn, pn)),
        }
        self.ranges.truncate(32);
        self.unacked += 1;
    }
}

/// A run in progress.
pub struct World {
    link: Link,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    order: u64,
    controller: Controller,
    pacer: Pacer,
    packets: SentPackets<()>,
    delivery: DeliveryRate,
    rtt: RttEstimator,
    next_pn: u64,
    pto_count: u32,
    link_free_at: Instant,
    receiver: Receiver,
    acks: Vec<Vec<(u64, u64)>>,
    random: u64,
    report: Report,
    /// The application writes this much per second; `None` is without end.
    pub app_rate: Option<u64>,
    /// ECN: packets that would find more bytes than this in the queue are marked.
    pub mark_above: Option<u64>,
    /// Every timer of the sender fires so much late.
    pub late: Duration,
    marks: u64,
    marks_reported: u64,
    sent: u64,
    /// The one wake-up that counts; others in the heap are stale.
    wake_at: Option<Instant>,
}

impl World {
    /// A sender with `controller` at one end of `link`.
    pub fn new(link: Link, controller: Controller) -> Self {
        let mut world = Self {
            link,
            now: Instant::from_nanos(1_000_000_000),
            events: BinaryHeap::new(),
            order: 0,
            controller,
            pacer: Pacer::new(MTU),
            packets: SentPackets::default(),
            delivery: DeliveryRate::default(),
            rtt: RttEstimator::new(Duration::from_millis(100)),
            next_pn: 0,
            pto_count: 0,
            link_free_at: Instant::default(),
            receiver: Receiver { ranges: VecDeque::new(), unacked: 0, timer: 0 },
            acks: Vec::new(),
            random: 0x853c_49e6_748f_ea9b,
            report: Report::default(),
            app_rate: None,
            mark_above: None,
            late: Duration::ZERO,
            marks: 0,
            marks_reported: 0,
            sent: 0,
            wake_at: None,
        };
        world.rtt.update(world.now, link.rtt, Duration::ZERO, None);
        world.wake_at = Some(world.now);
        world.at(world.now, Event::Wake);
        world
    }

    /// Changes the path from now on.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Runs for `time` and reports on it.
    pub fn run(&mut self, time: Duration) -> Report {
        self.report = Report::default();
        let end = self.now + time;
        let start = self.now;
        while let Some(Reverse((at, _, _))) = self.events.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            self.handle(event);
            let state = self.controller.state_name();
            if self.report.states.last().is_none_or(|(_, last)| *last != state) {
                self.report.states.push((self.now - start, state));
            }
            self.report.window_max = self.report.window_max.max(self.controller.window());
        }
        self.now = end;
        std::mem::take(&mut self.report)
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, event)));
    }

    fn random_ppm(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % 1_000_000
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(pn) => {
                self.report.delivered += u64::from(MTU);
                self.receiver.receive(pn);
                if self.receiver.unacked >= ACK_EVERY || self.receiver.ranges.len() > 1 {
                    self.send_ack();
                } else {
                    self.at(self.now + MAX_ACK_DELAY, Event::AckTimer(self.receiver.timer));
                }
            }
            Event::AckTimer(timer) if timer == self.receiver.timer => self.send_ack(),
            Event::AckTimer(_) => {}
            Event::Ack(index) => self.on_ack(index),
            Event::Wake if self.wake_at == Some(self.now) => self.wake_at = None,
            Event::Wake => return,
        }
        self.on_timers();
        self.transmit();
    }

    fn send_ack(&mut self) {
        self.receiver.unacked = 0;
        self.receiver.timer += 1;
        self.acks.push(self.receiver.ranges.iter().copied().collect());
        self.at(self.now + self.link.rtt / 2, Event::Ack(self.acks.len() - 1));
    }

    fn on_ack(&mut self, index: usize) {
        let ranges = std::mem::take(&mut self.acks[index]);
        let ranges = ranges.into_iter().map(|(start, end)| start..=end);
        let outcome = self.packets.on_ack(ranges, self.now, &mut self.delivery, &mut |()| {});
        let outcome = outcome.expect("the receiver acknowledges what it got");
        if outcome.newly_acked_packets == 0 {
            return;
        }
        self.pto_count = 0;
        if let Some(sent_at) = outcome.largest_sent_at {
            self.rtt.update(self.now, self.now - sent_at, Duration::ZERO, Some(MAX_ACK_DELAY));
        }
        if self.marks > self.marks_reported {
            let marks = self.marks - self.marks_reported;
            self.marks_reported = self.marks;
            self.controller.on_ecn_ce(self.now, marks, outcome.newest_sent_at);
        }
        self.detect_lost();
        if outcome.acked_bytes > 0 {
            let before = self.packets.bytes_in_flight() + outcome.acked_bytes;
            self.controller.on_ack(&AckSample::new(self.now, before, &self.rtt, &outcome));
        }
        if outcome.all_losses_spurious {
            self.controller.on_spurious_loss(self.now);
        }
    }

    fn detect_lost(&mut self) {
        let (now, controller) = (self.now, &mut self.controller);
        let outcome = self.packets.detect_lost(
            now,
            &self.rtt,
            &mut self.delivery,
            &mut |packet| controller.on_packet_lost(now, packet),
            &mut |()| {},
        );
        if outcome.lost_packets > 0 {
            self.report.lost += u64::from(outcome.lost_packets);
            self.controller.on_congestion(&LossSample::new(now, &outcome));
        }
    }

    fn pto(&self) -> Option<Instant> {
        let sent_at = self.packets.last_ack_eliciting_sent().filter(|_| self.packets.has_ack_eliciting_in_flight())?;
        Some(sent_at + pto::backed_off(self.rtt.pto_base() + MAX_ACK_DELAY, self.pto_count, PTO_MAX))
    }

    fn on_timers(&mut self) {
        if self.packets.loss_time().is_some_and(|at| at <= self.now) {
            self.detect_lost();
        } else if self.pto().is_some_and(|at| at <= self.now) {
            self.pto_count += 1;
            self.send();
        }
    }

    fn transmit(&mut self) {
        let rate = self.controller.pacing_rate(self.rtt.smoothed());
        let mut wake: Option<Instant> = None;
        loop {
            if self.packets.bytes_in_flight() + u64::from(MTU) > self.controller.window() {
                break;
            }
            if let Some(app_rate) = self.app_rate {
                let written = u128::from(app_rate) * u128::from(self.now.as_nanos() - 1_000_000_000) / 1_000_000_000;
                if u128::from(self.sent) > written {
                    self.delivery.set_app_limited(self.packets.bytes_in_flight());
                    wake = Some(self.now + Duration::from_micros(500));
                    break;
                }
            }
            if self.pacer.allow(self.now, rate, MTU) < usize::from(MTU) {
                wake = self.pacer.next_release(self.now, rate, MTU);
                break;
            }
            self.send();
        }
        let timer = self.packets.loss_time().into_iter().chain(self.pto()).chain(wake).min();
        let timer = timer.map(|at| at.max(self.now) + self.late);
        if timer != self.wake_at {
            self.wake_at = timer;
            if let Some(at) = timer {
                self.at(at, Event::Wake);
            }
        }
    }

    fn send(&mut self) {
        let pn = self.next_pn;
        self.next_pn += 1;
        let before = self.packets.bytes_in_flight();
        self.packets.push_token(());
        let info = SentInfo { now: self.now, size: MTU, ack_eliciting: true, in_flight: true };
        self.packets.on_sent(pn, &info, &mut self.delivery);
        let app_limited = self.delivery.is_app_limited();
        self.controller.on_sent(self.now, u64::from(MTU), before, app_limited);
        self.pacer.on_sent(usize::from(MTU));
        self.sent += u64::from(MTU);
        if self.random_ppm() < self.link.loss_ppm {
            return;
        }
        let backlog = (self.link_free_at - self.now).as_nanos() * u128::from(self.link.rate) / 1_000_000_000;
        if backlog + u128::from(MTU) > u128::from(self.link.buffer) {
            return;
        }
        self.report.queue_sum += backlog as u64;
        self.report.queued += 1;
        self.marks += u64::from(self.mark_above.is_some_and(|above| backlog > u128::from(above)));
        let on_wire = Duration::from_nanos(u64::from(MTU) * 1_000_000_000 / self.link.rate);
        self.link_free_at = self.link_free_at.max(self.now) + on_wire;
        self.at(self.link_free_at + self.link.rtt / 2, Event::Arrive(pn));
    }
}
