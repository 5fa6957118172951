//! Known answers of AES-GCM: test cases 4 and 16 of "The Galois/Counter Mode of Operation" (McGrew and Viega, 2005), which have
//! a header and a text that is no whole number of blocks.

use warpline_proto::{Job, PacketDevice};

use crate::error::Unavailable;

/// The key of 256 bits; the one of 128 bits is its first half.
const KEY: [u8; 32] = *b"\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08\
                         \xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08";
const IV: [u8; 12] = *b"\xca\xfe\xba\xbe\xfa\xce\xdb\xad\xde\xca\xf8\x88";
const HEADER: [u8; 20] = *b"\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\xab\xad\xda\xd2";
const TEXT: [u8; 60] = *b"\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a\
                          \x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72\
                          \x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25\
                          \xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";

/// Cipher text and tag for the keys of 128 and of 256 bits.
const SEALED: [(usize, [u8; 76]); 2] = [
    (
        16,
        *b"\x42\x83\x1e\xc2\x21\x77\x74\x24\x4b\x72\x21\xb7\x84\xd0\xd4\x9c\
           \xe3\xaa\x21\x2f\x2c\x02\xa4\xe0\x35\xc1\x7e\x23\x29\xac\xa1\x2e\
           \x21\xd5\x14\xb2\x54\x66\x93\x1c\x7d\x8f\x6a\x5a\xac\x84\xaa\x05\
           \x1b\xa3\x0b\x39\x6a\x0a\xac\x97\x3d\x58\xe0\x91\
           \x5b\xc9\x4f\xbc\x32\x21\xa5\xdb\x94\xfa\xe9\x5a\xe7\x12\x1a\x47",
    ),
    (
        32,
        *b"\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d\
           \x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa\
           \x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38\
           \xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62\
           \x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b",
    ),
];

/// Seals and opens the known examples, and one that is forged.
///
/// # Errors
/// What the device got wrong or refused to do.
pub(crate) fn check(device: &dyn PacketDevice) -> Result<(), Unavailable> {
    let wrong = |what| Err(Unavailable::WrongAnswer(what));
    for (key_len, sealed) in &SEALED {
        let keys = device.key(&KEY[..*key_len], &IV).zip(device.key(&KEY[..*key_len], &IV));
        let Some((sealing, opening)) = keys else { return wrong("it takes no key") };
        let packet = |rest: &[u8]| [&HEADER[..], rest].concat();
        let expected = packet(sealed);
        let mut bytes = packet(&TEXT);
        bytes.resize(expected.len(), 0);
        // With number 0 the nonce is the initialization vector itself.
        let mut jobs = [Job::new(&mut bytes, HEADER.len(), 0)];
        if !sealing.seal(&mut jobs) || !jobs[0].is_done {
            return wrong("it seals nothing");
        }
        if bytes != expected {
            return wrong("it seals something else");
        }
        let mut jobs = [Job::new(&mut bytes, HEADER.len(), 0)];
        if !opening.open(&mut jobs) || !jobs[0].is_done || bytes[..HEADER.len() + TEXT.len()] != packet(&TEXT) {
            return wrong("it does not open what is authentic");
        }
        let mut forged = expected;
        forged[HEADER.len() + 7] ^= 1;
        let mut jobs = [Job::new(&mut forged, HEADER.len(), 0)];
        if !opening.open(&mut jobs) || jobs[0].is_done {
            return wrong("it opens what is forged");
        }
    }
    Ok(())
}
