//! Frames: the memory that packets live in, handed on by value.
