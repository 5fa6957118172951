//! QUIC on the wire: bytes to meaning and back, without I/O, allocation or unsafe.
