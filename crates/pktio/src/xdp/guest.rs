//! Workers that have no queue of their own.
//!
//! Only one thread may touch a queue's rings and lend its memory. Where there are more workers than queues, those without
//! one are *guests* of a worker that owns one:
//!
//! - What arrives for a guest is received by the owner and handed over like everything that came to the wrong worker, as
//!   a frame; the guest opens it where it lies.
//! - To send, a guest gets free frames of the queue's memory by a ring, builds and seals packets in them, headers
//!   included, and gives them back by another one ([`GuestLink`] is the owner's end of both). The owner only enters them
//!   in the TX ring, and gives the guest others once they are sent.
//!
//! Frames move as values, so none is ever at two places; nothing is copied. Only packets of several frames, which are cut
//! up on their way out in any case, are built in memory of the guest's own. When the owner has ended, its guests send by
//! the kernel's socket.
//!
//! Guests come and go while the owner works (`reception`). One that goes says so after its last packet; the owner sends
//! what is left in the ring, and the frames that the guest had go home by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use warpline_frame::{Frame, Pool};
use warpline_ring::Flag;
use warpline_ring::spsc::{self, Consumer, Full, Producer};

use super::config::XdpMode;
use super::lane::{Outbound, PAYLOAD_AT};
use crate::bell::Doorbell;
use crate::limits::XDP_GUEST_FRAMES;

/// What the owner of a queue says to all its guests.
#[derive(Default)]
pub(super) struct Host {
    /// The owner is gone.
    ended: AtomicBool,
    /// How the queue works now, as [`encode`] says it.
    mode: AtomicU8,
    /// Whether packets may be given away with their checksums unfinished.
    finishes_checksums: AtomicBool,
}

impl Host {
    /// Says how the queue works now, `None` while the interface is gone; and whether checksums may be left unfinished.
    pub(super) fn tell(&self, mode: Option<XdpMode>, finishes_checksums: bool) {
        self.mode.store(encode(mode), Ordering::Relaxed);
        self.finishes_checksums.store(finishes_checksums, Ordering::Relaxed);
    }

    /// Has the guests send by the kernel's socket from now on.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the owner of the queue has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// What a guest says to its owner.
pub(super) struct Signs {
    /// It has no frame to build in, and waits for one.
    starved: Flag,
    /// It is gone.
    left: AtomicBool,
}

impl Signs {
    /// Whether the guest is gone; what it gave before is in the ring.
    #[inline]
    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }
}

/// The owner's end.
pub(super) struct GuestLink {
    supply: Producer<Frame>,
    ready: Consumer<Outbound>,
    bell: Doorbell,
    signs: Arc<Signs>,
    /// Frames that the guest has.
    out: usize,
}

/// The guest's end.
pub(super) struct Guest {
    supply: Consumer<Frame>,
    ready: Producer<Outbound>,
    owner: Doorbell,
    host: Arc<Host>,
    signs: Arc<Signs>,
    /// Frames that were not used after all.
    unused: Vec<Frame>,
    /// Where packets of several frames are built.
    jumbo: Option<Pool>,
    payload_max: usize,
    /// Something was given to the owner that it was not told of.
    unrung: bool,
    starved: bool,
}

/// What a guest has to know of its queue.
pub(super) struct Premises {
    pub(super) host: Arc<Host>,
    /// Wakes the owner.
    pub(super) owner: Doorbell,
    /// Where packets are built that take several frames; `None` if each fits one.
    pub(super) jumbo: Option<Pool>,
    /// Bytes of the longest payload that a frame has room for.
    pub(super) payload_max: usize,
}

/// Links a guest, woken by `guest`, to the owner of a queue.
pub(super) fn link(guest: Doorbell, premises: Premises) -> (GuestLink, Guest) {
    let Premises { host, owner, jumbo, payload_max } = premises;
    let (give, supply) = spsc::channel(XDP_GUEST_FRAMES);
    let (send, ready) = spsc::channel(XDP_GUEST_FRAMES);
    let signs = Arc::new(Signs { starved: Flag::new(false), left: AtomicBool::default() });
    let link = GuestLink { supply: give, ready, bell: guest, signs: Arc::clone(&signs), out: 0 };
    let unused = Vec::with_capacity(XDP_GUEST_FRAMES);
    let guest =
        Guest { supply, ready: send, owner, host, signs, unused, jumbo, payload_max, unrung: false, starved: false };
    (link, guest)
}

impl GuestLink {
    /// Whether there is no packet to be sent.
    #[inline]
    pub(super) fn is_done(&mut self) -> bool {
        self.ready.is_empty()
    }

    /// The next packet to be sent.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Outbound> {
        self.ready.pop()
    }

    /// A frame came back in a packet.
    pub(super) fn settle(&mut self) {
        self.out -= 1;
    }

    /// Whether the guest may have another frame.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.out < XDP_GUEST_FRAMES
    }

    /// How many frames the guest has.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Gives the guest a frame; it comes back if there is no room for it.
    #[inline]
    pub(super) fn give(&mut self, frame: Frame) -> Result<(), Frame> {
        self.supply.push(frame).map_err(|Full(frame)| frame)?;
        self.out += 1;
        Ok(())
    }

    /// Wakes the guest if it waits for frames, after it was given some.
    #[inline]
    pub(super) fn wake_if_starved(&self) {
        // Taken after the push that it tells of; a guest that raises it later finds what was pushed.
        if self.signs.starved.take() {
            self.bell.ring();
        }
    }

    /// What the guest says.
    pub(super) fn signs(&self) -> &Arc<Signs> {
        &self.signs
    }

    /// Wakes the guest, whatever it waits for.
    pub(super) fn wake(&self) {
        self.bell.ring();
    }
}

impl Guest {
    /// A frame to build a packet in; the payload goes to [`PAYLOAD_AT`].
    #[inline]
    pub(super) fn take_tx(&mut self) -> Option<Frame> {
        let frame = self.unused.pop().or_else(|| match &mut self.jumbo {
            Some(pool) => pool.take(),
            None => self.supply.pop(),
        });
        let frame = frame.or_else(|| self.wait_or_do_without());
        self.starved = frame.is_none();
        frame
    }

    /// Asks to be woken when there are frames again. Once the owner has ended none will come: then it is heap, for the
    /// kernel's socket.
    #[cold]
    fn wait_or_do_without(&mut self) -> Option<Frame> {
        if self.has_ended() {
            return Some(Frame::from_vec(vec![0; PAYLOAD_AT + self.payload_max]));
        }
        self.flush();
        self.signs.starved.raise();
        match &mut self.jumbo {
            Some(pool) => pool.take(),
            None => self.supply.pop(),
        }
    }

    /// Takes a frame back unused.
    #[inline]
    pub(super) fn put_tx(&mut self, frame: Frame) {
        // Those of the other pool find their way home.
        if self.jumbo.is_none() {
            self.unused.push(frame);
        }
    }

    /// Gives a packet to the owner. False if it was dropped: the owner has ended.
    #[inline]
    pub(super) fn send(&mut self, packet: Outbound) -> bool {
        match self.ready.push(packet) {
            Ok(()) => {
                self.unrung = true;
                true
            }
            // The ring has room for every frame that a guest gets from its owner.
            Err(Full(packet)) => {
                self.put_tx(packet.frame);
                false
            }
        }
    }

    /// Tells the owner of what it was given.
    #[inline]
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.unrung) {
            self.owner.ring();
        }
    }

    /// Whether there was no frame to build in.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether the owner of the queue has ended.
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.host.has_ended()
    }

    /// How the owner's queue works now; `None` while the interface is gone, and once the owner has ended.
    pub(super) fn mode(&self) -> Option<XdpMode> {
        let mode = decode(self.host.mode.load(Ordering::Relaxed));
        mode.filter(|_| !self.has_ended())
    }

    /// Whether packets may be given away with their checksums unfinished.
    #[inline]
    pub(super) fn finishes_checksums(&self) -> bool {
        self.host.finishes_checksums.load(Ordering::Relaxed)
    }

    /// Bytes of the longest payload that a frame has room for.
    pub(super) fn payload_max(&self) -> usize {
        self.payload_max
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.signs.left.store(true, Ordering::Release);
        self.owner.ring();
    }
}

const MODES: [XdpMode; 3] = [XdpMode::ZeroCopy, XdpMode::Copy, XdpMode::Generic];

/// A mode as a byte, 0 for none.
fn encode(mode: Option<XdpMode>) -> u8 {
    mode.and_then(|mode| (1..).zip(MODES).find(|&(_, known)| known == mode)).map_or(0, |(byte, _)| byte)
}

fn decode(byte: u8) -> Option<XdpMode> {
    MODES.get(usize::from(byte).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bell::Waker;
    use warpline_frame::PoolConfig;

    fn linked() -> (GuestLink, Guest) {
        let bell = || Doorbell::new(Waker::thread());
        link(bell(), Premises { host: Arc::default(), owner: bell(), jumbo: None, payload_max: 100 })
    }

    fn frame(n: u8) -> Frame {
        Frame::from_vec(vec![n; 256])
    }

    #[test]
    fn frames_go_round_and_a_guest_gets_no_more_than_its_share() {
        let (mut link, mut guest) = linked();
        assert!(guest.take_tx().is_none() && guest.is_starved());
        let given = (0..).take_while(|n| link.has_room() && link.give(frame(*n as u8)).is_ok()).count();
        assert_eq!((given, link.out()), (XDP_GUEST_FRAMES, XDP_GUEST_FRAMES));
        for n in 0..XDP_GUEST_FRAMES {
            let frame = guest.take_tx().expect("it was given so many");
            assert_eq!(frame[0], n as u8);
            assert!(guest.send(Outbound { frame, start: n % 7, len: 10, unfinished: n % 2 == 1 }));
        }
        assert!(guest.take_tx().is_none() && guest.is_starved());
        for n in 0..XDP_GUEST_FRAMES {
            let Outbound { frame, start, len, unfinished } = link.next().expect("it sent so many");
            assert_eq!((frame[0], start, len, unfinished), (n as u8, n % 7, 10, n % 2 == 1));
            link.settle();
        }
        assert!(link.next().is_none());
        assert_eq!(link.out(), 0);
    }

    #[test]
    fn what_is_not_used_is_used_next_and_the_end_of_the_owner_stops_nobody() {
        let (mut link, mut guest) = linked();
        assert!(link.give(frame(5)).is_ok());
        let frame = guest.take_tx().expect("it was given one");
        guest.put_tx(frame);
        assert_eq!(guest.take_tx().map(|frame| frame[0]), Some(5));
        assert!(guest.take_tx().is_none());
        guest.host.tell(Some(XdpMode::Copy), true);
        assert!(guest.mode() == Some(XdpMode::Copy) && guest.finishes_checksums());
        guest.host.end();
        assert!(guest.has_ended() && guest.mode().is_none());
        assert_eq!(guest.take_tx().map(|frame| frame.len()), Some(PAYLOAD_AT + 100));
    }

    #[test]
    fn a_guest_that_goes_leaves_what_it_gave_and_takes_nothing_along() {
        let (mut link, mut guest) = linked();
        let mut pool = Pool::new(PoolConfig { frame_size: 256, frames: 8, huge_pages: false }).expect("memory");
        while let Some(frame) = pool.take() {
            assert!(link.give(frame).is_ok());
        }
        let frames: Vec<Frame> = std::iter::from_fn(|| guest.take_tx()).take(3).collect();
        let [sent, unused, held] = frames.try_into().expect("it was given more");
        assert!(guest.send(Outbound { frame: sent, start: 0, len: 9, unfinished: false }));
        guest.put_tx(unused);
        assert!(!link.signs().has_left());
        drop(guest);
        assert!(link.signs().has_left() && link.out() == 8);
        assert_eq!(link.next().map(|packet| packet.len), Some(9), "what was given before");
        link.settle();
        assert!(link.next().is_none() && link.out() == 7);
        drop((link, held));
        assert_eq!(pool.available(), 8, "none is lost");
    }

    #[test]
    fn every_mode_has_a_byte_of_its_own() {
        for mode in [None, Some(XdpMode::ZeroCopy), Some(XdpMode::Copy), Some(XdpMode::Generic)] {
            assert_eq!(decode(encode(mode)), mode);
        }
    }
}
