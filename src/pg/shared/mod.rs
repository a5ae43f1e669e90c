//! What all processes of the server share.

pub mod counting;
pub mod latch;
pub mod memory;
pub mod serving;
pub mod text;
