//! A worker's process: its loop, and what it does between batches. `docs/ARCHITECTURE.md` draws its
//! states.
//!
//! Records stay in the ring until the transaction that writes them has committed, and are released
//! right after it, with no check for interrupts in between. A worker that ends is followed by one
//! that continues at that point. Only the end of the whole server loses them, and the ring with them.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use crate::drain::backoff::Backoff;
use crate::drain::failure::Failure;
use crate::pg::hot::control::Control;
use crate::pg::positions::recorded;
use crate::pg::queue::{Phase, Queues};
use crate::pg::settings;
use crate::pg::worker::background::{
    Termination, database_is_wanted, in_transaction, is_shutdown_requested, see_to_signals,
    set_setting, set_up_signals, sleep,
};
use crate::pg::worker::draining::drain;
use crate::pg::worker::moving::move_some;
use crate::pg::worker::state::{Worker, one_line, report_statistics};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How long a worker sleeps at most. Then it checks whether its database is wanted.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How often a worker checks how far its batch has grown.
const GROWTH_LOOK: Duration = Duration::from_millis(10);

/// How often a worker that knows of no waiting events looks for some.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// After each batch at least this many waiting events are moved, if there are so many, and at least
/// twice as many as the batch has added, so that they become fewer.
const MOVED_MIN: u64 = 1_000;

/// And so long at most: then it is the ring's turn.
const MOVE_TIME: Duration = Duration::from_millis(50);

/// How long a worker waits before each batch if there is too much to be settled.
const SETTLER_PATIENCE: Duration = Duration::from_secs(1);

/// Settings of a worker's session that its promises depend on. Rules of users do not run, and time
/// limits do not apply. Where PostgreSQL waits for a lock by itself, the transaction fails soon, before
/// others have waited long for the locks that it holds.
///
/// The plans of its few statements must not depend on what is known of a table that is empty most of the
/// time: each has an index that it is made for.
const SETTINGS: [(&std::ffi::CStr, &std::ffi::CStr); 13] = [
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
    (c"jit", c"off"),
    (c"session_replication_role", c"replica"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"100ms"),
    (c"idle_in_transaction_session_timeout", c"0"),
];

/// A worker's function; its argument is the number of its queue.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn allsource_worker_main(argument: pg_sys::Datum) {
    set_up_signals(Termination::AfterWork);
    let Ok(queues) = Queues::open() else { return };
    connect();
    let queue = queues.queue(argument.value());
    let Some(consumer) = queue.claim() else { return };
    // SAFETY: the callback runs while shared memory is still there.
    unsafe { pg_sys::before_shmem_exit(Some(leave), argument) };
    // From here on `es_worker_pause` waits for this process.
    queue.set_phase(Phase::Idle);
    let mut process = Process {
        worker: Worker::new(queues, queue, consumer),
        next_housekeeping: Instant::now(),
        next_look: Instant::now(),
        house_backoff: Backoff::default(),
        recorded_safe: None,
    };
    while !is_shutdown_requested() {
        process.step();
    }
    process.drain_what_is_there();
    // SAFETY: ends the process; with 1 it is not reported as a crash.
    unsafe { pg_sys::proc_exit(1) }
}

/// Connects to the database that is served.
pub fn connect() {
    let name = settings::database();
    // SAFETY: connects as the bootstrap superuser, which each transaction steps down from.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(name.as_ptr(), std::ptr::null(), 0);
    }
    keep_memory();
    for (name, value) in SETTINGS {
        set_setting(name, value);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave(_code: std::ffi::c_int, argument: pg_sys::Datum) {
    if let Ok(queues) = Queues::open() {
        queues.queue(argument.value()).leave();
        queues.wake_launcher();
    }
}

struct Process {
    worker: Worker,
    next_housekeeping: Instant,
    next_look: Instant,
    house_backoff: Backoff,
    recorded_safe: Option<u64>,
}

impl Process {
    /// One round of the loop.
    fn step(&mut self) {
        see_to_signals();
        end_if_database_is_wanted();
        let queue = self.worker.queue;
        if self.worker.queues.paused() {
            queue.set_phase(Phase::Paused);
            sleep(SLEEP_MAX);
            return;
        }
        if Instant::now() >= self.next_housekeeping {
            self.keep_house();
        }
        if self.worker.must_load
            && let Err(failure) = self.worker.load()
        {
            self.back_off(&failure);
            return;
        }
        if let Err(failure) = self.move_waiting() {
            self.back_off(&failure);
            return;
        }
        wait_for_settler(self.worker.queues);
        self.gather();
        if self.worker.ends.is_empty() {
            self.worker.all_is_well();
            self.sleep_until_woken();
        } else if !self.waits_to_grow() {
            self.drain();
        }
    }

    /// Settles what the queue holds now, before the process ends, so that a clean stop of the server
    /// loses nothing. It ends at the first failure of the server.
    fn drain_what_is_there(&mut self) {
        let end = self.worker.queue.ring.write_offset();
        while !self.worker.queues.paused() && self.worker.consumer.read_offset() < end {
            self.gather();
            if self.worker.ends.is_empty() {
                break;
            }
            self.drain();
            if self.worker.backoff.failures() > 0 {
                break;
            }
        }
    }

    /// Finds the records of the next batch.
    fn gather(&mut self) {
        let worker = &mut self.worker;
        worker.ends.clear();
        let events_max = worker.pacing.events_max(settings::batch_max_events());
        let bytes_max = settings::batch_max_bytes();
        let start = worker.consumer.read_offset();
        let mut offset = start;
        while worker.ends.len() < events_max {
            let Some((_, next)) = worker.consumer.peek_from(offset) else { break };
            if next - start > bytes_max && !worker.ends.is_empty() {
                break;
            }
            worker.ends.push(next);
            offset = next;
        }
    }

    /// Sleeps for a moment if the batch is small, the last one was not long ago, and no session waits.
    /// Returns whether it has.
    fn waits_to_grow(&self) -> bool {
        let worker = &self.worker;
        let enough = settings::batch_max_bytes().min(worker.queue.ring.capacity_bytes()) / 2;
        let full = worker.ends.len() == worker.pacing.events_max(settings::batch_max_events())
            || worker.ends.last().is_some_and(|end| end - worker.consumer.read_offset() >= enough);
        let interval = settings::flush_interval();
        let left = worker.pacing.left(worker.last_batch, interval, Instant::now());
        if full || left.as_millis() == 0 || worker.queue.is_hurried() {
            return false;
        }
        sleep(left.min(GROWTH_LOOK));
        true
    }

    fn sleep_until_woken(&mut self) {
        let worker = &self.worker;
        worker.queue.set_phase(Phase::Idle);
        report_statistics(true);
        // SAFETY: reports to the statistics system, outside of a transaction.
        unsafe {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        }
        let turn = worker.waiting.next_turn().map_or(SLEEP_MAX, |turn| {
            turn.saturating_duration_since(Instant::now()).min(SLEEP_MAX)
        });
        let flag = worker.queue.wake_flag();
        flag.announce_sleep();
        if !worker.consumer.has_record(worker.consumer.read_offset()) {
            sleep(turn);
        }
        flag.woken_up();
    }

    /// Writes the batch.
    fn drain(&mut self) {
        self.worker.queue.begin_batch();
        let result = drain(&mut self.worker);
        self.worker.last_batch = Instant::now();
        match result {
            Ok(()) => self.worker.all_is_well(),
            Err(failure) => self.back_off(&failure),
        }
    }

    /// Moves waiting events whose turn it is.
    fn move_waiting(&mut self) -> Result<(), Failure> {
        let enough = MOVED_MIN.max(2 * self.worker.left_waiting);
        let until = Instant::now() + MOVE_TIME;
        let mut moved = 0;
        while moved < enough && Instant::now() < until {
            let Some(events) = move_some(&mut self.worker)? else { break };
            moved += events;
            see_to_signals();
            if is_shutdown_requested() || self.worker.must_load || self.worker.queues.paused() {
                break;
            }
        }
        self.worker.left_waiting = 0;
        Ok(())
    }

    fn back_off(&mut self, failure: &Failure) {
        let worker = &mut self.worker;
        worker.queue.set_phase(Phase::BackingOff);
        worker.queue.set_failing(true);
        worker.note(&one_line(failure));
        rest(worker.queues, worker.backoff.failed(), SLEEP_MAX);
    }

    /// What is done about once a second, and less often while it fails. Draining continues.
    fn keep_house(&mut self) {
        let mut wait = SLEEP_MAX;
        if self.worker.queue.index == 0 {
            match in_transaction(|| recorded::record(&mut self.recorded_safe)) {
                Ok(()) => self.house_backoff.succeeded(),
                Err(failure) => {
                    wait = wait.max(self.house_backoff.failed());
                    if self.house_backoff.failures() == 1 {
                        pgrx::log!(
                            "allsource worker 0 cannot record the safe position and will try again: {}",
                            one_line(&failure)
                        );
                    }
                }
            }
        }
        if self.worker.waiting.is_empty() && Instant::now() >= self.next_look {
            // Some of a restored dump may have been adopted. If this fails, it is tried again later.
            let _ = self.worker.load();
            self.next_look = Instant::now() + LOOK_INTERVAL;
        }
        self.next_housekeeping = Instant::now() + wait;
    }
}

/// Sleeps after a failure, at most `sleep_max` at a time, unless the workers are paused or the process is to
/// end.
pub fn rest(queues: Queues, wait: Duration, sleep_max: Duration) {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || queues.paused() || is_shutdown_requested() {
            break;
        }
        end_if_database_is_wanted();
        sleep(left.min(sleep_max));
    }
}

/// Waits for a while if there is more to be settled than there may be. Then the queue grows, and those who
/// enqueue wait.
fn wait_for_settler(queues: Queues) {
    let Some(control) = Control::get() else { return };
    let may_go_on = || {
        let is_alone = control.pid().is_none() || !control.makes_progress();
        let is_alone = is_alone || queues.paused() || is_shutdown_requested();
        (is_alone || control.unsettled_bytes() <= settings::hot_max_bytes()).then_some(())
    };
    if may_go_on().is_none() {
        control.wait_until(Some(Instant::now() + SETTLER_PATIENCE), may_go_on);
    }
}

/// Ends the process if a command needs the database to have no other sessions.
pub fn end_if_database_is_wanted() {
    // SAFETY: a constant of this process; exiting with 1 is not reported as a crash.
    unsafe {
        if database_is_wanted(pg_sys::MyDatabaseId) {
            pg_sys::proc_exit(1);
        }
    }
}

/// Keeps the memory that one batch has allocated for the next one. By default, large pieces are
/// returned to the operating system each time.
fn keep_memory() {
    // SAFETY: sets two numbers of the allocator; where it refuses them, nothing changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * 1024 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024 * 1024);
    }
}
