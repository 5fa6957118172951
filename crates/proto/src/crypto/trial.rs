//! A device beside the fastest library: whether both make the same of packets, and how long each takes.

use std::sync::Arc;
use std::time::{Duration, Instant as WallClock};

use rustls::quic::Version;
use rustls::{CipherSuite, Side, SupportedCipherSuite};

use super::PacketDevice;
use super::batch::{BATCH_MAX, Job, PacketKey};
use super::device::{DeviceKey, with_device};
use super::provider::{PacketCrypto, library_suites};

/// Length of the packets, in bytes, with header and tag.
const PACKET_LEN: usize = 1_200;
/// A short header with a connection ID of eight bytes and a packet number of two.
const HEADER_LEN: usize = 11;
/// Lengths of batches, the longest first.
const BATCHES: [usize; 4] = [BATCH_MAX, 8, 4, 2];
/// Batches in a row, and how often: the best row counts, as an interruption spoils one of them.
const ROW: u64 = 16;
const ROWS: usize = 5;

/// What a device and the fastest library took for the same packets of 1,200 bytes, AES-128-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTrial {
    /// For one packet, sealed and opened in batches of 16 by the device.
    pub device: Duration,
    /// The same by the library.
    pub library: Duration,
    /// The shortest batch from which on the device is the faster one; `None` if it is not even with 16 packets.
    pub batch_min: Option<usize>,
}

/// What a device did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// It gave no key.
    #[error("it takes no key")]
    NoKey,
    /// It left a batch to the library.
    #[error("it refuses a batch")]
    Refused,
    /// It sealed packets to something else than the library, or did not open what it sealed.
    #[error("it seals or opens packets otherwise than the library")]
    Disagrees,
}

/// Has `device` seal and open batches of 16, 8, 4 and 2 packets and compares the results, and the time, with the fastest library's. Takes
/// some milliseconds.
///
/// # Errors
/// What the device did wrong.
pub fn try_device(device: &Arc<dyn PacketDevice>) -> Result<DeviceTrial, TrialError> {
    let suites = library_suites(PacketCrypto::Auto.resolve());
    let is_it = |suite: &&SupportedCipherSuite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
    let suite = *suites.iter().find(is_it).expect("every library has TLS_AES_128_GCM_SHA256");
    let library = Keys::of(suite);
    let device = Keys::of(with_device(suite, Arc::downgrade(device)));
    if !matches!((&device.sealing, &device.opening), (PacketKey::Device(..), PacketKey::Device(..))) {
        return Err(TrialError::NoKey);
    }
    let mut outcome: Option<DeviceTrial> = None;
    for len in BATCHES {
        if device.sealed(len)? != library.sealed(len)? {
            return Err(TrialError::Disagrees);
        }
        let times = (device.time(len)?, library.time(len)?);
        let is_faster = times.0 < times.1;
        let trial = outcome.get_or_insert(DeviceTrial { device: times.0, library: times.1, batch_min: None });
        // The shorter the batch, the less the way is worth.
        if !is_faster {
            break;
        }
        trial.batch_min = Some(len);
    }
    outcome.ok_or(TrialError::Refused)
}

/// The two ends of one direction.
struct Keys {
    sealing: PacketKey,
    opening: PacketKey,
}

impl Keys {
    fn of(suite: SupportedCipherSuite) -> Self {
        let suite = suite.tls13().and_then(|suite| suite.quic_suite()).expect("the suites of libraries are QUIC's");
        let keys = |side| suite.keys(&[7; 8], side, Version::V1);
        Self {
            sealing: PacketKey::new(keys(Side::Client).local.packet),
            opening: PacketKey::new(keys(Side::Server).remote.packet),
        }
    }

    /// What packets look like when they are sealed.
    fn sealed(&self, len: usize) -> Result<Packets, TrialError> {
        let mut packets = packets();
        with_jobs(&mut packets[..len], 0, |jobs| self.seal(jobs))?;
        Ok(packets)
    }

    /// The time for one packet that is sealed and opened.
    fn time(&self, len: usize) -> Result<Duration, TrialError> {
        let mut packets = packets();
        let expected = packets.clone();
        let mut best = Duration::MAX;
        for _ in 0..ROWS {
            let start = WallClock::now();
            for number in 0..ROW {
                let first = number * BATCH_MAX as u64;
                with_jobs(&mut packets[..len], first, |jobs| self.seal(jobs))?;
                with_jobs(&mut packets[..len], first, |jobs| self.open(jobs))?;
            }
            best = best.min(start.elapsed());
        }
        let text =
            |packets: &Packets| packets.iter().map(|packet| packet[..PACKET_LEN - 16].to_vec()).collect::<Vec<_>>();
        if text(&packets) != text(&expected) {
            return Err(TrialError::Disagrees);
        }
        Ok(best / (ROW as u32 * len as u32))
    }

    fn seal(&self, jobs: &mut [Job<'_>]) -> Result<(), TrialError> {
        by_itself(&self.sealing, jobs, |key, jobs| key.seal(jobs), PacketKey::seal)
    }

    fn open(&self, jobs: &mut [Job<'_>]) -> Result<(), TrialError> {
        by_itself(&self.opening, jobs, |key, jobs| key.open(jobs), PacketKey::open)
    }
}

/// Has a device do what is asked of it, and a library; a device that leaves it to its library has refused.
fn by_itself(
    key: &PacketKey,
    jobs: &mut [Job<'_>],
    by_device: impl Fn(&dyn DeviceKey, &mut [Job<'_>]) -> bool,
    by_library: impl Fn(&PacketKey, &mut [Job<'_>]),
) -> Result<(), TrialError> {
    match key {
        PacketKey::Device(key, _) if by_device(&**key, jobs) => Ok(()),
        PacketKey::Device(..) => Err(TrialError::Refused),
        library => {
            by_library(library, jobs);
            Ok(())
        }
    }
}

type Packets = Vec<[u8; PACKET_LEN]>;

fn packets() -> Packets {
    (0..BATCH_MAX).map(|at| [at as u8 ^ 0x5a; PACKET_LEN]).collect()
}

/// Does something with packets that are numbered from `first`; all of them have to succeed.
fn with_jobs(
    packets: &mut [[u8; PACKET_LEN]],
    first: u64,
    work: impl FnOnce(&mut [Job<'_>]) -> Result<(), TrialError>,
) -> Result<(), TrialError> {
    let mut packets = packets.iter_mut();
    let count = packets.len();
    let mut jobs: [Job<'_>; BATCH_MAX] = std::array::from_fn(|at| match packets.next() {
        Some(packet) => Job::new(packet, HEADER_LEN, first + at as u64),
        None => Job::new(&mut [], 0, 0),
    });
    work(&mut jobs[..count])?;
    if jobs[..count].iter().all(|job| job.is_done) { Ok(()) } else { Err(TrialError::Disagrees) }
}
