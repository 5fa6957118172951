//! The backend: one worker's queues, and the kernel's socket beside them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warpline_frame::{Frame, Pages, Pool, PoolConfig};
use warpline_ring::spsc::Consumer;
use warpline_wire::net;

use crate::bell::{Doorbell, Waker};
use crate::config::IoConfig;
use crate::limits::{SMALL_FRAME, XDP_BURST, XDP_COUNTERS_EVERY, XDP_LOOK_AROUND, XDP_PUT_OFF_TURNS, XDP_RETRY};
use crate::meta::{Ecn, Received, TxMeta};
use crate::pools::place;
use crate::select::is_passing;
use crate::stats::{Stat, StatsHandle};
use crate::udp::Udp;
use crate::udp::socket::Bound;

use super::bpf::Hook;
use super::checksums;
use super::config::{InterfaceName, XdpCounters, XdpFrames, XdpMode, XdpStatus};
use super::device::{Attachment, Device};
use super::group::Seat;
use super::guest::{Guest, GuestLink};
use super::inlet::{deliver, take};
use super::lane::{Lane, Opened, Outbound, PAYLOAD_AT, Plot};
use super::netlink::LinkInfo;
use super::outlet::{Outlet, View};
use super::reception::Reception;
use super::router::{Router, Verdict};
use super::sleep::Sleep;
use super::waiting::{Datagram, Waiting};

/// One worker's queues, and the kernel's socket beside them.
pub struct Xdp {
    pub(super) device: Arc<Device>,
    pub(super) lanes: Vec<Lane>,
    /// The way out of a worker that has no queue of its own.
    guest: Option<Guest>,
    /// The way in for guests, until somebody who opens back ends takes it.
    pub(super) reception: Option<Reception>,
    /// Guests that are to be taken in.
    arrivals: Option<Consumer<GuestLink>>,
    status: XdpStatus,
    pub(super) router: Router,
    pub(super) kernel: Udp,
    /// Where received data is copied to when the program holds too many frames.
    copies: Pool,
    pub(super) waiting: Waiting,
    build: Build,
    /// Turns since packets were first left in the TX ring for the next one, or for the sleep, to send.
    pub(super) put_off: u32,
    pub(super) sleep: Sleep,
    /// What is left of [`XDP_LOOK_AROUND`] until the kernel's socket and netlink are looked at.
    pub(super) look_around: usize,
    /// When the queues are opened again that could not be for want of something.
    pub(super) retry: Option<Instant>,
    /// When other threads were last told what the kernel counts.
    told: Instant,
    /// Received by way of the kernel's socket; empty between calls.
    aside: Vec<Received>,
    pub(super) bell: Doorbell,
    pub(super) busy_poll: Duration,
    /// The number of the interface that the queues belong to.
    opened_on: u32,
    pub(super) stats: StatsHandle,
}

/// What is being built to be sent.
struct Build {
    frame: Option<Frame>,
    /// Datagrams of a train after its first, while it is cut up; empty between calls.
    rest: Vec<(Frame, usize)>,
    /// Bytes of the longest payload now.
    payload_max: usize,
}

impl Xdp {
    /// The back end of one worker beside the kernel's socket. With a seat that has queues it owns them; otherwise it is to be a
    /// [guest](Self::stay_with).
    pub(super) fn new(device: Arc<Device>, kernel: Udp, seat: Option<Seat>, io_config: &IoConfig) -> io::Result<Xdp> {
        let device_config = *device.config();
        let name = device_config.interface;
        let router = Router::new(name.as_str(), kernel.local_addr().port())?;
        let Some(link) = router.link().cloned() else {
            let what = format!("there is no interface {}", name.as_str());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        };
        let attachment = device.attach(&link)?;
        let queues = seat.map_or_else(Vec::new, |seat| seat.queues(&attachment.queues));
        let node = io_config.numa_node.or_else(|| device_node(&name));
        // Guests send by the first one.
        let guests = seat.map_or(0, |seat| seat.guests(attachment.queues.len()));
        let lane = |(at, &queue)| {
            let guests = if at == 0 { guests } else { 0 };
            Lane::new(Plot { queue, guests, node, mtu: link.mtu }, device.config())
        };
        let lanes = queues.iter().enumerate().map(lane).collect::<io::Result<Vec<Lane>>>()?;
        let bell = Doorbell::new(Waker::event()?);
        let (reception, arrivals) = match &lanes[..] {
            [first, ..] if guests > 0 => Some(Reception::new(first, bell.clone(), guests, node)).unzip(),
            _ => (None, None),
        };
        let frame_size = lanes.iter().map(Lane::frame_size).max().unwrap_or(SMALL_FRAME);
        let copies = PoolConfig { frame_size, frames: io_config.small_frames.max(1), huge_pages: false };
        let stats = kernel.stats();
        let interface = name.as_str().to_owned();
        let status = XdpStatus { interface, queues, guest_of: None, mode: None, reason: String::new() };
        let mut xdp = Xdp {
            device,
            lanes,
            guest: None,
            reception,
            arrivals,
            status,
            router,
            kernel,
            copies: place(Pool::new(copies)?, node)?,
            waiting: Waiting::new(),
            build: Build { frame: None, rest: Vec::new(), payload_max: 0 },
            put_off: 0,
            sleep: Sleep::new(device_config.wakeups, device_config.busy_poll_budget)?,
            look_around: XDP_LOOK_AROUND,
            retry: None,
            told: Instant::now(),
            aside: Vec::new(),
            bell,
            busy_poll: io_config.busy_poll,
            opened_on: attachment.ifindex,
            stats,
        };
        xdp.open(&attachment, &link)?;
        Ok(xdp)
    }

    /// Becomes a guest of the worker with number `owner`, whose `reception` that is, and whose status was this when it began.
    pub(super) fn stay_with(&mut self, reception: &mut Reception, owner: usize, host: &XdpStatus) -> io::Result<()> {
        self.guest = Some(reception.admit(self.bell.clone())?);
        self.status.guest_of = Some(owner);
        let queue = host.queues.first().copied().unwrap_or_default();
        self.status.reason = format!("worker {owner} receives and sends for it, on queue {queue}: {}", host.reason);
        self.stats.set_xdp_status(&self.status);
        self.follow_owner();
        if let Some(link) = self.router.link().cloned() {
            self.set_mtu(&link);
        }
        Ok(())
    }

    /// Says for good how the worker came to its back end, and whether its queue was tried.
    pub(crate) fn explain(&self, tried: &str) {
        let XdpStatus { interface, queues, mode, reason, .. } = self.status();
        let mode = mode.map_or("no", XdpMode::name);
        self.stats.explain(&format!("{interface}, queues {queues:?}, {mode} mode: {reason}; {tried}"));
    }

    /// A guest's queue works as its owner says.
    fn follow_owner(&mut self) {
        let Some(guest) = &self.guest else { return };
        let mode = guest.mode();
        if self.status.mode != mode {
            self.status.mode = mode;
            self.stats.set_xdp_status(&self.status);
        }
    }

    /// Tells the guests how the queue works now.
    fn tell_guests(&self) {
        for lane in &self.lanes {
            lane.host().tell(self.status.mode, lane.finishes_checksums());
        }
    }

    /// Takes guests in that have come since the last turn.
    #[inline]
    fn welcome(&mut self) {
        if let (Some(arrivals), [lane, ..]) = (&mut self.arrivals, &mut self.lanes[..]) {
            while let Some(guest) = arrivals.pop() {
                lane.take_in(guest);
            }
        }
    }

    #[inline]
    fn outlet(&mut self) -> Outlet<'_> {
        Outlet::of(&mut self.lanes, &mut self.guest)
    }

    pub(super) fn view(&self) -> View<'_> {
        View(&self.lanes, self.guest.as_ref())
    }

    /// Opens the queues of an interface that the program is attached to.
    fn open(&mut self, attachment: &Attachment, link: &LinkInfo) -> io::Result<()> {
        let native = attachment.hook == Hook::Native;
        for lane in &mut self.lanes {
            let Opened { mode, why, checksums, polling } =
                lane.open(attachment.ifindex, native, self.device.config())?;
            self.status.mode = Some(mode);
            let why = if native { &why } else { &attachment.why };
            self.status.reason = format!("{why}; {checksums}");
            if let Some(polling) = polling {
                self.status.reason += &format!("; {polling}");
            }
        }
        self.opened_on = attachment.ifindex;
        self.enter()?;
        self.set_mtu(link);
        self.stats.set_xdp_status(&self.status);
        self.tell_guests();
        self.publish_frames();
        Ok(())
    }

    /// Goes over to another port: queues, memory and what waits in them stay, socket and program are new ones. Fails as binding
    /// and loading do, and with `Unsupported` where workers share a port; all stays as it was then.
    pub(crate) fn rebind(&mut self, addr: SocketAddr, config: &IoConfig) -> io::Result<()> {
        if self.device.is_shared() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "workers that share a port keep it"));
        }
        let bound = Bound::new(addr, config, false)?;
        let link = self.router.link().filter(|_| self.status.mode.is_some()).cloned();
        let device = self.device.move_to(bound.local_addr(), link.as_ref())?;
        self.device = Arc::new(device);
        self.sleep.forget();
        self.kernel.go_over(bound);
        self.router.set_port(self.kernel.local_addr().port());
        if link.is_some()
            && let Err(error) = self.enter()
        {
            self.give_up(&error);
        }
        Ok(())
    }

    /// Tells the program of sockets and addresses.
    fn enter(&self) -> io::Result<()> {
        for lane in &self.lanes {
            if let Some(socket) = lane.socket() {
                self.device.register(self.opened_on, lane.queue(), std::os::fd::AsFd::as_fd(socket))?;
            }
        }
        self.router.addresses().try_for_each(|address| self.device.set_address(address, true))
    }

    fn set_mtu(&mut self, link: &LinkInfo) {
        let room = self.view().payload_max();
        self.build.payload_max = link.mtu.saturating_sub(net::IPV4_LEN + net::UDP_LEN).min(room);
    }

    pub(crate) fn recv(&mut self, out: &mut Vec<Received>) -> io::Result<usize> {
        out.clear();
        self.welcome();
        for lane in &mut self.lanes {
            lane.serve_guests(&self.stats);
            if lane.receive(&self.stats) == 0 {
                continue;
            }
            let (packets, low) = lane.packets();
            for packet in packets {
                if let Some(received) = take(packet, &self.router, &self.stats) {
                    deliver(received, low, &mut self.copies, out, &self.stats);
                }
            }
        }
        self.look_around = self.look_around.saturating_sub(out.len().max(1));
        if self.look_around == 0 {
            self.look_around()?;
            if self.kernel.recv(&mut self.aside)? > 0 {
                // There may be more.
                self.look_around = 1;
                self.stats.add(Stat::RxByKernel, self.aside.iter().map(Received::count).sum());
                out.append(&mut self.aside);
            }
        }
        self.check_frames();
        Ok(out.len())
    }

    /// See [`Io::waiting_bytes`](crate::Io::waiting_bytes): of the kernel's socket, which is looked at next.
    pub(crate) fn waiting_bytes(&mut self) -> Option<usize> {
        let waiting = self.kernel.waiting_bytes()?;
        if waiting > 0 {
            self.look_around = 1;
        }
        Some(waiting)
    }

    /// See [`Io::left_behind`](crate::Io::left_behind).
    pub(crate) fn left_behind(&self) -> usize {
        self.lanes.iter().map(Lane::waiting).sum()
    }

    /// See [`Io::taken_bytes`](crate::Io::taken_bytes).
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.kernel.taken_bytes()
    }

    /// Takes in what netlink says, and drops what has waited too long.
    fn look_around(&mut self) -> io::Result<()> {
        self.look_around = XDP_LOOK_AROUND;
        self.publish_frames();
        self.publish_counters();
        self.stats.add(Stat::WaitCalls, 1);
        let changes = self.router.update()?;
        self.follow_owner();
        for &(address, present) in &changes.addresses {
            if let Err(error) = self.device.set_address(address, present) {
                tracing::warn!(%address, %error, "packets for an address stay with the kernel");
            }
        }
        let retries = self.retry.is_some_and(|at| Instant::now() >= at);
        if changes.link || retries {
            self.link_changed();
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        for &neighbour in &changes.neighbours {
            // Those that still have no address are queued again, behind the ones that are looked at.
            for _ in 0..self.waiting.len() {
                let Some(datagram) = self.waiting.take(neighbour) else { break };
                self.dispatch(datagram);
            }
        }
        let now = Instant::now();
        while let Some(datagram) = self.waiting.expired(now, false) {
            self.stats.add(Stat::DropTxRefused, 1);
            self.outlet().put_tx(datagram.frame);
        }
        self.flush()
    }

    /// The interface went, came, or changed.
    fn link_changed(&mut self) {
        self.retry = None;
        if self.guest.is_some() {
            // The queue is the owner's to close and open.
            if let Some(link) = self.router.link().cloned() {
                self.set_mtu(&link);
            }
            return;
        }
        let Some(link) = self.router.link().cloned() else {
            if self.status.mode.take().is_some() {
                tracing::warn!(interface = self.status.interface, "the interface is gone: the kernel's socket goes on");
                self.status.reason = "the interface does not exist".to_owned();
                self.close();
                self.stats.set_xdp_status(&self.status);
                self.tell_guests();
            }
            return;
        };
        self.set_mtu(&link);
        let attachment = match self.device.attach(&link) {
            Ok(attachment) => attachment,
            Err(error) => return self.give_up(&error),
        };
        let is_open = self.lanes.iter().all(|lane| lane.socket().is_some());
        if is_open && self.status.mode.is_some() && self.opened_on == link.index {
            return;
        }
        self.close();
        match self.open(&attachment, &link) {
            Ok(()) => tracing::info!(interface = self.status.interface, "the interface is back"),
            Err(error) => self.give_up(&error),
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(interface = self.status.interface, %error, "no AF_XDP: the kernel's socket goes on");
        self.status.mode = None;
        self.status.reason = error.to_string();
        self.stats.set_xdp_status(&self.status);
        // What is used up at the moment comes back.
        self.retry = is_passing(error).then(|| Instant::now() + XDP_RETRY);
        self.close();
        self.tell_guests();
    }

    /// Gives up the queues' sockets.
    fn close(&mut self) {
        self.sleep.forget();
        for index in 0..self.lanes.len() {
            let elsewhere = self.elsewhere(index);
            self.lanes[index].close(elsewhere);
        }
    }

    pub(crate) fn tx_buffer(&mut self) -> Option<&mut [u8]> {
        let Build { frame, payload_max, .. } = &mut self.build;
        if frame.is_none() {
            *frame = Outlet::of(&mut self.lanes, &mut self.guest).take_tx(&self.stats);
        }
        frame.as_mut().map(|frame| &mut frame[PAYLOAD_AT..PAYLOAD_AT + *payload_max])
    }

    pub(crate) fn tx_commit(&mut self, meta: TxMeta) {
        let frame = self.build.frame.take().expect("a train is built in a buffer");
        let TxMeta { remote, local, ecn, segment_size, len } = meta;
        assert!(segment_size > 0, "a datagram has at least one byte");
        assert!((1..=self.build.payload_max).contains(&len), "a train fits its buffer");
        // Datagrams after the first one move to frames of their own.
        for at in (segment_size..len).step_by(segment_size) {
            let part = &frame[PAYLOAD_AT + at..PAYLOAD_AT + len.min(at + segment_size)];
            match Outlet::of(&mut self.lanes, &mut self.guest).take_tx(&self.stats) {
                Some(mut next) => {
                    next[PAYLOAD_AT..PAYLOAD_AT + part.len()].copy_from_slice(part);
                    self.build.rest.push((next, part.len()));
                }
                None => self.stats.add(Stat::DropTxRefused, 1),
            }
        }
        self.dispatch(Datagram { frame, len: len.min(segment_size), remote, local, ecn });
        let mut rest = std::mem::take(&mut self.build.rest);
        for (frame, len) in rest.drain(..) {
            self.dispatch(Datagram { frame, len, remote, local, ecn });
        }
        self.build.rest = rest;
    }

    /// Sends a datagram on its way: to the ring, to the queue of those that wait, to the kernel's socket.
    #[inline]
    fn dispatch(&mut self, datagram: Datagram) {
        let Datagram { mut frame, len, remote, local, ecn } = datagram;
        let (mut outlet, stats) = (Outlet::of(&mut self.lanes, &mut self.guest), &self.stats);
        let verdict = if outlet.is_closed() { Verdict::Kernel } else { self.router.resolve(remote, local) };
        match verdict {
            Verdict::Send { payload_max, .. } | Verdict::Wait { payload_max, .. } if len > payload_max => {
                stats.add(Stat::DropTxTooBig, 1);
            }
            Verdict::Send { template, .. } => {
                let start = PAYLOAD_AT - template.len();
                let ecn = ecn.map_or(0, Ecn::bits);
                let unfinished = outlet.finishes_checksums();
                let packet = &mut frame[start..PAYLOAD_AT + len];
                if unfinished {
                    template.write_unfinished(packet, remote.port(), ecn);
                    checksums::request(&mut frame, start, template.udp_at());
                } else {
                    template.write(packet, remote.port(), ecn);
                }
                if outlet.send(Outbound { frame, start, len: template.len() + len, unfinished }) {
                    stats.add(Stat::TxTrains, 1);
                    stats.add(Stat::TxDatagrams, 1);
                    stats.add(Stat::TxBytes, len);
                } else {
                    stats.add(Stat::DropTxRefused, 1);
                }
                return;
            }
            Verdict::Wait { neighbour, .. } => {
                let datagram = Datagram { frame, len, remote, local, ecn };
                if let Some(dropped) = self.waiting.push(neighbour, datagram, Instant::now()) {
                    stats.add(Stat::DropTxRefused, 1);
                    outlet.put_tx(dropped.frame);
                }
                return;
            }
            Verdict::Kernel => match self.kernel.tx_buffer() {
                Some(buffer) => {
                    buffer[..len].copy_from_slice(&frame[PAYLOAD_AT..PAYLOAD_AT + len]);
                    self.kernel.tx_commit(TxMeta { remote, local, ecn, segment_size: len, len });
                    stats.add(Stat::TxByKernel, 1);
                }
                None => stats.add(Stat::DropTxRefused, 1),
            },
            Verdict::Nowhere => stats.add(Stat::DropTxRefused, 1),
        }
        outlet.put_tx(frame);
    }

    /// Puts the call to the kernel off: for one turn, since a worker that then has nothing to do sleeps, by a call that sends;
    /// and for a few turns and up to a burst while there is more to receive, so that what a busy worker answers in small
    /// turns leaves together.
    #[inline]
    pub(crate) fn flush_soon(&mut self) -> io::Result<()> {
        if let [lane, ..] = &self.lanes[..]
            && self.sleep.sends()
            && self.put_off < XDP_PUT_OFF_TURNS
            && (1..XDP_BURST).contains(&lane.pending())
            && !lane.is_blocked()
            && self.kernel.tx_pending() == 0
            && (self.put_off == 0 || lane.is_ready())
        {
            self.put_off += 1;
            return Ok(());
        }
        self.flush()
    }

    /// Whether nothing is there to be received, as far as the rings tell, and the sleep has something to send.
    pub(crate) fn is_drained(&self) -> bool {
        self.put_off > 0 && !self.lanes.iter().any(Lane::is_ready)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.put_off = 0;
        Outlet::of(&mut self.lanes, &mut self.guest).flush(&self.stats);
        self.kernel.flush()
    }

    pub(crate) fn tx_pending(&self) -> usize {
        self.view().pending() + self.kernel.tx_pending()
    }

    pub(crate) fn tx_blocked(&self) -> bool {
        self.view().is_blocked() || self.kernel.tx_blocked()
    }

    pub(crate) fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.kernel.local_addr()
    }

    pub(crate) fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }

    pub(crate) fn pages(&self) -> Pages {
        self.view().pages().unwrap_or_else(|| self.copies.pages())
    }

    /// How the interface is used now.
    pub fn status(&self) -> &XdpStatus {
        &self.status
    }

    /// What the kernel counted on all queues of this worker. Fails as getsockopt(2) does.
    pub fn kernel_counters(&self) -> io::Result<XdpCounters> {
        let mut sum = XdpCounters::default();
        for socket in self.lanes.iter().filter_map(Lane::socket) {
            let of = socket.statistics()?;
            sum.rx_dropped += of.rx_dropped;
            sum.rx_ring_full += of.rx_ring_full;
            sum.fill_ring_empty += of.rx_fill_ring_empty_descs;
            sum.invalid_descriptors += of.rx_invalid_descs + of.tx_invalid_descs;
        }
        Ok(sum)
    }

    /// Where this worker's frames are.
    pub fn frames(&self) -> XdpFrames {
        self.lane_frames().fold(XdpFrames::default(), |sum, frames| sum + frames)
    }

    fn lane_frames(&self) -> impl Iterator<Item = XdpFrames> + '_ {
        self.lanes.iter().enumerate().map(|(index, lane)| lane.frames(self.elsewhere(index)))
    }

    /// Frames of a lane's for sending that are in the making, or wait for a neighbour.
    fn elsewhere(&self, index: usize) -> usize {
        // Packets are built and wait in frames of the first queue's.
        let sends = index == 0 && !self.lanes[index].is_jumbo();
        if sends { usize::from(self.build.frame.is_some()) + self.waiting.len() } else { 0 }
    }

    /// In tests and debug builds: every frame is somewhere, and none twice.
    pub(super) fn check_frames(&self) {
        if cfg!(debug_assertions) {
            for frames in self.lane_frames() {
                assert!(frames.add_up(), "each frame is in one place: {frames:?}");
            }
        }
    }

    /// Tells other threads what the kernel counts, now and then.
    fn publish_counters(&mut self) {
        if self.told.elapsed() < XDP_COUNTERS_EVERY {
            return;
        }
        self.told = Instant::now();
        self.stats.add(Stat::WaitCalls, self.lanes.len());
        if let Ok(counters) = self.kernel_counters() {
            self.stats.set_xdp_counters(&counters);
        }
    }

    /// Tells other threads where the frames are.
    pub(super) fn publish_frames(&self) {
        self.stats.set_xdp_frames(&self.frames());
    }
}

/// The NUMA node of a network card; `None` for interfaces without hardware and on machines with one node only.
fn device_node(name: &InterfaceName) -> Option<u32> {
    let path = format!("/sys/class/net/{}/device/numa_node", name.as_str());
    // It is -1 where there are no nodes.
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
