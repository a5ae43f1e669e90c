//! Workers, producers and servers killed while events are on their way. What the server had called
//! durable is there exactly once and the rest at most once, streams have no gaps, and each
//! producer's events are in its order. Where only a worker ends, nothing at all is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{queue_stats, workers_up};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Cluster, Crew, Ledger, Producer, Seed, Tail, failure, patience, sizes};
use postgres::Client;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

const PRODUCERS: u64 = 8;
const SHARED_STREAMS: usize = 12;
/// Acknowledged events of a round before the blow: each round does something.
const EVENTS_BEFORE: usize = 150;
const AFTER_THAT_MS_MAX: u64 = 300;
const TIMES_ENDED: u64 = 7;
const PAGE: i64 = 1_000;
const LAUNCHER: &str = "allsource launcher";
const TWO_WORKERS: &str = "allsource.workers=2";

/// What goes on across all rounds of a test.
struct Story {
    cluster: Cluster,
    seed: Seed,
    ledger: Ledger,
    shared: Vec<String>,
}

#[test]
fn a_killed_worker_loses_nothing_that_was_durable() {
    let story = Story::new("faults-worker", &[TWO_WORKERS]);
    for round in 0..rounds() {
        story.fatal_round(round, |rng| story.cluster.signal("KILL", story.some_worker(rng)));
    }
}

#[test]
fn a_killed_producer_loses_nothing_that_was_durable() {
    let story = Story::new("faults-producer", &[]);
    for round in 0..rounds() {
        story.fatal_round(round, |rng| story.cluster.signal("KILL", story.some_producer(rng)));
    }
}

#[test]
fn a_killed_server_loses_nothing_that_was_durable() {
    let story = Story::new("faults-server", &[TWO_WORKERS]);
    for round in 0..rounds() {
        story.fatal_round(round, |_| {
            story.cluster.stop(Stop::Kill);
            story.cluster.resume();
        });
    }
}

/// No crash here: the queue stays in shared memory, and another process goes on with it. Nobody is
/// told of any failure.
#[test]
fn ended_workers_and_launchers_come_back_and_nothing_is_lost() {
    let story = Story::new("faults-ended", &[TWO_WORKERS]);
    let mut client = story.cluster.store();
    let mut rng = story.seed.rng(0);
    story.crew(0).work_while(
        |_| false,
        || {
            for round in 0..2 * rounds() {
                let by_signal = rng.random_bool(0.5);
                let end = |client: &mut Client, pid: i32| {
                    if by_signal {
                        story.cluster.signal("TERM", pid);
                    } else {
                        terminate(client, pid);
                    }
                };
                story.wait_for_work(story.ledger.acknowledged());
                let workers = workers_up(&mut client);
                let launcher = launcher(&mut client);
                let ended = *workers.choose(&mut rng).expect("a worker");
                if round % 2 == 0 {
                    end(&mut client, ended);
                }
                if round % 4 < 2 {
                    end(&mut client, launcher);
                }
                patience::until_true("another process in place of the ended one", || {
                    let now = queue_stats(&mut client).expect("queue_stats");
                    let replaced = now.iter().all(|row| row.pid.is_some_and(|pid| pid != ended));
                    (replaced || round % 2 == 1)
                        && (self::launcher(&mut client) != launcher || round % 4 >= 2)
                });
            }
        },
    );
    assert_eq!(story.ledger.unsettled(), 0, "events that nobody knows to be durable");
    story.assert_holds();
}

/// A worker that is ended between any two of its batches, or within one, whenever it has come back.
/// It comes back more and more slowly, so not too often.
#[test]
fn a_worker_that_is_ended_all_the_time_drains_all_the_same() {
    let story = Story::new("faults-often", &["allsource.batch_max_events=20"]);
    let mut client = story.cluster.store();
    let mut rng = story.seed.rng(0);
    let ended = story.crew(0).work_while(
        |_| false,
        || {
            let (mut ended, mut last) = (0, 0);
            let before = story.ledger.acknowledged();
            while ended < TIMES_ENDED || story.ledger.acknowledged() < before + EVENTS_BEFORE {
                let pid = queue_stats(&mut client).expect("queue_stats")[0].pid;
                if let Some(pid) = pid.filter(|pid| *pid != last) {
                    thread::sleep(Duration::from_millis(rng.random_range(0..20)));
                    let query = "SELECT pg_terminate_backend($1)";
                    client.execute(query, &[&pid]).expect(query);
                    (ended, last) = (ended + 1, pid);
                }
            }
            ended
        },
    );
    println!("ended {ended} times, {} events", story.ledger.acknowledged());
    assert_eq!(story.ledger.unsettled(), 0, "events that nobody knows to be durable");
    story.assert_holds();
}

/// Ends a process, unless it has gone by itself.
fn terminate(client: &mut Client, pid: i32) {
    let query = "SELECT pg_terminate_backend($1)";
    client.execute(query, &[&pid]).expect(query);
}

fn rounds() -> u64 {
    sizes::number("ALLSOURCE_CRASH_ROUNDS", 3 * sizes::factor())
}

fn launcher(client: &mut Client) -> i32 {
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = $1";
    patience::until("a launcher", || {
        client.query_opt(query, &[&LAUNCHER]).expect("pg_stat_activity").map(|row| row.get(0))
    })
}

impl Story {
    fn new(name: &str, settings: &[&str]) -> Self {
        Self {
            seed: Seed::announce(),
            cluster: Cluster::with_queue(name, settings),
            ledger: Ledger::default(),
            shared: shared_streams(SHARED_STREAMS),
        }
    }

    fn crew(&self, number: u64) -> Crew<'_> {
        Crew {
            cluster: &self.cluster,
            ledger: &self.ledger,
            shared: &self.shared,
            seed: self.seed,
            number,
            producers: PRODUCERS,
        }
    }

    /// Producers at work until a `blow` that ends the whole server.
    fn fatal_round(&self, round: u64, blow: impl FnOnce(&mut StdRng)) {
        let mut rng = self.seed.rng(round * 1_000);
        let struck = AtomicBool::new(false);
        let before = self.ledger.acknowledged();
        let cut_off = |error: &_| struck.load(Ordering::SeqCst) && failure::is_disconnect(error);
        self.crew(round).work_while(cut_off, || {
            self.wait_for_work(before);
            thread::sleep(Duration::from_millis(rng.random_range(0..AFTER_THAT_MS_MAX)));
            struck.store(true, Ordering::SeqCst);
            blow(&mut rng);
        });
        println!("round {round}: {} events acknowledged", self.ledger.acknowledged() - before);
        drop(self.cluster.connect_when_ready(STORE));
        self.assert_holds();
    }

    fn wait_for_work(&self, before: usize) {
        patience::until_true("the producers have done something", || {
            self.ledger.acknowledged() >= before + EVENTS_BEFORE
        });
    }

    fn some_worker(&self, rng: &mut StdRng) -> i32 {
        *workers_up(&mut self.cluster.store()).choose(rng).expect("a worker")
    }

    fn some_producer(&self, rng: &mut StdRng) -> i32 {
        let query = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%es_enqueue%' \
                     AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let rows = self.cluster.store().query(query, &[]).expect("pg_stat_activity");
        rows.choose(rng).expect("a producer").get(0)
    }

    /// The promises, and that it goes on.
    fn assert_holds(&self) {
        let mut client = self.cluster.store();
        self.ledger.assert_holds(&all_events(&mut client).expect("the content"));
        workers_up(&mut client);
        let name = format!("probe-{}", self.ledger.acknowledged());
        let dice = self.seed.rng(0);
        let mut probe = Producer::new(&self.ledger, &self.shared, &name, dice);
        probe.one(&mut client, true).expect("es_enqueue");
        let content = all_events(&mut client).expect("the content");
        self.ledger.assert_holds(&content);
        let mut tail = Tail::after(0);
        while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
        tail.assert_saw_exactly(&content);
        assert_verified(&mut client);
    }
}
