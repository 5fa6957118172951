//! A network inside the process, for tests: ports that deliver to each other at once and in order.
//!
//! The same calls on one thread always give the same result: there is no time, no loss but by the bound on a port's
//! queue ([`MEMORY_QUEUE_MAX`] datagrams), and trains arrive as they were sent. Ports may be used from different
//! threads, and then [`wait`](crate::Io::wait) sleeps until something arrives.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use warpline_frame::Frame;
use warpline_ring::Lock;

use crate::Io;
use crate::bell::{Doorbell, Waker};
use crate::kind::IoKind;
use crate::limits::{MEMORY_QUEUE_MAX, MESSAGE_COST_MIN, RECV_BATCH};
use crate::meta::{Received, TxMeta};
use crate::stats::{Stat, StatsHandle};
use crate::tx::TxQueue;

/// A network that ports attach to.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Lock<BTreeMap<SocketAddr, Arc<Inbox>>>>);

/// What has arrived at a port.
#[derive(Debug)]
struct Inbox {
    queue: Lock<Queue>,
    bell: Doorbell,
}

#[derive(Debug, Default)]
struct Queue {
    trains: VecDeque<Received>,
    datagrams: usize,
}

impl Hub {
    /// A network without ports.
    pub fn new() -> Hub {
        Hub::default()
    }

    /// A port at `addr`. Fails with `AddrInUse` if there is one.
    pub fn attach(&self, addr: SocketAddr) -> io::Result<Io> {
        let inbox = Arc::new(Inbox { queue: Lock::default(), bell: Doorbell::new(Waker::thread()) });
        let mut ports = self.0.lock();
        if ports.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let queue = TxQueue::new(None)?;
        ports.insert(addr, inbox.clone());
        Ok(Io::Memory(Port {
            hub: self.clone(),
            addr,
            inbox,
            queue,
            taken_bytes: 0,
            stats: StatsHandle::new(IoKind::Memory),
        }))
    }
}

/// Two ports on a network of their own.
pub fn pair(a: SocketAddr, b: SocketAddr) -> io::Result<(Io, Io)> {
    let hub = Hub::new();
    Ok((hub.attach(a)?, hub.attach(b)?))
}

/// One end in a [`Hub`].
pub struct Port {
    hub: Hub,
    addr: SocketAddr,
    inbox: Arc<Inbox>,
    queue: TxQueue,
    taken_bytes: u64,
    stats: StatsHandle,
}

impl Port {
    pub(crate) fn recv(&mut self, out: &mut Vec<Received>) -> io::Result<usize> {
        out.clear();
        self.stats.add(Stat::RecvCalls, 1);
        let mut queue = self.inbox.queue.lock();
        let count = queue.trains.len().min(RECV_BATCH);
        for train in queue.trains.drain(..count) {
            self.stats.add(Stat::RxTrains, 1);
            self.stats.add(Stat::RxDatagrams, train.count());
            self.stats.add(Stat::RxBytes, train.frame.len());
            self.taken_bytes += cost(&train) as u64;
            out.push(train);
        }
        queue.datagrams -= out.iter().map(Received::count).sum::<usize>();
        Ok(out.len())
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.inbox.queue.lock().trains.iter().map(cost).sum()
    }

    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    pub(crate) fn tx_buffer(&mut self) -> Option<&mut [u8]> {
        if self.queue.buffer().is_none() {
            self.flush();
        }
        self.queue.buffer()
    }

    pub(crate) fn tx_commit(&mut self, meta: TxMeta) {
        self.queue.commit(meta);
    }

    pub(crate) fn flush(&mut self) {
        while let Some(train) = self.queue.pending().first() {
            let TxMeta { remote, local, ecn, segment_size, len } = train.meta;
            let frame = Frame::from_vec(self.queue.bytes(train, 0, len).to_vec());
            let from = SocketAddr::new(local.unwrap_or(self.addr.ip()), self.addr.port());
            let received = Received { frame, segment_size, remote: from, local: Some(remote.ip()), ecn };
            self.send(remote, received);
            self.queue.advance(len);
        }
    }

    fn send(&self, remote: SocketAddr, train: Received) {
        self.stats.add(Stat::SendCalls, 1);
        let (count, len) = (train.count(), train.frame.len());
        let Some(inbox) = self.hub.0.lock().get(&remote).cloned() else {
            self.stats.add(Stat::DropTxRefused, count);
            return;
        };
        self.stats.add(Stat::TxTrains, 1);
        self.stats.add(Stat::TxDatagrams, count);
        self.stats.add(Stat::TxBytes, len);
        let mut queue = inbox.queue.lock();
        // Beyond the bound it is lost, as in a socket buffer: the sender cannot know.
        if queue.datagrams + count <= MEMORY_QUEUE_MAX {
            queue.datagrams += count;
            queue.trains.push_back(train);
        }
        drop(queue);
        inbox.bell.ring();
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        let bell = self.inbox.bell.inner();
        if bell.take() || timeout == Some(Duration::ZERO) || !self.inbox.queue.lock().trains.is_empty() {
            return;
        }
        if !bell.prepare_sleep() {
            return;
        }
        self.stats.add(Stat::WaitCalls, 1);
        bell.notifier().sleep(timeout);
        bell.wake();
    }

    pub(crate) fn doorbell(&self) -> Doorbell {
        self.inbox.bell.clone()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }
}

/// What a train counts of what waits and of what was taken.
fn cost(train: &Received) -> usize {
    train.frame.len().max(MESSAGE_COST_MIN)
}

impl Drop for Port {
    fn drop(&mut self) {
        self.hub.0.lock().remove(&self.addr);
    }
}
