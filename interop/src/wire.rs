//! What a run looked like from outside: the datagrams that the proxy saw, taken apart and decrypted.
//!
//! The matrix believes what crossed the network more than what either side says of itself. Initial packets can be read
//! by anyone (RFC 9001 section 5.2); everything else with the secrets that one side writes into a key log. None of our
//! own code takes part in reading, so that a mistake of it shows.
//!
//! - [`Capture`]: what the proxy writes down;
//! - [`Trace`]: what it means.

mod capture;
mod frames;
mod keys;
mod packet;
mod trace;

pub use capture::{Capture, Datagram, Point};
pub use packet::{VERSION_1, VERSION_2};
pub use trace::{Trace, Way};
