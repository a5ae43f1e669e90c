//! What hot partitions are for, and what they must not cost, beside the same with cold ones.

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;

use crate::bench::Bench;
use crate::data::hot::{DEVICE_EVENTS, LOAD_CALL_EVENTS, load_calls};
use crate::data::{Data, STORE_DATABASE};
use crate::payload::{EVENT_TYPES, Payloads, Size, event_type};
use crate::streams::{Seat, orders};
use crate::workload::calls::{Answer, Call, Calls};
use crate::workload::heat::Heat;
use crate::workload::{About, Client, Connect, Ends, Pace, Workload, appends, enqueues, ready};

/// The report's names of scattered events until they are settled, all partitions cold and all hot.
pub const SCATTERED: [&str; 2] = ["scattered, cold", "scattered, hot"];

/// The report's names of taking in batches until they are flushed.
pub const TAKE_IN: [&str; 2] = ["es_enqueue_batch, cold", "es_enqueue_batch, hot"];

/// The report's names of taking in ready arrays of small events until they are flushed.
pub const TAKE_IN_SMALL: [&str; 2] = ["1k prepared 60 B, cold", "1k prepared 60 B, hot"];

/// The report's names of reading streams beside a load that is settled: those of a cold partition, and
/// those with a tail.
pub const READ_BESIDE: [&str; 2] = ["es_read, cold", "es_read, tail"];

/// The report's names of the ordinary calls on cold partitions: without a sidecar, and while there is one
/// that has nothing to do.
pub const ORDINARY: [[&str; 2]; 3] = [
    ["es_append, no sidecar", "es_append, idle sidecar"],
    ["es_read, no sidecar", "es_read, idle sidecar"],
    ["es_enqueue, no sidecar", "es_enqueue, idle sidecar"],
];

const LOAD: Pace = Pace { events_per_s: 100_000, lead: Duration::from_secs(3) };

const LOADED: [Data; 4] =
    [Data::Store, Data::Scattered(Size::Full), Data::Devices, Data::DeviceLoad];

const READ: &str = "SELECT * FROM allsource.es_read($1, max_count => 20, backward => true)";
const APPEND: &str = "SELECT allsource.es_append($1, $2, $3)";
const ENQUEUE: &str = "SELECT allsource.es_enqueue($1, $2, $3)";

/// Each event for a random stream that the client draws, with one of the payloads that lie ready; until
/// all are settled.
pub(crate) fn scattered(bench: &Bench) -> Vec<Rc<Workload>> {
    let names = orders(bench.options.streams);
    let rows = load_calls(bench.options.streams);
    let caller = move |bench: &'static Bench, seat: Seat| {
        let (mut rng, mut ids) = (bench.rng(), seat.part(rows).cycle());
        move || {
            let streams: Vec<_> =
                (0..LOAD_CALL_EVENTS).map(|_| names[rng.usize(..names.len())].as_str()).collect();
            Call {
                arguments: vec![Box::new(streams), Box::new(ids.next().unwrap_or_default() as i64)],
                events: LOAD_CALL_EVENTS,
                answer: Answer::Number(LOAD_CALL_EVENTS),
            }
        }
    };
    let sql = "SELECT allsource.es_enqueue_batch($1, types, payloads) FROM device_load_arrays WHERE id = $2";
    let about = About { ends: Ends::Settled, ..appends(SCATTERED[0]) };
    let calls = Calls { sql: sql.to_owned(), caller };
    let mut workload = Workload::new(about, &LOADED, calls);
    workload.events = Some(bench.options.hot_events);
    at_each(&workload, SCATTERED, [Heat::None, Heat::All])
}

/// What hands over events until they are flushed, cold and hot.
pub(crate) fn take_in(workload: &Workload, names: [&'static str; 2]) -> Vec<Rc<Workload>> {
    at_each(workload, names, [Heat::None, Heat::All])
}

/// Reading streams, while others and some of their events come in and are settled.
pub(crate) fn read_beside(bench: &Bench) -> Vec<Rc<Workload>> {
    let calls = load_calls(bench.options.streams);
    let load = ready(enqueues("load"), &LOADED, "device_load", calls, LOAD_CALL_EVENTS);
    let load = Rc::new(Workload { pace: Some(LOAD), ..(*load).clone() });
    let read = |(name, of_first)| {
        let about = About::reads(name, STORE_DATABASE);
        let mut workload =
            Workload::new(about, &LOADED, Devices { sql: READ, of_first, call: read });
        workload.load = Some(Rc::clone(&load));
        workload.heat = Some(Heat::AllButFirst);
        Rc::new(workload)
    };
    READ_BESIDE.into_iter().zip([true, false]).map(read).collect()
}

/// The ordinary calls on partitions that are cold.
pub(crate) fn ordinary() -> Vec<Vec<Rc<Workload>>> {
    let of_others = |about, sql, call| {
        Workload::new(about, &LOADED[..3], Devices { sql, of_first: false, call })
    };
    let workloads = [
        of_others(appends(ORDINARY[0][0]), APPEND, write),
        of_others(About::reads(ORDINARY[1][0], STORE_DATABASE), READ, read),
        of_others(enqueues(ORDINARY[2][0]), ENQUEUE, write),
    ];
    let both = |(workload, names)| at_each(&workload, names, [Heat::None, Heat::First]);
    workloads.into_iter().zip(ORDINARY).map(both).collect()
}

/// The same while other partitions are hot, which is what makes it fair to be beside these.
pub(crate) fn beside_hot(workload: &Workload) -> Rc<Workload> {
    Rc::new(Workload { heat: Some(Heat::All), ..workload.clone() })
}

fn at_each(workload: &Workload, names: [&'static str; 2], heats: [Heat; 2]) -> Vec<Rc<Workload>> {
    let at = |(name, heat)| {
        let about = About { name, ..workload.about };
        Rc::new(Workload { about, heat: Some(heat), ..workload.clone() })
    };
    names.into_iter().zip(heats).map(at).collect()
}

/// Calls for random devices: those of the first partition, or the others.
struct Devices {
    sql: &'static str,
    of_first: bool,
    call: fn(&str, &mut Rng, &mut Payloads) -> Call,
}

#[async_trait(?Send)]
impl Connect for Devices {
    async fn connect(
        &self,
        bench: &'static Bench,
        about: About,
        seat: Seat,
    ) -> Result<Box<dyn Client>, crate::error::Error> {
        let session = bench.server.connect(about.database).await?;
        let sql = "SELECT array_agg(stream_id) FROM devices WHERE of_first = $1";
        let names: Vec<String> = session.query_one_scalar(sql, &[&self.of_first]).await?;
        let names: Rc<[String]> = names.into();
        let call = self.call;
        let caller = move |bench: &'static Bench, _| {
            let (mut rng, mut payloads) = (bench.rng(), bench.payloads(Size::Full));
            let names = Rc::clone(&names);
            move || call(&names[rng.usize(..names.len())], &mut rng, &mut payloads)
        };
        Calls { sql: self.sql.to_owned(), caller }.connect(bench, about, seat).await
    }
}

fn read(device: &str, _: &mut Rng, _: &mut Payloads) -> Call {
    Call {
        arguments: vec![Box::new(device.to_owned())],
        events: DEVICE_EVENTS,
        answer: Answer::Rows(DEVICE_EVENTS),
    }
}

fn write(device: &str, rng: &mut Rng, payloads: &mut Payloads) -> Call {
    Call {
        arguments: vec![
            Box::new(device.to_owned()),
            Box::new(event_type(rng.usize(..EVENT_TYPES.len()))),
            Box::new(payloads.one()),
        ],
        events: 1,
        answer: Answer::Rows(1),
    }
}
