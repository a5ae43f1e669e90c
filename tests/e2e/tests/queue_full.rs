//! A queue that nobody drains: its worker is stopped by a signal, so it is there and does nothing.
//! Producers wait, bounded, can be interrupted while they do, and are told exactly what was taken;
//! and all of that arrives once when the worker goes on.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{flush, is_well, worker, worker_when};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::failure::{CANCELLED, QUEUE_FULL, describe, sqlstate};
use allsource_e2e::ledger::ticket_of;
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Cluster, Enqueue, EnqueueBatch, Ledger, NewEvent, Producer, Seed, Ticket, failure, patience,
};
use postgres::{Client, Error};
use rand::RngExt;
use serde_json::json;

const SMALL: &str = "allsource.queue_size=1";
/// Above all waits of these tests.
const PATIENT: &str = "allsource.enqueue_timeout=10min";
const CROWD: u64 = 64;
const BATCH_EVENTS: usize = 60;
const BATCHES: usize = 2;
const STOPS: usize = 10;
const STOP_MS_MAX: u64 = 30;
/// Of one event that finds no room where a small one may.
const LARGE_BYTES: usize = 100_000;

/// A store whose worker is stopped.
struct Stuck {
    cluster: Cluster,
    pid: i32,
    ledger: Ledger,
    shared: Vec<String>,
    seed: Seed,
}

/// What became of a call that has enqueued a batch.
enum Outcome {
    /// Taken: these, in order, and no others.
    Taken(Vec<Ticket>),
    /// Interrupted: the first of these tickets, however many, were taken.
    Interrupted(Error, Vec<usize>),
}

#[test]
fn a_refused_call_says_what_was_taken() {
    let stuck = Stuck::new("full-refused");
    let mut client = stuck.cluster.store();
    let mut producer = stuck.producer(0);
    // Each of these calls waits for room; those after it find none at once.
    client.batch_execute("SET allsource.enqueue_timeout = '100ms'").expect("SET");
    let mut refusals = 0;
    for _ in 0..400 {
        let (tickets, error) = stuck.send_batch(&mut client, &mut producer);
        producer.accepted.extend(tickets);
        refusals += i64::from(error.is_some());
        if refusals == 3 {
            break;
        }
    }
    let stats = worker(&mut client);
    assert_eq!((refusals, stats.full_waits), (3, 3));
    assert_eq!(usize::try_from(stats.enqueued), Ok(producer.accepted.len()));
    assert!(stats.rejected > 0 && stats.depth_bytes * 10 > stats.capacity_bytes * 9, "{stats:?}");
    assert!(!is_well(&mut client, "queue"), "a full queue is not well");

    let large = NewEvent::new("large", json!("x".repeat(LARGE_BYTES)));
    let error = Enqueue::to("large", &large).send(&mut client).expect_err("room in a full queue");
    assert_eq!(accepted_of(&error, 1), 0);
    stuck.assert_all_arrives([producer.accepted]);
    assert!(is_well(&mut client, "queue"));
    assert_eq!(stuck.ledger.unsettled(), 0, "events that are neither taken nor refused");
    let content = all_events(&mut client).expect("the content").len();
    assert_eq!(usize::try_from(stats.enqueued), Ok(content));
}

#[test]
fn who_waits_for_room_can_be_interrupted() {
    let stuck = Stuck::new("full-interrupted");
    let mut client = stuck.cluster.store();
    let mut filler = stuck.producer(CROWD);
    stuck.fill(&mut client, &mut filler);
    let waits_before = worker(&mut client).full_waits;
    let outcomes = thread::scope(|scope| {
        let (mut pids, mut crowd) = (Vec::new(), Vec::new());
        for number in 0..CROWD {
            let mut client = stuck.cluster.store();
            let query = "SELECT pg_backend_pid()";
            pids.push(client.query_one(query, &[]).expect(query).get::<_, i32>(0));
            let timeout = if number % 4 == 2 { "1s" } else { "10min" };
            client.batch_execute(&format!("SET statement_timeout = '{timeout}'")).expect("SET");
            let stuck = &stuck;
            crowd.push(scope.spawn(move || {
                let mut producer = stuck.producer(number);
                stuck.send_batch_and_see(&mut client, &mut producer)
            }));
        }
        worker_when(&mut client, "all wait", |stats| stats.full_waits >= waits_before + 64);
        for (number, pid) in pids.iter().enumerate() {
            let interrupt = match number % 4 {
                0 => "SELECT pg_cancel_backend($1)",
                1 => "SELECT pg_terminate_backend($1)",
                _ => continue,
            };
            assert!(client.query_one(interrupt, &[pid]).expect(interrupt).get::<_, bool>(0));
        }
        patience::until_true("three of four have gone", || {
            let gone = crowd.iter().filter(|thread| thread.is_finished()).count();
            assert!(gone <= 48, "somebody found room in a full queue");
            gone == 48
        });
        stuck.cluster.signal("CONT", stuck.pid);
        crowd.into_iter().map(|thread| thread.join().expect("a producer")).collect::<Vec<_>>()
    });
    flush(&mut client).expect("es_flush");
    let content = all_events(&mut client).expect("the content");
    let there = content.iter().filter_map(ticket_of).map(|(ticket, _)| ticket).collect();
    let mut accepted = vec![filler.accepted];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Taken(tickets) => {
                assert_eq!(number % 4, 3, "producer {number} was not interrupted");
                accepted.push(tickets);
            }
            Outcome::Interrupted(error, tickets) => {
                let as_expected = match number % 4 {
                    0 | 2 => sqlstate(&error) == CANCELLED,
                    // The client may find the connection closed before it reads why.
                    1 => failure::is_disconnect(&error),
                    _ => false,
                };
                assert!(as_expected, "producer {number}: {}", describe(&error));
                assert_first_ones(&tickets, &there);
            }
        }
    }
    stuck.assert_all_arrives(accepted);
}

/// Stopped again and again, with sixty-four producers that know nothing of it.
#[test]
fn a_stopped_worker_only_delays() {
    let stuck = Stuck::new("full-delayed");
    let mut client = stuck.cluster.store();
    thread::scope(|scope| {
        for number in 0..CROWD {
            let (mut client, stuck) = (stuck.cluster.store(), &stuck);
            scope.spawn(move || {
                let mut producer = stuck.producer(number);
                for _ in 0..BATCHES {
                    let (tickets, items) = producer.items(BATCH_EVENTS);
                    EnqueueBatch::of(&items).send(&mut client).expect("es_enqueue_batch");
                    producer.enter(tickets, false);
                    producer.one(&mut client, false).expect("es_enqueue");
                }
                producer.flush(&mut client).expect("es_flush");
            });
        }
        let stopped = worker_when(&mut client, "half of them wait for room", |stats| {
            stats.full_waits >= CROWD as i64 / 2
        });
        assert_eq!((stopped.pid, stopped.drained), (Some(stuck.pid), 0));
        let mut rng = stuck.seed.rng(CROWD);
        for _ in 0..STOPS {
            stuck.cluster.signal("CONT", stuck.pid);
            thread::sleep(Duration::from_millis(rng.random_range(0..STOP_MS_MAX)));
            stuck.cluster.signal("STOP", stuck.pid);
            thread::sleep(Duration::from_millis(rng.random_range(0..STOP_MS_MAX)));
        }
        stuck.cluster.signal("CONT", stuck.pid);
    });
    assert_eq!(stuck.ledger.unsettled(), 0, "events that nobody knows to be durable");
    stuck.assert_all_arrives([]);
}

impl Stuck {
    fn new(name: &str) -> Self {
        let cluster = Cluster::with_queue(name, &[SMALL, PATIENT]);
        let pid = worker(&mut cluster.store()).pid.expect("a worker");
        cluster.signal("STOP", pid);
        let (ledger, shared) = (Ledger::default(), shared_streams(20));
        Self { cluster, pid, ledger, shared, seed: Seed::announce() }
    }

    fn producer(&self, number: u64) -> Producer<'_> {
        let name = format!("producer-{number}");
        Producer::new(&self.ledger, &self.shared, &name, self.seed.rng(number))
    }

    /// Enqueues batches until one is refused.
    fn fill(&self, client: &mut Client, producer: &mut Producer<'_>) {
        client.batch_execute("SET allsource.enqueue_timeout = 0").expect("SET");
        patience::until("the queue is full", || {
            let (tickets, error) = self.send_batch(client, producer);
            producer.accepted.extend(tickets);
            error
        });
    }

    /// Enqueues a batch. Gives the tickets that were taken, and the refusal if there was one: then
    /// the other tickets must not be there.
    fn send_batch(
        &self,
        client: &mut Client,
        producer: &mut Producer<'_>,
    ) -> (Vec<Ticket>, Option<Error>) {
        let (mut tickets, items) = producer.items(BATCH_EVENTS);
        let Err(error) = EnqueueBatch::of(&items).send(client) else { return (tickets, None) };
        let refused = tickets.split_off(accepted_of(&error, BATCH_EVENTS));
        refused.into_iter().for_each(|ticket| self.ledger.refuse(ticket));
        (tickets, Some(error))
    }

    /// Enqueues a batch that may be interrupted.
    fn send_batch_and_see(&self, client: &mut Client, producer: &mut Producer<'_>) -> Outcome {
        let (tickets, items) = producer.items(BATCH_EVENTS);
        match EnqueueBatch::of(&items).send(client) {
            Ok(_) => Outcome::Taken(tickets),
            Err(error) => {
                let numbers = tickets.iter().map(Ticket::number).collect();
                Outcome::Interrupted(error, numbers)
            }
        }
    }

    /// The worker goes on, and all that was accepted is there.
    fn assert_all_arrives(&self, accepted: impl IntoIterator<Item = Vec<Ticket>>) {
        self.cluster.signal("CONT", self.pid);
        let mut client = self.cluster.store();
        flush(&mut client).expect("es_flush");
        accepted.into_iter().flatten().for_each(|ticket| self.ledger.acknowledge(ticket));
        self.ledger.assert_holds(&all_events(&mut client).expect("the content"));
        assert_verified(&mut client);
    }
}

/// The worker would wait for the transaction, and the transaction for the worker.
#[test]
fn who_holds_a_stream_does_not_wait_for_itself() {
    let stuck = Stuck::new("full-holder");
    let mut client = stuck.cluster.store();
    let mut producer = stuck.producer(0);
    stuck.fill(&mut client, &mut producer);
    let waits_before = worker(&mut client).full_waits;
    // Longer than a statement of a test may take.
    client.batch_execute("SET allsource.enqueue_timeout = '10min'").expect("SET");
    let mut transaction = client.transaction().expect("BEGIN");
    transaction.execute("SELECT allsource.es_append('held', 't', '1')", &[]).expect("es_append");
    let event = NewEvent::new("t", json!("x".repeat(LARGE_BYTES)));
    let error = Enqueue::to("held", &event).send(&mut transaction).expect_err("a refusal");
    let told = describe(&error);
    assert_eq!(sqlstate(&error), QUEUE_FULL, "{told}");
    assert!(told.contains("This transaction has changed a stream"), "{told}");
    assert!(told.contains("hint: Enqueue before the first append"), "{told}");
    transaction.rollback().expect("ROLLBACK");
    assert_eq!(worker(&mut client).full_waits, waits_before);
    stuck.assert_all_arrives([producer.accepted]);
}

/// How many events of a refused call were taken, as the refusal's DETAIL says.
fn accepted_of(error: &Error, events: usize) -> usize {
    let told = describe(error);
    assert_eq!(sqlstate(error), QUEUE_FULL, "{told}");
    let db = error.as_db_error().expect("an answer of the server");
    assert!(db.hint().is_some_and(|hint| hint.contains("allsource.enqueue_timeout")), "{told}");
    let (accepted, rest) = db.detail().and_then(|d| d.split_once(' ')).expect("a DETAIL");
    let expected =
        format!("of {events} events of this call were accepted. The workers are behind.");
    assert_eq!(rest, expected, "{told}");
    accepted.parse().expect("a number")
}

/// Of the events that one call has tried to enqueue one after the other, those that are there are
/// the first ones.
fn assert_first_ones(tickets: &[usize], there: &HashSet<usize>) {
    let there: Vec<bool> = tickets.iter().map(|ticket| there.contains(ticket)).collect();
    assert!(there.is_sorted_by(|a, b| a >= b), "there, of an interrupted call: {there:?}");
}
