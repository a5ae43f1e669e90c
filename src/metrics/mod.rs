//! What the server counts: events, calls, errors, latencies, rates, and the text that Prometheus
//! reads.
//!
//! ```text
//! kind, histogram, rate ← registry ┐
//!                            names ┴← sample ← text
//! ```
//!
//! Invariants:
//!
//! 1. *Adding is cheap and harmless.* No lock, no allocation, no error, no system call; below 50 ns.
//! 2. *Nothing is lost.* Every add is an atomic addition to a number that only grows.
//! 3. *No order is promised.* All accesses are relaxed: a number stands for itself and no reader
//!    concludes from one number that other memory has been written. Numbers that were read together
//!    can differ by what was added in between.
//!
//! Counting is not transactional: what a transaction did is counted when it did it, also when it
//! rolls back later.

pub mod histogram;
pub mod kind;
pub mod names;
pub mod rate;
pub mod registry;
pub mod sample;
pub mod text;
