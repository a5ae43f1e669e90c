//! Event ids make a retry safe: clients whose connections break between request and answer send
//! the same ids again until they have an answer, several clients at once; at the end each id is
//! there exactly once, and everybody was told the same.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use allsource_e2e::calls::{Appended, all_events, assert_verified};
use allsource_e2e::event::NewEvent;
use allsource_e2e::failure::{
    DUPLICATE_ID, SERIALIZATION_FAILURE, describe, is_disconnect, refusal,
};
use allsource_e2e::severing_proxy::SeveringProxy;
use allsource_e2e::{Append, Batch, BatchItem, Cluster, Enqueue, Event, Seed, patience, sizes};
use postgres::{Client, Config, Error, IsolationLevel, NoTls};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::json;
use uuid::Uuid;

const CLIENTS: u64 = 8;
const TASKS: u64 = 60;
const STREAMS: u64 = 7;
const CHAIN_LENGTH: i64 = 60;
const CUT_PROBABILITY: f64 = 0.05;
const TERMINATE_PAUSE: Duration = Duration::from_millis(30);
const RACE_ROUNDS: u64 = 40;
const RACERS: usize = 8;

/// Something to append, the same however often it is sent.
#[derive(Clone, Debug)]
enum Task {
    One(String, Option<i64>, NewEvent),
    Many(String, Vec<NewEvent>),
    Batch(Vec<BatchItem>),
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Version(i64),
    Batch(Vec<Appended>),
}

impl Task {
    fn attempt(&self, client: &mut Client) -> Result<Answer, Error> {
        match self {
            Self::One(stream, expected, event) => {
                let events = std::slice::from_ref(event);
                let append = Append { expected: *expected, ..Append::to(stream, events) };
                append.one(client).map(Answer::Version)
            }
            Self::Many(stream, events) => {
                Append::to(stream, events).many(client).map(Answer::Version)
            }
            Self::Batch(items) => Batch::of(items).append(client).map(Answer::Batch),
        }
    }

    /// Tries until there is an answer, over as many connections as it takes.
    fn insist(&self, config: &Config, client: &mut Option<Client>) -> Answer {
        let deadline = Instant::now() + sizes::wait_max();
        loop {
            assert!(Instant::now() < deadline, "no answer for {self:?}");
            if client.is_none() {
                match config.connect(NoTls) {
                    Ok(connected) => *client = Some(connected),
                    Err(error) if is_disconnect(&error) => continue,
                    Err(error) => panic!("connect: {}", describe(&error)),
                }
            }
            match self.attempt(client.as_mut().expect("a connection")) {
                Ok(answer) => return answer,
                Err(error) if is_disconnect(&error) => *client = None,
                Err(error) => panic!("{self:?}: {}", describe(&error)),
            }
        }
    }

    /// Stream and id of each event.
    fn ids(&self) -> Vec<(String, Uuid)> {
        let id = |event: &NewEvent| event.id.expect("an id");
        match self {
            Self::One(stream, _, event) => vec![(stream.clone(), id(event))],
            Self::Many(stream, events) => {
                events.iter().map(|event| (stream.clone(), id(event))).collect()
            }
            Self::Batch(items) => {
                items.iter().map(|item| (item.stream.clone(), id(&item.event))).collect()
            }
        }
    }
}

#[test]
fn retried_ids_are_there_exactly_once() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("retry");
    let mut rng = seed.rng(0);
    let tasks: Vec<Task> = (0..TASKS * sizes::factor()).map(|_| task(&mut rng)).collect();
    let proxy = SeveringProxy::before(&cluster, seed, CUT_PROBABILITY);
    let answers = insist_on_all(&cluster, &proxy, seed, &tasks, true);
    println!("{} requests and {} answers cut", proxy.requests_cut(), proxy.answers_cut());
    assert!(proxy.requests_cut() > 0 && proxy.answers_cut() > 0, "the network did not break");
    for (number, task) in tasks.iter().enumerate() {
        let told: Vec<&Answer> = answers.iter().map(|answers| &answers[number]).collect();
        let same = told.iter().all(|answer| *answer == told[0]);
        assert!(same, "{task:?}: clients were told different things: {told:?}");
    }
    assert_exactly_once(&cluster, &tasks);
}

/// Several clients drive one stream through the same steps, each with the version it expects:
/// whoever comes second is told what the first one was told, and nobody sees a conflict.
#[test]
fn a_chain_of_expected_versions_can_be_retried() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("retry-chain");
    let chain: Vec<Task> = (0..CHAIN_LENGTH)
        .map(|version| {
            Task::One("chain".into(), Some(version), event(&mut seed.rng(version as u64)))
        })
        .collect();
    let proxy = SeveringProxy::before(&cluster, seed, CUT_PROBABILITY);
    let answers = insist_on_all(&cluster, &proxy, seed, &chain, false);
    for answers in answers {
        let versions: Vec<Answer> = (1..=CHAIN_LENGTH).map(Answer::Version).collect();
        assert_eq!(answers, versions);
    }
    assert_exactly_once(&cluster, &chain);
}

/// The same id with different payloads at once: one is written, all others are refused.
#[test]
fn an_id_raced_with_different_payloads_is_written_once() {
    let cluster = Cluster::with_store("retry-race");
    let mut clients: Vec<Client> = (0..RACERS).map(|_| cluster.store()).collect();
    for round in 0..RACE_ROUNDS {
        let stream = format!("race-{}", round % 3);
        let start = Barrier::new(RACERS);
        let results: Vec<Result<i64, Error>> = thread::scope(|scope| {
            let racers = clients.iter_mut().enumerate().map(|(number, client)| {
                let (start, stream) = (&start, &stream);
                scope.spawn(move || {
                    let payload = json!({"round": round, "racer": number});
                    let event = NewEvent::new("t", payload).with_id(Uuid::from_u128(round.into()));
                    start.wait();
                    Append::to(stream, &[event]).one(client)
                })
            });
            let racers: Vec<_> = racers.collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
        });
        let winners = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(winners, 1, "winners of round {round}: {results:?}");
        for result in results.into_iter().filter(Result::is_err) {
            assert_eq!(refusal(result), DUPLICATE_ID);
        }
    }
    let mut client = cluster.store();
    assert_eq!(all_events(&mut client).expect("the content").len() as u64, RACE_ROUNDS);
    assert_verified(&mut client);
}

/// What a retry may and may not be, one after another in one session.
#[test]
fn a_retry_is_the_same_events_in_the_same_stream() {
    let cluster = Cluster::with_store("retry-rules");
    let mut client = cluster.store();
    let mut rng = Seed::announce().rng(0);
    let first: Vec<NewEvent> = (0..3).map(|_| event(&mut rng)).collect();
    let append = Append::to("s", &first);
    assert_eq!(append.expecting(0).many(&mut client).expect("the first time"), 3);
    let later = [event(&mut rng)];
    assert_eq!(Append::to("s", &later).one(&mut client).expect("an append"), 4);
    let content = all_events(&mut client).expect("the content");

    assert_eq!(append.many(&mut client).expect("anywhere"), 3);
    assert_eq!(append.expecting(0).many(&mut client).expect("at the same place"), 3);
    assert_eq!(Append::to("s", &later).expecting(3).one(&mut client).expect("another one"), 4);
    assert_eq!(all_events(&mut client).expect("the content"), content, "nothing was written");

    let elsewhere = Append::to("t", &first).many(&mut client).expect("another stream");
    assert_eq!(elsewhere, 3);
    let of_other = Append { tenant: "other", ..append }.many(&mut client).expect("another tenant");
    assert_eq!(of_other, 3);

    let refused = |client: &mut Client, events: &[NewEvent]| {
        assert_eq!(refusal(Append::to("s", events).many(client)), DUPLICATE_ID, "{events:?}");
    };
    let mut changed = first.clone();
    changed[1].payload = json!("changed");
    refused(&mut client, &changed);
    let mut changed = first.clone();
    changed[2].event_type.push('!');
    refused(&mut client, &changed);
    refused(&mut client, &[first[2].clone(), event(&mut rng)]);
    refused(&mut client, &[event(&mut rng), first[0].clone()]);
    let twin = event(&mut rng);
    refused(&mut client, &[twin.clone(), twin]);

    let of_stream = |events: &[Event]| events.iter().filter(|e| e.stream_id == "s").count();
    let content = all_events(&mut client).expect("the content");
    assert_eq!((content.len(), of_stream(&content)), (10, 7));
    assert_verified(&mut client);
}

/// A first try that was rolled back leaves nothing that a second one could find.
#[test]
fn an_id_of_a_rolled_back_append_is_free() {
    let cluster = Cluster::with_store("retry-rollback");
    let mut client = cluster.store();
    let events = [event(&mut Seed::announce().rng(0))];
    let mut transaction = client.transaction().expect("BEGIN");
    let mut savepoint = transaction.savepoint("s").expect("SAVEPOINT");
    assert_eq!(Append::to("s", &events).one(&mut savepoint).expect("an append"), 1);
    savepoint.rollback().expect("ROLLBACK TO");
    let mut other = events.clone();
    other[0].payload = json!("other");
    assert_eq!(Append::to("s", &other).one(&mut transaction).expect("after the savepoint"), 1);
    transaction.rollback().expect("ROLLBACK");
    assert_eq!(Append::to("s", &events).one(&mut client).expect("after the rollback"), 1);
    let content = all_events(&mut client).expect("the content");
    assert_eq!(content.len(), 1);
    assert_eq!(content[0].payload, events[0].payload);
}

/// An append whose wait for a standby was ended is visible, and may still be lost. Who repeats it is answered
/// only when the standby has confirmed it.
#[test]
fn a_retry_waits_for_the_standby_as_the_first_try_did() {
    let cluster = Cluster::with_queue("retry-standby", &[]);
    let mut onlooker = cluster.store();
    onlooker.batch_execute("SET synchronous_commit = local").expect("SET");
    let set = |client: &mut Client, sql: &str| {
        client.batch_execute(sql).expect(sql);
        client.batch_execute("SELECT pg_reload_conf()").expect("to reload");
    };
    let waiting = |client: &mut Client, what: &str| -> i32 {
        let query = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
                        AND backend_type = $1";
        patience::until(what, || {
            client.query_opt(query, &[&what]).expect(query).map(|row| row.get(0))
        })
    };
    let mut rng = Seed::announce().rng(0);
    let events = [event(&mut rng)];
    set(&mut onlooker, "ALTER SYSTEM SET synchronous_standby_names = 'missing'");
    let (backend, worker) = ("client backend", "allsource worker 0");
    let end = |client: &mut Client, pid: i32| {
        let query = "SELECT pg_terminate_backend($1, 20000)";
        client.execute(query, &[&pid]).expect(query);
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| Append::to("s", &events).one(&mut cluster.store()));
        let pid = waiting(&mut onlooker, backend);
        end(&mut onlooker, pid);
        first.join().expect("a thread").expect_err("its wait was ended");
        assert_eq!(all_events(&mut onlooker).expect("the content").len(), 1);
        let again = scope.spawn(|| Append::to("s", &events).one(&mut cluster.store()));
        let pid = waiting(&mut onlooker, backend);
        end(&mut onlooker, pid);
        again.join().expect("a thread").expect_err("its wait was ended");
        // The same through the queue, with a worker that writes nothing.
        let enqueue = || Enqueue::to("s", &events[0]).durably().send(&mut cluster.store());
        let durable = scope.spawn(enqueue);
        waiting(&mut onlooker, worker);
        assert!(!durable.is_finished(), "the standby has not confirmed");
        set(&mut onlooker, "ALTER SYSTEM RESET synchronous_standby_names");
        durable.join().expect("a thread").expect("es_enqueue");
    });
    assert_eq!(all_events(&mut onlooker).expect("the content").len(), 1);
}

/// An old snapshot does not show the first try: the retry is told the same or is refused as any
/// update would be, but it is never written again.
#[test]
fn a_retry_in_an_old_snapshot_writes_nothing() {
    let cluster = Cluster::with_store("retry-snapshot");
    let (mut old, mut new) = (cluster.store(), cluster.store());
    let mut rng = Seed::announce().rng(0);
    for (round, exists_before) in [(0, false), (1, true)] {
        let stream = format!("s{round}");
        if exists_before {
            Append::to(&stream, &[event(&mut rng)]).one(&mut new).expect("an append");
        }
        let events = [event(&mut rng)];
        let builder = old.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let mut transaction = builder.start().expect("BEGIN");
        transaction.query("SELECT count(*) FROM allsource.events", &[]).expect("a snapshot");
        let first = Append::to(&stream, &events).one(&mut new).expect("the first try");
        match Append::to(&stream, &events).one(&mut transaction) {
            Ok(version) => {
                assert_eq!(version, first);
                transaction.commit().expect("COMMIT");
            }
            Err(error) => {
                assert_eq!(error.code().map(|c| c.code()), Some(SERIALIZATION_FAILURE), "{error}");
                transaction.rollback().expect("ROLLBACK");
            }
        }
        let content = all_events(&mut new).expect("the content");
        let count = content.iter().filter(|event| event.event_id == events[0].id).count();
        assert_eq!(count, 1);
    }
    assert_verified(&mut new);
}

fn event(rng: &mut StdRng) -> NewEvent {
    let payload = json!({"n": rng.random::<u32>(), "text": "x".repeat(rng.random_range(0..200))});
    NewEvent::new("t", payload).with_id(Uuid::from_u128(rng.random()))
}

fn task(rng: &mut StdRng) -> Task {
    let stream = |rng: &mut StdRng| format!("s{}", rng.random_range(0..STREAMS));
    match rng.random_range(0..3) {
        0 => Task::One(stream(rng), None, event(rng)),
        1 => {
            let count = rng.random_range(1..10);
            Task::Many(stream(rng), (0..count).map(|_| event(rng)).collect())
        }
        _ => {
            let count = rng.random_range(1..10);
            let item = |rng: &mut StdRng| BatchItem {
                stream: stream(rng),
                expected: None,
                event: event(rng),
            };
            Task::Batch((0..count).map(|_| item(rng)).collect())
        }
    }
}

/// Every client insists on every task, in an order of its own or in the given one, while
/// connections are cut and backends terminated. Answers by client and task.
fn insist_on_all(
    cluster: &Cluster,
    proxy: &SeveringProxy,
    seed: Seed,
    tasks: &[Task],
    shuffled: bool,
) -> Vec<Vec<Answer>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let terminator = scope.spawn(|| terminate_some(cluster, &mut seed.rng(99), &done));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let config = proxy.config(cluster, allsource_e2e::STORE);
                let mut rng = seed.rng(100 + number);
                scope.spawn(move || {
                    let mut order: Vec<usize> = (0..tasks.len()).collect();
                    if shuffled {
                        order.shuffle(&mut rng);
                    }
                    let mut client = None;
                    let mut answers = BTreeMap::new();
                    for number in order {
                        answers.insert(number, tasks[number].insist(&config, &mut client));
                    }
                    answers.into_values().collect()
                })
            })
            .collect();
        let answers: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        println!("{} backends terminated", terminator.join().expect("the terminator"));
        answers.into_iter().map(|answers| answers.expect("a client")).collect()
    })
}

/// Terminates the backends of random clients until all is done.
fn terminate_some(cluster: &Cluster, rng: &mut StdRng, done: &AtomicBool) -> u64 {
    let mut client = cluster.store();
    let mut count = 0;
    while !done.load(Ordering::SeqCst) {
        thread::sleep(TERMINATE_PAUSE);
        let query = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                     AND datname = current_database() AND backend_type = 'client backend' \
                     ORDER BY state = 'active' DESC LIMIT 3";
        let pids = client.query(query, &[]).expect("the backends");
        if let Some(row) = pids.choose(rng) {
            let pid: i32 = row.get(0);
            client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("terminate");
            count += 1;
        }
    }
    count
}

fn assert_exactly_once(cluster: &Cluster, tasks: &[Task]) {
    let mut client = cluster.store();
    let content = all_events(&mut client).expect("the content");
    let mut counts: BTreeMap<(String, Uuid), u64> = BTreeMap::new();
    for task in tasks {
        for id in task.ids() {
            counts.insert(id, 0);
        }
    }
    for event in &content {
        let id = event.event_id.expect("every event has an id");
        let count = counts.get_mut(&(event.stream_id.clone(), id)).expect("an id of a task");
        *count += 1;
    }
    let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "ids that are not there exactly once: {wrong:?}");
    assert_verified(&mut client);
}
