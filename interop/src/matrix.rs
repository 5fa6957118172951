//! The interop matrix: the cases of the public QUIC interop runner, between our endpoint and those of other stacks, in both
//! roles, without containers.
//!
//! Server and client are processes; between them is the proxy, which is the network that the case asks for and writes down
//! all that passes. A case passes if every file arrived as it was *and* what crossed the network shows that the thing
//! which the case is about has happened: see [`cases`].
//!
//! - [`cases`]: what each case does and what it demands;
//! - [`peers`]: the stacks, how their programs are built, and what they lack, with the reason;
//! - [`net`]: namespaces for programs on AF_XDP;
//! - [`run`]: one case between two programs;
//! - [`table`]: all of them, and how they are printed.

pub mod cases;
pub mod net;
pub mod peers;
pub mod run;
pub mod table;
