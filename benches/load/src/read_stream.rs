//! Reading a random stream of 100 events, all columns, over the four copies of the history.

use std::rc::Rc;

use crate::bench::Names;
use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::history::{Copy, History, STREAM_EVENTS};
use crate::messagedb::SEARCH_PATH;
use crate::rng::Rng;
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

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
pub struct ReadStream(pub Rc<History>);

struct ReadClient {
    name: &'static str,
    connection: Connection,
    names: Names,
    rng: Rng,
}

impl Workload for ReadStream {
    fn about(&self) -> About {
        let name = match self.0.copy {
            Copy::Singles => ES_READ_SINGLES,
            Copy::Runs => ES_READ_RUNS,
            Copy::Plain => PLAIN_READ,
            Copy::MessageDb => MESSAGE_DB_READ,
        };
        About::reads(name, self.0.copy.database())
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.0.prepare())
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let bench = &self.0.bench;
            let About { name, database, .. } = self.about();
            let mut connection = bench.server.connect(database).await?;
            let sql = match self.0.copy {
                Copy::Singles | Copy::Runs => ES_READ,
                Copy::Plain => PLAIN,
                Copy::MessageDb => {
                    connection.query(SEARCH_PATH).await?;
                    MESSAGE_DB
                }
            };
            connection.prepare("read", sql).await?;
            let names = self.0.names.clone();
            let rng = Rng::new(bench.seed());
            Ok(Box::new(ReadClient { name, connection, names, rng }) as Box<dyn Client>)
        })
    }
}

impl Step for ReadClient {
    async fn step(&mut self) -> Result<u64> {
        let name = self.names.get(self.rng.below(self.names.len()));
        Bind::new(&mut self.connection.out, "read").text(name).execute();
        let rows = self.connection.roundtrip(|_| {}).await?;
        if rows != STREAM_EVENTS as u64 {
            return Err(Error::WrongResult {
                workload: self.name,
                expected: format!("{STREAM_EVENTS} rows"),
                found: format!("{rows}"),
            });
        }
        Ok(rows)
    }
}
