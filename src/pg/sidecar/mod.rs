//! The sidecar, as PostgreSQL's processes use it.
//!
//! Every backend may ask for the tail of a stream: [`tail`], [`count`]. One process has the sidecar open,
//! applies batches to it and answers: [`Index`]. Both build without RocksDB, and then find that nobody
//! serves.

mod board;
mod engine;
mod index;

pub use board::{AREA, Query, batches, count, status, tail};
pub use engine::Applied;
pub use index::{Index, Refusal};
