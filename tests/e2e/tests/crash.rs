//! Servers killed under load. Afterwards all that was acknowledged is there exactly once,
//! nothing is half-written, no position that anybody has seen is given to another event, and
//! versions have no gaps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use allsource_e2e::calls::{all_events, assert_verified, safe_position};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::event::NewEvent;
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Append, Batch, BatchItem, Cluster, Ledger, Seed, Seen, Tail, Writer, failure, patience, sizes,
};
use postgres::{Client, Error};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

const WRITERS: u64 = 10;
const SHARED_STREAMS: usize = 12;
const PAUSE_MAX: Duration = Duration::from_millis(8);
/// Acknowledged tickets of a round before the server may be killed: each round does something.
const TICKETS_BEFORE_KILL: usize = 40;
const AFTER_THAT_MS_MAX: u64 = 400;
const PAGE: i64 = 500;
const BURNERS: u64 = 3;
/// Some of these are more than a block of reserved positions.
const BURNT_EVENTS: usize = 15_000;
const APPENDS_BEFORE_KILL: u64 = 12;
const BURNING_ROUNDS_MAX: u64 = 2;

/// What goes on across all rounds of a test.
#[derive(Default)]
struct Story {
    ledger: Ledger,
    seen: Seen,
}

#[test]
fn a_killed_server_keeps_its_promises() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("crash");
    let story = Story::default();
    for round in 0..rounds() {
        let kill = |_: &mut StdRng| cluster.stop(Stop::Kill);
        story.round(&cluster, seed, round, kill);
        cluster.resume();
        story.assert_kept(&cluster);
    }
}

/// One killed process makes the postmaster end all others and begin anew: shared memory is made
/// from scratch, as after a crash of the whole server.
#[test]
fn a_killed_backend_does_no_harm() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("crash-backend");
    let story = Story::default();
    for round in 0..rounds() {
        let kill = |rng: &mut StdRng| {
            let pid = some_process(&cluster, rng);
            cluster.signal("KILL", pid);
        };
        story.round(&cluster, seed, 100 + round, kill);
        drop(cluster.connect_when_ready(STORE));
        story.assert_kept(&cluster);
    }
}

#[test]
fn positions_go_on_after_every_kind_of_restart() {
    let cluster = Cluster::with_store("crash-restart");
    let story = Story::default();
    for how in [Stop::Fast, Stop::Kill, Stop::Immediate, Stop::Fast, Stop::Kill] {
        let mut client = cluster.store();
        let mut lost = cluster.store();
        let doomed = story.ledger.doomed(1);
        lost.batch_execute("BEGIN").expect("BEGIN");
        Append::to("lost", &doomed.events).one(&mut lost).expect("an append");
        let query = "SELECT max(position) FROM allsource.events";
        let position = lost.query_one(query, &[]).expect("its position").get(0);
        story.seen.holder(position, doomed.number(), 0);
        story.append_acknowledged(&mut client);
        story.seen.height(safe_position(&mut client).expect("es_safe_position"));
        cluster.stop(how);
        cluster.resume();
        story.assert_kept(&cluster);
    }
}

/// Positions are reserved ahead in blocks. Appends that are rolled back use up many blocks, and
/// the server is killed while they do.
#[test]
fn reserved_blocks_that_were_used_up_are_not_given_again() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("crash-blocks");
    let story = Story::default();
    let burnt: Vec<NewEvent> = vec![NewEvent::new("burnt", json!(0)); BURNT_EVENTS];
    for round in 0..rounds().min(BURNING_ROUNDS_MAX) {
        let (killed, appends) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..BURNERS {
                let (story, burnt, killed, appends) = (&story, &burnt, &killed, &appends);
                let mut client = cluster.store();
                scope.spawn(move || {
                    let deadline = Instant::now() + 2 * sizes::wait_max();
                    loop {
                        assert!(Instant::now() < deadline, "nobody has killed the server");
                        if let Err(error) = story.burn(&mut client, number, burnt) {
                            let expected = killed.load(Ordering::SeqCst);
                            assert!(
                                expected && failure::is_disconnect(&error),
                                "before the kill: {}",
                                failure::describe(&error)
                            );
                            return;
                        }
                        appends.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            patience::until_true("some blocks are used up", || {
                appends.load(Ordering::SeqCst) >= APPENDS_BEFORE_KILL
            });
            let ms = seed.rng(round).random_range(0..AFTER_THAT_MS_MAX);
            thread::sleep(Duration::from_millis(ms));
            killed.store(true, Ordering::SeqCst);
            cluster.stop(Stop::Kill);
        });
        println!("{} positions seen", story.seen.highest());
        cluster.resume();
        story.assert_kept(&cluster);
    }
}

/// What was rolled back makes nobody write the log, and the process that would do it by and by is
/// stopped. A position that somebody has seen must be safe from a crash all the same.
#[test]
fn positions_are_durable_before_anybody_sees_them() {
    let settings = ["wal_buffers=64MB", "autovacuum=off", "bgwriter_lru_maxpages=0"];
    let cluster = Cluster::with_store_and("crash-durable", &settings);
    let story = Story::default();
    let burnt: Vec<NewEvent> = vec![NewEvent::new("burnt", json!(0)); BURNT_EVENTS];
    story.assert_kept(&cluster);
    for _ in 0..2 {
        let mut client = cluster.store();
        let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        cluster.signal("STOP", client.query_one(query, &[]).expect("the walwriter").get(0));
        for _ in 0..APPENDS_BEFORE_KILL {
            let mut transaction = client.transaction().expect("BEGIN");
            Append::to("burner", &burnt).many(&mut transaction).expect("an append");
            transaction.rollback().expect("ROLLBACK");
        }
        story.seen.height(safe_position(&mut client).expect("es_safe_position"));
        cluster.stop(Stop::Kill);
        println!("{} positions seen", story.seen.highest());
        cluster.resume();
        story.assert_kept(&cluster);
    }
}

/// A second crash while the server has just come up and nothing was appended in between.
#[test]
fn crash_after_crash_gives_no_position_twice() {
    let cluster = Cluster::with_store("crash-twice");
    let story = Story::default();
    story.append_acknowledged(&mut cluster.store());
    for _ in 0..3 {
        let safe = safe_position(&mut cluster.store()).expect("es_safe_position");
        story.seen.height(safe);
        cluster.stop(Stop::Kill);
        cluster.resume();
    }
    story.assert_kept(&cluster);
}

fn rounds() -> u64 {
    sizes::number("ALLSOURCE_CRASH_ROUNDS", 4 * sizes::factor())
}

/// Any process of the server that clients can learn of: a client's own, or the checkpointer, the
/// writer of WAL, a worker.
fn some_process(cluster: &Cluster, rng: &mut StdRng) -> i32 {
    // Not those of autovacuum: they come and go by themselves.
    let query = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                 AND backend_type NOT LIKE 'autovacuum worker' ORDER BY pid";
    let rows = cluster.store().query(query, &[]).expect("the processes");
    rows.choose(rng).expect("a process").get(0)
}

impl Story {
    /// Writers and a reader at work, until `kill` ends the server under them.
    fn round(&self, cluster: &Cluster, seed: Seed, round: u64, kill: impl FnOnce(&mut StdRng)) {
        let mut rng = seed.rng(round * 1_000);
        let shared = shared_streams(SHARED_STREAMS);
        let killed = AtomicBool::new(false);
        let before = self.ledger.acknowledged();
        thread::scope(|scope| {
            for number in 0..WRITERS {
                let mut writer = Writer {
                    ledger: &self.ledger,
                    seen: &self.seen,
                    shared: &shared,
                    own: format!("own-{number}"),
                    rng: seed.rng(round * 1_000 + number + 1),
                    pause_max: PAUSE_MAX,
                };
                let mut client = cluster.store();
                let killed = &killed;
                scope.spawn(move || work_until_killed(&mut writer, &mut client, killed));
            }
            let mut client = cluster.store();
            scope.spawn(move || self.read_until_killed(&mut client));
            patience::until_true("the writers have done something", || {
                self.ledger.acknowledged() >= before + TICKETS_BEFORE_KILL
            });
            thread::sleep(Duration::from_millis(rng.random_range(0..AFTER_THAT_MS_MAX)));
            killed.store(true, Ordering::SeqCst);
            kill(&mut rng);
        });
        println!("round {round}: {} tickets acknowledged", self.ledger.acknowledged() - before);
    }

    /// Reads the tail and safe positions, and remembers every position, until it is cut off.
    fn read_until_killed(&self, client: &mut Client) {
        let mut tail = Tail::after(0);
        let deadline = Instant::now() + 2 * sizes::wait_max();
        loop {
            assert!(Instant::now() < deadline, "nobody has killed the server");
            let known = tail.events().len();
            let read = safe_position(client).and_then(|safe| {
                self.seen.height(safe);
                tail.poll(client, PAGE)
            });
            match read {
                Ok(_) => self.seen.committed(&tail.events()[known..]),
                Err(error) => {
                    assert!(failure::is_disconnect(&error), "{}", failure::describe(&error));
                    return;
                }
            }
        }
    }

    /// A short append that is committed, and a long one that is rolled back.
    fn burn(&self, client: &mut Client, number: u64, burnt: &[NewEvent]) -> Result<(), Error> {
        let mut ticket = self.ledger.open(1);
        let stream = format!("burner-{number}");
        let item =
            BatchItem { stream: stream.clone(), expected: None, event: ticket.events[0].clone() };
        let appended = Batch::of(&[item]).append(client)?;
        self.seen.holder(appended[0].first_position, ticket.number(), 0);
        ticket.place(0, 1, &stream, appended[0].first_version);
        self.ledger.acknowledge(ticket);
        let mut transaction = client.transaction()?;
        Append::to(&stream, burnt).many(&mut transaction)?;
        let query = "SELECT max(position) FROM allsource.events WHERE stream_id = $1";
        let highest = transaction.query_one(query, &[&stream])?.get(0);
        self.seen.height(highest);
        transaction.rollback()
    }

    fn append_acknowledged(&self, client: &mut Client) -> i64 {
        let mut ticket = self.ledger.open(2);
        let version = Append::to("probe", &ticket.events).many(client).expect("an append");
        ticket.place(0, 2, "probe", version);
        self.ledger.acknowledge(ticket);
        version
    }

    /// The promises, right after the server is up again.
    fn assert_kept(&self, cluster: &Cluster) {
        let highest = self.seen.highest();
        let mut client = cluster.store();
        let survived = all_events(&mut client).expect("the content");
        self.ledger.assert_holds(&survived);
        // Also checks that what is at a position now is what was there when somebody saw it.
        self.seen.committed(&survived);

        let version = self.append_acknowledged(&mut client);
        let content = all_events(&mut client).expect("the content");
        let fresh = &content[survived.len()..];
        assert_eq!(fresh.len(), 2, "the new events are the last ones");
        assert!(
            fresh[0].position > highest,
            "new position {} is not above {highest}, which was seen before the crash",
            fresh[0].position
        );
        assert_eq!(fresh[1].version, version);
        self.ledger.assert_holds(&content);
        self.seen.committed(&content);
        let mut tail = Tail::after(0);
        while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
        tail.assert_saw_exactly(&content);
        self.seen.assert_still_there(&content);
        assert_verified(&mut client);
    }
}

fn work_until_killed(writer: &mut Writer<'_>, client: &mut Client, killed: &AtomicBool) {
    let deadline = Instant::now() + 2 * sizes::wait_max();
    loop {
        assert!(Instant::now() < deadline, "nobody has killed the server");
        if let Err(error) = writer.step(client) {
            let expected = killed.load(Ordering::SeqCst) && failure::is_disconnect(&error);
            assert!(expected, "before the kill: {}", failure::describe(&error));
            return;
        }
    }
}
