//! quinn as a peer of the comparison.

fn main() {}
