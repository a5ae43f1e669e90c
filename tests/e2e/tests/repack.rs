//! `pg_repack`, which copies a table and catches up through a trigger of its own, while sessions
//! append and workers drain: no acknowledged event is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::workers_up;
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::cluster::{SERVED, STORE};
use allsource_e2e::failure::describe;
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Cluster, Crew, Ledger, Seed, Seen, Tail, Writer, sizes};

const WRITERS: u64 = 3;
const PRODUCERS: u64 = 2;
const STREAMS: usize = 6;
const PAGE: i64 = 1_000;

#[test]
fn leaves_can_be_repacked_under_load() {
    let cluster = Cluster::with_store_and("repack", &[SERVED, "allsource.workers=2", "fsync=off"]);
    cluster.execute(STORE, "CREATE EXTENSION pg_repack");
    workers_up(&mut cluster.store());
    let (ledger, seen, shared) = (Ledger::default(), Seen::default(), shared_streams(STREAMS));
    let seed = Seed::announce();
    let done = AtomicBool::new(false);
    let crew = Crew {
        cluster: &cluster,
        ledger: &ledger,
        shared: &shared,
        seed,
        number: 1,
        producers: PRODUCERS,
    };
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let (mut client, done) = (cluster.store(), &done);
            let mut writer = Writer {
                ledger: &ledger,
                seen: &seen,
                shared: &shared,
                own: format!("own-{number}"),
                rng: seed.rng(number + 1),
                pause_max: Duration::from_millis(2),
            };
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let step = writer.step(&mut client);
                    step.unwrap_or_else(|error| panic!("{}", describe(&error)));
                }
            });
        }
        let end = EndOfWork(&done);
        crew.work_while(|_| false, || repack_all(&cluster));
        drop(end);
    });
    let mut client = cluster.store();
    let content = all_events(&mut client).expect("the content");
    ledger.assert_holds(&content);
    let mut tail = Tail::after(0);
    while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&content);
    assert_verified(&mut client);
}

struct EndOfWork<'a>(&'a AtomicBool);

impl Drop for EndOfWork<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Repacks the leaves in which the shared streams are.
fn repack_all(cluster: &Cluster) {
    let query = "SELECT DISTINCT format('allsource.%s_p%s', t, lpad(p::text, 2, '0')) \
                 FROM unnest($1::text[]) AS s, allsource.es_partition(s) AS p, \
                 unnest(ARRAY['event_streams', 'event_log', 'event_ids']) AS t";
    let rows = cluster.store().query(query, &[&shared_streams(STREAMS)]).expect("the leaves");
    let leaves: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(leaves.len() >= 9, "{leaves:?}");
    for _ in 0..sizes::factor() {
        for leaf in &leaves {
            let mut repack = cluster.tool("pg_repack");
            repack.args(["--no-order", "--no-kill-backend", "--table", leaf, "--dbname", STORE]);
            cluster.run(&mut repack, "pg_repack");
        }
    }
}
