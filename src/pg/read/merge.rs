//! Merging the logs of partitions by position.

use crate::model::partition::Partition;
use crate::model::run::RUN_EVENTS_MAX;
use crate::pg::error::Error;
use crate::pg::tables::relation::{For, Leaf};
use crate::pg::tables::scan::{Direction, Key, Scan};
use crate::pg::tables::schema::{LeafIndex, Root, log};
use pgrx::pg_sys;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// the partition
    pub partition: Partition,
    /// the position behind which to begin
    pub after: i64,
    /// whether no run holds both `after` and the position behind it
    pub between_runs: bool,
}

/// Merges the logs of partitions by position.
pub struct Merge {
    scans: Vec<(Scan, Partition)>,
    /// Position of the run that each scan stands on, lowest first.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Merge {
    /// Opens the logs of partitions, each at the run that holds positions above one, up to `safe`.
    pub fn open(
        partitions: impl Iterator<Item = Begin>,
        safe: i64,
        snapshot: pg_sys::Snapshot,
    ) -> Result<Self, Error> {
        let mut merge = Self { scans: Vec::new(), heads: BinaryHeap::new() };
        for Begin { partition, after, between_runs } in partitions {
            let leaf = Leaf::open(Root::Log, partition, For::Reading)?;
            let mut scan = Scan::open(leaf, LeafIndex::ByNumber, snapshot, 2);
            // The run that the next position is in may begin at or below `after`.
            let mut above = after;
            if after > 0 && !between_runs {
                let lowest = after - RUN_EVENTS_MAX as i64;
                scan.find(&[(1, Key::Int8AtMost(after)), (1, Key::Int8Above(lowest))]);
                if scan.next(Direction::Backward) {
                    above = scan.row().0[log::POSITION].value() as i64 - 1;
                }
            }
            scan.find(&[(1, Key::Int8Above(above)), (1, Key::Int8AtMost(safe))]);
            if let Some(position) = next_position(&mut scan) {
                merge.heads.push(Reverse((position, merge.scans.len())));
                merge.scans.push((scan, partition));
            }
        }
        Ok(merge)
    }

    /// The scan that stands on the run with the lowest position.
    pub fn current(&self) -> Option<(&Scan, Partition)> {
        let Reverse((_, index)) = self.heads.peek()?;
        let (scan, partition) = &self.scans[*index];
        Some((scan, *partition))
    }

    /// Advances that scan.
    pub fn advance(&mut self) {
        let Some(mut head) = self.heads.peek_mut() else { return };
        let index = head.0.1;
        match next_position(&mut self.scans[index].0) {
            Some(position) => *head = Reverse((position, index)),
            None => drop(PeekMut::pop(head)),
        }
    }
}

/// The position of the next run, on which the scan then stands.
fn next_position(scan: &mut Scan) -> Option<i64> {
    if !scan.next(Direction::Forward) {
        return None;
    }
    scan.prefetch_next();
    Some(scan.row().0[log::POSITION].value() as i64)
}
