//! Hot partitions: batches of events that are not settled in the log yet, and how a stream's tail in them
//! is found.
//!
//! | file | noun |
//! | --- | --- |
//! | `map` | which partitions are or were hot, as `hot_partitions` says, remembered |
//! | `filter` | shared memory: which streams may have a tail, and which are being appended to |
//! | `control` | shared memory of the settler |
//! | `pass_request` | a pass that the settler asks the second settler for |
//! | `batches` | the rows of `hot_batches` |
//! | `loaded` | batches in memory, their events grouped by stream |
//! | `tail` | the events of one stream in them |
//!
//! A tail's events have versions by their order, which must not change once anybody has seen them. So
//! no event may be put into a batch while another transaction appends to its stream: an append first
//! notes its stream (`filter::note_appending`) and then looks for a tail; a worker first marks the stream
//! as having a tail and then looks for appends. One of them sees the other. The append then waits for the
//! worker's transaction, and settles the tail; the worker writes the event in the ordinary way.

pub mod batches;
pub mod control;
pub mod filter;
pub mod loaded;
pub mod map;
pub mod pass_request;
pub mod tail;
