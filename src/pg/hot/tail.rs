//! The tail of a stream: its events in batches that are not settled.

use super::batches::Batches;
use super::control::Control;
use super::filter::{self, Marks};
use super::loaded::{LoadedBatches, OfStream};
use super::map;
use crate::codec::hot_batch::StreamHash;
use crate::codec::hot_tail::{self, DamagedTail, TailEvent, TailReader};
use crate::codec::record::Home;
use crate::model::batch::StreamKey;
use crate::model::hot;
use crate::model::memory::{collect, copied, in_table};
use crate::model::partition::Partition;
use crate::pg::call::datum::display;
use crate::pg::error::Error;
use crate::pg::session::xact::{
    accept_invalidations, database_oid, uses_one_snapshot, with_snapshot_of_now,
};
use crate::pg::settings;
use crate::pg::sidecar::{self, Query};
use crate::pg::tables::relation::sequence_oid;
use crate::pg::tables::schema::Sequence;
use pgrx::pg_sys;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Events of one stream, in their order.
#[derive(Debug, Default)]
pub struct Tail {
    source: Source,
    len: usize,
    /// the latest time of its events
    newest_us: i64,
    /// No event of the stream in batches up to this one is missing here.
    pub last_batch: i64,
}

/// Where the events are.
#[derive(Debug)]
enum Source {
    /// As `codec::hot_tail` has written them.
    Pieces(Vec<u8>),
    Loaded(Rc<LoadedBatches>, OfStream),
}

impl Default for Source {
    fn default() -> Self {
        Self::Pieces(Vec::new())
    }
}

impl Tail {
    /// Takes over what `codec::hot_tail` has written.
    pub fn new(pieces: Vec<u8>, last_batch: i64) -> Result<Self, Error> {
        let (mut len, mut newest_us) = (0, i64::MIN);
        for event in TailReader::new(&pieces) {
            newest_us = newest_us.max(event?.timestamp_us);
            len += 1;
        }
        Ok(Self { source: Source::Pieces(pieces), len, newest_us, last_batch })
    }

    /// The events of a stream in batches that are loaded.
    pub fn of_loaded(batches: &Rc<LoadedBatches>, stream: OfStream) -> Self {
        let times = batches.events_of(&stream).map(|event| event.timestamp_us);
        Self {
            len: stream.len(),
            newest_us: times.max().unwrap_or(i64::MIN),
            last_batch: batches.last_batch().unwrap_or(0),
            source: Source::Loaded(batches.clone(), stream),
        }
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The events. Their times never decrease: none is before `after_us`, the time of the event before
    /// the tail.
    pub fn events(&self, after_us: i64) -> impl Iterator<Item = TailEvent<'_>> {
        let (pieces, loaded) = match &self.source {
            Source::Pieces(pieces) => (Some(TailReader::new(pieces)), None),
            Source::Loaded(batches, stream) => (None, Some(batches.events_of(stream))),
        };
        let pieces = pieces.into_iter().flatten().map_while(Result::ok);
        let mut time = after_us;
        pieces.chain(loaded.into_iter().flatten()).map(move |mut event| {
            time = time.max(event.timestamp_us);
            event.timestamp_us = time;
            event
        })
    }

    /// The time of the last event, if there is one, as [`Self::events`] has it.
    pub fn last_us(&self, after_us: i64) -> i64 {
        self.newest_us.max(after_us)
    }

    fn newest_batch(&self) -> Option<i64> {
        self.events(i64::MIN).last().map(|event| event.batch_no)
    }
}

/// Bytes of bodies that are unpacked for a tail before the sidecar is asked for the rest of it.
const UNPACKED_BYTES_MAX: usize = 1 << 17;

/// The tails of fewer streams are read one by one.
const READ_AHEAD_MIN: usize = 4;

/// Looks for tails of streams of one partition that are about to be appended to.
pub struct Tails {
    partition: Partition,
    marks: Option<Marks>,
    has_batches: bool,
    /// up to which batch everything is settled
    pub settled_batch: i64,
    known: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
    /// the last batch that `known` is about
    known_last: Option<i64>,
}

impl Tails {
    /// For streams of a partition. Each is to be noted before it is asked about.
    pub fn open(partition: Partition) -> Result<Self, Error> {
        let marks = Marks::of(partition)?;
        let mut tails = Self {
            partition,
            marks,
            has_batches: false,
            settled_batch: 0,
            known: HashMap::new(),
            known_last: None,
        };
        tails.look()?;
        Ok(tails)
    }

    fn look(&mut self) -> Result<(), Error> {
        accept_invalidations();
        let known = map::get(self.partition)?;
        self.has_batches = known.may_have_batches();
        self.settled_batch = known.settled_batch;
        if self.has_batches && self.marks.is_none() {
            // A worker may have begun to keep them.
            self.marks = Marks::of(self.partition)?;
        }
        Ok(())
    }

    /// Notes that this transaction appends to a stream. To be called before its head is looked at.
    pub fn note(&mut self, key: u64) -> Result<(), Error> {
        filter::note_appending(key)?;
        self.look()
    }

    /// Whether a stream, all of whose events up to batch `settled` are settled, may have a tail.
    pub fn may_have_tail(&self, key: u64, settled: i64) -> bool {
        self.has_batches && self.marks.is_none_or(|marks| marks.may_have_tail(key, settled, false))
    }

    fn wait_for_writer(&self) {
        if let Some(marks) = self.marks {
            marks.wait_for_writer();
        }
    }

    /// Reads the tails of many streams at once, if there are many that may have one. They were noted, or the
    /// caller is who writes batches; so no events are added to them until the transaction ends.
    pub fn read_ahead<'a>(
        &mut self,
        streams: impl Iterator<Item = StreamKey<'a>>,
    ) -> Result<(), Error> {
        let mut wanted: HashSet<StreamKey<'_>> = HashSet::new();
        for stream in streams {
            if self.may_have_tail(stream.hash64(), 0) {
                in_table::<StreamKey<'_>>(wanted.try_reserve(1), wanted.len() + 1)?;
                wanted.insert(stream);
            }
        }
        if wanted.len() < READ_AHEAD_MIN {
            return Ok(());
        }
        let mut hashes = collect(wanted.iter().map(|stream| StreamHash::of(*stream)))?;
        hashes.sort_unstable();
        self.wait_for_writer();
        let known = &mut self.known;
        let last = with_snapshot_of_now(|snapshot| {
            let mut batches = Batches::open(self.partition, snapshot)?;
            let Some(last) = batches.last() else { return Ok(0) };
            let mut one = Vec::new();
            batches.read(i64::MIN, last, |batch| {
                if !batch.streams()?.may_have_any(&hashes) {
                    return Ok(true);
                }
                for event in batch.events()? {
                    let event = event.map_err(|source| batch.damaged(source))?;
                    let StreamKey { stream_id, tenant_id } = event.stream;
                    if wanted.contains(&event.stream) {
                        one.clear();
                        hot_tail::write_event(&mut one, &event)?;
                        let pieces =
                            known.entry((copied(stream_id)?, copied(tenant_id)?)).or_default();
                        let (number, time) = (batch.batch_no, event.timestamp_us);
                        hot_tail::write_batch(pieces, number, time, 1, &one)?;
                    }
                }
                Ok(true)
            })?;
            Ok::<_, Error>(last)
        })?;
        self.known_last = Some(last);
        Ok(())
    }

    /// The tail of a stream, all of whose events up to batch `settled` are settled. Its head is locked,
    /// or it does not exist. Under REPEATABLE READ an error, if the transaction's snapshot does not show
    /// all of it.
    pub fn read(&self, stream: StreamKey<'_>, settled: i64) -> Result<Tail, Error> {
        let tail = match self.known_last {
            Some(last) => {
                let name = (copied(stream.stream_id)?, copied(stream.tenant_id)?);
                let pieces =
                    self.known.get(&name).map_or(Ok(Vec::new()), |pieces| copied(pieces))?;
                Tail::new(pieces, last)?
            }
            None => {
                self.wait_for_writer();
                with_snapshot_of_now(|snapshot| read(self.partition, stream, settled, snapshot))?
            }
        };
        if uses_one_snapshot()
            && let Some(newest) = tail.newest_batch()
        {
            // SAFETY: the transaction keeps this snapshot until it ends.
            #[expect(unsafe_code, reason = "asks for the transaction's snapshot")]
            let snapshot = unsafe { pg_sys::GetTransactionSnapshot() };
            let shown = Batches::open(self.partition, snapshot)?.last();
            if shown.is_none_or(|shown| shown < newest) {
                return Err(Error::ConcurrentAppend { stream_id: display(stream.stream_id) });
            }
        }
        Ok(tail)
    }
}

/// The tail of a stream as a snapshot shows it. `settled` is the batch that the stream's head names in the
/// same snapshot; 0 if it has none.
pub fn read(
    partition: Partition,
    stream: StreamKey<'_>,
    settled: i64,
    snapshot: pg_sys::Snapshot,
) -> Result<Tail, Error> {
    let mut batches = Batches::open(partition, snapshot)?;
    let Some(last) = batches.last().filter(|last| *last > settled) else {
        return Ok(Tail { last_batch: settled, ..Tail::default() });
    };
    let mut pieces = Vec::new();
    let mut after = settled;
    // An answer takes several changes of processes. Meanwhile many lists of streams can be read.
    let behind = settled.max(map::get(partition)?.settled_batch);
    if last - behind <= settings::sidecar_min_batches() {
        after = read_table(&mut batches, stream, settled, last, UNPACKED_BYTES_MAX, &mut pieces)?;
    }
    if after < last {
        if let Some(control) = Control::get() {
            control.note_sidecar_needed();
        }
        read_with_sidecar(&mut batches, partition, stream, (after, last), &mut pieces)?;
    }
    Tail::new(pieces, last)
}

/// Appends the events of a stream in the batches after the first up to the second, from the sidecar as far
/// as that knows them.
fn read_with_sidecar(
    batches: &mut Batches,
    partition: Partition,
    stream: StreamKey<'_>,
    (after, last): (i64, i64),
    pieces: &mut Vec<u8>,
) -> Result<(), Error> {
    // What passes have left stands in the table only, and what is new is not in the sidecar yet.
    let known = sidecar::batches(partition).unwrap_or(hot::Batches { after: last, up_to: last });
    let first = after.max(known.after.min(last));
    let mut middle = known.up_to.clamp(first, last);
    if first < middle && middle < last && !batches.has(middle) {
        // Settled since, or removed by the table's owner, which the sidecar is told of later.
        middle = first;
    }
    read_table(batches, stream, after, first, usize::MAX, pieces)?;
    let of_table = pieces.len();
    let indexed = hot::Batches { after: first, up_to: middle };
    if first < middle && !ask_sidecar(partition, stream, indexed, pieces)? {
        pieces.truncate(of_table);
        middle = first;
    }
    read_table(batches, stream, middle, last, usize::MAX, pieces)?;
    Ok(())
}

/// Appends the events of a stream in these batches, from the table, as long as no more than `bytes_max` bytes
/// have to be unpacked. Returns up to which batch it has come.
fn read_table(
    batches: &mut Batches,
    stream: StreamKey<'_>,
    after: i64,
    last: i64,
    bytes_max: usize,
    pieces: &mut Vec<u8>,
) -> Result<i64, Error> {
    if after >= last {
        return Ok(after);
    }
    let (mut reached, mut bytes_left) = (last, bytes_max);
    let hash = StreamHash::of(stream);
    let mut events = Vec::new();
    batches.read(after, last, |batch| {
        if !batch.streams()?.may_have(hash) {
            return Ok(true);
        }
        let Some(left) = bytes_left.checked_sub(batch.body_bytes()) else {
            reached = batch.batch_no - 1;
            return Ok(false);
        };
        bytes_left = left;
        let (mut len, mut timestamp_us) = (0, 0);
        events.clear();
        for event in batch.events()? {
            let event = event.map_err(|source| batch.damaged(source))?;
            if event.stream == stream {
                hot_tail::write_event(&mut events, &event)?;
                (len, timestamp_us) = (len + 1, event.timestamp_us);
            }
        }
        if len > 0 {
            hot_tail::write_batch(pieces, batch.batch_no, timestamp_us, len, &events)?;
        }
        Ok(true)
    })?;
    Ok(reached)
}

/// How many events of a stream the sidecar has in these batches; `None` if it does not answer.
pub fn count_in_sidecar(
    partition: Partition,
    stream: StreamKey<'_>,
    batches: hot::Batches,
) -> Result<Option<u64>, Error> {
    let has_all =
        |known: hot::Batches| known.after <= batches.after && batches.up_to <= known.up_to;
    if !sidecar::batches(partition).is_some_and(has_all) {
        return Ok(None);
    }
    Ok(sidecar::count(&query(partition, stream, batches)?))
}

fn query(
    partition: Partition,
    stream: StreamKey<'_>,
    batches: hot::Batches,
) -> Result<Query<'_>, Error> {
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    let home = Home { database: database_oid(), incarnation };
    Ok(Query { home, partition, stream, batches })
}

/// Appends the same from the sidecar. Returns whether it has answered.
fn ask_sidecar(
    partition: Partition,
    stream: StreamKey<'_>,
    batches: hot::Batches,
    pieces: &mut Vec<u8>,
) -> Result<bool, Error> {
    let query = query(partition, stream, batches)?;
    let mut after = None;
    loop {
        let Some(page) = sidecar::tail(&query, after, pieces)? else { return Ok(false) };
        if page.next.is_none() {
            return Ok(true);
        }
        after = page.next;
    }
}

/// The same for a reader, if there may be one; mostly that is known without a look into the table.
pub fn read_if_any(
    partition: Partition,
    stream: StreamKey<'_>,
    settled: i64,
    snapshot: pg_sys::Snapshot,
) -> Result<Option<Tail>, Error> {
    accept_invalidations();
    if !map::get(partition)?.may_have_had_batches() {
        return Ok(None);
    }
    if let Some(marks) = Marks::of(partition)?
        && !marks.may_have_tail(stream.hash64(), settled, true)
    {
        return Ok(None);
    }
    let tail = read(partition, stream, settled, snapshot)?;
    if let Some(control) = Control::get() {
        control.count_tail(!tail.is_empty());
    }
    Ok((!tail.is_empty()).then_some(tail))
}

impl From<DamagedTail> for Error {
    fn from(damaged: DamagedTail) -> Self {
        Self::Internal { what: damaged.to_string() }
    }
}
