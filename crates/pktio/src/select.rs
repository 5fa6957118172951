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
    let mut slower = String::new();
    match (config.backend, config.xdp) {
        (Backend::Xdp, None) => {
            let what = "AF_XDP needs the name of an interface";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        (Backend::Xdp | Backend::Auto, Some(xdp)) => {
            match queues(
                addr,
                workers,
                config,
                xdp,
                steering.unwrap_or(&Steering::ALONE),
                config.backend == Backend::Auto,
            ) {
                Ok(ios) => return Ok(ios),
                Err(error) if config.backend == Backend::Auto && !is_passing(&error) => {
                    slower = format!("no {}: {error}; ", IoKind::Xdp)
                }
                Err(error) => {
                    let what = format!("AF_XDP on {}: {error}", xdp.interface.as_str());
                    return Err(io::Error::new(error.kind(), what));
                }
            }
        }
        (Backend::Auto | Backend::Udp | Backend::Uring, _) => (),
    }
    let bounds = match steering {
        Some(steering) => Bound::group(addr, workers, config, steering)?,
        None => vec![Bound::new(addr, config, false)?],
    };
    select(bounds, config, steering, slower)
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
    for xdp in &mut group {
        let verdict = if try_out { Some(xdp.try_out()?) } else { None };
        xdp.explain(match verdict {
            None => "asked for",
            Some(Verdict::Works) => "its test passed",
            // It is taken all the same: set-up told that it works.
            Some(Verdict::NotReached) => NOT_TRIED,
        });
    }
    Ok(group.into_iter().map(|xdp| Io::Xdp(Box::new(xdp))).collect())
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
