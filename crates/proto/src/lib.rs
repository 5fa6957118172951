//! QUIC without I/O: no clock, no socket, no thread.
