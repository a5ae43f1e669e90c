//! What all workloads share: the server, the options, and the payloads.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use crate::data::Data;
use crate::error::Result;
use crate::options::Options;
use crate::payload::{Payloads, Size};
use crate::server::Server;

/// Shared by all workloads.
pub struct Bench {
    /// The server under test.
    pub server: Server,
    /// The command line.
    pub options: Options,
    seeds: Cell<u64>,
    made: RefCell<HashSet<Data>>,
}

impl Bench {
    /// The context of a run. It lives as long as the program, so that every client can refer to it.
    pub fn leak(options: Options) -> &'static Self {
        Box::leak(Box::new(Self {
            server: Server::new(),
            options,
            seeds: Cell::new(0),
            made: RefCell::default(),
        }))
    }

    /// A number that no other caller got: it makes a client's events and choices its own.
    pub fn seed(&self) -> u64 {
        self.seeds.update(|seed| seed + 1);
        self.seeds.get()
    }

    /// A random number generator that is the same in every run.
    pub fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed())
    }

    /// Payloads that no other client writes.
    pub fn payloads(&self, size: Size) -> Payloads {
        Payloads::new(size, self.seed())
    }

    /// Makes `data`, the first time that it is asked for.
    pub async fn prepare(&self, data: Data) -> Result<()> {
        if self.made.borrow_mut().insert(data) { data.make(self).await } else { Ok(()) }
    }
}
