//! quinn as an endpoint of the interop matrix.
#![forbid(unsafe_code)]

mod http3;
mod peer;

use quinn as stack;

fn main() -> std::process::ExitCode {
    peer::main()
}
