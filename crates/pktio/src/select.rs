//! Which backend a socket gets: the one that was named, or the fastest that works.
//!
//! | rank | backend | why there |
//! |---|---|---|
//! | 1 | `udp` | the shortest way of a single packet; works wherever there is a socket |
//! | 2 | `uring` | half to a fifth of the system calls for about the same time; a single packet takes longer |
//!
//! The order is that of `docs/io-uring.md`, which has the measurements.
//!
//! Each is tried on the very socket, with packets through the loopback, before it is taken. Before them comes AF_XDP, if
//! an interface is named for it: nobody takes over a network card unasked. Its queues are tried too, with a packet that the kernel
//! makes and one to the interface itself.
//!
//! The next one is only tried if one is not to be had here. Where descriptors or memory are used up, which passes, opening fails.

use std::io;
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::ops::RangeInclusive;
#[cfg(target_os = "linux")]
use std::sync::Arc;

#[cfg(target_os = "linux")]
use crate::config::Backend;
use crate::config::IoConfig;
#[cfg(target_os = "linux")]
use crate::io::Io;
use crate::kind::IoKind;
#[cfg(target_os = "linux")]
use crate::selftest::{self, Verdict};
#[cfg(target_os = "linux")]
use crate::udp::{Steering, Udp, socket::Bound};
#[cfg(target_os = "linux")]
use crate::uring::Uring;
#[cfg(target_os = "linux")]
use crate::xdp::{Xdp, XdpConfig};

/// Which backend is at work, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The backend.
    pub kind: IoKind,
    /// Why it and no faster one, in one line.
    pub why: String,
}

/// The backends for sockets of the kernel's, fastest first.
#[cfg(target_os = "linux")]
const RANKING: [IoKind; 2] = [IoKind::Udp, IoKind::Uring];

/// Why the first of the ranking is.
#[cfg(target_os = "linux")]
const WHY_FIRST: &str =
    "its test passed, an io_uring measures no faster, and AF_XDP is for an interface that is named to it";

/// What is said of a queue that is taken without its test.
#[cfg(target_os = "linux")]
const NOT_TRIED: &str =
    "not tested in full, which takes queue 0 of an interface that is up and has an address, and Linux 5.18";

/// Refuses what no backend of that name honours.
pub(crate) fn check(config: &IoConfig) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if config.sq_poll.is_zero() || config.backend == Backend::Uring {
        return Ok(());
    }
    #[cfg(not(target_os = "linux"))]
    if config.sq_poll.is_zero() && config.backend == crate::Backend::Auto {
        return Ok(());
    }
    let what = format!("the back end {} has no kernel thread that polls, or does not exist here", config.backend);
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// The backends for the sockets of a group, or for the only one if there is no steering.
#[cfg(target_os = "linux")]
pub(crate) fn open_group(
    addr: SocketAddr,
    workers: u16,
    config: &IoConfig,
    steering: Option<&Steering>,
) -> io::Result<Vec<Io>> {
    check(config)?;
    let slower = match on_interface(config, |xdp, try_out| {
        queues(addr, workers, config, xdp, steering.unwrap_or(&Steering::ALONE), try_out)
    })? {
        Tried::Taken(ios) => return Ok(ios),
        Tried::Passed(slower) => slower,
    };
    let bounds = match steering {
        Some(steering) => Bound::group(addr, workers, config, steering)?,
        None => vec![Bound::new(addr, config, false)?],
    };
    select(bounds, config, steering, slower)
}

/// A group of back ends on one port that can grow: as many workers as the range begins with, and up to as many as it ends with.
/// AF_XDP if it is named, or nothing is and an interface is; otherwise sockets, which are bound when they are asked for.
///
/// Fails if what was named does not work, saying why.
#[cfg(target_os = "linux")]
pub fn growing(
    addr: SocketAddr,
    workers: RangeInclusive<u16>,
    config: &IoConfig,
    steering: &Steering,
) -> io::Result<Growing> {
    check(config)?;
    let open = |xdp, try_out| crate::xdp::Group::new(addr, workers, config, xdp, steering, try_out);
    Ok(match on_interface(config, open)? {
        Tried::Taken(group) => Growing::Queues(Box::new(group)),
        Tried::Passed(slower) => {
            let group = crate::udp::Group::new(addr, config, *steering).instead(slower);
            Growing::Sockets(Box::new(group))
        }
    })
}

/// A group that can grow.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub enum Growing {
    /// Sockets of the kernel's.
    Sockets(Box<crate::udp::Group>),
    /// Queues of an interface, and guests of their owners.
    Queues(Box<crate::xdp::Group>),
}

/// What became of an attempt at AF_XDP.
#[cfg(target_os = "linux")]
enum Tried<T> {
    Taken(T),
    /// It was not asked for, or is not to be had and nobody insists: why, in the words of [`Choice::why`].
    Passed(String),
}

/// Opens AF_XDP if the configuration has an interface for it. `open` is told whether to try it out.
#[cfg(target_os = "linux")]
fn on_interface<T>(config: &IoConfig, open: impl FnOnce(XdpConfig, bool) -> io::Result<T>) -> io::Result<Tried<T>> {
    let is_auto = config.backend == Backend::Auto;
    let xdp = match (config.backend, config.xdp) {
        (Backend::Xdp, None) => {
            let what = "AF_XDP needs the name of an interface";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        (Backend::Xdp | Backend::Auto, Some(xdp)) => xdp,
        (Backend::Auto | Backend::Udp | Backend::Uring, _) => return Ok(Tried::Passed(String::new())),
    };
    match open(xdp, is_auto) {
        Ok(opened) => Ok(Tried::Taken(opened)),
        Err(error) if is_auto && !is_passing(&error) => Ok(Tried::Passed(format!("no {}: {error}; ", IoKind::Xdp))),
        Err(error) => {
            let what = format!("AF_XDP on {}: {error}", xdp.interface.as_str());
            Err(io::Error::new(error.kind(), what))
        }
    }
}

/// AF_XDP on an interface, each worker's queue tried out first if nobody insists on it.
#[cfg(target_os = "linux")]
pub(crate) fn queues(
    addr: SocketAddr,
    workers: u16,
    config: &IoConfig,
    xdp: XdpConfig,
    steering: &Steering,
    try_out: bool,
) -> io::Result<Vec<Io>> {
    let mut group = Xdp::group(addr, workers, config, xdp, steering)?;
    explain_queues(&mut group, try_out)?;
    Ok(group.into_iter().map(|xdp| Io::Xdp(Box::new(xdp))).collect())
}

/// Tries each worker's queue out if nobody insists on it, and says how it came to it.
#[cfg(target_os = "linux")]
pub(crate) fn explain_queues(group: &mut [Xdp], try_out: bool) -> io::Result<()> {
    for xdp in group {
        let verdict = if try_out { Some(xdp.try_out()?) } else { None };
        xdp.explain(match verdict {
            None => "asked for",
            Some(Verdict::Works) => "its test passed",
            // It is taken all the same: set-up told that it works.
            Some(Verdict::NotReached) => NOT_TRIED,
        });
    }
    Ok(())
}

/// Whether an error says that something is used up at the moment, and not that the back end is not to be had here: descriptors
/// or memory. What has words of its own is about a limit or a privilege, which stays as it is.
#[cfg(target_os = "linux")]
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::EINTR)
    )
}

/// The fastest backend of the kernel's sockets, or the one that is named. `slower` says what was tried before.
#[cfg(target_os = "linux")]
fn select(
    bounds: Vec<Bound>,
    config: &IoConfig,
    steering: Option<&Steering>,
    mut slower: String,
) -> io::Result<Vec<Io>> {
    let bounds: Vec<Arc<Bound>> = bounds.into_iter().map(Arc::new).collect();
    let named = match config.backend {
        Backend::Auto | Backend::Xdp => None,
        Backend::Uring => Some(IoKind::Uring),
        Backend::Udp => Some(IoKind::Udp),
    };
    for kind in RANKING.into_iter().filter(|kind| named.is_none_or(|named| named == *kind)) {
        match open_all(kind, &bounds, config, steering) {
            Ok((ios, verdict)) => {
                let why = match (named, verdict, slower.is_empty()) {
                    (Some(_), Verdict::Works, _) => "asked for".to_owned(),
                    (Some(_), Verdict::NotReached, _) => format!("asked for; {}", selftest::NOT_REACHED),
                    (None, Verdict::Works, true) => WHY_FIRST.to_owned(),
                    (None, Verdict::Works, false) => slower,
                    (None, Verdict::NotReached, _) => format!("{slower}{}", selftest::NOT_REACHED),
                };
                ios.iter().for_each(|io| io.stats().explain(&why));
                return Ok(ios);
            }
            Err(error) if named.is_none() && !is_passing(&error) && RANKING.last() != Some(&kind) => {
                slower += &format!("no {kind}: {error}; ")
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("the back end {kind}: {error}"))),
        }
    }
    // Every name is in the ranking.
    Err(io::ErrorKind::Unsupported.into())
}

/// All sockets on one backend, each tested.
#[cfg(target_os = "linux")]
fn open_all(
    kind: IoKind,
    bounds: &[Arc<Bound>],
    config: &IoConfig,
    steering: Option<&Steering>,
) -> io::Result<(Vec<Io>, Verdict)> {
    let mut verdict = Verdict::Works;
    for (worker, bound) in bounds.iter().enumerate() {
        // What was tested belongs to this thread, and the worker's thread is another, so it is made again.
        let mut io = open(kind, bound, config)?;
        if selftest::run(&mut io, bound, worker, steering)? == Verdict::NotReached {
            verdict = Verdict::NotReached;
        }
    }
    let ios = bounds.iter().map(|bound| open(kind, bound, config)).collect::<io::Result<Vec<Io>>>()?;
    Ok((ios, verdict))
}

#[cfg(target_os = "linux")]
fn open(kind: IoKind, bound: &Arc<Bound>, config: &IoConfig) -> io::Result<Io> {
    match kind {
        IoKind::Uring => Uring::new(bound.clone(), config).map(|uring| Io::Uring(Box::new(uring))),
        _ => Udp::new(bound.clone(), config, IoKind::Udp).map(|udp| Io::Udp(Box::new(udp))),
    }
}
