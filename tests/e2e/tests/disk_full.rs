//! No space is left where the store's tables are: nothing is lost, and the worker goes on as soon as
//! there is room again. The tables lie in a small file system of the test's own, which only root can
//! make; write-ahead log lies elsewhere, because a server that cannot write that stops.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use allsource_e2e::bulk::{dead_letters, flush, flush_within, is_well, worker_when, workers_up};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, STORE};
use allsource_e2e::failure::{CANCELLED, refusal};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Cluster, EnqueueBatch, Ledger, Producer, Seed, SmallDisk};

const MEGABYTES: u32 = 48;
const BATCH_EVENTS: usize = 2_000;

#[test]
fn a_full_disk_only_delays() {
    let cluster = Cluster::start("disk", &[SERVED, ONE_WORKER]);
    let Some(disk) = SmallDisk::mount(&cluster, "disk", MEGABYTES) else { return };
    let tables = disk.path().join("tables");
    fs::create_dir(&tables).expect("a folder for the tables");
    let owner = fs::metadata(disk.path()).expect("the disk");
    chown(&tables, Some(owner.uid()), Some(owner.gid())).expect("the server's folder");
    let location = tables.display();
    cluster.execute("postgres", &format!("CREATE TABLESPACE small LOCATION '{location}'"));
    cluster.execute("postgres", &format!("CREATE DATABASE {STORE} TABLESPACE small"));
    cluster.execute(STORE, "CREATE EXTENSION allsource");
    let mut client = cluster.store();
    workers_up(&mut client);

    let (ledger, shared) = (Ledger::default(), shared_streams(50));
    let mut producer = Producer::new(&ledger, &shared, "producer", Seed::announce().rng(1));
    producer.one(&mut client, true).expect("es_enqueue");
    for _ in 0..2 {
        let filler = disk.fill();
        let (tickets, items) = producer.items(BATCH_EVENTS);
        EnqueueBatch::of(&items).send(&mut client).expect("es_enqueue_batch");
        producer.enter(tickets, false);
        let failing = worker_when(&mut client, "the worker finds no room", |stats| {
            stats.state == "backing off"
        });
        let error = failing.last_error.expect("an error");
        assert!(error.contains("No space left on device"), "{error}");
        assert!(!is_well(&mut client, "workers"));
        assert_eq!(refusal(flush_within(&mut client, "100ms")), CANCELLED);
        fs::remove_file(filler).expect("to make room");
        producer.flush(&mut client).expect("es_flush");
        assert_eq!(ledger.unsettled(), 0);
        ledger.assert_holds(&all_events(&mut client).expect("the content"));
        assert_verified(&mut client);
    }
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), []);
    flush(&mut client).expect("es_flush");
    drop(client);
    drop(cluster);
    drop(disk);
}
