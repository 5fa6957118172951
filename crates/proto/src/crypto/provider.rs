//! The one place that decides which library does what.
//!
//! Key exchange and signatures are aws-lc-rs'; transcripts and key schedules are hashed by the library of the suite, which is `ring`
//! for those sealed by `warpline-gcm`: its HMAC needs no allocation (a tenth less CPU time a handshake). Packets are sealed by `warpline-gcm`, by `ring` or by `aws-lc-rs`:
//! which one is fastest depends on the CPU (1,433 bytes of AES-128-GCM in ns: 84, 227 and 167 on a Zen 5; without AVX-512 the
//! first is out, and for 1,350 bytes a Zen 3 takes 308 and 471), so [`PacketCrypto::Auto`] measures them once per process,
//! in about a millisecond.

use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant as WallClock};

use rustls::crypto::{CryptoProvider, aws_lc_rs as aws, ring};
use rustls::quic::Suite;
use rustls::{CipherSuite, SupportedCipherSuite};

use super::{device, wide};
use crate::error::ConfigError;

/// Which library seals and opens packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketCrypto {
    /// Whichever is faster on this CPU, measured once per process.
    #[default]
    Auto,
    /// The `ring` crate.
    Ring,
    /// The `aws-lc-rs` crate.
    AwsLc,
    /// The `warpline-gcm` crate, on processors with AVX-512, VAES and VPCLMULQDQ; ChaCha20 is `aws-lc-rs`'.
    WarplineGcm,
    /// The device that was [installed](super::install_device), with the fastest library for what it does not do. `Auto` never means it.
    Device,
}

impl PacketCrypto {
    /// The library, or the device, that `self` stands for on this machine; never [`PacketCrypto::Auto`].
    pub fn resolve(self) -> Self {
        static FASTER: LazyLock<PacketCrypto> = LazyLock::new(measure);
        match self {
            Self::Auto => *FASTER,
            named => named,
        }
    }

    /// Name of the library, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ring => "ring",
            Self::AwsLc => "aws-lc-rs",
            Self::WarplineGcm => "warpline-gcm",
            Self::Device => "device",
        }
    }
}

/// A rustls provider for TLS 1.3 over QUIC whose packets are sealed by `crypto`.
///
/// All three TLS 1.3 cipher suites are offered, AES-128-GCM first. X25519MLKEM768 is the preferred key exchange.
///
/// # Errors
/// The library was named, and the processor lacks its instructions; or the device was, and none is installed.
pub fn provider(crypto: PacketCrypto) -> Result<Arc<CryptoProvider>, ConfigError> {
    let mut provider = aws::default_provider();
    let (name, why) = match crypto {
        PacketCrypto::Device => ("device", "needs a device that was installed"),
        _ => ("warpline-gcm", "needs a processor with AVX-512, VAES and VPCLMULQDQ"),
    };
    provider.cipher_suites = suites(crypto.resolve()).ok_or(ConfigError::OutOfRange { name, why })?;
    provider.kx_groups =
        vec![aws::kx_group::X25519MLKEM768, aws::kx_group::X25519, aws::kx_group::SECP256R1, aws::kx_group::SECP384R1];
    Ok(Arc::new(provider))
}

/// The suites of a library; `None` if it does not run here.
fn suites(crypto: PacketCrypto) -> Option<Vec<SupportedCipherSuite>> {
    Some(match crypto {
        PacketCrypto::WarplineGcm => wide::suites()?.to_vec(),
        PacketCrypto::Device => device::suites(&suites(PacketCrypto::Auto.resolve())?)?,
        PacketCrypto::Ring => vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        PacketCrypto::Auto | PacketCrypto::AwsLc => vec![
            aws::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
    })
}

/// The suites of a library, whichever that is; none if it does not run here.
pub(super) fn library_suites(library: PacketCrypto) -> Vec<SupportedCipherSuite> {
    suites(library).unwrap_or_default()
}

/// The suite that protects Initial packets, whichever are negotiated (RFC 9001 section 5.2): from `provider` where it has it.
pub(crate) fn initial_suite(provider: &CryptoProvider) -> Suite {
    let own = library_suites(PacketCrypto::Auto.resolve());
    let find = |suite: &SupportedCipherSuite| match (suite.suite(), suite.tls13()) {
        (CipherSuite::TLS13_AES_128_GCM_SHA256, Some(suite)) => suite.quic_suite(),
        _ => None,
    };
    let suite = provider.cipher_suites.iter().chain(&own).find_map(find);
    suite.expect("the providers of this crate have TLS_AES_128_GCM_SHA256 for QUIC")
}

/// Seals packets of 1,350 bytes with every library that runs here and says which was fastest.
fn measure() -> PacketCrypto {
    let time = |crypto| {
        let suites = library_suites(crypto);
        let suite = suites.first().and_then(|suite| suite.tls13()?.quic_suite());
        let Some(suite) = suite else { return Duration::MAX };
        let keys = suite.keys(&[7; 8], rustls::Side::Client, rustls::quic::Version::V1);
        let mut payload = [0x5a; 1350];
        // The best of several short rounds: an interruption spoils one of them, not the result.
        (0..5)
            .map(|_| {
                let start = WallClock::now();
                for number in 0..200 {
                    let tag = keys.local.packet.encrypt_in_place(number, &[0x40; 13], &mut payload);
                    black_box(tag.is_ok());
                }
                start.elapsed()
            })
            .min()
            .unwrap_or(Duration::MAX)
    };
    let libraries = [PacketCrypto::WarplineGcm, PacketCrypto::Ring, PacketCrypto::AwsLc];
    libraries.into_iter().min_by_key(|library| time(*library)).unwrap_or(PacketCrypto::AwsLc)
}
