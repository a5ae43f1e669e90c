//! The store as it is stored: opening relations, scanning and writing leaves, and the rows of each
//! table.

pub mod dead_letters;
pub mod heads;
pub mod leaf_writer;
pub mod log;
pub mod query;
pub mod relation;
pub mod rights;
pub mod scan;
pub mod waiting_events;
