//! Baselines that are one statement each.
//!
//! A bare `INSERT` into a table with one unique index is the least that any event store on PostgreSQL
//! does per event: a commit, a heap tuple, an index entry. It checks nothing and knows no order
//! across streams.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::bench::Bench;
use crate::data::Data;
use crate::data::rows::{SCATTERED_CALLS, scattered_streams};
use crate::data::{MESSAGE_DB_DATABASE, STORE_DATABASE};
use crate::payload::{EVENT_TYPES, Size, event_type};
use crate::server::BASELINE_DATABASE;
use crate::streams::categories;
use crate::workload::calls::{Answer, Call, Calls};
use crate::workload::{About, Workload};

/// The report's name of one event per transaction by an `INSERT`.
pub const BARE_INSERT: &str = "bare INSERT";

/// The report's name of message-db's `write_message`.
pub const MESSAGE_DB: &str = "message-db";

/// The report's name of inserting the scattered rows.
pub const INSERT_SELECT: &str = "INSERT ... SELECT";

const BARE_TABLE: Data = Data::Table(
    "CREATE TABLE bare_insert (stream_no bigint NOT NULL, version bigint NOT NULL,
                               event_type text NOT NULL, payload jsonb NOT NULL);
     CREATE UNIQUE INDEX ON bare_insert (stream_no, version)",
);

const BARE: &str =
    "INSERT INTO bare_insert (stream_no, version, event_type, payload) VALUES ($1, $2, $3, $4)";

const WRITE_MESSAGE: &str = "SELECT write_message($1, $2, $3, $4)";

/// Positions and versions are given out by the client, which costs the baseline nothing.
const SCATTERED: &str = "
    INSERT INTO plain_scattered (\"position\", stream_no, version, event_type, payload)
    SELECT $1 + id, stream_no, $2::bigint, event_type, payload
    FROM scattered WHERE id >= $3 AND id < $4";

/// One event per transaction into a plain table with one index.
pub(crate) fn bare_insert(streams: usize) -> Rc<Workload> {
    let versions = Rc::new(RefCell::new(vec![0i64; streams]));
    let about = About::writes(BARE_INSERT, BASELINE_DATABASE, "c.relname = 'bare_insert'");
    let caller = move |bench: &'static Bench, _| {
        let (mut rng, mut payloads) = (bench.rng(), bench.payloads(Size::Full));
        let versions = Rc::clone(&versions);
        move || {
            let stream = rng.usize(..streams);
            let version = &mut versions.borrow_mut()[stream];
            *version += 1;
            let kind = event_type(*version as usize);
            Call {
                arguments: vec![
                    Box::new(stream as i64),
                    Box::new(*version),
                    Box::new(kind),
                    Box::new(payloads.one()),
                ],
                events: 1,
                answer: Answer::Rows(1),
            }
        }
    };
    Rc::new(Workload::new(about, &[BARE_TABLE], Calls { sql: BARE.to_owned(), caller }))
}

/// One message per transaction by message-db.
pub(crate) fn message_db(streams: usize) -> Rc<Workload> {
    let names = categories(streams);
    let about = About::writes(MESSAGE_DB, MESSAGE_DB_DATABASE, "n.nspname = 'message_store'");
    let caller = move |bench: &'static Bench, _| {
        let (mut rng, mut payloads) = (bench.rng(), bench.payloads(Size::Full));
        move || {
            let id = uuid::Builder::from_random_bytes(rng.u128(..).to_ne_bytes()).into_uuid();
            Call {
                arguments: vec![
                    Box::new(id.to_string()),
                    Box::new(&names[rng.usize(..names.len())]),
                    Box::new(EVENT_TYPES[rng.usize(..EVENT_TYPES.len())]),
                    Box::new(payloads.one()),
                ],
                events: 1,
                answer: Answer::Rows(1),
            }
        }
    };
    Rc::new(Workload::new(
        about,
        &[Data::MessageDb],
        Calls { sql: WRITE_MESSAGE.to_owned(), caller },
    ))
}

/// 10,000 rows per transaction, one of every stream, into a plain table with two indexes.
pub(crate) fn insert_select(size: Size, streams: usize) -> Rc<Workload> {
    let (tables, sql) = match size {
        Size::Full => ("c.relname = 'plain_scattered'", SCATTERED.to_owned()),
        Size::Small => (
            "c.relname = 'plain_scattered_small'",
            SCATTERED.replace("scattered", "scattered_small"),
        ),
    };
    let events = scattered_streams(streams);
    let calls = Rc::new(Cell::new(0));
    let caller = move |_, _| {
        let calls = Rc::clone(&calls);
        move || {
            let call = calls.replace(calls.get() + 1);
            let from = call % SCATTERED_CALLS * events;
            let numbers = [call * events - from, call + 1, from, from + events];
            Call {
                arguments: numbers.map(|number| Box::new(number as i64) as _).into(),
                events,
                answer: Answer::Rows(events),
            }
        }
    };
    let data = [Data::Store, Data::Scattered(size), Data::PlainScattered(size)];
    let about = About::writes(INSERT_SELECT, STORE_DATABASE, tables);
    Rc::new(Workload::new(about, &data, Calls { sql, caller }))
}
