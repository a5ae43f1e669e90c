//! No space is left where the store's tables are: nothing is lost, and the worker goes on as soon as
//! there is room again. The tables lie in a small file system of the test's own, which only root can
//! make; write-ahead log lies elsewhere, because a server that cannot write that stops.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use allsource_e2e::bulk::{dead_letters, flush, flush_within, is_well, worker_when, workers_up};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, STORE};
use allsource_e2e::failure::{CANCELLED, refusal};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Cluster, EnqueueBatch, Ledger, Producer, Seed};

const SIZE: &str = "size=48m";
const BATCH_EVENTS: usize = 2_000;
const BLOCK_BYTES: usize = 8_192;

/// A file system in memory, mounted as long as the value lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount anything.
    fn mount(dir: &Path) -> Option<Self> {
        fs::create_dir_all(dir).expect("a folder to mount at");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(dir);
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(dir.to_owned()))
    }

    /// Leaves no room. Gives the file that takes it.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        while file.write_all(&[0; BLOCK_BYTES]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that could not be removed may still be in there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_only_delays() {
    let cluster = Cluster::start("disk", &[SERVED, ONE_WORKER]);
    let socket = cluster.socket();
    let run = socket.parent().expect("the socket's folder");
    // Beside the data, where the server may go.
    let dir = std::env::temp_dir().join(format!("allsource-e2e-disk-{}", std::process::id()));
    let Some(disk) = SmallDisk::mount(&dir) else {
        println!("skipped: this process may not mount a file system");
        return;
    };
    let owner = fs::metadata(run).expect("the socket's folder");
    let tables = dir.join("tables");
    fs::create_dir(&tables).expect("a folder for the tables");
    for folder in [&dir, &tables] {
        chown(folder, Some(owner.uid()), Some(owner.gid())).expect("the server's folder");
    }
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
