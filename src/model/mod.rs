//! What the store is made of, without PostgreSQL: names, versions, partitions, events, runs,
//! batches, places of hot events, and the errors that a caller can meet. Everything here is pure and may be used by
//! every other layer.

pub mod batch;
pub mod error;
pub mod event;
pub mod event_times;
pub mod hot;
pub mod memory;
pub mod name;
pub mod partition;
pub mod run;
pub mod stream_append;
pub mod stream_no;
pub mod version;
