//! A pass over a partition.

use super::piece::{Leftover, Settled, settle_page};
use super::rows::{Removed, end_pass};
use super::source::{Source, StreamTail};
use super::transact;
use crate::drain::failure::Failure;
use crate::model::partition::Partition;
use crate::pg::error::Error;
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
}

impl Pass {
    /// Begins a pass over the batches of a partition; `None` if there are none.
    pub fn begin(partition: Partition, store: u32) -> Result<Option<Self>, Failure> {
        let source = transact(|| Source::read(partition))?;
        Ok(source.map(|source| Self {
            partition,
            store,
            source,
            page: Vec::new(),
            leftovers: Vec::new(),
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

    fn end(&mut self) -> Result<Step, Failure> {
        let (partition, up_to) = (self.partition, self.source.up_to());
        let leftovers = &self.leftovers;
        let end = || -> Result<_, Error> {
            if lock_store()? != Some(self.store) {
                return Err(Error::Missing { object: "position_seq".into() });
            }
            let removed = end_pass(partition, up_to, leftovers)?;
            // SAFETY: in a transaction that has written.
            #[expect(unsafe_code, reason = "asks for the transaction's number")]
            let transaction = unsafe { pg_sys::GetTopTransactionId() };
            Ok((removed, transaction))
        };
        let (removed, transaction) = transact(end)?;
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
