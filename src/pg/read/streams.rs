//! The columns of streams, found by number and remembered.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use super::row::StreamColumns;
use crate::model::memory::{in_table, with_room};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::body;
use crate::pg::error::Error;
use crate::pg::tables::heads::Heads;
use crate::pg::tables::names::generation;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

/// Streams whose names a backend remembers.
const REMEMBERED_STREAMS_MAX: usize = 100_000;

/// A stream's columns, remembered. They never change: see `check_entity` for the entity.
struct Remembered {
    values: Vec<u8>,
    tenant_id: usize,
    entity_id: Option<usize>,
}

thread_local! {
    static REMEMBERED: RefCell<(u64, HashMap<i64, Remembered>)> = RefCell::default();
}

/// Finds the columns of streams by number.
pub struct Streams {
    snapshot: pg_sys::Snapshot,
    heads: [Option<Heads>; PARTITIONS],
}

impl Streams {
    /// Forgets what may have changed, or is too much.
    pub fn new(snapshot: pg_sys::Snapshot) -> Self {
        REMEMBERED.with_borrow_mut(|(known, streams)| {
            if *known != generation() || streams.len() > REMEMBERED_STREAMS_MAX {
                *known = generation();
                streams.clear();
            }
        });
        Self { snapshot, heads: [const { None }; PARTITIONS] }
    }

    /// The columns of a stream, if there is one of this number. The values live until the next call's `new`.
    pub fn columns(
        &mut self,
        partition: Partition,
        stream_no: i64,
    ) -> Result<Option<StreamColumns>, Error> {
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
            Some(columns) => Ok(Some(columns)),
            None if self.remember(partition, stream_no)? => self.columns(partition, stream_no),
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
        let stream = Remembered { values, tenant_id, entity_id };
        REMEMBERED.with_borrow_mut(|(_, streams)| {
            in_table::<(i64, Remembered)>(streams.try_reserve(1), streams.len() + 1)?;
            streams.insert(stream_no, stream);
            Ok(true)
        })
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
