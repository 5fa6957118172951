//! How the kernel lays a received message out in a buffer:
//!
//! | bytes | content |
//! |---|---|
//! | 0 .. 16 | lengths of the name, the control messages and the payload, and flags (`struct io_uring_recvmsg_out`) |
//! | 16 .. 48 | the sender's address |
//! | 48 .. 256 | control messages |
//! | 256 .. | the payload, on a cache line |

use std::net::IpAddr;
use std::ptr;
use std::time::Duration;

use crate::limits::MESSAGE_COST_MIN;
use crate::pools::Arrival;
use crate::udp::address::Name;
use crate::udp::control;

/// Bytes before the payload.
pub(super) const HEAD: usize = 256;

const OUT_LEN: usize = 16;
const NAME_LEN: usize = 32;
const CONTROL_AT: usize = OUT_LEN + NAME_LEN;
const CONTROL_LEN: usize = HEAD - CONTROL_AT;

const _: () = assert!(HEAD >= MESSAGE_COST_MIN);
const _: () = assert!(NAME_LEN >= Name::LEN as usize);
const _: () = assert!(CONTROL_LEN >= control::CONTROL_LEN);
const _: () = assert!(CONTROL_AT.is_multiple_of(align_of::<libc::cmsghdr>()));

/// The header that the request carries: it says how much room the parts have.
pub(super) fn request_header() -> Box<libc::msghdr> {
    // SAFETY: an all-zero header is valid: null pointers with lengths of zero.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
    header.msg_namelen = NAME_LEN as libc::socklen_t;
    header.msg_controllen = CONTROL_LEN as _;
    header
}

/// What the kernel says about the message in a buffer, and when it arrived if that is noted; `None` if it is cut off or from
/// nobody. `local` is what the socket is bound to, for when the kernel does not say.
pub(super) fn parse(buffer: &[u8], result: usize, local: Option<IpAddr>) -> Option<(Arrival, Option<Duration>)> {
    let head = buffer.get(..HEAD)?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (name_len, control_len, payload_len, flags) = (word(0), word(4), word(8), word(12));
    let truncated = flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) as u32 != 0;
    let len = result.checked_sub(HEAD)?;
    if truncated || payload_len as usize != len || name_len as usize > NAME_LEN || control_len as usize > CONTROL_LEN {
        return None;
    }
    let name = head[OUT_LEN..].as_ptr().cast::<Name>();
    // SAFETY: the name's room is longer than a `Name`, all of whose bytes are plain integers; alignment is not asked for.
    let remote = unsafe { ptr::read_unaligned(name) }.read()?;
    // SAFETY: an all-zero header is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_control = head[CONTROL_AT..].as_ptr().cast_mut().cast();
    header.msg_controllen = control_len as _;
    // SAFETY: the kernel wrote so many bytes of control messages there, checked against the room, and nobody has touched
    // them since.
    let info = unsafe { control::read(&header) };
    let segment_size = info.segment_size.unwrap_or(len);
    let arrival = Arrival { len, segment_size, remote, local: info.local.or(local), ecn: info.ecn };
    Some((arrival, info.arrived))
}
