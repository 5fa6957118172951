//! Sealing and opening one packet in the buffer it is in.

use rustls::Error;
use rustls::quic::{HeaderProtectionKey, PacketKey};
use warpline_gcm::Job;
use warpline_wire::header;

/// Length of the AEAD tag of every QUIC cipher suite (RFC 9001 section 5.3).
pub(crate) const TAG_LEN: usize = 16;
/// Where the header-protection sample starts behind the packet number's first byte (RFC 9001 section 5.4.2).
const SAMPLE_AT: usize = 4;
/// Length of the sample.
const SAMPLE_LEN: usize = 16;

/// Seals a packet: `packet` is header, payload, and room for the tag; the packet number starts at `pn_at`.
///
/// The caller has padded the payload so that packet number and payload are at least 4 bytes together.
#[inline]
pub(crate) fn seal(
    packet_key: &dyn PacketKey,
    header_key: &dyn HeaderProtectionKey,
    packet: &mut [u8],
    pn_at: usize,
    pn: (u64, usize),
) {
    let (number, pn_len) = pn;
    let mut job = Job::new(packet, pn_at + pn_len, number);
    seal_by(packet_key, &mut job);
    protect(header_key, packet, pn_at, pn_len);
}

/// Seals the packet of a job by a library; its header is not protected yet.
#[inline]
pub(crate) fn seal_by(key: &dyn PacketKey, job: &mut Job<'_>) {
    let (header, rest) = job.packet.split_at_mut(job.header_len);
    let (payload, tag_out) = rest.split_at_mut(rest.len() - TAG_LEN);
    let tag = key.encrypt_in_place(job.number, header, payload).expect("a packet is far below the cipher's limit");
    tag_out.copy_from_slice(tag.as_ref());
    job.is_done = true;
}

/// Protects the header of a sealed packet (RFC 9001 section 5.4).
#[inline]
pub(crate) fn protect(header_key: &dyn HeaderProtectionKey, packet: &mut [u8], pn_at: usize, pn_len: usize) {
    let (head, after) = packet.split_at_mut(pn_at + SAMPLE_AT);
    let (first, rest) = head.split_at_mut(1);
    header_key
        .encrypt_in_place(&after[..SAMPLE_LEN], &mut first[0], &mut rest[pn_at - 1..pn_at - 1 + pn_len])
        .expect("sample and packet number have the lengths that the cipher takes");
}

/// Puts a mask on a header, or takes it off one that is hidden (RFC 9001 section 5.4.1).
#[inline]
pub(crate) fn mask_header(mask: [u8; 5], first: &mut u8, number: &mut [u8], hidden: bool) -> Result<(), Error> {
    let bits = if *first & 0x80 != 0 { 0x0f } else { 0x1f };
    let plain = if hidden { *first ^ (mask[0] & bits) } else { *first };
    let pn_len = usize::from(plain & 0x03) + 1;
    if number.len() < pn_len {
        return Err(Error::General("a packet number that is too short".into()));
    }
    *first ^= mask[0] & bits;
    for (byte, mask) in number.iter_mut().take(pn_len).zip(&mask[1..]) {
        *byte ^= mask;
    }
    Ok(())
}

/// Removes header protection in place. Returns the first byte and the truncated packet number with its length,
/// or `None` for a packet that is too short to carry a sample.
#[inline]
pub(crate) fn unmask(
    header_key: &dyn HeaderProtectionKey,
    packet: &mut [u8],
    pn_at: usize,
) -> Option<(u8, u64, usize)> {
    if packet.len() < pn_at + SAMPLE_AT + SAMPLE_LEN {
        return None;
    }
    let (head, after) = packet.split_at_mut(pn_at + SAMPLE_AT);
    let (first, rest) = head.split_at_mut(1);
    header_key.decrypt_in_place(&after[..SAMPLE_LEN], &mut first[0], &mut rest[pn_at - 1..]).ok()?;
    let pn_len = usize::from(first[0] & 0x03) + 1;
    let truncated = header::decode_pn(rest.get(pn_at - 1..)?, pn_len);
    Some((first[0], truncated, pn_len))
}

/// Opens the packet of a job by a library; its header is unmasked.
#[inline]
pub(crate) fn open_by(key: &dyn PacketKey, job: &mut Job<'_>) {
    let (header, payload) = job.packet.split_at_mut(job.header_len);
    job.is_done = key.decrypt_in_place(job.number, header, payload).is_ok();
}

/// Opens a packet in place; `header_len` bytes of header are authenticated. Returns the payload's length,
/// or `None` when it is not authentic.
#[inline]
pub(crate) fn open(packet_key: &dyn PacketKey, packet: &mut [u8], header_len: usize, number: u64) -> Option<usize> {
    let (head, payload) = packet.split_at_mut(header_len);
    packet_key.decrypt_in_place(number, head, payload).ok().map(<[u8]>::len)
}
