//! Sessions: a key, a direction, and a length of header, as a card knows them.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::null;
use std::sync::mpsc::Sender;

use crate::library::Library;
use crate::memory::Dma;
use crate::sys;

/// Bytes of an authentication tag (RFC 9001 section 5.3).
pub(crate) const TAG_LEN: usize = 16;

/// What is done with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Seal,
    Open,
}

/// Where a session is made.
pub(crate) struct Home<'a> {
    pub(crate) library: &'static Library,
    pub(crate) handle: sys::Handle,
    pub(crate) node: i32,
    /// The number of the instance.
    pub(crate) instance: usize,
    /// Takes the memory of sessions that are not needed any more.
    pub(crate) retired: &'a Sender<Dma>,
}

/// A session. It is made and removed on the thread that has its instance; dropped on another one, it waits for that thread.
pub(crate) struct Session {
    pub(crate) direction: Direction,
    pub(crate) header_len: usize,
    pub(crate) instance: usize,
    memory: ManuallyDrop<Dma>,
    retired: Sender<Dma>,
}

impl Session {
    /// `None` if the card, or its memory, has no room for it.
    pub(crate) fn new(home: &Home<'_>, key: &[u8], direction: Direction, header_len: usize) -> Option<Self> {
        let setup = setup(key, direction, header_len);
        let mut size = 0;
        // SAFETY: the instance was started, and both structures live through the call.
        let status = unsafe { (home.library.session_size)(home.handle, &raw const setup, &raw mut size) };
        if status != sys::SUCCESS || size == 0 {
            return None;
        }
        let memory = Dma::new(home.library, size as usize, home.node)?;
        // SAFETY: the instance was started and belongs to this thread; the memory is as long as the library wants it and stays until the
        // session was removed; the key is copied.
        let status = unsafe { (home.library.init_session)(home.handle, &raw const setup, memory.pointer(0).cast()) };
        (status == sys::SUCCESS).then(|| Self {
            direction,
            header_len,
            instance: home.instance,
            memory: ManuallyDrop::new(memory),
            retired: home.retired.clone(),
        })
    }

    /// What requests name it by.
    pub(crate) fn context(&self) -> *mut c_void {
        self.memory.pointer(0).cast()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: it is taken once, here, and not used afterwards.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        // Without an instance that could remove it (it was given up), the memory stays as it is: a card may still write to it.
        if let Err(unsent) = self.retired.send(memory) {
            std::mem::forget(unsent.0);
        }
    }
}

fn setup(key: &[u8], direction: Direction, header_len: usize) -> sys::SessionSetup {
    let (cipher_direction, chain_order) = match direction {
        Direction::Seal => (sys::DIRECTION_ENCRYPT, sys::CIPHER_THEN_HASH),
        Direction::Open => (sys::DIRECTION_DECRYPT, sys::HASH_THEN_CIPHER),
    };
    sys::SessionSetup {
        priority: sys::PRIORITY_NORMAL,
        operation: sys::OP_ALGORITHM_CHAINING,
        cipher: sys::CipherSetup {
            algorithm: sys::CIPHER_AES_GCM,
            key_len: key.len() as u32,
            key: key.as_ptr(),
            direction: cipher_direction,
        },
        hash: sys::HashSetup {
            algorithm: sys::HASH_AES_GCM,
            mode: sys::HASH_MODE_AUTH,
            digest_len: TAG_LEN as u32,
            // The key of the hash follows from that of the cipher.
            auth: sys::AuthSetup { key: null(), key_len: 0, aad_len: header_len as u32 },
            nested: sys::NestedSetup {
                inner_prefix: null(),
                inner_prefix_len: 0,
                outer_algorithm: 0,
                outer_prefix: null(),
                outer_prefix_len: 0,
            },
        },
        chain_order,
        // Requests say where the tag is.
        digest_is_appended: sys::FALSE,
        verify_digest: if direction == Direction::Open { sys::TRUE } else { sys::FALSE },
        partials_not_required: sys::FALSE,
    }
}
