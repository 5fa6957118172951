//! Best prices that come as datagrams, checked against the books that come by the stream.

use crate::book::{Book, Frame, Kind, Level};
use crate::keeper::TICK_EVERY;
use std::collections::{BTreeMap, VecDeque};

/// Updates with a tick that are remembered of each feed: at 2,000 updates a second those of eight seconds.
const KNOWN_MAX: usize = 1024;

/// Ticks of each feed that wait for their update: the stream's backlog is bounded as well.
const EARLY_MAX: usize = 4096;

/// The best bid and ask.
type Best = (Option<Level>, Option<Level>);

/// What is known of the ticks of all feeds.
#[derive(Debug)]
pub struct Ticks {
    feeds: Vec<Feed>,
    /// Those that were what the stream says of the same update.
    pub right: u64,
    /// Those that were not, that came out of order, or of an update that there never was or long ago.
    pub wrong: u64,
}

#[derive(Debug, Default)]
struct Feed {
    /// Best prices after the updates that have a tick, the latest last.
    known: VecDeque<(u64, Best)>,
    /// Ticks that came before their update.
    early: BTreeMap<u64, Best>,
    /// The update of the last tick.
    last: u64,
    right: u64,
}

impl Ticks {
    pub fn new(feeds: u16) -> Ticks {
        Ticks { feeds: (0..feeds).map(|_| Feed::default()).collect(), right: 0, wrong: 0 }
    }

    /// A datagram has come.
    pub fn came(&mut self, frame: &Frame) {
        let sequence = frame.sequence;
        let Some(feed) = self.feeds.get_mut(usize::from(frame.feed)) else { return self.wrong += 1 };
        let best = (frame.bids.first().copied(), frame.asks.first().copied());
        let in_order = sequence > feed.last && frame.kind == Kind::Update && sequence.is_multiple_of(TICK_EVERY);
        feed.last = sequence;
        match feed.known.binary_search_by_key(&sequence, |known| known.0) {
            _ if !in_order => self.wrong += 1,
            Ok(at) => {
                let right = best == feed.known[at].1;
                self.judge(frame.feed, right);
            }
            Err(at) if at == feed.known.len() && feed.early.len() < EARLY_MAX => _ = feed.early.insert(sequence, best),
            Err(_) => self.wrong += 1,
        }
    }

    /// The stream had an update; the book is as it is afterwards.
    pub fn updated(&mut self, index: u16, sequence: u64, book: &Book) {
        if !sequence.is_multiple_of(TICK_EVERY) {
            return;
        }
        let feed = &mut self.feeds[usize::from(index)];
        if feed.known.len() == KNOWN_MAX {
            feed.known.pop_front();
        }
        let level = |(&price, &amount)| (price, amount);
        let best = (book.bids.iter().next_back().map(level), book.asks.iter().next().map(level));
        feed.known.push_back((sequence, best));
        // Ticks of updates before this one that have not come will not come.
        let later = feed.early.split_off(&(sequence + 1));
        let mut early = std::mem::replace(&mut feed.early, later);
        if let Some(tick) = early.remove(&sequence) {
            self.judge(index, tick == best);
        }
        self.wrong += early.len() as u64;
    }

    fn judge(&mut self, feed: u16, right: bool) {
        if right {
            self.right += 1;
            self.feeds[usize::from(feed)].right += 1;
        } else {
            self.wrong += 1;
        }
    }

    /// Nothing more comes. Returns how many feeds had a tick that was right.
    pub fn end(&mut self) -> usize {
        self.wrong += self.feeds.iter().map(|feed| feed.early.len() as u64).sum::<u64>();
        self.feeds.iter().filter(|feed| feed.right > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(sequence: u64, bid: u64) -> Frame {
        let kind = Kind::Update;
        Frame { kind, feed: 0, sequence, stamp: 0, checksum: 0, bids: vec![(bid, 1)], asks: Vec::new() }
    }

    fn book(bid: u64) -> Book {
        let mut book = Book::default();
        book.apply(&[(bid, 1), (bid - 1, 5)], &[]);
        book
    }

    #[test]
    fn ticks_are_right_before_and_after_their_update() {
        let mut ticks = Ticks::new(2);
        ticks.came(&tick(16, 100));
        ticks.updated(0, 16, &book(100));
        ticks.updated(0, 17, &book(90));
        // The tick of 32 was lost.
        ticks.updated(0, 32, &book(101));
        ticks.updated(0, 48, &book(102));
        ticks.came(&tick(48, 102));
        assert_eq!((ticks.right, ticks.wrong, ticks.end(), ticks.wrong), (2, 0, 1, 0));
    }

    #[test]
    fn everything_else_is_wrong() {
        let mut cases: Vec<(&str, Vec<Frame>)> = vec![
            ("another price, early", vec![tick(32, 7)]),
            ("another price, late", vec![tick(16, 7)]),
            ("the same again", vec![tick(16, 100), tick(16, 100)]),
            ("backwards", vec![tick(32, 101), tick(16, 100)]),
            ("an update that has no tick", vec![tick(17, 100)]),
            ("an update that there is not", vec![tick(48, 100)]),
            ("an update that was left out", vec![tick(0, 100)]),
        ];
        cases.push(("a feed that there is not", vec![Frame { feed: 2, ..tick(16, 100) }]));
        cases.push(("another kind", vec![Frame { kind: Kind::Snapshot, ..tick(16, 100) }]));
        for (what, frames) in cases {
            let mut ticks = Ticks::new(2);
            ticks.updated(0, 16, &book(100));
            frames.iter().for_each(|frame| ticks.came(frame));
            ticks.updated(0, 32, &book(101));
            ticks.end();
            assert_eq!(ticks.wrong, 1, "{what}");
        }
    }
}
