//! Closing a partition: the source of a move takes no more enqueued events, and what was enqueued before is
//! written, while others go on appending. So nothing is left behind by the fence.

use super::gate;
use super::row::Request;
use crate::cluster::member;
use crate::cluster::ownership::State;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::queue::Queues;
use crate::pg::queue::waiters::{Awaited, Waited};
use crate::pg::session::xact::{check_writable, wait_at_commit};
use crate::pg::tables::waiting_events::has_waiting_events;
use std::time::{Duration, Instant};

/// How long a call waits for what was enqueued before.
const WAIT: Duration = Duration::from_secs(2);

impl Request {
    /// The source takes no more enqueued events: the first call waits for those who are enqueueing. A later
    /// one waits, for a while, until what was enqueued before is written. Returns whether all of it is.
    /// What is appended goes on.
    pub fn close(self) -> Result<bool, Error> {
        check_writable()?;
        let expected =
            |row| member::fence(row, self.epoch).map(|_| ()).map_err(|stale| self.stale(stale));
        let found = self.look()?;
        expected(found.row)?;
        if !found.is_closed && found.row.state == State::Owned {
            self.check_cold()?;
            gate::shut(self.partition)?;
            self.expect(
                |row| member::fence(row, self.epoch).map(|_| ()),
                || {
                    self.check_cold()?;
                    self.note_closed()
                },
            )?;
            return Ok(false);
        }
        let is_written = flush(self.partition)?;
        // Others may have gone on meanwhile.
        let found = self.look()?;
        expected(found.row)?;
        let is_closed = found.is_closed || found.row.state == State::Fenced;
        wait_at_commit();
        Ok(is_written && is_closed)
    }
}

/// Waits until all that was enqueued before through the queue of a partition has left it, and nothing of the
/// partition waits. Returns whether it has come to that.
fn flush(partition: Partition) -> Result<bool, Error> {
    // Without a queue nothing was enqueued, but something may wait from before.
    let Ok(queues) = Queues::of_this_database() else {
        return Ok(!has_waiting_events(partition)?);
    };
    let (queue, deadline) = (queues.of_partition(partition), Some(Instant::now() + WAIT));
    let end = queue.ring.write_offset();
    let is_out = || (queue.ring.read_offset() >= end).then_some(());
    if queue.wait_until(Awaited::Offset(end), deadline, is_out) == Waited::TimedOut {
        return Ok(false);
    }
    let waited = queue.wait_until(Awaited::Moved, deadline, || {
        has_waiting_events(partition).map(|waits| (!waits).then_some(())).transpose()
    });
    match waited {
        Waited::Done(result) => result.map(|()| true),
        Waited::TimedOut => Ok(false),
    }
}
