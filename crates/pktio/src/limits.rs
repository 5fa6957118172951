//! The bounds of this crate, each with its reason.

use std::time::Duration;

/// Bytes of a large receive frame: what UDP_GRO can hand over in one message (65,535), rounded up.
pub const LARGE_FRAME: usize = 64 << 10;

/// Bytes of a medium frame, and the most that is copied out of a large frame rather than handed on in it: a quarter.
pub const MEDIUM_FRAME: usize = LARGE_FRAME / 4;

/// Bytes of a small frame: one datagram at any Internet path's MTU.
pub const SMALL_FRAME: usize = 2 << 10;

/// Bytes of heap that a worker's received data may take when the pools have no frame left, unless configured otherwise. As
/// much as 170 connections whose program reads nothing may hold by their first windows (1.5 MiB); connections whose
/// program reads hold a small part of that.
pub const SPILL_BYTES: usize = 256 << 20;

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

/// Memory that a message in a socket takes at least, whatever its length: the kernel's own record of it is as large.
pub const MESSAGE_COST_MIN: usize = 256;

/// Entries of each AF_XDP ring: with fewer than 4,096 in the fill ring, bursts of 64-byte packets outrun its refilling
/// (4 to 19 % lost on veth). All four rings together take 160 KiB a queue.
pub const XDP_RING_LEN: u32 = 4096;

/// Frames of a queue's memory: a full fill ring, the sender's, and three quarters of a fill ring for the program. 16 MiB
/// of 2 KiB frames, locked into memory.
pub const XDP_FRAMES: usize = 8192;

/// Frames of a queue's memory at most: 4 GiB of them, locked.
pub const XDP_FRAMES_MAX: usize = 1 << 20;

/// Frames of a queue that are kept for sending, so that a program that holds received data cannot stop the sender: more
/// than 1 MiB of full packets.
pub const XDP_TX_FRAMES: usize = 1024;

/// Frames of a queue that a worker without a queue of its own has to build packets in: 1 MiB beside the configured ones, half
/// of what the queue's own worker has, since its worker looks at them once per turn.
pub const XDP_GUEST_FRAMES: usize = 512;

/// Received packets of several frames (above 3,498 bytes) that a queue has room to put together. 4.6 MiB at an MTU of
/// 9,000, touched as far as it is used.
pub const XDP_JUMBO_FRAMES: usize = 512;

/// Packets per receive call on an AF_XDP queue: as many as a NAPI poll brings.
pub const XDP_RECV_BATCH: usize = 64;

/// Packets, each look in vain counting as one, between looks at the kernel's socket and at netlink while the worker does not sleep.
/// A look around is two system calls; a worker that polls faster than packets come looks in vain as often as not, so it is
/// one call for 128 packets at least. What comes that way is rare.
pub const XDP_LOOK_AROUND: usize = 512;

/// When queues that could not be opened again for want of descriptors or memory are tried once more.
pub const XDP_RETRY: Duration = Duration::from_secs(1);

/// Between looks at what the kernel counts on AF_XDP sockets: a system call a queue, for people who look once a second.
pub const XDP_COUNTERS_EVERY: Duration = Duration::from_secs(1);

/// Packets that leave together at least while a worker always finds more to receive: beyond that the system call is a small part of
/// what the kernel does for them.
pub const XDP_BURST: usize = 64;

/// Turns of a busy worker after which what it has built leaves in any case: some ten microseconds each.
pub const XDP_PUT_OFF_TURNS: u32 = 4;

/// Attempts at a queue or at memory that the last socket is still leaving (16 to 24 ms), 5 ms apart: one second.
pub const XDP_BIND_RETRIES: u32 = 200;

/// Packets of a worker that wait for the MAC addresses of their next hops: as many as the kernel keeps for one
/// (`unres_qlen_bytes`, 208 KiB of 1,500 bytes). More are dropped, oldest first.
pub const XDP_WAITING_MAX: usize = 128;

/// How long a packet waits for a MAC address: the kernel gives up after three requests, one second apart.
pub const XDP_WAITING_TIME: Duration = Duration::from_secs(3);

/// Neighbours whose MAC addresses are remembered. The kernel keeps 1,024 by default.
pub const XDP_NEIGHBOURS_MAX: usize = 65_536;

/// Pairs of addresses whose routes are remembered: 4 MiB. When they are full all are forgotten and asked for again, two
/// system calls each: strangers cannot grow this without bound.
pub const XDP_PATHS_MAX: usize = 16_384;

/// Own addresses for which packets are taken; those beyond are served by the kernel's socket.
pub const XDP_ADDRESSES_MAX: u32 = 1024;

/// Queues of an interface that are served, as many as workers there may be.
pub const XDP_QUEUES_MAX: u32 = 128;

/// Frames that an io_uring has to receive into: as many small datagrams as a burst of that many senders brings are
/// received in one call, and no more than 4 MiB of trains pass through the cache in turn. A power of two.
pub const URING_BUFFERS: usize = 64;

/// Frames of these that the kernel has while few messages come at a time. It takes them in turn, so with all of them every message would
/// be written to memory that no near cache has any more: a datagram received and answered took 5 to 8 % more time than by plain
/// sockets, which use the same few again, and -2 to 4 % more with 8 (AMD EPYC, beside builds). A longer burst gets all of them.
pub const URING_HOT_BUFFERS: usize = 8;

/// Looks in a row that bring half as many messages at most, after which the kernel has only these few again: the next burst then has to
/// wait for frames once in as many looks.
pub const URING_CALM_LOOKS: u32 = 64;

/// Looks in a row that each bring a whole batch after which the kernel is asked to note when messages arrive: a thousand messages
/// that came faster than they were handled.
pub const LATE_LOOKS: u32 = 64;

/// Looks that empty the socket, hardly interrupted by others, after which the times are not wanted any more: a second at 16
/// messages every quarter of a millisecond.
pub const TIMELY_LOOKS: u32 = 4_096;

/// How long to wait before the next attempt to send when the device, not the socket, had no room: nothing announces the
/// end of that.
pub const DEVICE_RETRY: Duration = Duration::from_millis(1);
