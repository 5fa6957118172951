//! What was sent and what became of it: round-trip times, acknowledgements, loss and delivery rate (RFC 9002).

pub mod rate;
pub mod rtt;
pub mod sent;
