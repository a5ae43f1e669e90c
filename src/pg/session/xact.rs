//! What a transaction's state allows.
#![expect(unsafe_code, reason = "asks PostgreSQL about the transaction")]

use super::raised::{Caught, catch};
use crate::drain::failure::Failure;
use crate::pg::error::{Error, Obstacle};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::resume_unwind;

thread_local! {
    static DATABASE_NAME: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Refuses a write on a standby, in a read-only transaction and in parallel mode.
pub fn check_writable() -> Result<(), Error> {
    // SAFETY: these read the transaction's state.
    let (read_only, parallel) = unsafe { (pg_sys::XactReadOnly, pg_sys::IsInParallelMode()) };
    Err(Error::CannotExecute(if in_recovery() {
        Obstacle::Recovery
    } else if read_only {
        Obstacle::ReadOnly
    } else if parallel {
        Obstacle::Parallel
    } else {
        return Ok(());
    }))
}

/// Whether the transaction keeps one snapshot for all its statements: REPEATABLE READ and above.
pub fn uses_one_snapshot() -> bool {
    // SAFETY: a plain variable of this backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Accepts what others have changed in the catalogs, as taking a lock does.
pub fn accept_invalidations() {
    // SAFETY: called in a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// Flushes the WAL of this transaction if that is more than `bytes` since `flushed`, which is advanced. So
/// its commit has less left to flush, and commits of others that come meanwhile wait for less.
pub fn flush_log_in_steps(bytes: u64, flushed: &mut u64) {
    // SAFETY: a plain variable of this process: the end of its last record.
    unsafe {
        let end = pg_sys::XactLastRecEnd;
        if *flushed == 0 {
            *flushed = end;
        } else if end > *flushed + bytes {
            pg_sys::XLogFlush(end);
            *flushed = end;
        }
    }
}

/// Runs `f`, which only reads, and releases the locks that it has taken: the caller will wait for others,
/// which must not have to wait for it.
pub fn without_keeping_locks<T>(f: impl FnOnce() -> T) -> T {
    in_subtransaction(f)
}

/// Runs `f` like [`without_keeping_locks`], and returns what it raises. A cancelled statement ends all the
/// same.
pub fn attempt_without_keeping_locks<T>(f: impl FnOnce() -> T) -> Result<T, Failure> {
    in_subtransaction(|| catch(f)).map_err(|caught| match caught {
        Caught::Raised(raised) if raised.code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => {
            raised.raise_again()
        }
        Caught::Panic(payload) => resume_unwind(payload),
        caught => caught.failure(),
    })
}

/// Runs `f` in a subtransaction that is rolled back.
fn in_subtransaction<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: a subtransaction is begun and rolled back in pairs, and what it changes is put back; an
    // error within aborts the transaction that it is part of.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = f();
        pg_sys::RollbackAndReleaseCurrentSubTransaction();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        result
    }
}

/// Whether a session's transaction ends with this event: it has committed, aborted or been prepared.
pub fn ends_transaction(event: pg_sys::XactEvent::Type) -> bool {
    matches!(
        event,
        pg_sys::XactEvent::XACT_EVENT_COMMIT
            | pg_sys::XactEvent::XACT_EVENT_ABORT
            | pg_sys::XactEvent::XACT_EVENT_PREPARE
    )
}

/// Whether this is part of a parallel query.
pub fn is_in_parallel_mode() -> bool {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::IsInParallelMode() }
}

/// Whether the transaction is SERIALIZABLE.
pub fn is_serializable() -> bool {
    // SAFETY: a plain variable of this backend.
    unsafe { pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32 }
}

/// Lets a pending cancel or termination happen.
pub fn check_for_interrupts() {
    pgrx::check_for_interrupts!();
}

/// The time now, in microseconds since 2000-01-01.
pub fn now_us() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// When the transaction began, in microseconds since 2000-01-01.
pub fn transaction_start_us() -> i64 {
    // SAFETY: a plain variable of this process.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Begins a new command, so that what was written is visible to what follows.
pub fn advance_command() {
    // SAFETY: writes are refused in parallel mode, where this must not be called.
    unsafe { pg_sys::CommandCounterIncrement() }
}

/// The snapshot of the statement that called the function.
pub fn statement_snapshot() -> pg_sys::Snapshot {
    // SAFETY: a function is always called with an active snapshot.
    unsafe { pg_sys::GetActiveSnapshot() }
}

/// Runs `f` with a snapshot taken now; under REPEATABLE READ too, where the transaction's own is
/// older.
pub fn with_snapshot_of_now<T>(f: impl FnOnce(pg_sys::Snapshot) -> T) -> T {
    // SAFETY: pushed and popped in pairs; after an error the abort pops it.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = f(pg_sys::GetActiveSnapshot());
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Makes the commit of this transaction wait for what is in the WAL until now to be flushed, and confirmed by
/// synchronous standbys, as the commit of a writer does. For who returns what another transaction has
/// written: that one is visible as soon as it has stopped waiting, whether a standby has confirmed it or not.
///
/// Writes an empty logical message: without a record of its own a transaction does not wait.
pub fn wait_at_commit() {
    unsafe extern "C-unwind" {
        // From replication/message.h.
        fn LogLogicalMessage(
            prefix: *const c_char,
            message: *const c_char,
            size: usize,
            transactional: bool,
        ) -> pg_sys::XLogRecPtr;
    }
    // SAFETY: in a transaction that may write; both texts are copied.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            LogLogicalMessage(c"allsource".as_ptr(), c"".as_ptr(), 0, true)
        });
    }
}

/// The process whose transaction this is, where there is one and it can be told.
pub fn process_of(transaction: pg_sys::TransactionId) -> Option<i32> {
    // SAFETY: looks at shared memory. Only a transaction that is running is asked for its parent,
    // and that one is known as long as it runs.
    unsafe {
        if !pg_sys::TransactionIdIsInProgress(transaction) {
            return None;
        }
        let pid = pg_sys::BackendXidGetPid(pg_sys::SubTransGetTopmostTransaction(transaction));
        (pid != 0).then_some(pid)
    }
}

/// Whether the server is a standby, or still recovering.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The number of this backend's database.
pub fn database_oid() -> u32 {
    // SAFETY: a constant of this process.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// The name of this backend's database when it was first asked for.
pub fn database_name() -> CString {
    DATABASE_NAME.with_borrow_mut(|name| {
        name.get_or_insert_with(|| {
            // SAFETY: a catalog look-up; null where the database was dropped meanwhile.
            unsafe {
                let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
                if name.is_null() { CString::default() } else { CStr::from_ptr(name).to_owned() }
            }
        })
        .clone()
    })
}

/// Whether what this call does can be undone by a ROLLBACK that is still to come: it is in a transaction block,
/// one that several statements of one message make, or a subtransaction.
pub fn in_transaction_block() -> bool {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::IsTransactionBlock() }
}

/// Sets a setting until the transaction ends, whoever may set it.
pub fn set_for_transaction(name: &CStr, value: &CStr) {
    // SAFETY: texts that end with a zero; an unknown name or value is an error of PostgreSQL's.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}
