//! Comparisons with other stacks, side by side.

fn main() {}
