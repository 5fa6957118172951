//! What was sent and what became of it: round-trip times, acknowledgements, loss, the probe timeout and the delivery
//! rate (RFC 9002).
//!
//! Nothing here knows of a connection. [`sent::SentPackets`] keeps the packets of one packet number space;
//! [`rtt::RttEstimator`] and [`rate::DeliveryRate`] belong to a path; [`pto`] tells when to act next.

pub mod frequency;
pub mod pto;
pub mod rate;
pub mod rtt;
pub mod sent;
