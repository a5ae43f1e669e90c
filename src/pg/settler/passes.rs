//! When passes begin, who makes them, and what follows from them.
#![expect(unsafe_code, reason = "asks for a transaction's number")]

use super::partition::Forgettable;
use super::pass::{Ended, Pass, Step};
use super::process::{SLEEP_MAX, Settler};
use super::rows::{self, Removed};
use super::transact;
use crate::drain::failure::Failure;
use crate::model::partition::Partition;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::filter::Marks;
use crate::pg::hot::map::{HotPartition, State};
use crate::pg::session::xact::{now_us, with_snapshot_of_now};
use crate::pg::settings;
use crate::pg::worker::background::in_transaction;
use crate::pg::worker::state::one_line;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the second settler may take to begin with what it is asked for.
const START_MAX: Duration = Duration::from_secs(2);

/// How long it is not asked after that.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(60);

/// The batches of a partition.
struct There {
    first: i64,
    last: i64,
    /// when the first one was written
    since_us: i64,
}

impl Settler {
    /// Does the next step for a partition. Returns whether there is more to do now.
    pub(super) fn see_to(&mut self, index: usize, store: u32) -> Result<bool, Failure> {
        self.forget(index, store)?;
        // One pass at a time: each may take as much memory as it is allowed to.
        let is_passing = self.partitions.iter().any(|of| of.pass.is_some());
        let of = &self.partitions[index];
        let Some(known) = of.known.filter(|known| known.may_be_settled()) else {
            return Ok(false);
        };
        if of.pass.is_none() {
            let request = self.control.pass_request();
            if request.partition() == Some(of.partition) {
                return Ok(false);
            }
            let may_ask = !of.must_pass_here
                && of.behind.is_none()
                && request.partition().is_none()
                && Instant::now() >= self.may_ask_at;
            if is_passing && !may_ask || !self.is_due(index, store, known)? {
                return Ok(false);
            }
            if is_passing {
                self.ask_second_settler(index, store);
                return Ok(false);
            }
            let of = &mut self.partitions[index];
            of.pass = Pass::begin(of.partition, store, of.behind.take())?;
        }
        let of = &mut self.partitions[index];
        let Some(pass) = &mut of.pass else { return Ok(false) };
        match pass.step()? {
            Step::Settled(0) => {}
            Step::Settled(_) => self.control.has_settled(),
            Step::Ended(ended) => {
                of.pass = None;
                of.must_pass_here = false;
                self.ended(index, store, ended);
            }
        }
        Ok(true)
    }

    /// Whether a pass over a partition is to begin now.
    fn is_due(&mut self, index: usize, store: u32, known: HotPartition) -> Result<bool, Failure> {
        let of = &mut self.partitions[index];
        let wishes = self.control.of(of.partition);
        let wanted = wishes.wanted.load(Ordering::SeqCst);
        let is_wanted = wanted > 0 || known.state == State::Cooling;
        if Instant::now() < of.due && !(is_wanted && of.backoff.failures() == 0) {
            return Ok(false);
        }
        let bytes = wishes.bytes.load(Ordering::Relaxed);
        let Some(there) = there(of.partition)? else {
            // Unless there is more by now.
            let (order, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
            let _ = wishes.wanted.compare_exchange(wanted, 0, order, order);
            let _ = wishes.bytes.compare_exchange(bytes, 0, relaxed, relaxed);
            self.nothing_is_left(index, store, known)?;
            return Ok(false);
        };
        if let Some(marks) = Marks::claim(of.partition, store) {
            if there.first <= marks.settled() {
                // They were not there before: a dump was restored into this store.
                marks.reset();
            }
            marks.keep(known.settled_batch.max(there.last));
            marks.set_settled(there.first - 1);
        }
        let age_us = now_us().saturating_sub(there.since_us).max(0) as u64;
        let interval = settings::settle_interval();
        let left = interval.saturating_sub(Duration::from_micros(age_us));
        let is_full = self.control.unsettled_bytes() > settings::hot_max_bytes() / 2;
        let is_due = left.is_zero() || is_wanted || is_full;
        if !is_due {
            of.due = Instant::now() + left.min(SLEEP_MAX);
        }
        Ok(is_due)
    }

    /// Asks the second settler for a pass, which the launcher starts if it does not run.
    fn ask_second_settler(&mut self, index: usize, store: u32) {
        let request = self.control.pass_request();
        request.ask(self.partitions[index].partition, store);
        self.asked_at = Instant::now();
        if request.pid().is_none() {
            self.queues.wake_launcher();
        }
    }

    /// Sees what has become of the pass that the second settler was asked for.
    pub(super) fn see_to_second_settler(&mut self, store: u32) {
        let request = self.control.pass_request();
        if let Some((partition, incarnation, end)) = request.result()
            && incarnation == store
        {
            let index = partition.index();
            let Some(end) = end else {
                self.partitions[index].must_pass_here = true;
                return;
            };
            let removed = Removed { events: end.removed_events, bytes: end.removed_bytes };
            let ended = Ended {
                up_to: end.up_to,
                settled: end.settled,
                removed,
                transaction: pg_sys::TransactionId::from(end.transaction),
                reason: end.reason,
                behind: None,
            };
            // What is left behind is settled here, where it is known which streams have to wait.
            self.partitions[index].must_pass_here = ended.settled < ended.up_to;
            self.ended(index, store, ended);
        } else if request.is_asked() && self.asked_at.elapsed() > START_MAX && request.withdraw() {
            // There is no room for another process.
            self.may_ask_at = Instant::now() + NO_ROOM_PAUSE;
        }
    }

    /// A partition cannot be settled now. A pass begins anew: what was settled has been marked.
    pub(super) fn partition_failed(&mut self, index: usize, failure: &Failure) {
        let of = &mut self.partitions[index];
        of.pass = None;
        of.due = Instant::now() + of.backoff.failed();
        self.control.of(of.partition).error.set(&one_line(failure));
    }

    fn ended(&mut self, index: usize, store: u32, ended: Ended) {
        let of = &mut self.partitions[index];
        let wishes = self.control.of(of.partition);
        let bytes = &wishes.bytes;
        let _ = bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            Some(bytes.saturating_sub(ended.removed.bytes))
        });
        wishes.settled_events.fetch_add(ended.removed.events, Ordering::Relaxed);
        if let Some(marks) = Marks::claim(of.partition, store) {
            marks.set_settled(ended.settled);
        }
        let Ended { transaction, settled, up_to: forgotten, .. } = ended;
        of.forgettable.push_back(Forgettable { transaction, settled, forgotten });
        // As long as the next pass begins behind this one, what is left there is still left.
        if ended.reason.is_some() || ended.behind.is_none() {
            wishes.error.set(ended.reason.as_deref().unwrap_or_default());
        }
        if let Some(known) = &mut of.known {
            known.settled_batch = known.settled_batch.max(ended.up_to);
        }
        of.behind = ended.behind;
        if of.behind.is_some() {
            of.due = Instant::now();
        } else if ended.settled < ended.up_to {
            of.due = Instant::now() + of.backoff.failed();
        } else {
            of.backoff.succeeded();
            of.due = Instant::now();
        }
        let wanted = &wishes.wanted;
        let now = wanted.load(Ordering::SeqCst);
        if ended.settled >= now {
            // Unless somebody wants more by now.
            let _ = wanted.compare_exchange(now, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.control.has_progressed();
    }

    /// A partition has no batches.
    fn nothing_is_left(
        &mut self,
        index: usize,
        store: u32,
        known: HotPartition,
    ) -> Result<(), Failure> {
        let of = &mut self.partitions[index];
        let wishes = self.control.of(of.partition);
        if let Some(marks) = Marks::claim(of.partition, store) {
            marks.keep(known.settled_batch);
            marks.set_settled(known.settled_batch);
            if marks.settled_for_all() < known.settled_batch && of.forgettable.is_empty() {
                let settled = known.settled_batch;
                let transaction = transaction_of_now()?;
                of.forgettable.push_back(Forgettable { transaction, settled, forgotten: settled });
            }
        }
        wishes.error.set("");
        of.due = Instant::now() + SLEEP_MAX;
        if known.state == State::Cooling {
            let is_cold = transact(|| rows::end_cooling(of.partition))?;
            of.due = Instant::now();
            if is_cold && let Some(number) = wishes.cool.pending() {
                wishes.cool.answer(number, None);
            }
        }
        self.control.has_progressed();
        Ok(())
    }

    /// Forgets what no snapshot shows any more.
    fn forget(&mut self, index: usize, store: u32) -> Result<(), Failure> {
        let of = &mut self.partitions[index];
        let Some(first) = of.forgettable.front().copied() else { return Ok(()) };
        if !in_transaction(|| rows::is_seen_by_all(first.transaction))? {
            return Ok(());
        }
        of.forgettable.pop_front();
        if let Some(marks) = Marks::claim(of.partition, store) {
            marks.set_settled_for_all(first.settled);
        }
        if let Some(sidecar) = self.sidecar.as_mut().filter(|_| of.is_compared) {
            // If that fails it is away, and is opened again.
            let _ = sidecar.index.forget(of.partition, first.forgotten);
            sidecar.index.show(of.partition);
        }
        Ok(())
    }
}

/// What is in the table; `None`: nothing.
fn there(partition: Partition) -> Result<Option<There>, Failure> {
    transact(|| {
        with_snapshot_of_now(|snapshot| {
            let mut batches = Batches::open(partition, snapshot)?;
            let Some(last) = batches.last() else { return Ok(None) };
            let first = batches.first();
            Ok(first.map(|(first, since_us)| There { first, last, since_us }))
        })
    })
}

/// A transaction that ends now: what is the case before it is so for all snapshots when it is seen by all.
pub fn transaction_of_now() -> Result<pg_sys::TransactionId, Failure> {
    // SAFETY: in a transaction.
    transact(|| Ok(unsafe { pg_sys::GetTopTransactionId() }))
}
