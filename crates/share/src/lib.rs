//! Verified, resumable transfer of directories over QUIC streams.
