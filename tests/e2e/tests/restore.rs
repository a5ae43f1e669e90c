//! The sequence of positions is the truth, and shared memory its cache: a dump restored into the
//! database that the workers serve, while they and the monitoring look at it, and a sequence that an
//! administrator has set. No position comes twice, and none is lost to the readers, also after a
//! crash.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use allsource_e2e::bulk::{Enqueue, flush, workers_up};
use allsource_e2e::calls::{all_events, assert_verified, names_in, safe_position};
use allsource_e2e::cluster::{SERVED, STORE, Stop};
use allsource_e2e::failure::{describe, sqlstate};
use allsource_e2e::{Append, Cluster, Dump, Event, NewEvent, ReadAll, Tail};
use postgres::Client;
use serde_json::json;

const ORIGINAL: &str = "original";
const STREAMS: i64 = 40;
const PAGE: i64 = 500;
const NEW_STREAMS: i64 = 40;
/// More than is reserved ahead, so that the sequence is asked again.
const RESERVATION: i64 = 65_536;
const EVENTS_MAX: i64 = 10_000;
const MONITORING: [&str; 4] = [
    "SELECT count(*) FROM allsource.es_health()",
    "SELECT count(*) FROM allsource.es_metrics()",
    "SELECT count(*) FROM allsource.es_metrics_prometheus()",
    "SELECT allsource.es_safe_position()",
];

#[test]
fn a_dump_restored_piece_by_piece_into_the_served_database_is_complete() {
    let cluster = server("restore-slow");
    let dump = Dump::of(&cluster, ORIGINAL, &["--inserts"]);
    cluster.create_database(STORE);
    let (mut client, mut onlooker) = (cluster.store(), cluster.store());
    for part in dump.parts() {
        client.batch_execute(&part).unwrap_or_else(|error| panic!("{part}: {}", describe(&error)));
        look(&mut onlooker);
    }
    client.batch_execute("RESET ALL").expect("settings");
    assert_complete_and_goes_on(&cluster);
}

#[test]
fn a_plain_dump_restored_into_the_served_database_is_complete() {
    let cluster = server("restore-plain");
    let dump = Dump::of(&cluster, ORIGINAL, &[]);
    cluster.create_database(STORE);
    watched(&cluster, || dump.restore_with_psql(&cluster, STORE));
    assert_complete_and_goes_on(&cluster);
}

#[test]
fn a_dump_restored_by_two_jobs_into_the_served_database_is_complete() {
    let cluster = server("restore-jobs");
    let dump = Dump::of(&cluster, ORIGINAL, &["--format=custom"]);
    cluster.create_database(STORE);
    watched(&cluster, || dump.restore_with_pg_restore(&cluster, STORE, &["--jobs=2"]));
    assert_complete_and_goes_on(&cluster);
}

/// The extension is there, and its workers and everybody else have looked at it, when the data come.
#[test]
fn data_restored_into_an_extension_that_is_there_are_complete() {
    let cluster = server("restore-data");
    let dump = Dump::of(&cluster, ORIGINAL, &["--format=custom", "--data-only"]);
    cluster.create_store(STORE);
    look(&mut cluster.store());
    watched(&cluster, || dump.restore_with_pg_restore(&cluster, STORE, &[]));
    assert_complete_and_goes_on(&cluster);
}

/// Somebody has tried the store out before the data come, and emptied it again: what it has reserved
/// then overlaps with what the data bring, from above and from below.
#[test]
fn data_restored_into_a_store_that_was_used_are_complete() {
    let cluster = server("restore-used");
    let dump = Dump::of(&cluster, ORIGINAL, &["--format=custom", "--data-only"]);
    for tried in [1, 3, 200, 2_000] {
        cluster.create_store(STORE);
        let mut client = cluster.store();
        append(&mut client, "tried", tried);
        client
            .batch_execute(
                "TRUNCATE allsource.event_streams, allsource.event_log, allsource.event_ids",
            )
            .expect("TRUNCATE");
        dump.restore_with_pg_restore(&cluster, STORE, &[]);
        let content = all_events(&mut client).expect("the content");
        // In the session that has reserved, and in others.
        for number in 0..NEW_STREAMS {
            append(&mut client, &format!("s{number}"), 2);
            append(&mut cluster.store(), &format!("new-{number}"), 1);
        }
        let after = assert_all_is_read(&mut client);
        assert_eq!(after[..content.len()], content, "{tried} events before");
        drop(client);
        cluster.execute("postgres", "DROP DATABASE store WITH (FORCE)");
    }
}

#[test]
fn a_sequence_set_higher_before_the_first_append_is_noticed() {
    let cluster = Cluster::with_queue("restore-setval", &[]);
    let mut client = cluster.store();
    look(&mut client);
    set_sequence(&mut client, 1_000_000);
    append(&mut client, "s", 1);
    assert!(last_position(&mut client) > 1_000_000);
    assert_all_is_read(&mut client);
}

/// In the middle of what is reserved, and again after a crash.
#[test]
fn a_sequence_set_higher_is_never_lowered() {
    let cluster = Cluster::with_queue("restore-setval-up", &[]);
    let mut client = cluster.store();
    append(&mut client, "s", 10);
    set_sequence(&mut client, 3_000_000);
    look(&mut client);
    exhaust_reservation(&mut client);
    assert!(sequence(&mut client) >= 3_000_000, "the sequence was lowered");
    assert!(last_position(&mut client) > 3_000_000, "{}", last_position(&mut client));
    assert_all_is_read(&mut client);

    set_sequence(&mut client, 5_000_000);
    cluster.stop(Stop::Kill);
    cluster.resume();
    let mut client = cluster.connect_when_ready(STORE);
    append(&mut client, "s", 10);
    assert!(last_position(&mut client) > 5_000_000, "{}", last_position(&mut client));
    assert_all_is_read(&mut client);
}

#[test]
fn a_sequence_set_lower_repeats_no_position() {
    let cluster = Cluster::with_queue("restore-setval-down", &[]);
    let mut client = cluster.store();
    append(&mut client, "s", 1_000);
    set_sequence(&mut client, 5);
    look(&mut client);
    append(&mut client, "t", 1_000);
    assert_all_is_read(&mut client);
    exhaust_reservation(&mut client);
    assert_all_is_read(&mut client);
    let highest = last_position(&mut client);
    assert!(sequence(&mut client) >= highest, "the sequence is below {highest}");
    cluster.stop(Stop::Kill);
    cluster.resume();
    let mut client = cluster.connect_when_ready(STORE);
    append(&mut client, "t", 10);
    assert!(last_position(&mut client) > highest);
    assert_all_is_read(&mut client);
}

/// Nobody is left who remembers what was given out, but what is stored says it.
#[test]
fn a_sequence_set_lower_before_a_crash_repeats_no_position() {
    let cluster = Cluster::with_queue("restore-setval-crash", &[]);
    let mut client = cluster.store();
    append(&mut client, "s", 1_000);
    let highest = last_position(&mut client);
    set_sequence(&mut client, 5);
    cluster.stop(Stop::Kill);
    cluster.resume();
    let mut client = cluster.connect_when_ready(STORE);
    look(&mut client);
    append(&mut client, "t", 10);
    let next = last_position(&mut client);
    assert!(next > highest, "position {next} after {highest}");
    assert_all_is_read(&mut client);
}

/// A server whose workers serve [`STORE`], which is not there yet, and that has events in another
/// database.
fn server(name: &str) -> Cluster {
    let cluster = Cluster::start(name, &[SERVED, "allsource.workers=2"]);
    cluster.create_store(ORIGINAL);
    let mut client = cluster.connect(ORIGINAL);
    for number in 0..STREAMS {
        append(&mut client, &format!("s{number}"), number % 7 + 1);
        append(&mut client, &format!("s{}", number / 2), 3);
    }
    cluster
}

/// What the monitoring asks, over and over. As long as the extension is not there, that is all it
/// is told.
fn look(client: &mut Client) {
    for query in MONITORING {
        if let Err(error) = client.query(query, &[]) {
            let told = describe(&error);
            assert!(["3F000", "42883"].contains(&sqlstate(&error)), "{query}: {told}");
        }
    }
}

/// Runs `restore` under the eyes of the monitoring.
fn watched(cluster: &Cluster, restore: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let mut client = cluster.store();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                look(&mut client);
            }
        });
        // Also where `restore` panics: the onlooker would go on for ever.
        let end = EndOfLooking(&done);
        restore();
        drop(end);
    });
}

struct EndOfLooking<'a>(&'a AtomicBool);

impl Drop for EndOfLooking<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn append(client: &mut Client, stream: &str, count: i64) {
    let events: Vec<NewEvent> = (0..count).map(|n| NewEvent::new("t", json!(n))).collect();
    Append::to(stream, &events).many(client).unwrap_or_else(|e| panic!("{}", describe(&e)));
}

/// Appends until more positions are given out than are reserved ahead.
fn exhaust_reservation(client: &mut Client) {
    let end = last_position(client) + RESERVATION;
    while last_position(client) <= end {
        append(client, "bulk", EVENTS_MAX);
    }
}

fn set_sequence(client: &mut Client, value: i64) {
    let query = "SELECT setval('allsource.position_seq', $1)";
    client.query_one(query, &[&value]).expect("setval");
}

fn sequence(client: &mut Client) -> i64 {
    let query = "SELECT last_value FROM allsource.position_seq";
    client.query_one(query, &[]).expect("the sequence").get(0)
}

fn last_position(client: &mut Client) -> i64 {
    let query = "SELECT max(\"position\" + cardinality(event_types) - 1) FROM allsource.event_log";
    client.query_one(query, &[]).expect("the last position").get(0)
}

/// Whoever follows the store, and whoever reads it at once, sees all of it, and nothing is wrong.
fn assert_all_is_read(client: &mut Client) -> Vec<Event> {
    let content = all_events(client).expect("the content");
    let highest = content.last().expect("an event").position;
    let safe = safe_position(client).expect("es_safe_position");
    assert!(safe >= highest, "safe position {safe}, and an event at {highest}");
    let mut tail = Tail::after(0);
    tail.take(ReadAll::after(0, i64::MAX).read(client).expect("es_read_all"));
    tail.assert_saw_exactly(&content);
    assert_verified(client);
    content
}

fn assert_complete_and_goes_on(cluster: &Cluster) {
    let content = all_events(&mut cluster.connect(ORIGINAL)).expect("the original");
    let highest = content.last().expect("an event").position;
    assert_eq!(assert_all_is_read(&mut cluster.store()), content);
    for round in 0..2 {
        let mut client = cluster.connect_when_ready(STORE);
        workers_up(&mut client);
        let before = all_events(&mut client).expect("the content");
        for number in 0..NEW_STREAMS {
            append(&mut client, &format!("s{number}"), 1);
            append(&mut client, &format!("new-{round}-{number}"), 2);
        }
        let event = NewEvent::new("t", json!("enqueued"));
        for stream in ["s0", "s1", "enqueued"] {
            Enqueue::to(stream, &event).send(&mut client).expect("es_enqueue");
        }
        flush(&mut client).expect("es_flush");
        let after = assert_all_is_read(&mut client);
        assert_eq!(after[..before.len()], before, "new positions are above the restored ones");
        assert_eq!(after.len(), before.len() + 3 * NEW_STREAMS as usize + 3);
        let last = after.last().expect("an event").position;
        let sequence = sequence(&mut client);
        assert!(sequence >= last && last > highest, "{sequence} >= {last} > {highest}");
        cluster.stop(if round == 0 { Stop::Kill } else { Stop::Fast });
        cluster.resume();
    }
    let mut tail = Tail::after(0);
    let mut client = cluster.connect_when_ready(STORE);
    while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&all_events(&mut client).expect("the content"));
}

/// A look at the logs of all partitions when the counter is set up is only a precaution: a partition that
/// cannot be read, or is locked, stops nobody else, and nobody is waited for or locked out.
#[test]
fn a_partition_that_cannot_be_read_stops_no_other_after_a_restart() {
    let cluster = Cluster::with_queue("restore-set-up", &[]);
    let mut client = cluster.store();
    for number in 0..NEW_STREAMS {
        append(&mut client, &format!("s{number}"), 3);
    }
    let mut names = (2..5).map(|partition| names_in(&mut client, partition, 2));
    let mut next = || names.next().expect("names");
    let (detached, damaged, good) = (next(), next(), next());
    for names in [&detached, &damaged, &good] {
        append(&mut client, &names[0], 1);
    }
    client
        .batch_execute(
            "ALTER TABLE allsource.event_log DETACH PARTITION allsource.event_log_p02; \
             UPDATE allsource.event_log_p03 SET event_types = ARRAY[ARRAY['a', 'b'], ARRAY['c', 'd']] \
              WHERE \"position\" = (SELECT max(\"position\") FROM allsource.event_log_p03)",
        )
        .expect("damage");
    let last = last_position(&mut client);
    cluster.stop(Stop::Fast);
    cluster.resume();
    let mut client = cluster.connect_when_ready(STORE);
    // REINDEX INDEX lets the table be read and locks the index.
    let mut reindex = cluster.store();
    reindex
        .batch_execute("BEGIN; REINDEX INDEX allsource.event_log_p07_position")
        .expect("REINDEX");
    client.batch_execute("SET lock_timeout = '5s'; BEGIN").expect("BEGIN");
    append(&mut client, &good[1], 1);
    let query = "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation \
                 WHERE pid = pg_backend_pid() AND relname ~ '^event_log_p..'";
    let locks: i64 = client.query_one(query, &[]).expect(query).get(0);
    assert!(locks <= 3, "{locks} locks of logs for one event");
    client.batch_execute("COMMIT").expect("COMMIT");
    reindex.batch_execute("COMMIT").expect("COMMIT");
    let event = NewEvent::new("t", json!("enqueued"));
    Enqueue::to(&good[0], &event).durably().send(&mut client).expect("es_enqueue");
    append(&mut client, &damaged[1], 1);
    assert!(last_position(&mut client) > last);
    for leaf in ["event_log_p02", "event_log_p03", "event_log_p07"] {
        assert!(cluster.log().contains(&format!("the last position in {leaf}")), "{leaf}");
    }
}

/// The last run of a partition cannot be taken apart, but where it begins can be read.
#[test]
fn positions_go_on_above_a_damaged_run() {
    let cluster = Cluster::with_store("restore-damaged");
    let mut client = cluster.store();
    append(&mut client, "s", 5);
    let last = last_position(&mut client);
    client
        .batch_execute(
            "UPDATE allsource.event_log SET event_types = ARRAY[ARRAY['a'], ARRAY['b']]; \
             SELECT setval('allsource.position_seq', 1)",
        )
        .expect("damage");
    cluster.stop(Stop::Fast);
    cluster.resume();
    let mut client = cluster.connect_when_ready(STORE);
    append(&mut client, "t", 1);
    let query = "SELECT max(\"position\") FROM allsource.event_log";
    let next: i64 = client.query_one(query, &[]).expect(query).get(0);
    assert!(next > last, "position {next} after {last}");
}

/// The sequence is set lower after readers have got above that, and then the server crashes before anybody
/// appends. Nothing appears below where the readers are.
#[test]
fn what_a_reader_has_passed_stays_passed_after_a_crash() {
    for (name, change) in [
        ("setval", "SELECT setval('allsource.position_seq', 1)"),
        (
            "alter",
            "BEGIN; ALTER SEQUENCE allsource.position_seq RESTART 1000000; \
             SELECT allsource.es_append('x', 't', '1'); ROLLBACK",
        ),
    ] {
        let cluster = Cluster::with_store(&format!("restore-lowered-{name}"));
        let mut client = cluster.store();
        append(&mut client, "x", 1);
        // The highest positions are those of a transaction that was rolled back.
        client.batch_execute("BEGIN").expect("BEGIN");
        append(&mut client, "x", 500);
        client.batch_execute("ROLLBACK").expect("ROLLBACK");
        let before = safe_position(&mut client).expect("es_safe_position");
        client.batch_execute(change).expect(change);
        client.batch_execute("SET default_transaction_read_only = on").expect("SET");
        let read_only = safe_position(&mut client).expect("es_safe_position");
        assert!(read_only <= sequence(&mut client), "{name}: {read_only} is not durable");
        client.batch_execute("RESET default_transaction_read_only").expect("RESET");
        let after = safe_position(&mut client).expect("es_safe_position");
        assert!(after >= before, "{name}: {after} after {before}");
        assert!(after <= sequence(&mut client), "{name}: {after} is not durable");
        cluster.stop(Stop::Kill);
        cluster.resume();
        let mut client = cluster.connect_when_ready(STORE);
        append(&mut client, "x", 1);
        let next = last_position(&mut client);
        assert!(next > after, "{name}: position {next}, and readers are at {after}");
        assert_all_is_read(&mut client);
    }
}

/// A restore by several jobs sets the sequence while another job still copies a leaf: nothing that this one
/// brings is passed by who follows the store, whether positions were taken there before or are meanwhile.
#[test]
fn what_a_job_still_copies_is_not_safe_although_the_sequence_is_set() {
    let cluster = server("restore-reader");
    let dump = Dump::of(&cluster, ORIGINAL, &["--inserts", "--data-only"]);
    let original = all_events(&mut cluster.connect(ORIGINAL)).expect("the original");
    for (before, meanwhile) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        cluster.create_store(STORE);
        let [mut client, mut copying, mut setting] = [(); 3].map(|()| cluster.store());
        let mut tail = Tail::after(0);
        if before > 0 {
            append(&mut client, "tried", before);
            client
                .batch_execute(
                    "TRUNCATE allsource.event_streams, allsource.event_log, allsource.event_ids",
                )
                .expect("TRUNCATE");
        }
        copying.batch_execute("BEGIN").expect("BEGIN");
        let mut late = 0;
        for part in dump.parts() {
            let is_late = part.contains("INSERT INTO allsource.event_log_p") && late < 3;
            late += i32::from(is_late);
            let session = if is_late { &mut copying } else { &mut setting };
            session.batch_execute(&part).unwrap_or_else(|e| panic!("{part}: {}", describe(&e)));
        }
        assert_eq!(late, 3, "leaves that are copied late");
        tail.poll(&mut client, PAGE).expect("es_read_all");
        if meanwhile > 0 {
            append(&mut setting, "meanwhile", meanwhile);
        }
        tail.poll(&mut client, PAGE).expect("es_read_all");
        tail.poll(&mut cluster.store(), PAGE).expect("es_read_all");
        copying.batch_execute("COMMIT").expect("COMMIT");
        while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
        let content = all_events(&mut client).expect("the content");
        assert_eq!(content.len(), original.len() + meanwhile as usize);
        tail.assert_saw_exactly(&content);
        drop([client, copying, setting]);
        cluster.execute("postgres", "DROP DATABASE store WITH (FORCE)");
    }
}
