//! A transfer whose processes are killed, at moments that nobody chose.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use super::place::{Place, Side};
use super::process::{Fetched, Get, Host, on_disk};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often the receiver's disk is looked at.
const LOOK: Duration = Duration::from_millis(5);

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

/// Transfers `content` bytes to `target` and kills `kills` times: the receiver, which is then started again, and in turn the host,
/// whose successor the receiver finds by itself.
pub fn transfer(
    place: &Place,
    tree: &Path,
    scratch: &Path,
    target: &Path,
    content: u64,
    kills: u32,
) -> Result<Interrupted> {
    let before = place.received_on_wire()?;
    let mut outcome = Interrupted::default();
    let mut host = Host::start(place, tree, scratch)?;
    let mut get = Get::start(place, &host.code_file, target)?;
    for (i, point) in points(content, kills)?.into_iter().enumerate() {
        let there = wait_for(&mut get, target, point)?;
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
    Ok(outcome)
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

/// Waits until about `bytes` are on disk; returns how many were.
fn wait_for(get: &mut Get, target: &Path, bytes: u64) -> Result<u64> {
    loop {
        let there = on_disk(target);
        if there >= bytes {
            return Ok(there);
        }
        if get.has_ended()? {
            return Err("the transfer ended before it could be interrupted".into());
        }
        std::thread::sleep(LOOK);
    }
}
