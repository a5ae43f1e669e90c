//! The sidecar: an index in RocksDB over the batches of hot partitions, by stream. It is never the
//! truth, which is the table `hot_batches`: deleted, damaged or missing, it is made anew from there.
//!
//! Nothing here knows PostgreSQL. One process opens a sidecar, applies the batches of each partition in
//! their order, and answers what backends ask about the tails of streams. It is read for nothing else:
//! settling reads the table.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `events` | partition, stream, batch number: [`key`] | the stream's events in the batch: a piece as [`crate::codec::hot_tail`] has it, which begins with their number |
//! | `partitions` | partition (a byte) | how far it is: [`mark`] |
//! | `default` | `stamp` | whose it is: [`stamp`] |
//!
//! There is no family with a number of events for each stream: most streams have one or two events in
//! their tail, and writing a second entry for each of them halves how fast batches are applied.
//!
//! | file | noun |
//! | --- | --- |
//! | `database` | the sidecar, and when an answer may be given |
//! | `open`, `stamp` | opening it: kept or emptied; whose it is |
//! | `options` | how RocksDB is set up |
//! | `key`, `mark` | keys; how far a partition is |
//! | `write` | applying, forgetting, discarding |
//! | `tail` | the events of a stream |
//! | `upkeep` | flushing, copying, numbers |
//! | `readers`, `signals` | threads that answer; that no signal reaches them |
//! | `server` | hands what is asked on the board to the readers |
//!
//! Invariants:
//!
//! - An answer is complete for the batches that were asked for, or it is an error.
//! - There is no log: all families are flushed together with the marks, so what is found after a crash is
//!   the state of some time before. The caller goes on after the marks.
//! - A batch is never changed under its number. Where that may have happened, after a crash that lost
//!   batches, the caller notices by the checksum in the mark, and discards the partition.
//! - What has failed once is not used any more: after [`SidecarError::is_failure`] the sidecar is closed
//!   and opened again, emptied if need be.

mod database;
mod error;
mod key;
mod mark;
mod open;
mod options;
mod readers;
mod server;
mod signals;
mod stamp;
mod tail;
mod upkeep;
mod write;

pub use crate::model::hot::{Batches, Place};
pub use database::Sidecar;
pub use error::SidecarError;
pub use key::StreamName;
pub use mark::Mark;
pub use open::Opened;
pub use options::Settings;
pub use readers::{Callback, Readers, Refused, Reply, Request};
pub use server::Server;
pub use stamp::Identity;
pub use tail::TailPage;
pub use upkeep::Statistics;
