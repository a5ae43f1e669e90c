//! What the launcher and the workers have in common: how a background process is registered, how it
//! sleeps, and how it survives errors.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use crate::drain::failure::Failure;
use crate::pg::session::raised::{Caught, catch};
use crate::pg::session::xact::{check_for_interrupts, set_for_transaction};
use crate::pg::shared::latch;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

unsafe extern "C-unwind" {
    // Signal handlers must be PostgreSQL's own functions, not guarded calls of them.
    fn die(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
    fn SignalHandlerForShutdownRequest(signal: c_int);
    fn StatementCancelHandler(signal: c_int);
    // From utils/timeout.h.
    fn RegisterTimeout(id: c_int, handler: unsafe extern "C-unwind" fn()) -> c_int;
    fn enable_timeout_every(id: c_int, first: pg_sys::TimestampTz, delay_ms: c_int);
    fn get_timeout_indicator(id: c_int, reset: bool) -> bool;
}

/// `LOCK_TIMEOUT` of PostgreSQL 15.
const LOCK_TIMEOUT: c_int = 2;

/// `USER_TIMEOUT` of PostgreSQL 15: the first number that is assigned to extensions.
const USER_TIMEOUT: c_int = 12;

/// How long work that SIGTERM finds may go on.
const GRACE_MS: c_int = 10_000;

/// What SIGTERM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// Ends the process at the next check for interrupts.
    AtOnce,
    /// Sets `is_shutdown_requested`, and ends the process if it has not ended by itself within one or
    /// two times [`GRACE_MS`]: a synchronous standby that it waits for may never answer.
    AfterWork,
}

/// What a background process is.
pub struct Definition<'a> {
    /// shown in `pg_stat_activity`
    pub name: &'a str,
    /// its function in this library
    pub function: &'a str,
    /// the function's argument
    pub argument: usize,
    /// after how many seconds PostgreSQL starts it again; `None`: it does not
    pub restart_s: Option<c_int>,
    /// a process that is notified when it starts and ends
    pub notify_pid: c_int,
}

impl Definition<'_> {
    /// The structure that PostgreSQL takes.
    pub fn to_pg(&self) -> pg_sys::BackgroundWorker {
        fn copy(target: &mut [c_char], text: &str) {
            let len = text.len().min(target.len() - 1);
            for (target, byte) in target.iter_mut().zip(&text.as_bytes()[..len]) {
                *target = *byte as c_char;
            }
        }
        let mut worker = pg_sys::BackgroundWorker::default();
        copy(&mut worker.bgw_name, self.name);
        copy(&mut worker.bgw_type, self.name);
        copy(&mut worker.bgw_library_name, "allsource");
        copy(&mut worker.bgw_function_name, self.function);
        worker.bgw_flags =
            (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int;
        // Not on a standby, but as soon as it is promoted.
        worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        worker.bgw_restart_time = self.restart_s.unwrap_or(pg_sys::BGW_NEVER_RESTART);
        worker.bgw_main_arg = pg_sys::Datum::from(self.argument);
        worker.bgw_notify_pid = self.notify_pid;
        worker
    }
}

/// Called first in a background process. SIGHUP makes it read the settings again.
pub fn set_up_signals(termination: Termination) {
    // SAFETY: handlers are installed before signals are let through.
    unsafe {
        let on_term: pg_sys::pqsigfunc = match termination {
            Termination::AtOnce => Some(die),
            Termination::AfterWork => {
                let timeout = RegisterTimeout(USER_TIMEOUT, end_after_grace);
                let first = pg_sys::GetCurrentTimestamp() + i64::from(GRACE_MS) * 1_000;
                enable_timeout_every(timeout, first, GRACE_MS);
                Some(SignalHandlerForShutdownRequest)
            }
        };
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, on_term);
        pg_sys::pqsignal(pg_sys::SIGINT as c_int, Some(on_interrupt));
        pg_sys::pqsignal(pg_sys::SIGHUP as c_int, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// A handler of SIGINT, which a process sends to itself when `lock_timeout` is over. From others it would
/// cancel the wait for a synchronous standby, and there is no statement of anybody's to cancel.
unsafe extern "C-unwind" fn on_interrupt(signal: c_int) {
    // SAFETY: PostgreSQL's own functions: one reads a flag, the other sets flags.
    unsafe {
        if get_timeout_indicator(LOCK_TIMEOUT, false) {
            StatementCancelHandler(signal);
        }
    }
}

/// A timer's handler, called every [`GRACE_MS`] from a signal handler.
unsafe extern "C-unwind" fn end_after_grace() {
    static REQUESTED_BEFORE: AtomicBool = AtomicBool::new(false);
    if is_shutdown_requested() && REQUESTED_BEFORE.swap(true, Ordering::Relaxed) {
        // SAFETY: PostgreSQL's own handler of SIGTERM, which only sets flags.
        unsafe { die(pg_sys::SIGTERM as c_int) }
    }
}

/// Whether SIGTERM has come.
pub fn is_shutdown_requested() -> bool {
    // SAFETY: a flag of this process that its signal handler sets.
    unsafe { (&raw const pg_sys::ShutdownRequestPending).read_volatile() != 0 }
}

/// Sleeps until the latch is set or the time is up, and handles signals.
pub fn sleep(longest: Duration) {
    latch::wait(longest);
    see_to_signals();
}

/// Ends the process if it was asked to, and reads the settings again if they have changed.
pub fn see_to_signals() {
    check_for_interrupts();
    // SAFETY: a flag of this process that its signal handler sets.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Overrides a setting for this process.
pub fn set_setting(name: &CStr, value: &CStr) {
    // SAFETY: the settings that are given exist.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Runs `f` in a transaction of its own, with a snapshot, and commits it. An error, or a panic,
/// aborts the transaction and is returned.
pub fn in_transaction<T>(f: impl FnOnce() -> T) -> Result<T, Failure> {
    in_watched_transaction(f).map(|(result, _)| result)
}

/// How a commit went.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// how long it took, which is mostly its flush
    pub duration: Duration,
    /// whether the wait for a synchronous standby was ended by SIGTERM, so that the transaction may not
    /// be there. Cancelling does not end it, because background processes ignore that.
    pub is_unconfirmed: bool,
}

/// The same, and returns how the commit went.
pub fn in_watched_transaction<T>(f: impl FnOnce() -> T) -> Result<(T, Commit), Failure> {
    let result = catch(|| {
        // SAFETY: the process has no transaction open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            let result = with_settings_restored(|| {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
                let result = f();
                pg_sys::PopActiveSnapshot();
                result
            });
            commit_durably();
            let waits_for_standby = waits_for_standby() && pg_sys::ProcDiePending == 0;
            let started = Instant::now();
            pg_sys::CommitTransactionCommand();
            let is_unconfirmed = waits_for_standby && pg_sys::ProcDiePending != 0;
            (result, Commit { duration: started.elapsed(), is_unconfirmed })
        }
    });
    let result = result.map_err(Caught::failure);
    if result.is_err() {
        // SAFETY: the error was caught and copied; the abort releases what the transaction held.
        unsafe {
            pg_sys::AbortOutOfAnyTransaction();
            pg_sys::FlushErrorState();
        }
    }
    result
}

/// Whether commits wait for a synchronous standby (`SyncRepRequested` and `SyncStandbysDefined`).
fn waits_for_standby() -> bool {
    // SAFETY: plain variables of this process; the list of standbys is null or a string.
    unsafe {
        let local = pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32;
        let standbys = pg_sys::SyncRepStandbyNames;
        pg_sys::max_wal_senders > 0
            && pg_sys::synchronous_commit > local
            && !standbys.is_null()
            && *standbys != 0
    }
}

/// Runs `f`, and restores the settings that code of users has changed within it, such as functions of
/// indexes. After an error the abort restores them.
unsafe fn with_settings_restored<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: called within a transaction; levels are opened and closed in pairs.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        let result = f();
        pg_sys::AtEOXact_GUC(false, level);
        result
    }
}

/// Durability is promised even with `synchronous_commit = off`: for this transaction it is set to
/// `local`.
fn commit_durably() {
    // SAFETY: a plain variable of this process.
    let now = unsafe { pg_sys::synchronous_commit };
    if now == pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
        set_for_transaction(c"synchronous_commit", c"local");
    }
}

/// Whether a command waits for others to disconnect from the database: DROP DATABASE, CREATE DATABASE
/// with it as the template, ALTER DATABASE RENAME. They hold a lock of the database, and wait for up to
/// five seconds.
pub fn database_is_wanted(database: pg_sys::Oid) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a lock of the session, which is not waited for and given back at once.
    unsafe {
        let free = pg_sys::LockAcquire(&tag, mode, true, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
        if free {
            pg_sys::LockRelease(&tag, mode, true);
        }
        !free
    }
}
