//! What the worker does with records of the queue, without I/O: which of them belong together,
//! what a failure means, and how a record that cannot be written is found among those that can.

pub mod backoff;
pub mod failure;
pub mod settle;
