//! The same calls to a store, and to a router in front of it that is on another server: what is between them.

use std::rc::Rc;

use crate::bench::Bench;
use crate::data::Data;
use crate::data::history::Copy;
use crate::payload::{EVENT_TYPES, Size, event_type};
use crate::server::ROUTER_DATABASE;
use crate::streams::orders;
use crate::workload::calls::{Answer, Call, Calls};
use crate::workload::{About, Workload};

/// `es_append` of one event, at the store and by the router.
pub const ROUTED_APPEND: [&str; 2] = ["es_append, direct", "es_append, routed"];

/// `es_read` of ten events, likewise.
pub const ROUTED_READ: [&str; 2] = ["es_read 10, direct", "es_read 10, routed"];

/// The store that is routed to.
pub const ROUTED_TO: Copy = Copy::Runs;

const READ_EVENTS: usize = 10;

/// Where the calls are made.
const DATABASES: [&str; 2] = [ROUTED_TO.database(), ROUTER_DATABASE];

const DATA: [Data; 2] = [Data::History(ROUTED_TO), Data::Router];

/// Appending, at the store and by the router.
pub(crate) fn routed_append(bench: &Bench) -> Vec<Rc<Workload>> {
    let names = orders(bench.options.read_streams);
    let of = |(name, database)| {
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
        let sql = "SELECT allsource.es_append($1, $2, $3, event_id => gen_random_uuid())";
        let calls = Calls { sql: sql.to_owned(), caller };
        // Nothing is said of bytes: they are another server's.
        Rc::new(Workload::new(About::reads(name, database), &DATA, calls))
    };
    ROUTED_APPEND.into_iter().zip(DATABASES).map(of).collect()
}

/// Reading, likewise.
pub(crate) fn routed_read(bench: &Bench) -> Vec<Rc<Workload>> {
    let names = orders(bench.options.read_streams);
    let of = |(name, database)| {
        let caller = move |bench: &'static Bench, _| {
            let mut rng = bench.rng();
            move || Call {
                arguments: vec![Box::new(&names[rng.usize(..names.len())])],
                events: READ_EVENTS,
                answer: Answer::Rows(READ_EVENTS),
            }
        };
        let sql = format!("SELECT * FROM allsource.es_read($1, max_count => {READ_EVENTS})");
        Rc::new(Workload::new(About::reads(name, database), &DATA, Calls { sql, caller }))
    };
    ROUTED_READ.into_iter().zip(DATABASES).map(of).collect()
}
