//! What is asked, and as it lies in a slot.

use crate::codec::record::Home;
use crate::model::batch::StreamKey;
use crate::model::hot::{Batches, Place};
use crate::model::name::NAME_CHARS_MAX;
use crate::model::partition::Partition;

/// Bytes of the longest character in an encoding of PostgreSQL.
const CHAR_BYTES_MAX: usize = 4;
/// Bytes of two names.
const NAMES_BYTES_MAX: usize = 2 * NAME_CHARS_MAX * CHAR_BYTES_MAX;

/// What is to be told of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Its events: those after a place, or all.
    Tail {
        /// the place
        after: Option<Place>,
    },
    /// Their number.
    Count,
}

/// A question about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// the store
    pub home: Home,
    /// partition of the stream
    pub partition: Partition,
    /// the stream
    pub stream: StreamKey<'a>,
    /// in which batches
    pub batches: Batches,
    /// what is to be told
    pub subject: Subject,
}

/// A question in shared memory. Zeroed memory is one that nobody has asked.
#[repr(C)]
pub struct StoredQuestion {
    home: Home,
    partition: i32,
    subject: u32,
    batches: Batches,
    after: Place,
    stream_id_bytes: u32,
    tenant_id_bytes: u32,
    names: [u8; NAMES_BYTES_MAX],
}

const WHOLE_TAIL: u32 = 0;
const TAIL_AFTER: u32 = 1;
const COUNT: u32 = 2;

impl StoredQuestion {
    /// Whether there is room for the names of a question. Those of a stream that exists fit.
    pub fn has_room_for(question: &Question<'_>) -> bool {
        question.stream.stream_id.len() + question.stream.tenant_id.len() <= NAMES_BYTES_MAX
    }

    /// Writes a question that there is room for.
    pub fn write(&mut self, question: &Question<'_>) {
        let StreamKey { stream_id, tenant_id } = question.stream;
        self.home = question.home;
        self.partition = question.partition.number();
        self.batches = question.batches;
        self.subject = match question.subject {
            Subject::Tail { after: None } => WHOLE_TAIL,
            Subject::Tail { after: Some(after) } => {
                self.after = after;
                TAIL_AFTER
            }
            Subject::Count => COUNT,
        };
        self.stream_id_bytes = stream_id.len() as u32;
        self.tenant_id_bytes = tenant_id.len() as u32;
        let (names, rest) = self.names.split_at_mut(stream_id.len());
        names.copy_from_slice(stream_id);
        rest[..tenant_id.len()].copy_from_slice(tenant_id);
    }

    /// Reads it; `None` if it is none, which only a defect explains.
    pub fn read(&self) -> Option<Question<'_>> {
        let (stream_id, rest) = self.names.split_at_checked(self.stream_id_bytes as usize)?;
        let tenant_id = rest.get(..self.tenant_id_bytes as usize)?;
        Some(Question {
            home: self.home,
            partition: Partition::new(self.partition)?,
            stream: StreamKey { stream_id, tenant_id },
            batches: self.batches,
            subject: match self.subject {
                WHOLE_TAIL => Subject::Tail { after: None },
                TAIL_AFTER => Subject::Tail { after: Some(self.after) },
                COUNT => Subject::Count,
                _ => return None,
            },
        })
    }
}
