//! Reading a stream.

use super::row::{StreamColumns, put_event};
use crate::model::partition::Partition;
use crate::pg::call::Call;
use crate::pg::call::rows::Rows;
use crate::pg::error::Error;
use crate::pg::session::xact::statement_snapshot;
use crate::pg::shared::counting;
use crate::pg::tables::heads::{Head, Heads};
use crate::pg::tables::log::{LogReader, ReadEvent};
use crate::pg::tables::relation::For;
use crate::pg::tables::rights::check_reader;

/// Passes a stream's row, as the statement's snapshot shows it, to `use_head`; `None` if there is no
/// such stream.
pub fn with_head<T>(
    stream_id: &[u8],
    tenant_id: &[u8],
    use_head: impl FnOnce(Head<'_>) -> T,
) -> Result<Option<T>, Error> {
    check_reader()?;
    let mut heads = Heads::by_name(Partition::of(stream_id), For::Reading, statement_snapshot())?;
    let result = heads.find(stream_id, tenant_id).map(use_head);
    Ok(result)
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
    let partition = Partition::of(stream_id);
    let mut heads = Heads::by_name(partition, For::Reading, statement_snapshot())?;
    if let Some(head) = heads.find(stream_id, tenant_id) {
        let columns = StreamColumns::of(&head, partition);
        let (stream_no, current) = (head.stream_no(), head.current_version());
        let span = i64::try_from(range.max_count.unwrap_or(u64::MAX) - 1).unwrap_or(i64::MAX);
        let mut log = LogReader::open(partition, statement_snapshot())?;
        let put = |event: ReadEvent<'_>| {
            count += 1;
            put_event(&mut rows, &columns, &event)
        };
        if range.backward {
            let last = range.from_version.unwrap_or(current).min(current);
            log.read_versions_backward(stream_no, last, last.saturating_sub(span).max(1), put)?;
        } else {
            let first = range.from_version.unwrap_or(1);
            log.read_versions(stream_no, first, first.saturating_add(span).min(current), put)?;
        }
    }
    counting::read(count);
    Ok(())
}
