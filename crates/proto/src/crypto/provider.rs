//! The one place that decides which library does what.
//!
//! Key exchange, signatures and hashes are aws-lc-rs'. Packets are sealed by `ring` or by `aws-lc-rs`: which one is
//! faster depends on the CPU (1,350 bytes of AES-128-GCM: 308 against 471 ns on a Zen 3 without AVX-512, 218 against
//! 174 ns on a Zen 5 with it), so [`PacketCrypto::Auto`] measures both once per process, in about a millisecond.

use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant as WallClock};

use rustls::crypto::{CryptoProvider, aws_lc_rs as aws, ring};
use rustls::quic::Suite;
use rustls::{CipherSuite, SupportedCipherSuite};

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
}

impl PacketCrypto {
    /// The library that `self` stands for on this machine; never [`PacketCrypto::Auto`].
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
        }
    }
}

/// A rustls provider for TLS 1.3 over QUIC whose packets are sealed by `crypto`.
///
/// All three TLS 1.3 cipher suites are offered, AES-128-GCM first. X25519MLKEM768 is the preferred key exchange.
pub fn provider(crypto: PacketCrypto) -> Arc<CryptoProvider> {
    let mut provider = aws::default_provider();
    provider.cipher_suites = suites(crypto.resolve());
    provider.kx_groups =
        vec![aws::kx_group::X25519MLKEM768, aws::kx_group::X25519, aws::kx_group::SECP256R1, aws::kx_group::SECP384R1];
    Arc::new(provider)
}

fn suites(crypto: PacketCrypto) -> Vec<SupportedCipherSuite> {
    match crypto {
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
    }
}

/// The suite that protects Initial packets, whichever are negotiated (RFC 9001 section 5.2): from `provider` where it has it.
pub(crate) fn initial_suite(provider: &CryptoProvider) -> Suite {
    let own = suites(PacketCrypto::Auto.resolve());
    let find = |suite: &SupportedCipherSuite| match (suite.suite(), suite.tls13()) {
        (CipherSuite::TLS13_AES_128_GCM_SHA256, Some(suite)) => suite.quic_suite(),
        _ => None,
    };
    let suite = provider.cipher_suites.iter().chain(&own).find_map(find);
    suite.expect("the providers of this crate have TLS_AES_128_GCM_SHA256 for QUIC")
}

/// Seals packets of 1,350 bytes with both libraries and says which was faster.
fn measure() -> PacketCrypto {
    let time = |crypto| {
        let suite = suites(crypto)[0].tls13().and_then(rustls::Tls13CipherSuite::quic_suite);
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
    if time(PacketCrypto::Ring) <= time(PacketCrypto::AwsLc) { PacketCrypto::Ring } else { PacketCrypto::AwsLc }
}
