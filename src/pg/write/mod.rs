//! Writing: appending in the caller's transaction, and enqueueing for the workers.

pub mod append;
pub mod batch;
pub mod dead_letter;
pub mod enqueue;
pub mod event_ids;
pub mod flush;
pub mod head_writer;
pub mod log_writer;
pub mod retry;
