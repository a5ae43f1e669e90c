//! The only boundary to PostgreSQL: settings, shared memory, table and index access, rights, and
//! the mapping of errors to SQLSTATEs. Only `api` calls it.
//!
//! A backend is single-threaded, and every function here runs on its main thread. An error that
//! PostgreSQL raises unwinds as a panic to the SQL function's entry, which hands it back; whatever
//! was opened until then is released by PostgreSQL when the transaction aborts.

pub mod append;
mod background;
mod batch;
pub mod call;
pub mod datum;
pub mod dead_letters;
pub mod enqueue;
pub mod error;
mod event_ids;
pub mod head;
pub mod health;
mod latch;
mod launcher;
mod leaf_writer;
mod log;
pub mod metrics;
pub mod position;
pub mod query;
pub mod queue;
pub mod read;
mod relation;
pub mod rights;
pub mod rows;
mod safe_position;
mod scan;
mod scratch;
pub mod settings;
mod shared_memory;
pub mod verify;
mod waiters;
mod worker;
mod xact;

/// Called once when the library is loaded.
pub fn init() {
    settings::init();
    shared_memory::init();
    launcher::init();
    relation::init();
}
