//! The sidecar as the process that owns it uses it, in its main thread.
//!
//! Whatever fails, or panics, closes it: nobody is answered any more, and the message is kept. PostgreSQL
//! goes on, and so does the caller, who opens it again later. A build without RocksDB has an index that
//! is never there.

use super::board;
use super::engine::{Applied, Engine, Fault, Owner, Statistics};
use crate::codec::record::Home;
use crate::model::hot::Batches;
use crate::model::memory::OutOfMemory;
use crate::model::partition::Partition;
use pgrx::pg_sys;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The index is not there, or has just failed: [`Index::error`] says why.
    #[error("sidecar is away")]
    Away,
    /// It cannot be done, which is not the index's fault: a batch is damaged, batches are not applied
    /// yet, a path exists. Nothing has changed.
    #[error("{reason}")]
    Impossible {
        /// why
        reason: String,
    },
    /// It cannot be done now, but perhaps later. Nothing has changed.
    #[error("sidecar cannot take more now")]
    Busy,
    /// There is not as much memory. Nothing has changed.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

thread_local! {
    /// Here and not in the index, so that it is closed when the process ends without being unwound: its
    /// threads must have ended before.
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    static CLOSES_AT_EXIT: Cell<bool> = const { Cell::new(false) };
}

/// The sidecar, whether it is there or not. A process has one.
pub struct Index {
    owner: Owner,
    error: Option<String>,
    emptied: Option<String>,
    /// it has failed while it was open, so that its files are not trusted
    has_failed: bool,
}

impl Index {
    /// Whether this build has RocksDB.
    pub const IS_SUPPORTED: bool = Engine::IS_SUPPORTED;

    /// Opens the sidecar of a store, and begins to answer. If that fails, the index is not there, and has
    /// an error.
    pub fn open(system_identifier: u64, timeline: u32, home: Home) -> Self {
        close_at_exit();
        let owner = Owner { system_identifier, timeline, home };
        let mut index = Self { owner, error: None, emptied: None, has_failed: false };
        index.open_engine(false);
        index
    }

    /// Whether it is there. It closes if a thread has failed.
    pub fn is_there(&mut self) -> bool {
        self.attempt(|_| Ok(())).is_ok()
    }

    /// Why it is not there.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Why it was empty when it was opened, if it was: there was nothing, or it was another one's, or
    /// damaged.
    pub fn emptied(&self) -> Option<&str> {
        self.emptied.as_deref()
    }

    /// Opens it again, if it is not there: emptied, if it has failed while it was open. Says whether it
    /// is there.
    pub fn reopen(&mut self) -> bool {
        self.is_there() || self.open_engine(self.has_failed)
    }

    /// Makes it empty, whatever it is. Says whether it is there.
    pub fn rebuild(&mut self) -> bool {
        close_engine();
        self.open_engine(true)
    }

    /// Lets backends ask about what is in it of a partition: it is what the table has.
    pub fn show(&mut self, partition: Partition) {
        if let Some(Applied { forgotten, batch_no, .. }) = self.applied(partition) {
            show(partition, Batches { after: forgotten, up_to: batch_no });
        }
    }

    /// How far a partition is.
    pub fn applied(&mut self, partition: Partition) -> Option<Applied> {
        self.attempt(|engine| Ok(engine.applied(partition))).ok()
    }

    /// Applies a batch, as a row of `hot_batches` has it, and says whether it is new: one up to
    /// [`Self::applied`] is in it already. Backends ask about it after [`Self::show`]. The batches of a partition come in the order of their numbers,
    /// which may be skipped.
    pub fn apply(
        &mut self,
        partition: Partition,
        batch_no: i64,
        checksum: i32,
        body: &[u8],
    ) -> Result<bool, Refusal> {
        self.attempt(|engine| engine.apply(partition, batch_no, checksum, body))
    }

    /// Forgets batches up to this one, which are settled and which no snapshot needs. It is cheap, and to
    /// be called again now and then: what is forgotten is dropped only after a flush and a later call.
    pub fn forget(&mut self, partition: Partition, up_to: i64) -> Result<(), Refusal> {
        self.attempt(|engine| engine.forget(partition, up_to))
    }

    /// Empties a partition. It is to be applied again from its first batch on that is not settled.
    pub fn discard(&mut self, partition: Partition) -> Result<(), Refusal> {
        self.attempt(|engine| engine.discard(partition))?;
        show(partition, NOTHING);
        Ok(())
    }

    /// Begins to write what is in memory to files. When that is done, what was applied before need not be
    /// applied again after the process has ended in any way.
    pub fn begin_flush(&mut self) -> Result<(), Refusal> {
        self.attempt(|engine| engine.begin_flush())
    }

    /// Makes a copy in a path that does not exist.
    pub fn checkpoint(&mut self, path: &Path) -> Result<(), Refusal> {
        self.attempt(|engine| engine.checkpoint(path))
    }

    /// What it takes; shows it to all backends, too.
    pub fn statistics(&mut self) -> Result<Statistics, Refusal> {
        let found = self.attempt(|engine| engine.statistics())?;
        let Statistics { disk_bytes, memory_bytes, entries } = found;
        if let Some(shared) = board::shared() {
            shared.board.figures.show_size(disk_bytes, memory_bytes, entries);
        }
        Ok(found)
    }

    fn open_engine(&mut self, emptied: bool) -> bool {
        let Some(shared) = board::shared() else { return false };
        let owner = self.owner;
        // Nobody is to ask before the owner has compared them with the table.
        Partition::all().for_each(|partition| show(partition, NOTHING));
        let opened = guarded(|| Engine::open(&shared.board, owner, emptied));
        self.has_failed &= opened.is_err();
        match opened {
            Ok((engine, reason)) => {
                if reason.is_some() {
                    shared.board.figures.rebuilt();
                }
                ENGINE.set(Some(engine));
                (self.error, self.emptied) = (None, reason);
                true
            }
            Err(Fault::Failed(reason) | Fault::Refused(reason)) => {
                self.note(reason);
                false
            }
            Err(Fault::Busy) => {
                self.note("it cannot be opened now".to_owned());
                false
            }
            Err(Fault::Memory(refused)) => {
                self.note(refused.to_string());
                false
            }
        }
    }

    /// Does something with the engine, if it is there, and closes it if that fails.
    fn attempt<T>(&mut self, work: impl FnOnce(&Engine) -> Result<T, Fault>) -> Result<T, Refusal> {
        let done = ENGINE.with_borrow(|engine| {
            let engine = engine.as_ref()?;
            Some(match engine.failure() {
                Some(reason) => Err(Fault::Failed(reason)),
                None => guarded(|| work(engine)),
            })
        });
        match done.ok_or(Refusal::Away)? {
            Ok(done) => Ok(done),
            Err(Fault::Refused(reason)) => Err(Refusal::Impossible { reason }),
            Err(Fault::Busy) => Err(Refusal::Busy),
            Err(Fault::Memory(refused)) => Err(refused.into()),
            Err(Fault::Failed(reason)) => {
                close_engine();
                self.has_failed = true;
                self.note(reason);
                Err(Refusal::Away)
            }
        }
    }

    fn note(&mut self, reason: String) {
        if let Some(shared) = board::shared().filter(|_| Self::IS_SUPPORTED) {
            shared.error.set(&reason);
        }
        self.error = Some(reason);
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        close_engine();
    }
}

/// No batches.
const NOTHING: Batches = Batches { after: 0, up_to: 0 };

/// Shows backends which batches they may ask about.
fn show(partition: Partition, batches: Batches) {
    if let Some(shared) = board::shared() {
        shared.board.figures.show(partition, batches);
    }
}

/// A panic in the sidecar is a failure of it. Nothing in there calls PostgreSQL.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Fault::Failed(format!("it panicked: {}", message(&*panic)))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Ends the threads and closes RocksDB, which writes what it has in memory if it can.
fn close_engine() {
    if let Some(engine) = ENGINE.take() {
        // What is left of it after a panic is of no use to anybody.
        let _ = catch_unwind(AssertUnwindSafe(|| engine.close()));
    }
}

/// A process that is terminated ends without being unwound.
fn close_at_exit() {
    if !CLOSES_AT_EXIT.replace(true) {
        // SAFETY: the callback runs while shared memory is still there.
        #[expect(unsafe_code, reason = "has PostgreSQL call back")]
        unsafe {
            pg_sys::before_shmem_exit(Some(close), pg_sys::Datum::from(0));
        }
    }
}

#[expect(unsafe_code, reason = "called by PostgreSQL")]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn close(_code: i32, _argument: pg_sys::Datum) {
    close_engine();
}
