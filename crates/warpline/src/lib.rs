//! A QUIC stack that runs at line rate.
