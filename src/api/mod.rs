//! The SQL functions, one file per family. They check arguments, call, and return; what they do is
//! in `pg`. Their SQL declarations, with defaults, rights and comments, are in `sql/`.

pub mod append;
pub mod coordinator;
pub mod hot;
pub mod link;
pub mod member;
pub mod metrics;
pub mod partitions;
pub mod queue;
pub mod read;
pub mod router;
pub mod streams;
pub mod verify;
