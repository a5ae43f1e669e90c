//! Checking what is stored.
#![expect(unsafe_code, reason = "takes a composite value apart")]

use crate::codec::hot_batch::StreamHash;
use crate::model::batch::StreamKey;
use crate::model::hot;
use crate::model::memory::{copied, with_room};
use crate::model::partition::Partition;
use crate::pg::cluster::owners::check_may_read;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::map::settled_batches;
use crate::pg::hot::tail::{count_in_sidecar, read_if_any};
use crate::pg::session::xact::statement_snapshot;
use crate::pg::sidecar;
use crate::pg::tables::heads::Heads;
use crate::pg::tables::log::{LogReader, StoredRun};
use crate::pg::tables::relation::For;
use crate::pg::tables::rights::check_reader;
use crate::pg::tables::schema::log;
use pgrx::pg_sys;
use std::collections::BTreeMap;

/// Whether versions 1 to the watermark of a stream are there, each once; `None` if there is no
/// such stream.
pub fn is_gapless(stream_id: &[u8], tenant_id: &[u8]) -> Result<Option<bool>, Error> {
    check_reader()?;
    let partition = Partition::of(stream_id);
    let mut heads = Heads::by_name(partition, For::Reading, statement_snapshot())?;
    check_may_read(partition)?;
    let mut gapless = None;
    if let Some(head) = heads.find(stream_id, tenant_id) {
        let watermark = head.watermark();
        let mut next_version = 1;
        let mut in_order = true;
        let mut log = LogReader::open(partition, statement_snapshot())?;
        log.read_runs(head.stream_no(), |first_version, len| {
            in_order &= first_version == next_version;
            next_version = first_version + len;
        })?;
        gapless = Some(in_order && next_version > watermark);
    }
    if gapless.is_none() {
        // A stream that is known by its tail only has no version up to its watermark, which is 0.
        let stream = StreamKey { stream_id, tenant_id };
        gapless = read_if_any(partition, stream, 0, statement_snapshot())?.map(|_| true);
    }
    Ok(gapless)
}

/// A fault in the batches of a hot partition.
pub struct BatchFault<'a> {
    /// the stream, if it is about one
    pub stream: Option<StreamKey<'a>>,
    /// what is wrong
    pub detail: String,
}

/// Checks the batches of a partition, or of all, as the statement's snapshot shows them: what they hold,
/// and whether the sidecar has the same. With a stream, only
/// what is about a stream of this name.
pub fn verify_batches(
    partition: Option<Partition>,
    stream_id: Option<&[u8]>,
    mut put: impl FnMut(BatchFault<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    check_reader()?;
    let settled = settled_batches()?;
    for one in Partition::all().filter(|one| partition.is_none_or(|only| only == *one)) {
        let mut streams: BTreeMap<(Vec<u8>, Vec<u8>), u64> = BTreeMap::new();
        let mut batches = Batches::open(one, statement_snapshot())?;
        let last = batches.last();
        if last.is_some() && settled[one.index()].is_none() && stream_id.is_none() {
            let detail = format!(
                "partition {} has batches and no row in hot_partitions, so nobody reads them",
                one.number()
            );
            put(BatchFault { stream: None, detail })?;
        }
        let forgotten = sidecar::batches(one).map_or(0, |known| known.after);
        let behind = settled[one.index()].unwrap_or(0).max(forgotten);
        batches.read(i64::MIN, i64::MAX, |batch| {
            let number = format!("batch {} of partition {}", batch.batch_no, one.number());
            let fault = |detail| BatchFault { stream: None, detail };
            let listed = batch.streams();
            if let Err(error) = &listed
                && stream_id.is_none()
            {
                put(fault(format!("{number}: {error}")))?;
            }
            let events = match batch.events() {
                Ok(events) => events,
                Err(error) if stream_id.is_none() => {
                    put(fault(format!("{number}: {error}")))?;
                    return Ok(true);
                }
                Err(_) => return Ok(true),
            };
            let (stored, mut found) = (batch.len, 0);
            let mut hashes = with_room(events.remaining())?;
            let mut is_whole = true;
            for event in events {
                let Ok(event) = event else {
                    is_whole = false;
                    break;
                };
                found += 1;
                hashes.push(StreamHash::of(event.stream));
                let is_meant = stream_id.is_none_or(|only| only == event.stream.stream_id);
                if is_meant && Partition::of(event.stream.stream_id) != one {
                    let stream = Some(event.stream);
                    let detail = format!("{number} has an event of another partition");
                    put(BatchFault { stream, detail })?;
                }
                if is_meant && batch.batch_no > behind {
                    let StreamKey { stream_id, tenant_id } = event.stream;
                    let name = (copied(stream_id)?, copied(tenant_id)?);
                    *streams.entry(name).or_default() += 1;
                }
            }
            if found != stored && stream_id.is_none() {
                put(fault(format!("{number} has {found} events instead of {stored}")))?;
            }
            let differs = listed.is_ok_and(|listed| !listed.is_of(&mut hashes));
            if differs && is_whole && stream_id.is_none() {
                put(fault(format!(
                    "{number} has a list of streams that is not that of its events"
                )))?;
            }
            Ok(true)
        })?;
        let Some(last) = last.filter(|last| *last > behind) else { continue };
        for ((stream_id, tenant_id), events) in &streams {
            let stream = StreamKey { stream_id, tenant_id };
            let range = hot::Batches { after: behind, up_to: last };
            // While nobody answers there is nothing to compare.
            let Some(known) = count_in_sidecar(one, stream, range)? else { break };
            if known != *events {
                let detail = format!("the sidecar has {known} of its events instead of {events}");
                put(BatchFault { stream: Some(stream), detail })?;
            }
        }
    }
    Ok(())
}

/// The checksum that a run should have, given its row; `None` if its columns are damaged.
///
/// # Safety
///
/// `row` must be a value of the row type of `event_log`.
pub unsafe fn run_checksum(row: pg_sys::Datum) -> Option<i32> {
    // SAFETY: by the caller's promise; the tuple borrows the value.
    unsafe {
        let header =
            pg_sys::pg_detoast_datum(row.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
        let fields = (*header).t_choice.t_datum;
        let descriptor = pg_sys::lookup_rowtype_tupdesc(fields.datum_typeid, fields.datum_typmod);
        let mut tuple = pg_sys::HeapTupleData {
            t_len: pgrx::varsize(header.cast()) as u32,
            t_data: header,
            ..Default::default()
        };
        let natts = (*descriptor).natts as usize;
        let mut values = vec![pg_sys::Datum::from(0); natts];
        let mut nulls = vec![true; natts];
        pg_sys::heap_deform_tuple(&mut tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        if (*descriptor).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(descriptor);
        }
        if nulls.len() < log::COLUMNS || nulls[..log::METADATA].contains(&true) {
            return None;
        }
        let run = StoredRun::from_values(&values, &nulls).ok()?;
        run.columns.checksum(run.key).ok()
    }
}
