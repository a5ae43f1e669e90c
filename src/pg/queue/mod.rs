//! The queues in shared memory: for each worker a ring, the worker's state, and the processes to wake.
//!
//! Producers are the backends that enqueue. The worker of a queue is its only consumer;
//! [`Queue::claim`] makes sure that there is one at a time.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

pub mod pause;
mod report;
pub mod waiters;

use crate::pg::shared::text::SharedText;
pub use report::QueueReport;

use crate::model::partition::Partition;
use crate::pg::error::{Error, Obstacle};
use crate::pg::queue::waiters::{Awaited, Waited, Waiters};
use crate::pg::session::xact::{database_name, now_us};
use crate::pg::settings;
use crate::pg::shared::memory::Area;
use crate::pg::shared::serving::Serving;
use crate::queue::{Capacity, Consumer, Ring, WakeFlag};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// There is no process.
    Stopped = 0,
    /// Nothing to drain.
    Idle = 1,
    /// Writing a batch.
    Draining = 2,
    /// Waiting after a failure.
    BackingOff = 3,
    /// `es_worker_pause` was called.
    Paused = 4,
}

impl Phase {
    /// Its name in `queue_stats`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Idle => "idle",
            Self::Draining => "draining",
            Self::BackingOff => "backing off",
            Self::Paused => "paused",
        }
    }
}

/// What all queues have in common.
#[repr(C, align(64))]
struct Common {
    paused: AtomicBool,
    launcher: Serving,
    /// Distinguishes records of this run of shared memory from those of earlier ones.
    epoch: AtomicI64,
}

/// What producers write; a line of its own.
#[repr(C, align(64))]
struct Producers {
    enqueued: AtomicU64,
    rejected: AtomicU64,
    full_waits: AtomicU64,
    /// When the oldest event in the ring was enqueued; 0 if there is none.
    waiting_since_us: AtomicI64,
}

/// What the worker writes.
#[repr(C, align(64))]
struct Worker {
    serving: Serving,
    phase: AtomicU32,
    drained: AtomicU64,
    dead: AtomicU64,
    discarded: AtomicU64,
    /// Commits for which a synchronous standby was not waited until the end.
    unconfirmed: AtomicU64,
    batches: AtomicU64,
    largest_batch: AtomicU64,
    /// Events that have left the ring, whatever has become of them.
    released: AtomicU64,
    /// Waiting events, and their streams.
    waiting_events: AtomicU64,
    waiting_streams: AtomicU64,
    /// When the oldest of them was enqueued.
    waiting_oldest_us: AtomicI64,
    /// The oldest of them ended at this offset of the ring, or at 0 if it is from an earlier ring;
    /// `NOTHING_WAITS` if there is none.
    waiting_from: AtomicU64,
    /// Whether the last batch has failed.
    failing: AtomicBool,
    error: SharedText,
    held_up_by: SharedText,
}

/// No offset of a ring comes this far.
const NOTHING_WAITS: u64 = u64::MAX;

#[repr(C, align(64))]
struct QueueState {
    wake: WakeFlag,
    /// A session waits for the worker, so a batch must not wait until it has grown.
    hurry: AtomicBool,
    producers: Producers,
    worker: Worker,
}

/// The queues in shared memory: `Common`; for each worker a `QueueState`, its waiters, a ring.
pub static AREA: Area = Area {
    name: c"allsource queues",
    bytes: memory_bytes,
    set_up,
    start: AtomicPtr::new(std::ptr::null_mut()),
};

const RING_ALIGNMENT: usize = if Ring::ALIGNMENT > 64 { Ring::ALIGNMENT } else { 64 };

fn capacity() -> Capacity {
    Capacity::at_least(settings::queue_size_bytes())
}

fn ring_bytes() -> usize {
    Ring::memory_bytes(capacity()).next_multiple_of(RING_ALIGNMENT)
}

fn waiters_offset() -> usize {
    size_of::<Common>() + settings::workers() * size_of::<QueueState>()
}

fn rings_offset(start: *mut u8) -> usize {
    let before = waiters_offset() + settings::workers() * Waiters::bytes();
    // SAFETY: within the area, which has room for the alignment.
    let end = unsafe { start.add(before) };
    before + end.align_offset(RING_ALIGNMENT)
}

fn memory_bytes() -> usize {
    let of_worker = size_of::<QueueState>() + Waiters::bytes() + ring_bytes();
    size_of::<Common>() + settings::workers() * of_worker + RING_ALIGNMENT
}

unsafe fn set_up(start: *mut u8) {
    // SAFETY: `start` has `memory_bytes` zeroed bytes; zeroed states and slots are valid: all are
    // atomics or bytes.
    unsafe {
        let common = &*start.cast::<Common>();
        common.epoch.store(now_us(), Ordering::Relaxed);
        let queues = Queues::at(start);
        for index in 0..queues.workers {
            Ring::init(queues.ring(index), capacity());
        }
    }
}

unsafe fn state(start: *mut u8, index: usize) -> *mut QueueState {
    // SAFETY: `index` is below the number of workers.
    unsafe { start.add(size_of::<Common>()).cast::<QueueState>().add(index) }
}

/// All queues of the server, and what their addresses are computed from, once per call and not once
/// per event.
#[derive(Clone, Copy)]
pub struct Queues {
    start: *mut u8,
    workers: usize,
    rings_offset: usize,
    ring_bytes: usize,
}

impl Queues {
    /// All queues.
    pub fn open() -> Result<Self, Error> {
        let start = AREA.start()?;
        if settings::workers() == 0 {
            return Err(Error::CannotExecute(Obstacle::NoWorkers));
        }
        Ok(Self::at(start))
    }

    /// The queues, if this database is the one that they serve.
    pub fn of_this_database() -> Result<Self, Error> {
        let queues = Self::open()?;
        let served = settings::database();
        if database_name() != served {
            return Err(Error::OtherDatabase { served: served.to_string_lossy().into_owned() });
        }
        Ok(queues)
    }

    fn at(start: *mut u8) -> Self {
        Self {
            start,
            workers: settings::workers(),
            rings_offset: rings_offset(start),
            ring_bytes: ring_bytes(),
        }
    }

    fn ring(&self, index: usize) -> NonNull<u8> {
        // SAFETY: `index` is below the number of workers; the area does not begin at address 0.
        unsafe {
            let ring = self.start.add(self.rings_offset + index * self.ring_bytes);
            NonNull::new_unchecked(ring)
        }
    }

    fn common(&self) -> &Common {
        // SAFETY: the area begins with it.
        unsafe { &*self.start.cast::<Common>() }
    }

    /// The queue of a worker, which must be below the number of workers.
    pub fn queue(&self, index: usize) -> Queue {
        debug_assert!(index < self.workers);
        // SAFETY: set up before any backend starts.
        unsafe {
            Queue {
                index,
                state: state(self.start, index),
                waiters: Waiters::at(self.start.add(waiters_offset() + index * Waiters::bytes())),
                ring: Ring::attach(self.ring(index)),
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Queue> + '_ {
        (0..self.workers).map(|index| self.queue(index))
    }

    /// The queue that events of a partition go through.
    pub fn of_partition(&self, partition: Partition) -> Queue {
        self.queue(partition.index() % self.workers)
    }

    /// When this shared memory was set up; together with an offset in a ring it identifies a record.
    pub fn epoch(&self) -> i64 {
        self.common().epoch.load(Ordering::Relaxed)
    }

    /// Whether workers are to pause.
    pub fn paused(&self) -> bool {
        // SeqCst, with the store: the session that pauses sees the worker paused, or the worker sees
        // that it has to pause.
        self.common().paused.load(Ordering::SeqCst)
    }

    /// Pauses or resumes the workers.
    pub fn set_paused(&self, paused: bool) {
        self.common().paused.store(paused, Ordering::SeqCst);
        self.iter().for_each(|queue| queue.wake_worker());
    }

    /// Makes this process the one that starts workers.
    pub fn set_launcher(&self) {
        self.common().launcher.take_over();
    }

    /// Wakes the process that starts workers.
    pub fn wake_launcher(&self) {
        self.common().launcher.wake();
    }
}

/// One queue, as a producer or its worker uses it.
#[derive(Clone, Copy)]
pub struct Queue {
    /// the number of its worker
    pub index: usize,
    state: *mut QueueState,
    waiters: Waiters,
    /// the ring
    pub ring: Ring,
}

impl Queue {
    fn state(&self) -> &QueueState {
        // SAFETY: shared memory outlives the process.
        unsafe { &*self.state }
    }

    /// Counts what a producer has put in at `now_us`, and wakes the worker if it sleeps.
    pub fn pushed(&self, events: u64, now_us: i64) {
        let state = self.state();
        let producers = &state.producers;
        producers.enqueued.fetch_add(events, Ordering::Relaxed);
        if producers.waiting_since_us.load(Ordering::Relaxed) == 0 {
            let _ = producers.waiting_since_us.compare_exchange(
                0,
                now_us,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        if state.wake.must_wake() {
            self.wake_worker();
        }
    }

    /// Counts events that found no room.
    pub fn rejected(&self, events: u64) {
        self.state().producers.rejected.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts a wait for room.
    pub fn waits_for_room(&self) {
        self.state().producers.full_waits.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the worker's latch.
    pub fn wake_worker(&self) {
        self.state().worker.serving.wake();
    }

    /// Asks the worker not to wait until its batch has grown.
    pub fn hurry(&self) {
        let hurry = &self.state().hurry;
        // Only the first session that waits wakes the worker.
        if !hurry.load(Ordering::Relaxed) && !hurry.swap(true, Ordering::Relaxed) {
            self.wake_worker();
        }
    }

    /// Whether a session has asked the worker to hurry.
    pub fn is_hurried(&self) -> bool {
        self.state().hurry.load(Ordering::Relaxed)
    }

    /// The worker begins a batch. A session that waits for a later one asks again.
    pub fn begin_batch(&self) {
        self.state().hurry.store(false, Ordering::Relaxed);
        self.set_phase(Phase::Draining);
    }

    /// Counts a commit of the worker if it may not be on the synchronous standbys. Called before its
    /// records are released.
    pub fn count_unconfirmed_if(&self, is_unconfirmed: bool) {
        self.state().worker.unconfirmed.fetch_add(u64::from(is_unconfirmed), Ordering::Relaxed);
    }

    /// How many such commits there were: all of those whose records were released.
    pub fn unconfirmed(&self) -> u64 {
        // Relaxed: as for `dead`.
        self.state().worker.unconfirmed.load(Ordering::Relaxed)
    }

    /// Whether the queue has a worker.
    pub fn has_worker(&self) -> bool {
        self.state().worker.serving.pid().is_some()
    }

    /// Records of the queue that were put among the dead letters: all of those that were released.
    pub fn dead(&self) -> u64 {
        // Relaxed: a session that sees a record released, by `Ring::read_offset`, sees it counted.
        self.state().worker.dead.load(Ordering::Relaxed)
    }

    /// Sleeps until `check` gives something, as [`Waiters::wait_until`] does, and asks the worker to
    /// hurry.
    pub fn wait_until<T>(
        &self,
        awaited: Awaited,
        deadline: Option<Instant>,
        mut check: impl FnMut() -> Option<T>,
    ) -> Waited<T> {
        self.waiters.wait_until(awaited, deadline, || {
            let result = check();
            if result.is_none() {
                self.hurry();
            }
            result
        })
    }

    /// Makes this process the worker of the queue, unless it has one. Gives the consumer of the
    /// ring, which must not be used after [`Self::leave`].
    pub fn claim(&self) -> Option<Consumer> {
        let claimed = self.state().worker.serving.claim();
        // SAFETY: the last worker has left: it gave the lock back after its last use of the ring.
        claimed.then(|| unsafe { self.ring.consumer() })
    }

    /// The worker of the queue ends.
    pub fn leave(&self) {
        let worker = &self.state().worker;
        worker.phase.store(Phase::Stopped as u32, Ordering::Relaxed);
        worker.serving.leave();
        // Sessions that wait for it see that it has ended.
        self.waiters.wake_all();
    }

    /// The flag that tells producers whether the worker sleeps.
    pub fn wake_flag(&self) -> &WakeFlag {
        &self.state().wake
    }

    /// What the worker is doing.
    pub fn set_phase(&self, phase: Phase) {
        // SeqCst: see `Queues::paused`.
        self.state().worker.phase.store(phase as u32, Ordering::SeqCst);
        if phase == Phase::Paused {
            self.waiters.wake_all();
        }
    }

    /// What the worker is doing.
    pub fn phase(&self) -> Phase {
        match self.state().worker.phase.load(Ordering::SeqCst) {
            1 => Phase::Idle,
            2 => Phase::Draining,
            3 => Phase::BackingOff,
            4 => Phase::Paused,
            _ => Phase::Stopped,
        }
    }

    /// Called by the worker after it has released `events` records of the ring. `oldest_us` is when
    /// the oldest of those that are left was enqueued.
    pub fn settled(&self, events: u64, oldest_us: Option<i64>) {
        self.state().worker.released.fetch_add(events, Ordering::Relaxed);
        let waiting_since_us = &self.state().producers.waiting_since_us;
        waiting_since_us.store(oldest_us.unwrap_or(0), Ordering::Relaxed);
        self.waiters.wake_up_to(self.ring.read_offset());
    }

    /// Counts a batch of `drained` events.
    pub fn count_batch(&self, drained: u64) {
        let worker = &self.state().worker;
        worker.batches.fetch_add(1, Ordering::Relaxed);
        worker.largest_batch.fetch_max(drained, Ordering::Relaxed);
        self.count_drained(drained);
    }

    /// Counts events that were written to their streams.
    pub fn count_drained(&self, events: u64) {
        self.state().worker.drained.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts records that were put among the dead letters. Called before they are released.
    pub fn count_dead(&self, records: u64) {
        self.state().worker.dead.fetch_add(records, Ordering::Relaxed);
    }

    /// Counts events whose extension is gone. Called before they are released.
    pub fn count_discarded(&self, events: u64) {
        self.state().worker.discarded.fetch_add(events, Ordering::Relaxed);
    }

    /// Events whose extension was gone: all of those that were released.
    pub fn discarded(&self) -> u64 {
        // Relaxed: see `dead`.
        self.state().worker.discarded.load(Ordering::Relaxed)
    }

    /// How many events of how many streams wait in the table, and the oldest of them: where it
    /// ended in the ring, and when it was enqueued. Called before those records are released.
    pub fn set_waiting(&self, events: u64, streams: u64, oldest: Option<(u64, i64)>) {
        let worker = &self.state().worker;
        let before = worker.waiting_events.swap(events, Ordering::Relaxed);
        worker.waiting_streams.store(streams, Ordering::Relaxed);
        let (offset, enqueued_at_us) = oldest.unwrap_or((NOTHING_WAITS, 0));
        worker.waiting_oldest_us.store(enqueued_at_us, Ordering::Relaxed);
        // Release: a session that sees that nothing waits any more sees what has become of it.
        worker.waiting_from.store(offset, Ordering::Release);
        if events == 0 && before > 0 {
            worker.held_up_by.set("");
        }
    }

    /// Wakes sessions that wait for waiting events.
    pub fn wake_moved(&self) {
        self.waiters.wake_moved();
    }

    /// Whether records that ended at `offset` of the ring, or before, may be waiting events.
    pub fn may_wait(&self, offset: u64) -> bool {
        // Acquire: with the store in `set_waiting`.
        self.state().worker.waiting_from.load(Ordering::Acquire) <= offset
    }

    /// Remembers what waiting events wait for.
    pub fn set_held_up_by(&self, reason: &str) {
        self.state().worker.held_up_by.set(reason);
    }

    /// Remembers a failure.
    pub fn set_last_error(&self, message: &str) {
        self.state().worker.error.set(message);
    }

    /// Whether the last batch has failed.
    pub fn set_failing(&self, failing: bool) {
        self.state().worker.failing.store(failing, Ordering::Relaxed);
    }
}
