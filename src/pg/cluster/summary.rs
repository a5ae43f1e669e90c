//! A summary by which two copies of a partition are compared: sums over its runs and its heads, so that
//! the order of rows does not matter.
//!
//! Before the fence others write, so only what they do not change is summed up: the runs up to a position, P,
//! which is safe, and each head as it was at P. A head whose stream has no run above P is still that, and
//! enters with what it says itself. Of another only the name, and what the runs up to P tell, is known; by
//! the time of the fence its stream has a run above P, so the head is compared then.
//!
//! Behind the fence only what was written above P is looked at: the runs, by the index of positions, and
//! the heads of their streams, by the index of numbers. What is left are streams that were created and have no
//! event. When the partition was published for the move, all numbers of new streams up to `streams_above`
//! had been given out, and the slot was made when those who had taken them were done. So such a stream with
//! a number up to it was there before the first summary, and is in it, without a version. One above it is looked
//! for behind the fence: among the streams that the source has created since, which are neighbours in the index.
//!
//! | head's stream | before the fence | behind it |
//! | --- | --- | --- |
//! | has runs up to P, none above | as it is | |
//! | has runs up to P, and above | as it was at P | as it is |
//! | has its first run above P | created before the move: without a version | as it is |
//! | has no run | created before the move: as it is | created since: as it is |
//!
//! Batches that were settled are not told before the fence: settling writes runs above P.
#![expect(unsafe_code, reason = "takes PostgreSQL's rows apart")]

use crate::model::memory::push;
use crate::model::partition::Partition;
use crate::model::stream_no::last_of_node;
use crate::pg::call::Call;
use crate::pg::call::datum::body;
use crate::pg::call::rows::{Rows, int8};
use crate::pg::error::Error;
use crate::pg::session::scratch::Scratch;
use crate::pg::session::xact::{check_for_interrupts, statement_snapshot};
use crate::pg::tables::heads::{Head, Heads};
use crate::pg::tables::log::{array_len, run_key};
use crate::pg::tables::relation::{For, Leaf};
use crate::pg::tables::scan::{Direction, Key, Scan};
use crate::pg::tables::schema::{LeafIndex, Root, log};
use pgrx::{AnyNumeric, IntoDatum, pg_sys};
use xxhash_rust::xxh3::xxh3_64;

/// What is to be summed up.
#[derive(Clone, Copy)]
pub struct Asked {
    /// runs that begin above this position
    pub above: i64,
    /// runs that begin at this position or before it; `None`: all, which is for a copy that nobody writes
    pub up_to: Option<i64>,
    /// whether heads are summed up too
    pub with_streams: bool,
    /// streams with a number above this one, and of its node, may have been created since the partition
    /// was published; `None`: any may have been
    pub streams_above: Option<i64>,
}

/// Counts, and a sum of hashes.
#[derive(Clone, Copy, Default)]
struct Sum {
    rows: i64,
    amount: i64,
    checksum: u128,
}

impl Sum {
    fn add(&mut self, amount: i64, bytes: &[u8]) {
        self.rows += 1;
        self.amount = self.amount.wrapping_add(amount);
        self.checksum = self.checksum.wrapping_add(u128::from(xxh3_64(bytes)));
    }

    fn columns(self) -> [Option<pg_sys::Datum>; 3] {
        [int8(self.rows), int8(self.amount), AnyNumeric::from(self.checksum).into_datum()]
    }
}

/// Puts a row into the result of `call`.
pub fn summarize(call: &Call, partition: Partition, asked: Asked) -> Result<(), Error> {
    let mut rows = Rows::begin(call);
    let mut copy = Copy::open(partition, asked)?;
    let mut streams = Vec::new();
    let runs = copy.runs(|stream_no| {
        let is_wanted = asked.with_streams && asked.up_to.is_none() && asked.above > 0;
        if is_wanted { push(&mut streams, stream_no) } else { Ok(()) }
    })?;
    let heads = match asked.up_to {
        _ if !asked.with_streams => None,
        Some(position) => Some(copy.heads_at(position)?),
        None if asked.above <= 0 => Some(copy.all_heads()?),
        None => {
            streams.sort_unstable();
            streams.dedup();
            Some(copy.heads_of(&streams)?)
        }
    };
    let ([runs, events, runs_checksum], heads) =
        (runs.columns(), heads.map_or([None; 3], Sum::columns));
    let [streams, versions, streams_checksum] = heads;
    rows.put([runs, events, runs_checksum, streams, versions, streams_checksum])
}

/// A copy of a partition, as the statement's snapshot shows it.
struct Copy {
    partition: Partition,
    asked: Asked,
    snapshot: pg_sys::Snapshot,
    heads: Heads,
    bytes: Vec<u8>,
}

impl Copy {
    fn open(partition: Partition, asked: Asked) -> Result<Self, Error> {
        let snapshot = statement_snapshot();
        let heads = Heads::by_number(partition, snapshot)?;
        Ok(Self { partition, asked, snapshot, heads, bytes: Vec::with_capacity(512) })
    }

    /// Sums the runs up, and passes the number of each one's stream.
    fn runs<E>(&mut self, mut use_stream: impl FnMut(i64) -> Result<(), E>) -> Result<Sum, Error>
    where
        Error: From<E>,
    {
        let leaf = Leaf::open(Root::Log, self.partition, For::Reading)?;
        let mut scan = Scan::open(leaf, LeafIndex::ByNumber, self.snapshot, 2);
        let up_to = Key::Int8AtMost(self.asked.up_to.unwrap_or(i64::MAX));
        scan.find(&[(1, Key::Int8Above(self.asked.above)), (1, up_to)]);
        let scratch = Scratch::new();
        let mut sum = Sum::default();
        while scan.next(Direction::Forward) {
            check_for_interrupts();
            let (values, _) = scan.row();
            let key = run_key(values);
            let events = scratch.run(|_| {
                // SAFETY: the column is an array of text, and never NULL.
                unsafe { array_len(values[log::EVENT_TYPES]) }
            });
            self.bytes.clear();
            for number in [
                key.stream_no,
                key.first_version,
                key.position,
                key.timestamp_us,
                values[log::CHECKSUM].value() as i32 as i64,
                events,
            ] {
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            sum.add(events, &self.bytes);
            use_stream(key.stream_no)?;
        }
        Ok(sum)
    }

    /// All heads, as they are.
    fn all_heads(&mut self) -> Result<Sum, Error> {
        let (mut sum, bytes) = (Sum::default(), &mut self.bytes);
        self.heads.walk_numbers(i64::MIN, |head| {
            write_head(bytes, &head, None);
            sum.add(head.current_version(), bytes);
            true
        });
        Ok(sum)
    }

    /// The heads of these streams, and of those that were created since the partition was published and
    /// have no event, as they are.
    fn heads_of(&mut self, streams: &[i64]) -> Result<Sum, Error> {
        let (mut sum, bytes) = (Sum::default(), &mut self.bytes);
        for stream_no in streams {
            check_for_interrupts();
            if let Some(head) = self.heads.find_number(*stream_no) {
                write_head(bytes, &head, None);
                sum.add(head.current_version(), bytes);
            }
        }
        let (above, last) = new_streams(self.asked.streams_above);
        self.heads.walk_numbers(above, |head| {
            let stream_no = head.stream_no();
            if head.current_version() == 0 && streams.binary_search(&stream_no).is_err() {
                write_head(bytes, &head, None);
                sum.add(0, bytes);
            }
            stream_no < last
        });
        Ok(sum)
    }

    /// The heads as they were at a position, but for those of streams that may have been created since the
    /// partition was published and had no event by then.
    fn heads_at(&mut self, position: i64) -> Result<Sum, Error> {
        let leaf = Leaf::open(Root::Log, self.partition, For::Reading)?;
        let mut runs = Scan::open(leaf, LeafIndex::ByStream, self.snapshot, 1);
        let scratch = Scratch::new();
        let (above, last) = new_streams(self.asked.streams_above);
        let (mut sum, bytes) = (Sum::default(), &mut self.bytes);
        self.heads.walk_numbers(i64::MIN, |head| {
            let stream_no = head.stream_no();
            let at = head_at(&mut runs, &scratch, stream_no, position);
            let may_be_new = stream_no > above && stream_no <= last;
            let at = match at {
                At::Unwritten | At::NotYetWritten if may_be_new => return true,
                At::NotYetWritten => Some((0, head.created_at_us())),
                At::Unwritten | At::Written => None,
                At::Changed { version, updated_at_us } => Some((version, updated_at_us)),
            };
            write_head(bytes, &head, Some(at));
            sum.add(at.map_or(head.current_version(), |(version, _)| version), bytes);
            true
        });
        Ok(sum)
    }
}

/// What a head was at a position.
enum At {
    /// What it is: its stream has no run.
    Unwritten,
    /// Its stream had no run, and has one now.
    NotYetWritten,
    /// What it is: its stream has no run above the position.
    Written,
    /// This, as the runs tell.
    Changed { version: i64, updated_at_us: i64 },
}

/// What a stream's head was at a position, given a scan over the runs of streams.
fn head_at(runs: &mut Scan, scratch: &Scratch, stream_no: i64, position: i64) -> At {
    runs.find(&[(1, Key::Int8(stream_no))]);
    let mut is_last = true;
    while runs.next(Direction::Backward) {
        check_for_interrupts();
        let (values, nulls) = runs.row();
        let key = run_key(values);
        if key.position > position {
            is_last = false;
            continue;
        }
        if is_last {
            return At::Written;
        }
        return scratch.run(|_| {
            // SAFETY: columns of this type, the first of them never NULL.
            let (events, times) = unsafe {
                let times = (!nulls[log::TIMESTAMPS]).then(|| body(values[log::TIMESTAMPS]));
                (array_len(values[log::EVENT_TYPES]), times)
            };
            // Times have a fixed length, so the last one is at the end.
            let last = times.and_then(|times| times.last_chunk::<8>());
            let updated_at_us = last.map_or(key.timestamp_us, |last| i64::from_ne_bytes(*last));
            At::Changed { version: key.first_version + events - 1, updated_at_us }
        });
    }
    if is_last { At::Unwritten } else { At::NotYetWritten }
}

/// Streams created since have numbers above the first, and up to the second.
fn new_streams(streams_above: Option<i64>) -> (i64, i64) {
    streams_above.map_or((i64::MIN, i64::MAX), |above| (above, last_of_node(above)))
}

/// Writes what is compared of a head. `at`: as it was at a position, when it said this, or what it
/// says now.
fn write_head(bytes: &mut Vec<u8>, head: &Head<'_>, at: Option<Option<(i64, i64)>>) {
    bytes.clear();
    let mut put = |number: i64| bytes.extend_from_slice(&number.to_le_bytes());
    put(head.stream_no());
    put(head.created_at_us());
    if let Some(Some((version, updated_at_us))) = at {
        [version, version, updated_at_us].into_iter().for_each(&mut put);
    } else {
        put(head.current_version());
        put(head.watermark());
        put(head.updated_at_us());
    }
    if at.is_none() {
        put(head.settled_batch());
        put(i64::from(head.settled_events()));
    }
    let names = [Some(head.tenant_id()), Some(head.stream_id()), head.entity_id()];
    for name in names.into_iter().flatten() {
        // SAFETY: a text of the row that the scan stands on.
        let name = unsafe { body(name) };
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name);
    }
}
