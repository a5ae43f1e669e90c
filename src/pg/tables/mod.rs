//! The tables of the store: opening relations, scanning and writing leaves, and the rows of each
//! table.

pub mod dead_letters;
pub mod guarded_leaf;
pub mod head_places;
pub mod heads;
pub mod heap;
pub mod layout;
pub mod leaf_writer;
pub mod log;
pub mod names;
pub mod open_relation;
pub mod query;
pub mod relation;
pub mod remembered;
pub mod rights;
pub mod scan;
pub mod schema;
pub mod waiting_events;
pub mod writing;
