//! An append to one stream, as it is requested.

use super::batch::StreamKey;
use super::event::NewEvent;
use super::partition::Partition;
use super::version::ExpectedVersion;

/// What is to be appended to one stream.
#[derive(Clone, Copy)]
pub struct StreamAppend<'a> {
    /// its partition
    pub partition: Partition,
    /// its name
    pub stream_id: &'a [u8],
    /// its tenant
    pub tenant_id: &'a [u8],
    /// its entity, if one was given
    pub entity_id: Option<&'a [u8]>,
    /// the expected version
    pub expected: ExpectedVersion,
    /// the events in their order
    pub events: &'a [NewEvent<'a>],
}

impl<'a> StreamAppend<'a> {
    /// What names the stream.
    pub fn key(&self) -> StreamKey<'a> {
        StreamKey { stream_id: self.stream_id, tenant_id: self.tenant_id }
    }
}
