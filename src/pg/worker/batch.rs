//! Writing records to their streams as `allsource_writer`, in the transaction that is open, without
//! waiting for locks.

use crate::codec::hot_batch::{BODY_BYTES_MAX, HotBatchWriter, Pushed};
use crate::codec::record::{Home, Record};
use crate::drain::failure::Failure;
use crate::drain::verdict::{Known, Offered, Verdict, judge};
use crate::model::batch::{Group, Plan, StreamKey};
use crate::model::error::StoreError;
use crate::model::event::NewEvent;
use crate::model::memory::{collect, with_room};
use crate::model::partition::{PARTITIONS, Partition};
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::call::datum::display;
use crate::pg::cluster::owners::check_may_write;
use crate::pg::error::Error;
use crate::pg::hot::batches::{BatchWriter, Batches};
use crate::pg::hot::filter::Marks;
use crate::pg::hot::map;
use crate::pg::positions::stream_numbers::StreamNumbers;
use crate::pg::session::xact::{
    accept_invalidations, advance_command, check_writable, database_oid, flush_log_in_steps,
    now_us, process_of, with_snapshot_of_now,
};
use crate::pg::shared::counting;
use crate::pg::tables::heads::Heads;
use crate::pg::tables::heap::Wait;
use crate::pg::tables::names::is_relation;
use crate::pg::tables::relation::{For, lock_holder, lock_sequence, sequence_oid, try_lock};
use crate::pg::tables::rights::{as_writer, check_writer};
use crate::pg::tables::scan::latest;
use crate::pg::tables::schema::{Root, Sequence};
use crate::pg::tables::writing::Writing;
use crate::pg::write::append::{take_positions, write_runs};
use crate::pg::write::head_writer::{Advanced, Found, HeadWriter, TailOf, Tried};
use crate::pg::write::retry::find_known;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// How much WAL a batch writes before it flushes it. A commit of another session that comes meanwhile
/// waits for about that much.
const FLUSH_BYTES: u64 = 1024 * 1024;

/// Events of a stream in a batch are scattered if they are no more than this.
const SCATTERED_MAX: usize = 2;

/// What has become of records.
#[derive(Default)]
pub struct Written {
    /// events that are in their streams now, those included that were there before
    pub events: u64,
    /// records that have no place to be written to: their extension was dropped
    pub discarded: u64,
    /// records that must not be written, and why
    pub refused: Vec<(usize, Failure)>,
    /// streams that were passed over, because they are held or must wait
    pub held: Vec<Held>,
    /// partitions of which a table is locked
    pub locked: Vec<Partition>,
    /// what the last of them waits for
    pub held_up_by: Option<String>,
    /// batches of hot partitions that were written
    pub batches: Vec<NewBatch>,
    /// scattered events, by partition
    pub scattered: Vec<(Partition, u64)>,
}

/// A batch of a hot partition that was written.
#[derive(Clone, Copy, Debug)]
pub struct NewBatch {
    /// its partition
    pub partition: Partition,
    /// how many events it has
    pub events: u64,
    /// bytes of its body
    pub bytes: u64,
}

/// The way that events of hot partitions take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into a batch, if that is possible.
    Batches,
    /// Into their streams.
    Streams,
}

/// A stream that was passed over.
pub struct Held {
    /// its partition
    pub partition: Partition,
    /// its hash
    pub key: u64,
    /// the transaction that has locked it; 0: it waits for another reason
    pub holder: u32,
    /// its records, in order
    pub records: Vec<usize>,
}

/// Locks the store of this database, so that it is not dropped before the transaction ends, and returns
/// its incarnation; `None` if there is no store.
pub fn lock_store() -> Result<Option<u32>, Error> {
    match lock_sequence(
        Sequence::Position,
        pgrx::pg_sys::RowExclusiveLock as pgrx::pg_sys::LOCKMODE,
    ) {
        Ok(oid) => Ok(Some(oid.to_u32())),
        Err(Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes records to their streams, except those of streams that `must_wait` or are held by another
/// transaction. `at` is set to the partition that is being written, so that an error can be attributed
/// to it. `store` is what `lock_store` has returned.
pub fn write_batch(
    records: &[Record<'_>],
    store: Option<u32>,
    must_wait: impl Fn(Partition, u64) -> bool,
    way: Way,
    at: &Cell<Option<Partition>>,
) -> Result<Written, Error> {
    let live = live_records(records, store)?;
    let discarded = (records.len() - live.len()) as u64;
    if live.is_empty() {
        return Ok(Written { discarded, ..Written::default() });
    }
    let mut written = as_writer(|| {
        let hot = match way {
            Way::Batches => map::get_to_write()?.map(|known| known.takes_batches()),
            Way::Streams => [false; PARTITIONS],
        };
        Batch::new(records, live, &hot)?.write(&must_wait, way, &hot, at)
    })?;
    written.discarded = discarded;
    Ok(written)
}

/// Waits in the queue for the head of a record's stream, as an append does, and locks it. The caller has
/// locked nothing that others could wait for. Fails after `lock_timeout`.
pub fn queue_for(record: &Record<'_>) -> Result<(), Error> {
    as_writer(|| {
        check_writable()?;
        check_writer()?;
        let partition = Partition::of(record.stream_id);
        let mut heads = Heads::by_name(partition, For::Writing, latest())?;
        if heads.stand_on(record.stream_id, record.tenant_id) {
            // Whatever comes of it is found when the stream is written.
            heads.lock_newest(Wait::Block);
        }
        Ok(())
    })
}

/// Indexes of the records whose incarnation of the extension still exists: nearly always all.
fn live_records(records: &[Record<'_>], store: Option<u32>) -> Result<Vec<u32>, Error> {
    let database = database_oid();
    let home = store.map(|incarnation| Home { database, incarnation });
    let mut live = with_room(records.len())?;
    let mut gone = None;
    for (index, record) in records.iter().enumerate() {
        if Some(record.home) == home {
            live.push(index as u32);
        } else if gone != Some(record.home) {
            if record.home.database == database && is_relation(record.home.incarnation) {
                // It exists and cannot be found by its name: somebody is working on it.
                return Err(Error::Missing { object: "position_seq".into() });
            }
            gone = Some(record.home);
        }
    }
    Ok(live)
}

/// Streams, each with its range of the records in lock order.
type Ranges = [(usize, Range<usize>)];

/// Live records, grouped by stream.
struct Batch<'r, 'a> {
    records: &'r [Record<'a>],
    plan: Plan<'a>,
    ranges: Vec<(usize, Range<usize>)>,
    /// The records in lock order; in hot partitions stream by stream.
    order: Vec<u32>,
    events: Vec<NewEvent<'a>>,
    has_ids: bool,
}

/// A stream whose head was advanced.
struct Moved<'a> {
    group: usize,
    range: Range<usize>,
    /// The events that are written, where these are not all.
    accepted: Option<Vec<NewEvent<'a>>>,
    advanced: Advanced,
}

impl<'r, 'a> Batch<'r, 'a> {
    fn new(
        records: &'r [Record<'a>],
        live: Vec<u32>,
        hot: &[bool; PARTITIONS],
    ) -> Result<Self, Error> {
        let plan = Plan::new(live.iter().map(|index| {
            let record = &records[*index as usize];
            StreamKey { stream_id: record.stream_id, tenant_id: record.tenant_id }
        }))?;
        let (ranges, order) = plan.in_lock_order_of(&live, |partition| !hot[partition.index()])?;
        let events = collect(order.iter().map(|index| records[*index as usize].event))?;
        let has_ids = events.iter().any(|event| event.event_id.is_some());
        Ok(Self { records, plan, ranges, order, events, has_ids })
    }

    fn write(
        &self,
        must_wait: &impl Fn(Partition, u64) -> bool,
        way: Way,
        hot: &[bool; PARTITIONS],
        at: &Cell<Option<Partition>>,
    ) -> Result<Written, Error> {
        check_writable()?;
        check_writer()?;
        let writing = Writing::begin()?;
        let numbers = StreamNumbers::new(self.ranges.len());
        let mut written = Written::default();
        let mut moved = with_room(self.ranges.len())?;
        let partition = |range: &(usize, Range<usize>)| self.plan.groups()[range.0].partition;
        let mut body = HotBatchWriter::new(BODY_BYTES_MAX);
        for ranges in self.ranges.chunk_by(|a, b| partition(a) == partition(b)) {
            let partition = partition(&ranges[0]);
            at.set(Some(partition));
            if way == Way::Batches {
                written.scattered.push((partition, self.scattered(ranges)));
            }
            let rest = if hot[partition.index()] {
                let mut rest =
                    self.write_hot(ranges, must_wait, &writing, &mut body, &mut written)?;
                rest.to_mut().sort_unstable_by_key(|(index, _)| self.plan.groups()[*index].stream);
                rest
            } else {
                Cow::Borrowed(ranges)
            };
            if !rest.is_empty() {
                let with = (&writing, &numbers);
                self.lock_partition(&rest, must_wait, with, &mut written, &mut moved)?;
            }
        }
        at.set(None);
        let appends = collect(moved.iter().map(|moved| {
            let all = &self.events[moved.range.clone()];
            self.append(moved.group, moved.accepted.as_deref().unwrap_or(all), None)
        }))?;
        let advanced = collect(moved.iter().map(|moved| moved.advanced.clone()))?;
        let mut taken = take_positions(&appends, &advanced, &writing)?;
        let mut rest = &advanced[..];
        let mut flushed = 0;
        for appends in appends.chunk_by(|a, b| a.partition == b.partition) {
            at.set(Some(appends[0].partition));
            let (own, others) = rest.split_at(appends.len());
            rest = others;
            write_runs(appends, own, &mut taken, &writing)?;
            flush_log_in_steps(FLUSH_BYTES, &mut flushed);
        }
        at.set(None);
        writing.finish();
        advance_command();
        written.refused.sort_unstable_by_key(|(record, _)| *record);
        Ok(written)
    }

    /// Events that a run would hardly gain anything for, and that could go into batches.
    fn scattered(&self, ranges: &Ranges) -> u64 {
        let few = ranges.iter().filter(|(_, range)| range.len() <= SCATTERED_MAX);
        few.filter(|(_, range)| self.are_plain(range)).map(|(_, range)| range.len() as u64).sum()
    }

    /// Whether events can go into batches.
    fn are_plain(&self, range: &Range<usize>) -> bool {
        self.order[range.clone()].iter().all(|at| {
            let record = &self.records[*at as usize];
            record.entity_id.is_none() && record.event.event_id.is_none()
        })
    }

    /// Writes what can be written there into batches of a hot partition. Returns what is left.
    fn write_hot<'s>(
        &self,
        ranges: &'s Ranges,
        must_wait: &impl Fn(Partition, u64) -> bool,
        writing: &Writing,
        body: &mut HotBatchWriter,
        written: &mut Written,
    ) -> Result<Cow<'s, Ranges>, Error> {
        let partition = self.plan.groups()[ranges[0].0].partition;
        let waits = |(index, _): &(usize, Range<usize>)| {
            must_wait(partition, self.plan.groups()[*index].stream.hash64())
        };
        if ranges.iter().all(waits) {
            // Perhaps because the partition cannot be written.
            return Ok(Cow::Borrowed(ranges));
        }
        if !try_lock(Root::Batches, partition)? {
            written.held_up_by = Some(locked_table(Root::Batches, partition)?);
            written.locked.push(partition);
            return Ok(Cow::Borrowed(ranges));
        }
        // With the lock nobody makes the partition cold, or fences it.
        accept_invalidations();
        check_may_write(partition)?;
        let known = map::get_to_write()?[partition.index()];
        let incarnation = sequence_oid(Sequence::Position)?.to_u32();
        let marks = Marks::claim(partition, incarnation);
        let Some(marks) = marks.filter(|_| known.takes_batches()) else {
            return Ok(Cow::Borrowed(ranges));
        };
        if !marks.are_kept() {
            let last = with_snapshot_of_now(|snapshot| {
                Ok::<_, Error>(Batches::open(partition, snapshot)?.last())
            })?;
            marks.keep(known.settled_batch.max(last.unwrap_or(0)));
        }
        marks.begin_writing();
        let mut rows = HotRows {
            rows: BatchWriter::open(partition, writing)?,
            marks,
            body,
            batch_no: marks.next_batch(),
            written_at_us: now_us(),
            batches: &mut written.batches,
        };
        rows.body.begin(rows.written_at_us);
        let mut rest = with_room(ranges.len())?;
        let mut events = 0;
        for (index, range) in ranges {
            let group = &self.plan.groups()[*index];
            let key = group.stream.hash64();
            let records = || self.order[range.clone()].iter().map(|at| &self.records[*at as usize]);
            let is_plain =
                |record: &Record<'_>| record.entity_id.is_none() && record.event.event_id.is_none();
            if must_wait(partition, key)
                || !records().all(is_plain)
                || !marks.mark(key, rows.batch_no)
            {
                rest.push((*index, range.clone()));
                continue;
            }
            for record in records() {
                rows.push(record, key)?;
            }
            events += range.len() as u64;
        }
        rows.finish()?;
        written.events += events;
        Ok(Cow::Owned(rest))
    }

    /// Locks the streams of a partition and advances their heads.
    fn lock_partition(
        &self,
        ranges: &Ranges,
        must_wait: &impl Fn(Partition, u64) -> bool,
        (writing, numbers): (&Writing, &StreamNumbers),
        written: &mut Written,
        moved: &mut Vec<Moved<'a>>,
    ) -> Result<(), Error> {
        let partition = self.plan.groups()[ranges[0].0].partition;
        let mut heads = None;
        for (index, range) in ranges {
            let group = &self.plan.groups()[*index];
            let key = group.stream.hash64();
            if must_wait(partition, key) || written.locked.last() == Some(&partition) {
                written.held.push(self.held(group, range, 0));
                continue;
            }
            let heads = match &mut heads {
                Some(heads) => heads,
                none => {
                    if let Some(root) = self.lock_leaves(partition)? {
                        written.held_up_by = Some(locked_table(root, partition)?);
                        written.locked.push(partition);
                        written.held.push(self.held(group, range, 0));
                        continue;
                    }
                    let mut heads = HeadWriter::open(partition, writing, numbers)?;
                    let stream =
                        |(index, _): &(usize, Range<usize>)| self.plan.groups()[*index].stream;
                    heads.prepare_to_try(ranges.iter().map(stream))?;
                    none.insert(heads)
                }
            };
            self.advance(heads, *index, range, written, moved)?;
        }
        Ok(())
    }

    /// Advances a stream's head by the events that are to be written.
    fn advance(
        &self,
        heads: &mut HeadWriter<'_>,
        index: usize,
        range: &Range<usize>,
        written: &mut Written,
        moved: &mut Vec<Moved<'a>>,
    ) -> Result<(), Error> {
        let group = &self.plan.groups()[index];
        let first = &self.records[self.order[range.start] as usize];
        let append = self.append(index, &self.events[range.clone()], first.entity_id);
        let mut judged = Judged::default();
        let tried = heads.try_advance(&append, TailOf::Stream, |found| {
            judged = self.judge(&append, range, found)?;
            Ok(judged.accepted(range.len()))
        })?;
        let advanced = match tried {
            Tried::Held(holder) => {
                written.held_up_by = Some(locked_stream(group, process_of(holder)));
                written.held.push(self.held(group, range, holder.into_inner()));
                return Ok(());
            }
            Tried::Moved(advanced) => Some(advanced),
            Tried::Unchanged => None,
        };
        let Judged { verdicts, entity_id } = judged;
        let Some(verdicts) = verdicts else {
            written.events += range.len() as u64;
            let moved_on =
                |advanced| Moved { group: index, range: range.clone(), accepted: None, advanced };
            moved.extend(advanced.map(moved_on));
            return Ok(());
        };
        let mut accepted = Vec::new();
        for (place, verdict) in range.clone().zip(verdicts) {
            let record = self.order[place] as usize;
            match verdict {
                Verdict::Write => accepted.push(self.events[place]),
                Verdict::Skip => {}
                refusal => {
                    let failure = refused(&self.records[record], refusal, entity_id.as_deref());
                    written.refused.push((record, failure));
                    continue;
                }
            }
            written.events += 1;
        }
        let moved_on = |advanced| Moved {
            group: index,
            range: range.clone(),
            accepted: Some(accepted),
            advanced,
        };
        moved.extend(advanced.map(moved_on));
        Ok(())
    }

    /// Decides about each event of a stream.
    fn judge(
        &self,
        append: &StreamAppend<'_>,
        range: &Range<usize>,
        found: Option<Found<'_>>,
    ) -> Result<Judged, Error> {
        let entity = |place: usize| self.records[self.order[place] as usize].entity_id;
        let stream_entity = found.map_or(append.entity_id, |found| found.entity_id);
        let fits = |given: Option<&[u8]>| given.is_none() || given == stream_entity;
        let has_ids = append.events.iter().any(|event| event.event_id.is_some());
        if !has_ids && range.clone().all(|place| fits(entity(place))) {
            return Ok(Judged::default());
        }
        let known = match found {
            Some(found) if has_ids && found.version > 0 => find_known(append, found.stream_no)?,
            _ => vec![Known::New; append.events.len()],
        };
        let offered = range.clone().zip(&known).map(|(place, known)| Offered {
            event: &self.events[place],
            entity_id: entity(place),
            known: *known,
        });
        let verdicts = judge(found.map(|found| found.entity_id), offered);
        Ok(Judged { verdicts: Some(verdicts), entity_id: stream_entity.map(<[u8]>::to_vec) })
    }

    fn append<'e>(
        &self,
        group: usize,
        events: &'e [NewEvent<'e>],
        entity_id: Option<&'e [u8]>,
    ) -> StreamAppend<'e>
    where
        'a: 'e,
    {
        let Group { stream, partition, .. } = self.plan.groups()[group];
        StreamAppend {
            partition,
            stream_id: stream.stream_id,
            tenant_id: stream.tenant_id,
            entity_id,
            expected: ExpectedVersion::Any,
            events,
        }
    }

    fn held(&self, group: &Group<'_>, range: &Range<usize>, holder: u32) -> Held {
        let records = self.order[range.clone()].iter().map(|record| *record as usize).collect();
        Held { partition: group.partition, key: group.stream.hash64(), holder, records }
    }

    /// Locks the leaves that are needed; returns the first one that somebody else has locked.
    fn lock_leaves(&self, partition: Partition) -> Result<Option<Root>, Error> {
        let ids = self.has_ids.then_some(Root::Ids);
        for root in [Root::Streams, Root::Log].into_iter().chain(ids) {
            if !try_lock(root, partition)? {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }
}

/// Rows of `hot_batches` that are being written.
struct HotRows<'t, 'b> {
    rows: BatchWriter<'t>,
    marks: Marks,
    body: &'b mut HotBatchWriter,
    batch_no: i64,
    written_at_us: i64,
    batches: &'b mut Vec<NewBatch>,
}

impl HotRows<'_, '_> {
    /// Adds an event of a stream that was marked.
    fn push(&mut self, record: &Record<'_>, key: u64) -> Result<(), Error> {
        loop {
            match self.body.push(record)? {
                Pushed::Added => return Ok(()),
                Pushed::Full => {}
                Pushed::NotPlain => {
                    return Err(Error::Internal { what: "event is not plain".into() });
                }
            }
            self.finish()?;
            self.batch_no = self.marks.next_batch();
            // A transaction that has begun to append meanwhile has seen the first mark.
            let _ = self.marks.mark(key, self.batch_no);
        }
    }

    /// Writes the row, if there is anything in it, and begins another one.
    fn finish(&mut self) -> Result<(), Error> {
        if self.body.is_empty() {
            return Ok(());
        }
        let partition = self.marks.partition();
        let row = self.body.row(partition, self.batch_no)?;
        self.rows.write(self.written_at_us, row)?;
        let (events, bytes) = (row.events as u64, row.body.len() as u64);
        self.batches.push(NewBatch { partition, events, bytes });
        counting::appended(partition, events);
        self.body.begin(self.written_at_us);
        Ok(())
    }
}

/// What was decided about the events of a stream.
#[derive(Default)]
struct Judged {
    /// `None`: all are written.
    verdicts: Option<Vec<Verdict>>,
    /// The stream's entity.
    entity_id: Option<Vec<u8>>,
}

impl Judged {
    fn accepted(&self, all: usize) -> usize {
        let Some(verdicts) = &self.verdicts else { return all };
        verdicts.iter().filter(|verdict| **verdict == Verdict::Write).count()
    }
}

/// Why an event is refused, as an append of its own would say.
fn refused(record: &Record<'_>, verdict: Verdict, entity_id: Option<&[u8]>) -> Failure {
    let stream_id = display(record.stream_id);
    let error = if verdict == Verdict::RefuseEntity {
        StoreError::EntityMismatch {
            stream_id,
            entity_id: entity_id.map(display),
            given: record.entity_id.map(display).unwrap_or_default(),
        }
    } else {
        let event_id = record.event.event_id.unwrap_or_default();
        StoreError::DuplicateEventId {
            stream_id,
            event_id: pgrx::Uuid::from_bytes(event_id).to_string(),
            reason: "its type or payload differs",
        }
    };
    Error::from(error).to_failure()
}

fn locked_stream(group: &Group<'_>, process: Option<i32>) -> String {
    let (stream, tenant) = (display(group.stream.stream_id), display(group.stream.tenant_id));
    let by = by_process(process);
    format!(
        "stream \"{stream}\" of tenant \"{tenant}\" in partition {} is locked by {by}",
        group.partition.number()
    )
}

fn locked_table(root: Root, partition: Partition) -> Result<String, Error> {
    let by = by_process(lock_holder(root, partition)?);
    Ok(format!("table {}_p{:02} is locked by {by}", root.table(), partition.number()))
}

/// Who has locked something, for a message.
pub fn by_process(process: Option<i32>) -> String {
    process.map_or_else(|| "another transaction".to_owned(), |pid| format!("process {pid}"))
}
