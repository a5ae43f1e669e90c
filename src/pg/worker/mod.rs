//! The background processes: the launcher, and the workers that drain the queues.

pub mod background;
pub mod batch;
pub mod draining;
pub mod launcher;
pub mod moving;
pub mod process;
pub mod state;
