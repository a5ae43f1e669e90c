//! The store's own writing calls, each a transaction: `es_append`, `es_append_many`,
//! `es_append_batch`, and those that leave the writing to a worker.

use std::rc::Rc;

use crate::bench::Bench;
use crate::data::{Data, STORE_DATABASE};
use crate::payload::{EVENT_TYPES, Size, event_type};
use crate::streams::{Names, Walk, orders};
use crate::workload::calls::{Answer, Call, Calls};
use crate::workload::{About, Ends, Workload};

/// The report's name of `es_append`.
pub const ES_APPEND: &str = "es_append";

/// The report's name of `es_append_many`.
pub const ES_APPEND_MANY: &str = "es_append_many";

/// The report's name of `es_append_batch`.
pub const ES_APPEND_BATCH: &str = "es_append_batch";

/// The report's name of `es_enqueue`.
pub const ES_ENQUEUE: &str = "es_enqueue";

/// The report's name of `es_enqueue` that returns when the event is durable.
pub const ES_ENQUEUE_DURABLE: &str = "es_enqueue, durable";

/// The report's name of `es_enqueue_batch`.
pub const ES_ENQUEUE_BATCH: &str = "es_enqueue_batch";

/// The report's name of `es_append` beside a full queue.
pub const APPEND_UNDER_LOAD: &str = "es_append under load";

const ES_APPEND_SQL: &str = "SELECT allsource.es_append($1, $2, $3)";

/// Events in a call of `es_append_many`.
const MANY_EVENTS: usize = 100;

/// Events in a call of `es_append_batch` and `es_enqueue_batch`.
const BATCH_EVENTS: usize = 1_000;

/// Streams in such a call.
const BATCH_STREAMS: usize = 100;

/// All that a store writes to, as the condition of [`About::tables`].
const STORE_TABLES: &str = "n.nspname = 'allsource'";

/// A workload that appends to the store.
pub(crate) const fn appends(name: &'static str) -> About {
    About::writes(name, STORE_DATABASE, STORE_TABLES)
}

/// A workload that hands events over to the store's workers.
pub(crate) const fn enqueues(name: &'static str) -> About {
    About { ends: Ends::Flushed, ..appends(name) }
}

/// One event per call.
pub(crate) fn append(bench: &Bench) -> Rc<Workload> {
    Rc::new(one(bench, appends(ES_APPEND), ES_APPEND_SQL))
}

/// One event per call, while two sessions hand batches over to the workers without pause. They write
/// to other streams: one that a worker is writing to has to be waited for, as always.
pub(crate) fn append_under_load(bench: &Bench, load: Rc<Workload>) -> Rc<Workload> {
    // Nothing is said of bytes: nearly all of them are those of the load.
    let about = About::reads(APPEND_UNDER_LOAD, STORE_DATABASE);
    let one = one(bench, about, ES_APPEND_SQL);
    Rc::new(Workload { data: load.data.clone(), load: Some(load), ..one })
}

/// One event per call, through the queue.
pub(crate) fn enqueue(bench: &Bench) -> Rc<Workload> {
    Rc::new(one(bench, enqueues(ES_ENQUEUE), "SELECT allsource.es_enqueue($1, $2, $3)"))
}

/// One event per call, through the queue; each call returns when its event is durable.
pub(crate) fn enqueue_durable(bench: &Bench) -> Rc<Workload> {
    let sql = "SELECT allsource.es_enqueue($1, $2, $3, durable => true)";
    Rc::new(one(bench, enqueues(ES_ENQUEUE_DURABLE), sql))
}

/// One event for a random stream.
fn one(bench: &Bench, about: About, sql: &str) -> Workload {
    let names = orders(bench.options.streams);
    let caller = move |bench: &'static Bench, _| {
        let (mut rng, mut payloads) = (bench.rng(), bench.payloads(Size::Full));
        move || Call {
            arguments: vec![
                Box::new(&names[rng.usize(..names.len())]),
                Box::new(event_type(rng.usize(..EVENT_TYPES.len()))),
                Box::new(payloads.one()),
            ],
            events: 1,
            answer: Answer::Rows(1),
        }
    };
    Workload::new(about, &[Data::Store], Calls { sql: sql.to_owned(), caller })
}

/// A hundred events for a random stream.
pub(crate) fn append_many(bench: &Bench) -> Rc<Workload> {
    let names = orders(bench.options.streams);
    let sql = "SELECT allsource.es_append_many($1, $2, $3)".to_owned();
    let caller = move |bench: &'static Bench, _| {
        let (mut rng, mut payloads) = (bench.rng(), bench.payloads(Size::Full));
        move || {
            let first = rng.usize(..EVENT_TYPES.len());
            let types: Vec<_> = (first..first + MANY_EVENTS).map(event_type).collect();
            Call {
                arguments: vec![
                    Box::new(&names[rng.usize(..names.len())]),
                    Box::new(types),
                    Box::new(payloads.take(MANY_EVENTS)),
                ],
                events: MANY_EVENTS,
                answer: Answer::Rows(1),
            }
        }
    };
    Rc::new(Workload::new(appends(ES_APPEND_MANY), &[Data::Store], Calls { sql, caller }))
}

/// 1,000 events over 100 streams by `es_append_batch`.
pub(crate) fn append_batch(bench: &Bench) -> Rc<Workload> {
    let sql = "SELECT * FROM allsource.es_append_batch($1, $2, $3)".to_owned();
    let names = orders(bench.options.streams);
    batch(appends(ES_APPEND_BATCH), sql, BATCH_STREAMS, names, Size::Full)
}

/// 1,000 events over 100 streams by `es_enqueue_batch`.
pub(crate) fn enqueue_batch(bench: &Bench, size: Size) -> Rc<Workload> {
    let sql = "SELECT allsource.es_enqueue_batch($1, $2, $3)".to_owned();
    batch(enqueues(ES_ENQUEUE_BATCH), sql, 1, orders(bench.options.streams), size)
}

/// In the order in which events might have arrived: one of each stream, then the next of each. Each
/// client has streams of its own, as a consumer of a partitioned queue has; two batches that share a
/// stream would have to wait for each other.
fn batch(about: About, sql: String, rows: usize, names: Names, size: Size) -> Rc<Workload> {
    let caller = move |bench: &'static Bench, seat| {
        let mut payloads = bench.payloads(size);
        let mut walk = Walk::new(names, seat, bench.rng());
        move || Call {
            arguments: vec![
                Box::new(walk.take(BATCH_STREAMS).repeat(BATCH_EVENTS / BATCH_STREAMS)),
                Box::new((0..BATCH_EVENTS).map(event_type).collect::<Vec<_>>()),
                Box::new(payloads.take(BATCH_EVENTS)),
            ],
            events: BATCH_EVENTS,
            answer: Answer::Rows(rows),
        }
    };
    Rc::new(Workload::new(about, &[Data::Store], Calls { sql, caller }))
}
