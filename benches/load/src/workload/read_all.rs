//! Reading the whole store in the order of positions, 1,000 events per call, over and over. The
//! events are counted on the server; what is measured is finding and unpacking them.

use std::rc::Rc;

use async_trait::async_trait;
use tokio_postgres::{Client as Session, Statement};

use crate::bench::Bench;
use crate::data::Data;
use crate::data::history::{Copy, STREAM_EVENTS};
use crate::error::{Error, Result};
use crate::streams::Seat;
use crate::workload::{About, Client, Connect, Workload};

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

struct ReadAll(&'static str);

struct ReadAllClient {
    name: &'static str,
    session: Session,
    statement: Statement,
    events: i64,
    seen: i64,
    after: i64,
}

/// Reads one copy of the history from end to end.
pub(crate) fn read_all(copy: Copy) -> Rc<Workload> {
    let (name, sql) = match copy {
        Copy::Singles => (ES_READ_ALL_SINGLES, ES_READ_ALL),
        Copy::Runs => (ES_READ_ALL_RUNS, ES_READ_ALL),
        Copy::Plain | Copy::MessageDb => (PLAIN_READ_ALL, PLAIN),
    };
    Rc::new(Workload::new(
        About::reads(name, copy.database()),
        &[Data::History(copy)],
        ReadAll(sql),
    ))
}

#[async_trait(?Send)]
impl Connect for ReadAll {
    async fn connect(
        &self,
        bench: &'static Bench,
        about: About,
        _: Seat,
    ) -> Result<Box<dyn Client>> {
        let session = bench.server.connect(about.database).await?;
        let statement = session.prepare(self.0).await?;
        let events = (bench.options.read_streams * STREAM_EVENTS) as i64;
        let name = about.name;
        Ok(Box::new(ReadAllClient { name, session, statement, events, seen: 0, after: 0 }))
    }
}

#[async_trait(?Send)]
impl Client for ReadAllClient {
    async fn step(&mut self) -> Result<u64> {
        let row = self.session.query_one(&self.statement, &[&self.after]).await?;
        let (count, last): (i64, Option<i64>) = (row.get(0), row.get(1));
        self.seen += count;
        if let Some(last) = last {
            self.after = last;
        } else {
            Error::unless_equal(self.name, self.events, self.seen)?;
            (self.seen, self.after) = (0, 0);
        }
        Ok(count.unsigned_abs())
    }
}
