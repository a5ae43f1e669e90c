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

/// Something to measure.
pub trait Workload {
    /// Its name in the report; together with the number of clients it is unique.
    fn name(&self) -> &'static str;

    /// The database its clients connect to.
    fn database(&self) -> &'static str;

    /// For a workload that writes: the tables whose growth counts as bytes on disk, as an SQL
    /// condition on `pg_class c JOIN pg_namespace n`. None for one that reads.
    fn tables(&self) -> Option<&'static str> {
        None
    }

    /// Makes what the clients need, tables and data. Called before each group; must do it once only.
    fn prepare(&self) -> LocalFuture<'_, ()>;

    /// Connects the client `index` of `clients`, ready for its first step.
    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>>;
}
