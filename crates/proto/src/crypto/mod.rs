//! Cryptography: which library seals packets, the keys of each level, the TLS session, tokens and resets.
//!
//! TLS itself is rustls'. The choice of the library that seals packets is made in [`provider`] and nowhere else.

mod address_token;
mod batch;
mod device;
mod fleet;
mod keys;
pub(crate) mod packet;
pub(crate) mod portable;
pub mod provider;
mod reset;
pub(crate) mod retry;
mod schedule;
mod session;
mod tap;
mod trial;
#[cfg(test)]
pub(crate) mod vectors;
mod wide;

pub use address_token::TokenKey;
pub(crate) use address_token::{TokenError, TokenKind, TokenScope};
pub use batch::{BATCH_MAX, Job};
pub use device::{DeviceKey, PacketDevice, install_device};
pub use fleet::FleetKeys;
pub(crate) use keys::{KeyLimits, Keys, OneRttKeys, Opened, Waiting};
pub use provider::PacketCrypto;
pub use reset::ResetKey;
pub(crate) use session::{Level, Session, SessionEvent, tls_version};
pub use trial::{DeviceTrial, TrialError, try_device};
