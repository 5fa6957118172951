//! AES-GCM (NIST SP 800-38D) and the header-protection mask for QUIC packets (RFC 9001 sections 5.3 and 5.4.3), on
//! AVX-512, VAES and VPCLMULQDQ.
//!
//! Libraries for TLS are made for records of up to 16 KiB; of the time that they take for a packet, a good part is getting
//! started. Here one pass encrypts and authenticates four blocks an instruction, and what a packet needs besides its
//! blocks is little: the sum of the last 16 blocks and of the lengths is reduced once.
//!
//! A short packet is a way of its own: one sum with the header and the lengths in it. Packets that are at hand together go as a batch of
//! [`Job`]s, which may overlap.
//!
//! [`AeadKey::new`] and [`MaskKey::new`] give nothing where the processor lacks the instructions ([`is_supported`]): the
//! caller has a library for that. Nothing here branches on secrets or looks up memory by them, so the time an operation
//! takes depends on lengths alone. Keys are wiped when they are dropped.
//!
//! ```
//! let Some(key) = warpline_gcm::AeadKey::new(&[7; 16], &[1; 12]) else { return };
//! let mut text = *b"a packet's payload";
//! let tag = key.seal(5, b"its header", &mut text);
//! assert!(key.open(5, b"its header", &mut text, &tag));
//! assert_eq!(&text, b"a packet's payload");
//! ```

#[cfg(target_arch = "x86_64")]
mod aes;
#[cfg(target_arch = "x86_64")]
mod ghash;
mod job;
mod key;
#[cfg(target_arch = "x86_64")]
mod pass;
#[cfg(target_arch = "x86_64")]
mod vector;
#[cfg_attr(not(target_arch = "x86_64"), path = "absent.rs")]
mod wide;

pub use job::Job;
pub use key::{AeadKey, MaskKey};

/// Length of a nonce and of an initialization vector, in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of a tag, in bytes.
pub const TAG_LEN: usize = 16;

/// Length of a block of AES, and of a sample for header protection, in bytes.
pub const BLOCK_LEN: usize = 16;

/// Whether this processor has the instructions.
pub fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // All that a function of this crate is compiled for.
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}
