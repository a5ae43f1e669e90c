//! A worker: drains its queue into the store.
//!
//! ```text
//!            nothing to drain                  pause              resume
//!   ┌─────┐ ─────────────────► sleeping      ───────► at rest ─────────┐
//!   │loop │ ◄───────────────── woken                                   │
//!   │     │   records          written        settled: released,       │
//!   │     │ ─────────────────► in one       ─ waiters told ────────────┤
//!   │     │                    transaction                             │
//!   │     │                      │ failed: halve, set aside, or back off
//!   └─────┘ ◄────────────────────┴─────────────────────────────────────┘
//!   SIGTERM: settles what is in the queue, and ends
//!   somebody wants the database: ends at once; the launcher starts it anew when they are done
//! ```
//!
//! Records stay in the ring until the transaction that writes them has committed, and are released
//! right after it, with no check for interrupts in between: a worker that ends is followed by one
//! that goes on exactly there. Only the end of the whole server loses them, and the ring with them.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use crate::codec::record::Record;
use crate::drain::backoff::Backoff;
use crate::drain::failure::{Failure, Remedy};
use crate::drain::settle::{Style, Writer, settle};
use crate::pg::positions::recorded;
use crate::pg::queue::{Phase, Queue, Queues};
use crate::pg::settings;
use crate::pg::shared::counting;
use crate::pg::tables::dead_letters::{self, Place};
use crate::pg::worker::background::{
    Termination, database_is_wanted, in_transaction, is_shutdown_requested, see_to_signals,
    set_setting, set_up_signals, sleep,
};
use crate::pg::worker::batch::write_batch;
use crate::queue::Consumer;
use pgrx::pg_sys;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a worker sleeps at most: then it looks whether its database is wanted.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How often a worker looks how far its batch has grown.
const GROWTH_LOOK: Duration = Duration::from_millis(10);

/// Failures of unknown cause in a row before records are blamed for them.
const PATIENCE: u32 = 5;

/// Settings of a worker's session that its promises depend on. Nobody's triggers or rules run, and
/// nobody's time limits apply; a stream that somebody keeps locked is tried again later. In a deadlock
/// the worker is the first to notice and gives way: it can begin its batch again, others cannot.
const SETTINGS: [(&std::ffi::CStr, &std::ffi::CStr); 9] = [
    (c"session_replication_role", c"replica"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"5s"),
    (c"deadlock_timeout", c"100ms"),
    (c"idle_in_transaction_session_timeout", c"0"),
];

/// A worker's function; its argument is the number of its queue.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn allsource_worker_main(argument: pg_sys::Datum) {
    set_up_signals(Termination::AfterWork);
    let Ok(queues) = Queues::open() else { return };
    let name = settings::database();
    // SAFETY: connects as the bootstrap superuser, which each transaction steps down from.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(name.as_ptr(), std::ptr::null(), 0);
    }
    keep_memory();
    for (name, value) in SETTINGS {
        set_setting(name, value);
    }
    let queue = queues.queue(argument.value());
    let Some(consumer) = queue.claim() else { return };
    // SAFETY: the callback runs while shared memory is still there.
    unsafe { pg_sys::before_shmem_exit(Some(leave), argument) };
    // From here on `es_worker_pause` waits for this process.
    queue.set_phase(Phase::Idle);
    let mut worker = Worker {
        queues,
        queue,
        consumer,
        ends: Vec::new(),
        backoff: Backoff::default(),
        last_message: String::new(),
        last_batch: Instant::now(),
        next_housekeeping: Instant::now(),
        house_backoff: Backoff::default(),
        recorded_safe: None,
        unknown_failures: 0,
    };
    while !is_shutdown_requested() {
        worker.step();
    }
    worker.drain_what_is_there();
    // SAFETY: ends the process; with 1 it is not reported as a crash.
    unsafe { pg_sys::proc_exit(1) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave(_code: std::ffi::c_int, argument: pg_sys::Datum) {
    if let Ok(queues) = Queues::open() {
        queues.queue(argument.value()).leave();
        queues.wake_launcher();
    }
}

struct Worker {
    queues: Queues,
    queue: Queue,
    consumer: Consumer,
    /// Where each record of the batch ends.
    ends: Vec<u64>,
    backoff: Backoff,
    last_message: String,
    last_batch: Instant,
    next_housekeeping: Instant,
    house_backoff: Backoff,
    recorded_safe: Option<u64>,
    /// Failures of unknown cause in a row.
    unknown_failures: u32,
}

impl Worker {
    /// One round of the loop.
    fn step(&mut self) {
        see_to_signals();
        self.end_if_database_is_wanted();
        if self.queues.paused() {
            self.queue.set_phase(Phase::Paused);
            sleep(SLEEP_MAX);
            return;
        }
        if Instant::now() >= self.next_housekeeping {
            self.keep_house();
        }
        self.gather();
        if self.ends.is_empty() {
            self.sleep_until_woken();
        } else if !self.waits_to_grow() {
            self.drain();
        }
    }

    /// Settles what the queue holds now, before the process ends: a server that is stopped in the
    /// ordinary way loses nothing. It waits for nobody: what fails stays.
    fn drain_what_is_there(&mut self) {
        let end = self.queue.ring.tail();
        while !self.queues.paused() && self.consumer.head() < end {
            self.gather();
            if self.ends.is_empty() {
                break;
            }
            self.drain();
            if self.backoff.failures() > 0 {
                break;
            }
        }
    }

    /// Gives way to somebody who wants the database for themselves.
    fn end_if_database_is_wanted(&self) {
        // SAFETY: a constant of this process; exiting with 1 is not reported as a crash.
        unsafe {
            if database_is_wanted(pg_sys::MyDatabaseId) {
                pg_sys::proc_exit(1);
            }
        }
    }

    /// Finds the records of the next batch.
    fn gather(&mut self) {
        self.ends.clear();
        let (events_max, bytes_max) = (settings::batch_max_events(), settings::batch_max_bytes());
        let head = self.consumer.head();
        let mut position = head;
        while self.ends.len() < events_max {
            let Some((_, next)) = self.consumer.peek_from(position) else { break };
            if next - head > bytes_max && !self.ends.is_empty() {
                break;
            }
            self.ends.push(next);
            position = next;
        }
    }

    /// Sleeps for a moment while the batch is small, the last one is not long past, and nobody waits.
    fn waits_to_grow(&self) -> bool {
        let enough = settings::batch_max_bytes().min(self.queue.ring.capacity_bytes()) / 2;
        let full = self.ends.len() == settings::batch_max_events()
            || self.ends.last().is_some_and(|end| end - self.consumer.head() >= enough);
        let left = settings::flush_interval().saturating_sub(self.last_batch.elapsed());
        if full || left.as_millis() == 0 || self.queue.is_hurried() {
            return false;
        }
        sleep(left.min(GROWTH_LOOK));
        true
    }

    fn sleep_until_woken(&mut self) {
        self.queue.set_phase(Phase::Idle);
        // SAFETY: reports to the statistics system, outside of a transaction.
        unsafe {
            pg_sys::pgstat_report_stat(true);
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        }
        let flag = self.queue.wake_flag();
        flag.announce_sleep();
        if !self.consumer.has_record(self.consumer.head()) {
            sleep(SLEEP_MAX);
        }
        flag.woken_up();
    }

    /// Settles the batch.
    fn drain(&mut self) {
        self.queue.begin_batch();
        set_synchronous_commit();
        let patient = self.unknown_failures < PATIENCE;
        let records = 0..self.ends.len();
        let result = settle(&mut Batch { worker: self }, records, patient);
        self.last_batch = Instant::now();
        match result {
            Ok(()) => {
                self.backoff.succeeded();
                self.unknown_failures = 0;
                self.last_message.clear();
            }
            Err(failure) => self.back_off(&failure),
        }
    }

    fn back_off(&mut self, failure: &Failure) {
        self.queue.set_phase(Phase::BackingOff);
        match failure.remedy() {
            Remedy::SetAsideIfItStays => self.unknown_failures += 1,
            _ => self.unknown_failures = 0,
        }
        let message = format!("{} ({})", failure.message, failure.sqlstate());
        if message != self.last_message {
            pgrx::log!(
                "allsource worker {} will try again, more and more rarely: {message}",
                self.queue.index
            );
            self.queue.set_last_error(&message);
            self.last_message = message;
        }
        let until = Instant::now() + self.backoff.failed();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.queues.paused() || is_shutdown_requested() {
                break;
            }
            self.end_if_database_is_wanted();
            sleep(left.min(SLEEP_MAX));
        }
    }

    /// What is done about once a second, and more rarely as long as it fails; draining goes on.
    fn keep_house(&mut self) {
        let mut wait = SLEEP_MAX;
        if self.queue.index == 0 {
            match in_transaction(|| recorded::record(&mut self.recorded_safe)) {
                Ok(()) => self.house_backoff.succeeded(),
                Err(failure) => {
                    wait = wait.max(self.house_backoff.failed());
                    if self.house_backoff.failures() == 1 {
                        pgrx::log!(
                            "allsource worker 0 cannot record the safe position and will try again: {} ({})",
                            failure.message,
                            failure.sqlstate()
                        );
                    }
                }
            }
        }
        self.next_housekeeping = Instant::now() + wait;
    }
}

/// Keeps what one batch has allocated for the next one. By default, what is large goes back to the
/// operating system each time, and comes again page by page.
fn keep_memory() {
    // SAFETY: sets two numbers of the allocator; where it refuses them, nothing changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * 1024 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024 * 1024);
    }
}

/// A promise of durability holds with `synchronous_commit = off` too.
fn set_synchronous_commit() {
    // SAFETY: a plain variable of this process, which the settings file may have changed.
    let off = unsafe {
        pg_sys::synchronous_commit == pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32
    };
    if off {
        set_setting(c"synchronous_commit", c"local");
    }
}

/// The batch in hand.
struct Batch<'w> {
    worker: &'w mut Worker,
}

impl Batch<'_> {
    fn start(&self, record: usize) -> u64 {
        match record.checked_sub(1) {
            Some(previous) => self.worker.ends[previous],
            None => self.worker.consumer.head(),
        }
    }

    fn records(&self, records: Range<usize>) -> Result<Vec<Record<'_>>, Failure> {
        records
            .map(|record| {
                let found = self.worker.consumer.peek_from(self.start(record));
                let (bytes, _) = found.ok_or(crate::codec::record::DamagedRecord)?;
                Record::decode(bytes)
            })
            .collect::<Result<_, _>>()
            .map_err(|damaged| Failure { sqlstate: *b"XX000", message: damaged.to_string() })
    }

    /// Records up to before `end` are settled. No check for interrupts since the commit.
    fn release(&mut self, end: usize) {
        let worker = &mut *self.worker;
        worker.consumer.release(worker.ends[end - 1]);
        let oldest = worker.consumer.peek_from(worker.consumer.head());
        let oldest = oldest.and_then(|(bytes, _)| Record::decode(bytes).ok());
        worker.queue.settled(oldest.map(|record| record.enqueued_at_us));
    }
}

impl Writer for Batch<'_> {
    fn write(&mut self, records: Range<usize>, style: Style) -> Result<(), Failure> {
        let started = Instant::now();
        let end = records.end;
        let batch = self.records(records)?;
        let written = in_transaction(|| write_batch(&batch, style))?;
        let len = batch.len() as u64;
        drop(batch);
        let queue = self.worker.queue;
        queue.count_discarded(len - written);
        queue.count_batch(written);
        self.release(end);
        counting::drained(written, started.elapsed());
        // SAFETY: reports to the statistics system, outside of a transaction.
        unsafe { pg_sys::pgstat_report_stat(false) };
        Ok(())
    }

    fn set_aside(&mut self, record: usize, reason: &Failure) -> Result<(), Failure> {
        let worker = &*self.worker;
        let (epoch, position) = (worker.queues.epoch(), worker.ends[record]);
        let place = Place { epoch, worker: worker.queue.index, position };
        let batch = self.records(record..record + 1)?;
        let queue = self.worker.queue;
        in_transaction(|| {
            if let Err(error) = dead_letters::insert_all(&[(batch[0], place, reason.clone())]) {
                error.raise("allsource worker");
            }
        })?;
        drop(batch);
        queue.count_dead();
        counting::rejected(1);
        self.release(record + 1);
        Ok(())
    }
}
