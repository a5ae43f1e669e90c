//! What is measured: what has to be there, and what one client does in one step.

mod append;
mod arrays;
mod calls;
mod copy;
pub mod heat;
mod hot;
mod insert;
mod read_all;
mod read_stream;
mod relational;
mod routed;

pub use append::*;
pub use arrays::*;
pub use copy::*;
pub use hot::*;
pub use insert::*;
pub use read_all::*;
pub use read_stream::*;
pub use relational::*;
pub use routed::*;

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;

use crate::bench::Bench;
use crate::data::Data;
use crate::error::Result;
use crate::streams::Seat;
use crate::workload::heat::Heat;

/// One client with its own connection.
#[async_trait(?Send)]
pub trait Client {
    /// One call as an application would make it (a transaction of its own); returned is how many
    /// events it wrote or read. Its duration is the latency reported.
    async fn step(&mut self) -> Result<u64>;
}

/// How the clients of a workload come to be.
#[async_trait(?Send)]
pub(crate) trait Connect {
    /// Connects the client at `seat`, ready for its first step.
    async fn connect(
        &self,
        bench: &'static Bench,
        about: About,
        seat: Seat,
    ) -> Result<Box<dyn Client>>;
}

/// What the measurement and the report know of a workload.
#[derive(Clone, Copy)]
pub(crate) struct About {
    /// Its name in the report; together with the number of clients it is unique in its group.
    pub name: &'static str,
    /// The database its clients connect to.
    pub database: &'static str,
    /// For a workload that writes: the tables whose growth counts as bytes on disk, as an SQL
    /// condition on `pg_class c JOIN pg_namespace n`. None for one that reads.
    pub tables: Option<&'static str>,
    /// When the clock of a round stops.
    pub ends: Ends,
}

/// When all that the clients of a workload have written is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// When they were answered.
    Answered,
    /// When the queue is flushed: it is an error if not all of their events were drained.
    Flushed,
    /// When that is settled, too.
    Settled,
}

/// How fast a load is.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Events per second of all its clients.
    pub events_per_s: usize,
    /// How long it goes on before what is beside it begins.
    pub lead: Duration,
}

/// Something to measure.
#[derive(Clone)]
pub(crate) struct Workload {
    /// What there is to know of it.
    pub about: About,
    /// What must have been made before, in this order.
    pub data: Vec<Data>,
    /// Its clients.
    pub clients: Rc<dyn Connect>,
    /// What fills the queue as long as this is measured, without being measured itself.
    pub load: Option<Rc<Self>>,
    /// How fast this is as a load; None: as fast as it can be.
    pub pace: Option<Pace>,
    /// Which partitions are hot meanwhile; None where none has ever been.
    pub heat: Option<Heat>,
    /// Events of a round; None: as many as there are in its time.
    pub events: Option<usize>,
}

impl About {
    /// A workload that reads.
    pub const fn reads(name: &'static str, database: &'static str) -> Self {
        Self { name, database, tables: None, ends: Ends::Answered }
    }

    /// A workload that writes to `tables`.
    pub const fn writes(name: &'static str, database: &'static str, tables: &'static str) -> Self {
        Self { name, database, tables: Some(tables), ends: Ends::Answered }
    }
}

impl Workload {
    /// A workload that needs `data`, without a load beside it.
    pub fn new(about: About, data: &[Data], clients: impl Connect + 'static) -> Self {
        Self {
            about,
            data: data.into(),
            clients: Rc::new(clients),
            load: None,
            pace: None,
            heat: None,
            events: None,
        }
    }

    /// Connects the client at `seat`.
    pub async fn connect(&self, bench: &'static Bench, seat: Seat) -> Result<Box<dyn Client>> {
        self.clients.connect(bench, self.about, seat).await
    }
}
