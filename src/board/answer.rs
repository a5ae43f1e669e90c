//! What is answered, and as it lies in a slot.

use crate::model::hot::Place;

/// Bytes of events in one answer.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why there is no answer. Whoever has asked looks into the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody serves the store, or not any more.
    Away,
    /// The last batch that was asked for is not there yet, or the first ones are not there any more.
    Behind,
    /// The next event alone has more than [`ANSWER_BYTES_MAX`].
    TooLarge,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A piece of the stream's tail.
    Tail {
        /// as [`crate::codec::hot_tail`] has it
        bytes: &'a [u8],
        /// how many events
        events: usize,
        /// if there are more: the place after which they come
        next: Option<Place>,
    },
    /// The number of its events.
    Count(u64),
    /// None.
    Unanswered(Unanswered),
}

/// An answer in shared memory.
#[repr(C)]
pub struct StoredAnswer {
    kind: u32,
    has_next: u32,
    next: Place,
    events: u64,
    bytes_len: u64,
    bytes: [u8; ANSWER_BYTES_MAX],
}

const TAIL: u32 = 1;
const COUNT: u32 = 2;
const BEHIND: u32 = 3;
const TOO_LARGE: u32 = 4;

impl StoredAnswer {
    /// Writes an answer.
    pub fn write(&mut self, answer: &Answer<'_>) {
        self.kind = match *answer {
            Answer::Tail { bytes, .. } if bytes.len() > ANSWER_BYTES_MAX => TOO_LARGE,
            Answer::Tail { bytes, events, next } => {
                self.bytes[..bytes.len()].copy_from_slice(bytes);
                self.bytes_len = bytes.len() as u64;
                self.events = events as u64;
                self.has_next = next.is_some().into();
                self.next = next.unwrap_or(self.next);
                TAIL
            }
            Answer::Count(events) => {
                self.events = events;
                COUNT
            }
            Answer::Unanswered(Unanswered::Away) => 0,
            Answer::Unanswered(Unanswered::Behind) => BEHIND,
            Answer::Unanswered(Unanswered::TooLarge) => TOO_LARGE,
        };
    }

    /// Reads it.
    pub fn read(&self) -> Answer<'_> {
        match self.kind {
            TAIL => Answer::Tail {
                bytes: self.bytes.get(..self.bytes_len as usize).unwrap_or_default(),
                events: self.events as usize,
                next: (self.has_next != 0).then_some(self.next),
            },
            COUNT => Answer::Count(self.events),
            BEHIND => Answer::Unanswered(Unanswered::Behind),
            TOO_LARGE => Answer::Unanswered(Unanswered::TooLarge),
            _ => Answer::Unanswered(Unanswered::Away),
        }
    }
}
