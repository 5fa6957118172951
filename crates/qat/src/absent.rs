//! In place of the driver, where there is none.

use std::convert::Infallible;

use warpline_proto::{DeviceKey, PacketDevice};

use crate::error::Unavailable;
use crate::{Places, Status};

/// The QAT cards that this process may use: none on this platform.
#[derive(Clone, Debug)]
pub struct Qat(Infallible);

impl Qat {
    /// Says that there is none.
    ///
    /// # Errors
    /// Always [`Unavailable::Platform`].
    pub fn open(_: &Places) -> Result<Self, Unavailable> {
        Err(Unavailable::Platform)
    }

    /// What the instances did and do.
    pub fn status(&self) -> Status {
        match self.0 {}
    }

    /// Gives the instance of this thread back.
    pub fn release(&self) {
        match self.0 {}
    }

    /// Packets that are worth the way to the card from now on.
    pub fn set_batch_min(&self, _: usize) {
        match self.0 {}
    }
}

impl PacketDevice for Qat {
    fn key(&self, _: &[u8], _: &[u8; 12]) -> Option<Box<dyn DeviceKey>> {
        match self.0 {}
    }
}
