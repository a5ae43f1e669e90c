//! Writing a batch of records into the store, as `allsource_writer`.

use crate::codec::record::{Home, Record};
use crate::drain::settle::Style;
use crate::model::batch::{Plan, StreamKey};
use crate::model::memory::{collect, with_room};
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::error::Error;
use crate::pg::session::xact::database_oid;
use crate::pg::tables::names::is_relation;
use crate::pg::tables::relation::sequence_oid;
use crate::pg::tables::rights::as_writer;
use crate::pg::tables::schema::Sequence;
use crate::pg::write::append::append;
use std::borrow::Cow;

/// Writes records to their streams in the transaction that is open, and returns how many: those of
/// an extension that was dropped after they were enqueued have no place to be written to. What goes
/// wrong is raised.
pub fn write_batch(records: &[Record<'_>], style: Style) -> u64 {
    match try_write(records, style) {
        Ok(written) => written,
        Err(error) => error.raise("allsource worker"),
    }
}

fn try_write(records: &[Record<'_>], style: Style) -> Result<u64, Error> {
    let live = live_records(records)?;
    if live.is_empty() {
        return Ok(0);
    }
    as_writer(|| match style {
        Style::Together => write_together(&live),
        Style::OneByOne => write_one_by_one(&live),
    })?;
    Ok(live.len() as u64)
}

/// Those whose incarnation of the extension is still there: nearly always all of them.
fn live_records<'r, 'a>(records: &'r [Record<'a>]) -> Result<Cow<'r, [Record<'a>]>, Error> {
    let database = database_oid();
    let current = sequence_oid(Sequence::Position);
    let home = current.as_ref().ok().map(|oid| Home { database, incarnation: oid.to_u32() });
    let is_live = |record: &&Record<'_>| Some(record.home) == home;
    if records.iter().all(|record| is_live(&record)) {
        return Ok(Cow::Borrowed(records));
    }
    let mut gone = None;
    for record in records.iter().filter(|record| !is_live(record)) {
        if gone == Some(record.home) {
            continue;
        }
        if record.home.database == database && is_relation(record.home.incarnation) {
            // It is there and cannot be found by its name: somebody is at work on it.
            return Err(current.err().unwrap_or(Error::Missing { object: "position_seq".into() }));
        }
        gone = Some(record.home);
    }
    Ok(records.iter().filter(is_live).copied().collect())
}

fn write_together(records: &[Record<'_>]) -> Result<(), Error> {
    let plan = Plan::new(
        records
            .iter()
            .map(|record| StreamKey { stream_id: record.stream_id, tenant_id: record.tenant_id }),
    )?;
    let events = collect(records.iter().map(|record| record.event))?;
    let (ranges, events) = plan.in_lock_order(&events)?;
    let mut appends = with_room(ranges.len())?;
    for (index, range) in ranges {
        let group = &plan.groups()[index];
        let given = plan.events(group).filter_map(|event| records[event].entity_id);
        let Some(entity_id) = agreed(given) else { return write_one_by_one(records) };
        appends.push(StreamAppend {
            partition: group.partition,
            stream_id: group.stream.stream_id,
            tenant_id: group.stream.tenant_id,
            entity_id,
            expected: ExpectedVersion::Any,
            events: &events[range],
        });
    }
    append(&appends)?;
    Ok(())
}

/// The entity that all agree on who give one; `None` where they do not agree.
fn agreed<'a>(mut given: impl Iterator<Item = &'a [u8]>) -> Option<Option<&'a [u8]>> {
    let first = given.next();
    given.all(|entity_id| Some(entity_id) == first).then_some(first)
}

fn write_one_by_one(records: &[Record<'_>]) -> Result<(), Error> {
    for record in records {
        let append_one = StreamAppend {
            partition: Partition::of(record.stream_id),
            stream_id: record.stream_id,
            tenant_id: record.tenant_id,
            entity_id: record.entity_id,
            expected: ExpectedVersion::Any,
            events: &[record.event],
        };
        append(&[append_one])?;
    }
    Ok(())
}
