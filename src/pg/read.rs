//! Reading a stream, and reading the whole store in the order of positions.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use super::call::Call;
use super::datum::body;
use super::error::Error;
use super::head::{Head, Heads};
use super::log::{LogReader, ReadEvent, StoredRun, pass_events};
use super::metrics;
use super::position::Positions;
use super::relation::{For, Leaf, LeafIndex, Root, generation};
use super::rights::check_reader;
use super::rows::{Rows, int4, int8};
use super::safe_position::recorded;
use super::scan::{Direction, Key, Scan};
use super::scratch::Scratch;
use super::xact::{
    check_for_interrupts, in_recovery, statement_snapshot, uses_one_snapshot, with_snapshot_of_now,
};
use crate::codec::run::Located;
use crate::model::partition::{PARTITIONS, Partition};
use crate::model::run::RUN_EVENTS_MAX;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Streams whose names a backend remembers.
const REMEMBERED_STREAMS_MAX: usize = 100_000;

/// The columns of an event that are the same for its whole stream.
#[derive(Clone, Copy)]
struct StreamColumns {
    stream_id: pg_sys::Datum,
    tenant_id: pg_sys::Datum,
    entity_id: Option<pg_sys::Datum>,
    partition: Partition,
}

impl StreamColumns {
    fn of(head: &Head<'_>, partition: Partition) -> Self {
        Self {
            stream_id: head.stream_id(),
            tenant_id: head.tenant_id(),
            entity_id: head.entity_id(),
            partition,
        }
    }
}

/// Adds a row with the columns of the view `events`.
fn put_event(rows: &mut Rows, stream: &StreamColumns, event: &ReadEvent<'_>) -> Result<(), Error> {
    let element = |body: &[u8], (offset, _): Located<'_>| {
        // SAFETY: the offset is within the body.
        Some(pg_sys::Datum::from(unsafe { body.as_ptr().add(offset) }))
    };
    let columns = &event.columns;
    rows.put([
        int8(event.position),
        Some(stream.stream_id),
        int8(event.version),
        Some(stream.tenant_id),
        element(columns.event_types, event.event.event_type),
        stream.entity_id,
        element(columns.payloads, event.event.payload),
        columns.metadata.and_then(|body| element(body, event.event.metadata?)),
        int8(event.timestamp_us),
        event.event.event_id.map(|id| pg_sys::Datum::from(id.as_ptr())),
        int4(stream.partition.number()),
    ])
}

/// Gives a stream's row, as the statement's snapshot has it, to `use_head`; `None` where there is no
/// such stream.
pub fn with_head<T>(
    stream_id: &[u8],
    tenant_id: &[u8],
    use_head: impl FnOnce(Head<'_>) -> T,
) -> Result<Option<T>, Error> {
    check_reader()?;
    let mut heads = Heads::by_name(Partition::of(stream_id), For::Reading, statement_snapshot())?;
    let result = heads.find(stream_id, tenant_id).map(use_head);
    heads.close();
    Ok(result)
}

/// Which events of a stream to read.
#[derive(Clone, Copy, Debug)]
pub struct StreamRange {
    /// the version to begin at; `None`: the first, or the last when reading backward
    pub from_version: Option<i64>,
    /// how many at most
    pub max_count: Option<u64>,
    /// descending
    pub backward: bool,
}

/// Reads a stream, as the statement's snapshot has it, into the result of `call`.
pub fn read_stream(
    call: &Call,
    stream_id: &[u8],
    tenant_id: &[u8],
    range: StreamRange,
) -> Result<(), Error> {
    check_reader()?;
    let mut rows = Rows::begin(call)?;
    let mut count = 0;
    let partition = Partition::of(stream_id);
    let mut heads = Heads::by_name(partition, For::Reading, statement_snapshot())?;
    if let Some(head) = heads.find(stream_id, tenant_id) {
        let columns = StreamColumns::of(&head, partition);
        let (stream_no, current) = (head.stream_no(), head.current_version());
        let span = i64::try_from(range.max_count.unwrap_or(u64::MAX) - 1).unwrap_or(i64::MAX);
        let mut log = LogReader::open(partition, statement_snapshot())?;
        let put = |event: ReadEvent<'_>| {
            count += 1;
            put_event(&mut rows, &columns, &event)
        };
        if range.backward {
            let last = range.from_version.unwrap_or(current).min(current);
            log.read_versions_backward(stream_no, last, last.saturating_sub(span).max(1), put)?;
        } else {
            let first = range.from_version.unwrap_or(1);
            log.read_versions(stream_no, first, first.saturating_add(span).min(current), put)?;
        }
        log.close();
    }
    heads.close();
    metrics::read(count);
    Ok(())
}

/// Which events of the store to read.
pub struct StoreRange<'a> {
    /// only those above this position
    pub after_position: i64,
    /// how many at most
    pub max_count: Option<u64>,
    /// only those of these partitions
    pub partitions: Vec<Partition>,
    /// only those of these types
    pub event_types: Option<Vec<&'a [u8]>>,
    /// only those of this tenant
    pub tenant_id: Option<&'a [u8]>,
}

/// The safe position of this database.
pub fn safe_position(function: &'static str) -> Result<i64, Error> {
    check_reader()?;
    if in_recovery() {
        // Without one a reader would wait for ever and not know why.
        return recorded()?.ok_or(Error::OnStandby { function });
    }
    Ok(Positions::open_locked(function)?.safe() as i64)
}

/// Reads the store in the order of positions, up to the safe position, into the result of `call`.
///
/// The safe position is taken first and the snapshot afterwards, so everything at or below it that
/// will ever be there is visible. Under REPEATABLE READ the transaction's snapshot is older; there
/// reading ends at the first event that the snapshot does not show.
pub fn read_store(
    call: &Call,
    function: &'static str,
    range: &StoreRange<'_>,
) -> Result<(), Error> {
    let safe = safe_position(function)?;
    let mut rows = Rows::begin(call)?;
    if safe <= range.after_position {
        return Ok(());
    }
    with_snapshot_of_now(|snapshot| {
        let mut merge = Merge::open(range, safe, snapshot)?;
        let mut streams = Streams::new(snapshot);
        let max_count = range.max_count.unwrap_or(u64::MAX);
        let mut left = max_count;
        let scratch = Scratch::new();
        while left > 0 {
            check_for_interrupts();
            let Some((scan, partition)) = merge.current() else { break };
            if !shown_by_transaction(scan) {
                break;
            }
            let columns = streams.columns(partition, scan.row().0[0].value() as i64)?;
            scratch.run(|| {
                let run = StoredRun::from_scan(scan)?;
                // SAFETY: the columns are kept by `streams`.
                let tenant_id = unsafe { body(columns.tenant_id) };
                if range.tenant_id.is_some_and(|wanted| wanted != tenant_id) {
                    return Ok(());
                }
                let index = |position: i64| usize::try_from(position - run.key.position);
                let begin = index(range.after_position + 1).unwrap_or(0);
                let end = index(safe + 1).unwrap_or(0).min(run.len);
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
                })
            })?;
            merge.advance();
        }
        streams.close();
        merge.close();
        metrics::read(max_count - left);
        Ok(())
    })
}

/// Whether the transaction's own snapshot shows the row that a scan of now stands on. Rows of the
/// log are never updated, so only who inserted it matters.
fn shown_by_transaction(scan: &Scan) -> bool {
    if !uses_one_snapshot() {
        return true;
    }
    // SAFETY: the slot of a heap scan is of this type and holds a tuple in a pinned page.
    unsafe {
        let slot = scan.slot().cast::<pg_sys::BufferHeapTupleTableSlot>();
        let header = (*(*slot).base.tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        (*header).t_infomask & frozen == frozen
            || !pg_sys::XidInMVCCSnapshot(
                (*header).t_choice.t_heap.t_xmin,
                pg_sys::GetTransactionSnapshot(),
            )
    }
}

/// Merges the logs of partitions by position.
struct Merge {
    scans: Vec<(Leaf, Scan, Partition)>,
    /// Position of the run that each scan stands on, lowest first.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Merge {
    fn open(range: &StoreRange<'_>, safe: i64, snapshot: pg_sys::Snapshot) -> Result<Self, Error> {
        let mut merge = Self { scans: Vec::new(), heads: BinaryHeap::new() };
        let after = range.after_position;
        for partition in &range.partitions {
            let leaf = Leaf::open(Root::Log, *partition, For::Reading)?;
            let mut scan = Scan::open(&leaf, LeafIndex::ByNumber, snapshot, 2);
            // The run that the next position is in may begin at or below `after`.
            let mut above = after;
            if after > 0 {
                let lowest = after - RUN_EVENTS_MAX as i64;
                scan.find(&[(1, Key::Int8AtMost(after)), (1, Key::Int8Above(lowest))]);
                if scan.next(Direction::Backward) {
                    above = scan.row().0[2].value() as i64 - 1;
                }
            }
            scan.find(&[(1, Key::Int8Above(above)), (1, Key::Int8AtMost(safe))]);
            merge.scans.push((leaf, scan, *partition));
            merge.move_on(merge.scans.len() - 1);
        }
        Ok(merge)
    }

    fn move_on(&mut self, index: usize) {
        let scan = &mut self.scans[index].1;
        if scan.next(Direction::Forward) {
            self.heads.push(Reverse((scan.row().0[2].value() as i64, index)));
        }
    }

    fn current(&self) -> Option<(&Scan, Partition)> {
        let Reverse((_, index)) = self.heads.peek()?;
        let (_, scan, partition) = &self.scans[*index];
        Some((scan, *partition))
    }

    fn advance(&mut self) {
        if let Some(Reverse((_, index))) = self.heads.pop() {
            self.move_on(index);
        }
    }

    fn close(self) {
        for (leaf, scan, _) in self.scans {
            scan.end();
            leaf.close();
        }
    }
}

/// A stream's columns, remembered. They never change: see `check_entity` for the entity.
struct Remembered {
    values: Box<[u8]>,
    tenant_id: usize,
    entity_id: Option<usize>,
}

thread_local! {
    static REMEMBERED: RefCell<(u64, HashMap<i64, Remembered>)> = RefCell::default();
}

/// Finds the columns of streams by number.
struct Streams {
    snapshot: pg_sys::Snapshot,
    heads: [Option<Heads>; PARTITIONS],
}

impl Streams {
    fn new(snapshot: pg_sys::Snapshot) -> Self {
        REMEMBERED.with_borrow_mut(|(known, streams)| {
            if *known != generation() || streams.len() > REMEMBERED_STREAMS_MAX {
                *known = generation();
                streams.clear();
            }
        });
        Self { snapshot, heads: [const { None }; PARTITIONS] }
    }

    /// The values live until the next call's `new`.
    fn columns(&mut self, partition: Partition, stream_no: i64) -> Result<StreamColumns, Error> {
        let remembered = REMEMBERED.with_borrow(|(_, streams)| {
            streams.get(&stream_no).map(|stream| {
                let value = |offset: usize| pg_sys::Datum::from(&raw const stream.values[offset]);
                StreamColumns {
                    stream_id: value(0),
                    tenant_id: value(stream.tenant_id),
                    entity_id: stream.entity_id.map(value),
                    partition,
                }
            })
        });
        match remembered {
            Some(columns) => Ok(columns),
            None => {
                self.remember(partition, stream_no)?;
                self.columns(partition, stream_no)
            }
        }
    }

    fn remember(&mut self, partition: Partition, stream_no: i64) -> Result<(), Error> {
        let heads = match &mut self.heads[partition.index()] {
            Some(heads) => heads,
            none => none.insert(Heads::by_number(partition, self.snapshot)?),
        };
        let Some(head) = heads.find_number(stream_no) else {
            return Err(Error::Orphan { stream_no });
        };
        let mut values = Vec::new();
        let mut push = |value: pg_sys::Datum| {
            // SAFETY: the scan stands on the head.
            let bytes = unsafe { body(value) };
            push_text(&mut values, bytes)
        };
        push(head.stream_id());
        let tenant_id = push(head.tenant_id());
        let entity_id = head.entity_id().map(push);
        let stream = Remembered { values: values.into_boxed_slice(), tenant_id, entity_id };
        REMEMBERED.with_borrow_mut(|(_, streams)| streams.insert(stream_no, stream));
        Ok(())
    }

    fn close(self) {
        self.heads.into_iter().flatten().for_each(Heads::close);
    }
}

/// Appends a value of type text on a boundary of 4 bytes and returns where it begins.
fn push_text(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let start = (out.len() + 3) & !3;
    let len = bytes.len() + pg_sys::VARHDRSZ;
    out.resize(start, 0);
    out.resize(start + pg_sys::VARHDRSZ, 0);
    // SAFETY: writes the length word into the four bytes that were just added.
    unsafe { pgrx::set_varsize_4b(out.as_mut_ptr().add(start).cast(), len as i32) };
    out.extend_from_slice(bytes);
    start
}
