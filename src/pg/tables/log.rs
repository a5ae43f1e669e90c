//! Runs: the rows of `event_log`, as they are read.
#![expect(unsafe_code, reason = "takes PostgreSQL's rows apart")]

use super::relation::{For, Leaf};
use super::scan::{Direction, Key, Scan, latest};
use super::schema::{LeafIndex, Root, log};
use crate::codec::array::ArrayError;
use crate::codec::checksum::RunKey;
use crate::codec::run::{RunColumns, StoredEvent};
use crate::model::memory::with_room;
use crate::model::partition::Partition;
use crate::model::run::RUN_EVENTS_MAX;
use crate::pg::call::datum::{aligned_body, body};
use crate::pg::error::Error;
use crate::pg::session::scratch::{Memory, Scratch};
use crate::pg::session::xact::{attempt_without_keeping_locks, check_for_interrupts};
use pgrx::pg_sys;
use std::cell::Cell;

/// A run as a scan stands on it. Its columns must not be used after the scan has moved.
#[derive(Clone, Copy)]
pub struct StoredRun<'a> {
    /// what identifies it
    pub key: RunKey,
    /// number of its partition
    pub partition_id: i32,
    /// what it holds
    pub columns: RunColumns<'a>,
    /// how many events
    pub len: usize,
}

impl<'a> StoredRun<'a> {
    /// Takes the row apart that `scan` stands on; what has to be unpacked lives in the memory of the
    /// step. Elements of the columns can be passed on as values.
    pub fn from_scan(scan: &'a Scan, _memory: Memory<'a>) -> Result<Self, Error> {
        let (values, nulls) = scan.row();
        // SAFETY: columns from `event_types` on are arrays, which are stored with variable length; the
        // memory of the step is the current context.
        unsafe {
            Self::new(values, |column: usize| {
                (!nulls[column]).then(|| aligned_body(values[column]))
            })
        }
    }

    /// From the values of a row, in the order of the table's columns.
    ///
    /// # Safety
    ///
    /// The values must be those of a row of `event_log`, none of the required ones NULL, and live
    /// as long as the run.
    pub unsafe fn from_values(values: &[pg_sys::Datum], nulls: &[bool]) -> Result<Self, Error> {
        // SAFETY: by the caller's promise.
        unsafe { Self::new(values, |column| (!nulls[column]).then(|| body(values[column]))) }
    }

    fn new(
        values: &[pg_sys::Datum],
        column: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Result<Self, Error> {
        let key = run_key(values);
        let partition_id = values[log::PARTITION_ID].value() as i32;
        let damaged = |source| damaged(key, partition_id, 0, source);
        let required = |index: usize| column(index).ok_or_else(|| damaged(ArrayError::Damaged));
        let columns = RunColumns {
            event_types: required(log::EVENT_TYPES)?,
            payloads: required(log::PAYLOADS)?,
            metadata: column(log::METADATA),
            event_ids: column(log::EVENT_IDS),
            timestamps: column(log::TIMESTAMPS),
        };
        Ok(Self { key, partition_id, columns, len: columns.len().map_err(damaged)? })
    }

    /// The position of its last event. One without events counts as a damaged one.
    pub fn last_position(&self) -> i64 {
        last_position_of(self.key, self.len)
    }

    /// The version behind its last event.
    fn next_version(&self) -> i64 {
        self.key.first_version.saturating_add(self.len as i64)
    }

    fn damaged(&self, source: ArrayError) -> Error {
        damaged(self.key, self.partition_id, self.len, source)
    }

    /// Whether versions and positions of its events are in their range.
    fn is_in_range(&self) -> bool {
        let fits = |first: i64| first > 0 && first.checked_add(self.len as i64).is_some();
        fits(self.key.first_version) && fits(self.key.position)
    }
}

/// What identifies a run, of the values of its row.
pub fn run_key(values: &[pg_sys::Datum]) -> RunKey {
    let int8 = |column: usize| values[column].value() as i64;
    RunKey {
        stream_no: int8(log::STREAM_NO),
        first_version: int8(log::FIRST_VERSION),
        position: int8(log::POSITION),
        timestamp_us: int8(log::TIMESTAMP),
    }
}

/// How many elements an array has, of which no more is unpacked than is needed for that.
///
/// # Safety
///
/// `array` must be an array of one dimension at most.
pub unsafe fn array_len(array: pg_sys::Datum) -> i64 {
    // Dimensions, offset of the data, type, and the first dimension's length: as in PostgreSQL's array.h.
    const HEADER: usize = 16;
    // SAFETY: by the caller's promise; the slice is a value of the same kind.
    let header = unsafe {
        let slice = pg_sys::pg_detoast_datum_slice(array.cast_mut_ptr(), 0, HEADER as i32);
        body(pg_sys::Datum::from(slice))
    };
    match header.first_chunk::<4>() {
        Some(dimensions) if i32::from_ne_bytes(*dimensions) > 0 => {
            header.last_chunk::<4>().map_or(0, |len| i64::from(i32::from_ne_bytes(*len)))
        }
        _ => 0,
    }
}

/// The position of the last event of a run of `len` events: where that is 0 it is not known, and the
/// highest that is possible is given.
fn last_position_of(key: RunKey, len: usize) -> i64 {
    let len = if len == 0 { RUN_EVENTS_MAX } else { len };
    key.position.saturating_add(len as i64 - 1)
}

fn damaged(key: RunKey, partition_id: i32, len: usize, source: ArrayError) -> Error {
    Error::DamagedRun {
        partition_id,
        stream_no: key.stream_no,
        first_version: key.first_version,
        position: key.position,
        last_position: last_position_of(key, len),
        source,
    }
}

/// An event of a stream, as it is read.
#[derive(Clone, Copy)]
pub struct ReadEvent<'a> {
    /// its version
    pub version: i64,
    /// its position
    pub position: i64,
    /// its time
    pub timestamp_us: i64,
    /// the rest
    pub event: StoredEvent<'a>,
    /// the columns that the event's elements stand in
    pub columns: RunColumns<'a>,
}

/// Reads streams of a partition.
pub struct LogReader {
    scan: Scan,
    scratch: Scratch,
}

impl LogReader {
    /// Opens the log of a partition.
    pub fn open(partition: Partition, snapshot: pg_sys::Snapshot) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Log, partition, For::Reading)?;
        let scan = Scan::open(leaf, LeafIndex::ByStream, snapshot, 2);
        Ok(Self { scan, scratch: Scratch::new() })
    }

    /// Passes the events of a stream from version `first` to `last`, ascending.
    pub fn read_versions(
        &mut self,
        stream_no: i64,
        first: i64,
        last: i64,
        mut use_event: impl FnMut(ReadEvent<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // The run that version `first` is in begins at it or before.
        let mut begin = first;
        if first > 1 {
            self.scan.find(&[(1, Key::Int8(stream_no)), (2, Key::Int8AtMost(first))]);
            if self.scan.next(Direction::Backward) {
                begin = self.scan.row().0[log::FIRST_VERSION].value() as i64;
            }
        }
        self.scan.find(&[(1, Key::Int8(stream_no)), (2, Key::Int8Above(begin.saturating_sub(1)))]);
        while self.scan.next(Direction::Forward) {
            check_for_interrupts();
            let next_version = self.scratch.run(|memory| {
                let run = StoredRun::from_scan(&self.scan, memory)?;
                let (skipped, wanted) = (events_before(&run, first), events_before(&run, last + 1));
                pass_events(&run, skipped, wanted, &mut use_event)?;
                Ok::<_, Error>(run.next_version())
            })?;
            if next_version > last {
                break;
            }
        }
        Ok(())
    }

    /// Passes the events of a stream from version `last` down to `first`, descending.
    pub fn read_versions_backward(
        &mut self,
        stream_no: i64,
        last: i64,
        first: i64,
        mut use_event: impl FnMut(ReadEvent<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.scan.find(&[(1, Key::Int8(stream_no)), (2, Key::Int8AtMost(last))]);
        while self.scan.next(Direction::Backward) {
            check_for_interrupts();
            let run_first = self.scratch.run(|memory| {
                let run = StoredRun::from_scan(&self.scan, memory)?;
                let (skipped, wanted) = (events_before(&run, first), events_before(&run, last + 1));
                let mut events = with_room(run.len)?;
                pass_events(&run, skipped, wanted, |event| {
                    events.push(event);
                    Ok(())
                })?;
                events.into_iter().rev().try_for_each(&mut use_event)?;
                Ok::<_, Error>(run.key.first_version)
            })?;
            if run_first <= first {
                break;
            }
        }
        Ok(())
    }

    /// Passes the first version and the number of events of each run of a stream, ascending.
    pub fn read_runs(
        &mut self,
        stream_no: i64,
        mut use_run: impl FnMut(i64, i64),
    ) -> Result<(), Error> {
        self.scan.find(&[(1, Key::Int8(stream_no)), (2, Key::Int8Above(i64::MIN))]);
        while self.scan.next(Direction::Forward) {
            check_for_interrupts();
            self.scratch.run(|memory| {
                let run = StoredRun::from_scan(&self.scan, memory)?;
                use_run(run.key.first_version, run.len as i64);
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }
}

/// How many events of a run have versions below `version`.
fn events_before(run: &StoredRun<'_>, version: i64) -> usize {
    let events = version.saturating_sub(run.key.first_version);
    usize::try_from(events).unwrap_or(0).min(run.len)
}

/// Passes the events of a run from index `begin` to before `end`.
pub fn pass_events<'a>(
    run: &StoredRun<'a>,
    begin: usize,
    end: usize,
    mut use_event: impl FnMut(ReadEvent<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let damaged = |source| run.damaged(source);
    if run.len == 0 || !run.is_in_range() {
        return Err(damaged(ArrayError::Damaged));
    }
    if begin >= end {
        return Ok(());
    }
    let mut readers = run.columns.readers().map_err(damaged)?;
    readers.skip(begin).map_err(damaged)?;
    for index in begin..end {
        let event = readers.read().map_err(damaged)?;
        use_event(ReadEvent {
            version: run.key.first_version + index as i64,
            position: run.key.position + index as i64,
            timestamp_us: event.timestamp_us.unwrap_or(run.key.timestamp_us),
            event,
            columns: run.columns,
        })?;
    }
    Ok(())
}

/// The last position in the log of a partition, or one that is not lower; `None` if there is none. It is
/// only a precaution, so nobody is waited for, and a leaf that is locked or cannot be read is passed
/// over. No lock is kept.
pub fn last_position(partition: Partition) -> Option<u64> {
    // Where the last run begins: known before the run is taken apart, which may fail.
    let begin = Cell::new(None);
    let found = attempt_without_keeping_locks(|| try_last_position(partition, &begin));
    let problem = match found {
        Ok(Ok(Found::Free(last))) => return last,
        Ok(Ok(Found::Locked)) => "it is locked".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(failure) => failure.message,
    };
    pgrx::log!(
        "allsource: could not read the last position in {}: {problem}",
        Root::Log.leaf(partition)
    );
    begin.get().map(|begin: u64| begin.saturating_add(RUN_EVENTS_MAX as u64 - 1))
}

/// What became of a look at a leaf.
enum Found {
    /// Its last position, if there is one.
    Free(Option<u64>),
    /// A lock is in the way.
    Locked,
}

fn try_last_position(partition: Partition, begin: &Cell<Option<u64>>) -> Result<Found, Error> {
    let Some(leaf) = Leaf::open_if_free(Root::Log, partition)? else { return Ok(Found::Locked) };
    let mut scan = Scan::open(leaf, LeafIndex::ByNumber, latest(), 1);
    scan.find(&[(1, Key::Int8Above(0))]);
    if !scan.next(Direction::Backward) {
        return Ok(Found::Free(None));
    }
    begin.set(Some(scan.row().0[log::POSITION].value() as u64));
    Scratch::new().run(|memory| {
        let run = StoredRun::from_scan(&scan, memory)?;
        Ok(Found::Free(Some(run.key.position as u64 + run.len as u64 - 1)))
    })
}
