//! What the ring's own bench (`benches/ring.rs`) says in its last line: the queue's ring alone,
//! without PostgreSQL, beside crossbeam's `ArrayQueue` of boxed records.

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingResults {
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Rounds; the figures are medians.
    pub rounds: usize,
    /// One for each number of producers.
    pub results: Vec<RingFigures>,
}

/// Millions of records per second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingFigures {
    /// Producers, each a process; there is one consumer.
    pub producers: usize,
    /// Through the ring.
    pub ring: f64,
    /// Through the ring, where each push asks whether the consumer must be woken.
    pub ring_asking_to_wake: f64,
    /// Through the `ArrayQueue`.
    pub array_queue: f64,
    /// The ring's relative to the queue's.
    pub ratio: f64,
}
