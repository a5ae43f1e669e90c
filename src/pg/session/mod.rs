//! The session: its transaction, its settings, its memory.

pub mod scratch;
pub mod xact;
