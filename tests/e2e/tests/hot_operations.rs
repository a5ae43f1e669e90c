//! What administrators do while partitions are hot: backups, standbys, recovery to a point in time,
//! dumps, and dropping, copying and renaming the database. All that was taken in is there, in its order,
//! wherever the data go; the sidecar stays behind.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use allsource_e2e::bulk::{flush, workers_up};
use allsource_e2e::calls::{assert_verified, names_in};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, STORE, Stop};
use allsource_e2e::failure::{self, describe, refusal, sqlstate};
use allsource_e2e::hot::{self, batches, state};
use allsource_e2e::hot_store::{OFTEN, PARTITIONS, RARELY};
use allsource_e2e::scattered::until_applied;
use allsource_e2e::{
    Cluster, Crew, Dump, EnqueueBatch, Ledger, NewEvent, Scattered, Seed, patience,
};
use postgres::Client;
use serde_json::json;

const STREAMS: i64 = 20;
const REPLICATED: [&str; 4] =
    ["wal_level=replica", "max_wal_senders=6", "wal_log_hints=on", "wal_keep_size=128MB"];
const RESTORED: &str = "restored";
const COPY: &str = "copy";

/// Settings of a server whose workers serve the store.
fn serving<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&[SERVED, ONE_WORKER], more].concat()
}

/// A hot store that is replicated, with events in the log and in batches.
fn replicated(name: &str, more: &[&str]) -> (Cluster, Client, Scattered) {
    let cluster = Cluster::with_queue(name, &[&REPLICATED, more].concat());
    let mut client = cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.enqueue(&mut client, 3);
    known.settle(&mut client, "the original");
    known.enqueue(&mut client, 5);
    (cluster, client, known)
}

fn connect(cluster: &Cluster) -> Client {
    let mut client = cluster.connect_when_ready(STORE);
    workers_up(&mut client);
    client
}

fn wait_for_replay(client: &mut Client, replica: &mut Client) {
    let lsn: String =
        client.query_one("SELECT pg_current_wal_lsn()::text", &[]).expect("an LSN").get(0);
    patience::until_true("the standby has replayed everything", || {
        let query = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        replica.query_one(query, &[&lsn]).expect("the standby's LSN").get(0)
    });
}

fn promote(replica: &mut Client) {
    let query = "SELECT pg_promote(wait => true)";
    assert!(replica.query_one(query, &[]).expect(query).get::<_, bool>(0), "not promoted");
    workers_up(replica);
}

/// The backup is taken while events come in and are settled.
#[test]
fn a_base_backup_of_a_hot_server_is_a_server_of_its_own() {
    let seed = Seed::announce();
    let (original, mut client, mut known) = replicated("hot-backup", &[OFTEN]);
    known.is_alone = false;
    let mut others = |partition: &i32| names_in(&mut client, *partition, 2 * STREAMS);
    let shared: Vec<String> = PARTITIONS.iter().flat_map(&mut others).collect();
    let known_names = known.names();
    let shared: Vec<_> = shared.into_iter().filter(|name| !known_names.contains(name)).collect();
    let (ledger, shared) = (Ledger::default(), &shared[..]);
    let crew = Crew { cluster: &original, ledger: &ledger, shared, seed, number: 1, producers: 3 };
    let copy = crew.work_while(|_| false, || original.backup("hot-backed-up", &["-X", "stream"]));
    assert!(!copy.sidecar_dir().exists(), "the sidecar is in the backup");
    let mut copied_known = known.clone();
    copy.start_again(&serving(&[OFTEN]));
    let mut copied = connect(&copy);
    // Of the crew's events some are there: whatever they are, in the right order.
    for stream in shared {
        let query = "SELECT count(*) = COALESCE(max(version), 0) \
                         AND count(*) = count(DISTINCT version) FROM allsource.es_read($1)";
        let is_whole: bool = copied.query_one(query, &[&stream]).expect(query).get(0);
        assert!(is_whole, "{stream}");
    }
    for (number, partition) in PARTITIONS.into_iter().enumerate() {
        if number == 0 {
            hot::cool(&mut copied, partition).expect("es_cool");
        } else {
            hot::settle(&mut copied).expect("es_settle");
        }
    }
    copied_known.heat(&mut copied);
    assert_verified(&mut copied);
    copied_known.assert_settled(&mut copied, "the copy");
    for (client, known) in [(&mut copied, &mut copied_known), (&mut client, &mut known)] {
        known.enqueue(client, 3);
        known.append(client, 3);
        known.settle(client, "goes on");
    }
}

/// Reads on a standby, also under a snapshot that is older than a settle, and what comes after its
/// promotion.
#[test]
fn a_standby_reads_hot_partitions_and_goes_on_when_promoted() {
    let (primary, mut client, mut known) = replicated("hot-primary", &[RARELY]);
    // The primary keeps what the standby's snapshots need.
    let feedback = ["hot_standby_feedback=on", "wal_receiver_status_interval=1s"];
    let standby = primary.standby("hot-standby", &serving(&[&feedback[..], &[RARELY]].concat()));
    let mut replica = standby.store();
    known.enqueue(&mut client, 3);
    wait_for_replay(&mut client, &mut replica);
    known.assert_read(&mut replica, "unsettled");
    for query in ["SELECT allsource.es_heat(3)", "SELECT allsource.es_cool(3)"] {
        assert_eq!(refusal(replica.execute(query, &[])), failure::READ_ONLY, "{query}");
    }
    for query in ["SELECT allsource.es_settle()", "SELECT allsource.es_sidecar_rebuild()"] {
        assert_eq!(refusal(replica.execute(query, &[])), failure::READ_ONLY, "{query}");
    }
    replica.execute("SELECT * FROM allsource.metrics", &[]).expect("metrics");
    let query = "SELECT name || ': ' || detail FROM allsource.es_health() WHERE NOT ok";
    let ill: Vec<String> =
        replica.query(query, &[]).expect(query).iter().map(|row| row.get(0)).collect();
    assert!(ill.is_empty(), "{ill:#?}");
    assert_verified(&mut replica);

    let mut old = standby.store();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("BEGIN");
    let before = known.clone();
    before.assert_read(&mut old, "an old snapshot");
    let query = "SELECT count(*) FROM pg_stat_replication WHERE backend_xmin::text::int8 <= $1";
    let oldest = "SELECT txid_snapshot_xmin(txid_current_snapshot())";
    let oldest: i64 = old.query_one(oldest, &[]).expect(oldest).get(0);
    patience::until_true("the primary knows of the snapshot", || {
        client.query_one(query, &[&oldest]).expect(query).get::<_, i64>(0) == 1
    });
    known.settle(&mut client, "the primary");
    known.enqueue(&mut client, 2);
    known.append(&mut client, 3);
    wait_for_replay(&mut client, &mut replica);
    known.assert_read(&mut replica, "settled");
    before.assert_read(&mut old, "an old snapshot");
    hot::cool(&mut client, PARTITIONS[0]).expect("es_cool");
    known.enqueue(&mut client, 2);
    wait_for_replay(&mut client, &mut replica);
    known.assert_read(&mut replica, "one of them is cold");
    before.assert_read(&mut old, "an old snapshot");
    old.batch_execute("COMMIT").expect("COMMIT");

    assert!(!standby.sidecar_dir().exists(), "a sidecar on a standby");
    primary.stop(Stop::Kill);
    promote(&mut replica);
    known.assert_read(&mut replica, "promoted");
    known.heat(&mut replica);
    known.goes_on(&mut replica, "promoted", false);
    known.cool(&mut replica, "in the end");
}

/// A server is recovered to moments before and after a settle. Beside it lies the sidecar of the server
/// that went on.
#[test]
fn recovery_to_a_point_in_time_before_and_after_a_settle() {
    let archive = std::env::temp_dir().join(format!("allsource-e2e-wal-{}", std::process::id()));
    let _removed = Removed(&archive);
    let folder = archive.display();
    let archiving = format!("archive_command=mkdir -p {folder} && cp %p {folder}/%f");
    let (original, mut client, mut known) =
        replicated("hot-archived", &[RARELY, "archive_mode=on", &archiving]);
    let backup = original.backup("hot-base", &["-X", "fetch"]);
    let mut moments = Vec::new();
    let mut moment = |client: &mut Client, name: &'static str, known: &Scattered| {
        let query = "SELECT pg_create_restore_point($1)::text";
        client.query_one(query, &[&name]).expect(query);
        moments.push((name, known.clone()));
    };
    known.enqueue(&mut client, 3);
    moment(&mut client, "taken in", &known);
    known.settle(&mut client, "the original");
    moment(&mut client, "settled", &known);
    known.enqueue(&mut client, 3);
    known.append(&mut client, 4);
    moment(&mut client, "more", &known);
    known.cool(&mut client, "the original");
    moment(&mut client, "cooled", &known);
    known.heat(&mut client);
    known.enqueue(&mut client, 30);
    until_applied(&mut client, &PARTITIONS);
    let query = "SELECT pg_walfile_name(pg_switch_wal())";
    let last: String = client.query_one(query, &[]).expect(query).get(0);
    patience::until_true("everything is archived", || archive.join(&last).exists());
    original.stop(Stop::Fast);
    let sidecar = original.sidecar_dir();
    backup.shell("cp -a data base");
    for (name, at_that_time) in &moments {
        let context = format!("recovered to: {name}");
        backup.shell(&format!(
            "rm -rf data data.allsource; cp -a base data; cp -a {} data.allsource; \
             touch data/recovery.signal",
            sidecar.display()
        ));
        let restore = format!("restore_command=cp {folder}/%f %p");
        let target = format!("recovery_target_name={name}");
        let settings = serving(&[RARELY, &restore, &target, "recovery_target_action=promote"]);
        backup.start_again(&settings);
        let mut client = backup.connect_when_ready(STORE);
        patience::until_true("recovery ends", || {
            let query = "SELECT NOT pg_is_in_recovery()";
            client.query_one(query, &[]).expect(query).get(0)
        });
        workers_up(&mut client);
        let mut found = at_that_time.clone();
        found.differ_from(&known);
        found.assert_read(&mut client, &context);
        found.heat(&mut client);
        found.goes_on(&mut client, &context, false);
        found.cool(&mut client, &context);
        drop(client);
        backup.stop(Stop::Fast);
    }
}

struct Removed<'p>(&'p Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}

/// After a promotion the old primary, which went on for a while, follows the new one, and is promoted
/// itself later. Its sidecar has batches that are no more.
#[test]
fn an_old_primary_is_rewound() {
    let (old, mut client, mut known) = replicated("hot-rewound", &[RARELY]);
    let new = old.standby("hot-new", &serving(&[&REPLICATED[..], &[RARELY]].concat()));
    let mut replica = new.store();
    wait_for_replay(&mut client, &mut replica);
    promote(&mut replica);
    let mut lost = known.clone();
    lost.differ_from(&known);
    lost.goes_on(&mut client, "the old primary", true);
    lost.enqueue(&mut client, 20);
    until_applied(&mut client, &PARTITIONS);
    drop(client);
    old.stop(Stop::Fast);

    known.goes_on(&mut replica, "the new primary", false);
    replica.batch_execute("CHECKPOINT").expect("CHECKPOINT");
    let socket = new.socket();
    let host = socket.parent().expect("the socket's folder").display().to_string();
    let conninfo = format!("host={host} port=5432 user=postgres");
    let mut rewind = old.server_tool("pg_rewind");
    rewind
        .arg("-D")
        .arg(old.data_dir())
        .args(["--source-server", &format!("{conninfo} dbname=postgres")]);
    old.run(&mut rewind, "pg_rewind");
    // What it has there from the new primary says that the old one is to be followed.
    old.shell("touch data/standby.signal; : >data/postgresql.auto.conf");
    let follow = format!("primary_conninfo={conninfo}");
    old.start_again(&serving(&[&REPLICATED[..], &[RARELY, &follow]].concat()));
    let mut client = old.connect_when_ready(STORE);
    wait_for_replay(&mut replica, &mut client);
    known.assert_read(&mut client, "rewound");
    known.enqueue(&mut replica, 3);
    wait_for_replay(&mut replica, &mut client);
    drop(replica);
    new.stop(Stop::Kill);
    promote(&mut client);
    known.goes_on(&mut client, "promoted again", false);
    known.cool(&mut client, "in the end");
}

/// One partition of the restored store is settled by `es_settle`, one by `es_heat`, one by `es_cool`, and
/// none before; new events come after the old ones.
#[test]
fn a_dump_of_a_hot_store_is_restored_in_another_server() {
    let (cluster, dump, known) = dumped("hot-dumped");
    let other = Cluster::start("hot-restored", &serving(&[OFTEN]));
    other.create_database(STORE);
    dump.restore_with_pg_restore(&other, STORE, &[]);
    drop(cluster);
    let mut client = connect(&other);
    assert_restored_goes_on(&mut client, known);
}

#[test]
fn a_plain_dump_of_a_hot_store_is_restored_in_another_server() {
    let (cluster, _, known) = dumped("hot-dumped-plain");
    let dump = Dump::of(&cluster, STORE, &["--inserts"]);
    let other = Cluster::start("hot-restored-plain", &serving(&[OFTEN]));
    other.create_database(STORE);
    dump.restore_with_psql(&other, STORE);
    drop(cluster);
    assert_restored_goes_on(&mut connect(&other), known);
}

/// The other database is not served: its events are settled by those who append. Then the two change
/// places.
#[test]
fn a_dump_of_a_hot_store_is_restored_beside_it() {
    let (cluster, dump, mut known) = dumped("hot-beside");
    let mut restored = known.clone();
    restored.differ_from(&known);
    cluster.create_database(RESTORED);
    dump.restore_with_pg_restore(&cluster, RESTORED, &["--jobs=2"]);
    let (mut client, mut beside) = (cluster.store(), cluster.connect(RESTORED));
    restored.assert_read(&mut beside, "not served");
    for query in [
        "SELECT allsource.es_settle()",
        "SELECT allsource.es_cool(3)",
        "SELECT allsource.es_heat(3)",
    ] {
        assert_eq!(refusal(beside.execute(query, &[])), failure::NOT_IN_STATE, "{query}");
    }
    restored.append(&mut beside, 4);
    restored.assert_read(&mut beside, "not served");
    assert_verified(&mut beside);
    known.goes_on(&mut client, "the original", false);
    restored.assert_read(&mut beside, "not served");
    drop((client, beside));
    cluster.execute("postgres", "ALTER DATABASE store RENAME TO unserved");
    cluster.execute("postgres", "ALTER DATABASE restored RENAME TO store");
    assert_restored_goes_on(&mut connect(&cluster), restored);
    let mut client = cluster.connect("unserved");
    known.assert_read(&mut client, "no more served");
    known.append(&mut client, 2);
    known.assert_read(&mut client, "no more served");
    assert_verified(&mut client);
}

/// The dump goes into the store of which it was made, after everything was deleted there.
#[test]
fn a_dump_of_a_hot_store_is_restored_over_it() {
    let cluster = Cluster::with_queue("hot-over", &[RARELY]);
    let mut client = cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.enqueue(&mut client, 4);
    known.settle(&mut client, "the original");
    known.enqueue(&mut client, 4);
    let dump = Dump::of(&cluster, STORE, &["--format=custom", "--data-only"]);
    let before = known.clone();
    known.enqueue(&mut client, 4);
    until_applied(&mut client, &PARTITIONS);
    let query = "TRUNCATE allsource.event_streams, allsource.event_log, allsource.event_ids, \
                 allsource.hot_batches, allsource.hot_partitions";
    client.batch_execute(query).expect(query);
    known.back_to(&before);
    dump.restore_with_pg_restore(&cluster, STORE, &[]);
    known.goes_on(&mut client, "restored", false);
    known.cool(&mut client, "in the end");
}

/// A hot store of three partitions with settled and unsettled events, and its dump.
fn dumped(name: &str) -> (Cluster, Dump, Scattered) {
    let cluster = Cluster::with_queue(name, &[RARELY]);
    let mut client = cluster.store();
    let mut known = Scattered::heated(&mut client, &[3, 17, 30], STREAMS);
    known.enqueue(&mut client, 4);
    known.settle(&mut client, "the original");
    known.enqueue(&mut client, 4);
    let dump = Dump::of(&cluster, STORE, &["--format=custom"]);
    (cluster, dump, known)
}

fn assert_restored_goes_on(client: &mut Client, mut known: Scattered) {
    known.assert_read(client, "restored");
    assert_verified(client);
    // Several rounds of the settler.
    for _ in 0..3 {
        hot::heat(client, 9).expect("es_heat");
        hot::cool(client, 9).expect("es_cool");
    }
    for partition in &known.partitions {
        assert!(batches(client, *partition) > 0, "{partition} was settled unasked");
        assert_eq!(state(client, *partition).as_deref(), Some("hot"));
    }
    known.assert_read(client, "restored");
    known.enqueue(client, 2);
    known.append(client, 3);
    known.assert_read(client, "restored, and taken in");
    hot::settle_within(client, Some(3), "50s").expect("es_settle");
    hot::heat(client, 17).expect("es_heat");
    hot::cool_within(client, 30, "50s").expect("es_cool");
    known.assert_read(client, "settled");
    known.heat(client);
    known.goes_on(client, "restored", true);
    known.cool(client, "in the end");
}

/// Enqueues events for new streams of hot partitions, over and over, whatever becomes of them.
fn with_feeders<T>(cluster: &Cluster, meanwhile: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for feeder in 0..2 {
            let done = &done;
            scope.spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::SeqCst) {
                    let Ok(mut client) = cluster.try_connect(STORE) else { continue };
                    round += 1;
                    let item = |n| {
                        let event = NewEvent::new("fed", json!(n));
                        (format!("feeder-{feeder}-{round}-{n}"), event)
                    };
                    let items: Vec<_> = (0..200).map(item).collect();
                    let durable = round % 3 == 0;
                    if let Err(error) =
                        (EnqueueBatch { durable, ..EnqueueBatch::of(&items) }).send(&mut client)
                    {
                        let told = describe(&error);
                        assert!(TOLERATED.contains(&sqlstate(&error)), "{told}");
                    }
                }
            });
        }
        let end = EndOfFeeding(&done);
        let result = meanwhile();
        drop(end);
        result
    })
}

/// What who enqueues may be told while the extension or the database is dropped: there is no such schema
/// or function, it is in the wrong state, it is terminated.
const TOLERATED: [&str; 7] = ["3F000", "42883", "55000", "57P01", "42704", "42P01", "(connection)"];

struct EndOfFeeding<'a>(&'a AtomicBool);

impl Drop for EndOfFeeding<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A store of which nothing is left, made again: its partitions are cold, and it works.
fn assert_made_again(client: &mut Client, context: &str) {
    workers_up(client);
    let query = "SELECT (SELECT count(*) FROM allsource.hot_partitions_status) + \
                 (SELECT count(*) FROM allsource.hot_batches)";
    assert_eq!(client.query_one(query, &[]).expect(query).get::<_, i64>(0), 0, "{context}");
    let mut known = Scattered::heated(client, &PARTITIONS, 5);
    known.enqueue(client, 2);
    known.goes_on(client, context, false);
    known.enqueue(client, 1);
}

#[test]
fn a_hot_extension_is_dropped_and_made_again() {
    let cluster = Cluster::with_queue("hot-drop", &["allsource.workers=2", OFTEN]);
    let mut client = cluster.store();
    heat_all(&mut client);
    for round in 0..4 {
        let context = format!("round {round}");
        with_feeders(&cluster, || {
            until_hot(&mut client);
            let query = "DROP EXTENSION allsource CASCADE";
            client.batch_execute(query).unwrap_or_else(|e| panic!("{}", describe(&e)));
            if round == 1 {
                cluster.stop(Stop::Kill);
                cluster.resume();
                client = cluster.connect_when_ready(STORE);
            }
        });
        client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
        flush_or_discarded(&mut client);
        assert_made_again(&mut client, &context);
        // A drop that is rolled back has not happened.
        let known_rows = "SELECT count(*) FROM allsource.hot_batches";
        let before: i64 = client.query_one(known_rows, &[]).expect("batches").get(0);
        client.batch_execute("BEGIN; DROP EXTENSION allsource CASCADE; ROLLBACK").expect("DROP");
        let after: i64 = client.query_one(known_rows, &[]).expect("batches").get(0);
        assert!(after <= before, "{context}");
        heat_all(&mut client);
    }
    hot::settle(&mut client).expect("es_settle");
    assert_verified(&mut client);
}

#[test]
fn a_hot_database_is_dropped_and_made_again() {
    let cluster = Cluster::with_queue("hot-dropdb", &["allsource.workers=2", OFTEN]);
    for round in 0..3 {
        let mut client = connect(&cluster);
        heat_all(&mut client);
        let forced = round % 2 == 0;
        if forced {
            with_feeders(&cluster, || {
                until_hot(&mut client);
                drop(client);
                cluster.execute("postgres", "DROP DATABASE store WITH (FORCE)");
            });
        } else {
            with_feeders(&cluster, || until_hot(&mut client));
            drop(client);
            cluster.execute("postgres", "DROP DATABASE store");
        }
        cluster.create_store(STORE);
        let mut client = connect(&cluster);
        flush_or_discarded(&mut client);
        assert_made_again(&mut client, &format!("round {round}"));
    }
}

/// While batches are written and settled a copy is made; the copy is served in place of the original.
#[test]
fn a_hot_database_is_copied_and_renamed() {
    let cluster = Cluster::with_queue("hot-template", &["allsource.workers=2", OFTEN]);
    let mut client = cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.is_alone = false;
    heat_all(&mut client);
    for round in 0..3 {
        let context = format!("round {round}");
        known.enqueue(&mut client, 3);
        with_feeders(&cluster, || until_hot(&mut client));
        drop(client);
        cluster.execute("postgres", "CREATE DATABASE copy TEMPLATE store");
        let mut copied = known.clone();
        copied.differ_from(&known);
        client = connect(&cluster);
        let mut beside = cluster.connect(COPY);
        copied.assert_read(&mut beside, &context);
        copied.append(&mut beside, 4);
        copied.assert_read(&mut beside, &context);
        assert_verified(&mut beside);
        known.goes_on(&mut client, &context, false);
        drop((client, beside));

        cluster.execute("postgres", "ALTER DATABASE store RENAME TO original");
        let mut unserved = cluster.connect("original");
        known.assert_read(&mut unserved, &context);
        let asked = hot::settle(&mut unserved);
        assert_eq!(refusal(asked), failure::NOT_IN_STATE);
        drop(unserved);
        cluster.execute("postgres", "ALTER DATABASE copy RENAME TO store");
        client = connect(&cluster);
        copied.assert_read(&mut client, &context);
        copied.heat(&mut client);
        copied.goes_on(&mut client, &context, false);
        if round == 1 {
            // Back again: its sidecar has been another one's meanwhile.
            drop(client);
            cluster.execute("postgres", "ALTER DATABASE store RENAME TO copy");
            cluster.execute("postgres", "ALTER DATABASE original RENAME TO store");
            cluster.execute("postgres", "DROP DATABASE copy");
            client = connect(&cluster);
            known.goes_on(&mut client, &context, true);
        } else {
            cluster.execute("postgres", "DROP DATABASE original");
            known = copied;
        }
    }
    known.cool(&mut client, "in the end");
    assert_verified(&mut client);
}

/// A partition is another worker's after each restart.
#[test]
fn another_number_of_workers_goes_on() {
    let cluster = Cluster::with_queue("hot-workers", &["allsource.workers=2", RARELY]);
    let mut client = cluster.store();
    let mut known = Scattered::heated(&mut client, &[1, 2, 3, 30], 6);
    for (round, workers) in [1, 4, 2, 3, 1].into_iter().enumerate() {
        let context = format!("{workers} workers");
        known.enqueue(&mut client, 4);
        if round == 2 {
            known.settle(&mut client, &context);
        }
        cluster.stop([Stop::Fast, Stop::Kill, Stop::Immediate][round % 3]);
        let workers = format!("allsource.workers={workers}");
        cluster.start_again(&[SERVED, RARELY, &workers]);
        client = connect(&cluster);
        known.assert_read(&mut client, &context);
        known.enqueue(&mut client, 2);
        known.append(&mut client, 3);
        known.assert_read(&mut client, &context);
        if round % 2 == 1 {
            known.goes_on(&mut client, &context, false);
        }
    }
    known.cool(&mut client, "in the end");
}

/// The server is started with a build that has no sidecar: an installation of PostgreSQL whose `pg_config`
/// `ALLSOURCE_E2E_PLAIN_PG_CONFIG` names. Nothing becomes hot there, and everything is read and settled.
#[test]
fn a_build_without_the_sidecar_reads_and_settles() {
    let Ok(pg_config) = std::env::var("ALLSOURCE_E2E_PLAIN_PG_CONFIG") else {
        println!("skipped: ALLSOURCE_E2E_PLAIN_PG_CONFIG names no build without the sidecar");
        return;
    };
    let cluster = Cluster::with_queue("hot-plain", &[RARELY]);
    let mut client = cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    for (number, how) in [Stop::Fast, Stop::Kill].into_iter().enumerate() {
        let context = format!("{how:?}");
        known.enqueue(&mut client, 3);
        known.settle(&mut client, &context);
        known.enqueue(&mut client, 5);
        until_applied(&mut client, &PARTITIONS);
        cluster.stop(how);
        cluster.resume_with(&pg_config);
        client = connect(&cluster);
        known.assert_read(&mut client, &context);
        for partition in [PARTITIONS[0], 9] {
            let heated = hot::heat(&mut client, partition);
            assert_eq!(refusal(heated), failure::NOT_SUPPORTED, "es_heat({partition})");
        }
        let query = "SELECT serving FROM allsource.es_sidecar_stats()";
        assert!(!client.query_one(query, &[]).expect(query).get::<_, bool>(0));
        known.enqueue(&mut client, 3);
        known.append(&mut client, 3);
        known.assert_read(&mut client, &context);
        assert_verified(&mut client);
        if number == 0 {
            known.settle(&mut client, &context);
            known.enqueue(&mut client, 3);
        } else {
            known.cool(&mut client, &context);
            known.enqueue(&mut client, 3);
            known.assert_settled(&mut client, &context);
        }
        cluster.stop(Stop::Fast);
        cluster.resume();
        client = connect(&cluster);
        known.assert_read(&mut client, &context);
        known.heat(&mut client);
        known.goes_on(&mut client, &context, false);
    }
    known.cool(&mut client, "in the end");
}

fn heat_all(client: &mut Client) {
    for partition in 0..32 {
        hot::heat(client, partition).unwrap_or_else(|error| panic!("{}", describe(&error)));
    }
}

/// Waits until batches were written and settled.
fn until_hot(client: &mut Client) {
    let query = "SELECT count(*) FROM allsource.hot_partitions WHERE settled_batch > 3";
    patience::until_true("batches are settled", || {
        client.query_one(query, &[]).expect(query).get::<_, i64>(0) > 10
    });
}

/// Waits until all is settled. Where something is discarded meanwhile, `es_flush` says so.
fn flush_or_discarded(client: &mut Client) {
    workers_up(client);
    if let Err(error) = flush(client) {
        assert!(describe(&error).contains("discarded"), "{}", describe(&error));
    }
}
