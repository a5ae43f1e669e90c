//! What the owner of the tables may do to them: own indexes, TRUNCATE, REINDEX and VACUUM FULL
//! under load. And whether `es_verify` finds what it says it finds, because all other tests
//! trust it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::calls::{all_events, assert_verified, verify};
use allsource_e2e::event::NewEvent;
use allsource_e2e::failure::{describe, sqlstate};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Append, Cluster, Ledger, ReadAll, STORE, Seed, Seen, Tail, Writer, sizes};
use postgres::Client;
use serde_json::json;

const WRITERS: u64 = 6;
const MAINTENANCE_ROUNDS: u64 = 2;
const STEPS: u64 = 80;
const PAGE: i64 = 1_000;

struct Workload {
    ledger: Ledger,
    seen: Seen,
    shared: Vec<String>,
    seed: Seed,
}

impl Workload {
    fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            seen: Seen::default(),
            shared: shared_streams(20),
            seed: Seed::announce(),
        }
    }

    fn writer(&self, number: u64) -> Writer<'_> {
        Writer {
            ledger: &self.ledger,
            seen: &self.seen,
            shared: &self.shared,
            own: format!("own-{number}"),
            rng: self.seed.rng(number),
            pause_max: Duration::from_millis(2),
        }
    }

    fn run(&self, client: &mut Client, number: u64, steps: u64) {
        let mut writer = self.writer(number);
        for _ in 0..steps {
            writer.step(client).unwrap_or_else(|error| panic!("{}", describe(&error)));
        }
    }

    fn assert_holds(&self, client: &mut Client) {
        let content = all_events(client).expect("the content");
        self.ledger.assert_holds(&content);
        let mut tail = Tail::after(0);
        while tail.poll(client, PAGE).expect("es_read_all") > 0 {}
        tail.assert_saw_exactly(&content);
        assert_verified(client);
    }
}

fn number_of(client: &mut Client, query: &str) -> i64 {
    client.query_one(query, &[]).unwrap_or_else(|e| panic!("{query}: {}", describe(&e))).get(0)
}

/// Every B-tree of the extension's schema has an entry for every row, and nothing else is wrong
/// with it.
fn assert_indexes_complete(client: &mut Client) {
    client.batch_execute("CREATE EXTENSION IF NOT EXISTS amcheck").expect("amcheck");
    let checked = number_of(
        client,
        "SELECT count(*) FROM (SELECT bt_index_check(c.oid, true) FROM pg_class c \
         JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree' \
         WHERE c.relkind = 'i' AND c.relnamespace = 'allsource'::regnamespace) AS checked",
    );
    assert!(checked >= 64, "only {checked} indexes checked");
}

#[test]
fn indexes_that_users_add_are_maintained() {
    let cluster = Cluster::with_store("maintenance-indexes");
    let work = Workload::new();
    let mut client = cluster.store();
    work.run(&mut client, 0, STEPS);
    client
        .batch_execute(
            "CREATE INDEX by_type ON allsource.event_log USING gin (event_types);
             CREATE INDEX by_lower_name ON allsource.event_streams (lower(stream_id));
             CREATE INDEX by_update ON allsource.event_streams (updated_at);
             CREATE INDEX long_streams ON allsource.event_streams (stream_id)
                 WHERE current_version > 5;
             CREATE INDEX by_time ON allsource.event_log USING brin (\"timestamp\");
             CREATE INDEX by_first_payload ON allsource.event_log ((payloads[1] ->> 'ticket'))",
        )
        .expect("indexes");
    // In the session that has appended before, and in a new one.
    work.run(&mut client, 1, STEPS);
    work.run(&mut cluster.store(), 2, STEPS);

    let queries = [
        "SELECT count(*) FROM allsource.event_log WHERE event_types @> ARRAY['odd']",
        "SELECT count(*) FROM allsource.event_streams WHERE lower(stream_id) >= 'shared'",
        "SELECT count(*) FROM allsource.event_streams WHERE updated_at > '2000-01-01'",
        "SELECT count(*) FROM allsource.event_streams \
         WHERE current_version > 5 AND stream_id > 'a'",
        "SELECT count(*) FROM allsource.event_log WHERE \"timestamp\" > '2000-01-01'",
        "SELECT count(*) FROM allsource.event_log WHERE payloads[1] ->> 'ticket' > '5'",
    ];
    for query in queries {
        let table = "SET enable_seqscan = on; SET enable_indexscan = off; \
                     SET enable_bitmapscan = off; SET enable_indexonlyscan = off";
        client.batch_execute(table).expect("settings");
        let by_table = number_of(&mut client, query);
        let index = "RESET ALL; SET enable_seqscan = off";
        client.batch_execute(index).expect("settings");
        let by_index = number_of(&mut client, query);
        assert!(by_table > 0, "{query} finds nothing");
        assert_eq!(by_index, by_table, "{query}");
    }
    client.batch_execute("RESET ALL").expect("settings");
    assert_indexes_complete(&mut client);
    work.assert_holds(&mut client);
}

#[test]
fn a_truncated_store_begins_anew() {
    let cluster = Cluster::with_store("maintenance-truncate");
    let mut client = cluster.store();
    let mut other = cluster.store();
    let events = [1, 2].map(|n| NewEvent::new("t", json!(n)));
    let append = Append::to("s", &events);
    for round in 0..3 {
        assert_eq!(append.many(&mut client).expect("an append"), 2);
        assert_eq!(append.many(&mut other).expect("an append"), 4);
        let last = all_events(&mut client).expect("the content")[3].position;
        truncate(&mut client);
        assert_eq!(all_events(&mut other).expect("the content"), []);
        assert_verified(&mut other);
        assert_eq!(append.expecting(0).many(&mut other).expect("an append"), 2);
        let first = all_events(&mut other).expect("the content")[0].position;
        assert!(first > last, "position {first} after {last} in round {round}");
        truncate(&mut other);
    }
}

fn truncate(client: &mut Client) {
    let query = "SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c \
                 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind = 'p'";
    let tables: String = client.query_one(query, &[]).expect("the tables").get(0);
    client.batch_execute(&format!("TRUNCATE {tables}")).expect("TRUNCATE");
}

/// Leaves rewritten and indexes rebuilt while writers append and a reader follows: nobody fails,
/// nothing is lost.
#[test]
fn leaves_can_be_rewritten_under_load() {
    let cluster = Cluster::with_store("maintenance-load");
    let work = Workload::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (mut client, mut writer, done) = (cluster.store(), work.writer(number), &done);
                scope.spawn(move || {
                    let mut tail = Tail::after(0);
                    while !done.load(Ordering::SeqCst) {
                        if number == 0 {
                            tail.poll(&mut client, PAGE).expect("es_read_all");
                        }
                        let step = writer.step(&mut client);
                        step.unwrap_or_else(|error| panic!("{}", describe(&error)));
                    }
                })
            })
            .collect();
        let mut client = cluster.store();
        let maintained = thread::Builder::new()
            .spawn_scoped(scope, move || maintain(&mut client))
            .expect("a thread")
            .join();
        done.store(true, Ordering::SeqCst);
        for other in others {
            other.join().expect("a writer");
        }
        maintained.expect("the maintenance");
    });
    let mut client = cluster.store();
    assert_indexes_complete(&mut client);
    work.assert_holds(&mut client);
}

fn maintain(client: &mut Client) {
    let query = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' \
                 AND c.relnamespace = 'allsource'::regnamespace AND c.relispartition ORDER BY 1";
    let leaves: Vec<String> =
        client.query(query, &[]).expect("the leaves").iter().map(|row| row.get(0)).collect();
    assert!(leaves.len() >= 64);
    for round in 0..MAINTENANCE_ROUNDS * sizes::factor() {
        for (number, leaf) in (round..).zip(&leaves) {
            let statement = match number % 5 {
                0 => format!("VACUUM FULL {leaf}"),
                1 => format!("REINDEX TABLE {leaf}"),
                2 => format!("VACUUM (FREEZE, ANALYZE) {leaf}"),
                3 => format!("REINDEX TABLE CONCURRENTLY {leaf}"),
                _ => format!("BEGIN; LOCK TABLE {leaf}; COMMIT"),
            };
            let result = client.batch_execute(&statement);
            result.unwrap_or_else(|error| panic!("{statement}: {}", describe(&error)));
        }
    }
}

#[test]
fn verify_finds_what_is_wrong() {
    let cluster = Cluster::with_store("maintenance-verify");
    let mut client = cluster.store();
    for number in 0..4 {
        let events = [NewEvent::new("t", json!({"n": number})), NewEvent::new("u", json!(1))];
        Append::to("s", &events).many(&mut client).expect("an append");
        Append::to("t", &events).many(&mut client).expect("an append");
    }
    assert_verified(&mut client);
    let of_stream = "stream_no = (SELECT stream_no FROM allsource.event_streams \
                     WHERE stream_id = 's')";
    let faults = [
        ("a run is gone", format!("DELETE FROM allsource.event_log WHERE first_version = 3 AND {of_stream}")),
        ("the last run is gone", format!("DELETE FROM allsource.event_log WHERE first_version = 7 AND {of_stream}")),
        ("a payload is another", format!("UPDATE allsource.event_log SET payloads[1] = '{{\"n\": 9}}' WHERE first_version = 3 AND {of_stream}")),
        ("a type is another", format!("UPDATE allsource.event_log SET event_types[2] = 'v' WHERE first_version = 3 AND {of_stream}")),
        ("the time is another", format!("UPDATE allsource.event_log SET \"timestamp\" = \"timestamp\" + interval '1 s' WHERE first_version = 3 AND {of_stream}")),
        ("a run is somewhere else", format!("UPDATE allsource.event_log SET first_version = 30 WHERE first_version = 3 AND {of_stream}")),
        ("runs overlap", format!("UPDATE allsource.event_log SET first_version = 4 WHERE first_version = 5 AND {of_stream}")),
        ("a position is out of order", format!("UPDATE allsource.event_log SET \"position\" = \"position\" + 1000000 WHERE first_version = 3 AND {of_stream}")),
        ("the head is ahead", "UPDATE allsource.event_streams SET current_version = current_version + 1 WHERE stream_id = 's'".to_owned()),
        ("the head is behind", "UPDATE allsource.event_streams SET current_version = current_version - 1 WHERE stream_id = 's'".to_owned()),
        ("the stream is gone", "DELETE FROM allsource.event_streams WHERE stream_id = 's'".to_owned()),
    ];
    for (what, damage) in faults {
        let mut transaction = client.transaction().expect("BEGIN");
        let rows = transaction.execute(&damage, &[]);
        let rows = rows.unwrap_or_else(|error| panic!("{what}: {}", describe(&error)));
        assert_eq!(rows, 1, "{what}: rows damaged");
        let found = verify(&mut transaction).expect("es_verify");
        assert!(!found.is_empty(), "es_verify did not find that {what}");
        println!("{what}: {found:?}");
        transaction.rollback().expect("ROLLBACK");
    }
    assert_verified(&mut client);
    cluster.execute(STORE, "VACUUM");
}

/// A run whose stream is gone, as a careless DELETE leaves it. Who reads the store is told which run it
/// is, so that its owner can go on: past it, or without it.
#[test]
fn an_orphan_does_not_stop_readers_for_good() {
    let cluster = Cluster::with_store("maintenance-orphan");
    let mut client = cluster.store();
    for stream in ["a", "orphan", "b"] {
        let events = [1, 2].map(|n| NewEvent::new("t", json!(n)));
        Append::to(stream, &events).many(&mut client).expect("an append");
    }
    let deleted = client
        .execute("DELETE FROM allsource.event_streams WHERE stream_id = 'orphan'", &[])
        .expect("DELETE");
    assert_eq!(deleted, 1);
    let query = "SELECT l.\"position\", l.stream_no, l.partition_id, cardinality(l.event_types) \
                 FROM allsource.event_log l WHERE NOT EXISTS \
                 (SELECT FROM allsource.event_streams s WHERE s.stream_no = l.stream_no)";
    let row = client.query_one(query, &[]).expect("the orphan");
    let (position, stream_no, partition) =
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i32>(2));

    let error = ReadAll::after(0, PAGE).read(&mut client).expect_err("an orphan");
    let told = describe(&error);
    assert_eq!(sqlstate(&error), "XX001", "{told}");
    for fact in [stream_no, position, i64::from(partition)] {
        let mut words = told.split(|c: char| !c.is_ascii_digit());
        assert!(words.any(|word| word.parse() == Ok(fact)), "{told} does not say {fact}");
    }
    // What comes before it is read, and what comes after it.
    let before = ReadAll::after(0, 2).read(&mut client).expect("es_read_all");
    assert_eq!(before.iter().map(|event| &event.stream_id).collect::<Vec<_>>(), ["a", "a"]);
    let last = position + i64::from(row.get::<_, i32>(3)) - 1;
    let after = ReadAll::after(last, PAGE).read(&mut client).expect("es_read_all");
    assert_eq!(after.iter().map(|event| &event.stream_id).collect::<Vec<_>>(), ["b", "b"]);
    // Its owner removes it by what the error said.
    let delete = "DELETE FROM allsource.event_log WHERE partition_id = $1 AND \"position\" = $2";
    assert_eq!(client.execute(delete, &[&partition, &position]).expect("DELETE"), 1);
    assert_eq!(ReadAll::after(0, PAGE).read(&mut client).expect("es_read_all").len(), 4);
    assert_verified(&mut client);
}
