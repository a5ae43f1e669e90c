//! The only boundary to PostgreSQL: settings, shared memory, table and index access, rights, and
//! the mapping of errors to SQLSTATEs. Only `api` calls it.
//!
//! A backend is single-threaded, and every function here runs on its main thread. An error that
//! PostgreSQL raises unwinds as a panic to the SQL function's entry, which hands it back; whatever
//! was opened until then is released by PostgreSQL when the transaction aborts.

pub mod append;
pub mod call;
pub mod datum;
pub mod error;
mod event_ids;
pub mod head;
mod leaf_writer;
mod log;
pub mod position;
pub mod query;
pub mod read;
mod relation;
pub mod rights;
pub mod rows;
mod scan;
mod scratch;
pub mod settings;
pub mod verify;
mod xact;

/// Called once when the library is loaded.
pub fn init() {
    settings::init();
    position::init();
    relation::init();
}
