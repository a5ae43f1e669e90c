//! Encoding and decoding, without PostgreSQL: runs, in PostgreSQL's array format and with a checksum;
//! the arrays that callers give; records of the queue; batches of hot partitions, and tails of them.

pub mod argument;
pub mod array;
pub mod checksum;
pub mod hot_batch;
pub mod hot_tail;
pub mod record;
pub mod run;
mod varint;
