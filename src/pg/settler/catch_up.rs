//! Applying the batches of a partition to the sidecar.

use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::batches::{Batches, StoredBatch};
use crate::pg::hot::map::settled_batches;
use crate::pg::session::xact::with_snapshot_of_now;
use crate::pg::sidecar::{Applied, Index, Refusal};

/// Bytes of bodies that are applied at once: others are to have their turn soon.
const BYTES_MAX: usize = 1 << 20;

/// What was applied.
pub struct CaughtUp {
    /// how many batches
    pub batches: usize,
    /// whether there are more
    pub is_more: bool,
    /// the first batch of the table; behind the last one that was settled, if there is none
    pub first: i64,
}

/// Applies batches that the sidecar does not have, some at once. Discards first what it has of the
/// partition, if that is not what the table has. Unless it `is_compared`, nothing is known of what it has.
/// `None`: it is away, or takes nothing now. Called in a transaction.
///
/// Batches that passes have settled are never applied: the table has only what the passes have left of
/// them, but older snapshots may show all, and must not be answered as if there had been nothing else.
pub fn catch_up(
    index: &mut Index,
    partition: Partition,
    applied: Applied,
    is_compared: bool,
) -> Result<Option<CaughtUp>, Error> {
    with_snapshot_of_now(|snapshot| {
        let settled = settled_batches()?[partition.index()].unwrap_or(0);
        let mut table = Batches::open(partition, snapshot)?;
        let first = table.first().map_or(settled + 1, |(batch_no, _)| batch_no);
        let mut after = applied.batch_no;
        let mut is_compared = is_compared;
        if !is_of_table(&mut table, applied, settled.max(first - 1), settled)? {
            if let Err(refusal) = index.discard(partition) {
                return away(refusal);
            }
            (after, is_compared) = (0, false);
        }
        if after < settled || !is_compared {
            if let Err(refusal) = index.forget(partition, settled) {
                return away(refusal);
            }
            after = after.max(settled);
        }
        let mut caught_up = CaughtUp { batches: 0, is_more: false, first };
        let mut refused = None;
        let mut bytes = 0;
        let begin = after;
        table.read(begin, i64::MAX, |batch| {
            if bytes >= BYTES_MAX {
                caught_up.is_more = true;
                return Ok(false);
            }
            let StoredBatch { batch_no, checksum, .. } = batch;
            let body = batch.body();
            // Numbers are skipped where a batch was not written after all, or was settled and removed.
            let gap = match batch_no - 1 > after {
                true => index.forget(partition, batch_no - 1),
                false => Ok(()),
            };
            let applied = gap.and_then(|()| index.apply(partition, batch_no, checksum, body));
            if let Err(refusal) = applied {
                refused = Some(refusal);
                return Ok(false);
            }
            after = batch_no;
            caught_up.batches += 1;
            bytes += body.len();
            Ok(true)
        })?;
        match refused {
            None | Some(Refusal::Busy) => Ok(Some(caught_up)),
            Some(refusal) => away(refusal),
        }
    })
}

/// Whether the table has the last batch that was applied, or has settled it; then what is left of it may
/// have been written anew. Nothing behind `gone` can have been forgotten: then the sidecar is one of another
/// time, before which the store was put back.
fn is_of_table(
    table: &mut Batches,
    applied: Applied,
    gone: i64,
    settled: i64,
) -> Result<bool, Error> {
    if applied.forgotten > gone {
        return Ok(false);
    }
    let Some(checksum) = applied.checksum.filter(|_| applied.batch_no > settled) else {
        return Ok(true);
    };
    let mut found = None;
    table.read(applied.batch_no - 1, applied.batch_no, |batch| {
        found = Some(batch.checksum);
        Ok(false)
    })?;
    Ok(found == Some(checksum))
}

fn away(refusal: Refusal) -> Result<Option<CaughtUp>, Error> {
    match refusal {
        Refusal::Away | Refusal::Busy => Ok(None),
        Refusal::Memory(error) => Err(error.into()),
        Refusal::Impossible { reason } => Err(Error::Sidecar { reason }),
    }
}
