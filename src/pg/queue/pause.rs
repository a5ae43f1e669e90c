//! Pausing the workers.

use super::waiters::Awaited;
use super::{Phase, Queues};
use crate::pg::error::Error;
use crate::pg::tables::rights::check_admin;

/// Pauses the workers, and waits until each has finished its current batch.
pub fn pause() -> Result<(), Error> {
    check_admin("the workers")?;
    let queues = Queues::of_this_database()?;
    queues.set_paused(true);
    for queue in queues.iter() {
        let resting = || {
            let at_rest = matches!(queue.phase(), Phase::Paused | Phase::Stopped);
            (at_rest || !queues.paused()).then_some(())
        };
        queue.wait_until(Awaited::Anything, None, resting);
    }
    Ok(())
}

/// Resumes the workers.
pub fn resume() -> Result<(), Error> {
    check_admin("the workers")?;
    Queues::of_this_database()?.set_paused(false);
    Ok(())
}
