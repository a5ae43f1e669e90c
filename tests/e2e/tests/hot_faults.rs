//! What happens to the files of the sidecar and to its disk changes no answer, and nothing is lost.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{dead_letters, flush, is_well, worker_when, workers_up};
use allsource_e2e::calls::names_in;
use allsource_e2e::cluster::{ONE_WORKER, SERVED, STORE, Stop};
use allsource_e2e::hot::settler;
use allsource_e2e::hot_store::{PARTITIONS, RARELY, SMALL};
use allsource_e2e::scattered::until_applied;
use allsource_e2e::{
    Cluster, EnqueueBatch, HotStore, Scattered, SmallDisk, failure, hot, patience,
};
use postgres::Client;

const STREAMS: i64 = 20;
/// More than a sidecar needs at first.
const SIDECAR_MEGABYTES: u32 = 24;
const TABLE_MEGABYTES: u32 = 80;

/// How the server is while files are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Stopped(Stop),
    Running,
}

/// What happens to the files.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A script, in the folder in which `data.allsource` is.
    Script(&'static str),
    /// Bits are flipped in the files whose names begin or end so.
    Flip(&'static str, &'static [Offset]),
}

/// A place in a file: in so many hundredths of it, or so many bytes before its end.
#[derive(Clone, Copy, Debug)]
enum Offset {
    Percent(u64),
    BeforeEnd(u64),
}

use Damage::{Flip, Script};
use Offset::{BeforeEnd, Percent};

const DAMAGES: [Damage; 20] = [
    Script("rm -rf data.allsource"),
    Script("rm -rf data.allsource/database"),
    Script("rm -f data.allsource/database/*"),
    Script("rm -f data.allsource/database/*.sst"),
    Script("rm -f \"$(ls data.allsource/database/*.sst | head -n 1)\""),
    Script("rm -f data.allsource/database/CURRENT"),
    Script("rm -f data.allsource/database/MANIFEST-*"),
    Script("rm -f data.allsource/database/OPTIONS-* data.allsource/lock"),
    Script("for f in data.allsource/database/*; do truncate -s $(($(stat -c %s $f) / 2)) $f; done"),
    Script("truncate -s 0 data.allsource/database/*"),
    Script("truncate -s 0 data.allsource/database/*.sst"),
    Script("for f in data.allsource/database/*.sst; do truncate -s -1 $f; done"),
    Script("truncate -s -5 data.allsource/database/MANIFEST-*"),
    Script("for f in data.allsource/database/*.sst; do head -c 4096 /dev/zero >>$f; done"),
    Script(
        "for f in data.allsource/database/*; do head -c $(stat -c %s $f) /dev/urandom >$f; done",
    ),
    Flip(".sst", &[Percent(1), Percent(20), Percent(40), Percent(60), Percent(80)]),
    Flip(".sst", &[BeforeEnd(1), BeforeEnd(30), BeforeEnd(100), BeforeEnd(1_000)]),
    Flip("MANIFEST", &[Percent(10), Percent(50), Percent(90)]),
    Flip("CURRENT", &[Percent(50)]),
    Flip("OPTIONS", &[Percent(10), Percent(50)]),
];

impl Damage {
    fn apply(self, cluster: &Cluster) {
        match self {
            Script(script) => {
                cluster.shell(script);
            }
            Flip(name, offsets) => {
                let files = files(cluster, name);
                assert!(!files.is_empty(), "no {name}");
                for file in files {
                    flip(&file, offsets);
                }
            }
        }
    }
}

/// The files of RocksDB whose names begin or end so.
fn files(cluster: &Cluster, name: &str) -> Vec<PathBuf> {
    let dir = cluster.sidecar_dir().join("database");
    let entries = fs::read_dir(dir).expect("the sidecar's files");
    let paths = entries.map(|entry| entry.expect("a file").path());
    let is_it = |path: &PathBuf| {
        let found = path.file_name().expect("a name").to_string_lossy();
        found.starts_with(name) || found.ends_with(name)
    };
    paths.filter(is_it).collect()
}

fn flip(path: &Path, offsets: &[Offset]) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let bytes = file.metadata().expect("its size").len();
    for offset in offsets {
        let at = match offset {
            Percent(percent) => bytes * percent / 100,
            BeforeEnd(before) => bytes.saturating_sub(*before),
        };
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).expect("seek");
        file.read_exact(&mut byte).expect("a byte");
        byte[0] ^= 0x10;
        file.seek(SeekFrom::Start(at)).expect("seek");
        file.write_all(&byte).expect("the byte");
    }
}

#[test]
fn files_damaged_while_the_server_is_stopped_change_no_answer() {
    survive_damages("hot-stopped", Server::Stopped(Stop::Fast), 1);
}

#[test]
fn files_damaged_after_a_crash_change_no_answer() {
    survive_damages("hot-crashed", Server::Stopped(Stop::Kill), 3);
}

#[test]
fn files_damaged_while_the_server_runs_change_no_answer() {
    survive_damages("hot-running", Server::Running, 1);
}

fn survive_damages(name: &str, server: Server, step: usize) {
    let store = HotStore::new(name, &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    for (number, damage) in DAMAGES.into_iter().enumerate().step_by(step) {
        let context = format!("{damage:?}");
        known.enqueue(&mut client, 4);
        if number % 3 == 0 {
            known.settle(&mut client, &context);
        }
        known.enqueue(&mut client, 4);
        store.flush_sidecar(&mut client);
        known.enqueue(&mut client, 1);
        if let Server::Stopped(how) = server {
            store.cluster.stop(how);
        }
        damage.apply(&store.cluster);
        if server != Server::Running {
            store.cluster.resume();
            client = store.cluster.store();
            workers_up(&mut client);
        }
        known.goes_on(&mut client, &context, number % 2 == 0);
    }
    known.cool(&mut client, "in the end");
}

/// A transaction with one snapshot, which is older than all of that, reads the same for as long as it
/// lives: what has been settled since, too, and with a sidecar that was made anew since.
#[test]
fn an_old_snapshot_reads_the_same_while_files_are_damaged() {
    let store = HotStore::new("hot-old-snapshot", &[]);
    let (mut client, mut old) = (store.cluster.store(), store.cluster.store());
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.enqueue(&mut client, 3);
    known.settle(&mut client, "at first");
    known.enqueue(&mut client, 5);
    until_applied(&mut client, &PARTITIONS);
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("BEGIN");
    let before = known.clone();
    before.assert_read(&mut old, "at first");
    for (number, damage) in DAMAGES.into_iter().enumerate().step_by(4) {
        let context = format!("{damage:?}");
        known.enqueue(&mut client, 2);
        store.flush_sidecar(&mut client);
        before.assert_read(&mut old, &context);
        damage.apply(&store.cluster);
        before.assert_read(&mut old, &context);
        known.goes_on(&mut client, &context, number % 8 == 0);
        before.assert_read(&mut old, &context);
        hot::rebuild(&mut client).expect("es_sidecar_rebuild");
        before.assert_read(&mut old, &context);
        known.assert_read(&mut client, &context);
        // Another process in place of the settler.
        let query = "SELECT pg_terminate_backend($1, 10000)";
        let pid = settler(&mut client);
        client.execute(query, &[&pid]).expect(query);
        before.assert_read(&mut old, &context);
        known.enqueue(&mut client, 1);
        known.settle(&mut client, &context);
        before.assert_read(&mut old, &context);
    }
    known.cool(&mut client, "in the end");
    before.assert_read(&mut old, "cold");
    known.heat(&mut client);
    known.enqueue(&mut client, 1);
    before.assert_read(&mut old, "hot again");
    old.batch_execute("COMMIT").expect("COMMIT");
    known.assert_read(&mut old, "in the end");
    known.cool(&mut client, "in the end");
}

/// What RocksDB has written is replaced by what it had written some time before, in parts or as a whole.
#[test]
fn older_files_change_no_answer() {
    let store = HotStore::new("hot-older", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.enqueue(&mut client, 4);
    known.settle(&mut client, "at first");
    known.enqueue(&mut client, 4);
    store.flush_sidecar(&mut client);
    client = store.while_stopped(Stop::Fast, "cp -a data.allsource old");
    for script in [
        "rm -rf data.allsource && cp -a old data.allsource",
        "rm -f data.allsource/database/MANIFEST-*; cp -a old/database data.allsource",
        "rm -f data.allsource/database/*.sst; cp -a old/database/*.sst data.allsource/database",
        "cp -a old/database/CURRENT data.allsource/database",
    ] {
        for server in [Server::Stopped(Stop::Fast), Server::Running] {
            let context = format!("{server:?}: {script}");
            known.enqueue(&mut client, 3);
            known.settle(&mut client, &context);
            known.enqueue(&mut client, 3);
            store.flush_sidecar(&mut client);
            if server == Server::Running {
                store.cluster.shell(script);
                known.goes_on(&mut client, &context, false);
                store.cluster.shell(script);
                client = store.while_stopped(Stop::Kill, "");
            } else {
                client = store.while_stopped(Stop::Fast, script);
            }
            known.goes_on(&mut client, &context, false);
        }
    }
    known.cool(&mut client, "in the end");
}

/// What has become of a store after the moment to which the other part is taken back.
#[derive(Clone, Copy, Debug)]
enum Future {
    TakenIn,
    Settled,
    SettledAndTakenIn,
    Cooled,
}

const FUTURES: [Future; 4] =
    [Future::TakenIn, Future::Settled, Future::SettledAndTakenIn, Future::Cooled];

impl Future {
    /// Comes, with more batches than there will be afterwards.
    fn comes(self, store: &HotStore, client: &mut Client, known: &mut Scattered) {
        known.enqueue(client, 20);
        if !matches!(self, Self::TakenIn) {
            known.settle(client, "in the future");
            store.until_forgotten(client);
        }
        match self {
            Self::SettledAndTakenIn => known.enqueue(client, 20),
            Self::Cooled => known.cool(client, "in the future"),
            Self::TakenIn | Self::Settled => {}
        }
        if !matches!(self, Self::Cooled) {
            store.flush_sidecar(client);
        }
    }
}

/// Somebody puts back the data directory as it was some time ago, but not what is beside it: the sidecar
/// knows batches that have never been.
#[test]
fn a_sidecar_newer_than_the_data_changes_no_answer() {
    let store = HotStore::new("hot-newer", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    for future in FUTURES {
        let context = format!("{future:?}");
        known.enqueue(&mut client, 2);
        known.settle(&mut client, &context);
        known.enqueue(&mut client, 5);
        let past = known.clone();
        client = store.while_stopped(Stop::Fast, "rm -rf old && cp -a data old");
        future.comes(&store, &mut client, &mut known);
        known.back_to(&past);
        client = store.while_stopped(Stop::Fast, "rm -rf data && cp -a old data");
        known.goes_on(&mut client, &context, false);
    }
    known.cool(&mut client, "in the end");
}

/// Two servers with stores of the same shape and other contents exchange their sidecars.
#[test]
fn files_of_another_cluster_change_no_answer() {
    let stores = [HotStore::new("hot-one", &[]), HotStore::new("hot-other", &[])];
    let mut clients = [&stores[0], &stores[1]].map(|store| store.cluster.store());
    let mut knowns =
        clients.each_mut().map(|client| Scattered::heated(client, &PARTITIONS, STREAMS));
    let first = knowns[0].clone();
    knowns[1].differ_from(&first);
    for server in [Server::Stopped(Stop::Fast), Server::Running] {
        let context = format!("{server:?}");
        for (index, store) in stores.iter().enumerate() {
            knowns[index].enqueue(&mut clients[index], 6);
            store.flush_sidecar(&mut clients[index]);
            store.cluster.shell("rm -rf mine && cp -a data.allsource mine");
        }
        for (index, store) in stores.iter().enumerate() {
            let other = stores[1 - index].cluster.dir().display();
            let script = format!("rm -rf data.allsource && cp -a {other}/mine data.allsource");
            clients[index] = match server {
                Server::Stopped(how) => store.while_stopped(how, &script),
                Server::Running => {
                    store.cluster.shell(&script);
                    knowns[index].goes_on(&mut clients[index], &context, false);
                    store.while_stopped(Stop::Kill, &script)
                }
            };
            knowns[index].goes_on(&mut clients[index], &context, index == 0);
        }
    }
    for (known, client) in knowns.iter().zip(&mut clients) {
        known.cool(client, "in the end");
    }
}

/// A server and a copy of it, both of which have gone on, are the same to each other's sidecars: only
/// what is in the batches tells them apart.
#[test]
fn files_of_a_copied_cluster_change_no_answer() {
    let original = HotStore::new("hot-original", &["wal_level=replica", "max_wal_senders=4"]);
    let mut client = original.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.enqueue(&mut client, 5);
    known.settle(&mut client, "the original");
    known.enqueue(&mut client, 5);
    let copy = HotStore { cluster: original.cluster.backup("hot-copy", &["-X", "stream"]) };
    let mut settings = vec![SERVED, ONE_WORKER, RARELY];
    settings.extend(SMALL);
    copy.cluster.start_again(&settings);
    let mut copied = copy.cluster.connect_when_ready(STORE);
    workers_up(&mut copied);
    let mut copy_known = known.clone();
    copy_known.differ_from(&known);
    for future in FUTURES {
        let context = format!("{future:?}");
        // The copy goes on by less than the original, so that it will come to batches of the same numbers.
        copy_known.enqueue(&mut copied, 3);
        future.comes(&original, &mut client, &mut known);
        original.cluster.stop(Stop::Fast);
        let other = original.cluster.dir().display();
        let script = format!("rm -rf data.allsource && cp -a {other}/data.allsource .");
        copied = copy.while_stopped(Stop::Fast, &script);
        copy_known.goes_on(&mut copied, &context, false);
        client = original.resume();
        known.heat(&mut client);
    }
    copy_known.cool(&mut copied, "the copy in the end");
    known.cool(&mut client, "the original in the end");
}

/// The sidecar cannot be written, or not even be opened.
#[test]
fn a_sidecar_that_cannot_be_written_is_done_without() {
    let store = HotStore::new("hot-readonly", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    for (wreck, repair, is_away) in [
        (
            "chmod 500 data.allsource/database data.allsource",
            "chmod 700 data.allsource data.allsource/database",
            true,
        ),
        ("chmod 0 data.allsource", "chmod 700 data.allsource", true),
        ("rm -rf data.allsource && echo >data.allsource", "rm data.allsource", true),
        // They are replaced.
        ("chmod 400 data.allsource/database/*", "true", false),
    ] {
        known.enqueue(&mut client, 3);
        store.flush_sidecar(&mut client);
        store.cluster.shell(wreck);
        for restarted in [false, true] {
            let context = format!("{wreck}, restarted: {restarted}");
            if restarted {
                client = store.while_stopped(Stop::Fast, "");
            }
            known.assert_read(&mut client, &context);
            known.enqueue(&mut client, 3);
            known.append(&mut client, 5);
            known.assert_read(&mut client, &context);
            known.settle(&mut client, &context);
            known.enqueue(&mut client, 3);
            known.assert_read(&mut client, &context);
        }
        if is_away {
            assert!(!is_well(&mut client, "sidecar"), "{wreck}");
        }
        assert!(is_well(&mut client, "unsettled events"), "{wreck}");
        store.cluster.shell(repair);
        known.goes_on(&mut client, repair, true);
        assert!(is_well(&mut client, "sidecar"), "{repair}");
    }
    known.cool(&mut client, "in the end");
}

/// No room is left for the sidecar, while PostgreSQL has some.
#[test]
fn a_full_disk_of_the_sidecar_is_done_without() {
    let store = HotStore::new("hot-disk", &[]);
    let Some(disk) = SmallDisk::mount(&store.cluster, "hot-disk", SIDECAR_MEGABYTES) else {
        return;
    };
    store.cluster.stop(Stop::Fast);
    let directory = format!("allsource.sidecar_directory={}/sidecar", disk.path().display());
    let mut settings = vec![SERVED, ONE_WORKER, RARELY, &directory];
    settings.extend(SMALL);
    store.cluster.start_again(&settings);
    let mut client = store.cluster.connect_when_ready(STORE);
    workers_up(&mut client);
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    for round in 0..2 {
        let context = format!("round {round}");
        known.filler_bytes = 200;
        known.enqueue(&mut client, 3);
        until_applied(&mut client, &PARTITIONS);
        let filler = disk.fill();
        // More than it can keep in memory.
        known.filler_bytes = 20_000;
        known.enqueue(&mut client, 8);
        if round == 1 {
            client = store.while_stopped(Stop::Kill, "");
        }
        known.assert_read(&mut client, &context);
        known.append(&mut client, 5);
        known.settle(&mut client, &context);
        let pid = settler(&mut client);
        let query = "SELECT pg_terminate_backend($1, 20000)";
        assert!(client.query_one(query, &[&pid]).expect(query).get::<_, bool>(0), "{context}");
        known.filler_bytes = 200;
        known.enqueue(&mut client, 3);
        known.assert_read(&mut client, &context);
        fs::remove_file(filler).expect("to make room");
        known.goes_on(&mut client, &context, false);
    }
    known.cool(&mut client, "in the end");
}

/// No room is left for PostgreSQL's tables, while the sidecar has some: events wait in the queue, or stay
/// in their batches, until there is.
#[test]
fn a_full_disk_of_the_tables_only_delays() {
    // What is settled leaves no room for what comes.
    let mut settings = vec![SERVED, ONE_WORKER, RARELY, "autovacuum=off"];
    settings.extend(SMALL);
    let cluster = Cluster::start("hot-tables", &settings);
    let Some(disk) = SmallDisk::mount(&cluster, "hot-tables", TABLE_MEGABYTES) else { return };
    let tables = disk.path().join("tables");
    fs::create_dir(&tables).expect("a folder for the tables");
    let owner = fs::metadata(disk.path()).expect("the disk");
    chown(&tables, Some(owner.uid()), Some(owner.gid())).expect("the server's folder");
    let location = tables.display();
    cluster.execute("postgres", &format!("CREATE TABLESPACE small LOCATION '{location}'"));
    cluster.execute("postgres", &format!("CREATE DATABASE {STORE} TABLESPACE small"));
    cluster.execute(STORE, "CREATE EXTENSION allsource");
    let store = HotStore { cluster };
    let mut client = store.cluster.store();
    workers_up(&mut client);
    let mut known = Scattered::heated(&mut client, &PARTITIONS, STREAMS);
    known.filler_bytes = 6_000;
    known.enqueue(&mut client, 5);
    until_applied(&mut client, &PARTITIONS);
    let filler = disk.fill();
    let refused = hot::settle_within(&mut client, None, "2s").expect_err("there is no room");
    assert_eq!(failure::sqlstate(&refused), failure::CANCELLED);
    let told = failure::describe(&refused);
    assert!(told.contains("No space left on device"), "{told}");
    known.assert_read(&mut client, "no room to settle");
    let items: Vec<_> = (0..40).map(|_| known.next_items()).collect();
    for items in &items {
        EnqueueBatch::of(items).send(&mut client).expect("es_enqueue_batch");
    }
    worker_when(&mut client, "the worker finds no room", |stats| stats.state == "backing off");
    known.assert_read(&mut client, "no room to write batches");
    fs::remove_file(filler).expect("to make room");
    flush(&mut client).expect("es_flush");
    items.iter().for_each(|items| known.enter(items));
    known.goes_on(&mut client, "room again", true);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), []);
    known.cool(&mut client, "in the end");
    drop(client);
    drop(store);
    drop(disk);
}

/// A sidecar of another time of the store is opened, and somebody has locked the batches of one partition
/// before they are compared with it: it answers nothing about the others either before they are.
#[test]
fn a_sidecar_answers_nothing_before_it_is_compared() {
    let store = HotStore::new("hot-compared", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, 5);
    known.enqueue(&mut client, 2);
    until_applied(&mut client, &PARTITIONS);
    let past = known.clone();
    client = store.while_stopped(Stop::Fast, "cp -a data old");
    known.enqueue(&mut client, 20);
    store.flush_sidecar(&mut client);
    drop(client);
    // There is none at first.
    let script = "rm -rf data; mv old data; mv data.allsource future; echo >data.allsource";
    client = store.while_stopped(Stop::Fast, script);
    known.back_to(&past);
    known.enqueue(&mut client, 3);
    known.assert_read(&mut client, "without a sidecar");
    let query = "SELECT last_error IS NOT NULL FROM allsource.es_sidecar_stats()";
    patience::until_true("it cannot be opened", || {
        client.query_one(query, &[]).expect(query).get(0)
    });
    let mut locker = store.cluster.store();
    locker
        .batch_execute("BEGIN; LOCK TABLE allsource.hot_batches_p03 IN ACCESS EXCLUSIVE MODE")
        .expect("LOCK TABLE");
    store.cluster.shell("rm data.allsource; mv future data.allsource");
    let query = "SELECT serving FROM allsource.es_sidecar_stats()";
    let names = names_in(&mut client, PARTITIONS[1], 5);
    let mut reader = store.cluster.store();
    let read = |reader: &mut Client| -> Vec<i64> {
        let query = "SELECT (e.payload ->> 'n')::int8 FROM unnest($1::text[]) AS s (name), \
                     LATERAL allsource.es_read(s.name) AS e";
        reader.query(query, &[&names]).expect(query).iter().map(|row| row.get(0)).collect()
    };
    let before = read(&mut reader);
    patience::until_true("it is opened", || {
        assert_eq!(read(&mut reader), before);
        client.query_one(query, &[]).expect(query).get(0)
    });
    for _ in 0..20 {
        assert_eq!(read(&mut reader), before);
        thread::sleep(Duration::from_millis(20));
    }
    locker.batch_execute("COMMIT").expect("COMMIT");
    known.goes_on(&mut client, "compared", false);
    known.cool(&mut client, "in the end");
}
