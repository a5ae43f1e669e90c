//! What a workload is: how to set it up, and what one of its clients does in one step.

use std::pin::Pin;

use crate::error::Result;

/// A future on the harness's single thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// One client with its own connection.
pub trait Client {
    /// One call as an application would make it (a transaction of its own); returned is how many
    /// events it wrote or read. Its duration is the latency reported.
    fn step(&mut self) -> LocalFuture<'_, u64>;
}

/// How a client of this crate is written down: as [`Client`], without the box.
pub(crate) trait Step {
    /// As [`Client::step`].
    async fn step(&mut self) -> Result<u64>;
}

impl<S: Step> Client for S {
    fn step(&mut self) -> LocalFuture<'_, u64> {
        Box::pin(Step::step(self))
    }
}

/// What the measurement and the report know of a workload.
#[derive(Clone, Copy)]
pub struct About {
    /// Its name in the report; together with the number of clients it is unique in its group.
    pub name: &'static str,
    /// The database its clients connect to.
    pub database: &'static str,
    /// For a workload that writes: the tables whose growth counts as bytes on disk, as an SQL
    /// condition on `pg_class c JOIN pg_namespace n`. None for one that reads.
    pub tables: Option<&'static str>,
    /// Whether its events go through the queue. Then the clock of a round stops when they are
    /// durable, and it is an error if not all of them were drained.
    pub queued: bool,
}

impl About {
    /// A workload that reads.
    pub const fn reads(name: &'static str, database: &'static str) -> Self {
        Self { name, database, tables: None, queued: false }
    }

    /// A workload that writes to `tables`.
    pub const fn writes(name: &'static str, database: &'static str, tables: &'static str) -> Self {
        Self { name, database, tables: Some(tables), queued: false }
    }
}

/// Something to measure.
pub trait Workload {
    /// What there is to know of it.
    fn about(&self) -> About;

    /// Makes what the clients need, tables and data. Called before each group; must do it once only.
    fn prepare(&self) -> LocalFuture<'_, ()>;

    /// Connects the client `index` of `clients`, ready for its first step.
    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>>;

    /// Connects clients that put events into the queue, without pause, for as long as the workload
    /// is measured. They are not measured themselves.
    fn load(&self) -> LocalFuture<'_, Vec<Box<dyn Client>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
