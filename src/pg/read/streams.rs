//! The columns of streams, found by number and remembered.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use super::row::StreamColumns;
use crate::codec::checksum::RunKey;
use crate::model::memory::{in_table, with_room};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::body;
use crate::pg::error::Error;
use crate::pg::tables::heads::Heads;
use crate::pg::tables::names::generation;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

/// What a backend keeps for the names of streams.
const REMEMBERED_BYTES_MAX: usize = 16 << 20;

/// A stream's columns, remembered. They never change: see `check_entity` for the entity.
struct Remembered {
    values: Vec<u8>,
    tenant_id: usize,
    entity_id: Option<usize>,
    /// The safe position when the stream was looked up. Runs up to there are of that stream.
    looked_up_at: i64,
}

/// What an entry of the table takes besides its values: tables are up to twice as large as what they
/// hold.
const ENTRY_BYTES: usize = 2 * size_of::<(i64, Remembered)>();

impl Remembered {
    fn size_bytes(&self) -> usize {
        ENTRY_BYTES + self.values.capacity()
    }
}

/// The streams that a backend remembers.
///
/// A number can be given to another stream: an owner may delete streams and set `stream_no_seq` back,
/// which PostgreSQL does not report to others. The first run of the other stream has version 1, and a
/// position that was not safe yet when the entry was made. So a stream is looked up again at such a
/// run, and everything is forgotten if a call begins above what was seen, because it might miss one.
#[derive(Default)]
struct Memory {
    generation: u64,
    streams: HashMap<i64, Remembered>,
    size_bytes: usize,
    /// The position of each partition up to which all runs were seen since the entries were made.
    seen: [i64; PARTITIONS],
}

impl Memory {
    fn forget_streams(&mut self) {
        self.streams = HashMap::new();
        self.size_bytes = 0;
    }
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Finds the columns of streams by number, in one call that reads the store.
pub struct Streams<'a> {
    snapshot: pg_sys::Snapshot,
    safe: i64,
    partitions: &'a [bool; PARTITIONS],
    heads: [Option<Heads>; PARTITIONS],
}

impl<'a> Streams<'a> {
    /// For a call that passes all runs of these partitions, each from behind its position of `after` on, in
    /// the order of positions. Forgets what may have changed.
    pub fn new(
        snapshot: pg_sys::Snapshot,
        partitions: &'a [bool; PARTITIONS],
        after: impl Fn(Partition) -> i64,
        safe: i64,
    ) -> Self {
        let wanted = || Partition::all().filter(|partition| partitions[partition.index()]);
        MEMORY.with_borrow_mut(|memory| {
            if memory.generation != generation() {
                memory.generation = generation();
                memory.seen = [0; PARTITIONS];
                memory.forget_streams();
            }
            if wanted().any(|partition| after(partition) > memory.seen[partition.index()]) {
                memory.forget_streams();
            }
            for partition in wanted() {
                let seen = &mut memory.seen[partition.index()];
                *seen = after(partition).max(*seen);
            }
        });
        Self { snapshot, safe, partitions, heads: [const { None }; PARTITIONS] }
    }

    /// The call has passed all runs up to a position.
    pub fn seen_up_to(&self, position: i64) {
        MEMORY.with_borrow_mut(|memory| {
            let seen = memory.seen.iter_mut().zip(self.partitions);
            for (seen, _) in seen.filter(|(_, is_wanted)| **is_wanted) {
                *seen = position.max(*seen);
            }
        });
    }

    /// The columns of the stream of a run, if there is one of this number. The values live until the
    /// next call of this function.
    pub fn columns(
        &mut self,
        partition: Partition,
        run: RunKey,
    ) -> Result<Option<StreamColumns>, Error> {
        let is_sure =
            |stream: &Remembered| run.first_version != 1 || run.position <= stream.looked_up_at;
        match known(partition, run.stream_no, is_sure) {
            Some(columns) => Ok(Some(columns)),
            None if self.remember(partition, run.stream_no)? => {
                Ok(known(partition, run.stream_no, |_| true))
            }
            None => Ok(None),
        }
    }

    /// `false` if there is no such stream.
    fn remember(&mut self, partition: Partition, stream_no: i64) -> Result<bool, Error> {
        let heads = match &mut self.heads[partition.index()] {
            Some(heads) => heads,
            none => none.insert(Heads::by_number(partition, self.snapshot)?),
        };
        let Some(head) = heads.find_number(stream_no) else {
            return Ok(false);
        };
        let columns = [Some(head.stream_id()), Some(head.tenant_id()), head.entity_id()];
        // SAFETY: the scan stands on the head.
        let lens = columns.iter().flatten().map(|value| unsafe { body(*value) }.len());
        let mut values = with_room(lens.map(|len| len + pg_sys::VARHDRSZ + 3).sum())?;
        let mut push = |value: pg_sys::Datum| {
            // SAFETY: the scan stands on the head.
            let bytes = unsafe { body(value) };
            push_text(&mut values, bytes)
        };
        push(head.stream_id());
        let tenant_id = push(head.tenant_id());
        let entity_id = head.entity_id().map(push);
        let stream = Remembered { values, tenant_id, entity_id, looked_up_at: self.safe };
        MEMORY.with_borrow_mut(|memory| {
            if memory.size_bytes + stream.size_bytes() > REMEMBERED_BYTES_MAX {
                memory.forget_streams();
            }
            let streams = &mut memory.streams;
            in_table::<(i64, Remembered)>(streams.try_reserve(1), streams.len() + 1)?;
            memory.size_bytes += stream.size_bytes();
            if let Some(old) = streams.insert(stream_no, stream) {
                memory.size_bytes -= old.size_bytes();
            }
            Ok(true)
        })
    }
}

/// The columns of a stream, if they are remembered and sure.
fn known(
    partition: Partition,
    stream_no: i64,
    is_sure: impl FnOnce(&Remembered) -> bool,
) -> Option<StreamColumns> {
    MEMORY.with_borrow(|memory| {
        let stream = memory.streams.get(&stream_no).filter(|stream| is_sure(stream))?;
        let value = |offset: usize| pg_sys::Datum::from(&raw const stream.values[offset]);
        Some(StreamColumns {
            stream_id: value(0),
            tenant_id: value(stream.tenant_id),
            entity_id: stream.entity_id.map(value),
            partition,
        })
    })
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
