//! Which partitions are or were hot: the rows of `hot_partitions`, remembered until they change.

use super::control::Control;
use super::filter::Marks;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::body;
use crate::pg::call::rows::int4;
use crate::pg::error::Error;
use crate::pg::session::xact::{is_in_parallel_mode, with_snapshot_of_now};
use crate::pg::sidecar::Index;
use crate::pg::tables::query::{Access, Row, execute_as_owner};
use crate::pg::tables::relation::sequence_oid;
use crate::pg::tables::remembered::{Remembered, report_change};
use crate::pg::tables::schema::{Root, Sequence};
use crate::pg::tables::waiting_events::store_id;
use std::ffi::CStr;

/// The table.
pub const TABLE: &str = "hot_partitions";

const ROWS: &CStr = c"
    SELECT p.partition_id, p.state, p.settled_batch, p.store_id, p.is_automatic
      FROM allsource.hot_partitions p";

/// What a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never hot: there are no batches.
    Never,
    /// Its events go into batches.
    Hot,
    /// Its events are written in the ordinary way, and batches are still there.
    Cooling,
    /// It was hot. There are no batches, but an old snapshot may show some.
    Cold,
}

/// A row of `hot_partitions`.
#[derive(Clone, Copy, Debug)]
pub struct HotPartition {
    /// what the partition is
    pub state: State,
    /// the last batch that is settled with all before it
    pub settled_batch: i64,
    /// whether this store has written the row, and not one of which a dump was restored
    pub is_ours: bool,
    /// whether it has become hot by itself
    pub is_automatic: bool,
}

impl State {
    /// As `hot_partitions` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Hot => "hot",
            Self::Cooling => "cooling",
            Self::Cold => "cold",
        }
    }
}

impl HotPartition {
    const NEVER: Self =
        Self { state: State::Never, settled_batch: 0, is_ours: true, is_automatic: false };

    /// Whether a worker puts the partition's events into batches. A build without the sidecar does not.
    pub fn takes_batches(&self) -> bool {
        Index::IS_SUPPORTED && self.state == State::Hot && self.is_ours
    }

    /// Whether there may be batches now.
    pub fn may_have_batches(&self) -> bool {
        matches!(self.state, State::Hot | State::Cooling)
    }

    /// Whether there may be batches for the settler of this store.
    pub fn may_be_settled(&self) -> bool {
        self.is_ours && self.may_have_batches()
    }

    /// Whether any snapshot may show batches.
    pub fn may_have_had_batches(&self) -> bool {
        self.state != State::Never
    }
}

type Map = [HotPartition; PARTITIONS];

thread_local! {
    static MAP: Remembered<Map> = const { Remembered::new() };
}

/// What is known of a partition. The caller has accepted invalidations, by taking a lock or expressly.
pub fn get(partition: Partition) -> Result<HotPartition, Error> {
    if let Some(known) = MAP.with(|map| map.known(|map| map[partition.index()])) {
        return Ok(known);
    }
    let map = if is_in_parallel_mode() {
        // A snapshot of now cannot be taken here. That of the statement shows all that it can need.
        return Ok(read(Access::Read)?[partition.index()]);
    } else {
        remember(|| with_snapshot_of_now(|_| read(Access::Read)))?
    };
    Ok(map[partition.index()])
}

/// The same of all partitions, for who writes batches: waits for those who change the table, until others
/// have been told of the change.
pub fn get_to_write() -> Result<Map, Error> {
    match MAP.with(|map| map.known(|map| *map)) {
        Some(map) => Ok(map),
        None => remember(|| read(Access::Write)),
    }
}

/// Up to which batch each partition is settled, as the statement's snapshot shows it; `None`: it was never
/// hot.
pub fn settled_batches() -> Result<[Option<i64>; PARTITIONS], Error> {
    let map = read(Access::Read)?;
    Ok(map.map(|of| of.may_have_had_batches().then_some(of.settled_batch)))
}

fn remember(read: impl FnOnce() -> Result<Map, Error>) -> Result<Map, Error> {
    MAP.with(|map| map.read(&[TABLE], read))
}

fn read(access: Access) -> Result<Map, Error> {
    let ours = store_id(sequence_oid(Sequence::Position)?.to_u32());
    let mut map = [HotPartition::NEVER; PARTITIONS];
    execute_as_owner(TABLE, ROWS, &[], access, |row| {
        let (partition, known) = from_row(&row, ours);
        if let Some(partition) = Partition::new(partition) {
            map[partition.index()] = known;
        }
        Ok(())
    })?;
    Ok(map)
}

#[expect(unsafe_code, reason = "takes a text out of a row")]
fn from_row(row: &Row, ours: i64) -> (i32, HotPartition) {
    let int8 = |column| row.get(column).map_or(0, |value| value.value() as i64);
    // SAFETY: the column is a text, which lives as long as the row.
    let state = row.get(2).map(|state| unsafe { body(state) });
    let state = match state.unwrap_or_default() {
        b"hot" => State::Hot,
        b"cooling" => State::Cooling,
        _ => State::Cold,
    };
    let is_ours = int8(4) == ours;
    let is_automatic = row.get(5).is_some_and(|value| value.value() as u8 != 0);
    let known = HotPartition { state, settled_batch: int8(3), is_ours, is_automatic };
    (int8(1) as i32, known)
}

/// Makes all sessions read the table again when this transaction has committed.
pub fn forget_all() -> Result<(), Error> {
    report_change(TABLE)?;
    // The settler knows what it does; others restore a dump.
    let is_settler = Control::get().is_some_and(|control| control.is_this_process());
    for partition in Partition::all().filter(|_| !is_settler) {
        if let Some(marks) = Marks::of(partition)? {
            marks.reset();
        }
    }
    Ok(())
}

/// A row for each partition that is or was hot, as the statement's snapshot shows them.
pub fn report(put: impl FnMut(Reported) -> Result<(), Error>) -> Result<(), Error> {
    let ours = store_id(sequence_oid(Sequence::Position)?.to_u32());
    let mut reported = Vec::new();
    execute_as_owner(TABLE, REPORT, &[], Access::Read, |row| {
        let (partition, known) = from_row(&row, ours);
        let of = Reported { partition, known, since: row.get(6), ..Reported::EMPTY };
        reported.push(of);
        Ok(())
    })?;
    // One after the other: a plan for all is estimated so high that it would be compiled.
    let table = Root::Batches.table();
    for of in &mut reported {
        let partition = (pgrx::pg_sys::INT4OID, int4(of.partition));
        execute_as_owner(table, BATCHES, &[partition], Access::Read, |row| {
            let int8 = |column| row.get(column).map_or(0, |value| value.value() as i64);
            (of.batches, of.events, of.bytes) = (int8(1), int8(2), int8(3));
            (of.oldest, of.last_batch) = (row.get(4), int8(5));
            Ok(())
        })?;
    }
    reported.into_iter().try_for_each(put)
}

const REPORT: &CStr = c"
    SELECT p.partition_id, p.state, p.settled_batch, p.store_id, p.is_automatic, p.since
      FROM allsource.hot_partitions p
     ORDER BY p.partition_id";

const BATCHES: &CStr = c"
    SELECT pg_catalog.count(*),
           pg_catalog.sum(h.events),
           pg_catalog.sum(pg_catalog.octet_length(h.body)),
           pg_catalog.min(h.written_at),
           pg_catalog.max(h.batch_no)
      FROM allsource.hot_batches h
     WHERE h.partition_id OPERATOR(pg_catalog.=) $1";

/// What the tables say of a partition.
pub struct Reported {
    /// its number
    pub partition: i32,
    /// what it is
    pub known: HotPartition,
    /// since when, as a value
    pub since: Option<pgrx::pg_sys::Datum>,
    /// how many batches there are
    pub batches: i64,
    /// how many events they hold
    pub events: i64,
    /// how many bytes
    pub bytes: i64,
    /// when the oldest was written, as a value
    pub oldest: Option<pgrx::pg_sys::Datum>,
    /// the number of the last one; 0: there is none
    pub last_batch: i64,
}

impl Reported {
    const EMPTY: Self = Self {
        partition: 0,
        known: HotPartition::NEVER,
        since: None,
        batches: 0,
        events: 0,
        bytes: 0,
        oldest: None,
        last_batch: 0,
    };
}
