//! A call of a SQL function: its arguments and its result.

pub mod datum;
pub mod guard;
pub mod rows;

use crate::codec::argument::{ArrayArgument, EventArrays, Limits};
use crate::codec::array::{ArrayError, ArrayReader, ElementType};
use crate::model::error::StoreError;
use crate::model::event::{EventId, NewEvent};
use crate::model::name::{NameKind, check_name};
use crate::pg::error::Error;
use crate::pg::settings;
use pgrx::pg_sys;
use std::time::Duration;

/// A call of a SQL function.
pub struct Call {
    fcinfo: pg_sys::FunctionCallInfo,
}

#[expect(unsafe_code, reason = "reads arguments as their SQL types say")]
impl Call {
    /// # Safety
    ///
    /// `fcinfo` must be the function manager's, and be valid as long as the value lives.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self { fcinfo }
    }

    /// The function manager's structure.
    pub fn fcinfo(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    /// A NULL result.
    pub fn null(&self) -> pg_sys::Datum {
        // SAFETY: see `new`.
        unsafe { (*self.fcinfo).isnull = true };
        pg_sys::Datum::from(0)
    }

    /// An argument, or `None` for NULL.
    pub fn datum(&self, index: usize) -> Option<pg_sys::Datum> {
        // SAFETY: see `new`; `index` is below the number of declared arguments, which the function
        // manager always passes in full.
        unsafe {
            let args = (*self.fcinfo).args.as_slice((*self.fcinfo).nargs as usize);
            args.get(index).filter(|arg| !arg.isnull).map(|arg| arg.value)
        }
    }

    /// A bigint.
    pub fn int8(&self, index: usize) -> Option<i64> {
        self.datum(index).map(|datum| datum.value() as i64)
    }

    /// An integer.
    pub fn int4(&self, index: usize) -> Option<i32> {
        self.datum(index).map(|datum| datum.value() as i32)
    }

    /// A boolean; NULL counts as false.
    pub fn bool(&self, index: usize) -> bool {
        self.datum(index).is_some_and(|datum| datum.value() as u8 != 0)
    }

    /// The bytes of a text or jsonb, without a length word.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        // SAFETY: the argument is of a variable-length type; what it points to, or is unpacked to,
        // lives as long as the call.
        self.datum(index).map(|datum| unsafe { datum::body(datum) })
    }

    /// A uuid.
    pub fn uuid(&self, index: usize) -> Option<EventId> {
        // SAFETY: a uuid is passed as a pointer to its 16 bytes.
        self.datum(index).map(|datum| unsafe { *datum.cast_mut_ptr::<EventId>() })
    }

    /// A name that must be given.
    pub fn name(&self, index: usize, kind: NameKind) -> Result<&[u8], Error> {
        Ok(check_name(kind, self.bytes(index), datum::count_chars)?)
    }

    /// A name that may be left out.
    pub fn optional_name(&self, index: usize, kind: NameKind) -> Result<Option<&[u8]>, Error> {
        self.bytes(index)
            .map(|name| Ok(check_name(kind, Some(name), datum::count_chars)?))
            .transpose()
    }

    /// An interval: months count 30 days.
    pub fn interval(&self, index: usize) -> Option<Duration> {
        let datum = self.datum(index)?;
        // SAFETY: an interval is passed as a pointer to its structure.
        let interval = unsafe { *datum.cast_mut_ptr::<pg_sys::Interval>() };
        let days = i64::from(interval.month) * 30 + i64::from(interval.day);
        let us = days.saturating_mul(86_400_000_000).saturating_add(interval.time);
        Some(Duration::from_micros(us.max(0) as u64))
    }

    /// A count that must be positive where it is given.
    pub fn max_count(&self, index: usize) -> Result<Option<u64>, Error> {
        let argument = "max_count";
        match self.int8(index) {
            None => Ok(None),
            Some(value) if value > 0 => Ok(Some(value as u64)),
            Some(value) => {
                Err(StoreError::OutOfRange { argument, value, range: "positive" }.into())
            }
        }
    }

    /// An array.
    pub fn array(
        &self,
        index: usize,
        argument: &'static str,
        element_type: ElementType,
    ) -> Result<Option<ArrayArgument<'_>>, Error> {
        let Some(body) = self.bytes(index) else { return Ok(None) };
        match ArrayReader::new(body, element_type) {
            Ok(reader) => Ok(Some(ArrayArgument::new(argument, reader))),
            Err(ArrayError::Dimensions(dimensions)) => {
                Err(StoreError::ArrayDimensions { argument, dimensions }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An array that must be given.
    pub fn required_array(
        &self,
        index: usize,
        argument: &'static str,
        element_type: ElementType,
    ) -> Result<ArrayArgument<'_>, Error> {
        let array = self.array(index, argument, element_type)?;
        array.ok_or_else(|| StoreError::NullArgument { argument }.into())
    }

    /// An event; `indexes` are those of its type, payload, metadata and id.
    pub fn event(&self, indexes: [usize; 4]) -> Result<NewEvent<'_>, Error> {
        let [event_type, payload, metadata, event_id] = indexes;
        let event = NewEvent {
            event_type: self.name(event_type, NameKind::EventType)?,
            payload: self.bytes(payload).ok_or(StoreError::NullArgument { argument: "payload" })?,
            metadata: self.bytes(metadata),
            event_id: self.uuid(event_id),
        };
        event.check_size(1, settings::max_event_size_bytes())?;
        Ok(event)
    }

    /// Events; `indexes` are those of the arrays of their types, payloads, metadata and ids.
    pub fn events(&self, indexes: [usize; 4]) -> Result<Vec<NewEvent<'_>>, Error> {
        let [types, payloads, metadata, event_ids] = indexes;
        let arrays = EventArrays {
            types: self.required_array(types, "event_types", ElementType::Text)?,
            payloads: self.required_array(payloads, "payloads", ElementType::Jsonb)?,
            metadata: self.array(metadata, "metadata", ElementType::Jsonb)?,
            event_ids: self.array(event_ids, "event_ids", ElementType::Uuid)?,
        };
        let limits = Limits {
            events: settings::max_batch_events(),
            event_bytes: settings::max_event_size_bytes(),
        };
        Ok(arrays.events(limits, datum::count_chars)?)
    }
}
