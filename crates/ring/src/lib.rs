//! The lock-free structures that connect workers.
