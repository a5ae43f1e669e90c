//! Random calls on hot and cold partitions against a plain reference in memory: heating, cooling,
//! settling, enqueueing, appending, reading, rolling back, crashing and restarting.
//!
//! One session writes in transactions with savepoints, one enqueues and gives commands, one looks on.
//! What was enqueued and not waited for is *pending*: it comes into its stream in order at some time, and
//! is lost, from some event of each stream on, only by a crash of the server.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use allsource_e2e::bulk::{self, flush, health};
use allsource_e2e::calls::{all_events, assert_verified, current_version, names_in};
use allsource_e2e::cluster::{SERVED, STORE, Stop};
use allsource_e2e::hot::{self, Sightings, assert_is_stream, settler};
use allsource_e2e::reference::{Reference, Refused};
use allsource_e2e::{
    Append, Batch, BatchItem, Cluster, Enqueue, EnqueueBatch, Event, NewEvent, ReadAll, ReadStream,
    Seed, failure, patience, sizes,
};
use postgres::{Client, Error};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;
use uuid::Uuid;

const STEPS: u64 = 1_500;
const PARTITIONS: [i32; 4] = [0, 3, 17, 31];
/// The last one stays cold.
const HEATED: usize = 3;
const STREAMS_PER_PARTITION: i64 = 6;
const TENANTS: [&str; 2] = ["default", "other"];
const SAVEPOINTS_MAX: usize = 3;
const REMEMBERED_MAX: usize = 30;
const EVENTS_MAX: usize = 12;
const COUNTS: [Option<i64>; 5] = [None, Some(1), Some(2), Some(5), Some(1_000)];
const WORKERS: [u32; 3] = [2, 1, 4];
const INTERVALS: [&str; 4] = ["1h", "50ms", "5s", "0"];
const BATCH_EVENTS: [u32; 3] = [10_000, 3, 40];
const MIN_BATCHES: [u32; 3] = [0, 64, 5];

#[test]
fn hot_and_cold_partitions_answer_as_the_reference_does() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store_and("hot-model", &settings(0));
    let steps = sizes::number("ALLSOURCE_MODEL_STEPS", STEPS * sizes::factor());
    let mut model = Model::new(&cluster, seed.rng(0));
    for step in 0..steps {
        model.number = step;
        model.step();
    }
    model.end();
    println!("{:?}", model.tally);
}

/// The settings after this many restarts.
fn settings(restart: usize) -> Vec<&'static str> {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    vec![
        SERVED,
        leak(format!("allsource.workers={}", WORKERS[restart % WORKERS.len()])),
        leak(format!("allsource.settle_interval={}", INTERVALS[restart % INTERVALS.len()])),
        leak(format!("allsource.batch_max_events={}", BATCH_EVENTS[restart % BATCH_EVENTS.len()])),
        leak(format!("allsource.sidecar_min_batches={}", MIN_BATCHES[restart % MIN_BATCHES.len()])),
    ]
}

/// How often what has happened.
#[derive(Debug, Default)]
struct Tally {
    enqueued: usize,
    appended: usize,
    refused: usize,
    rolled_back: usize,
    restarts: usize,
    crashes: usize,
    lost: usize,
    read: usize,
    read_unsettled: usize,
}

/// A stream, and how it is written to.
#[derive(Clone, Debug)]
struct Target {
    stream: String,
    tenant: &'static str,
    entity: Option<String>,
}

/// Tenant and name.
type Key = (String, String);

impl Target {
    fn key(&self) -> Key {
        (self.tenant.to_owned(), self.stream.clone())
    }

    fn append<'a>(&'a self, expected: Option<i64>, events: &'a [NewEvent]) -> Append<'a> {
        let entity = self.entity.as_deref();
        Append { stream: &self.stream, tenant: self.tenant, expected, entity, events }
    }
}

struct Sessions {
    writer: Client,
    other: Client,
    onlooker: Client,
}

impl Sessions {
    fn new(cluster: &Cluster) -> Self {
        let connect = || cluster.connect_when_ready(STORE);
        let mut sessions = Self { writer: connect(), other: connect(), onlooker: connect() };
        bulk::workers_up(&mut sessions.onlooker);
        sessions
    }
}

struct Model<'c> {
    cluster: &'c Cluster,
    sessions: Sessions,
    rng: StdRng,
    number: u64,
    started: Instant,
    names: Vec<String>,
    calls: u64,
    restarts: usize,
    committed: Reference,
    /// What the open transaction sees, if one is open: as it is now last, and before that as it was at
    /// each savepoint.
    transaction: Vec<Reference>,
    /// What was enqueued and not waited for, in order.
    pending: Vec<(Target, NewEvent)>,
    remembered: Vec<(Target, Option<i64>, Vec<NewEvent>)>,
    sightings: Sightings,
    tally: Tally,
}

impl<'c> Model<'c> {
    fn new(cluster: &'c Cluster, rng: StdRng) -> Self {
        let mut sessions = Sessions::new(cluster);
        let of_partition =
            |partition: &i32| names_in(&mut sessions.onlooker, *partition, STREAMS_PER_PARTITION);
        let names = PARTITIONS.iter().flat_map(of_partition).collect();
        Self {
            cluster,
            sessions,
            rng,
            number: 0,
            started: Instant::now(),
            names,
            calls: 0,
            restarts: 0,
            committed: Reference::default(),
            transaction: Vec::new(),
            pending: Vec::new(),
            remembered: Vec::new(),
            sightings: Sightings::default(),
            tally: Tally::default(),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..1000) {
            0..300 => self.enqueue(),
            300..510 => self.append(),
            510..540 => self.append_batch(),
            540..560 => self.retry(),
            560..710 => self.read(),
            710..740 => self.begin(),
            740..785 => self.savepoint(),
            785..810 => self.rollback_to(),
            810..870 => self.end_transaction(),
            870..920 => self.heat(),
            920..930 => self.cool(),
            930..945 => self.settle(),
            945..955 => self.rebuild(),
            955..980 => self.check_all(),
            980..988 => self.end_a_process(),
            988..992 => self.restart(Stop::Fast),
            992..997 => self.restart(Stop::Kill),
            _ => self.kill_a_process(),
        }
    }

    fn say(&self, what: &str) {
        println!("{}, {} ms: {what}", self.number, self.started.elapsed().as_millis());
    }

    // Names and events.

    fn target(&mut self) -> Target {
        let stream = self.names.choose(&mut self.rng).expect("a name").clone();
        let tenant = TENANTS.choose(&mut self.rng).expect("a tenant");
        let mut target = Target { stream, tenant, entity: None };
        // Every sixth stream has an entity, which is given when it is created and later now and then.
        let index = self.names.iter().position(|name| *name == target.stream).expect("a name");
        if index % STREAMS_PER_PARTITION as usize == 0
            && (self.may_be_new(&target) || self.rng.random_bool(0.3))
        {
            target.entity = Some(format!("entity of {}", target.stream));
        }
        target
    }

    fn event(&mut self, share_with_id: f64) -> NewEvent {
        self.calls += 1;
        let size = *[1, 1, 1, 20, 300].choose(&mut self.rng).expect("a size");
        let payload = json!({"n": self.calls, "filler": "x".repeat(size)});
        let kind = format!("type-{}", self.rng.random_range(0..3));
        let metadata = self.rng.random_bool(0.2).then(|| json!({"m": self.calls}));
        let id = self.rng.random_bool(share_with_id);
        NewEvent {
            event_type: kind,
            payload,
            metadata,
            id: id.then(|| Uuid::from_u128(self.rng.random())),
        }
    }

    fn events(&mut self) -> Vec<NewEvent> {
        let share = if self.rng.random_bool(0.2) { 1.0 } else { 0.0 };
        let count = self.rng.random_range(1..=EVENTS_MAX);
        (0..count).map(|_| self.event(share)).collect()
    }

    fn now(&self) -> &Reference {
        self.transaction.last().unwrap_or(&self.committed)
    }

    fn version(&self, target: &Target) -> Option<i64> {
        self.now().version(target.tenant, &target.stream)
    }

    /// Whether a stream has no events, or may have none after a rollback.
    fn may_be_new(&self, target: &Target) -> bool {
        let references = std::iter::once(&self.committed).chain(&self.transaction);
        let versions = references.map(|one| one.version(target.tenant, &target.stream));
        versions.min().flatten().unwrap_or(0) == 0
    }

    fn is_pending(&self, key: &Key) -> bool {
        self.pending.iter().any(|(target, _)| target.key() == *key)
    }

    // Transactions.

    fn sql(&mut self, statement: &str) {
        let done = self.sessions.writer.batch_execute(statement);
        done.unwrap_or_else(|error| panic!("{statement}: {}", failure::describe(&error)));
    }

    fn begin(&mut self) {
        if self.transaction.is_empty() {
            self.flush();
            self.say("BEGIN");
            self.sql("BEGIN");
            self.transaction.push(self.committed.clone());
        }
    }

    fn savepoint(&mut self) {
        let depth = self.transaction.len();
        if (1..=SAVEPOINTS_MAX).contains(&depth) {
            self.say(&format!("SAVEPOINT s{depth}"));
            self.sql(&format!("SAVEPOINT s{depth}"));
            self.transaction.push(self.now().clone());
        }
    }

    fn rollback_to(&mut self) {
        let depth = self.transaction.len();
        if depth >= 2 {
            let target = self.rng.random_range(1..depth);
            self.say(&format!("ROLLBACK TO s{target}"));
            self.sql(&format!("ROLLBACK TO s{target}"));
            self.transaction.truncate(target);
            self.transaction.push(self.transaction[target - 1].clone());
            self.tally.rolled_back += 1;
        }
    }

    fn end_transaction(&mut self) {
        if self.transaction.is_empty() {
            return;
        }
        if self.rng.random_bool(0.6) {
            self.say("COMMIT");
            self.sql("COMMIT");
            self.committed = self.now().clone();
            self.transaction.clear();
        } else {
            self.rollback();
        }
    }

    fn rollback(&mut self) {
        self.say("ROLLBACK");
        self.sql("ROLLBACK");
        self.transaction.clear();
        self.tally.rolled_back += 1;
    }

    fn recover(&mut self) {
        match self.transaction.len() {
            0 => {}
            1 => self.rollback(),
            _ => self.rollback_to(),
        }
    }

    // Enqueueing.

    /// Enqueues, and waits for it if no transaction could hold it up.
    fn enqueue(&mut self) {
        let durable = self.transaction.is_empty() && self.rng.random_bool(0.3);
        let mut items: Vec<(Target, NewEvent)> = Vec::new();
        if self.rng.random_bool(0.4) {
            let target = self.target();
            let event = self.event(0.1);
            let enqueue = Enqueue {
                stream: &target.stream,
                tenant: target.tenant,
                entity: target.entity.as_deref(),
                event: &event,
                durable,
            };
            enqueue.send(&mut self.sessions.other).expect("es_enqueue");
            items.push((target, event));
        } else {
            let tenant = *TENANTS.choose(&mut self.rng).expect("a tenant");
            let share = if self.rng.random_bool(0.1) { 0.5 } else { 0.0 };
            let count = self.rng.random_range(1..=5 * EVENTS_MAX);
            for _ in 0..count {
                let target = Target { tenant, ..self.target() };
                if self.may_be_new(&target) && self.has_entity(&target.stream) {
                    continue;
                }
                let event = self.event(share);
                items.push((Target { entity: None, ..target }, event));
            }
            let given: Vec<(String, NewEvent)> = items
                .iter()
                .map(|(target, event)| (target.stream.clone(), event.clone()))
                .collect();
            if given.is_empty() {
                return;
            }
            EnqueueBatch { tenant, items: &given, durable }
                .send(&mut self.sessions.other)
                .expect("es_enqueue_batch");
        }
        self.tally.enqueued += items.len();
        let keys: Vec<Key> = items.iter().map(|(target, _)| target.key()).collect();
        self.say(&format!("enqueued {} events, durable {durable}", items.len()));
        self.pending.extend(items);
        if durable {
            self.settle_pending(|key| keys.contains(key));
        }
    }

    fn has_entity(&self, stream: &str) -> bool {
        let index = self.names.iter().position(|name| name == stream).expect("a name");
        index % STREAMS_PER_PARTITION as usize == 0
    }

    /// Pending events of these streams have been written.
    fn settle_pending(&mut self, of: impl Fn(&Key) -> bool) {
        assert!(self.transaction.is_empty());
        for (target, event) in std::mem::take(&mut self.pending) {
            if of(&target.key()) {
                self.calls += 1;
                let events = [event];
                let written = self.committed.append(self.calls, &target.append(None, &events));
                written.expect("an event that can be written");
            } else {
                self.pending.push((target, event));
            }
        }
    }

    /// Waits for what is pending, unless a transaction is open that may hold it up.
    fn flush(&mut self) {
        if self.transaction.is_empty() && !self.pending.is_empty() {
            flush(&mut self.sessions.other).expect("es_flush");
            self.settle_pending(|_| true);
        }
    }

    // Appends.

    /// Whether the streams can be appended to now: what is pending for them comes before.
    fn can_append(&mut self, keys: &[Key]) -> bool {
        if keys.iter().any(|key| self.is_pending(key)) {
            if !self.transaction.is_empty() {
                return false;
            }
            self.flush();
        }
        true
    }

    fn expected(&mut self, version: Option<i64>) -> Option<i64> {
        match self.rng.random_range(0..10) {
            0..5 => None,
            5..8 => Some(version.unwrap_or(0)),
            8 => Some(-1),
            _ => Some(self.rng.random_range(0..=version.unwrap_or(0) + 1)),
        }
    }

    fn append(&mut self) {
        let target = self.target();
        if !self.can_append(&[target.key()]) {
            return;
        }
        let expected = self.expected(self.version(&target));
        let events = if self.rng.random_bool(0.5) { vec![self.event(0.2)] } else { self.events() };
        self.make(target, expected, events);
    }

    /// An earlier append with ids again.
    fn retry(&mut self) {
        let Some((target, mut expected, events)) = self.remembered.choose(&mut self.rng).cloned()
        else {
            return;
        };
        if !self.can_append(&[target.key()]) {
            return;
        }
        if self.rng.random_bool(0.5) {
            expected = None;
        }
        self.make(target, expected, events);
    }

    fn make(&mut self, target: Target, expected: Option<i64>, events: Vec<NewEvent>) {
        self.calls += 1;
        let mut after = self.now().clone();
        let append = target.append(expected, &events);
        let right = after.append(self.calls, &append);
        let answer = match events.len() {
            1 => append.one(&mut self.sessions.writer),
            _ => append.many(&mut self.sessions.writer),
        };
        self.say(&format!(
            "append {} to {:?}, expected {expected:?}: {answer:?}",
            events.len(),
            target.key()
        ));
        if !self.agrees(right, answer, |right, answer| right == answer) {
            return;
        }
        if events.iter().all(|event| event.id.is_some()) {
            self.remembered.push((target, expected, events));
            if self.remembered.len() > REMEMBERED_MAX {
                let forgotten = self.rng.random_range(0..REMEMBERED_MAX);
                self.remembered.swap_remove(forgotten);
            }
        }
        self.sees(after);
    }

    fn append_batch(&mut self) {
        let tenant = *TENANTS.choose(&mut self.rng).expect("a tenant");
        let mut items = Vec::new();
        for _ in 0..self.rng.random_range(1..=2 * EVENTS_MAX) {
            let target = Target { tenant, ..self.target() };
            if self.has_entity(&target.stream) {
                continue;
            }
            let version = self.version(&target);
            let expected = match self.rng.random_bool(0.1) {
                true => self.expected(version),
                false => None,
            };
            items.push(BatchItem { stream: target.stream, expected, event: self.event(0.0) });
        }
        let keys: Vec<Key> =
            items.iter().map(|item| (tenant.to_owned(), item.stream.clone())).collect();
        if items.is_empty() || !self.can_append(&keys) {
            return;
        }
        self.calls += 1;
        let mut after = self.now().clone();
        let batch = Batch { tenant, items: &items };
        let right = after.append_batch(self.calls, &batch);
        let answer = batch.append(&mut self.sessions.writer);
        self.say(&format!("append a batch of {}: {}", items.len(), answer.is_ok()));
        let agrees = self.agrees(right, answer, |right, answer| {
            right.len() == answer.len()
                && right.iter().zip(answer).all(|(right, answer)| {
                    (&right.stream, right.first_version, right.last_version)
                        == (&answer.stream, answer.first_version, answer.last_version)
                })
        });
        if agrees {
            self.sees(after);
        }
    }

    /// Whether both have accepted a call; fails the test where they differ.
    fn agrees<T: std::fmt::Debug, U: std::fmt::Debug>(
        &mut self,
        right: Result<T, Refused>,
        answer: Result<U, Error>,
        same: impl Fn(&T, &U) -> bool,
    ) -> bool {
        match (right, answer) {
            (Ok(right), Ok(answer)) => {
                assert!(same(&right, &answer), "{answer:?} where {right:?} is right");
                self.tally.appended += 1;
                true
            }
            (Err(Refused(states)), Err(error)) => {
                let (state, shown) = (failure::sqlstate(&error), failure::describe(&error));
                assert!(states.contains(&state), "{shown} where {states:?} is right");
                self.tally.refused += 1;
                self.recover();
                false
            }
            (Ok(right), Err(error)) => {
                panic!("{} where {right:?} is right", failure::describe(&error))
            }
            (Err(refused), Ok(answer)) => panic!("{answer:?} where {refused:?} is right"),
        }
    }

    /// `after` is what the writing session sees from now on.
    fn sees(&mut self, after: Reference) {
        match self.transaction.last_mut() {
            Some(now) => *now = after,
            None => self.committed = after,
        }
    }

    // Commands.

    fn heated(&mut self) -> i32 {
        *PARTITIONS[..HEATED].choose(&mut self.rng).expect("a partition")
    }

    fn heat(&mut self) {
        let partition = self.heated();
        self.say(&format!("heat {partition}"));
        hot::heat(&mut self.sessions.other, partition).expect("es_heat");
    }

    /// While a transaction is open it may have locked a stream that is to be settled.
    fn cool(&mut self) {
        let partition = self.heated();
        self.say(&format!("cool {partition}"));
        if self.transaction.is_empty() {
            hot::cool(&mut self.sessions.other, partition).expect("es_cool");
            let batches = hot::batches(&mut self.sessions.onlooker, partition);
            assert_eq!(batches, 0, "batches of partition {partition}, which is cold");
            return;
        }
        if let Err(error) = hot::cool_within(&mut self.sessions.other, partition, "200ms") {
            let shown = failure::describe(&error);
            assert_eq!(failure::sqlstate(&error), failure::CANCELLED, "{shown}");
        }
    }

    fn settle(&mut self) {
        self.say("settle");
        if !self.transaction.is_empty() {
            if let Err(error) = hot::settle_within(&mut self.sessions.other, None, "200ms") {
                let shown = failure::describe(&error);
                assert_eq!(failure::sqlstate(&error), failure::CANCELLED, "{shown}");
            }
            return;
        }
        hot::settle(&mut self.sessions.other).expect("es_settle");
        let committed = self.committed.clone();
        for ((tenant, name), stream) in committed.streams() {
            let read = ReadStream { tenant, ..ReadStream::all(name) };
            let events = hot::read(&mut self.sessions.onlooker, &read).expect("es_read");
            let unsettled =
                events[..stream.events.len()].iter().filter(|e| e.position == 0).count();
            assert_eq!(unsettled, 0, "{name} of {tenant} after es_settle: {events:#?}");
        }
    }

    fn rebuild(&mut self) {
        self.say("rebuild the sidecar");
        if let Err(error) = hot::rebuild(&mut self.sessions.other) {
            // Nothing is hot, so there is none.
            let shown = failure::describe(&error);
            assert_eq!(failure::sqlstate(&error), failure::NOT_IN_STATE, "{shown}");
        }
    }

    // Restarts.

    /// A process of the extension, which ends by itself and is started again.
    fn end_a_process(&mut self) {
        let (pid, what) = self.a_process();
        self.say(&format!("terminate the {what}"));
        let query = "SELECT pg_terminate_backend($1)";
        self.sessions.onlooker.execute(query, &[&pid]).expect(query);
        patience::until_true("it has ended", || {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
            let count: i64 = self.sessions.onlooker.query_one(query, &[&pid]).expect(query).get(0);
            count == 0
        });
        bulk::workers_up(&mut self.sessions.onlooker);
    }

    fn a_process(&mut self) -> (i32, &'static str) {
        if self.rng.random_bool(0.5) {
            (settler(&mut self.sessions.onlooker), "settler")
        } else {
            (bulk::workers_up(&mut self.sessions.onlooker)[0], "first worker")
        }
    }

    /// `kill -9` of one process, on which PostgreSQL restarts all of them.
    fn kill_a_process(&mut self) {
        let (pid, what) = self.a_process();
        self.say(&format!("kill the {what}"));
        self.cluster.signal("KILL", pid);
        patience::until_true("the server restarts", || {
            self.sessions.onlooker.batch_execute("SELECT 1").is_err()
        });
        self.tally.crashes += 1;
        self.after_crash();
    }

    fn restart(&mut self, how: Stop) {
        if how == Stop::Fast {
            self.end_transaction();
        }
        self.say(&format!("restart, {how:?}"));
        self.cluster.stop(how);
        if self.rng.random_bool(0.4) {
            self.say("the sidecar's files are gone");
            let _ = fs::remove_dir_all(self.cluster.sidecar_dir());
        }
        self.restarts += 1;
        self.tally.restarts += 1;
        self.cluster.start_again(&settings(self.restarts));
        if how == Stop::Kill {
            self.tally.crashes += 1;
            self.after_crash();
        } else {
            self.sessions = Sessions::new(self.cluster);
            self.check_all();
        }
    }

    /// Finds out what of the pending events is there.
    fn after_crash(&mut self) {
        self.transaction.clear();
        self.sessions = Sessions::new(self.cluster);
        flush(&mut self.sessions.other).expect("es_flush");
        let mut pending: BTreeMap<Key, Vec<(Target, NewEvent)>> = BTreeMap::new();
        for (target, event) in std::mem::take(&mut self.pending) {
            pending.entry(target.key()).or_default().push((target, event));
        }
        for ((tenant, name), events) in pending {
            let read = ReadStream { tenant: &tenant, ..ReadStream::all(&name) };
            let found = hot::read(&mut self.sessions.onlooker, &read).expect("es_read").len();
            for (target, event) in events {
                let there = self.committed.version(&tenant, &name).unwrap_or(0);
                if there == i64::try_from(found).expect("a small number") {
                    self.tally.lost += 1;
                    continue;
                }
                self.calls += 1;
                let events = [event];
                let written = self.committed.append(self.calls, &target.append(None, &events));
                written.expect("an event that can be written");
            }
        }
        self.check_all();
    }

    // Reading.

    /// A stream as the onlooker sees it, and as the writer does, who sees what it has not committed.
    fn read(&mut self) {
        let target = self.target();
        let (tenant, stream) = (target.tenant, target.stream.as_str());
        let version = self.version(&target).unwrap_or(0);
        let backward = self.rng.random_bool(0.5);
        let from_version = match self.rng.random_range(0..3) {
            0 if backward => None,
            0 => Some(1),
            _ => Some(self.rng.random_range(1..=version + 2)),
        };
        let max_count = *COUNTS.choose(&mut self.rng).expect("a count");
        let read = ReadStream { stream, tenant, from_version, max_count, backward };
        self.check_stream(tenant, stream);
        if self.is_pending(&target.key()) {
            self.flush();
            if !self.pending.is_empty() {
                return;
            }
        }
        for is_writer in [false, true] {
            let (client, reference) = match is_writer {
                true => (&mut self.sessions.writer, self.transaction.last()),
                false => (&mut self.sessions.onlooker, None),
            };
            let reference = reference.unwrap_or(&self.committed);
            let events = hot::read(client, &read).expect("es_read");
            let right = reference.read(&read);
            let context = format!("{}: writer {is_writer}, {read:?}", self.number);
            assert_same(&right, &events, reference, &context);
            let found = current_version(client, stream, tenant).expect("es_stream");
            assert_eq!(found, reference.version(tenant, stream), "{context}: es_stream");
            if !is_writer {
                self.sightings.note(&events, &context);
            }
            self.tally.read += events.len();
        }
    }

    /// All of a stream as the onlooker sees it: what is committed, and perhaps some of what is pending.
    fn check_stream(&mut self, tenant: &str, stream: &str) {
        let context = format!("{}: {stream} of {tenant}", self.number);
        let read = ReadStream { tenant, ..ReadStream::all(stream) };
        let events = hot::read(&mut self.sessions.onlooker, &read).expect("es_read");
        assert_is_stream(&events, &context);
        self.tally.read_unsettled += events.iter().filter(|e| e.position == 0).count();
        let mut reference = self.committed.clone();
        for (target, event) in &self.pending {
            let has_all = || reference.version(tenant, stream).unwrap_or(0) >= events.len() as i64;
            if target.key() == (tenant.to_owned(), stream.to_owned()) && !has_all() {
                let events = std::slice::from_ref(event);
                reference.append(0, &target.append(None, events)).expect("an event");
            }
        }
        assert_same(&reference.read(&read), &events, &reference, &context);
        self.sightings.note(&events, &context);
        let seen = self.sightings.version(tenant, stream);
        assert_eq!(seen, events.len() as i64, "{context}: more was seen before");
    }

    fn check_all(&mut self) {
        self.flush();
        self.say("check all");
        for name in self.names.clone() {
            for tenant in TENANTS {
                self.check_stream(tenant, &name);
            }
        }
        if self.pending.is_empty() && self.transaction.is_empty() {
            // While batches are there, some events may be counted twice, or not at all.
            let query = "SELECT sum(total_events)::int8 FROM allsource.partition_stats \
                         HAVING NOT EXISTS (SELECT FROM allsource.hot_partitions_status \
                                             WHERE batches > 0)";
            let rows = self.sessions.onlooker.query(query, &[]).expect(query);
            let right: usize =
                self.committed.streams().values().map(|stream| stream.events.len()).sum();
            for row in rows {
                let total: i64 = row.get(0);
                assert_eq!(total, right as i64, "{}: total_events", self.number);
            }
            assert_verified(&mut self.sessions.onlooker);
        }
    }

    fn end(&mut self) {
        self.end_transaction();
        self.check_all();
        for partition in PARTITIONS {
            hot::cool(&mut self.sessions.other, partition).expect("es_cool");
        }
        self.check_all();
        let letters = bulk::dead_letters(&mut self.sessions.other).expect("es_dead_letters");
        assert!(letters.is_empty(), "{letters:#?}");
        let all = all_events(&mut self.sessions.onlooker).expect("the content");
        let mut streams: BTreeMap<Key, Vec<Event>> = BTreeMap::new();
        for event in &all {
            let key = (event.tenant_id.clone(), event.stream_id.clone());
            streams.entry(key).or_default().push(event.clone());
        }
        let filled =
            self.committed.streams().iter().filter(|(_, stream)| !stream.events.is_empty());
        assert_eq!(streams.len(), filled.clone().count(), "streams in the view events");
        for ((tenant, name), _) in filled {
            let events = &streams[&(tenant.clone(), name.clone())];
            assert_is_stream(events, name);
            let read = ReadStream { tenant, ..ReadStream::all(name) };
            assert_same(&self.committed.read(&read), events, &self.committed, name);
            self.sightings.note(events, "the view events");
        }
        let mut paged: Vec<Event> = Vec::new();
        loop {
            let after = paged.last().map_or(0, |event| event.position);
            let page = ReadAll::after(after, 500).read(&mut self.sessions.onlooker);
            let page = page.expect("es_read_all");
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "es_read_all and the view events");
        assert_verified(&mut self.sessions.onlooker);
        let bad: Vec<_> = health(&mut self.sessions.onlooker)
            .expect("es_health")
            .into_iter()
            .filter(|(_, is_well, _)| !is_well)
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

fn assert_same(
    right: &[std::rc::Rc<allsource_e2e::reference::ModelEvent>],
    found: &[Event],
    reference: &Reference,
    context: &str,
) {
    let is_same = right.len() == found.len()
        && right
            .iter()
            .zip(found)
            .all(|(right, found)| right.is(found, reference.entity_of(right)));
    assert!(is_same, "{context}: {found:#?} where {right:#?} is right");
}
