//! The bounds of this crate, each with its reason.

/// Bytes of a large receive frame: what UDP_GRO can hand over in one message (65,535), rounded up.
pub const LARGE_FRAME: usize = 64 << 10;

/// Bytes of a medium frame, and the most that is copied out of a large frame rather than handed on in it: a quarter.
pub const MEDIUM_FRAME: usize = LARGE_FRAME / 4;

/// Bytes of a small frame: one datagram at any Internet path's MTU.
pub const SMALL_FRAME: usize = 2 << 10;

/// Messages per receive call. Each is a train of up to 64 KiB, so a call moves up to 1 MiB.
pub const RECV_BATCH: usize = 16;

/// Bytes of a train. A UDP payload may have 65,507 bytes, but a train that with its Ethernet, IP and UDP headers
/// reaches the device's GSO limit (65,536 by default) is cut into datagrams by the kernel before the device, loopback
/// too, and then costs 20 times as much. 128 bytes are left for IPv6 with VLAN tags and an extension header;
/// 45 × 1,452 = 65,340 fits.
pub const TRAIN_BYTES_MAX: usize = 65_408;

/// Trains that wait for one flush.
pub const TX_TRAINS_MAX: usize = 64;

/// Bytes of the transmit buffer. Four full trains; more would only push each other out of the second-level cache
/// (512 KiB on Zen 3) before the kernel reads them.
pub const TX_ARENA: usize = 256 << 10;

/// Segments per GSO train on every kernel with UDP_SEGMENT (4.18); newer ones take 128, which is probed.
pub const GSO_SEGMENTS_BASE: usize = 64;

/// Segments per GSO train on newer kernels (`UDP_MAX_SEGMENTS`, raised in 6.9).
pub const GSO_SEGMENTS_NEW: usize = 128;

/// Datagrams that wait in a memory port before further ones are dropped, as a socket buffer would.
pub const MEMORY_QUEUE_MAX: usize = 4096;
