//! What sessions ask the settler for. It does so at once, whatever becomes of their transaction.

use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::cluster::owners::check_may_write;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::control::{Control, Ticket};
use crate::pg::hot::filter::Marks;
use crate::pg::hot::map::{self, State};
use crate::pg::queue::Queues;
use crate::pg::queue::waiters::Waited;
use crate::pg::session::xact::{accept_invalidations, check_writable, with_snapshot_of_now};
use crate::pg::settings;
use crate::pg::shared::text::SharedText;
use crate::pg::tables::relation::{has_locked, sequence_oid};
use crate::pg::tables::rights::{check_admin, check_superuser};
use crate::pg::tables::schema::Sequence;
use crate::pg::write::flush::check_can_wait;
use pgrx::pg_sys;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const HOT_PARTITIONS: &str = "hot partitions";

/// Makes a partition hot.
pub fn heat(partition: Partition) -> Result<(), Error> {
    let control = open()?;
    if !cfg!(feature = "rocksdb") {
        return Err(Error::NoSidecar);
    }
    accept_invalidations();
    check_may_write(partition)?;
    ask(control, &control.of(partition).heat, "partition cannot be made hot", None)
}

/// Settles what a partition holds, and makes it cold.
pub fn cool(partition: Partition, timeout: Option<Duration>) -> Result<(), Error> {
    let control = open()?;
    let asked = ask(control, &control.of(partition).cool, "partition cannot be made cold", timeout);
    asked.map_err(|error| match error {
        Error::SettleTimeout { .. } => Error::SettleTimeout { reason: reason(control, partition) },
        error => error,
    })
}

/// Settles what was flushed before, in one partition or in all.
pub fn settle(partition: Option<Partition>, timeout: Option<Duration>) -> Result<(), Error> {
    let control = open()?;
    let deadline = deadline(timeout);
    accept_invalidations();
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    let mut targets = Vec::new();
    for partition in Partition::all().filter(|one| partition.is_none_or(|only| only == *one)) {
        if map::get(partition)?.state == State::Never {
            continue;
        }
        let last = with_snapshot_of_now(|snapshot| {
            Ok::<_, Error>(Batches::open(partition, snapshot)?.last())
        })?;
        if let (Some(last), Some(marks)) = (last, Marks::claim(partition, incarnation)) {
            control.of(partition).wanted.fetch_max(last, Ordering::SeqCst);
            targets.push((partition, marks, last));
        }
    }
    for (partition, marks, last) in targets {
        let is_settled = || (marks.settled() >= last).then_some(());
        if wait(control, deadline, is_settled)?.is_none() {
            return Err(Error::SettleTimeout { reason: reason(control, partition) });
        }
    }
    Ok(())
}

/// Makes the sidecar anew.
pub fn rebuild() -> Result<(), Error> {
    let control = open()?;
    ask(control, control.rebuild(), "sidecar cannot be made anew", None)
}

/// Copies the sidecar's files to a path. It is the server's, so only a superuser may name it.
pub fn checkpoint(path: &[u8]) -> Result<(), Error> {
    check_superuser("sidecar")?;
    let control = open()?;
    let what = "sidecar cannot be copied";
    let bytes_max = SharedText::BYTES_MAX;
    let path = std::str::from_utf8(path)
        .ok()
        .filter(|path| Path::new(path).is_absolute() && path.len() <= bytes_max);
    let Some(path) = path else { return Err(Error::BadPath { bytes_max }) };
    control.checkpoint_path().set(path);
    ask(control, control.checkpoint(), what, None)
}

/// Waits until the settler does nothing, because the workers are paused.
pub fn wait_until_paused() -> Result<(), Error> {
    let queues = Queues::of_this_database()?;
    if let Some(control) = Control::get() {
        control.wait_until(None, || {
            // The second settler goes on for a while without the settler.
            let rests = control.is_paused()
                || control.pid().is_none() && !control.pass_request().is_taken();
            (rests || !queues.paused()).then_some(())
        });
    }
    Ok(())
}

/// Why a partition is not settled.
fn reason(control: Control, partition: Partition) -> Option<String> {
    control.of(partition).error.get().or_else(|| control.error().get())
}

/// The settler, for a call that waits for it.
fn open() -> Result<Control, Error> {
    check_writable()?;
    check_admin(HOT_PARTITIONS)?;
    Queues::of_this_database()?;
    check_can_wait(&[true; PARTITIONS])?;
    // The settler keeps all who change it away.
    if has_locked(map::TABLE, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)? {
        return Err(Error::WaitWithLock { table: map::TABLE.into() });
    }
    Control::get().ok_or(Error::NoWorkerRuns)
}

/// Whether the settler does nothing, and will not before the workers are resumed.
fn is_paused(control: Control) -> Result<bool, Error> {
    Ok(Queues::open()?.paused() && control.is_paused())
}

fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

fn ask(
    control: Control,
    ticket: &Ticket,
    what: &'static str,
    timeout: Option<Duration>,
) -> Result<(), Error> {
    if is_paused(control)? {
        return Err(Error::WorkersPaused);
    }
    let number = ticket.ask();
    let answered = wait(control, deadline(timeout), || ticket.answer_to(number))?;
    match answered {
        Some(answer) => answer.map_err(|reason| Error::Settler { what, reason }),
        None => Err(Error::SettleTimeout { reason: None }),
    }
}

/// Waits until `check` returns something; `None` after the deadline. Without a settler it waits for
/// `allsource.enqueue_timeout` at most.
fn wait<T>(
    control: Control,
    deadline: Option<Instant>,
    mut check: impl FnMut() -> Option<T>,
) -> Result<Option<T>, Error> {
    enum Seen<T> {
        It(T),
        Paused,
        NoSettler,
    }
    let mut without_since: Option<Instant> = None;
    let waited = control.wait_until(deadline, || {
        if let Some(it) = check() {
            return Some(Seen::It(it));
        }
        if is_paused(control).unwrap_or(false) {
            return Some(Seen::Paused);
        }
        if control.pid().is_some() {
            without_since = None;
            return None;
        }
        let since = without_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= settings::enqueue_timeout()).then_some(Seen::NoSettler)
    });
    match waited {
        Waited::Done(Seen::It(it)) => Ok(Some(it)),
        Waited::Done(Seen::Paused) => Err(Error::WorkersPaused),
        Waited::Done(Seen::NoSettler) => Err(Error::NoWorkerRuns),
        Waited::TimedOut => Ok(None),
    }
}
