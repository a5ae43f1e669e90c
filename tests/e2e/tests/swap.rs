//! Tables, indexes and sequences that are others when a lock is granted than they were when it was
//! asked for. What is acknowledged is in the store that is there now; no position comes twice.

use std::thread;

use allsource_e2e::bulk::{flush, worker, worker_when};
use allsource_e2e::calls::{all_events, assert_verified, names_in};
use allsource_e2e::failure::{describe, is_disconnect};
use allsource_e2e::locks::{process_of, until_sleeps, until_waits};
use allsource_e2e::{
    Append, Batch, BatchItem, Cluster, Enqueue, EnqueueBatch, NewEvent, ReadAll, Tail,
};
use postgres::{Client, Error};
use serde_json::json;
use uuid::Uuid;

const PARTITION: i32 = 7;
const NEW_INCARNATION: &str = "DROP EXTENSION allsource; CREATE EXTENSION allsource";
const PAGE: i64 = 1_000;

/// A way to append one event.
type Way = (&'static str, fn(&mut Client, &str) -> Result<(), Error>);

const WAYS: [Way; 4] = [
    ("es_append", |client, stream| Append::to(stream, &events(1)).one(client).map(drop)),
    ("es_append with an id", |client, stream| {
        let events = [events(1).remove(0).with_id(Uuid::from_u128(1))];
        Append::to(stream, &events).one(client).map(drop)
    }),
    ("es_append_many", |client, stream| Append::to(stream, &events(3)).many(client).map(drop)),
    ("es_append_batch", |client, stream| {
        let item = |event| BatchItem { stream: stream.to_owned(), expected: None, event };
        let items: Vec<BatchItem> = events(2).into_iter().map(item).collect();
        Batch::of(&items).append(client).map(drop)
    }),
];

fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| NewEvent::new("t", json!(number))).collect()
}

fn execute(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
}

fn count(client: &mut Client, query: &str) -> i64 {
    client.query_one(query, &[]).unwrap_or_else(|e| panic!("{query}: {}", describe(&e))).get(0)
}

/// Lets a session run `work`, which comes to wait for what `change` has locked, and commits the
/// change. What became of the work.
fn meanwhile<T: Send>(
    cluster: &Cluster,
    worker: &mut Client,
    change: &str,
    work: impl FnOnce(&mut Client) -> T + Send,
) -> T {
    let (mut changer, mut onlooker) = (cluster.store(), cluster.connect("postgres"));
    execute(&mut changer, &format!("BEGIN; {change}"));
    let pid = process_of(worker);
    thread::scope(|scope| {
        let working = scope.spawn(|| work(worker));
        until_waits(&mut onlooker, pid);
        execute(&mut changer, "COMMIT");
        working.join().expect("the work")
    })
}

/// Another leaf under the name of a leaf, which is kept under another name.
fn swap(table: &str, indexes: &[(&str, &str)]) -> String {
    let leaf = format!("{table}_p07");
    let renamed = |(name, _): &(&str, &str)| {
        format!("ALTER INDEX allsource.{leaf}_{name} RENAME TO away_{leaf}_{name}; ")
    };
    let made = |(name, columns): &(&str, &str)| {
        format!("ALTER TABLE allsource.{leaf} ADD CONSTRAINT {leaf}_{name} UNIQUE ({columns}); ")
    };
    format!(
        "ALTER TABLE allsource.{table} DETACH PARTITION allsource.{leaf}; \
         ALTER TABLE allsource.{leaf} RENAME TO away_{leaf}; {} \
         CREATE TABLE allsource.{leaf} PARTITION OF allsource.{table} FOR VALUES IN (7); {}",
        indexes.iter().map(renamed).collect::<String>(),
        indexes.iter().map(made).collect::<String>(),
    )
}

fn swaps() -> [(&'static str, String); 3] {
    [
        (
            "event_streams",
            swap(
                "event_streams",
                &[("stream_no", "stream_no"), ("stream_id", "stream_id, tenant_id")],
            ),
        ),
        (
            "event_log",
            swap(
                "event_log",
                &[("version", "stream_no, first_version"), ("position", "\"position\"")],
            ),
        ),
        ("event_ids", swap("event_ids", &[("event_id", "stream_no, event_id")])),
    ]
}

fn size_of(client: &mut Client, table: &str) -> i64 {
    count(client, &format!("SELECT count(*) FROM allsource.{table}"))
}

/// An append that waits for a leaf while the leaf is exchanged for a new one: its rows are in the new
/// one, or it fails and has written nothing.
#[test]
fn an_append_that_waits_for_a_leaf_writes_to_the_leaf_of_that_name() {
    let cluster = Cluster::with_store("swap");
    let mut client = cluster.store();
    let mut onlooker = cluster.store();
    // The session knows all leaves and their indexes.
    for (number, name) in names_in(&mut client, PARTITION, 2).iter().enumerate() {
        let event = events(1).remove(0).with_id(Uuid::from_u128(number as u128));
        Append::to(name, &[event]).one(&mut client).expect("es_append");
    }
    let stream = names_in(&mut client, PARTITION, 3).remove(2);
    let mut faults = Vec::new();
    for (table, swap) in swaps() {
        for (name, append) in WAYS {
            if table == "event_ids" && name != "es_append with an id" {
                continue;
            }
            // Three empty leaves, so that what is in them is of this append.
            execute(
                &mut onlooker,
                "TRUNCATE allsource.event_streams, allsource.event_log, allsource.event_ids",
            );
            let outcome = meanwhile(&cluster, &mut client, &swap, |c| append(c, &stream));
            let aside = format!("away_{table}_p07");
            if size_of(&mut onlooker, &aside) > 0 {
                faults.push(format!("{name}: acknowledged into the table that was {table}_p07"));
            }
            let there = all_events(&mut onlooker).expect("the content").len();
            match outcome {
                Ok(()) if there == 0 => faults.push(format!("{name}: lost, {table}")),
                Err(error) if is_disconnect(&error) => panic!("{name}: {error}"),
                Err(_) if there > 0 => faults.push(format!("{name}: failed and written, {table}")),
                _ => {}
            }
            let drop = format!(
                "ALTER EXTENSION allsource DROP TABLE allsource.{aside}; \
                 DROP TABLE allsource.{aside}; \
                 ALTER EXTENSION allsource ADD TABLE allsource.{table}_p07"
            );
            execute(&mut onlooker, &drop);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    for (_, append) in WAYS {
        append(&mut client, &stream).expect("an append to the new leaves");
    }
    assert_verified(&mut client);
}

/// The same for the worker, whose append takes the same way.
#[test]
fn events_that_wait_for_a_leaf_are_written_to_the_leaf_of_that_name() {
    let cluster = Cluster::with_queue("swap-worker", &[]);
    let (mut client, mut changer) = (cluster.store(), cluster.store());
    let names = names_in(&mut client, PARTITION, 2);
    let event = events(1).remove(0);
    Enqueue::to(&names[0], &event).durably().send(&mut client).expect("es_enqueue");
    execute(&mut changer, "TRUNCATE allsource.event_streams, allsource.event_log");
    execute(&mut changer, &format!("BEGIN; {}", swaps()[1].1));
    Enqueue::to(&names[1], &event).send(&mut client).expect("es_enqueue");
    worker_when(&mut client, "it waits for the leaf", |stats| stats.waiting_events == 1);
    execute(&mut changer, "COMMIT");
    flush(&mut client).expect("es_flush");
    assert_eq!(size_of(&mut client, "away_event_log_p07"), 0, "written to the old leaf");
    assert_eq!(all_events(&mut client).expect("the content").len(), 1);
    assert_verified(&mut client);
}

/// An index that is dropped and made anew under its name while a reader or an append waits for it:
/// nobody uses the old one.
#[test]
fn an_append_that_waits_for_a_leaf_uses_the_indexes_of_that_name() {
    let cluster = Cluster::with_store("swap-index");
    let mut client = cluster.store();
    let stream = names_in(&mut client, PARTITION, 1).remove(0);
    Append::to(&stream, &events(2)).many(&mut client).expect("es_append");
    let changes = [
        ("event_streams", "stream_id", "stream_id, tenant_id"),
        ("event_streams", "stream_no", "stream_no"),
        ("event_log", "version", "stream_no, first_version"),
        ("event_log", "position", "\"position\""),
        ("event_ids", "event_id", "stream_no, event_id"),
    ];
    for (table, name, columns) in changes {
        let change = format!(
            "ALTER TABLE allsource.{table}_p07 DROP CONSTRAINT {table}_p07_{name}; \
             ALTER TABLE allsource.{table}_p07 ADD CONSTRAINT {table}_p07_{name} UNIQUE ({columns})"
        );
        let before = all_events(&mut client).expect("the content").len();
        let event = [events(1).remove(0).with_id(Uuid::from_u128(before as u128))];
        let appended = meanwhile(&cluster, &mut client, &change, |client| {
            Append::to(&stream, &event).one(client)
        });
        assert_eq!(
            appended.unwrap_or_else(|e| panic!("{name}: {}", describe(&e))),
            before as i64 + 1
        );
        let read = meanwhile(&cluster, &mut client, &change, |client| {
            // A retry, so that event_ids is read as well.
            Append::to(&stream, &event).one(client)?;
            ReadAll::after(0, PAGE).read(client)
        });
        let read = read.unwrap_or_else(|error| panic!("{name}: {}", describe(&error)));
        assert_eq!(read.len(), before + 1, "{name}");
        assert_verified(&mut client);
    }
}

/// Nobody has been given a position twice, and everybody can read all of them.
fn assert_positions_are_sound(cluster: &Cluster, client: &mut Client) {
    // Through positions that the old store had given out.
    for number in 0..40 {
        Append::to(&format!("after-{number}"), &events(100)).many(client).expect("es_append_many");
        Append::to(&format!("after-{number}"), &events(1)).one(&mut cluster.store()).expect("one");
    }
    let content = all_events(client).expect("the content");
    for pair in content.windows(2) {
        assert!(pair[0].position < pair[1].position, "twice: {pair:?}");
    }
    let mut tail = Tail::after(0);
    while tail.poll(client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&content);
    assert_verified(client);
}

/// The extension is dropped and created in one transaction while an append waits: it lands in the
/// new store, with positions of the new store, or fails.
#[test]
fn an_append_that_waits_for_a_new_incarnation_takes_its_positions() {
    let cluster = Cluster::with_store("swap-extension");
    let mut client = cluster.store();
    for (name, append) in WAYS {
        // The old store's counter is where the new one will come by.
        Append::to("old", &events(1_000)).many(&mut client).expect("es_append_many");
        Append::to("old", &[events(1).remove(0).with_id(Uuid::from_u128(9))])
            .one(&mut client)
            .expect("es_append");
        for stream in ["old", "new"] {
            let outcome = meanwhile(&cluster, &mut client, NEW_INCARNATION, |c| append(c, stream));
            let there = all_events(&mut client).expect("the content").len();
            match outcome {
                Ok(()) => assert!(there > 0, "{name} to {stream} was acknowledged, and is lost"),
                Err(error) => {
                    assert!(!is_disconnect(&error), "{name}: {error}");
                    assert_eq!(there, 0, "{name} to {stream} has failed, and is there");
                }
            }
            assert_positions_are_sound(&cluster, &mut client);
        }
    }
}

/// What an open transaction has taken of the old store's counter says nothing about the new store's.
#[test]
fn a_reader_that_waits_for_a_new_incarnation_reads_it() {
    let cluster = Cluster::with_store("swap-reader");
    let mut client = cluster.store();
    Append::to("old", &events(1_000)).many(&mut client).expect("es_append_many");
    let change =
        format!("{NEW_INCARNATION}; SELECT allsource.es_append_many('new', '{{t,t}}', '{{1,2}}')");
    let query = "SELECT count(*) FROM allsource.es_read_all(0, NULL)";
    let read = meanwhile(&cluster, &mut client, &change, |client| client.query_one(query, &[]));
    if let Ok(row) = read {
        let count: i64 = row.get(0);
        assert!(count == 0 || count == 2, "{count} events read");
    }
    assert_eq!(count(&mut client, query), 2);
    assert_positions_are_sound(&cluster, &mut client);
}

/// What was enqueued for the old store is not written into the new one, and whoever waits for it is
/// told so.
#[test]
fn what_is_enqueued_for_an_old_incarnation_is_discarded_and_reported() {
    let cluster = Cluster::with_queue("swap-queue", &[]);
    let mut client = cluster.store();
    let event = events(1).remove(0);
    for (number, change) in [NEW_INCARNATION, "DROP EXTENSION allsource"].into_iter().enumerate() {
        let old: Vec<_> = (0..500).map(|n| (format!("old-{n}"), event.clone())).collect();
        EnqueueBatch::of(&old).durably().send(&mut client).expect("es_enqueue_batch");
        let pid = worker(&mut client).pid.expect("a worker");
        let (mut changer, mut onlooker) = (cluster.store(), cluster.connect("postgres"));
        let (mut waiting, mut flushing) = (cluster.store(), cluster.store());
        execute(&mut changer, &format!("BEGIN; {change}"));
        let told = thread::scope(|scope| {
            let processes = [process_of(&mut waiting), process_of(&mut flushing)];
            let event = &event;
            let durable =
                scope.spawn(move || Enqueue::to("old", event).durably().send(&mut waiting));
            until_waits(&mut onlooker, pid);
            let flushed = scope.spawn(move || flush(&mut flushing));
            for process in processes {
                until_sleeps(&mut onlooker, process);
            }
            execute(&mut changer, "COMMIT");
            [
                ("durable => true", durable.join().expect("a call").err()),
                ("es_flush", flushed.join().expect("a call").err()),
            ]
        });
        if number == 1 {
            execute(&mut client, "CREATE EXTENSION allsource");
        }
        assert_eq!(all_events(&mut client).expect("the content"), [], "events of the old store");
        for (call, error) in told {
            let error = error.unwrap_or_else(|| panic!("{call}: success for what is discarded"));
            assert!(!is_disconnect(&error), "{call}: {error}");
        }
        Enqueue::to("new", &event).durably().send(&mut client).expect("es_enqueue");
        assert_positions_are_sound(&cluster, &mut client);
    }
}
