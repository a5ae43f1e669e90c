//! A queue's state and counts at one moment.

use super::{Phase, Queue};
use crate::pg::session::xact::now_us;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A queue's state and counts at one moment.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// the worker's process; `None` if there is none
    pub pid: Option<i32>,
    /// what it is doing
    pub phase: Phase,
    /// events in the ring
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
    /// the last failure after which the worker tried again
    pub last_error: Option<String>,
    /// whether the last batch failed
    pub failing: bool,
    /// how long the oldest event in the ring has been waiting
    pub lag: Duration,
    /// events in `waiting_events`
    pub waiting_events: u64,
    /// how many streams they are for
    pub waiting_streams: u64,
    /// how long ago the oldest of them was enqueued
    pub waiting_for: Duration,
    /// what they wait for
    pub held_up_by: Option<String>,
}

impl Queue {
    /// Its state and counts now.
    pub fn report(&self) -> QueueReport {
        let producers = &self.state().producers;
        let worker = &self.state().worker;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (drained, dead, discarded) =
            (get(&worker.drained), get(&worker.dead), get(&worker.discarded));
        let enqueued = get(&producers.enqueued);
        let waiting_since_us = producers.waiting_since_us.load(Ordering::Relaxed);
        let depth_bytes = self.ring.used_bytes();
        let age = |since_us: i64| {
            let us = if since_us == 0 { 0 } else { now_us().saturating_sub(since_us).max(0) };
            Duration::from_micros(us as u64)
        };
        let waiting_events = get(&worker.waiting_events);
        let waiting_oldest_us = worker.waiting_oldest_us.load(Ordering::Relaxed);
        QueueReport {
            pid: worker.serving.pid(),
            phase: self.phase(),
            depth_events: if depth_bytes == 0 {
                0
            } else {
                enqueued.saturating_sub(get(&worker.released))
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
            last_error: worker.error.get(),
            failing: worker.failing.load(Ordering::Relaxed),
            lag: if depth_bytes == 0 { Duration::ZERO } else { age(waiting_since_us) },
            waiting_events,
            waiting_streams: get(&worker.waiting_streams),
            waiting_for: if waiting_events == 0 { Duration::ZERO } else { age(waiting_oldest_us) },
            held_up_by: worker.held_up_by.get(),
        }
    }
}
