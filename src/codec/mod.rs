//! Bytes: of a run, in PostgreSQL's array format built and taken apart without PostgreSQL, with a
//! checksum over what it holds; of the arrays that callers give; and of a record of the queue.

pub mod argument;
pub mod array;
pub mod checksum;
pub mod record;
pub mod run;
