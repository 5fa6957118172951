//! A transfer whose processes are killed, at moments that nobody chose.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use super::place::{Place, Side};
use super::process::{Fetched, Get, Host, on_disk};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often the receiver's disk is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A transfer may be over before anybody could interrupt it; then another one is interrupted earlier, so often at most.
const ATTEMPTS: u32 = 6;

/// What came of it.
#[derive(Debug, Default)]
pub struct Interrupted {
    /// Who was killed with how many bytes on the receiver's disk.
    pub kills: Vec<(&'static str, u64)>,
    /// What the last run of `get` reported.
    pub last: Fetched,
    /// Bytes that came to the receiver's interface in all runs, headers included.
    pub on_wire: Option<u64>,
}

/// The transfer to interrupt.
pub struct Plan<'a> {
    pub place: &'a Place,
    pub tree: &'a Path,
    /// For the host's state.
    pub scratch: &'a Path,
    pub target: &'a Path,
    /// Bytes that it moves.
    pub content: u64,
    pub kills: u32,
}

impl Plan<'_> {
    /// Transfers and kills: the receiver, which is then started again, and in turn the host, whose successor the receiver finds by
    /// itself.
    pub fn run(&self) -> Result<Interrupted> {
        for attempt in 0..ATTEMPTS {
            if let Some(outcome) = self.attempt(&points(self.content >> attempt, self.kills)?)? {
                return Ok(outcome);
            }
            super::run::remove(self.target)?;
        }
        Err("the transfer ended before it could be interrupted; take a larger tree (--size)".into())
    }

    /// `None` if it ended too early.
    fn attempt(&self, points: &[u64]) -> Result<Option<Interrupted>> {
        let Self { place, tree, scratch, target, .. } = *self;
        let before = place.received_on_wire()?;
        let mut outcome = Interrupted::default();
        let mut host = Host::start(place, tree, scratch)?;
        let mut get = Get::start(place, &host.code_file, target)?;
        for (i, point) in points.iter().enumerate() {
            let Some(there) = wait_for(&mut get, target, *point)? else { return Ok(None) };
            let side = if i % 2 == 0 { Side::Get } else { Side::Host };
            match side {
                Side::Get => {
                    get.kill()?;
                    get = Get::start(place, &host.code_file, target)?;
                }
                Side::Host => {
                    host.kill()?;
                    host = Host::start(place, tree, scratch)?;
                }
            }
            outcome.kills.push((side.name(), there));
        }
        outcome.last = get.finish()?;
        host.stop()?;
        outcome.on_wire = place.received_on_wire()?.zip(before).map(|(after, before)| after - before);
        Ok(Some(outcome))
    }
}

/// Numbers of bytes, in order: the half for one kill, else random ones below nine tenths.
fn points(content: u64, kills: u32) -> Result<Vec<u64>> {
    if kills == 1 {
        return Ok(vec![content / 2]);
    }
    let mut points = (0..kills)
        .map(|_| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes) % (content / 10 * 9).max(1))
        })
        .collect::<Result<Vec<_>>>()?;
    points.sort_unstable();
    Ok(points)
}

/// Waits until about `bytes` are on disk; returns how many were, or `None` if the transfer ended first.
fn wait_for(get: &mut Get, target: &Path, bytes: u64) -> Result<Option<u64>> {
    loop {
        if get.has_ended()? {
            return Ok(None);
        }
        let there = on_disk(target);
        if there >= bytes {
            return Ok(Some(there));
        }
        std::thread::sleep(LOOK);
    }
}
