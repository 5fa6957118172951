//! The proxy's thread: sockets on both sides, and between them the event queue and the path of the simulator.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use warpline_sim::clock::EventQueue;
use warpline_sim::hop::{Direction, Dropped};
use warpline_sim::path::{Leg, Outcome, Path};
use warpline_sim::{Codepoint, Instant, Packet};

use super::socket::{Buffers, Socket};
use super::{Config, Shared};
use crate::wire::{Capture, Datagram, Point};

/// Clients at a time. Each costs a socket; a test has a handful.
const CLIENTS_MAX: usize = 1_024;
/// The longest sleep: how soon the thread notices that it shall stop.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// Datagrams under way at most, some 1.5 GB: 10 Gbit/s at 1 s. More means a loop; they are dropped.
const UNDER_WAY_MAX: usize = 1 << 20;
/// The largest train handed to the kernel.
const TRAIN_LEN_MAX: usize = 65_000;

/// The proxy's state; lives on its thread.
pub struct Relay {
    config: Config,
    shared: Arc<Shared>,
    listener: Socket,
    address: SocketAddr,
    clients: Clients,
    path: Path,
    queue: EventQueue<(Leg, Packet)>,
    outcome: Outcome,
    train: Train,
    epoch: std::time::Instant,
}

/// The clients by their address, each with a socket towards the server.
#[derive(Default)]
struct Clients {
    by_address: BTreeMap<SocketAddr, Client>,
}

struct Client {
    socket: Socket,
    since: Instant,
    rebinds: u64,
}

/// Datagrams of one flow that can leave as one train.
#[derive(Default)]
struct Train {
    bytes: Vec<u8>,
    segment: usize,
    count: usize,
    /// Direction, client and codepoint; none when the train is empty.
    flow: Option<(Direction, SocketAddr, Codepoint)>,
    /// A datagram shorter than the others ends a train.
    closed: bool,
}

impl Relay {
    pub fn new(config: Config, shared: Arc<Shared>) -> io::Result<Self> {
        let listener = Socket::bind(config.listen)?;
        Ok(Self {
            address: listener.address()?,
            listener,
            shared,
            clients: Clients::default(),
            path: config.path(),
            queue: EventQueue::new(Instant::from_nanos(0)),
            outcome: Outcome::default(),
            train: Train::default(),
            epoch: std::time::Instant::now(),
            config,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until the owner says stop.
    pub fn run(mut self) -> io::Result<()> {
        // The kernel otherwise rounds every sleep up by 50 µs. Where it refuses, delays are that much longer.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        let mut buffers = Buffers::default();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut idle = !self.receive_up(&mut buffers)?;
            idle &= !self.receive_down(&mut buffers)?;
            self.forward();
            if idle {
                self.sleep()?;
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(0) + self.epoch.elapsed()
    }

    /// Takes what clients sent.
    fn receive_up(&mut self, buffers: &mut Buffers) -> io::Result<bool> {
        let now = self.now();
        let (queue, server) = (&mut self.queue, self.config.to);
        let capture = self.config.capture.as_ref();
        let mut new_clients = Vec::new();
        let clients = &self.clients;
        let mut received = 0;
        let some = self.listener.receive(buffers, |from, ecn, datagram| {
            received += 1;
            if !clients.by_address.contains_key(&from) && !new_clients.contains(&from) {
                new_clients.push(from);
            }
            let packet = Packet { src: from, dst: server, ecn, payload: datagram.to_vec() };
            write_down(capture, Point::Sent, Direction::Up, &packet);
            enter(queue, now, Direction::Up, packet);
        })?;
        self.shared.received.fetch_add(received, Ordering::Relaxed);
        for from in new_clients {
            self.clients.add(from, &self.config, now)?;
        }
        if let Some(after) = self.config.rebind_after {
            let rebinds = self.clients.rebind(&self.config, now, after)?;
            self.shared.rebinds.fetch_add(rebinds, Ordering::Relaxed);
        }
        Ok(some)
    }

    /// Takes what the server sent to each client.
    fn receive_down(&mut self, buffers: &mut Buffers) -> io::Result<bool> {
        let now = self.now();
        let (queue, server) = (&mut self.queue, self.config.to);
        let capture = self.config.capture.as_ref();
        let mut received = 0;
        let mut some = false;
        for (&address, client) in &self.clients.by_address {
            some |= client.socket.receive(buffers, |from, ecn, datagram| {
                if from == server {
                    received += 1;
                    let packet = Packet { src: server, dst: address, ecn, payload: datagram.to_vec() };
                    write_down(capture, Point::Sent, Direction::Down, &packet);
                    enter(queue, now, Direction::Down, packet);
                }
            })?;
        }
        self.shared.received.fetch_add(received, Ordering::Relaxed);
        Ok(some)
    }

    /// Moves everything that is due one hop on, and out at the end.
    fn forward(&mut self) {
        let now = self.now();
        while self.queue.next_time().is_some_and(|at| at <= now) {
            let Some((at, (leg, packet))) = self.queue.pop() else { break };
            if self.path.is_over(leg) {
                self.deliver(leg.direction, packet);
                continue;
            }
            self.path.step(at, leg, packet, &mut self.outcome);
            self.count();
            let leg = Leg { passed_hops: leg.passed_hops + 1, ..leg };
            for (at, packet) in self.outcome.passed.drain(..) {
                self.queue.schedule(at, (leg, packet));
            }
        }
        self.flush();
    }

    /// Counts what a hop did.
    fn count(&self) {
        let Shared { dropped, lost, black_holed, damaged, .. } = &*self.shared;
        for (reason, _) in &self.outcome.dropped {
            dropped.fetch_add(1, Ordering::Relaxed);
            lost.fetch_add(u64::from(*reason == Dropped::Loss), Ordering::Relaxed);
            black_holed.fetch_add(u64::from(*reason == Dropped::BlackHole), Ordering::Relaxed);
        }
        damaged.fetch_add(self.outcome.damaged, Ordering::Relaxed);
    }

    fn deliver(&mut self, direction: Direction, packet: Packet) {
        write_down(self.config.capture.as_ref(), Point::Delivered, direction, &packet);
        let client = match direction {
            Direction::Up => packet.src,
            Direction::Down => packet.dst,
        };
        let flow = (direction, client, packet.ecn);
        if !self.train.takes(flow, packet.payload.len()) || self.train.count >= self.listener.segments_max() {
            self.flush();
        }
        self.train.push(flow, &packet.payload);
        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
        self.shared.marked.fetch_add(u64::from(packet.ecn.is_capable()), Ordering::Relaxed);
    }

    fn flush(&mut self) {
        if let Some((direction, client, ecn)) = self.train.flow {
            let Train { bytes, segment, .. } = &self.train;
            match direction {
                Direction::Down => self.listener.send(client, ecn, bytes, *segment),
                Direction::Up => {
                    if let Some(client) = self.clients.by_address.get(&client) {
                        client.socket.send(self.config.to, ecn, bytes, *segment);
                    }
                }
            }
            self.train.clear();
        }
    }

    /// Sleeps until something arrives or is due.
    fn sleep(&self) -> io::Result<()> {
        let due = self.queue.next_time().map_or(SLEEP_MAX, |at| at - self.now()).min(SLEEP_MAX);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(due.subsec_nanos()) };
        let sockets = self.clients.by_address.values().map(|client| &client.socket);
        let mut fds: Vec<PollFd<'_>> =
            std::iter::once(&self.listener).chain(sockets).map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Adds a datagram to the capture, if there is one.
fn write_down(capture: Option<&Capture>, point: Point, direction: Direction, packet: &Packet) {
    if let Some(capture) = capture {
        let client = if direction == Direction::Up { packet.src } else { packet.dst };
        capture.add(Datagram { point, direction, client, ecn: packet.ecn, payload: packet.payload.clone() });
    }
}

/// Puts a datagram on the path.
fn enter(queue: &mut EventQueue<(Leg, Packet)>, now: Instant, direction: Direction, packet: Packet) {
    if queue.len() < UNDER_WAY_MAX {
        queue.schedule(now, (Leg::start(direction), packet));
    }
}

impl Clients {
    /// Datagrams of clients beyond the limit find no socket and are lost.
    fn add(&mut self, address: SocketAddr, config: &Config, now: Instant) -> io::Result<()> {
        if self.by_address.len() < CLIENTS_MAX {
            let socket = Socket::bind(config.outside(0))?;
            self.by_address.insert(address, Client { socket, since: now, rebinds: 0 });
        }
        Ok(())
    }

    /// Returns how many clients got a new address.
    fn rebind(&mut self, config: &Config, now: Instant, after: Duration) -> io::Result<u64> {
        let mut count = 0;
        let every = config.rebind_every.unwrap_or(after);
        let is_due = |client: &Client| now - client.since >= if client.rebinds == 0 { after } else { every };
        for client in self.by_address.values_mut().filter(|client| is_due(client)) {
            let rebinds = client.rebinds + 1;
            *client = Client { socket: Socket::bind(config.outside(rebinds))?, since: now, rebinds };
            count += 1;
        }
        Ok(count)
    }
}

impl Train {
    fn takes(&self, flow: (Direction, SocketAddr, Codepoint), len: usize) -> bool {
        self.flow.is_none_or(|own| {
            own == flow && !self.closed && len > 0 && len <= self.segment && self.bytes.len() + len <= TRAIN_LEN_MAX
        })
    }

    fn push(&mut self, flow: (Direction, SocketAddr, Codepoint), datagram: &[u8]) {
        if self.flow.is_none() {
            self.flow = Some(flow);
            self.segment = datagram.len();
        }
        self.closed = datagram.len() < self.segment;
        self.count += 1;
        self.bytes.extend_from_slice(datagram);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.flow = None;
        self.closed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> (Direction, SocketAddr, Codepoint) {
        (Direction::Up, ([127, 0, 0, 1], port).into(), Codepoint::Ect0)
    }

    #[test]
    fn a_train_takes_equal_lengths_of_one_flow_and_a_shorter_end() {
        let mut train = Train::default();
        train.push(flow(1), &[0; 100]);
        assert!(train.takes(flow(1), 100));
        assert!(!train.takes(flow(2), 100), "another client");
        assert!(!train.takes(flow(1), 101), "longer than the first");
        train.push(flow(1), &[0; 40]);
        assert!(!train.takes(flow(1), 40), "nothing follows a shorter one");
        train.clear();
        assert!(train.takes(flow(2), 999));
    }
}
