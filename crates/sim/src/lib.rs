//! A deterministic network simulator for the production protocol code.
