//! The integrity tag of Retry packets (RFC 9001 section 5.8, RFC 9369 section 3.3.3).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use warpline_wire::Version;

/// Length of the tag at the end of a Retry packet.
pub(crate) const TAG_LEN: usize = 16;

const KEY_V1: [u8; 16] =
    [0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e];
const NONCE_V1: [u8; 12] = [0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb];
const KEY_V2: [u8; 16] =
    [0x8f, 0xb4, 0xb0, 0x1b, 0x56, 0xac, 0x48, 0xe2, 0x60, 0xfb, 0xcb, 0xce, 0xad, 0x7c, 0xcc, 0x92];
const NONCE_V2: [u8; 12] = [0xd8, 0x69, 0x69, 0xbc, 0x2d, 0x7c, 0x6d, 0x99, 0x90, 0xef, 0xb0, 0x4a];

/// The tag over a Retry pseudo-packet.
pub(crate) fn tag(version: Version, pseudo_packet: &[u8]) -> [u8; TAG_LEN] {
    let (key, nonce) = if version == Version::V2 { (&KEY_V2, NONCE_V2) } else { (&KEY_V1, NONCE_V1) };
    let key = UnboundKey::new(&AES_128_GCM, key).expect("an AES-128 key is 16 bytes long");
    let tag = LessSafeKey::new(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(pseudo_packet), &mut [])
        .expect("sealing an empty payload stays within the cipher's limits");
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(tag.as_ref());
    out
}
