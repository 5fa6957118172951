//! noq as an endpoint of the interop matrix.
#![forbid(unsafe_code)]

mod http3;
#[path = "../../quinn/src/peer.rs"]
mod peer;

use noq as stack;

fn main() -> std::process::ExitCode {
    peer::main()
}
