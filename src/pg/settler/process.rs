//! The settler's process: its loop. It sees to the partitions in turn, one step of each at a time.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use super::catch_up::catch_up;
use super::pass::{Behind, Ended, Pass, Step};
use super::rows::{self, Removed};
use super::sidecar::Sidecar;
use super::{ITSELF, transact};
use crate::drain::backoff::Backoff;
use crate::drain::failure::{Failure, Remedy};
use crate::drain::thermostat::{Change, Thermostat};
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::control::Control;
use crate::pg::hot::filter::Marks;
use crate::pg::hot::map::{self, HotPartition, State};
use crate::pg::queue::Queues;
use crate::pg::session::xact::{now_us, with_snapshot_of_now};
use crate::pg::settings;
use crate::pg::sidecar::Index;
use crate::pg::worker::background::{
    Termination, in_transaction, is_shutdown_requested, see_to_signals, set_up_signals, sleep,
};
use crate::pg::worker::batch::lock_store;
use crate::pg::worker::process::{connect, end_if_database_is_wanted, rest};
use crate::pg::worker::state::{one_line, report_statistics};
use pgrx::pg_sys;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the settler sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// How often it is looked whether a partition is to be hot.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The settler's function.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn allsource_settler_main(_argument: pg_sys::Datum) {
    set_up_signals(Termination::AfterWork);
    let (Ok(queues), Some(control)) = (Queues::open(), Control::get()) else { return };
    connect();
    if !control.claim() {
        return;
    }
    // SAFETY: the callback runs while shared memory is still there.
    unsafe { pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::from(0)) };
    let mut settler = Settler {
        queues,
        control,
        store: None,
        partitions: Partition::all().map(OfPartition::new).collect(),
        sidecar: None,
        next_look: Instant::now(),
        asked_at: Instant::now(),
        may_ask_at: Instant::now(),
        rounds: 0,
        backoff: Backoff::default(),
        last_message: String::new(),
    };
    while !is_shutdown_requested() {
        settler.step();
    }
    drop(settler);
    // SAFETY: ends the process; with 1 it is not reported as a crash.
    unsafe { pg_sys::proc_exit(1) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave(_code: std::ffi::c_int, _argument: pg_sys::Datum) {
    if let Some(control) = Control::get() {
        control.leave();
    }
    if let Ok(queues) = Queues::open() {
        queues.wake_launcher();
    }
}

/// How long the second settler may take to begin with what it is asked for.
const START_MAX: Duration = Duration::from_secs(2);

/// How long it is not asked after that.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(60);

/// What the settler knows of a partition.
struct OfPartition {
    partition: Partition,
    known: Option<HotPartition>,
    pass: Option<Pass>,
    /// what the last pass has left, if the next one is to begin behind it
    behind: Option<Behind>,
    /// whether the next pass is not one for the second settler
    must_pass_here: bool,
    /// when it is looked at again, if nothing happens before
    due: Instant,
    backoff: Backoff,
    thermostat: Thermostat,
    /// what may be forgotten when no snapshot shows it any more
    forgettable: VecDeque<Forgettable>,
    /// whether the sidecar was compared with the table since it was opened
    is_compared: bool,
}

/// What was removed by a transaction.
#[derive(Clone, Copy)]
struct Forgettable {
    transaction: pg_sys::TransactionId,
    /// up to which batch nothing is left
    settled: i64,
    /// up to which batch only what passes have left is in the table
    forgotten: i64,
}

impl OfPartition {
    fn new(partition: Partition) -> Self {
        Self {
            partition,
            known: None,
            pass: None,
            behind: None,
            must_pass_here: false,
            due: Instant::now(),
            backoff: Backoff::default(),
            thermostat: Thermostat::default(),
            forgettable: VecDeque::new(),
            is_compared: false,
        }
    }
}

/// The batches of a partition.
struct There {
    first: i64,
    last: i64,
    /// when the first one was written
    since_us: i64,
}

struct Settler {
    queues: Queues,
    control: Control,
    store: Option<u32>,
    partitions: Vec<OfPartition>,
    /// opened when there is a hot partition
    sidecar: Option<Sidecar>,
    /// when partitions are next looked at, whether they are to be hot or cold
    next_look: Instant,
    /// when the second settler was asked for a pass
    asked_at: Instant,
    /// before that it is not asked
    may_ask_at: Instant,
    rounds: usize,
    backoff: Backoff,
    last_message: String,
}

impl Settler {
    /// One round of the loop.
    fn step(&mut self) {
        see_to_signals();
        end_if_database_is_wanted();
        let is_paused = self.queues.paused();
        self.control.set_paused(is_paused && !self.control.pass_request().is_taken());
        if is_paused {
            sleep(SLEEP_MAX);
            return;
        }
        match self.round() {
            Ok(true) => self.all_is_well(),
            Ok(false) => {
                self.all_is_well();
                report_statistics(true);
                sleep(SLEEP_MAX);
            }
            Err(failure) => self.back_off(&failure),
        }
    }

    /// Does a step of what is to be done. Returns whether there is more.
    fn round(&mut self) -> Result<bool, Failure> {
        self.load()?;
        let Some(store) = self.store else { return Ok(false) };
        self.see_to_requests(store)?;
        self.see_to_thermostats(store)?;
        self.see_to_sidecar(store);
        self.see_to_second_settler(store);
        let mut is_busy = self.apply()?;
        let mut first_failure = None;
        // Each round begins with another partition.
        self.rounds = self.rounds.wrapping_add(1);
        for number in 0..self.partitions.len() {
            let index = (self.rounds + number) % self.partitions.len();
            let known = self.partitions[index].known;
            if known.is_none_or(|known| known.state == State::Never) {
                continue;
            }
            match self.see_to(index, store) {
                // In between, or readers would have to read what comes in meanwhile from the table.
                Ok(true) => {
                    self.apply()?;
                    is_busy = true;
                }
                Ok(false) => {}
                Err(failure) => {
                    self.partition_failed(index, &failure);
                    if failure.remedy() == Remedy::TryLater {
                        first_failure.get_or_insert(failure);
                    }
                }
            }
        }
        first_failure.map_or(Ok(is_busy), Err)
    }

    /// Reads which partitions are hot.
    fn load(&mut self) -> Result<(), Failure> {
        let load = || -> Result<_, Error> {
            let store = lock_store()?;
            Ok(match store {
                Some(store) => Some((store, map::get_to_write()?)),
                None => None,
            })
        };
        let loaded = transact(load)?;
        let store = loaded.map(|(store, _)| store);
        if store != self.store {
            self.store = store;
            self.partitions = Partition::all().map(OfPartition::new).collect();
            self.sidecar = None;
        }
        for of in &mut self.partitions {
            let known = loaded.map(|(_, map)| map[of.partition.index()]);
            let is_ours = |known: HotPartition| known.state != State::Never && known.is_ours;
            if !of.known.is_some_and(is_ours) && known.is_some_and(is_ours) {
                self.control
                    .of(of.partition)
                    .bytes
                    .store(transact(|| rows::batch_bytes(of.partition))?, Ordering::Relaxed);
            }
            of.known = known.filter(|known| known.state != State::Never);
        }
        Ok(())
    }

    /// Makes partitions hot, or begins to make them cold, as sessions have asked.
    fn see_to_requests(&mut self, store: u32) -> Result<(), Failure> {
        for partition in Partition::all() {
            let wishes = self.control.of(partition);
            if let Some(number) = wishes.heat.pending() {
                transact(|| rows::heat(partition, store, false))?;
                if let Some(number) = wishes.cool.pending() {
                    wishes.cool.answer(number, Some("it was made hot again"));
                }
                wishes.heat.answer(number, None);
            }
            let known = self.partitions[partition.index()].known;
            let is_wanted =
                wishes.cool.pending().is_some() || wishes.wanted.load(Ordering::SeqCst) > 0;
            if is_wanted && known.is_some_and(|known| !known.is_ours) {
                transact(|| rows::adopt(partition, store))?;
            }
            if let Some(number) = wishes.cool.pending() {
                match known.map(|known| known.state) {
                    Some(State::Hot) => {
                        transact(|| rows::begin_cooling(partition))?;
                    }
                    Some(State::Cooling) => {}
                    Some(State::Cold | State::Never) | None => wishes.cool.answer(number, None),
                }
            }
        }
        self.load()
    }

    /// Makes partitions hot, or begins to make them cold, by themselves.
    fn see_to_thermostats(&mut self, store: u32) -> Result<(), Failure> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK_INTERVAL;
        let threshold = settings::heat_threshold().filter(|_| Index::IS_SUPPORTED);
        for of in &mut self.partitions {
            let count = self.control.of(of.partition).scattered_events.load(Ordering::Relaxed);
            let change = match threshold {
                Some(threshold) => of.thermostat.look(now, count, threshold),
                None => None,
            };
            let partition = of.partition;
            let is_ours = of.known.is_none_or(|known| known.is_ours);
            let change = match (change, of.known.map(|known| known.state)) {
                (Some(Change::Heat), None | Some(State::Cold)) if is_ours => {
                    transact(|| rows::heat(partition, store, true))
                }
                (Some(Change::Cool), Some(State::Hot))
                    if of.known.is_some_and(|known| known.is_automatic) =>
                {
                    transact(|| rows::begin_cooling(partition))
                }
                _ => continue,
            };
            change?;
        }
        Ok(())
    }

    /// Opens the sidecar when there is something for it, and does with it what sessions have asked for.
    fn see_to_sidecar(&mut self, store: u32) {
        let is_needed =
            self.partitions.iter().any(|of| of.known.is_some_and(|known| known.may_be_settled()));
        if self.sidecar.is_none() && is_needed && Index::IS_SUPPORTED {
            self.sidecar = Some(Sidecar::open(store));
        }
        let (rebuild, checkpoint) = (self.control.rebuild(), self.control.checkpoint());
        let Some(sidecar) = &mut self.sidecar else {
            for ticket in [rebuild, checkpoint] {
                if let Some(number) = ticket.pending() {
                    ticket.answer(number, Some("there is no hot partition"));
                }
            }
            return;
        };
        if let Some(number) = rebuild.pending() {
            let is_there = sidecar.rebuild();
            self.partitions.iter_mut().for_each(|of| of.is_compared = false);
            rebuild.answer(number, (!is_there).then(|| sidecar.error()).as_deref());
        }
        if let Some(number) = checkpoint.pending() {
            let path = self.control.checkpoint_path().get().unwrap_or_default();
            let copied = sidecar.index.checkpoint(Path::new(&path));
            checkpoint.answer(number, copied.err().map(|error| error.to_string()).as_deref());
        }
        if sidecar.keep_open() {
            self.partitions.iter_mut().for_each(|of| of.is_compared = false);
        }
    }

    /// Applies new batches to the sidecar, as long as somebody reads tails: otherwise most batches are
    /// settled before anybody asks for what is in them. Returns whether there are more.
    fn apply(&mut self) -> Result<bool, Failure> {
        if !self.control.are_tails_read() {
            return Ok(false);
        }
        let Some(sidecar) = &mut self.sidecar else { return Ok(false) };
        let mut is_busy = false;
        for of in &mut self.partitions {
            let Some(known) = of.known.filter(|known| known.may_be_settled()) else {
                continue;
            };
            let Some(applied) = sidecar.index.applied(of.partition) else { return Ok(false) };
            let marks = self.store.and_then(|store| Marks::claim(of.partition, store));
            let last = marks.filter(Marks::are_kept).map_or(i64::MAX, |marks| marks.last_batch());
            if of.is_compared && applied.batch_no >= last {
                continue;
            }
            let (index, is_compared) = (&mut sidecar.index, of.is_compared);
            let applied = transact(|| catch_up(index, of.partition, applied, is_compared));
            let applied = match applied {
                Ok(Some(applied)) => applied,
                Ok(None) => return Ok(false),
                Err(failure) if failure.remedy() == Remedy::TryLater => return Err(failure),
                Err(failure) => {
                    // Tails are read from the table then.
                    of.is_compared = false;
                    self.control.of(of.partition).error.set(&one_line(&failure));
                    continue;
                }
            };
            if !of.is_compared {
                of.is_compared = true;
                let transaction = transaction_of_now()?;
                let (settled, forgotten) =
                    (applied.first - 1, known.settled_batch.min(applied.first - 1));
                of.forgettable.push_back(Forgettable { transaction, settled, forgotten });
            }
            sidecar.index.show(of.partition);
            sidecar.has_applied |= applied.batches > 0;
            is_busy |= applied.is_more;
        }
        Ok(is_busy)
    }

    /// Does the next step for a partition. Returns whether there is more to do now.
    fn see_to(&mut self, index: usize, store: u32) -> Result<bool, Failure> {
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
    fn see_to_second_settler(&mut self, store: u32) {
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
    fn partition_failed(&mut self, index: usize, failure: &Failure) {
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

    fn all_is_well(&mut self) {
        self.backoff.succeeded();
        if !self.last_message.is_empty() {
            self.last_message.clear();
            self.control.error().set("");
        }
    }

    fn back_off(&mut self, failure: &Failure) {
        let message = one_line(failure);
        if message != self.last_message {
            pgrx::log!("{ITSELF} will try again, more and more rarely: {message}");
            self.control.error().set(&message);
            self.last_message = message;
        }
        rest(self.queues, self.backoff.failed(), SLEEP_MAX);
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
fn transaction_of_now() -> Result<pg_sys::TransactionId, Failure> {
    // SAFETY: in a transaction.
    transact(|| Ok(unsafe { pg_sys::GetTopTransactionId() }))
}
