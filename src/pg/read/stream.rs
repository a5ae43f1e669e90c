//! Reading a stream: what is settled, and the tail behind it.
#![expect(unsafe_code, reason = "copies a row's values")]

use super::row::{StreamColumns, put_event, put_tail_event};
use crate::codec::hot_tail::TailEvent;
use crate::model::batch::StreamKey;
use crate::model::partition::Partition;
use crate::pg::call::Call;
use crate::pg::call::datum::{body, text};
use crate::pg::call::rows::Rows;
use crate::pg::cluster::owners::check_may_read;
use crate::pg::error::Error;
use crate::pg::hot::tail::read_if_any;
use crate::pg::session::scratch::Scratch;
use crate::pg::session::xact::{check_for_interrupts, statement_snapshot};
use crate::pg::shared::counting;
use crate::pg::tables::heads::Heads;
use crate::pg::tables::log::{LogReader, ReadEvent};
use crate::pg::tables::relation::For;
use crate::pg::tables::rights::check_reader;
use crate::pg::tables::schema::streams;
use pgrx::pg_sys;

/// A stream as the statement's snapshot shows it.
pub struct Shown {
    /// its columns in `event_streams`, with the events of its tail counted
    pub columns: [Option<pg_sys::Datum>; streams::COLUMNS],
    /// its watermark, up to which all events are in the log
    pub watermark: i64,
}

/// A stream's row; `None` if there is no such stream. Its values are in the current memory context.
pub fn stream_row(stream: StreamKey<'_>) -> Result<Option<Shown>, Error> {
    check_reader()?;
    let partition = Partition::of(stream.stream_id);
    let mut heads = Heads::by_name(partition, For::Reading, statement_snapshot())?;
    check_may_read(partition)?;
    let head = heads.find(stream.stream_id, stream.tenant_id);
    let settled = head.map_or(0, |head| head.settled_batch());
    let tail = read_if_any(partition, stream, settled, statement_snapshot())?;
    let int8 = |value: i64| Some(pg_sys::Datum::from(value));
    let watermark = head.map_or(0, |head| head.watermark());
    let mut columns = match &head {
        Some(head) => {
            let mut columns = head.columns();
            // The row that they point to does not outlive the scan.
            for column in [streams::TENANT_ID, streams::STREAM_ID, streams::ENTITY_ID] {
                columns[column] = columns[column].map(copy_of_text);
            }
            columns
        }
        None if tail.is_none() => return Ok(None),
        None => {
            let mut columns = [None; streams::COLUMNS];
            for column in [streams::CURRENT_VERSION, streams::WATERMARK, streams::SETTLED_BATCH] {
                columns[column] = int8(0);
            }
            columns[streams::PARTITION_ID] = Some(pg_sys::Datum::from(partition.number()));
            columns[streams::SETTLED_EVENTS] = Some(pg_sys::Datum::from(0));
            columns[streams::TENANT_ID] = Some(text(stream.tenant_id));
            columns[streams::STREAM_ID] = Some(text(stream.stream_id));
            columns
        }
    };
    if let Some(tail) = tail {
        let current = head.map_or(0, |head| head.current_version());
        let after_us = head.map_or(i64::MIN, |head| head.updated_at_us());
        columns[streams::CURRENT_VERSION] = int8(current + tail.len() as i64);
        let mut times = tail.events(after_us).map(|event| event.timestamp_us);
        let first_us = times.next();
        columns[streams::UPDATED_AT] = times.last().or(first_us).and_then(int8);
        columns[streams::CREATED_AT] = columns[streams::CREATED_AT].or(first_us.and_then(int8));
    }
    Ok(Some(Shown { columns, watermark }))
}

fn copy_of_text(value: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: a text of the row that the scan stands on.
    text(unsafe { body(value) })
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

/// Reads a stream, as the statement's snapshot shows it, into the result of `call`.
pub fn read_stream(
    call: &Call,
    stream_id: &[u8],
    tenant_id: &[u8],
    range: StreamRange,
) -> Result<(), Error> {
    check_reader()?;
    let mut rows = Rows::begin(call);
    let mut count = 0;
    let stream = StreamKey { stream_id, tenant_id };
    let partition = Partition::of(stream_id);
    let mut heads = Heads::by_name(partition, For::Reading, statement_snapshot())?;
    check_may_read(partition)?;
    let head = heads.find(stream_id, tenant_id);
    let settled_batch = head.map_or(0, |head| head.settled_batch());
    let tail = read_if_any(partition, stream, settled_batch, statement_snapshot())?;
    let (settled, columns) = match &head {
        Some(head) => (head.current_version(), StreamColumns::of(head, partition)),
        None if tail.is_none() => return Ok(()),
        None => (0, StreamColumns::of_name(stream, partition)),
    };
    let current = settled + tail.as_ref().map_or(0, |tail| tail.len() as i64);
    let span = i64::try_from(range.max_count.unwrap_or(u64::MAX) - 1).unwrap_or(i64::MAX);
    let (first, last) = if range.backward {
        let last = range.from_version.unwrap_or(current).min(current);
        (last.saturating_sub(span).max(1), last)
    } else {
        let first = range.from_version.unwrap_or(1);
        (first, first.saturating_add(span).min(current))
    };
    let after_us = head.map_or(i64::MIN, |head| head.updated_at_us());
    let unsettled: Vec<(i64, TailEvent<'_>)> = tail
        .iter()
        .flat_map(|tail| (settled + 1..).zip(tail.events(after_us)))
        .filter(|(version, _)| (first..=last).contains(version))
        .collect();
    count += unsettled.len() as u64;
    let scratch = Scratch::new();
    let put_unsettled = |rows: &mut Rows, (version, event): &(i64, TailEvent<'_>)| {
        check_for_interrupts();
        scratch.run(|_memory| put_tail_event(rows, &columns, *version, event))
    };
    if range.backward {
        unsettled.iter().rev().try_for_each(|event| put_unsettled(&mut rows, event))?;
    }
    if let Some(head) = &head {
        let mut log = LogReader::open(partition, statement_snapshot())?;
        let put = |event: ReadEvent<'_>| {
            count += 1;
            put_event(&mut rows, &columns, &event)
        };
        let last = last.min(settled);
        if range.backward {
            log.read_versions_backward(head.stream_no(), last, first, put)?;
        } else {
            log.read_versions(head.stream_no(), first, last, put)?;
        }
    }
    if !range.backward {
        unsettled.iter().try_for_each(|event| put_unsettled(&mut rows, event))?;
    }
    counting::read(count);
    Ok(())
}
