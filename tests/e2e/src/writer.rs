//! A client that appends at random, in every way there is: single events, many, batches, in
//! transactions that commit late or roll back, with savepoints. Everything is entered into the
//! ledger, so that the checkers know what must be there.
//!
//! A transaction that stays open touches shared streams in one statement only, so that two
//! writers cannot deadlock by what they do; everything else that it appends goes to streams of
//! the writer's own.

use std::thread::sleep;
use std::time::Duration;

use postgres::{Client, Error, GenericClient};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use crate::calls::{Append, Batch, BatchItem};
use crate::ledger::{Ledger, Ticket};
use crate::seen::Seen;

const MANY_EVENTS_MAX: usize = 12;
const BATCH_EVENTS_MAX: usize = 10;
const OWN_STREAMS: usize = 3;

/// A client at work.
#[derive(Debug)]
pub struct Writer<'a> {
    /// Where it enters what it does.
    pub ledger: &'a Ledger,
    /// Where it enters the positions that it sees, also those of what it rolls back.
    pub seen: &'a Seen,
    /// Streams that all writers share.
    pub shared: &'a [String],
    /// Prefix of the streams that only this writer has.
    pub own: String,
    /// Its dice.
    pub rng: StdRng,
    /// How long it keeps a transaction open at most.
    pub pause_max: Duration,
}

/// Names of streams that writers share.
pub fn shared_streams(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("shared-{number}")).collect()
}

impl Writer<'_> {
    /// Does one random thing.
    ///
    /// # Errors
    /// What the server answers. Tickets of the step then stay open.
    pub fn step(&mut self, client: &mut Client) -> Result<(), Error> {
        match self.rng.random_range(0..10) {
            0 | 1 => self.single(client),
            2 => self.many(client),
            3 => self.batch(client),
            4 => self.late_commit(client),
            5 => self.late_rollback(client),
            6 => self.late_batch(client),
            7 => self.partial_rollback(client),
            8 => self.rollback_of_released(client),
            _ => self.several_statements(client),
        }
    }

    fn single(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut ticket = self.ledger.open(1);
        let stream = self.shared_stream();
        append_part(client, &mut ticket, 0..1, &stream)?;
        self.ledger.acknowledge(ticket);
        Ok(())
    }

    fn many(&mut self, client: &mut Client) -> Result<(), Error> {
        let count = self.rng.random_range(1..=MANY_EVENTS_MAX);
        let mut ticket = self.ledger.open(count);
        let stream = self.shared_stream();
        append_part(client, &mut ticket, 0..count, &stream)?;
        self.ledger.acknowledge(ticket);
        Ok(())
    }

    fn batch(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut ticket = self.ledger.open(self.rng.random_range(1..=BATCH_EVENTS_MAX));
        self.append_batch(client, &mut ticket)?;
        self.ledger.acknowledge(ticket);
        Ok(())
    }

    fn late_commit(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut ticket = self.ledger.open(1);
        let stream = self.shared_stream();
        let mut transaction = client.transaction()?;
        append_part(&mut transaction, &mut ticket, 0..1, &stream)?;
        self.look_at_own(&mut transaction, &ticket)?;
        self.pause();
        transaction.commit()?;
        self.ledger.acknowledge(ticket);
        Ok(())
    }

    fn late_rollback(&mut self, client: &mut Client) -> Result<(), Error> {
        let count = self.rng.random_range(1..=3);
        let mut ticket = self.ledger.doomed(count);
        let stream = self.shared_stream();
        let mut transaction = client.transaction()?;
        append_part(&mut transaction, &mut ticket, 0..count, &stream)?;
        self.look_at_own(&mut transaction, &ticket)?;
        self.pause();
        transaction.rollback()
    }

    fn late_batch(&mut self, client: &mut Client) -> Result<(), Error> {
        let size = self.rng.random_range(1..=BATCH_EVENTS_MAX);
        let commits = self.rng.random_bool(0.7);
        let mut ticket = if commits { self.ledger.open(size) } else { self.ledger.doomed(size) };
        let mut transaction = client.transaction()?;
        self.append_batch(&mut transaction, &mut ticket)?;
        self.pause();
        if commits {
            transaction.commit()?;
            self.ledger.acknowledge(ticket);
            Ok(())
        } else {
            transaction.rollback()
        }
    }

    /// Append, savepoint, append, back to the savepoint, append, commit.
    fn partial_rollback(&mut self, client: &mut Client) -> Result<(), Error> {
        let stream = self.own_stream();
        let mut kept = self.ledger.open(3);
        let mut lost = self.ledger.doomed(2);
        let mut transaction = client.transaction()?;
        append_part(&mut transaction, &mut kept, 0..1, &stream)?;
        let mut savepoint = transaction.savepoint("s")?;
        append_part(&mut savepoint, &mut lost, 0..2, &stream)?;
        self.pause();
        savepoint.rollback()?;
        append_part(&mut transaction, &mut kept, 1..3, &stream)?;
        self.look_at_own(&mut transaction, &kept)?;
        self.pause();
        transaction.commit()?;
        self.ledger.acknowledge(kept);
        Ok(())
    }

    /// The savepoint is released, the transaction rolled back: nothing may stay.
    fn rollback_of_released(&mut self, client: &mut Client) -> Result<(), Error> {
        let stream = self.own_stream();
        let mut lost = self.ledger.doomed(2);
        let mut transaction = client.transaction()?;
        let mut savepoint = transaction.savepoint("s")?;
        append_part(&mut savepoint, &mut lost, 0..2, &stream)?;
        savepoint.commit()?;
        self.pause();
        transaction.rollback()
    }

    /// One transaction of several statements and savepoints that are released.
    fn several_statements(&mut self, client: &mut Client) -> Result<(), Error> {
        let (one, other) = (self.own_stream(), self.own_stream());
        let mut ticket = self.ledger.open(6);
        let mut transaction = client.transaction()?;
        append_part(&mut transaction, &mut ticket, 0..2, &one)?;
        let mut savepoint = transaction.savepoint("s")?;
        append_part(&mut savepoint, &mut ticket, 2..3, &other)?;
        savepoint.commit()?;
        self.pause();
        append_part(&mut transaction, &mut ticket, 3..6, &one)?;
        transaction.commit()?;
        self.ledger.acknowledge(ticket);
        Ok(())
    }

    /// Appends the whole ticket as a batch over random shared streams, in random order.
    fn append_batch(
        &mut self,
        client: &mut impl GenericClient,
        ticket: &mut Ticket,
    ) -> Result<(), Error> {
        let items: Vec<BatchItem> = ticket
            .events
            .iter()
            .map(|event| BatchItem {
                stream: self.shared.choose(&mut self.rng).expect("a shared stream").clone(),
                expected: None,
                event: event.clone(),
            })
            .collect();
        for appended in Batch::of(&items).append(client)? {
            let of_stream = items.iter().enumerate().filter(|(_, i)| i.stream == appended.stream);
            for ((index, _), version) in of_stream.zip(appended.first_version..) {
                if version == appended.first_version {
                    self.seen.holder(appended.first_position, ticket.number(), index);
                }
                ticket.place(index, 1, &appended.stream, version);
            }
        }
        Ok(())
    }

    /// Enters the positions that the transaction sees of its own events before it commits.
    fn look_at_own(
        &mut self,
        client: &mut impl GenericClient,
        ticket: &Ticket,
    ) -> Result<(), Error> {
        for (index, stream, version) in ticket.places() {
            let row = client.query_one(
                "SELECT position FROM allsource.events WHERE stream_id = $1 AND version = $2",
                &[&stream, &version],
            )?;
            self.seen.holder(row.get(0), ticket.number(), index);
        }
        Ok(())
    }

    fn shared_stream(&mut self) -> String {
        self.shared.choose(&mut self.rng).expect("a shared stream").clone()
    }

    fn own_stream(&mut self) -> String {
        format!("{}-{}", self.own, self.rng.random_range(0..OWN_STREAMS))
    }

    fn pause(&mut self) {
        // Half of the transactions do not wait at all.
        if self.rng.next_u32() & 1 == 0 {
            sleep(self.pause_max.mul_f64(self.rng.random()));
        }
    }
}

/// Appends some of the ticket's events to a stream, one with `es_append`, more with
/// `es_append_many`, and notes where the server says that they are.
fn append_part(
    client: &mut impl GenericClient,
    ticket: &mut Ticket,
    part: std::ops::Range<usize>,
    stream: &str,
) -> Result<(), Error> {
    let (first, count) = (part.start, part.len());
    let append = Append::to(stream, &ticket.events[part]);
    let last_version = if count == 1 { append.one(client)? } else { append.many(client)? };
    ticket.place(first, count, stream, last_version);
    Ok(())
}
