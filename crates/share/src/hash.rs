//! BLAKE3 in pieces: every group of 16 KiB has a chaining value of its own, and these combine to the hash of the file.
//!
//! A file's hash is only known at its end, but sending begins at once: each part travels with the chaining values of its groups, so a
//! wrong byte is found within its group, and when all is there the values combine to BLAKE3's hash of the whole, which the host has
//! computed from the same single read. (A pre-order encoding such as Bao's would need the hash first, hence a
//! second read.)

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::limits::GROUP_LEN;

/// A chaining value, or a hash.
pub type Value = [u8; 32];

/// The value of the group that begins at `offset` of a file of `size` bytes: its chaining value, or the hash itself when it is the whole file.
#[inline]
pub fn group_value(offset: u64, group: &[u8], size: u64) -> Value {
    debug_assert!(group.len() <= GROUP_LEN && offset.is_multiple_of(GROUP_LEN as u64));
    if size <= GROUP_LEN as u64 {
        return *blake3::hash(group).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(group);
    hasher.finalize_non_root()
}

/// The chaining value above neighbouring `values`, which is not the root. A left subtree is the largest complete one, as BLAKE3 has it.
pub fn combine(values: &[Value]) -> Value {
    match values {
        [one] => *one,
        _ => {
            let (left, right) = halves(values);
            merge_subtrees_non_root(&combine(left), &combine(right), Mode::Hash)
        }
    }
}

/// The hash of a file from the values of all its groups or of all its parts.
pub fn root(values: &[Value]) -> Value {
    match values {
        [] => *blake3::hash(&[]).as_bytes(),
        [one] => *one,
        _ => {
            let (left, right) = halves(values);
            *merge_subtrees_root(&combine(left), &combine(right), Mode::Hash).as_bytes()
        }
    }
}

/// Combines values as they come, all groups' or all parts' of a file in order, in memory for a logarithm of them.
#[derive(Debug, Default)]
pub struct Combiner {
    /// Values of complete subtrees, the largest first; at most one more than the binary digits of `count` that are one.
    stack: Vec<Value>,
    count: u64,
}

impl Combiner {
    /// Adds the next value.
    pub fn push(&mut self, value: Value) {
        // Subtrees are merged when something follows them: only the end tells which merge makes the root.
        let complete = self.count.count_ones() as usize;
        while self.stack.len() > complete
            && let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop())
        {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        self.stack.push(value);
        self.count += 1;
    }

    /// The hash of the file.
    pub fn root(mut self) -> Value {
        let Some(mut right) = self.stack.pop() else { return root(&[]) };
        while let Some(left) = self.stack.pop() {
            if self.stack.is_empty() {
                return *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes();
            }
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        right
    }
}

fn halves(values: &[Value]) -> (&[Value], &[Value]) {
    values.split_at((values.len().next_power_of_two() / 2).max(1))
}

/// What is kept of a part: the combination of its groups' values; for a file of a single part the file's hash.
pub fn part_value(groups: &[Value], is_only_part: bool) -> Value {
    if is_only_part { root(groups) } else { combine(groups) }
}

/// The values in `bytes`, 32 each.
pub fn values(bytes: &[u8]) -> impl ExactSizeIterator<Item = &Value> {
    bytes.as_chunks::<32>().0.iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PART_LEN;

    #[test]
    fn pieces_combine_to_the_hash_of_the_whole() {
        let sizes =
            [0, 1, 1024, GROUP_LEN, GROUP_LEN + 1, 3 * GROUP_LEN, PART_LEN, PART_LEN + 1, 5 * PART_LEN + 12_345];
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|i| (i * 31 % 253) as u8).collect();
            let parts: Vec<Value> = data
                .chunks(PART_LEN)
                .enumerate()
                .map(|(p, part)| {
                    let groups: Vec<Value> = part
                        .chunks(GROUP_LEN)
                        .enumerate()
                        .map(|(g, group)| group_value((p * PART_LEN + g * GROUP_LEN) as u64, group, size as u64))
                        .collect();
                    part_value(&groups, size <= PART_LEN)
                })
                .collect();
            assert_eq!(root(&parts), *blake3::hash(&data).as_bytes(), "{size} bytes");
        }
    }

    #[test]
    fn combining_one_by_one_is_combining_all() {
        for count in 0..70u64 {
            let values: Vec<Value> = (0..count).map(|i| *blake3::hash(&i.to_be_bytes()).as_bytes()).collect();
            let mut combiner = Combiner::default();
            values.iter().for_each(|value| combiner.push(*value));
            assert_eq!(combiner.root(), root(&values), "{count} values");
        }
    }
}
