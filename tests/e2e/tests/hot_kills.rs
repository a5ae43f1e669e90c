//! Processes that write and settle batches are killed, stopped and terminated, at random and at each
//! step: nothing that was acknowledged is lost, nothing is there twice, and the order is kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{flush, workers_up};
use allsource_e2e::calls::{all_events, assert_verified, names_in};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::hot::{second_settler, settler};
use allsource_e2e::hot_store::{OFTEN, PARTITIONS};
use allsource_e2e::scattered::until_applied;
use allsource_e2e::{
    Cluster, Crew, EnqueueBatch, HotStore, Ledger, Scattered, Seed, failure, hot, patience, sizes,
};
use postgres::Client;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

const STREAMS: i64 = 20;
/// What is killed at random is busy all the time, in these partitions.
const SMALL_BATCHES: &str = "allsource.batch_max_events=40";
const KILLED_UNDER: [i32; 3] = [3, 17, 30];
const PRODUCERS: u64 = 5;
const ACKNOWLEDGED_BEFORE_KILL: usize = 150;
const AFTER_THAT_MS_MAX: u64 = 400;

/// The settler stands still, and answers nobody, while others read and write.
#[test]
fn a_settler_that_stands_still_holds_up_nobody() {
    let store = HotStore::new("hot-still", &[]);
    let mut client = store.cluster.store();
    // Each look for a tail is answered after a second.
    let mut known = Scattered::heated(&mut client, &PARTITIONS, 3);
    known.enqueue(&mut client, 5);
    until_applied(&mut client, &PARTITIONS);
    let pid = settler(&mut client);
    store.cluster.signal("STOP", pid);
    known.assert_read(&mut client, "stopped");
    known.append(&mut client, 2);
    known.enqueue(&mut client, 5);
    known.assert_read(&mut client, "stopped");
    let refused = hot::settle_within(&mut client, None, "1s").expect_err("nobody settles");
    assert_eq!(failure::sqlstate(&refused), failure::CANCELLED);
    store.cluster.signal("CONT", pid);
    known.goes_on(&mut client, "continued", true);
    known.cool(&mut client, "in the end");
}

#[test]
fn a_killed_settler_loses_nothing() {
    survive_kills("hot-kill-settler", |cluster, _| {
        let pid = settler(&mut cluster.store());
        cluster.signal("KILL", pid);
    });
}

#[test]
fn a_killed_second_settler_loses_nothing() {
    survive_kills("hot-kill-second", |cluster, _| {
        let pid = second_settler(&mut cluster.store());
        cluster.signal("KILL", pid);
    });
}

/// Holds the second settler, and nobody else, as long as there is a row in `breakpoint.held`.
const HOLD_SECOND: &str = "
    CREATE SCHEMA breakpoint;
    CREATE TABLE breakpoint.held AS SELECT;
    INSERT INTO breakpoint.held DEFAULT VALUES;
    GRANT USAGE ON SCHEMA breakpoint TO PUBLIC;
    CREATE FUNCTION breakpoint.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM breakpoint.held) AND EXISTS
              (SELECT FROM pg_stat_activity
                WHERE pid = pg_backend_pid() AND backend_type = 'allsource second settler')
        LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        RETURN NULL;
    END $$";

/// What the second settler is in the middle of a pass over one of two partitions.
fn hold_second_settler(client: &mut Client) -> i32 {
    client.batch_execute(HOLD_SECOND).expect(HOLD_SECOND);
    for partition in PARTITIONS {
        client
            .batch_execute(&format!(
                "CREATE TRIGGER breakpoint AFTER INSERT ON allsource.event_log_p{partition:02} \
                     FOR EACH ROW EXECUTE FUNCTION breakpoint.hold(); \
                 ALTER TABLE allsource.event_log_p{partition:02} ENABLE ALWAYS TRIGGER breakpoint"
            ))
            .expect("a trigger");
    }
    let refused = hot::settle_within(client, None, "2s").expect_err("one partition is held");
    assert_eq!(failure::sqlstate(&refused), failure::CANCELLED);
    let query = "SELECT count(*) FROM allsource.hot_partitions_status WHERE events > 0";
    patience::until_true("the other partition is settled", || {
        client.query_one(query, &[]).expect(query).get::<_, i64>(0) == 1
    });
    second_settler(client)
}

fn release_second_settler(client: &mut Client) {
    client.batch_execute("DELETE FROM breakpoint.held").expect("DELETE");
}

/// It holds up one partition, and nobody else makes a pass over that one meanwhile.
#[test]
fn a_second_settler_that_is_held_may_be_released_or_ended() {
    let store = HotStore::new("hot-second", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, 3);
    let ending = "SELECT pg_terminate_backend($1, 20000)";
    for released in [true, false] {
        known.enqueue(&mut client, 5);
        let second = hold_second_settler(&mut client);
        known.assert_read(&mut client, "held");
        // Another settler finds what the one before has asked for.
        let first = settler(&mut client);
        client.query_one(ending, &[&first]).expect(ending);
        patience::until_true("another settler runs", || settler(&mut client) != first);
        known.enqueue(&mut client, 5);
        known.assert_read(&mut client, "another settler");
        assert_eq!(hot::find_second_settler(&mut client), Some(second));
        if released {
            // A pause waits for the pass.
            thread::scope(|scope| {
                let pause = scope.spawn(|| {
                    let call = "SELECT allsource.es_worker_pause()";
                    store.cluster.store().execute(call, &[]).expect(call);
                });
                let query = "SELECT FROM pg_stat_activity WHERE query LIKE '%es_worker_pause%' \
                                AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'";
                patience::until_true("it waits", || {
                    !client.query(query, &[]).expect(query).is_empty()
                });
                assert!(!pause.is_finished(), "the pause has not waited for the second settler");
                release_second_settler(&mut client);
                pause.join().expect("es_worker_pause");
            });
            let call = "SELECT allsource.es_worker_resume()";
            client.execute(call, &[]).expect(call);
        } else {
            client.query_one(ending, &[&second]).expect(ending);
            // The one that may follow it goes on.
            release_second_settler(&mut client);
        }
        known.settle(&mut client, "in the end");
        known.assert_settled(&mut client, "in the end");
        Breakpoint::remove(&mut client);
        known.assert_read(&mut client, "in the end");
    }
    assert_verified(&mut client);
}

/// Without the settler nobody else knows whether the second settler has come to a rest.
#[test]
fn a_pause_waits_for_the_second_settler_where_there_is_no_other() {
    let store = HotStore::new("hot-second-alone", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, 3);
    known.enqueue(&mut client, 5);
    hold_second_settler(&mut client);
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'allsource launcher'";
    let launcher: i32 = client.query_one(query, &[]).expect(query).get(0);
    store.cluster.signal("STOP", launcher);
    let ending = "SELECT pg_terminate_backend($1, 20000)";
    let first = settler(&mut client);
    client.query_one(ending, &[&first]).expect(ending);
    thread::scope(|scope| {
        let pause = scope.spawn(|| {
            let call = "SELECT allsource.es_worker_pause()";
            store.cluster.store().execute(call, &[]).expect(call);
        });
        // The workers are paused before the settlers are waited for.
        let query = "SELECT bool_and(state = 'paused') FROM allsource.queue_stats";
        patience::until_true("the workers rest", || {
            client.query_one(query, &[]).expect(query).get(0)
        });
        let query = "SELECT FROM pg_stat_activity WHERE query LIKE '%es_worker_pause%' \
                        AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'";
        patience::until_true("it waits, or has not", || {
            pause.is_finished() || !client.query(query, &[]).expect(query).is_empty()
        });
        let is_finished = pause.is_finished();
        release_second_settler(&mut client);
        store.cluster.signal("CONT", launcher);
        pause.join().expect("es_worker_pause");
        assert!(!is_finished, "the pause has not waited for the second settler");
    });
    let call = "SELECT allsource.es_worker_resume()";
    client.execute(call, &[]).expect(call);
    known.settle(&mut client, "in the end");
}

/// Where no other process may be started, there is one settler.
#[test]
fn without_room_for_a_second_settler_everything_is_settled() {
    let settings =
        ["allsource.workers=1", "max_worker_processes=3", "max_logical_replication_workers=0"];
    let store = HotStore::new("hot-no-room", &settings);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &PARTITIONS, 3);
    for _ in 0..2 {
        known.enqueue(&mut client, 5);
        known.settle(&mut client, "alone");
        known.assert_settled(&mut client, "alone");
        assert_eq!(hot::find_second_settler(&mut client), None);
    }
}

#[test]
fn a_killed_worker_loses_nothing() {
    survive_kills("hot-kill-worker", |cluster, rng| {
        let pids = workers_up(&mut cluster.store());
        cluster.signal("KILL", *pids.choose(rng).expect("a worker"));
    });
}

#[test]
fn a_killed_server_loses_nothing() {
    survive_kills("hot-kill-server", |cluster, _| {
        cluster.stop(Stop::Kill);
        cluster.resume();
    });
}

/// Right after batches have been removed, which is when the sidecar is behind.
#[test]
fn a_server_killed_after_a_pass_loses_nothing() {
    survive_kills("hot-kill-pass", |cluster, _| {
        let mut client = cluster.store();
        let query = "SELECT sum(settled_batch)::int8 FROM allsource.hot_partitions";
        let mut settled = || client.query_one(query, &[]).expect(query).get::<_, i64>(0);
        let before = settled();
        patience::until_true("a pass ends", || settled() > before);
        cluster.stop(Stop::Kill);
        cluster.resume();
    });
}

/// Who ends a process of the extension politely is not noticed by anybody.
#[test]
fn terminated_processes_are_followed_by_others() {
    let settings = ["allsource.workers=2", OFTEN, SMALL_BATCHES];
    let store = HotStore::new("hot-terminated", &settings);
    let mut client = store.cluster.store();
    let mut names = |partition: &i32| names_in(&mut client, *partition, 6);
    let shared: Vec<String> = KILLED_UNDER.iter().flat_map(&mut names).collect();
    let (ledger, seed, cluster) = (Ledger::default(), Seed::announce(), &store.cluster);
    KILLED_UNDER.iter().for_each(|number| hot::heat(&mut client, *number).expect("es_heat"));
    let crew =
        Crew { cluster, ledger: &ledger, shared: &shared, seed, number: 1, producers: PRODUCERS };
    crew.work_while(
        |_| false,
        || {
            for round in 0..16 * sizes::factor() {
                let pid = match round % 4 {
                    0 => workers_up(&mut client)[round as usize / 4 % 2],
                    1 => second_settler(&mut client),
                    _ => settler(&mut client),
                };
                let query = "SELECT pg_terminate_backend($1, 20000)";
                // Where it has ended by itself, there is only a warning.
                client.query_one(query, &[&pid]).expect(query);
                let there = "SELECT FROM pg_stat_activity WHERE pid = $1";
                assert!(client.query(there, &[&pid]).expect(there).is_empty(), "{pid} is there");
                let before = ledger.acknowledged();
                patience::until_true("they go on", || ledger.acknowledged() > before + 20);
            }
        },
    );
    assert_eq!(ledger.unsettled(), 0, "events that nobody knows to be durable");
    for partition in KILLED_UNDER {
        hot::cool_within(&mut client, partition, "50s").expect("es_cool");
    }
    ledger.assert_holds(&all_events(&mut client).expect("the content"));
    assert_verified(&mut client);
}

/// Rounds in which producers work, and something is killed under them.
fn survive_kills(name: &str, kill: impl Fn(&Cluster, &mut StdRng)) {
    let seed = Seed::announce();
    let store = HotStore::new(name, &["allsource.workers=2", OFTEN, SMALL_BATCHES]);
    let mut client = store.cluster.store();
    let mut names = |partition: &i32| names_in(&mut client, *partition, 6);
    let shared: Vec<String> = KILLED_UNDER.iter().flat_map(&mut names).collect();
    let ledger = Ledger::default();
    for round in 0..sizes::number("ALLSOURCE_CRASH_ROUNDS", 4 * sizes::factor()) {
        let mut rng = seed.rng(round * 1_000);
        for partition in KILLED_UNDER {
            hot::heat(&mut client, partition).expect("es_heat");
        }
        let before = ledger.acknowledged();
        let (cluster, number) = (&store.cluster, round + 1);
        let producers = PRODUCERS;
        let crew = Crew { cluster, ledger: &ledger, shared: &shared, seed, number, producers };
        let killed = AtomicBool::new(false);
        let told = |error: &_| killed.load(Ordering::SeqCst) && failure::is_disconnect(error);
        crew.work_while(told, || {
            patience::until_true("the producers have done something", || {
                ledger.acknowledged() >= before + ACKNOWLEDGED_BEFORE_KILL
            });
            thread::sleep(Duration::from_millis(rng.random_range(0..AFTER_THAT_MS_MAX)));
            killed.store(true, Ordering::SeqCst);
            kill(cluster, &mut rng);
            // All of them have noticed.
            drop(cluster.connect_when_ready(STORE));
        });
        println!("round {round}: {} events acknowledged", ledger.acknowledged() - before);
        client = patience::until("the server is up again", || {
            let mut client = store.cluster.try_connect(STORE).ok()?;
            workers_up(&mut client);
            Some(client)
        });
        flush(&mut client).expect("es_flush");
        if round % 2 == 0 {
            hot::settle(&mut client).expect("es_settle");
        } else {
            for partition in KILLED_UNDER {
                hot::cool_within(&mut client, partition, "50s").expect("es_cool");
            }
        }
        ledger.assert_holds(&all_events(&mut client).expect("the content"));
        assert_verified(&mut client);
    }
}

/// Where a process of the extension is held, by a trigger of the tables' owner.
#[derive(Clone, Copy, Debug)]
struct Breakpoint {
    table: &'static str,
    event: &'static str,
    /// so many calls of the trigger go through
    skipped: i64,
}

const DRAINING: [Breakpoint; 2] = [
    Breakpoint { table: "hot_batches_p03", event: "BEFORE INSERT", skipped: 0 },
    Breakpoint { table: "hot_batches_p03", event: "AFTER INSERT", skipped: 0 },
];

const SETTLING: [Breakpoint; 8] = [
    Breakpoint { table: "event_log_p03", event: "AFTER INSERT", skipped: 0 },
    Breakpoint { table: "event_log_p03", event: "AFTER INSERT", skipped: 540 },
    Breakpoint { table: "event_streams_p03", event: "BEFORE UPDATE", skipped: 0 },
    Breakpoint { table: "event_streams_p03", event: "BEFORE UPDATE", skipped: 18 },
    Breakpoint { table: "hot_batches_p03", event: "BEFORE DELETE", skipped: 0 },
    Breakpoint { table: "hot_batches_p03", event: "AFTER DELETE", skipped: 0 },
    Breakpoint { table: "hot_partitions", event: "BEFORE UPDATE", skipped: 0 },
    Breakpoint { table: "hot_partitions", event: "AFTER UPDATE", skipped: 0 },
];

impl Breakpoint {
    /// Who comes here next is held.
    fn set(self, client: &mut Client) {
        let Self { table, event, skipped } = self;
        client
            .batch_execute(&format!(
                "CREATE SCHEMA breakpoint; CREATE SEQUENCE breakpoint.calls; \
                 GRANT USAGE ON SCHEMA breakpoint TO PUBLIC; \
                 CREATE FUNCTION breakpoint.hold() RETURNS trigger \
                 LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
                     IF nextval('breakpoint.calls') > {skipped} THEN PERFORM pg_sleep(600); END IF; \
                     RETURN COALESCE(NEW, OLD); END $$; \
                 CREATE TRIGGER breakpoint {event} ON allsource.{table} \
                     FOR EACH ROW EXECUTE FUNCTION breakpoint.hold(); \
                 ALTER TABLE allsource.{table} ENABLE ALWAYS TRIGGER breakpoint"
            ))
            .unwrap_or_else(|error| panic!("{self:?}: {}", failure::describe(&error)));
    }

    fn remove(client: &mut Client) {
        client.batch_execute("DROP SCHEMA breakpoint CASCADE").expect("DROP SCHEMA");
    }
}

/// Returns as soon as a process is held.
fn until_held(onlooker: &mut Client, pid: i32) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
    patience::until_true("a process is held", || {
        onlooker.query_one(query, &[&pid]).expect(query).get::<_, i64>(0) > 0
    });
}

/// The server is killed at each step between a batch that is drained and one that is removed.
#[test]
fn a_server_killed_at_each_step_loses_nothing() {
    let store = HotStore::new("hot-steps", &[]);
    let mut client = store.cluster.store();
    let mut known = Scattered::heated(&mut client, &[3], STREAMS);
    let drains = DRAINING.map(|breakpoint| (breakpoint, true));
    let settles = SETTLING.map(|breakpoint| (breakpoint, false));
    for (number, (breakpoint, drains)) in drains.into_iter().chain(settles).enumerate() {
        let context = format!("{breakpoint:?}");
        known.enqueue(&mut client, 4);
        if breakpoint.skipped > 0 {
            // A pass has two pieces, and this is in the second one.
            known.filler_bytes = 8_000;
            known.enqueue(&mut client, 30);
            known.filler_bytes = 200;
        }
        if number % 2 == 0 {
            until_applied(&mut client, &[3]);
        }
        breakpoint.set(&mut client);
        let pid = if drains {
            let items = known.next_items();
            EnqueueBatch::of(&items).send(&mut client).expect("es_enqueue_batch");
            workers_up(&mut client)[0]
        } else {
            let asked = hot::settle_within(&mut client, Some(3), "10ms");
            assert_eq!(failure::refusal(asked), failure::CANCELLED);
            settler(&mut client)
        };
        until_held(&mut client, pid);
        known.assert_read(&mut client, &context);
        if number % 3 == 0 {
            store.cluster.signal("KILL", pid);
            patience::until_true("the server is killed", || client.simple_query("").is_err());
            client = store.cluster.connect_when_ready(STORE);
            workers_up(&mut client);
        } else {
            client = store.while_stopped(Stop::Kill, "");
        }
        Breakpoint::remove(&mut client);
        known.assert_read(&mut client, &context);
        known.goes_on(&mut client, &context, number % 2 == 1);
    }
    known.cool(&mut client, "in the end");
}
