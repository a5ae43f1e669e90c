//! What all workloads share: the server, the options, the payloads and the choice of streams.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::error::Result;
use crate::options::Options;
use crate::payload::{Payloads, Size};
use crate::rng::Rng;
use crate::server::Server;
use crate::wire::Connection;

/// The database of the baselines that are plain tables.
pub const BASELINE_DATABASE: &str = "bench_baseline";

/// Shared by all workloads.
pub struct Bench {
    /// The server under test.
    pub server: Server,
    /// The command line.
    pub options: Options,
    full: Payloads,
    small: Payloads,
    seeds: Cell<u64>,
    baseline_database: OnceCell<()>,
}

impl Bench {
    /// The context of a run.
    pub fn new(options: Options) -> Self {
        Self {
            server: Server::new(options.address.clone()),
            options,
            full: Payloads::full(),
            small: Payloads::small(),
            seeds: Cell::new(0),
            baseline_database: OnceCell::new(),
        }
    }

    /// A number that no other caller got: it makes a client's events and choices its own.
    pub fn seed(&self) -> u64 {
        self.seeds.set(self.seeds.get() + 1);
        self.seeds.get()
    }

    /// Payloads that no other client writes.
    pub fn payloads(&self) -> Payloads {
        self.payloads_of(Size::Full)
    }

    /// Payloads of the given size that no other client writes.
    pub fn payloads_of(&self, size: Size) -> Payloads {
        let payloads = match size {
            Size::Full => &self.full,
            Size::Small => &self.small,
        };
        payloads.fork(self.seed())
    }

    /// A connection to the database of the plain baselines, which is made new on first use.
    pub async fn baseline(&self) -> Result<Connection> {
        self.baseline_database
            .get_or_try_init(async || self.server.fresh_database(BASELINE_DATABASE).await.map(drop))
            .await?;
        self.server.connect(BASELINE_DATABASE).await
    }
}

/// The names of a number of streams.
#[derive(Clone)]
pub struct Names(Rc<[String]>);

impl Names {
    /// `name(0)`, `name(1)`, …
    pub fn new(count: usize, name: impl Fn(usize) -> String) -> Self {
        Self((0..count).map(name).collect())
    }

    /// `order-0000000`, `order-0000001`, …
    pub fn orders(count: usize) -> Self {
        Self::new(count, |number| format!("order-{number:07}"))
    }

    /// The name of stream `number`.
    pub fn get(&self, number: usize) -> &str {
        &self.0[number]
    }

    /// All names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// One client's endless walk, in random order, through a share of the streams that is its own.
pub struct Share {
    numbers: Vec<usize>,
    next: usize,
}

impl Share {
    /// The share of client `index` of `clients` in `streams` streams.
    pub fn new(streams: usize, index: usize, clients: usize, seed: u64) -> Self {
        let mut numbers: Vec<usize> = (index..streams).step_by(clients).collect();
        Rng::new(seed).shuffle(&mut numbers);
        Self { numbers, next: 0 }
    }

    /// The next `count` streams, all different.
    pub fn take(&mut self, count: usize) -> &[usize] {
        if self.next + count > self.numbers.len() {
            self.next = 0;
        }
        self.next += count;
        &self.numbers[self.next - count..self.next]
    }
}
