//! The rings between one worker and the others, and what goes through them.

use crate::limits::OVERFLOW_PACKETS;
use crate::mailbox::Mailbox;
use crate::worker::moving::MovedConnection;
use std::collections::VecDeque;
use warpline_frame::Frame;
use warpline_proto::DatagramMeta;
use warpline_ring::spsc::{Consumer, Full, Producer};
use warpline_wire::{ConnectionId, ResetToken};

/// A datagram on its way to the worker that owns its connection.
pub(crate) struct Packet {
    pub(crate) meta: DatagramMeta,
    pub(crate) frame: Frame,
    /// How often it was passed on.
    pub(crate) hops: u8,
}

/// An ID of a connection that lives at another worker than its slot says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stray {
    pub(crate) id: ConnectionId,
    /// The worker that has the connection.
    pub(crate) holder: u16,
    /// Whether packets may bear the ID from now on.
    pub(crate) added: bool,
}

/// What one worker sends to another.
pub(crate) enum Message {
    Packet(Packet),
    Moved(Box<MovedConnection>),
    Stray(Stray),
    /// Somebody's stateless reset, perhaps.
    Reset(ResetToken),
}

/// The way to one other worker.
pub(crate) struct Outbound {
    ring: Producer<Message>,
    mailbox: Mailbox,
    /// What did not fit, in order. While there is something, everything goes this way.
    overflow: VecDeque<Message>,
    /// Datagrams among it.
    packets: usize,
    /// Something was pushed that the other worker was not told of.
    unrung: bool,
}

impl Outbound {
    pub(crate) fn new(ring: Producer<Message>, mailbox: Mailbox) -> Self {
        Self { ring, mailbox, overflow: VecDeque::new(), packets: 0, unrung: false }
    }

    /// Moves what waits into the ring; `true` if nothing waits any more.
    fn flush(&mut self) -> bool {
        while let Some(message) = self.overflow.pop_front() {
            let is_packet = matches!(message, Message::Packet(_));
            match self.ring.push(message) {
                Ok(()) => {
                    self.packets -= usize::from(is_packet);
                    self.unrung = true;
                }
                Err(Full(message)) => {
                    self.overflow.push_front(message);
                    return false;
                }
            }
        }
        true
    }

    fn send(&mut self, message: Message) -> bool {
        if !self.flush() {
            return self.keep(message);
        }
        match self.ring.push(message) {
            Ok(()) => {
                self.unrung = true;
                true
            }
            Err(Full(message)) => self.keep(message),
        }
    }

    /// Nothing but datagrams is ever dropped, and those only beyond a bound.
    fn keep(&mut self, message: Message) -> bool {
        if matches!(message, Message::Packet(_)) {
            if self.packets >= OVERFLOW_PACKETS {
                return false;
            }
            self.packets += 1;
        }
        self.overflow.push_back(message);
        true
    }
}

/// A change of a worker's links, to be carried out on its thread.
pub(crate) enum LinkChange {
    /// There is a new worker.
    Open { worker: usize, outbound: Outbound, inbound: Consumer<Message> },
    /// A worker is gone; nothing is under way to or from it.
    Close { worker: usize },
}

/// The rings between one worker and the others.
#[derive(Default)]
pub(crate) struct Links {
    /// By number of the other worker; `None` where there is none, and for this one.
    outbound: Vec<Option<Outbound>>,
    inbound: Vec<(usize, Consumer<Message>)>,
    /// Something waits in an overflow queue.
    blocked: bool,
}

impl Links {
    pub(crate) fn apply(&mut self, change: LinkChange) {
        match change {
            LinkChange::Open { worker, outbound, inbound } => {
                if self.outbound.len() <= worker {
                    self.outbound.resize_with(worker + 1, || None);
                }
                self.outbound[worker] = Some(outbound);
                self.inbound.retain(|(from, _)| *from != worker);
                self.inbound.push((worker, inbound));
            }
            LinkChange::Close { worker } => {
                if let Some(outbound) = self.outbound.get_mut(worker) {
                    *outbound = None;
                }
                self.inbound.retain(|(from, _)| *from != worker);
            }
        }
    }

    /// Sends to a worker; `false` if the message was dropped: a datagram for which there is no room, or there is no
    /// such worker. The worker learns of it by [`ring`](Self::ring).
    #[inline]
    pub(crate) fn send(&mut self, to: u16, message: Message) -> bool {
        let Some(Some(outbound)) = self.outbound.get_mut(usize::from(to)) else { return false };
        let sent = outbound.send(message);
        self.blocked |= !outbound.overflow.is_empty();
        sent
    }

    /// Tells all others of what may be a stateless reset. Where there is no room it is not told: the peer sends another one.
    pub(crate) fn tell_of_reset(&mut self, token: ResetToken) {
        for outbound in self.outbound.iter_mut().flatten().filter(|outbound| outbound.overflow.is_empty()) {
            outbound.unrung |= outbound.ring.push(Message::Reset(token)).is_ok();
        }
    }

    /// Tries again to send what had no room; `true` if nothing waits any more.
    pub(crate) fn flush(&mut self) -> bool {
        if self.blocked {
            self.blocked = self.outbound.iter_mut().flatten().fold(false, |blocked, link| blocked | !link.flush());
        }
        !self.blocked
    }

    /// Gives up what still waits, since the worker ends; how many datagrams there were among it.
    pub(crate) fn abandon(&mut self) -> u64 {
        self.blocked = false;
        let waiting = self.outbound.iter_mut().flatten().map(|outbound| {
            outbound.overflow.clear();
            std::mem::take(&mut outbound.packets) as u64
        });
        waiting.sum()
    }

    /// Tells those to whom something was sent.
    pub(crate) fn ring(&mut self) {
        for outbound in self.outbound.iter_mut().flatten() {
            if std::mem::take(&mut outbound.unrung) {
                outbound.mailbox.ring();
            }
        }
    }

    /// Has all others look around, because this worker has come further in a change.
    pub(crate) fn ring_all(&mut self) {
        for outbound in self.outbound.iter_mut().flatten() {
            outbound.unrung = false;
            outbound.mailbox.ring();
        }
    }

    /// The rings from the others.
    pub(crate) fn inbound(&mut self) -> impl Iterator<Item = &mut Consumer<Message>> {
        self.inbound.iter_mut().map(|(_, ring)| ring)
    }

    /// Whether there are rings both ways to a worker.
    pub(crate) fn reaches(&self, worker: usize) -> bool {
        self.outbound.get(worker).is_some_and(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpline_ring::spsc;

    fn packet(hops: u8) -> Message {
        let meta = DatagramMeta { remote: ([127, 0, 0, 1], 1).into(), local: None, ecn: None };
        Message::Packet(Packet { meta, frame: Frame::from_vec(vec![0; 10]), hops })
    }

    fn stray(n: u16) -> Message {
        let id = ConnectionId::new(&n.to_be_bytes()).expect("two bytes are an ID's length");
        Message::Stray(Stray { id, holder: n, added: true })
    }

    #[test]
    fn a_full_ring_keeps_the_order_and_drops_datagrams_only_beyond_a_bound() {
        let (producer, consumer) = spsc::channel(4);
        let (mailbox, _inbox) = Mailbox::new(Box::new(|| ()));
        let mut links = Links::default();
        let (_, inbound) = spsc::channel(1);
        let outbound = Outbound::new(producer, mailbox);
        links.apply(LinkChange::Open { worker: 2, outbound, inbound });
        assert!(links.reaches(2) && !links.reaches(1) && !links.send(1, stray(1)));
        let sent = (0..OVERFLOW_PACKETS + 10).filter(|n| links.send(2, packet((n % 251) as u8))).count();
        assert_eq!(sent, OVERFLOW_PACKETS + 4, "the ring holds four");
        assert!(links.send(2, stray(7)), "what is no datagram is never dropped");
        let mut receiver = consumer;
        let mut got = Vec::new();
        while !links.flush() {
            got.extend(std::iter::from_fn(|| receiver.pop()));
        }
        got.extend(std::iter::from_fn(|| receiver.pop()));
        assert_eq!(got.len(), OVERFLOW_PACKETS + 5);
        let in_order = got.iter().enumerate().all(|(n, message)| match message {
            Message::Packet(packet) => usize::from(packet.hops) == n % 251,
            Message::Stray(stray) => n == OVERFLOW_PACKETS + 4 && stray.holder == 7,
            Message::Moved(_) | Message::Reset(_) => false,
        });
        assert!(in_order);
    }

    #[test]
    fn what_a_worker_that_ends_could_not_send_is_counted() {
        let (producer, mut receiver) = spsc::channel(4);
        let (mailbox, _inbox) = Mailbox::new(Box::new(|| ()));
        let mut links = Links::default();
        let outbound = Outbound::new(producer, mailbox);
        links.apply(LinkChange::Open { worker: 1, outbound, inbound: spsc::channel(1).1 });
        let sent = (0..10).filter(|n| links.send(1, packet(*n))).count();
        assert!(links.send(1, stray(3)) && !links.flush());
        // The other one takes two before the worker has ended, and what is in the ring after it.
        let mut got = usize::from(receiver.pop().is_some()) + usize::from(receiver.pop().is_some());
        links.flush();
        let lost = links.abandon();
        assert!(links.flush(), "nothing waits any more");
        got += std::iter::from_fn(|| receiver.pop()).count();
        assert_eq!((sent, got, lost), (10, 6, 4));
        assert_eq!(links.abandon(), 0, "counted once");
    }
}
