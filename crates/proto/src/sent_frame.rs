//! What a sent packet carried, as small tokens: enough to know what an acknowledgement settles and a loss brings back.

use crate::streams;

/// One frame of a sent packet. The part that wrote it gets it back in `on_acked` or `on_lost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentFrame {
    /// An ACK frame that reported numbers up to `largest`.
    Ack { largest: u64 },
    /// CRYPTO data.
    Crypto { offset: u64, len: u16 },
    /// Anything of a stream, or its flow control.
    Stream(streams::Token),
    /// HANDSHAKE_DONE.
    HandshakeDone,
    /// NEW_TOKEN. Not repeated when lost beyond once: the next connection does without.
    NewToken,
    /// NEW_CONNECTION_ID with this sequence number.
    NewConnectionId { sequence: u64 },
    /// RETIRE_CONNECTION_ID with this sequence number.
    RetireConnectionId { sequence: u64 },
    /// ACK_FREQUENCY with this sequence number.
    AckFrequency { sequence: u64 },
    /// OBSERVED_ADDRESS with this sequence number.
    ObservedAddress { sequence: u64 },
    /// A path MTU probe of this many bytes, on this path of those that were in use.
    MtuProbe { size: u16, generation: u16 },
}
