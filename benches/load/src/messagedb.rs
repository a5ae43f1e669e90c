//! Baseline: message-db, the event store in PL/pgSQL, writing one message per transaction.
//!
//! Its database is installed by its own scripts before the harness starts. Each stream has a category
//! of its own (`cat123-1`): message-db locks per category, so this is where it is fastest.

use std::rc::Rc;

use crate::bench::{Bench, Names};
use crate::bind::Bind;
use crate::error::Result;
use crate::payload::{EVENT_TYPES, Payloads};
use crate::rng::Rng;
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of writing.
pub const MESSAGE_DB: &str = "message-db";

/// The database that its install script has made.
pub const MESSAGE_DB_DATABASE: &str = "bench_messagedb";

/// Its functions find each other by the search path.
pub const SEARCH_PATH: &str = "SET search_path = message_store, public";

const WRITE: &str = "SELECT write_message($1, $2, $3, $4)";

/// Writing by `write_message`.
pub struct MessageDb {
    bench: Rc<Bench>,
    names: Names,
}

struct WriteClient {
    connection: Connection,
    payloads: Payloads,
    names: Names,
    rng: Rng,
}

/// The name of message-db's stream `number`.
pub fn stream_name(number: usize) -> String {
    format!("cat{number}-1")
}

impl MessageDb {
    /// The workload over the streams of `bench`.
    pub fn new(bench: &Rc<Bench>) -> Self {
        let names = Names::new(bench.options.streams, stream_name);
        Self { bench: Rc::clone(bench), names }
    }
}

impl Workload for MessageDb {
    fn about(&self) -> About {
        About::writes(MESSAGE_DB, MESSAGE_DB_DATABASE, "n.nspname = 'message_store'")
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let mut connection = self.bench.server.connect(MESSAGE_DB_DATABASE).await?;
            connection.query(SEARCH_PATH).await?;
            connection.prepare("write", WRITE).await?;
            Ok(Box::new(WriteClient {
                connection,
                payloads: self.bench.payloads(),
                names: self.names.clone(),
                rng: Rng::new(self.bench.seed()),
            }) as Box<dyn Client>)
        })
    }
}

impl Step for WriteClient {
    async fn step(&mut self) -> Result<u64> {
        let name = self.names.get(self.rng.below(self.names.len()));
        let id = self.rng.uuid();
        Bind::new(&mut self.connection.out, "write")
            .text(&id)
            .text(name)
            .text(EVENT_TYPES[self.rng.below(EVENT_TYPES.len())])
            .jsonb(|out| self.payloads.write(out))
            .execute();
        self.connection.roundtrip(|_| {}).await
    }
}
