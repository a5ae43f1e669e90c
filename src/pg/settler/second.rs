//! The second settler: a process that makes passes for the settler, while that one makes a pass itself. The
//! launcher starts it when the settler asks for a pass, and it ends when there was nothing to do for a while.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use super::pass::{Ended, Pass, Step};
use crate::drain::failure::Failure;
use crate::model::partition::Partition;
use crate::pg::hot::control::Control;
use crate::pg::hot::pass_request::PassEnd;
use crate::pg::queue::Queues;
use crate::pg::worker::background::{
    Termination, is_shutdown_requested, see_to_signals, set_up_signals, sleep,
};
use crate::pg::worker::process::{connect, end_if_database_is_wanted};
use crate::pg::worker::state::report_statistics;
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How long it waits for something to do.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long it sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// The second settler's function.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn allsource_second_settler_main(_argument: pg_sys::Datum) {
    set_up_signals(Termination::AfterWork);
    let (Ok(queues), Some(control)) = (Queues::open(), Control::get()) else { return };
    connect();
    let request = control.pass_request();
    if !request.claim() {
        return;
    }
    // SAFETY: the callback runs while shared memory is still there.
    unsafe { pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::from(0)) };
    let mut idle_since = Instant::now();
    while !is_shutdown_requested() && idle_since.elapsed() < IDLE_MAX {
        see_to_signals();
        end_if_database_is_wanted();
        let Some((partition, incarnation)) = request.take() else {
            sleep(SLEEP_MAX);
            continue;
        };
        // If it fails, the settler makes the pass itself, and says why it cannot.
        let ended = make_pass(queues, control, partition, incarnation).ok().flatten();
        request.finish(ended.map(pass_end));
        control.wake();
        report_statistics(true);
        idle_since = Instant::now();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave(_code: std::ffi::c_int, _argument: pg_sys::Datum) {
    if let Some(control) = Control::get() {
        control.pass_request().leave();
        control.wake();
    }
    if let Ok(queues) = Queues::open() {
        queues.wake_launcher();
    }
}

/// Makes a pass, unless there is nothing to settle, or it has to stop before its end.
fn make_pass(
    queues: Queues,
    control: Control,
    partition: Partition,
    incarnation: u32,
) -> Result<Option<Ended>, Failure> {
    let Some(mut pass) = Pass::begin(partition, incarnation, None)? else { return Ok(None) };
    loop {
        see_to_signals();
        end_if_database_is_wanted();
        if queues.paused() || is_shutdown_requested() {
            return Ok(None);
        }
        match pass.step()? {
            Step::Settled(0) => {}
            Step::Settled(_) => control.has_settled(),
            Step::Ended(ended) => return Ok(Some(ended)),
        }
    }
}

fn pass_end(ended: Ended) -> PassEnd {
    PassEnd {
        up_to: ended.up_to,
        settled: ended.settled,
        removed_events: ended.removed.events,
        removed_bytes: ended.removed.bytes,
        transaction: ended.transaction.into_inner(),
        reason: ended.reason,
    }
}
