//! Decoding the arrays that callers give: names, events, versions, partitions.

use super::array::{ArrayError, ArrayReader};
use crate::model::error::StoreError;
use crate::model::event::NewEvent;
use crate::model::memory::{OutOfMemory, try_collect};
use crate::model::name::{NameKind, check_name};
use crate::model::partition::{PARTITIONS, Partition};
use crate::model::version::ExpectedVersion;

/// What is wrong with an argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// Its values are not allowed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its bytes are not those of such an array.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// There is no memory to take it apart.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Counts the characters of a name in the database's encoding.
pub type CountChars = fn(&[u8]) -> usize;

/// An array with the name of its argument.
#[derive(Clone, Copy, Debug)]
pub struct ArrayArgument<'a> {
    argument: &'static str,
    reader: ArrayReader<'a>,
    len: usize,
}

impl<'a> ArrayArgument<'a> {
    /// `argument` is the name in SQL.
    pub fn new(argument: &'static str, reader: ArrayReader<'a>) -> Self {
        Self { argument, reader, len: reader.remaining() }
    }

    /// Refuses an array that has not as many elements as `reference`.
    pub fn check_len(&self, reference: &Self) -> Result<(), StoreError> {
        if self.len == reference.len {
            return Ok(());
        }
        Err(StoreError::ArrayLengths {
            argument: self.argument,
            len: self.len,
            reference: reference.argument,
            reference_len: reference.len,
        })
    }

    /// The next element, which must not be NULL.
    fn required(&mut self) -> Result<&'a [u8], ArgumentError> {
        let number = self.len - self.reader.remaining() + 1;
        let null = StoreError::NullElement { argument: self.argument, number };
        Ok(self.reader.read()?.ok_or(null)?)
    }

    /// The bytes of all elements.
    pub fn values(mut self) -> Result<Vec<&'a [u8]>, ArgumentError> {
        try_collect((0..self.len).map(|_| self.required()))
    }

    /// All elements as names.
    pub fn names(
        mut self,
        kind: NameKind,
        count_chars: CountChars,
    ) -> Result<Vec<&'a [u8]>, ArgumentError> {
        // Neighbours are often the same: a name is checked once. No name is empty.
        let mut last: &[u8] = &[];
        try_collect((0..self.len).map(|_| {
            let name = self.required()?;
            if last.is_empty() || last != name {
                last = check_name(kind, Some(name), count_chars)?;
            }
            Ok(name)
        }))
    }

    /// All elements as expected versions; `None` if an element is NULL.
    pub fn expected_versions(mut self) -> Result<Vec<Option<ExpectedVersion>>, ArgumentError> {
        try_collect((0..self.len).map(|_| {
            let Some(element) = self.reader.read()? else { return Ok(None) };
            let version = element.try_into().map(i64::from_ne_bytes);
            let version = version.map_err(|_| ArrayError::Damaged)?;
            Ok(Some(ExpectedVersion::from_sql(Some(version))?))
        }))
    }

    /// A position for each partition; `None` where it is NULL.
    pub fn positions(mut self) -> Result<[Option<i64>; PARTITIONS], ArgumentError> {
        let argument = self.argument;
        if self.len != PARTITIONS {
            return Err(StoreError::NotOneForEachPartition { argument, len: self.len }.into());
        }
        let mut positions = [None; PARTITIONS];
        for position in &mut positions {
            let Some(element) = self.reader.read()? else { continue };
            let value = element.try_into().map(i64::from_ne_bytes);
            let value = value.map_err(|_| ArrayError::Damaged)?;
            if value < 0 {
                return Err(
                    StoreError::OutOfRange { argument, value, range: "zero or positive" }.into()
                );
            }
            *position = Some(value);
        }
        Ok(positions)
    }

    /// Which partitions are among the elements.
    pub fn partitions(mut self) -> Result<[bool; PARTITIONS], ArgumentError> {
        let mut given = [false; PARTITIONS];
        for _ in 0..self.len {
            let number = self.required()?.try_into().map(i32::from_ne_bytes);
            let number = number.map_err(|_| ArrayError::Damaged)?;
            given[partition(self.argument, Some(number))?.index()] = true;
        }
        Ok(given)
    }
}

/// A partition by its number, which must be given.
pub fn partition(argument: &'static str, number: Option<i32>) -> Result<Partition, StoreError> {
    let number = number.ok_or(StoreError::NullArgument { argument })?;
    let value = i64::from(number);
    Partition::new(number).ok_or(StoreError::OutOfRange {
        argument,
        value,
        range: "between 0 and 31",
    })
}

/// The arrays that events are made of.
#[derive(Clone, Copy, Debug)]
pub struct EventArrays<'a> {
    /// `event_types`
    pub types: ArrayArgument<'a>,
    /// `payloads`
    pub payloads: ArrayArgument<'a>,
    /// `metadata`
    pub metadata: Option<ArrayArgument<'a>>,
    /// `event_ids`
    pub event_ids: Option<ArrayArgument<'a>>,
}

/// What a call may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// events of a call
    pub events: usize,
    /// bytes of an event
    pub event_bytes: usize,
}

impl<'a> EventArrays<'a> {
    /// All events, in order.
    pub fn events(
        mut self,
        limits: Limits,
        count_chars: CountChars,
    ) -> Result<Vec<NewEvent<'a>>, ArgumentError> {
        let len = self.types.len;
        if len == 0 {
            return Err(StoreError::EmptyArray { argument: self.types.argument }.into());
        }
        if len > limits.events {
            let limit_events = limits.events;
            return Err(StoreError::BatchTooLarge { events: len, limit_events }.into());
        }
        self.payloads.check_len(&self.types)?;
        for array in [&self.metadata, &self.event_ids].into_iter().flatten() {
            array.check_len(&self.types)?;
        }
        try_collect((1..len + 1).map(|number| {
            let event = self.next(count_chars)?;
            event.check_size(number, limits.event_bytes)?;
            Ok(event)
        }))
    }

    fn next(&mut self, count_chars: CountChars) -> Result<NewEvent<'a>, ArgumentError> {
        let event_type =
            check_name(NameKind::EventType, Some(self.types.required()?), count_chars)?;
        let payload = self.payloads.required()?;
        let metadata = match &mut self.metadata {
            Some(array) => array.reader.read()?,
            None => None,
        };
        let event_id = match &mut self.event_ids {
            Some(array) => array.reader.read()?,
            None => None,
        };
        let event_id = event_id.map(|id| id.try_into().map_err(|_| ArrayError::Damaged));
        Ok(NewEvent { event_type, payload, metadata, event_id: event_id.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::array::{ElementType, write_array};
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { events: 50, event_bytes: 60 };

    fn encode<T: AsRef<[u8]>>(element_type: ElementType, elements: &[Option<T>]) -> Vec<u8> {
        let mut out = Vec::new();
        let elements = elements.iter().map(|element| element.as_ref().map(AsRef::as_ref));
        write_array(&mut out, element_type, elements);
        out.split_off(4)
    }

    fn open<'a>(
        argument: &'static str,
        body: &'a [u8],
        element_type: ElementType,
    ) -> ArrayArgument<'a> {
        ArrayArgument::new(argument, ArrayReader::new(body, element_type).unwrap())
    }

    proptest! {
        #[test]
        fn events_are_those_that_the_arrays_hold(
            elements in prop::collection::vec(
                ("[a-c]{1,9}", prop::collection::vec(any::<u8>(), 0..30),
                 prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), any::<Option<[u8; 16]>>()),
                1..50,
            ),
        ) {
            let types: Vec<_> = elements.iter().map(|e| Some(e.0.as_bytes())).collect();
            let payloads: Vec<_> = elements.iter().map(|e| Some(&e.1)).collect();
            let metadata: Vec<_> = elements.iter().map(|e| e.2.clone()).collect();
            let ids: Vec<_> = elements.iter().map(|e| e.3).collect();
            let types = encode(ElementType::Text, &types);
            let payloads = encode(ElementType::Jsonb, &payloads);
            let metadata = encode(ElementType::Jsonb, &metadata);
            let ids = encode(ElementType::Uuid, &ids);
            let arrays = EventArrays {
                types: open("event_types", &types, ElementType::Text),
                payloads: open("payloads", &payloads, ElementType::Jsonb),
                metadata: Some(open("metadata", &metadata, ElementType::Jsonb)),
                event_ids: Some(open("event_ids", &ids, ElementType::Uuid)),
            };
            let events = arrays.events(LIMITS, <[u8]>::len).unwrap();
            prop_assert_eq!(events.len(), elements.len());
            for (event, (event_type, payload, metadata, event_id)) in events.iter().zip(&elements) {
                let expected = NewEvent {
                    event_type: event_type.as_bytes(),
                    payload,
                    metadata: metadata.as_deref(),
                    event_id: *event_id,
                };
                prop_assert_eq!(*event, expected);
            }
            let types = ArrayArgument { argument: "stream_ids", ..arrays.types };
            prop_assert_eq!(types.names(NameKind::Stream, <[u8]>::len), types.values());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let texts = |texts: &[Option<&str>]| encode(ElementType::Text, texts);
        let (types, payloads) = (texts(&[Some("a"), Some("b")]), [Some("1"), None]);
        let payloads = encode(ElementType::Jsonb, &payloads);
        let arrays = EventArrays {
            types: open("event_types", &types, ElementType::Text),
            payloads: open("payloads", &payloads, ElementType::Jsonb),
            metadata: None,
            event_ids: None,
        };
        let refusal = |arrays: EventArrays, limits| match arrays.events(limits, <[u8]>::len) {
            Err(ArgumentError::Store(error)) => error,
            other => panic!("{other:?}"),
        };
        let null = StoreError::NullElement { argument: "payloads", number: 2 };
        assert_eq!(refusal(arrays, LIMITS), null);
        let limits = Limits { events: 1, ..LIMITS };
        let too_many = StoreError::BatchTooLarge { events: 2, limit_events: 1 };
        assert_eq!(refusal(arrays, limits), too_many);
        let limits = Limits { event_bytes: 1, ..LIMITS };
        let too_large = StoreError::EventTooLarge { number: 1, size_bytes: 2, limit_bytes: 1 };
        assert_eq!(refusal(arrays, limits), too_large);
        let one = texts(&[Some("a")]);
        let types = open("event_types", &one, ElementType::Text);
        let (argument, reference) = ("payloads", "event_types");
        let lengths = StoreError::ArrayLengths { argument, len: 2, reference, reference_len: 1 };
        assert_eq!(refusal(EventArrays { types, ..arrays }, LIMITS), lengths);
        let empty = texts(&[]);
        let types = open("event_types", &empty, ElementType::Text);
        let empty = StoreError::EmptyArray { argument: "event_types" };
        assert_eq!(refusal(EventArrays { types, ..arrays }, LIMITS), empty);
    }

    #[test]
    fn versions_and_partitions_are_numbers_in_their_range() {
        let versions = [Some(0i64), None, Some(-1), Some(7)];
        let body = encode(ElementType::Int8, &versions.map(|v| v.map(i64::to_ne_bytes)));
        let read = open("expected_versions", &body, ElementType::Int8).expected_versions();
        let expected = versions.map(|v| v.map(|v| ExpectedVersion::from_sql(Some(v)).unwrap()));
        assert_eq!(read, Ok(expected.to_vec()));
        let body = encode(ElementType::Int8, &[Some((-2i64).to_ne_bytes())]);
        let read = open("expected_versions", &body, ElementType::Int8).expected_versions();
        assert_eq!(read, Err(StoreError::BadExpectedVersion { version: -2 }.into()));

        let body = encode(ElementType::Int4, &[31, 2, 31].map(|n: i32| Some(n.to_ne_bytes())));
        let given = open("partition_ids", &body, ElementType::Int4).partitions().unwrap();
        let given: Vec<_> = (0..PARTITIONS).filter(|index| given[*index]).collect();
        assert_eq!(given, [2, 31]);
        let body = encode(ElementType::Int4, &[Some(32i32.to_ne_bytes())]);
        let given = open("partition_ids", &body, ElementType::Int4).partitions();
        let (argument, range) = ("partition_ids", "between 0 and 31");
        assert_eq!(given, Err(StoreError::OutOfRange { argument, value: 32, range }.into()));
    }
}
