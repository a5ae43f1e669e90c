//! Reading the whole store in the order of positions.
#![expect(unsafe_code, reason = "looks at the transaction that made a row")]

use super::merge::{Begin, Merge};
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
use crate::positions::written::Written;
use pgrx::pg_sys;
use std::cell::Cell;

/// The positions behind which reading begins.
#[derive(Clone, Copy, Debug)]
pub struct After {
    of: [i64; PARTITIONS],
    /// whether it is one for all, so that no position is of two events
    is_one: bool,
}

impl After {
    /// One for all partitions.
    pub fn one(position: i64) -> Self {
        Self { of: [position; PARTITIONS], is_one: true }
    }

    /// One for each partition. In partitions that were moved, events may have positions that other
    /// partitions have too.
    pub fn each(positions: [i64; PARTITIONS]) -> Self {
        Self { of: positions, is_one: false }
    }

    fn of(&self, partition: Partition) -> i64 {
        self.of[partition.index()]
    }
}

/// Which events of the store to read.
pub struct StoreRange<'a> {
    /// where to begin
    pub after: After,
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
    /// For each partition a position that was the last of its run, and the generation that this was found
    /// in; and the last of these. A reader that continues comes back with them, and the runs that they are
    /// in need not be searched for.
    static RUNS_ENDED_AT: Cell<RunEnds> =
        const { Cell::new(RunEnds { generation: 0, of: [0; PARTITIONS], last: 0 }) };
}

#[derive(Clone, Copy)]
struct RunEnds {
    generation: u64,
    of: [i64; PARTITIONS],
    last: i64,
}

impl RunEnds {
    /// Those that are known now.
    fn known() -> Self {
        let now = generation();
        let known = RUNS_ENDED_AT.get();
        if known.generation == now {
            return known;
        }
        Self { generation: now, of: [0; PARTITIONS], last: 0 }
    }

    /// Whether reading begins between two runs of a partition.
    fn between_runs(&self, after: &After, partition: Partition) -> bool {
        let position = after.of(partition);
        self.of[partition.index()] == position || after.is_one && self.last == position
    }
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
/// those with nothing above their position of `after` are passed over. Under REPEATABLE READ the transaction's
/// snapshot is older; there reading ends at the first event that the snapshot does not show.
///
/// Under SERIALIZABLE the result is what a query would give: all that the transaction's snapshot shows,
/// with the predicate locks of it. If events are missing before one of these, the call fails.
pub fn read_store(call: &Call, range: &StoreRange<'_>) -> Result<(), Error> {
    let safe = safe_position()?;
    let mut rows = Rows::begin(call);
    let serializable = is_serializable();
    let wanted = || Partition::all().filter(|partition| range.partitions[partition.index()]);
    let lowest = wanted().map(|partition| range.after.of(partition)).min();
    let Some(lowest) = lowest.filter(|lowest| *lowest < safe || serializable) else {
        return Ok(());
    };
    with_snapshot_of_now(|snapshot| {
        let written = observed_written();
        let mut run_ends = RunEnds::known();
        let begins = wanted().map(|partition| Begin {
            partition,
            after: range.after.of(partition),
            between_runs: run_ends.between_runs(&range.after, partition),
        });
        let begins = begins.filter(|Begin { partition, after, .. }| {
            let nothing_above =
                |written: &Written| written.nothing_above(*partition, *after as u64);
            serializable || *after < safe && !written.is_some_and(nothing_above)
        });
        let last = if serializable { i64::MAX } else { safe };
        let mut merge = Merge::open(begins, last, snapshot)?;
        let mut has_gap = false;
        let mut streams =
            Streams::new(snapshot, &range.partitions, |partition| range.after.of(partition), safe);
        let mut seen = lowest;
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
            let after = range.after.of(partition);
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
                    run_ends.of[partition.index()] = last_position;
                    run_ends.last = last_position;
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
        RUNS_ENDED_AT.set(run_ends);
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
