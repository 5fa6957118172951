//! Cases of the matrix with our endpoints on AF_XDP, in network namespaces. Needs root; without it the story says in one line
//! that it was skipped.

use std::path::PathBuf;

use warpline_interop::matrix::net::Net;
use warpline_interop::matrix::peers::Program;
use warpline_interop::matrix::run::{Pair, run};
use warpline_interop::matrix::table;

/// A transfer, both families of addresses, both kinds of new addresses, marks, and two clients at a time.
const CASES: [&str; 8] =
    ["transfer", "retry", "ipv6", "ecn", "rebind-addr", "activemigration", "connectionmigration", "crosstraffic"];

#[test]
fn cases_pass_with_af_xdp_at_both_ends_and_at_one() {
    if let Err(reason) = Net::new(1) {
        return println!("skipped: no network namespaces here: {reason}");
    }
    let ours = Program::ours(PathBuf::from(env!("CARGO_BIN_EXE_warpline-interop")));
    let xdp = ours.clone().with_xdp(true);
    for case in table::select(&CASES.map(str::to_owned)).unwrap() {
        for (client, server) in [(&xdp, &xdp), (&xdp, &ours), (&ours, &xdp)] {
            // One side is enough where the other one matters little.
            let short = !matches!(case.name, "transfer" | "ipv6" | "activemigration");
            if short && !(client.is_xdp() && server.is_xdp()) {
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            let who = [client, server].map(|program| if program.is_xdp() { "AF_XDP" } else { "sockets" });
            let shown = run(case, true, Pair { client, server }, directory.path());
            let shown = shown.unwrap_or_else(|why| panic!("{} from {} to {}: {why}", case.name, who[0], who[1]));
            println!("{} from {} to {}: {shown}", case.name, who[0], who[1]);
            assert!(shown.contains("past the kernel: "), "{shown}");
        }
    }
}
