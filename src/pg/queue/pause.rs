//! Pausing the workers.

use super::waiters::Awaited;
use super::{Phase, Queues};
use crate::pg::error::Error;
use crate::pg::tables::rights::check_admin;

/// Tells the workers to rest and waits until they do: each finishes the batch in hand.
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

/// Tells the workers to go on.
pub fn resume() -> Result<(), Error> {
    check_admin("the workers")?;
    Queues::of_this_database()?.set_paused(false);
    Ok(())
}
