//! Peers against peers, one file per pair. One binary, because linking several stacks takes longer than running them.
#![forbid(unsafe_code)]

mod aioquic_quinn;
mod proxy;
mod quinn_quinn;
mod share;
mod stage;
mod warpline_aioquic;
mod warpline_quinn;
mod xdp;
