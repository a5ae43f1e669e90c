//! The session: its transaction, its settings, its memory.

pub mod raised;
pub mod scratch;
pub mod xact;
