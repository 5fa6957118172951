//! Every bound on what the other side can make this one hold or do, with its reason.

use std::time::Duration;

/// Length of a group, the unit in which a wrong byte is found and fetched again.
pub const GROUP_LEN: usize = 16 * 1024;

/// Length of a part, the unit in which files travel and progress is recorded: 64 groups. A killed transfer repeats at most the parts that were
/// under way.
pub const PART_LEN: usize = 1 << 20;

/// Longest path of an entry, Linux' PATH_MAX.
pub const PATH_MAX: usize = 4096;

/// Longest name in it, as every file system has it.
pub const NAME_MAX: usize = 255;

/// Deepest entry: deeper trees cannot be named by a path of [`PATH_MAX`] anyway.
pub const DEPTH_MAX: usize = 2048;

/// Extended attributes of one entry, all names and values together; the kernel's own bound for one value.
pub const XATTRS_LEN_MAX: usize = 64 * 1024;

/// Entries of one tree. Their list is kept on disk, some 100 bytes each.
pub const ENTRIES_MAX: u64 = 1 << 32;

/// Largest file, the largest offset that the kernel takes.
pub const FILE_LEN_MAX: u64 = i64::MAX as u64;

/// Longest message on a stream, a part with its list of extents included.
pub const MESSAGE_LEN_MAX: usize = PART_LEN + 256 * 1024;

/// Data extents in one part: every other block of 4 KiB, and one more.
pub const EXTENTS_MAX: usize = PART_LEN / 4096 + 1;

/// How often one range is fetched again because it was wrong. A fault that comes four times in a row is not a passing one.
pub const REFETCHES_MAX: u32 = 3;

/// Parts that a host has read and not yet handed to the transport, per receiver.
pub const PARTS_AHEAD: usize = 8;

/// Files that a host opens ahead of their turn, per receiver; the short ranges of them it reads, too. Enough for a disk to have something to
/// choose from: reading small files that are not cached gains little beyond 16 at once.
pub const FILES_AHEAD: usize = 16;

/// Longest range that is read ahead; what is longer is read when it is its turn.
pub const FILES_AHEAD_LEN: usize = 64 * 1024;

/// Files of several parts that a receiver may have asked for at once: each has two files open, three if there is an older version, four
/// while that is read, and a process may by default have 1,024.
pub const LARGE_FILES_MAX: usize = 128;

/// Parts of one file of which some groups are there and others are not: those in which groups came wrong, and those of which an older
/// version has some groups.
pub const INCOMPLETE_PARTS_MAX: usize = 1024;

/// Shortest average length of the chunks that versions of a file are compared by, as a power of two: 16 KiB, a group. Shorter ones would
/// find little more, since groups are what is fetched, for a longer list.
pub const CHUNK_AVERAGE_BITS_MIN: u8 = 14;

/// Longest average: 4 MiB, the algorithm's own bound.
pub const CHUNK_AVERAGE_BITS_MAX: u8 = 22;

/// Chunks of a file, about: the average grows with the size. With the longest average there may be twice as many, so files of more than
/// 2 TiB are not compared but sent whole.
pub const CHUNKS_MAX: u64 = 1 << 18;

/// Chunks of one file that are remembered: of a content that is cut into shorter ones than usual only so much is compared.
pub const CHUNKS_KEPT_MAX: usize = 1 << 19;

/// Files that a receiver compares with its older versions at once.
pub const DELTAS_MAX: usize = 4;

/// What these may take of memory together, about; a file that takes more is compared alone.
pub const DELTA_MEMORY_MAX: u64 = 32 << 20;

/// Lists of chunks that a receiver may have asked for and that wait until the host is done with the one before; more of them hold up
/// whatever that receiver asks for.
pub const LISTS_AHEAD: usize = 8;

/// Parts of one file that wait for some of their groups while its other parts are taken from the older version: half of
/// [`INCOMPLETE_PARTS_MAX`], which leaves the other half to groups that came wrong.
pub const DELTA_INCOMPLETE_MAX: usize = INCOMPLETE_PARTS_MAX / 2;

/// Batches of messages, of up to a part and a little more, that a receiver has taken from the transport and not yet written. A kill loses
/// what they hold.
pub const MESSAGES_AHEAD: usize = 4;

/// What a host keeps of hashes on disk, for all its shares: enough for half a TiB of content.
pub const OUTBOARDS_LEN_MAX: u64 = 1 << 30;

/// Paths and attributes of files that a receiver has asked for and not yet placed, all together: with [`FILE_OVERHEAD`] for each, room for
/// thousands of usual names, and no more memory for names and attributes of the greatest length.
pub const OUTSTANDING_LEN_MAX: u64 = 4 << 20;

/// What a file that was asked for costs beyond its path and attributes, about.
pub const FILE_OVERHEAD: u64 = 256;

/// Receivers served at once.
pub const SESSIONS_MAX: usize = 256;

/// How long a newcomer may take to prove that it knows the secret; until then it holds one of the sessions.
pub const GREETING_TIME_MAX: Duration = Duration::from_secs(10);

/// Failed proofs after which a host refuses newcomers for a while; with 128 bits of secret, guessing is hopeless long before.
pub const FAILED_PROOFS_MAX: u32 = 64;

/// That while.
pub const FAILED_PROOFS_PAUSE: Duration = Duration::from_secs(10);
