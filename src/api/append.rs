//! Writing: `es_append`, `es_append_many`, `es_append_batch`.

use crate::codec::array::{ArrayReader, ElementType};
use crate::model::batch::{Plan, StreamKey};
use crate::model::error::StoreError;
use crate::model::event::NewEvent;
use crate::model::name::NameKind;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{Rows, int4, int8};
use crate::pg::call::{Call, check_array_name, event_id, required_element, version};
use crate::pg::error::Error;
use crate::pg::settings;
use crate::pg::write::append::append;
use crate::sql_function;

sql_function! {
    /// `es_append(stream_id, event_type, payload, metadata, expected_version, tenant_id, entity_id,
    /// event_id)`: appends one event and returns its version.
    ///
    /// Errors: 40001 wrong expected version, 23505 event id is there with other content, 22023 bad
    /// argument, 54000 event too large, 25006 read-only, 55000 not preloaded. Volatile, parallel
    /// unsafe.
    #[measured(Append)]
    fn es_append, pg_finfo_es_append(call) {
        let stream_id = call.name(0, NameKind::Stream)?;
        let events = [NewEvent {
            event_type: call.name(1, NameKind::EventType)?,
            payload: call.bytes(2).ok_or(StoreError::NullArgument { argument: "payload" })?,
            metadata: call.bytes(3),
            event_id: call.uuid(7),
        }];
        append_to_one(call, stream_id, &events)
    }
}

sql_function! {
    /// `es_append_many(stream_id, event_types, payloads, metadata, expected_version, tenant_id,
    /// entity_id, event_ids)`: appends events to one stream in the order of the arrays and returns
    /// the last version written.
    ///
    /// Errors as for `es_append`, and 54000 for too many events. Volatile, parallel unsafe.
    #[measured(AppendMany)]
    fn es_append_many, pg_finfo_es_append_many(call) {
        let stream_id = call.name(0, NameKind::Stream)?;
        let types = call.required_array(1, "event_types", ElementType::Text)?;
        let mut arrays = EventArrays::new(call, types, [2, 3, 7])?;
        let events = (0..arrays.len).map(|_| arrays.read()).collect::<Result<Vec<_>, _>>()?;
        append_to_one(call, stream_id, &events)
    }
}

sql_function! {
    /// `es_append_batch(stream_ids, event_types, payloads, metadata, expected_versions, tenant_id,
    /// event_ids)`: appends events to many streams, all or nothing; one row per stream in the order
    /// of first appearance: stream_id, partition_id, first_version, last_version, first_position.
    ///
    /// Errors as for `es_append_many`. Volatile, parallel unsafe.
    #[measured(AppendBatch)]
    fn es_append_batch, pg_finfo_es_append_batch(call) {
        let names = call.required_array(0, "stream_ids", ElementType::Text)?;
        let types = call.required_array(1, "event_types", ElementType::Text)?;
        let mut arrays = EventArrays::new(call, types, [2, 3, 6])?;
        arrays.check_len("stream_ids", &names)?;
        let tenant_id = call.name(5, NameKind::Tenant)?;
        let mut streams: Vec<StreamKey<'_>> = Vec::with_capacity(arrays.len);
        let mut events = Vec::with_capacity(arrays.len);
        arrays.read_all(names, |stream_id, event| {
            streams.push(StreamKey { stream_id, tenant_id });
            events.push(event);
        })?;
        let expected = expected_versions(call, &arrays)?;

        let plan = Plan::new(streams.iter().copied());
        let (ranges, events) = plan.in_lock_order(&events);
        let appends: Vec<_> = ranges
            .iter()
            .map(|(index, range)| {
                let group = &plan.groups()[*index];
                // The first one given for the stream counts.
                let expected = plan.events(group).find_map(|event| *expected.get(event)?);
                StreamAppend {
                    partition: group.partition,
                    stream_id: group.stream.stream_id,
                    tenant_id,
                    entity_id: None,
                    expected: expected.unwrap_or(ExpectedVersion::Any),
                    events: &events[range.clone()],
                }
            })
            .collect();
        let mut rows = Rows::begin(call)?;
        let appended = append(&appends)?;
        let mut by_group = vec![0; appended.len()];
        for (place, (index, _)) in ranges.iter().enumerate() {
            by_group[*index] = place;
        }
        for (group, place) in std::iter::zip(plan.groups(), by_group) {
            let stream = &appended[place];
            rows.put([
                Some(text(group.stream.stream_id)),
                int4(group.partition.number()),
                int8(stream.first_version),
                int8(stream.last_version),
                int8(stream.first_position),
            ])?;
        }
        Ok(None)
    }
}

/// What `es_append` and `es_append_many` have in common: arguments 4 to 6, one stream, the version
/// as the result.
fn append_to_one(
    call: &Call,
    stream_id: &[u8],
    events: &[NewEvent<'_>],
) -> Result<Option<pgrx::pg_sys::Datum>, Error> {
    let limit_bytes = settings::max_event_size_bytes();
    for (index, event) in events.iter().enumerate() {
        event.check_size(index + 1, limit_bytes)?;
    }
    let stream = StreamAppend {
        partition: Partition::of(stream_id),
        stream_id,
        expected: ExpectedVersion::from_sql(call.int8(4))?,
        tenant_id: call.name(5, NameKind::Tenant)?,
        entity_id: call.optional_name(6, NameKind::Entity)?,
        events,
    };
    let appended = append(&[stream])?;
    Ok(int8(appended[0].last_version))
}

/// The arrays that events are made of, read in step.
pub(super) struct EventArrays<'a> {
    /// how many events there are
    pub(super) len: usize,
    next: usize,
    limit_bytes: usize,
    types: ArrayReader<'a>,
    payloads: ArrayReader<'a>,
    metadata: Option<ArrayReader<'a>>,
    event_ids: Option<ArrayReader<'a>>,
}

impl<'a> EventArrays<'a> {
    /// `arguments` are the places of payloads, metadata and event ids.
    pub(super) fn new(
        call: &'a Call,
        types: ArrayReader<'a>,
        arguments: [usize; 3],
    ) -> Result<Self, Error> {
        let [payloads, metadata, event_ids] = arguments;
        let len = types.remaining();
        if len == 0 {
            return Err(StoreError::EmptyArray { argument: "event_types" }.into());
        }
        let limit_events = settings::max_batch_events();
        if len > limit_events {
            return Err(StoreError::BatchTooLarge { events: len, limit_events }.into());
        }
        let arrays = Self {
            len,
            next: 0,
            limit_bytes: settings::max_event_size_bytes(),
            types,
            payloads: call.required_array(payloads, "payloads", ElementType::Jsonb)?,
            metadata: call.array(metadata, "metadata", ElementType::Jsonb)?,
            event_ids: call.array(event_ids, "event_ids", ElementType::Uuid)?,
        };
        arrays.check_len("payloads", &arrays.payloads)?;
        for (argument, array) in [("metadata", &arrays.metadata), ("event_ids", &arrays.event_ids)]
        {
            if let Some(array) = array {
                arrays.check_len(argument, array)?;
            }
        }
        Ok(arrays)
    }

    pub(super) fn check_len(
        &self,
        argument: &'static str,
        array: &ArrayReader<'_>,
    ) -> Result<(), Error> {
        let len = array.remaining();
        if len == self.len {
            return Ok(());
        }
        let reference = "event_types";
        Err(StoreError::ArrayLengths { argument, len, reference, reference_len: self.len }.into())
    }

    /// Passes all events with their streams, whose names stand in `stream_ids`.
    pub(super) fn read_all(
        &mut self,
        mut stream_ids: ArrayReader<'a>,
        mut use_event: impl FnMut(&'a [u8], NewEvent<'a>),
    ) -> Result<(), Error> {
        let mut last: &[u8] = &[];
        for index in 0..self.len {
            let stream_id = required_element(&mut stream_ids, "stream_ids", index)?;
            // Neighbours are often of the same stream: check a name once. No name is empty.
            if last.is_empty() || last != stream_id {
                check_array_name(NameKind::Stream, stream_id)?;
                last = stream_id;
            }
            use_event(stream_id, self.read()?);
        }
        Ok(())
    }

    /// The next event.
    fn read(&mut self) -> Result<NewEvent<'a>, Error> {
        let index = self.next;
        self.next += 1;
        let event_type = required_element(&mut self.types, "event_types", index)?;
        check_array_name(NameKind::EventType, event_type)?;
        let event = NewEvent {
            event_type,
            payload: required_element(&mut self.payloads, "payloads", index)?,
            metadata: self.metadata.as_mut().map(ArrayReader::read).transpose()?.flatten(),
            event_id: match &mut self.event_ids {
                Some(ids) => ids.read()?.map(event_id).transpose()?,
                None => None,
            },
        };
        event.check_size(index + 1, self.limit_bytes)?;
        Ok(event)
    }
}

/// The expected version at each event's place; empty where none was given.
fn expected_versions(
    call: &Call,
    arrays: &EventArrays<'_>,
) -> Result<Vec<Option<ExpectedVersion>>, Error> {
    let Some(mut array) = call.array(4, "expected_versions", ElementType::Int8)? else {
        return Ok(Vec::new());
    };
    arrays.check_len("expected_versions", &array)?;
    (0..arrays.len)
        .map(|_| {
            let element = array.read()?.map(version).transpose()?;
            Ok(element.map(|value| ExpectedVersion::from_sql(Some(value))).transpose()?)
        })
        .collect()
}
