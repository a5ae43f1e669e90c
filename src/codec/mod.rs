//! Encoding and decoding, without PostgreSQL: runs, in PostgreSQL's array format and with a checksum;
//! the arrays that callers give; and records of the queue.

pub mod argument;
pub mod array;
pub mod checksum;
pub mod record;
pub mod run;
