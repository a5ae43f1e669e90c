//! UmaDB over gRPC: what its clients do in a step. A stream of ours is a tag of theirs; nobody gives
//! an append condition or an event id, as our clients give none.

use std::rc::Rc;

use allsource_bench::error::{Error, Result};
use allsource_bench::payload::{Payloads, event_type};
use allsource_bench::workload::Client;
use async_trait::async_trait;
use fastrand::Rng;
use umadb_client::AsyncUmaDbClient;
use umadb_dcb::{DcbEvent, DcbEventStoreAsync as _, DcbQuery, DcbQueryItem};

/// Events in each stream that is read.
pub const STREAM_EVENTS: usize = 100;

/// Appends requests of `streams` random streams with `events_per_stream` events each.
pub struct Append {
    /// The connection.
    pub client: AsyncUmaDbClient,
    /// The events' data.
    pub payloads: Payloads,
    /// All streams' names.
    pub names: Rc<[String]>,
    /// Chooses streams.
    pub rng: Rng,
    /// Streams in a request.
    pub streams: usize,
    /// Events of each of them.
    pub events_per_stream: usize,
}

/// Reads random streams.
pub struct Read {
    /// The connection.
    pub client: AsyncUmaDbClient,
    /// All streams' names.
    pub names: Rc<[String]>,
    /// Chooses streams.
    pub rng: Rng,
}

#[async_trait(?Send)]
impl Client for Append {
    async fn step(&mut self) -> Result<u64> {
        let first = self.rng.usize(..self.names.len());
        let count = self.streams * self.events_per_stream;
        let events: Vec<DcbEvent> = (0..count)
            .map(|n| {
                let stream = (first + n % self.streams) % self.names.len();
                event(&self.names[stream], n, &mut self.payloads)
            })
            .collect();
        self.client.append(events, None, None).await.map_err(failed)?;
        Ok(count as u64)
    }
}

#[async_trait(?Send)]
impl Client for Read {
    async fn step(&mut self) -> Result<u64> {
        let name = self.names[self.rng.usize(..self.names.len())].clone();
        let query = DcbQuery::new().item(DcbQueryItem::new().tags([name]));
        let (events, _) =
            self.client.read_with_head(Some(query), None, false, None).await.map_err(failed)?;
        Error::unless_equal("UmaDB read", STREAM_EVENTS, events.len())?;
        Ok(STREAM_EVENTS as u64)
    }
}

/// An event of the stream `name`.
pub fn event(name: &str, number: usize, payloads: &mut Payloads) -> DcbEvent {
    DcbEvent::default().event_type(event_type(number)).tags([name]).data(payloads.one().0)
}

/// UmaDB's errors as ours.
pub fn failed(error: impl std::fmt::Display) -> Error {
    Error::Peer(format!("UmaDB: {error}"))
}
