//! What is counted and shown. All loads and stores are relaxed: nothing else is read by them.

use crate::model::hot::Batches;
use crate::model::partition::{PARTITIONS, Partition};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Figures in shared memory.
#[repr(C, align(64))]
pub struct Figures {
    answers: AtomicU64,
    misses: AtomicU64,
    rebuilds: AtomicU64,
    disk_bytes: AtomicU64,
    memory_bytes: AtomicU64,
    entries: AtomicU64,
    applied: [AtomicI64; PARTITIONS],
    forgotten: [AtomicI64; PARTITIONS],
}

/// The figures of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiguresNow {
    /// questions that were answered
    pub answers: u64,
    /// questions that were not: nobody served, or it took too long
    pub misses: u64,
    /// how often the sidecar was made anew
    pub rebuilds: u64,
    /// bytes of its files
    pub disk_bytes: u64,
    /// bytes that it has in memory
    pub memory_bytes: u64,
    /// its entries, about: streams with each of their batches
    pub entries: u64,
    /// the last batch of each partition that it has; 0: none
    pub applied: [i64; PARTITIONS],
}

impl Figures {
    /// Counts a question.
    pub fn asked(&self, is_answered: bool) {
        let counter = if is_answered { &self.answers } else { &self.misses };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts that the sidecar was made anew.
    pub fn rebuilt(&self) {
        self.rebuilds.fetch_add(1, Relaxed);
    }

    /// Shows what the sidecar takes.
    pub fn show_size(&self, disk_bytes: u64, memory_bytes: u64, entries: u64) {
        self.disk_bytes.store(disk_bytes, Relaxed);
        self.memory_bytes.store(memory_bytes, Relaxed);
        self.entries.store(entries, Relaxed);
    }

    /// Shows which batches of a partition the sidecar has.
    pub fn show(&self, partition: Partition, batches: Batches) {
        self.applied[partition.index()].store(batches.up_to, Relaxed);
        self.forgotten[partition.index()].store(batches.after, Relaxed);
    }

    /// The batches of a partition that the sidecar has.
    pub fn batches(&self, partition: Partition) -> Batches {
        let get = |of: &[AtomicI64; PARTITIONS]| of[partition.index()].load(Relaxed);
        Batches { after: get(&self.forgotten), up_to: get(&self.applied) }
    }

    /// The figures of now.
    pub fn now(&self) -> FiguresNow {
        FiguresNow {
            answers: self.answers.load(Relaxed),
            misses: self.misses.load(Relaxed),
            rebuilds: self.rebuilds.load(Relaxed),
            disk_bytes: self.disk_bytes.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            entries: self.entries.load(Relaxed),
            applied: std::array::from_fn(|index| self.applied[index].load(Relaxed)),
        }
    }
}
