//! Where there are no such instructions: keys of which there are none.

use core::ops::Range;

use crate::job::Job;
use crate::{BLOCK_LEN, NONCE_LEN, TAG_LEN};

/// Nothing.
pub(crate) const SHORT: Range<usize> = 0..0;

/// Nothing.
pub(crate) const SHORT_MASK: Range<usize> = 0..0;

/// No key.
#[derive(Clone)]
pub(crate) enum Aead {}

impl Aead {
    pub(crate) fn new(_key: &[u8], _iv: &[u8; NONCE_LEN]) -> Option<Self> {
        None
    }

    pub(crate) fn seal(&self, _number: u64, _aad: &[u8], _text: &mut [u8]) -> [u8; TAG_LEN] {
        match *self {}
    }

    pub(crate) fn open(&self, _number: u64, _aad: &[u8], _text: &mut [u8]) -> [u8; TAG_LEN] {
        match *self {}
    }

    pub(crate) fn batch<const SEAL: bool>(&self, _jobs: &mut [Job<'_>]) {
        match *self {}
    }
}

/// No key.
#[derive(Clone)]
pub(crate) enum Mask {}

impl Mask {
    pub(crate) fn new(_key: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) fn mask(&self, _sample: &[u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
        match *self {}
    }
}
