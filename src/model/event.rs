//! An event that is about to be appended.

use super::error::StoreError;

/// The 16 bytes of a UUID.
pub type EventId = [u8; 16];

/// An event as the caller gave it, borrowed from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEvent<'a> {
    /// The type's name.
    pub event_type: &'a [u8],
    /// The payload in the database's binary form of jsonb, without a length word.
    pub payload: &'a [u8],
    /// The metadata, likewise.
    pub metadata: Option<&'a [u8]>,
    /// The id that makes a retry safe.
    pub event_id: Option<EventId>,
}

impl NewEvent<'_> {
    /// The bytes that count towards `allsource.max_event_size` and towards the size of a run.
    pub fn size_bytes(&self) -> usize {
        self.event_type.len() + self.payload.len() + self.metadata.map_or(0, <[u8]>::len)
    }

    /// Refuses an event above the limit. `number` is the event's place in its call, from 1.
    pub fn check_size(&self, number: usize, limit_bytes: usize) -> Result<(), StoreError> {
        let size_bytes = self.size_bytes();
        if size_bytes > limit_bytes {
            return Err(StoreError::EventTooLarge { number, size_bytes, limit_bytes });
        }
        Ok(())
    }
}
