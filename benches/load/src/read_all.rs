//! Reading the whole store in the order of positions, 1,000 events per call, over and over. The
//! events are counted on the server; what is measured is finding and unpacking them.

use std::rc::Rc;

use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::history::{Copy, History, STREAM_EVENTS};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// `es_read_all` of a store written one event at a time.
pub const ES_READ_ALL_SINGLES: &str = "es_read_all (singles)";

/// `es_read_all` of a store written in runs.
pub const ES_READ_ALL_RUNS: &str = "es_read_all (runs)";

/// The same from a plain table with an index on the position.
pub const PLAIN_READ_ALL: &str = "plain SELECT all";

const ES_READ_ALL: &str = "SELECT count(*), max(\"position\") FROM allsource.es_read_all($1, 1000)";
const PLAIN: &str = "
    SELECT count(*), max(\"position\") FROM (
        SELECT * FROM plain_events WHERE \"position\" > $1 ORDER BY \"position\" LIMIT 1000
    ) AS events";

/// Reads one copy of the history from end to end.
pub struct ReadAll(pub Rc<History>);

struct ReadAllClient {
    name: &'static str,
    connection: Connection,
    events: i64,
    seen: i64,
    after: i64,
}

impl Workload for ReadAll {
    fn about(&self) -> About {
        let name = match self.0.copy {
            Copy::Singles => ES_READ_ALL_SINGLES,
            Copy::Runs => ES_READ_ALL_RUNS,
            Copy::Plain | Copy::MessageDb => PLAIN_READ_ALL,
        };
        About::reads(name, self.0.copy.database())
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.0.prepare())
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let About { name, database, .. } = self.about();
            let mut connection = self.0.bench.server.connect(database).await?;
            let sql = if self.0.copy == Copy::Plain { PLAIN } else { ES_READ_ALL };
            connection.prepare("read", sql).await?;
            let events = (self.0.names.len() * STREAM_EVENTS) as i64;
            Ok(Box::new(ReadAllClient { name, connection, events, seen: 0, after: 0 })
                as Box<dyn Client>)
        })
    }
}

impl Step for ReadAllClient {
    async fn step(&mut self) -> Result<u64> {
        Bind::new(&mut self.connection.out, "read").i64(self.after).execute();
        let (mut count, mut last) = (0, None);
        self.connection
            .roundtrip(|row| (count, last) = (row.i64(0).unwrap_or(0), row.i64(1)))
            .await?;
        self.seen += count;
        if let Some(last) = last {
            self.after = last;
            return Ok(count as u64);
        }
        if self.seen != self.events {
            return Err(Error::WrongResult {
                workload: self.name,
                expected: format!("{} events in the whole", self.events),
                found: self.seen.to_string(),
            });
        }
        (self.seen, self.after) = (0, 0);
        Ok(0)
    }
}
