//! Reading: a stream, the whole store, and whether what is stored is sound.

pub mod merge;
pub mod row;
pub mod store;
pub mod stream;
pub mod streams;
pub mod verify;
