//! Reading the whole store in the order of positions.
#![expect(unsafe_code, reason = "looks at the transaction that made a row")]

use super::merge::Merge;
use super::row::put_event;
use super::streams::Streams;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::Call;
use crate::pg::call::datum::body;
use crate::pg::call::rows::Rows;
use crate::pg::error::{Error, Obstacle};
use crate::pg::positions::counter::{observe, observed_written};
use crate::pg::positions::recorded::recorded;
use crate::pg::session::scratch::Scratch;
use crate::pg::session::xact::{
    check_for_interrupts, in_recovery, is_serializable, uses_one_snapshot, with_snapshot_of_now,
};
use crate::pg::shared::counting;
use crate::pg::tables::log::{StoredRun, pass_events, run_key};
use crate::pg::tables::names::generation;
use crate::pg::tables::rights::check_reader;
use crate::pg::tables::scan::Scan;
use crate::pg::tables::schema::log;
use pgrx::pg_sys;
use std::cell::Cell;

/// Which events of the store to read.
pub struct StoreRange<'a> {
    /// only those above this position
    pub after_position: i64,
    /// how many at most
    pub max_count: Option<u64>,
    /// only those of these partitions
    pub partitions: [bool; PARTITIONS],
    /// only those of these types
    pub event_types: Option<Vec<&'a [u8]>>,
    /// only those of this tenant
    pub tenant_id: Option<&'a [u8]>,
}

thread_local! {
    /// A position that was the last of its run, and the generation that this was found in. A reader that
    /// continues comes back with it, and the run that it is in need not be searched for.
    static RUN_ENDED_AT: Cell<Option<(u64, i64)>> = const { Cell::new(None) };
}

/// The safe position of this database.
pub fn safe_position() -> Result<i64, Error> {
    check_reader()?;
    if in_recovery() {
        // Without one a reader would wait for ever and not know why.
        return recorded()?.ok_or(Error::CannotExecute(Obstacle::NotRecorded));
    }
    Ok(observe()?.safe as i64)
}

/// Reads the store in the order of positions, up to the safe position, into the result of `call`.
///
/// The safe position is taken first and the snapshot afterwards, so everything at or below it that
/// will ever be there is visible. How far the partitions have been written is looked at after that:
/// those with nothing above `after_position` are passed over. Under REPEATABLE READ the transaction's
/// snapshot is older; there reading ends at the first event that the snapshot does not show.
///
/// Under SERIALIZABLE the result is what a query would give: all that the transaction's snapshot shows,
/// with the predicate locks of it. If events are missing before one of these, the call fails.
pub fn read_store(call: &Call, range: &StoreRange<'_>) -> Result<(), Error> {
    let safe = safe_position()?;
    let mut rows = Rows::begin(call);
    let serializable = is_serializable();
    if safe <= range.after_position && !serializable {
        return Ok(());
    }
    with_snapshot_of_now(|snapshot| {
        let after = range.after_position;
        let written = observed_written();
        let partitions = Partition::all().filter(|partition| {
            range.partitions[partition.index()]
                && (serializable
                    || !written
                        .is_some_and(|written| written.nothing_above(*partition, after as u64)))
        });
        let last = if serializable { i64::MAX } else { safe };
        let between_runs = RUN_ENDED_AT.get() == Some((generation(), after));
        let mut merge = Merge::open(partitions, after, between_runs, last, snapshot)?;
        let mut has_gap = false;
        let mut streams = Streams::new(snapshot, &range.partitions, after, safe);
        let mut seen = after;
        let max_count = range.max_count.unwrap_or(u64::MAX);
        let mut left = max_count;
        let scratch = Scratch::new();
        while left > 0 {
            check_for_interrupts();
            let Some((scan, partition)) = merge.current() else { break };
            if !shown_by_transaction(scan) {
                if !serializable {
                    break;
                }
                note_conflict(scan);
                has_gap = true;
                merge.advance();
                continue;
            }
            let position = scan.row().0[log::POSITION].value() as i64;
            if serializable && (has_gap || position > safe) {
                return Err(Error::GapBefore { position });
            }
            let columns = streams.columns(partition, run_key(scan.row().0))?;
            let passed = scratch.run(|memory| {
                let run = StoredRun::from_scan(scan, memory)?;
                let last_position = run.last_position();
                seen = last_position;
                let Some(columns) = columns else {
                    return Err(Error::Orphan {
                        stream_no: run.key.stream_no,
                        partition_id: partition.number(),
                        position: run.key.position,
                        last_position,
                    });
                };
                // SAFETY: the columns are kept by `streams`.
                let tenant_id = unsafe { body(columns.tenant_id) };
                if range.tenant_id.is_some_and(|wanted| wanted != tenant_id) {
                    return Ok(());
                }
                let events_up_to = |position: i64| {
                    usize::try_from(position.saturating_sub(run.key.position).saturating_add(1))
                        .map_or(0, |events| events.min(run.len))
                };
                let (begin, end) = (events_up_to(after), events_up_to(safe));
                pass_events(&run, begin, end, |event| {
                    let wanted = range
                        .event_types
                        .as_ref()
                        .is_none_or(|types| types.contains(&event.event.event_type.1));
                    if wanted && left > 0 {
                        left -= 1;
                        put_event(&mut rows, &columns, &event)?;
                    }
                    Ok(())
                })?;
                if end == run.len {
                    RUN_ENDED_AT.set(Some((generation(), last_position)));
                }
                Ok(())
            });
            match passed {
                // A reader reads on behind what cannot be read.
                Err(
                    Error::Orphan { last_position, .. } | Error::DamagedRun { last_position, .. },
                ) if last_position <= after => {}
                passed => passed?,
            }
            merge.advance();
        }
        let is_complete = merge.current().is_none() && !has_gap;
        streams.seen_up_to(if is_complete { safe } else { seen });
        counting::read(max_count - left);
        Ok(())
    })
}

/// Whether the transaction's own snapshot shows the row that a scan of now stands on. Rows of the
/// log are never updated, so only who inserted it matters.
fn shown_by_transaction(scan: &Scan) -> bool {
    if !uses_one_snapshot() {
        return true;
    }
    // SAFETY: the transaction keeps its snapshot.
    unsafe {
        inserted_by(scan)
            .is_none_or(|xid| !pg_sys::XidInMVCCSnapshot(xid, pg_sys::GetTransactionSnapshot()))
    }
}

/// Who inserted the row that a scan stands on; `None` if that is long ago.
fn inserted_by(scan: &Scan) -> Option<pg_sys::TransactionId> {
    // SAFETY: the slot of a heap scan is of this type and holds a tuple in a pinned page.
    unsafe {
        let slot = scan.slot().cast::<pg_sys::BufferHeapTupleTableSlot>();
        let header = (*(*slot).base.tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        let is_frozen = (*header).t_infomask & frozen == frozen;
        (!is_frozen).then_some((*header).t_choice.t_heap.t_xmin)
    }
}

/// Notes that the transaction has not read the row that a scan of now stands on, as a scan with the
/// transaction's own snapshot does.
fn note_conflict(scan: &Scan) {
    unsafe extern "C-unwind" {
        // From storage/predicate.h.
        fn CheckForSerializableConflictOut(
            relation: pg_sys::Relation,
            xid: pg_sys::TransactionId,
            snapshot: pg_sys::Snapshot,
        );
    }
    let Some(xid) = inserted_by(scan) else { return };
    let relation = scan.leaf().relation();
    // SAFETY: the relation is open, and the transaction keeps its snapshot, which does not show `xid`.
    unsafe {
        let xid = pg_sys::SubTransGetTopmostTransaction(xid);
        if xid == pg_sys::GetTopTransactionIdIfAny() {
            return;
        }
        let snapshot = pg_sys::GetTransactionSnapshot();
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            CheckForSerializableConflictOut(relation, xid, snapshot);
        });
    }
}
