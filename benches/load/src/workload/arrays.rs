//! Work on the server, by two sessions: events that lie in its tables are appended by
//! `es_append_batch` over arrays aggregated from them, or handed over by `es_enqueue_batch`, over such
//! arrays or over arrays that lie ready, a row for each call. Neither a client nor, with the ready
//! ones, an aggregate is in the way.

use std::rc::Rc;

use crate::bench::Bench;
use crate::data::Data;
use crate::data::rows::{
    IMPORT_CALL_EVENTS, IMPORT_CHUNK_EVENTS, IMPORT_EVENTS_PER_STREAM, IMPORT_SESSION_EVENTS,
    Order, SCATTERED_CALLS, import_append, scattered_streams,
};
use crate::payload::Size;
use crate::streams::Seat;
use crate::workload::calls::{Answer, Call, Calls};
use crate::workload::{About, Workload, appends, enqueues};

/// The report's names of the import in grouped order, by events per call.
pub const IMPORT_GROUPED: [&str; 3] =
    ["import 2k grouped", "import 10k grouped", "import 50k grouped"];

/// The report's name of the import in mixed order.
pub const IMPORT_MIXED: &str = "import 10k mixed";

/// The report's name of the import in mixed order through the queue.
pub const ENQUEUE_AGGREGATED: &str = "enqueue 10k aggregated";

/// The report's name where ready arrays have 1,000 events over 100 streams.
pub const ENQUEUE_PREPARED: &str = "enqueue 1k prepared";

/// The report's name where ready arrays have one event of each stream.
pub const ENQUEUE_SCATTERED: &str = "enqueue 10k scattered";

/// Returns the number of events.
const ENQUEUE: &str = "
    SELECT allsource.es_enqueue_batch(array_agg(stream_id), array_agg(event_type), array_agg(payload))
    FROM (SELECT stream_id, event_type, payload FROM import_mixed
          WHERE id >= $1 AND id < $2 ORDER BY id) AS events";

/// The import of all sizes and orders, grouped order first.
pub(crate) fn imports(bench: &Bench) -> Vec<Rc<Workload>> {
    let [small, middle, large] = IMPORT_GROUPED;
    [
        (small, Order::Grouped, 2_000),
        (middle, Order::Grouped, IMPORT_CHUNK_EVENTS),
        (large, Order::Grouped, IMPORT_SESSION_EVENTS),
        (IMPORT_MIXED, Order::Mixed, IMPORT_CHUNK_EVENTS),
    ]
    .map(|(name, order, call_events)| {
        import(bench, appends(name), import_append(order), call_events, IMPORT_EVENTS_PER_STREAM)
    })
    .into()
}

/// The import in mixed order through the queue.
pub(crate) fn enqueue_aggregated(bench: &Bench) -> Rc<Workload> {
    import(bench, enqueues(ENQUEUE_AGGREGATED), ENQUEUE.to_owned(), IMPORT_CHUNK_EVENTS, 1)
}

/// `sql` over `call_events` of the import's events at a time, over and over; it returns one for each
/// `per_unit` events.
fn import(
    bench: &Bench,
    about: About,
    sql: String,
    call_events: usize,
    per_unit: usize,
) -> Rc<Workload> {
    let events = bench.options.import_events;
    let caller = move |_, seat: Seat| {
        let mut froms = seat.part(events).step_by(call_events).cycle();
        let end = seat.part(events).end;
        move || {
            let from = froms.next().unwrap_or_default();
            let to = end.min(from + call_events);
            Call {
                arguments: vec![Box::new(from as i64), Box::new(to as i64)],
                events: to - from,
                answer: Answer::Number((to - from) / per_unit),
            }
        }
    };
    Rc::new(Workload::new(about, &[Data::Store, Data::Import], Calls { sql, caller }))
}

/// The import's events, 1,000 over 100 streams per call.
pub(crate) fn enqueue_prepared(bench: &Bench) -> Rc<Workload> {
    let calls = bench.options.import_events / IMPORT_CALL_EVENTS;
    let data = [Data::Store, Data::Import, Data::ImportArrays];
    ready(enqueues(ENQUEUE_PREPARED), &data, "import_mixed", calls, IMPORT_CALL_EVENTS)
}

/// One event of each stream per call.
pub(crate) fn enqueue_scattered(bench: &Bench, size: Size) -> Rc<Workload> {
    let (about, events) = (enqueues(ENQUEUE_SCATTERED), scattered_streams(bench.options.streams));
    let data = [Data::Store, Data::Scattered(size), Data::ScatteredArrays(size)];
    ready(about, &data, size.scattered(), SCATTERED_CALLS, events)
}

/// `es_enqueue_batch` over each of the `calls` rows of the arrays made of `rows`, over and over.
pub(crate) fn ready(
    about: About,
    data: &[Data],
    rows: &str,
    calls: usize,
    events: usize,
) -> Rc<Workload> {
    let sql = format!(
        "SELECT allsource.es_enqueue_batch(streams, types, payloads) FROM {rows}_arrays WHERE id = $1"
    );
    let caller = move |_, seat: Seat| {
        let mut ids = seat.part(calls).cycle();
        move || Call {
            arguments: vec![Box::new(ids.next().unwrap_or_default() as i64)],
            events,
            answer: Answer::Number(events),
        }
    };
    Rc::new(Workload::new(about, data, Calls { sql, caller }))
}
