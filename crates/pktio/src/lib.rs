//! How datagrams reach memory and leave it: UDP sockets with GSO and GRO, and memory for tests.
