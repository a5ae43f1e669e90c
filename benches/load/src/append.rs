//! Events of one stream per call, each call a transaction: `es_append`, `es_append_many`, and
//! `es_enqueue`, which leaves the writing to a worker.

use std::rc::Rc;

use crate::bind::Bind;
use crate::error::Result;
use crate::payload::{EVENT_TYPES, Payloads};
use crate::rng::Rng;
use crate::store::{self, Store};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of `es_append`.
pub const ES_APPEND: &str = "es_append";

/// The report's name of `es_append_many`.
pub const ES_APPEND_MANY: &str = "es_append_many";

/// The report's name of `es_enqueue`.
pub const ES_ENQUEUE: &str = "es_enqueue";

/// The report's name of `es_enqueue` that returns when the event is durable.
pub const ES_ENQUEUE_DURABLE: &str = "es_enqueue, durable";

/// Events in a call of `es_append_many`.
const MANY_EVENTS: usize = 100;

/// Appends to a random stream.
pub struct Append {
    store: Rc<Store>,
    about: About,
    sql: &'static str,
    many: bool,
}

struct AppendClient {
    connection: Connection,
    payloads: Payloads,
    store: Rc<Store>,
    rng: Rng,
    many: bool,
}

impl Append {
    /// One event per call.
    pub fn one(store: &Rc<Store>) -> Self {
        let sql = "SELECT allsource.es_append($1, $2, $3)";
        Self { store: Rc::clone(store), about: store::appends(ES_APPEND), sql, many: false }
    }

    /// A hundred events per call.
    pub fn many(store: &Rc<Store>) -> Self {
        let sql = "SELECT allsource.es_append_many($1, $2, $3)";
        Self { store: Rc::clone(store), about: store::appends(ES_APPEND_MANY), sql, many: true }
    }

    /// One event per call, through the queue.
    pub fn enqueue(store: &Rc<Store>) -> Self {
        let sql = "SELECT allsource.es_enqueue($1, $2, $3)";
        Self { store: Rc::clone(store), about: store::enqueues(ES_ENQUEUE), sql, many: false }
    }

    /// One event per call, through the queue; each call returns when its event is durable.
    pub fn enqueue_durable(store: &Rc<Store>) -> Self {
        let sql = "SELECT allsource.es_enqueue($1, $2, $3, durable => true)";
        let about = store::enqueues(ES_ENQUEUE_DURABLE);
        Self { store: Rc::clone(store), about, sql, many: false }
    }
}

impl Workload for Append {
    fn about(&self) -> About {
        self.about
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.store.prepare())
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let bench = self.store.bench();
            Ok(Box::new(AppendClient {
                connection: self.store.connect("append", self.sql).await?,
                payloads: bench.payloads(),
                store: Rc::clone(&self.store),
                rng: Rng::new(bench.seed()),
                many: self.many,
            }) as Box<dyn Client>)
        })
    }
}

impl Step for AppendClient {
    async fn step(&mut self) -> Result<u64> {
        let names = self.store.names();
        let name = names.get(self.rng.below(names.len()));
        let first_type = self.rng.below(EVENT_TYPES.len());
        let event_type = |event: usize| EVENT_TYPES[(first_type + event) % EVENT_TYPES.len()];
        let call = Bind::new(&mut self.connection.out, "append").text(name);
        let events = if self.many {
            call.text_array((0..MANY_EVENTS).map(event_type))
                .jsonb_array(MANY_EVENTS, |out| self.payloads.write(out))
                .execute();
            MANY_EVENTS
        } else {
            call.text(event_type(0)).jsonb(|out| self.payloads.write(out)).execute();
            1
        };
        self.connection.roundtrip(|_| {}).await?;
        Ok(events as u64)
    }
}
