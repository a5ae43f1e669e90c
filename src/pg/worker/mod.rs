//! The background processes: the launcher, and the workers that drain the queues.

pub mod background;
pub mod batch;
pub mod launcher;
pub mod process;
