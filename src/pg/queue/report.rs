//! What a queue has to tell of itself.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use super::{Phase, Queue};
use crate::pg::session::xact::now_us;
use crate::pg::shared::memory::{Lock, with_lock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a queue has to tell.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// the worker's process; `None` where there is none
    pub pid: Option<i32>,
    /// what it is doing
    pub phase: Phase,
    /// events that are not settled
    pub depth_events: u64,
    /// bytes of the ring in use
    pub depth_bytes: u64,
    /// bytes of the ring
    pub capacity_bytes: u64,
    /// events enqueued since the server started
    pub enqueued: u64,
    /// events written to their streams
    pub drained: u64,
    /// events refused because the queue was full
    pub rejected: u64,
    /// how often a producer had to wait for room
    pub full_waits: u64,
    /// batches written
    pub batches: u64,
    /// events of the largest batch
    pub largest_batch: u64,
    /// events put among the dead letters
    pub dead: u64,
    /// events of an extension that was dropped before they were written
    pub discarded: u64,
    /// the last failure that had to be tried again
    pub last_error: Option<String>,
    /// how long the oldest event that is not settled has been waiting
    pub lag: Duration,
}

impl Queue {
    fn last_error(&self) -> Option<String> {
        let bytes = with_lock(Lock::Workers, || {
            let len = self.state().worker.error_bytes.load(Ordering::Relaxed) as usize;
            // SAFETY: as in `set_last_error`.
            let bytes = unsafe { (&raw const (*self.state).worker.error).read() };
            bytes[..len].to_vec()
        });
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What there is to tell of it at this moment.
    pub fn report(&self) -> QueueReport {
        let producers = &self.state().producers;
        let worker = &self.state().worker;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (drained, dead, discarded) =
            (get(&worker.drained), get(&worker.dead), get(&worker.discarded));
        let enqueued = get(&producers.enqueued);
        let waiting_since_us = producers.waiting_since_us.load(Ordering::Relaxed);
        let depth_bytes = self.ring.used_bytes();
        let lag_us = if depth_bytes == 0 || waiting_since_us == 0 {
            0
        } else {
            now_us().saturating_sub(waiting_since_us).max(0)
        };
        QueueReport {
            pid: Some(worker.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0),
            phase: self.phase(),
            depth_events: if depth_bytes == 0 {
                0
            } else {
                enqueued.saturating_sub(drained + dead + discarded)
            },
            depth_bytes,
            capacity_bytes: self.ring.capacity_bytes(),
            enqueued,
            drained,
            rejected: get(&producers.rejected),
            full_waits: get(&producers.full_waits),
            batches: get(&worker.batches),
            largest_batch: get(&worker.largest_batch),
            dead,
            discarded,
            last_error: self.last_error(),
            lag: Duration::from_micros(lag_us as u64),
        }
    }
}
