//! The keys that packets are sealed and opened with, one at a time or in batches.
//!
//! A batch is an array of [`Job`]s for one key, at most [`BATCH_MAX`]: trains are sealed when they are as long as that or end, and what
//! arrived as a train is opened before the first of its packets is read. Whoever is behind the key does as it can with them:
//! `warpline-gcm` overlaps the ciphers of packets, the libraries take one after the other, a [device](super::device) has them all at once. How many
//! are worth waiting for was measured.
//!
//! rustls hands out keys as objects of a trait of its own that knows one packet at a time. A key that can do more hides in
//! one of those ([`Parcel`]), and is taken out again when the connection installs it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::quic::HeaderProtectionKey;
use rustls::{Error, OtherError};
pub use warpline_gcm::Job;

use super::device::DeviceKey;
use super::packet::{open_by, seal_by};
use super::schedule::AES_GCM_LIMITS;
use super::wide::Mask;

/// Most packets of a batch.
///
/// Packets that came together are opened that many at once, whoever is behind the key: who reads a packet has to wait for its cipher, which in
/// a batch overlaps with those of others (10 to 20 ns a packet, of 200 to 270, with `warpline-gcm`, and 8 to 15 with `aws-lc-rs`). Of 1,452 bytes they are 23 KiB, which with what else a packet touches stays in a first-level cache of
/// 48 KiB, so that what was just written is sealed there, and what was just opened read.
pub const BATCH_MAX: usize = 16;

/// A key for the packets of one direction.
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        clippy::large_enum_variant,
        reason = "the key of warpline-gcm is in place, so that who knows where the connection is knows where it is"
    )
)]
pub(crate) enum PacketKey {
    /// That of `warpline-gcm`.
    Gcm(warpline_gcm::AeadKey),
    /// A library's.
    Library(Box<dyn rustls::quic::PacketKey>),
    /// A device's, and a library's for what the device does not do.
    Device(Box<dyn DeviceKey>, Box<dyn rustls::quic::PacketKey>),
}

impl PacketKey {
    /// What rustls gave out, or what is inside of it.
    pub(crate) fn new(key: Box<dyn rustls::quic::PacketKey>) -> Self {
        let answer = key.encrypt_in_place_for_path(0, 0, &[], &mut []);
        let Err(Error::Other(OtherError(error))) = answer else { return Self::Library(key) };
        match error.downcast_ref::<Parcel>().and_then(Parcel::open) {
            Some(Content::Gcm(own)) => Self::Gcm(*own),
            Some(Content::Device(device)) => Self::Device(device, key),
            Some(Content::Mask(_)) | None => Self::Library(key),
        }
    }

    /// How many packets to seal at once, if there are as many. Sealing one leaves the processor free to build the next meanwhile, so that
    /// nothing is won by doing several in a row (13 ns a packet are lost, of 190): only a device wants to have them together.
    #[inline]
    pub(crate) fn seals_at_once(&self) -> usize {
        match self {
            Self::Gcm(_) | Self::Library(_) => 1,
            Self::Device(..) => BATCH_MAX,
        }
    }

    /// Seals packets. None of them is longer than the cipher takes.
    #[inline]
    pub(crate) fn seal(&self, jobs: &mut [Job<'_>]) {
        match self {
            Self::Gcm(key) => key.seal_batch(jobs),
            Self::Device(device, _) if jobs.len() >= device.batch_min() && device.seal(jobs) => {}
            Self::Library(key) | Self::Device(_, key) => jobs.iter_mut().for_each(|job| seal_by(&**key, job)),
        }
    }

    /// Opens packets. Each says by itself whether it is authentic.
    #[inline]
    pub(crate) fn open(&self, jobs: &mut [Job<'_>]) {
        match self {
            Self::Gcm(key) => key.open_batch(jobs),
            Self::Device(device, _) if jobs.len() >= device.batch_min() && device.open(jobs) => {}
            Self::Library(key) | Self::Device(_, key) => jobs.iter_mut().for_each(|job| open_by(&**key, job)),
        }
    }

    /// Packets that may be sealed with it (RFC 9001 section 6.6).
    #[inline]
    pub(crate) fn confidentiality_limit(&self) -> u64 {
        match self {
            Self::Gcm(_) => AES_GCM_LIMITS.0,
            Self::Library(key) | Self::Device(_, key) => key.confidentiality_limit(),
        }
    }

    /// Packets that may fail to open with it.
    pub(crate) fn integrity_limit(&self) -> u64 {
        match self {
            Self::Gcm(_) => AES_GCM_LIMITS.1,
            Self::Library(key) | Self::Device(_, key) => key.integrity_limit(),
        }
    }

    /// Has the key of a library, which is not in place, brought into the caches.
    #[inline]
    pub(crate) fn prefetch(&self) {
        match self {
            Self::Gcm(_) => {}
            Self::Library(key) | Self::Device(_, key) => warpline_frame::prefetch(&**key),
        }
    }
}

/// A key that masks the headers of one direction.
#[cfg_attr(target_arch = "x86_64", expect(clippy::large_enum_variant, reason = "as above"))]
pub(crate) enum HeaderKey {
    /// That of `warpline-gcm`, in place.
    Gcm(Mask),
    /// A library's.
    Library(Box<dyn HeaderProtectionKey>),
}

impl HeaderKey {
    /// What rustls gave out, or what is inside of it.
    pub(crate) fn new(key: Box<dyn HeaderProtectionKey>) -> Self {
        let answer = key.encrypt_in_place(&[], &mut 0, &mut []);
        let Err(Error::Other(OtherError(error))) = answer else { return Self::Library(key) };
        match error.downcast_ref::<Parcel>().and_then(Parcel::open) {
            Some(Content::Mask(own)) => Self::Gcm(*own),
            _ => Self::Library(key),
        }
    }

    /// The key as packets of all levels use theirs.
    #[inline]
    pub(crate) fn as_dyn(&self) -> &dyn HeaderProtectionKey {
        match self {
            Self::Gcm(mask) => mask,
            Self::Library(key) => &**key,
        }
    }

    /// Has the key of a library, which is not in place, brought into the caches.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let Self::Library(key) = self {
            warpline_frame::prefetch(&**key);
        }
    }
}

/// A key on its way through rustls, whose traits for them have no room for it. It is what the key answers when it is asked to seal for a
/// path of the multipath extension, or to mask by an empty sample, which nothing here does: an error that has the key itself.
#[derive(Debug)]
struct Parcel(Mutex<Option<Content>>);

/// What is inside.
pub(super) enum Content {
    /// A key that takes the place of rustls' own.
    Gcm(Box<warpline_gcm::AeadKey>),
    /// The same for headers.
    Mask(Box<Mask>),
    /// A key beside it.
    Device(Box<dyn DeviceKey>),
}

impl Parcel {
    fn open(&self) -> Option<Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a key answers that has more to it than its trait says.
pub(super) fn parcel<T>(content: Content) -> Result<T, Error> {
    Err(Error::Other(OtherError(Arc::new(Parcel(Mutex::new(Some(content)))))))
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content")
    }
}

impl std::fmt::Display for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key for packets, which seals for no paths")
    }
}

impl std::error::Error for Parcel {}

#[cfg(test)]
mod tests {
    use rustls::Side;
    use rustls::quic::Version;

    use super::super::PacketCrypto;
    use super::super::provider::provider;
    use super::*;

    /// The same keys twice: as this crate has them, and as rustls gives them out. For all suites of all libraries that run here.
    fn keys() -> Vec<(PacketKey, PacketKey, Box<dyn rustls::quic::PacketKey>)> {
        let libraries = [PacketCrypto::WarplineGcm, PacketCrypto::Ring, PacketCrypto::AwsLc];
        let suites = libraries.into_iter().filter_map(|library| Some(provider(library).ok()?.cipher_suites.clone()));
        let suites = suites.flatten().filter_map(|suite| suite.tls13()?.quic_suite());
        let of = |suite: &rustls::quic::Suite, side| suite.keys(&[7; 8], side, Version::V1);
        suites
            .map(|suite| {
                let (near, far) = (of(&suite, Side::Client), of(&suite, Side::Server));
                let plain = of(&suite, Side::Client).local.packet;
                (PacketKey::new(near.local.packet), PacketKey::new(far.remote.packet), plain)
            })
            .collect()
    }

    const HEADER: usize = 11;

    fn packets(count: usize) -> Vec<Vec<u8>> {
        let lengths = [3, 64, 300, 1_200, 1_452, 8_972, 40];
        (0..count).map(|at| vec![at as u8; HEADER + lengths[at % lengths.len()] + 16]).collect()
    }

    fn jobs(packets: &mut [Vec<u8>]) -> Vec<Job<'_>> {
        packets.iter_mut().zip(90..).map(|(packet, number)| Job::new(packet, HEADER, number)).collect()
    }

    #[test]
    fn batches_of_every_suite_are_what_rustls_makes_of_their_packets_one_by_one() {
        let keys = keys();
        assert!(keys.len() >= 6, "two libraries run everywhere");
        for (sealing, opening, plain) in keys {
            for count in [0, 1, 2, 7, BATCH_MAX] {
                let mut together = packets(count);
                sealing.seal(&mut jobs(&mut together));
                let mut alone = packets(count);
                for (packet, number) in alone.iter_mut().zip(90..) {
                    let (header, rest) = packet.split_at_mut(HEADER);
                    let (text, tag) = rest.split_last_chunk_mut::<16>().unwrap();
                    tag.copy_from_slice(plain.encrypt_in_place(number, header, text).unwrap().as_ref());
                }
                assert_eq!(together, alone);
                if let Some(bad) = together.get_mut(count / 2) {
                    bad[HEADER] ^= 1;
                }
                let mut opened = jobs(&mut together);
                opening.open(&mut opened);
                for (at, job) in opened.iter().enumerate() {
                    assert_eq!(job.is_done, at != count / 2, "{at} of {count}");
                    let text = &job.packet[HEADER..job.packet.len() - 16];
                    assert!(!job.is_done || text.iter().all(|byte| *byte == at as u8));
                }
            }
        }
    }

    #[test]
    fn the_limits_of_a_key_are_those_that_rustls_says() {
        for (key, _, plain) in keys() {
            let limits = (key.confidentiality_limit(), key.integrity_limit());
            assert_eq!(limits, (plain.confidentiality_limit(), plain.integrity_limit()));
        }
    }

    #[test]
    fn keys_of_our_own_are_found_in_what_rustls_gives_out() {
        let Ok(provider) = provider(PacketCrypto::WarplineGcm) else {
            return eprintln!("skipped: this processor lacks AVX-512, VAES or VPCLMULQDQ");
        };
        let suite = provider.cipher_suites[0].tls13().unwrap().quic_suite().unwrap();
        let keys = suite.keys(&[7; 8], Side::Client, Version::V1);
        assert!(matches!(PacketKey::new(keys.local.packet), PacketKey::Gcm(_)));
        assert!(matches!(HeaderKey::new(keys.local.header), HeaderKey::Gcm(_)));
    }
}
