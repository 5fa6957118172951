//! Transport error codes (RFC 9000 section 20.1).

use core::fmt;

/// A transport error code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportErrorCode(pub u64);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl TransportErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The code's name in the registry.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    0x100..=0x1ff => Some("CRYPTO_ERROR"),
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Closed without an error.
    NO_ERROR = 0x00;
    /// The endpoint cannot go on.
    INTERNAL_ERROR = 0x01;
    /// The server refuses the connection.
    CONNECTION_REFUSED = 0x02;
    /// More data than the window allows.
    FLOW_CONTROL_ERROR = 0x03;
    /// More streams than allowed.
    STREAM_LIMIT_ERROR = 0x04;
    /// A frame for a stream in a state that does not permit it.
    STREAM_STATE_ERROR = 0x05;
    /// The final size of a stream changed or was exceeded.
    FINAL_SIZE_ERROR = 0x06;
    /// A frame that cannot be read.
    FRAME_ENCODING_ERROR = 0x07;
    /// Transport parameters that cannot be read or do not fit.
    TRANSPORT_PARAMETER_ERROR = 0x08;
    /// More connection IDs than allowed.
    CONNECTION_ID_LIMIT_ERROR = 0x09;
    /// Any other violation.
    PROTOCOL_VIOLATION = 0x0a;
    /// An Initial with an invalid Retry token.
    INVALID_TOKEN = 0x0b;
    /// The application closed the connection during the handshake.
    APPLICATION_ERROR = 0x0c;
    /// More CRYPTO data than can be buffered.
    CRYPTO_BUFFER_EXCEEDED = 0x0d;
    /// A key update that was not permitted.
    KEY_UPDATE_ERROR = 0x0e;
    /// The cipher's limits are reached.
    AEAD_LIMIT_REACHED = 0x0f;
    /// No path is left.
    NO_VIABLE_PATH = 0x10;
    /// Version negotiation was tampered with (RFC 9368 section 10.2).
    VERSION_NEGOTIATION_ERROR = 0x11;
}

impl TransportErrorCode {
    /// The code for a TLS alert (RFC 9001 section 4.8).
    pub const fn crypto(alert: u8) -> Self {
        Self(0x100 | alert as u64)
    }

    /// The TLS alert that the code stands for, if it is one of the codes for them.
    pub const fn alert(self) -> Option<u8> {
        if self.0 >> 8 == 1 { Some(self.0 as u8) } else { None }
    }
}

impl fmt::Display for TransportErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some("CRYPTO_ERROR") => write!(f, "CRYPTO_ERROR(alert {})", self.0 & 0xff),
            Some(name) => f.write_str(name),
            None => write!(f, "error {:#x}", self.0),
        }
    }
}

impl fmt::Debug for TransportErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
