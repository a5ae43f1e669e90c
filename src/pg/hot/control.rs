//! Shared memory of the settler: what it is asked for, and what it reports.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use super::pass_request::PassRequest;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::queue::waiters::{Awaited, Waited, Waiters};
use crate::pg::session::xact::now_us;
use crate::pg::shared::latch;
use crate::pg::shared::memory::{Area, Lock, with_lock};
use crate::pg::shared::text::SharedText;
use pgrx::pg_sys;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering,
};
use std::time::Instant;

/// How exactly it is noted when a tail was read.
const NOTE_INTERVAL_US: i64 = 1_000_000;

/// Tails are read if one was read within this time.
const TAILS_ARE_READ_US: i64 = 60_000_000;

/// The settler makes progress if it has settled something within this time.
const PROGRESS_US: i64 = 2_000_000;

/// A request that sessions make, and whether it was met.
#[repr(C)]
pub struct Ticket {
    asked: AtomicU64,
    answered: AtomicU64,
    has_failed: AtomicBool,
    error: SharedText,
}

impl Ticket {
    /// Asks. The request is met when `is_answered` says so of the number that is returned.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The last request, if it was not answered.
    pub fn pending(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::SeqCst);
        (asked > self.answered.load(Ordering::SeqCst)).then_some(asked)
    }

    /// Answers all requests up to this one.
    pub fn answer(&self, number: u64, error: Option<&str>) {
        self.error.set(error.unwrap_or_default());
        self.has_failed.store(error.is_some(), Ordering::SeqCst);
        self.answered.fetch_max(number, Ordering::SeqCst);
        if let Some(control) = Control::get() {
            control.waiters().wake_all();
        }
    }

    /// What has become of a request; `None`: nothing yet. An error is that of the last one.
    pub fn answer_to(&self, number: u64) -> Option<Result<(), String>> {
        (self.answered.load(Ordering::SeqCst) >= number).then(|| {
            if self.has_failed.load(Ordering::SeqCst) {
                return Err(self.error.get().unwrap_or_default());
            }
            Ok(())
        })
    }
}

/// What is known of a partition.
#[repr(C, align(64))]
pub struct OfPartition {
    /// to make it hot
    pub heat: Ticket,
    /// to make it cold
    pub cool: Ticket,
    /// up to which batch somebody wants it to be settled at once
    pub wanted: AtomicI64,
    /// bytes of batches that were written and not settled
    pub bytes: AtomicU64,
    /// events of batches that were settled
    pub settled_events: AtomicU64,
    /// events that workers have put into batches
    pub taken_events: AtomicU64,
    /// scattered events that workers have taken in
    pub scattered_events: AtomicU64,
    /// why something in it cannot be settled
    pub error: SharedText,
}

#[repr(C, align(64))]
struct Shared {
    pid: AtomicI32,
    /// Process number, plus 1.
    process: AtomicU32,
    is_paused: AtomicBool,
    partitions: [OfPartition; PARTITIONS],
    /// when events were settled last; in microseconds since 2000-01-01
    settled_at_us: AtomicI64,
    /// when a tail was read last, about; in microseconds since 2000-01-01
    tail_read_at_us: AtomicI64,
    /// tails that readers have looked for and found, and not found
    tails: AtomicU64,
    no_tails: AtomicU64,
    rebuild: Ticket,
    checkpoint: Ticket,
    checkpoint_path: SharedText,
    error: SharedText,
    pass_request: PassRequest,
}

/// The area.
pub static AREA: Area = Area {
    name: c"allsource settler",
    bytes: || size_of::<Shared>() + Waiters::bytes(),
    // Zeroed memory is valid: all are atomics and texts.
    set_up: |_| {},
    start: AtomicPtr::new(std::ptr::null_mut()),
};

/// The settler, as others see it.
#[derive(Clone, Copy)]
pub struct Control(&'static Shared);

impl Control {
    /// `None` if the library was not loaded at server start.
    pub fn get() -> Option<Self> {
        // SAFETY: the area begins with one, and outlives the process.
        AREA.start().ok().map(|start| Self(unsafe { &*start.cast::<Shared>() }))
    }

    fn waiters(&self) -> Waiters {
        // SAFETY: behind the structure, whose size is a multiple of its alignment.
        unsafe {
            let end = std::ptr::from_ref(self.0).add(1).cast_mut().cast::<u8>();
            Waiters::at(end)
        }
    }

    /// A partition.
    pub fn of(&self, partition: Partition) -> &'static OfPartition {
        &self.0.partitions[partition.index()]
    }

    /// To make the sidecar anew.
    pub fn rebuild(&self) -> &'static Ticket {
        &self.0.rebuild
    }

    /// To copy the sidecar.
    pub fn checkpoint(&self) -> &'static Ticket {
        &self.0.checkpoint
    }

    /// To where.
    pub fn checkpoint_path(&self) -> &'static SharedText {
        &self.0.checkpoint_path
    }

    /// Why the settler cannot go on.
    pub fn error(&self) -> &'static SharedText {
        &self.0.error
    }

    /// Makes this process the settler, unless there is one.
    pub fn claim(&self) -> bool {
        with_lock(Lock::Workers, || {
            let free = self.0.pid.load(Ordering::Relaxed) == 0;
            if free {
                // SAFETY: set in every process that uses shared memory.
                let (process, pid) = unsafe { ((*pg_sys::MyProc).pgprocno, pg_sys::MyProcPid) };
                self.0.process.store(process as u32 + 1, Ordering::Relaxed);
                self.0.pid.store(pid, Ordering::Relaxed);
                self.0.is_paused.store(false, Ordering::SeqCst);
            }
            free
        })
    }

    /// The settler ends.
    pub fn leave(&self) {
        with_lock(Lock::Workers, || {
            self.0.process.store(0, Ordering::Relaxed);
            self.0.pid.store(0, Ordering::Relaxed);
        });
        self.waiters().wake_all();
    }

    /// Its process; `None` if there is none.
    pub fn pid(&self) -> Option<i32> {
        Some(self.0.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Whether it is this process, or the second settler is.
    pub fn is_this_process(&self) -> bool {
        // SAFETY: a constant of this process.
        let this = Some(unsafe { pg_sys::MyProcPid });
        self.pid() == this || self.pass_request().pid() == this
    }

    /// What the second settler is asked for.
    pub fn pass_request(&self) -> &'static PassRequest {
        &self.0.pass_request
    }

    /// Wakes it.
    pub fn wake(&self) {
        let process = self.0.process.load(Ordering::Relaxed);
        if process > 0 {
            latch::wake(process as usize - 1);
        }
    }

    /// Whether it does nothing, because the workers are paused.
    pub fn is_paused(&self) -> bool {
        self.0.is_paused.load(Ordering::SeqCst)
    }

    /// It does nothing, or something again.
    pub fn set_paused(&self, is_paused: bool) {
        if self.0.is_paused.swap(is_paused, Ordering::SeqCst) != is_paused {
            self.waiters().wake_all();
        }
    }

    /// Something has changed that sessions may wait for.
    pub fn has_progressed(&self) {
        self.waiters().wake_all();
    }

    /// Waits until `check` returns something.
    pub fn wait_until<T>(
        &self,
        deadline: Option<Instant>,
        check: impl FnMut() -> Option<T>,
    ) -> Waited<T> {
        self.wake();
        self.waiters().wait_until(Awaited::Anything, deadline, check)
    }

    /// Counts a batch that was written.
    pub fn count_batch(&self, partition: Partition, events: u64, bytes: u64) {
        let of = self.of(partition);
        of.bytes.fetch_add(bytes, Ordering::Relaxed);
        of.taken_events.fetch_add(events, Ordering::Relaxed);
    }

    /// Notes that somebody reads tails: as long as that is so, the sidecar is kept up to date.
    pub fn note_tail_read(&self) {
        let (before, now) = (self.0.tail_read_at_us.load(Ordering::Relaxed), now_us());
        if now > before + NOTE_INTERVAL_US {
            self.0.tail_read_at_us.store(now, Ordering::Relaxed);
            if now > before + TAILS_ARE_READ_US {
                self.wake();
            }
        }
    }

    /// Whether somebody has read a tail lately.
    pub fn are_tails_read(&self) -> bool {
        now_us() < self.0.tail_read_at_us.load(Ordering::Relaxed) + TAILS_ARE_READ_US
    }

    /// Events were settled.
    pub fn has_settled(&self) {
        self.0.settled_at_us.store(now_us(), Ordering::Relaxed);
    }

    /// Whether events were settled within the last second or so: it is worth while to wait for more.
    pub fn makes_progress(&self) -> bool {
        now_us() < self.0.settled_at_us.load(Ordering::Relaxed) + PROGRESS_US
    }

    /// Counts a reader's look for a tail.
    pub fn count_tail(&self, is_there: bool) {
        let count = if is_there { &self.0.tails } else { &self.0.no_tails };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How often readers have looked for a tail and found one, and how often there was none.
    pub fn tails(&self) -> (u64, u64) {
        (self.0.tails.load(Ordering::Relaxed), self.0.no_tails.load(Ordering::Relaxed))
    }

    /// Bytes of batches of all partitions that are not settled.
    pub fn unsettled_bytes(&self) -> u64 {
        let bytes = |of: &OfPartition| of.bytes.load(Ordering::Relaxed);
        self.0.partitions.iter().map(bytes).sum()
    }
}
