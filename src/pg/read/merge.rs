//! Merging the logs of partitions by position.

use crate::model::partition::{PARTITIONS, Partition};
use crate::model::run::RUN_EVENTS_MAX;
use crate::pg::error::Error;
use crate::pg::tables::relation::{For, Leaf};
use crate::pg::tables::scan::{Direction, Key, Scan};
use crate::pg::tables::schema::{LeafIndex, Root, log};
use pgrx::pg_sys;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Merges the logs of partitions by position.
pub struct Merge {
    scans: Vec<(Scan, Partition)>,
    /// Position of the run that each scan stands on, lowest first.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Merge {
    /// Opens the logs of these partitions at the runs that hold positions above `after`, up to `safe`.
    pub fn open(
        partitions: [bool; PARTITIONS],
        after: i64,
        safe: i64,
        snapshot: pg_sys::Snapshot,
    ) -> Result<Self, Error> {
        let mut merge = Self { scans: Vec::new(), heads: BinaryHeap::new() };
        for partition in Partition::all().filter(|partition| partitions[partition.index()]) {
            let leaf = Leaf::open(Root::Log, partition, For::Reading)?;
            let mut scan = Scan::open(leaf, LeafIndex::ByNumber, snapshot, 2);
            // The run that the next position is in may begin at or below `after`.
            let mut above = after;
            if after > 0 {
                let lowest = after - RUN_EVENTS_MAX as i64;
                scan.find(&[(1, Key::Int8AtMost(after)), (1, Key::Int8Above(lowest))]);
                if scan.next(Direction::Backward) {
                    above = scan.row().0[log::POSITION].value() as i64 - 1;
                }
            }
            scan.find(&[(1, Key::Int8Above(above)), (1, Key::Int8AtMost(safe))]);
            merge.scans.push((scan, partition));
            merge.move_on(merge.scans.len() - 1);
        }
        Ok(merge)
    }

    fn move_on(&mut self, index: usize) {
        let scan = &mut self.scans[index].0;
        if scan.next(Direction::Forward) {
            self.heads.push(Reverse((scan.row().0[log::POSITION].value() as i64, index)));
        }
    }

    /// The scan that stands on the run with the lowest position.
    pub fn current(&self) -> Option<(&Scan, Partition)> {
        let Reverse((_, index)) = self.heads.peek()?;
        let (scan, partition) = &self.scans[*index];
        Some((scan, *partition))
    }

    /// Moves that scan on.
    pub fn advance(&mut self) {
        if let Some(Reverse((_, index))) = self.heads.pop() {
            self.move_on(index);
        }
    }
}
