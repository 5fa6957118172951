//! Share-nothing workers that run the protocol on packets.
