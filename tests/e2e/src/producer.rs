//! A client that hands events over to the workers at random: one by one, in batches, waiting for
//! them to be durable or not. Everything is entered into the ledger: an event is acknowledged when
//! the server has said that it is durable, and open until then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use postgres::{Client, Error};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use uuid::Uuid;

use crate::bulk::{Enqueue, EnqueueBatch, flush};
use crate::ledger::{Ledger, PRODUCER, Ticket};
use crate::{Cluster, NewEvent, Seed, failure, sizes};

const BATCH_EVENTS_MAX: usize = 20;
const OWN_STREAMS: usize = 3;
const EVENTS_WITH_ID: f64 = 0.2;

/// A client at work. Each of its events is a ticket of its own: events that are enqueued together
/// may be written in different transactions.
#[derive(Debug)]
pub struct Producer<'a> {
    /// Where it enters what it does.
    pub ledger: &'a Ledger,
    /// Streams that all producers share.
    pub shared: &'a [String],
    /// Its name: in the events' metadata, and the prefix of the streams that only it has.
    pub name: String,
    /// Its dice.
    pub rng: StdRng,
    /// Accepted, and not yet known to be durable.
    pub accepted: Vec<Ticket>,
}

impl<'a> Producer<'a> {
    /// A producer that has done nothing yet.
    pub fn new(ledger: &'a Ledger, shared: &'a [String], name: &str, rng: StdRng) -> Self {
        Self { ledger, shared, name: name.to_owned(), rng, accepted: Vec::new() }
    }

    /// Does one random thing.
    ///
    /// # Errors
    /// What the server answers. Tickets of the step then stay open.
    pub fn step(&mut self, client: &mut Client) -> Result<(), Error> {
        match self.rng.random_range(0..12) {
            0..=5 => self.one(client, false),
            6 | 7 => self.batch(client, false),
            8 | 9 => self.one(client, true),
            10 => self.batch(client, true),
            _ => self.flush(client),
        }
    }

    /// Enqueues one event.
    ///
    /// # Errors
    /// What the server answers.
    pub fn one(&mut self, client: &mut Client, durable: bool) -> Result<(), Error> {
        let stream = self.stream();
        let (ticket, event) = self.event();
        Enqueue { durable, ..Enqueue::to(&stream, &event) }.send(client)?;
        self.enter(vec![ticket], durable);
        Ok(())
    }

    fn batch(&mut self, client: &mut Client, durable: bool) -> Result<(), Error> {
        let size = self.rng.random_range(1..=BATCH_EVENTS_MAX);
        let (tickets, items) = self.items(size);
        let accepted = EnqueueBatch { durable, ..EnqueueBatch::of(&items) }.send(client)?;
        assert_eq!(usize::try_from(accepted), Ok(size), "events accepted");
        self.enter(tickets, durable);
        Ok(())
    }

    /// Waits for what was enqueued, by anybody.
    ///
    /// # Errors
    /// What the server answers.
    pub fn flush(&mut self, client: &mut Client) -> Result<(), Error> {
        flush(client)?;
        for ticket in self.accepted.drain(..) {
            self.ledger.acknowledge(ticket);
        }
        Ok(())
    }

    /// A batch for random streams, with a ticket for each event.
    pub fn items(&mut self, size: usize) -> (Vec<Ticket>, Vec<(String, NewEvent)>) {
        let pair = |_| {
            let stream = self.stream();
            let (ticket, event) = self.event();
            (ticket, (stream, event))
        };
        (0..size).map(pair).unzip()
    }

    /// The server has taken them.
    pub fn enter(&mut self, tickets: Vec<Ticket>, durable: bool) {
        for ticket in tickets {
            if durable {
                self.ledger.acknowledge(ticket);
            } else {
                self.accepted.push(ticket);
            }
        }
    }

    fn event(&mut self) -> (Ticket, NewEvent) {
        let ticket = self.ledger.open(1);
        let id = self.rng.random_bool(EVENTS_WITH_ID);
        let event = NewEvent {
            metadata: Some(json!({PRODUCER: self.name})),
            id: id.then(|| Uuid::from_u128(ticket.number() as u128 + 1)),
            ..ticket.events[0].clone()
        };
        (ticket, event)
    }

    fn stream(&mut self) -> String {
        if self.rng.random_bool(0.3) {
            format!("{}-{}", self.name, self.rng.random_range(0..OWN_STREAMS))
        } else {
            self.shared.choose(&mut self.rng).expect("a shared stream").clone()
        }
    }
}

/// Producers on connections of their own.
#[derive(Clone, Copy, Debug)]
pub struct Crew<'a> {
    /// The server.
    pub cluster: &'a Cluster,
    /// Where they enter what they do.
    pub ledger: &'a Ledger,
    /// Streams that they share.
    pub shared: &'a [String],
    /// For their dice.
    pub seed: Seed,
    /// Distinguishes their names and dice from those of other crews of the test.
    pub number: u64,
    /// How many they are.
    pub producers: u64,
}

impl Crew<'_> {
    /// Lets them work while `meanwhile` runs on this thread. Each of them begins before it, and
    /// ends after it by waiting for all that it has enqueued. Nobody may fail, but for `tolerated`
    /// errors; whoever is disconnected by one of these goes home with open tickets.
    ///
    /// # Panics
    /// Where an error is not tolerated.
    pub fn work_while<T>(
        &self,
        tolerated: impl Fn(&Error) -> bool + Sync,
        meanwhile: impl FnOnce() -> T,
    ) -> T {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for number in 0..self.producers {
                let mut client = self.cluster.store();
                let dice = self.seed.rng(self.number * 1_000 + number + 1);
                let name = format!("crew-{}-{number}", self.number);
                let (done, tolerated) = (&done, &tolerated);
                scope.spawn(move || {
                    let mut producer = Producer::new(self.ledger, self.shared, &name, dice);
                    let deadline = Instant::now() + 3 * sizes::wait_max();
                    while !done.load(Ordering::SeqCst) && !client.is_closed() {
                        assert!(Instant::now() < deadline, "nobody has ended the work");
                        check(producer.step(&mut client), tolerated);
                    }
                    if !client.is_closed() {
                        check(producer.flush(&mut client), tolerated);
                    }
                });
            }
            // Also where `meanwhile` panics: the others would work on for ever.
            let end = EndOfWork(&done);
            let result = meanwhile();
            drop(end);
            result
        })
    }
}

struct EndOfWork<'a>(&'a AtomicBool);

impl Drop for EndOfWork<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn check(result: Result<(), Error>, tolerated: impl Fn(&Error) -> bool) {
    if let Err(error) = result {
        assert!(tolerated(&error), "a producer got {}", failure::describe(&error));
    }
}
