//! Nanoseconds per packet, beside the libraries: `speed [BYTES]`. The best of many short rounds, so that interruptions do
//! not count.

use std::hint::black_box;
use std::time::Instant;

use warpline_gcm::{AeadKey, MaskKey};

const ROUNDS: u32 = 400;
const PACKETS: u32 = 500;

/// The best time of an operation in nanoseconds.
fn best(mut operation: impl FnMut()) -> f64 {
    let round = |operation: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..PACKETS).for_each(|_| operation());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS)
    };
    (0..ROUNDS).map(|_| round(&mut operation)).fold(f64::MAX, f64::min)
}

/// A library that seals a buffer in place, over and over.
macro_rules! library {
    ($library:ident, $len:expr) => {{
        use ::$library::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("a key of 16 bytes"));
        let mut text = vec![0; $len];
        best(|| {
            let nonce = Nonce::assume_unique_for_key([1; 12]);
            black_box(key.seal_in_place_separate_tag(nonce, Aad::from([2; 13]), &mut text).is_ok());
        })
    }};
}

fn main() {
    let len = std::env::args().nth(1).map_or(1433, |len| len.parse().expect("a number of bytes"));
    println!("sealing {len} bytes with AES-128-GCM, ns:");
    println!("  ring           {:8.1}", library!(ring, len));
    println!("  aws-lc-rs      {:8.1}", library!(aws_lc_rs, len));
    let (Some(key), Some(mask)) = (AeadKey::new(&[7; 16], &[1; 12]), MaskKey::new(&[8; 16])) else {
        return println!("  warpline-gcm   not on this processor");
    };
    let mut text = vec![0; len];
    let seal = best(|| {
        black_box(key.seal(1, &[2; 13], &mut text));
    });
    println!("  warpline-gcm   {seal:8.1}");
    let open = best(|| {
        black_box(key.open(1, &[2; 13], &mut text, &[0; 16]));
    });
    println!("  … opening      {open:8.1} (refused, and wiped)");
    let own = best(|| {
        black_box(mask.mask(black_box(&[3; 16])));
    });
    let library = aws_lc_rs::aead::quic::HeaderProtectionKey::new(&aws_lc_rs::aead::quic::AES_128, &[8; 16]);
    let library = library.expect("a key of 16 bytes");
    let other = best(|| {
        black_box(library.new_mask(black_box(&[3; 16])).is_ok());
    });
    println!("a mask, ns: aws-lc-rs {other:.1}, warpline-gcm {own:.1}");
    let make = best(|| {
        black_box(AeadKey::new(black_box(&[7; 16]), &[1; 12]).is_some());
    });
    println!("a key, ns: {make:.1}");
}
