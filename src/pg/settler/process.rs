//! The settler's process: its loop. It sees to the partitions in turn, one step of each at a time.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use super::partition::OfPartition;
use super::rows;
use super::sidecar::Sidecar;
use super::{ITSELF, transact};
use crate::drain::backoff::Backoff;
use crate::drain::failure::{Failure, Remedy};
use crate::drain::thermostat::Change;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::control::Control;
use crate::pg::hot::map::{self, HotPartition, State};
use crate::pg::queue::Queues;
use crate::pg::settings;
use crate::pg::sidecar::Index;
use crate::pg::worker::background::{
    Termination, is_shutdown_requested, see_to_signals, set_up_signals, sleep,
};
use crate::pg::worker::batch::lock_store;
use crate::pg::worker::process::{connect, end_if_database_is_wanted, rest};
use crate::pg::worker::state::{one_line, report_statistics};
use pgrx::pg_sys;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a settler sleeps at most.
pub const SLEEP_MAX: Duration = Duration::from_millis(500);

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

/// The settler. Its partitions are seen to in `passes`, its sidecar in `applying`.
pub struct Settler {
    pub(super) queues: Queues,
    pub(super) control: Control,
    pub(super) store: Option<u32>,
    pub(super) partitions: Vec<OfPartition>,
    /// opened when there is a hot partition
    pub(super) sidecar: Option<Sidecar>,
    /// when partitions are next looked at, whether they are to be hot or cold
    next_look: Instant,
    /// when the second settler was asked for a pass
    pub(super) asked_at: Instant,
    /// before that it is not asked
    pub(super) may_ask_at: Instant,
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
                let is_hot = transact(|| rows::heat(partition, store, false))?;
                if let Some(number) = wishes.cool.pending().filter(|_| is_hot) {
                    wishes.cool.answer(number, Some("it was made hot again"));
                }
                wishes.heat.answer(
                    number,
                    (!is_hot).then_some("it is about to be moved to another group"),
                );
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
                    transact(|| rows::heat(partition, store, true)).map(|_| ())
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
