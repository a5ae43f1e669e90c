//! A pass over a partition.

use super::piece::{Leftover, Settled, settle_page};
use super::rows::{Removed, end_pass, events_up_to, quarantine};
use super::source::{Source, StreamTail};
use super::transact;
use crate::drain::failure::Failure;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::sidecar::Index;
use crate::pg::worker::batch::lock_store;
use pgrx::pg_sys;

/// If more streams of a pass cannot be settled, the partition is at fault, and not some of its streams.
const LEFTOVERS_MAX: usize = 1_000;

/// A pass that has begun.
#[derive(Debug)]
pub struct Pass {
    partition: Partition,
    store: u32,
    source: Source,
    /// how many events it has read
    seen: u64,
    /// streams that were read and not settled, because something was in the way
    page: Vec<StreamTail>,
    leftovers: Vec<Leftover>,
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
}

/// How far a pass has come.
#[derive(Debug)]
pub enum Step {
    /// Events were settled, and there are more.
    Settled,
    /// It has ended.
    Ended(Ended),
    /// It has read other events than the table has. Nothing was removed, and the partition was put into
    /// quarantine.
    Quarantined,
}

impl Pass {
    /// Begins a pass over all that a partition holds. Passes have settled up to batch `settled`, but for
    /// what they have left, and the sidecar has the batches up to `applied`, if it is there. `None` if
    /// there is nothing.
    pub fn begin(
        partition: Partition,
        store: u32,
        settled: i64,
        applied: Option<i64>,
    ) -> Result<Option<Self>, Failure> {
        let read = || -> Result<Option<Source>, Error> {
            if let Some(applied) = applied
                && let Some(source) = Source::walking(partition, settled, applied.max(settled))?
            {
                return Ok(Some(source));
            }
            Source::in_memory(partition, i64::MIN)
        };
        let source = transact(read)?;
        Ok(source.map(|source| Self {
            partition,
            store,
            source,
            seen: 0,
            page: Vec::new(),
            leftovers: Vec::new(),
            reason: None,
            failed: 0,
        }))
    }

    /// Settles the next streams, or removes what is settled. After an error the step can be tried again.
    pub fn step(&mut self, index: Option<&mut Index>) -> Result<Step, Failure> {
        if self.page.is_empty() {
            self.page = self.source.next_page(index)?;
            self.seen += self.page.iter().map(|stream| stream.tail.len() as u64).sum::<u64>();
        }
        if self.page.is_empty() {
            return self.end();
        }
        self.pass_over_later_parts();
        let settled = settle_page(self.store, self.partition, &self.page)?;
        self.page.clear();
        let Settled { leftovers, reason, failed, .. } = settled;
        self.leftovers.extend(leftovers);
        self.reason = reason.or(self.reason.take());
        self.failed += failed;
        if self.leftovers.len() > LEFTOVERS_MAX {
            let reason = self.reason.clone().unwrap_or_default();
            let what = format!("too many streams cannot be settled; one of them: {reason}");
            return Err(Error::Internal { what }.to_failure());
        }
        Ok(Step::Settled)
    }

    /// If a part of a stream was passed over, the next one is too.
    fn pass_over_later_parts(&mut self) {
        if let (Some(last), Some(first)) = (self.leftovers.last_mut(), self.page.first())
            && last.name == first.name
        {
            last.batches.extend(Leftover::of(first).batches);
            self.page.remove(0);
        }
    }

    fn end(&mut self) -> Result<Step, Failure> {
        let (partition, up_to) = (self.partition, self.source.up_to());
        let leftovers = &self.leftovers;
        let end = || -> Result<_, Error> {
            if lock_store()? != Some(self.store) {
                return Err(Error::Missing { object: "position_seq".into() });
            }
            if events_up_to(partition, up_to)? != self.seen {
                quarantine(partition)?;
                return Ok(None);
            }
            let removed = end_pass(partition, up_to, leftovers)?;
            // SAFETY: in a transaction that has written.
            #[expect(unsafe_code, reason = "asks for the transaction's number")]
            let transaction = unsafe { pg_sys::GetTopTransactionId() };
            Ok(Some((removed, transaction)))
        };
        let ended = transact(end)?;
        let Some((removed, transaction)) = ended else { return Ok(Step::Quarantined) };
        let first_left = leftovers.iter().filter_map(|leftover| leftover.batches.first()).min();
        Ok(Step::Ended(Ended {
            up_to,
            settled: first_left.map_or(up_to, |first| first - 1),
            removed,
            transaction,
            reason: self.reason.take(),
        }))
    }
}
