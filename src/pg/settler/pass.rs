//! A pass over a partition.

use super::piece::{Leftover, Settled, settle_page};
use super::rows::{Removed, end_pass};
use super::source::{Source, StreamName, StreamTail};
use super::{lock_this_store, transact};
use crate::drain::failure::Failure;
use crate::model::memory::OutOfMemory;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::collections::BTreeSet;

/// If more streams of a pass fail, the partition is at fault, and not some of its streams.
const FAILED_MAX: usize = 1_000;

/// What a pass has left, where there are more batches behind those that it has read: there was no memory for
/// more. The next pass begins behind it, or it would read the same again.
#[derive(Debug)]
pub struct Behind {
    /// the last batch that was read
    after: i64,
    /// streams that were passed over: their later events must wait
    streams: BTreeSet<StreamName>,
    /// the first batch that has events of them
    first_left: i64,
    /// how many passes have begun behind others
    passes: usize,
}

/// After so many passes the next one begins with the first batch again: what was in the way may be gone.
const PASSES_BEHIND_MAX: usize = 16;

/// A pass that has begun.
#[derive(Debug)]
pub struct Pass {
    partition: Partition,
    store: u32,
    source: Source,
    /// streams that were read and not settled, because something was in the way
    page: Vec<StreamTail>,
    leftovers: Vec<Leftover>,
    /// what the passes before have left
    behind: Option<Behind>,
    reason: Option<String>,
    failed: usize,
}

/// How a pass has ended.
#[derive(Debug)]
pub struct Ended {
    /// up to which batch it has settled
    pub up_to: i64,
    /// up to which batch nothing is left
    pub settled: i64,
    /// what was removed from the table
    pub removed: Removed,
    /// the transaction that has removed it
    pub transaction: pg_sys::TransactionId,
    /// why a stream was passed over
    pub reason: Option<String>,
    /// where the next pass is to begin; `None`: with the first batch
    pub behind: Option<Behind>,
}

/// How far a pass has come.
#[derive(Debug)]
pub enum Step {
    /// So many events were settled, and there are more.
    Settled(u64),
    /// It has ended.
    Ended(Ended),
}

impl Pass {
    /// Begins a pass over the batches of a partition; `None` if there are none.
    pub fn begin(
        partition: Partition,
        store: u32,
        behind: Option<Behind>,
    ) -> Result<Option<Self>, Failure> {
        let after = behind.as_ref().map_or(i64::MIN, |behind| behind.after);
        let source = transact(|| Source::read(partition, after))?;
        Ok(source.map(|source| Self {
            partition,
            store,
            source,
            page: Vec::new(),
            leftovers: Vec::new(),
            behind,
            reason: None,
            failed: 0,
        }))
    }

    /// Settles the next streams, or removes what is settled. After an error the step can be tried again.
    pub fn step(&mut self) -> Result<Step, Failure> {
        if self.page.is_empty() {
            self.page = self.source.next_page()?;
        }
        if self.page.is_empty() {
            return self.end();
        }
        self.pass_over_waiting().map_err(|error| Error::from(error).to_failure())?;
        let settled = settle_page(self.store, self.partition, &self.page)?;
        self.page.clear();
        let Settled { events, leftovers, reason, failed } = settled;
        self.leftovers.extend(leftovers);
        self.reason = reason.or(self.reason.take());
        self.failed += failed;
        if self.failed > FAILED_MAX {
            let reason = self.reason.clone().unwrap_or_default();
            let what = format!("too many streams cannot be settled; one of them: {reason}");
            return Err(Error::Internal { what }.to_failure());
        }
        Ok(Step::Settled(events))
    }

    /// Leaves the streams of the page that a pass before has left.
    fn pass_over_waiting(&mut self) -> Result<(), OutOfMemory> {
        let Some(behind) = self.behind.as_ref().filter(|behind| !behind.streams.is_empty()) else {
            return Ok(());
        };
        for stream in std::mem::take(&mut self.page) {
            if behind.streams.contains(&stream.name()?) {
                self.leftovers.push(Leftover::of(&stream)?);
            } else {
                self.page.push(stream);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Step, Failure> {
        let (partition, up_to) = (self.partition, self.source.up_to());
        let after = self.behind.as_ref().map_or(i64::MIN, |behind| behind.after);
        let leftovers = &self.leftovers;
        let end = || -> Result<_, Error> {
            lock_this_store(self.store)?;
            let removed = end_pass(partition, after, up_to, leftovers)?;
            // SAFETY: in a transaction that has written.
            #[expect(unsafe_code, reason = "asks for the transaction's number")]
            let transaction = unsafe { pg_sys::GetTopTransactionId() };
            Ok((removed, transaction))
        };
        let (removed, transaction) = transact(end)?;
        let mut behind = self.behind.take();
        if let Some(first) = leftovers.iter().filter_map(|left| left.batches.first()).min() {
            let streams = BTreeSet::new();
            let behind = behind.get_or_insert(Behind {
                after: up_to,
                streams,
                first_left: *first,
                passes: 0,
            });
            behind.first_left = behind.first_left.min(*first);
            behind.streams.extend(self.leftovers.drain(..).map(|left| left.name));
        }
        let first_left = behind.as_ref().map(|behind| behind.first_left);
        let is_last = self.source.is_last();
        let behind = behind
            .filter(|behind| !is_last && behind.passes < PASSES_BEHIND_MAX)
            .map(|behind| Behind { after: up_to, passes: behind.passes + 1, ..behind });
        Ok(Step::Ended(Ended {
            up_to,
            settled: first_left.map_or(up_to, |first| first - 1),
            removed,
            transaction,
            reason: self.reason.take(),
            behind,
        }))
    }
}
