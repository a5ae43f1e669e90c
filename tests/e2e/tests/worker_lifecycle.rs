//! Workers are in nobody's way: not of those who drop, copy or rename the database that they serve,
//! nor of those who change the extension's tables. They rest when they are told to, they wait where
//! they cannot write, without filling the log, and come back by themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{
    dead_letters, flush, is_well, pause, queue_stats, resume, worker, worker_when, workers_up,
};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, STORE};
use allsource_e2e::failure::{NOT_IN_STATE, describe, refusal, sqlstate};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Cluster, Crew, Enqueue, EnqueueBatch, Ledger, NewEvent, Producer, ReadStream, Seed, patience,
    sizes,
};
use postgres::Client;
use serde_json::json;

const ROUNDS: usize = 2;
const EVENTS: i64 = 50;
const MANY_EVENTS: i64 = 5_000;
const CROWD: u64 = 6;
const SHARED_STREAMS: usize = 40;
/// Enough for some six attempts of a worker, which come after 20, 40, 80 ms and so on.
const ATTEMPTS: Duration = Duration::from_secs(2);
/// What a worker logs when it fails.
const COMPLAINT: &str = "will try again";
const COMPLAINTS_MAX: usize = 3;

fn enqueue(client: &mut Client, count: i64) {
    let items: Vec<(String, NewEvent)> =
        (0..count).map(|n| (format!("s{}", n % 100), NewEvent::new("t", json!(n)))).collect();
    assert_eq!(EnqueueBatch::of(&items).send(client).expect("es_enqueue_batch"), count);
}

fn count(client: &mut Client) -> i64 {
    let query = "SELECT count(*) FROM allsource.events";
    client.query_one(query, &[]).expect(query).get(0)
}

/// A store whose workers are there and write.
fn assert_works(client: &mut Client) {
    workers_up(client);
    let before = count(client);
    let event = NewEvent::new("t", json!("works"));
    Enqueue::to("works", &event).durably().send(client).expect("es_enqueue");
    assert_eq!(count(client), before + 1);
    assert_verified(client);
}

fn complaints(cluster: &Cluster) -> usize {
    cluster.log().lines().filter(|line| line.contains(COMPLAINT)).count()
}

/// A crew of a test.
struct Work {
    cluster: Cluster,
    ledger: Ledger,
    shared: Vec<String>,
    seed: Seed,
}

impl Work {
    fn new(name: &str, settings: &[&str]) -> Self {
        let (ledger, shared) = (Ledger::default(), shared_streams(SHARED_STREAMS));
        Self {
            cluster: Cluster::with_queue(name, settings),
            ledger,
            shared,
            seed: Seed::announce(),
        }
    }

    fn crew(&self) -> Crew<'_> {
        Crew {
            cluster: &self.cluster,
            ledger: &self.ledger,
            shared: &self.shared,
            seed: self.seed,
            number: 0,
            producers: CROWD,
        }
    }

    /// All is there, and all that was accepted has become an event.
    fn assert_holds(&self, client: &mut Client) {
        flush(client).expect("es_flush");
        let content = all_events(client).expect("the content");
        self.ledger.assert_holds(&content);
        let stats = queue_stats(client).expect("queue_stats");
        let enqueued: i64 = stats.iter().map(|row| row.enqueued).sum();
        assert_eq!(usize::try_from(enqueued), Ok(content.len()), "enqueued, and there");
        assert_verified(client);
    }
}

/// Each of these waits for at most five seconds for all others to be gone from the database.
#[test]
fn the_served_database_can_be_copied_renamed_and_dropped() {
    let cluster = Cluster::with_queue("lifecycle-database", &["allsource.workers=2"]);
    for round in 0..ROUNDS {
        let mut client = cluster.store();
        assert_works(&mut client);
        enqueue(&mut client, MANY_EVENTS);
        drop(client);
        // Whatever the workers are doing by now.
        cluster.execute("postgres", &format!("CREATE DATABASE copy{round} TEMPLATE store"));
        let mut client = cluster.store();
        workers_up(&mut client);
        flush(&mut client).expect("es_flush");
        let there = count(&mut client);
        assert_eq!(there, MANY_EVENTS + 1);
        assert_verified(&mut cluster.connect(&format!("copy{round}")));
        drop(client);

        cluster.execute("postgres", "ALTER DATABASE store RENAME TO renamed");
        let mut client = cluster.connect("renamed");
        let event = NewEvent::new("t", json!(1));
        let elsewhere = Enqueue::to("s", &event).send(&mut client);
        assert_eq!(refusal(elsewhere), NOT_IN_STATE);
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'renamed' \
                     AND pid <> pg_backend_pid()";
        assert_eq!(client.query_one(query, &[]).expect(query).get::<_, i64>(0), 0);
        drop(client);
        cluster.execute("postgres", "ALTER DATABASE renamed RENAME TO store");
        let mut client = cluster.store();
        assert_works(&mut client);
        enqueue(&mut client, MANY_EVENTS);
        drop(client);

        cluster.execute("postgres", "DROP DATABASE store");
        cluster.create_store(STORE);
        let mut client = cluster.store();
        workers_up(&mut client);
        // A flush that finds events of the dropped database on their way is told that they are discarded.
        while let Err(error) = flush(&mut client) {
            assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
        }
        assert_eq!(count(&mut client), 0, "events of the dropped database in the new one");
    }
    assert_works(&mut cluster.store());
    assert_eq!(complaints(&cluster), 0);
}

/// Workers wait quietly for the database, and in it for the extension.
#[test]
fn workers_wait_for_database_and_extension() {
    let cluster = Cluster::start("lifecycle-wait", &[SERVED, ONE_WORKER]);
    let query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'allsource worker 0'";
    let mut postgres = cluster.connect("postgres");
    let mut workers = || postgres.query_one(query, &[]).expect(query).get::<_, i64>(0);
    assert_eq!(workers(), 0);
    cluster.create_database(STORE);
    patience::until_true("the worker comes with the database", || workers() == 1);
    let mut client = cluster.store();
    client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
    assert_works(&mut client);
    assert_eq!(cluster.log().matches("allsource worker").count(), 0, "{}", cluster.log());
    assert_eq!(cluster.log().matches("allsource launcher").count(), 0, "{}", cluster.log());
}

#[test]
fn events_of_a_dropped_extension_are_discarded_and_counted() {
    let cluster = Cluster::with_queue("lifecycle-extension", &[]);
    let mut client = cluster.store();
    let mut discarded = 0;
    for round in 0..ROUNDS {
        enqueue(&mut client, MANY_EVENTS);
        flush(&mut client).expect("es_flush");
        pause(&mut client).expect("es_worker_pause");
        enqueue(&mut client, EVENTS);
        // A drop that is rolled back has not happened.
        client.batch_execute("BEGIN; DROP EXTENSION allsource; ROLLBACK").expect("DROP EXTENSION");
        resume(&mut client).expect("es_worker_resume");
        flush(&mut client).expect("es_flush");
        assert_eq!(count(&mut client), MANY_EVENTS + EVENTS, "round {round}");

        pause(&mut client).expect("es_worker_pause");
        enqueue(&mut client, EVENTS);
        client.batch_execute("DROP EXTENSION allsource").expect("DROP EXTENSION");
        client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
        assert_eq!(worker(&mut client).state, "paused", "through the drop");
        resume(&mut client).expect("es_worker_resume");
        discarded += EVENTS;
        flush_or_discarded(&mut client);
        worker_when(&mut client, "they are discarded", |stats| stats.discarded == discarded);
        let stats = worker(&mut client);
        assert_eq!((stats.discarded, stats.depth_events), (discarded, 0));
        assert_eq!(stats.enqueued, stats.drained + stats.discarded);
        assert_eq!(count(&mut client), 0);
        assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), []);
        assert_works(&mut client);

        // While they drain.
        enqueue(&mut client, MANY_EVENTS);
        client.batch_execute("DROP EXTENSION allsource").expect("DROP EXTENSION");
        client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
        flush_or_discarded(&mut client);
        assert_eq!(count(&mut client), 0);
        let stats = worker(&mut client);
        assert_eq!(stats.enqueued, stats.drained + stats.discarded);
        discarded = stats.discarded;
        assert_works(&mut client);
        client.batch_execute("DROP EXTENSION allsource").expect("DROP EXTENSION");
        client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
    }
    assert!(complaints(&cluster) <= COMPLAINTS_MAX, "{}", cluster.log());
}

/// Waits until all is settled. Where something is discarded meanwhile, `es_flush` says so.
fn flush_or_discarded(client: &mut Client) {
    if let Err(error) = flush(client) {
        assert!(describe(&error).contains("discarded"), "{}", describe(&error));
    }
    worker_when(client, "the queue is empty", |stats| stats.depth_events == 0);
}

/// What an upgrade of the extension, or an owner, may do to the tables, while events come in.
#[test]
fn tables_can_be_changed_under_load() {
    let work = Work::new("lifecycle-tables", &[]);
    let mut client = work.cluster.store();
    work.crew().work_while(
        |_| false,
        || {
            for ddl in [
                "ALTER TABLE allsource.event_log_p00 SET (autovacuum_enabled = off)",
                "CREATE INDEX by_type ON allsource.event_log USING gin (event_types)",
                "CREATE INDEX by_name ON allsource.event_streams_p01 (lower(stream_id))",
                "VACUUM FULL allsource.event_streams",
                "VACUUM FULL allsource.event_log",
                "VACUUM FULL allsource.safe_position",
                "REINDEX SCHEMA allsource",
                "DROP INDEX allsource.by_type",
            ] {
                let drained = worker(&mut client).drained;
                client.batch_execute(ddl).unwrap_or_else(|e| panic!("{ddl}: {}", describe(&e)));
                worker_when(&mut client, "it goes on", |stats| stats.drained > drained);
            }
        },
    );
    assert_eq!(work.ledger.unsettled(), 0, "events that nobody knows to be durable");
    work.assert_holds(&mut client);
    let complaints = complaints(&work.cluster);
    assert!(complaints <= COMPLAINTS_MAX, "{}", work.cluster.log());
}

/// Somebody has a table for themselves for longer than the worker is willing to wait.
#[test]
fn a_locked_table_is_waited_for() {
    let cluster = Cluster::with_queue("lifecycle-locked", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    assert_works(&mut client);
    let before = count(&mut client);
    holder
        .batch_execute(
            "BEGIN; LOCK TABLE allsource.event_log, allsource.safe_position \
             IN ACCESS EXCLUSIVE MODE",
        )
        .expect("LOCK TABLE");
    enqueue(&mut client, EVENTS);
    worker_when(&mut client, "they wait", |stats| stats.waiting_events == EVENTS);
    holder.batch_execute("COMMIT").expect("COMMIT");
    flush(&mut client).expect("es_flush");
    assert_eq!(count(&mut client), before + EVENTS);
    assert!(complaints(&cluster) <= COMPLAINTS_MAX, "{}", cluster.log());
    // The safe position is recorded again, whether anything is enqueued or not.
    let query = "SELECT s.position = allsource.es_safe_position() FROM allsource.safe_position s";
    let recorded = |client: &mut Client| client.query_one(query, &[]).expect(query).get(0);
    patience::until_true("the safe position is recorded", || recorded(&mut client));
    let append = "SELECT allsource.es_append('s', 't', '1')";
    client.execute(append, &[]).expect(append);
    patience::until_true("the next one too", || recorded(&mut client));
    assert_works(&mut client);
}

/// A worker that cannot write tries on, more and more rarely, and says so once.
#[test]
fn a_worker_that_fails_again_and_again_is_quiet() {
    let cluster = Cluster::with_queue("lifecycle-quiet", &[]);
    let mut client = cluster.store();
    assert_works(&mut client);
    let breaks = [
        (
            "allsource",
            "ALTER TABLE allsource.event_log_p{} RENAME TO moved",
            "ALTER TABLE allsource.moved RENAME TO event_log_p{}",
        ),
        (
            "moved",
            "ALTER SCHEMA allsource RENAME TO moved",
            "ALTER SCHEMA moved RENAME TO allsource",
        ),
    ];
    let query = "SELECT lpad(allsource.es_partition('s')::text, 2, '0')";
    let partition: String = client.query_one(query, &[]).expect(query).get(0);
    let mut written = 0;
    for (schema, wreck, repair) in breaks {
        let [wreck, repair] = [wreck, repair].map(|sql| sql.replace("{}", &partition));
        let before = complaints(&cluster);
        pause(&mut client).expect("es_worker_pause");
        for _ in 0..3 {
            let event = NewEvent::new("t", json!(written));
            Enqueue::to("s", &event).send(&mut client).expect("es_enqueue");
            written += 1;
        }
        client.batch_execute(&wreck).expect("to break it");
        client.batch_execute(&format!("SELECT {schema}.es_worker_resume()")).expect("to resume");
        // Nothing tells how often it has tried.
        thread::sleep(ATTEMPTS);
        client.batch_execute(&repair).expect("to repair it");
        let lines = complaints(&cluster) - before;
        assert!(lines <= COMPLAINTS_MAX, "{lines} lines about {wreck}: {}", cluster.log());
        assert!(lines > 0, "not a line about {wreck}");
        flush(&mut client).expect("es_flush");
        let events = ReadStream::all("s").read(&mut client).expect("es_read");
        let payloads: Vec<_> = events.into_iter().map(|event| event.payload).collect();
        assert_eq!(payloads, (0..written).map(|n| json!(n)).collect::<Vec<_>>());
        assert_works(&mut client);
        assert!(is_well(&mut client, "workers"));
    }
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), []);
}

#[test]
fn workers_rest_when_told_to() {
    let work = Work::new("lifecycle-pause", &["allsource.workers=2"]);
    let mut client = work.cluster.store();
    let paused = AtomicBool::new(false);
    // Who waits for workers that rest is told so.
    let told = |error: &_| sqlstate(error) == NOT_IN_STATE && paused.load(Ordering::SeqCst);
    work.crew().work_while(told, || {
        let drained = |client: &mut Client| {
            let stats = queue_stats(client).expect("queue_stats");
            stats.iter().map(|row| row.drained).sum::<i64>()
        };
        for round in 0..4 * sizes::factor() {
            paused.store(true, Ordering::SeqCst);
            pause(&mut client).expect("es_worker_pause");
            let stats = queue_stats(&mut client).expect("queue_stats");
            assert!(stats.iter().all(|row| row.state == "paused"), "{stats:#?}");
            let (at_rest, there) = (drained(&mut client), count(&mut client));
            let enqueued: i64 = stats.iter().map(|row| row.enqueued).sum();
            patience::until_true("producers go on", || {
                let stats = queue_stats(&mut client).expect("queue_stats");
                stats.iter().map(|row| row.enqueued).sum::<i64>() > enqueued + 20
            });
            assert_eq!((drained(&mut client), count(&mut client)), (at_rest, there));
            assert!(!is_well(&mut client, "workers"));
            if round % 2 == 1 {
                // Another process in place of one at rest rests too.
                let pid = stats[0].pid.expect("a worker");
                work.cluster.signal("TERM", pid);
                patience::until_true("another one, at rest", || {
                    let stats = queue_stats(&mut client).expect("queue_stats");
                    stats[0].pid.is_some_and(|now| now != pid) && stats[0].state == "paused"
                });
                assert_eq!((drained(&mut client), count(&mut client)), (at_rest, there));
            }
            resume(&mut client).expect("es_worker_resume");
            patience::until_true("they drain again", || drained(&mut client) > at_rest);
            thread::sleep(Duration::from_millis(20));
        }
        paused.store(true, Ordering::SeqCst);
    });
    let mut last = Producer::new(&work.ledger, &work.shared, "last", work.seed.rng(99));
    last.one(&mut client, true).expect("es_enqueue");
    work.assert_holds(&mut client);
}
