//! What a worker decides about records of the queue, without I/O: which events are written, which have
//! to wait, what a failure means, and when the next batch begins.

pub mod backoff;
pub mod failure;
pub mod pacing;
pub mod settle;
pub mod thermostat;
pub mod verdict;
pub mod waiting;
