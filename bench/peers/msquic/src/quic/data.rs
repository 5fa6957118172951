//! Bytes on their way out. msquic sends from its caller's memory and tells when it has done with it.

use std::ffi::c_void;
use std::sync::OnceLock;

use msquic::ffi::QUIC_BUFFER;

/// Bytes that one send of filler may have: what msquic's performance tool hands over at a time.
pub const FILLER_MAX: u32 = 64 << 10;

/// Bytes that are sent again and again, and live as long as the process.
#[derive(Debug)]
pub struct Payload(QUIC_BUFFER);

// SAFETY: the buffer points to leaked memory that nobody writes to, msquic included: it reads what it sends.
unsafe impl Sync for Payload {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Payload {}

impl Payload {
    /// Keeps `bytes` for good. They must be fewer than 2^32.
    pub fn new(bytes: Vec<u8>) -> &'static Self {
        Box::leak(Box::new(Self(buffer(Vec::leak(bytes)))))
    }

    pub(super) fn buffer(&'static self) -> *const QUIC_BUFFER {
        &raw const self.0
    }
}

/// Bytes that are sent once, with their description for msquic, which must stay where it is until they are sent.
#[derive(Debug)]
#[repr(C)] // `into_raw` gives the address of the whole as that of the description.
pub(super) struct Outgoing {
    buffer: QUIC_BUFFER,
    _bytes: Vec<u8>,
}

impl Outgoing {
    /// `length` bytes of filler, at most [`FILLER_MAX`].
    pub(super) fn filler(length: u32) -> Box<Self> {
        static FILLER: OnceLock<&'static Payload> = OnceLock::new();
        let filler = FILLER.get_or_init(|| Payload::new(vec![0x5a; FILLER_MAX as usize]));
        let buffer = QUIC_BUFFER { Length: length.min(FILLER_MAX), ..filler.0 };
        Box::new(Self { buffer, _bytes: Vec::new() })
    }

    /// A copy of `bytes`.
    pub(super) fn copy(bytes: &[u8]) -> Box<Self> {
        let mut bytes = bytes.to_vec();
        Box::new(Self { buffer: buffer(&mut bytes), _bytes: bytes })
    }

    /// Hands it over: what describes the bytes, and what msquic gives back when they are sent.
    pub(super) fn into_raw(self: Box<Self>) -> (*const QUIC_BUFFER, *mut c_void) {
        let outgoing = Box::into_raw(self);
        (outgoing.cast(), outgoing.cast())
    }

    /// Takes back what msquic has done with. How many bytes it had; 0 for a [`Payload`], which has no context.
    ///
    /// # Safety
    ///
    /// `context` must be null, or come from [`into_raw`](Self::into_raw) and not have been taken back before.
    pub(super) unsafe fn take_back(context: *mut c_void) -> u32 {
        if context.is_null() {
            return 0;
        }
        // SAFETY: the caller's promise.
        let outgoing = unsafe { Box::from_raw(context.cast::<Self>()) };
        outgoing.buffer.Length
    }
}

const _: () = assert!(std::mem::offset_of!(Outgoing, buffer) == 0);

fn buffer(bytes: &mut [u8]) -> QUIC_BUFFER {
    let length = u32::try_from(bytes.len()).expect("messages are shorter than 4 GiB");
    QUIC_BUFFER { Length: length, Buffer: bytes.as_mut_ptr() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back() {
        for (outgoing, length) in [(Outgoing::filler(1_000), 1_000), (Outgoing::copy(&[1, 2, 3]), 3)] {
            let (_, context) = outgoing.into_raw();
            // SAFETY: from `into_raw`, taken back once.
            assert_eq!(unsafe { Outgoing::take_back(context) }, length);
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { Outgoing::take_back(std::ptr::null_mut()) }, 0);
    }
}
