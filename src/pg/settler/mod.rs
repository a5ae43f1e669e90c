//! Settling: the events of hot partitions get their positions and go into the log, by one process for the
//! database that the workers serve.
//!
//! A *pass* settles the batches of a partition up to a certain one. It goes through the streams in the
//! order in which they are locked, some of them in each transaction. A stream's head says up to which
//! batch the stream is settled, so a pass may end anywhere, and the next one does nothing twice. When all
//! streams are settled the batches are deleted. A stream that cannot be written, because another
//! transaction has locked it or code of users fails, is passed over; its events stay in the table, and
//! the next pass begins with them.
//!
//! | file | noun |
//! | --- | --- |
//! | `process` | the process and its loop |
//! | `second` | the second settler, a process that makes passes beside it |
//! | `pass` | a pass over a partition |
//! | `source` | the streams of a pass, in their order |
//! | `piece` | settling some streams in one transaction |
//! | `rows` | what is written to `hot_partitions` and `hot_batches` |
//! | `sidecar`, `catch_up` | the sidecar; applying batches to it |
//! | `command` | what sessions ask for |

mod catch_up;
pub mod command;
mod pass;
mod piece;
mod process;
mod rows;
mod second;
mod sidecar;
mod source;

use crate::drain::failure::Failure;
use crate::pg::error::Error;
use crate::pg::worker::background::in_transaction;
use crate::pg::worker::batch::lock_store;

/// The settler's name in messages.
const ITSELF: &str = "allsource settler";

/// Runs `f` in a transaction of its own, which an error aborts.
fn transact<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    in_transaction(|| f().unwrap_or_else(|error| error.raise(ITSELF)))
}

/// Locks the store, if it is still the one of this incarnation.
fn lock_this_store(incarnation: u32) -> Result<(), Error> {
    if lock_store()? == Some(incarnation) {
        return Ok(());
    }
    Err(Error::Missing { object: "position_seq".into() })
}
