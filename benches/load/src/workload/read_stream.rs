//! Reading a random stream of 100 events, all columns, over the four copies of the history.

use std::rc::Rc;

use crate::bench::Bench;
use crate::data::Data;
use crate::data::history::{Copy, STREAM_EVENTS};
use crate::workload::calls::{Answer, Call, Calls};
use crate::workload::{About, Workload};

/// `es_read` of streams written one event at a time.
pub const ES_READ_SINGLES: &str = "es_read (singles)";

/// `es_read` of streams written in runs.
pub const ES_READ_RUNS: &str = "es_read (runs)";

/// `SELECT` of the same columns from a plain table.
pub const PLAIN_READ: &str = "plain SELECT";

/// message-db's `get_stream_messages`.
pub const MESSAGE_DB_READ: &str = "message-db read";

const ES_READ: &str = "SELECT * FROM allsource.es_read($1)";
const PLAIN: &str = "
    SELECT \"position\", stream_id, version, tenant_id, event_type, entity_id, payload, metadata,
           \"timestamp\", event_id, partition_id
    FROM plain_events WHERE stream_id = $1 ORDER BY version";
const MESSAGE_DB: &str = "SELECT * FROM get_stream_messages($1)";

/// Reads whole streams of one copy of the history.
pub(crate) fn read_stream(bench: &Bench, copy: Copy) -> Rc<Workload> {
    let names = copy.names(bench.options.read_streams);
    let (name, sql) = match copy {
        Copy::Singles => (ES_READ_SINGLES, ES_READ),
        Copy::Runs => (ES_READ_RUNS, ES_READ),
        Copy::Plain => (PLAIN_READ, PLAIN),
        Copy::MessageDb => (MESSAGE_DB_READ, MESSAGE_DB),
    };
    let caller = move |bench: &'static Bench, _| {
        let mut rng = bench.rng();
        move || Call {
            arguments: vec![Box::new(&names[rng.usize(..names.len())])],
            events: STREAM_EVENTS,
            answer: Answer::Rows(STREAM_EVENTS),
        }
    };
    let calls = Calls { sql: sql.to_owned(), caller };
    Rc::new(Workload::new(About::reads(name, copy.database()), &[Data::History(copy)], calls))
}
