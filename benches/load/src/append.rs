//! `es_append` and `es_append_many`: events of one stream per call, each call a transaction.

use std::rc::Rc;

use crate::bind::Bind;
use crate::error::Result;
use crate::payload::{EVENT_TYPES, Payloads};
use crate::rng::Rng;
use crate::store::{STORE_DATABASE, STORE_TABLES, Store};
use crate::wire::Connection;
use crate::workload::{Client, LocalFuture, Workload};

/// The report's name of `es_append`.
pub const ES_APPEND: &str = "es_append";

/// The report's name of `es_append_many`.
pub const ES_APPEND_MANY: &str = "es_append_many";

/// Events in a call of `es_append_many`.
const MANY_EVENTS: usize = 100;

/// Appends to a random stream.
pub struct Append {
    store: Rc<Store>,
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
        Self { store: Rc::clone(store), many: false }
    }

    /// A hundred events per call.
    pub fn many(store: &Rc<Store>) -> Self {
        Self { store: Rc::clone(store), many: true }
    }
}

impl Workload for Append {
    fn name(&self) -> &'static str {
        if self.many { ES_APPEND_MANY } else { ES_APPEND }
    }

    fn database(&self) -> &'static str {
        STORE_DATABASE
    }

    fn tables(&self) -> Option<&'static str> {
        Some(STORE_TABLES)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.store.prepare())
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let sql = if self.many {
                "SELECT allsource.es_append_many($1, $2, $3)"
            } else {
                "SELECT allsource.es_append($1, $2, $3)"
            };
            let bench = self.store.bench();
            Ok(Box::new(AppendClient {
                connection: self.store.connect("append", sql).await?,
                payloads: bench.payloads(),
                store: Rc::clone(&self.store),
                rng: Rng::new(bench.seed()),
                many: self.many,
            }) as Box<dyn Client>)
        })
    }
}

impl AppendClient {
    async fn append(&mut self) -> Result<u64> {
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

impl Client for AppendClient {
    fn step(&mut self) -> LocalFuture<'_, u64> {
        Box::pin(self.append())
    }
}
