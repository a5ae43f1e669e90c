//! Random calls against a real server and against a plain reference in memory: every answer,
//! every refusal and, at the end, the whole content must be the same.
//!
//! One session writes, in transactions with savepoints and in single statements; another one
//! looks on, and must see what is committed and nothing else.

use allsource_e2e::calls::{Appended, all_events, assert_verified, current_version};
use allsource_e2e::event::NewEvent;
use allsource_e2e::reference::{ModelEvent, Reference, Refused};
use allsource_e2e::{
    Append, Batch, BatchItem, Cluster, Event, ReadAll, ReadStream, Seed, failure, sizes,
};
use postgres::{Client, Error};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use uuid::Uuid;

const STEPS: u64 = 2_000;
const SAVEPOINTS_MAX: usize = 4;
const REMEMBERED_MAX: usize = 50;
const COUNTS: [Option<i64>; 6] = [None, Some(1), Some(2), Some(5), Some(17), Some(1_000)];
const TENANTS: [&str; 3] = ["default", "other", "OTHER"];
const ISOLATION: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// Streams of this prefix have an entity and are not written by batches, which cannot give one.
const WITH_ENTITY: &str = "entity-";

#[test]
fn the_store_answers_as_the_reference_does() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("model");
    let steps = sizes::number("ALLSOURCE_MODEL_STEPS", STEPS * sizes::factor());
    let mut model = Model::new(cluster.store(), cluster.store(), seed.rng(0));
    for _ in 0..steps {
        model.step();
    }
    model.end_transaction();
    model.assert_same_content();
    println!("{:?}", model.tally);
}

/// How often what has happened: a run in which nothing was refused has tested little.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    retried: u64,
    refused: u64,
    rolled_back: u64,
    events_read: usize,
}

/// A call that can be made again.
#[derive(Clone, Debug)]
enum Call {
    One(Target, NewEvent),
    Many(Target, Vec<NewEvent>),
    Batch(&'static str, Vec<BatchItem>),
}

#[derive(Clone, Debug)]
struct Target {
    stream: String,
    tenant: &'static str,
    expected: Option<i64>,
    entity: Option<String>,
}

impl Target {
    fn append<'a>(&'a self, events: &'a [NewEvent]) -> Append<'a> {
        Append {
            stream: &self.stream,
            tenant: self.tenant,
            expected: self.expected,
            entity: self.entity.as_deref(),
            events,
        }
    }
}

/// What the server answered to a call.
enum Answer {
    Version(i64),
    Batch(Vec<Appended>),
}

struct Model {
    writer: Client,
    onlooker: Client,
    rng: StdRng,
    names: Vec<String>,
    calls: u64,
    /// What is committed.
    committed: Reference,
    /// What the open transaction sees, if one is open: as it is now last, and before that as it
    /// was at each savepoint.
    transaction: Vec<Reference>,
    /// Calls with ids that were answered, for retries.
    remembered: Vec<Call>,
    tally: Tally,
}

impl Model {
    fn new(writer: Client, onlooker: Client, rng: StdRng) -> Self {
        Self {
            writer,
            onlooker,
            rng,
            names: names(),
            calls: 0,
            committed: Reference::default(),
            transaction: Vec::new(),
            remembered: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..50 => self.append(),
            50..58 => self.retry(),
            58..62 => self.create(),
            62..66 => self.bad_call(),
            66..78 => self.read(),
            78..80 => self.read_all(),
            80..86 => self.begin(),
            86..91 => self.savepoint(),
            91..94 => self.rollback_to(),
            94..95 => self.release(),
            _ => self.end_transaction(),
        }
    }

    /// What the writing session sees.
    fn now(&self) -> &Reference {
        self.transaction.last().unwrap_or(&self.committed)
    }

    fn sql(&mut self, statement: &str) {
        self.writer
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {}", failure::describe(&error)));
    }

    // Transactions.

    fn begin(&mut self) {
        if self.transaction.is_empty() {
            let level = ISOLATION.choose(&mut self.rng).expect("a level");
            self.sql(&format!("BEGIN ISOLATION LEVEL {level}"));
            self.transaction.push(self.committed.clone());
        }
    }

    fn savepoint(&mut self) {
        let depth = self.transaction.len();
        if (1..=SAVEPOINTS_MAX).contains(&depth) {
            self.sql(&format!("SAVEPOINT s{depth}"));
            self.transaction.push(self.now().clone());
        }
    }

    /// To a random savepoint of the transaction, not always the last one.
    fn rollback_to(&mut self) {
        let depth = self.transaction.len();
        if depth >= 2 {
            let target = self.rng.random_range(1..depth);
            self.sql(&format!("ROLLBACK TO s{target}"));
            self.transaction.truncate(target);
            self.transaction.push(self.transaction[target - 1].clone());
            self.tally.rolled_back += 1;
        }
    }

    fn release(&mut self) {
        let depth = self.transaction.len();
        if depth >= 2 {
            self.sql(&format!("RELEASE s{}", depth - 1));
            self.transaction.remove(depth - 2);
        }
    }

    fn end_transaction(&mut self) {
        if self.transaction.is_empty() {
            return;
        }
        if self.rng.random_bool(0.7) {
            self.sql("COMMIT");
            self.committed = self.now().clone();
            self.transaction.clear();
        } else {
            self.rollback();
        }
    }

    fn rollback(&mut self) {
        self.sql("ROLLBACK");
        self.transaction.clear();
        self.tally.rolled_back += 1;
    }

    /// After a refusal an open transaction can only go back.
    fn recover(&mut self) {
        match self.transaction.len() {
            0 => {}
            1 => self.rollback(),
            _ => self.rollback_to(),
        }
    }

    // Appends.

    fn append(&mut self) {
        let call = match self.rng.random_range(0..3) {
            0 => Call::One(self.target(), self.event(0.3)),
            1 => {
                let share_with_id = self.share_with_id();
                let count = self.rng.random_range(1..=14);
                let events = (0..count).map(|_| self.event(share_with_id)).collect();
                Call::Many(self.target(), events)
            }
            _ => self.batch(),
        };
        self.make(call);
    }

    fn batch(&mut self) -> Call {
        let tenant = self.tenant();
        let share_with_id = self.share_with_id();
        let count = self.rng.random_range(1..=14);
        let items = (0..count)
            .map(|_| {
                let stream = loop {
                    let name = self.name();
                    if !name.starts_with(WITH_ENTITY) {
                        break name;
                    }
                };
                let expected = self.expected(tenant, &stream, 0.15);
                BatchItem { stream, expected, event: self.event(share_with_id) }
            })
            .collect();
        Call::Batch(tenant, items)
    }

    /// Ids are given for all events of a call or for none.
    fn share_with_id(&mut self) -> f64 {
        if self.rng.random_bool(0.3) { 1.0 } else { 0.0 }
    }

    /// An earlier call again: as it was, with another place, or with another content.
    fn retry(&mut self) {
        let Some(mut call) = self.remembered.choose(&mut self.rng).cloned() else { return };
        let change = self.rng.random_range(0..10);
        let surplus = self.event(1.0);
        match &mut call {
            Call::One(target, event) => match change {
                0 => event.payload = json!("changed"),
                1 => event.event_type.push('!'),
                2 => target.expected = None,
                3 => target.expected = Some(1_000_000),
                4 => target.tenant = TENANTS.choose(&mut self.rng).expect("a tenant"),
                _ => {}
            },
            Call::Many(target, events) => match change {
                0 => events[0].payload = json!("changed"),
                1 => events.push(surplus),
                2 => target.expected = None,
                3 => events.reverse(),
                4 => target.tenant = TENANTS.choose(&mut self.rng).expect("a tenant"),
                _ => {}
            },
            Call::Batch(_, items) => match change {
                0 => items[0].event.payload = json!("changed"),
                1 => items[0].event.event_type.push('!'),
                2 => items.iter_mut().for_each(|item| item.expected = None),
                _ => {}
            },
        }
        self.make(call);
    }

    fn create(&mut self) {
        let (tenant, name) = (self.tenant(), self.name());
        if name.starts_with(WITH_ENTITY) {
            return;
        }
        let mut after = self.now().clone();
        let expected = after.create(tenant, &name).expect("a good name");
        let query = "SELECT current_version FROM allsource.es_create_stream($1, $2)";
        let row = self.writer.query_one(query, &[&name, &tenant]).expect("es_create_stream");
        assert_eq!(row.get::<_, i64>(0), expected);
        self.settle(after);
    }

    /// Calls that are wrong whatever the store holds.
    fn bad_call(&mut self) {
        let event = self.event(0.0);
        let mut target = self.target();
        match self.rng.random_range(0..4) {
            0 => target.stream = String::new(),
            1 => target.stream = "x".repeat(256),
            2 => target.expected = Some(-2),
            _ => {
                self.make(Call::Many(target, Vec::new()));
                return;
            }
        }
        self.make(Call::One(target, event));
    }

    /// Makes a call of the server and of the reference and compares.
    fn make(&mut self, call: Call) {
        self.calls += 1;
        let number = self.calls;
        let mut after = self.now().clone();
        let known = after.log().len();
        let answer = self.ask(&call);
        let agreed = match (&call, answer) {
            (Call::One(target, event), answer) => {
                let expected = after.append(number, &target.append(std::slice::from_ref(event)));
                self.compare(&call, expected, answer, same_version)
            }
            (Call::Many(target, events), answer) => {
                let expected = after.append(number, &target.append(events));
                self.compare(&call, expected, answer, same_version)
            }
            (Call::Batch(tenant, items), answer) => {
                let expected = after.append_batch(number, &Batch { tenant, items });
                self.compare(&call, expected, answer, |written, answer| {
                    let Answer::Batch(rows) = answer else { return false };
                    let same = |(w, row): (&allsource_e2e::reference::Written, &Appended)| {
                        (&w.stream, w.first_version, w.last_version)
                            == (&row.stream, row.first_version, row.last_version)
                    };
                    written.len() == rows.len() && written.iter().zip(rows).all(same)
                })
            }
        };
        if !agreed {
            self.tally.refused += 1;
            self.recover();
            return;
        }
        if after.log().len() == known {
            self.tally.retried += 1;
        } else {
            self.tally.written += 1;
            self.remember(call);
        }
        self.settle(after);
    }

    fn ask(&mut self, call: &Call) -> Result<Answer, Error> {
        let client = &mut self.writer;
        match call {
            Call::One(target, event) => {
                let answer = target.append(std::slice::from_ref(event)).one(client);
                answer.map(Answer::Version)
            }
            Call::Many(target, events) => target.append(events).many(client).map(Answer::Version),
            Call::Batch(tenant, items) => Batch { tenant, items }.append(client).map(Answer::Batch),
        }
    }

    /// Whether both accepted the call; fails the test where they differ.
    fn compare<T: std::fmt::Debug>(
        &self,
        call: &Call,
        expected: Result<T, Refused>,
        answer: Result<Answer, Error>,
        same: impl Fn(&T, &Answer) -> bool,
    ) -> bool {
        match (expected, answer) {
            (Ok(expected), Ok(answer)) => {
                let got = match &answer {
                    Answer::Version(version) => format!("{version}"),
                    Answer::Batch(rows) => format!("{rows:?}"),
                };
                assert!(same(&expected, &answer), "{call:?}: {got} where {expected:?} is right");
                true
            }
            (Err(Refused(states)), Err(error)) => {
                let state = failure::sqlstate(&error);
                let shown = failure::describe(&error);
                assert!(states.contains(&state), "{call:?}: {shown} where {states:?} is right");
                false
            }
            (Ok(expected), Err(error)) => {
                panic!("{call:?}: {} where {expected:?} is right", failure::describe(&error))
            }
            (Err(refused), Ok(_)) => panic!("{call:?}: accepted where {refused:?} is right"),
        }
    }

    fn remember(&mut self, call: Call) {
        let all_have_ids = match &call {
            Call::One(_, event) => event.id.is_some(),
            Call::Many(_, events) => events.iter().all(|event| event.id.is_some()),
            Call::Batch(_, items) => items.iter().all(|item| item.event.id.is_some()),
        };
        if all_have_ids {
            self.remembered.push(call);
            if self.remembered.len() > REMEMBERED_MAX {
                let forgotten = self.rng.random_range(0..REMEMBERED_MAX);
                self.remembered.swap_remove(forgotten);
            }
        }
    }

    /// `after` is what the writing session sees from now on.
    fn settle(&mut self, after: Reference) {
        match self.transaction.last_mut() {
            Some(now) => *now = after,
            None => self.committed = after,
        }
    }

    // Reads.

    /// A stream as the writer sees it, with what it has not committed, and as the onlooker does.
    fn read(&mut self) {
        let (stream, tenant) = (self.name(), self.tenant());
        let version = self.now().version(tenant, &stream).unwrap_or(0);
        let backward = self.rng.random_bool(0.5);
        let from_version = match self.rng.random_range(0..3) {
            0 if backward => None,
            0 => Some(1),
            _ => Some(self.rng.random_range(1..=version + 2)),
        };
        let max_count = *COUNTS.choose(&mut self.rng).expect("a count");
        let read = ReadStream { stream: &stream, tenant, from_version, max_count, backward };

        let mine = read.read(&mut self.writer).expect("es_read");
        assert_same_events(&self.now().read(&read), &mine, self.now(), &format!("{read:?}"));
        let theirs = read.read(&mut self.onlooker).expect("es_read");
        let expected = self.committed.read(&read);
        assert_same_events(&expected, &theirs, &self.committed, &format!("onlooker, {read:?}"));
        self.tally.events_read += mine.len() + theirs.len();

        let mine = current_version(&mut self.writer, &stream, tenant).expect("es_stream");
        assert_eq!(mine, self.now().version(tenant, &stream), "current version of {stream}");
        let theirs = current_version(&mut self.onlooker, &stream, tenant).expect("es_stream");
        assert_eq!(theirs, self.committed.version(tenant, &stream), "onlooker, {stream}");
    }

    /// The tail: what is committed, in both sessions, since nobody else appends. A filter leaves
    /// out what does not match, and nothing else.
    fn read_all(&mut self) {
        let types: Vec<String> = vec!["created".to_owned(), "changed".to_owned()];
        let tenant = self.rng.random_bool(0.5).then(|| self.tenant());
        let event_types = self.rng.random_bool(0.5).then_some(types.as_slice());
        let max_count = self.rng.random_range(1..200);
        let matches = |event: &ModelEvent| {
            tenant.is_none_or(|tenant| event.key.0 == tenant)
                && event_types.is_none_or(|types| types.contains(&event.event.event_type))
        };
        for client in [&mut self.writer, &mut self.onlooker] {
            let mut tail: Vec<Event> = Vec::new();
            loop {
                let after = ReadAll::after(tail.last().map_or(0, |e| e.position), max_count);
                let page = ReadAll { tenant, event_types, ..after };
                let page = page.read(client).expect("es_read_all");
                if page.is_empty() {
                    break;
                }
                tail.extend(page);
            }
            let expected = self.committed.log().iter().filter(|event| matches(event));
            let expected: Vec<_> = expected.cloned().collect();
            assert_same_log(&expected, &tail, &self.committed);
        }
    }

    /// Everything, at the end.
    fn assert_same_content(&mut self) {
        let content = all_events(&mut self.onlooker).expect("the content");
        assert_same_log(self.committed.log(), &content, &self.committed);
        for ((tenant, name), stream) in self.committed.streams() {
            let query = "SELECT s.current_version, s.entity_id, \
                         allsource.es_stream_watermark($1, $2), \
                         allsource.es_verify_gapless($1, $2) FROM allsource.es_stream($1, $2) s";
            let row = self.onlooker.query_one(query, &[name, tenant]).expect("es_stream");
            let version = self.committed.version(tenant, name).expect("a version");
            assert_eq!(row.get::<_, i64>(0), version, "current version of {name}");
            assert_eq!(row.get::<_, Option<String>>(1), stream.entity, "entity of {name}");
            assert_eq!(row.get::<_, i64>(2), version, "watermark of {name}");
            assert!(row.get::<_, bool>(3), "es_verify_gapless of {name}");
        }
        let query = "SELECT count(*) FROM allsource.event_streams";
        let streams: i64 = self.onlooker.query_one(query, &[]).expect("a count").get(0);
        assert_eq!(usize::try_from(streams), Ok(self.committed.streams().len()));
        assert_verified(&mut self.onlooker);
    }

    // Dice.

    fn target(&mut self) -> Target {
        let (stream, tenant) = (self.name(), self.tenant());
        let expected = self.expected(tenant, &stream, 0.4);
        let entity = stream.starts_with(WITH_ENTITY).then(|| format!("of {stream}"));
        Target { stream, tenant, expected, entity }
    }

    fn name(&mut self) -> String {
        self.names.choose(&mut self.rng).expect("a name").clone()
    }

    fn tenant(&mut self) -> &'static str {
        // Most are of the default tenant, so that its streams grow.
        if self.rng.random_bool(0.7) {
            return TENANTS[0];
        }
        TENANTS.choose(&mut self.rng).expect("a tenant")
    }

    /// An expected version with this probability, and then mostly the right one.
    fn expected(&mut self, tenant: &str, stream: &str, probability: f64) -> Option<i64> {
        if !self.rng.random_bool(probability) {
            return None;
        }
        let version = self.now().version(tenant, stream).unwrap_or(0);
        Some(match self.rng.random_range(0..10) {
            0 => 0,
            1 => -1,
            2 => version + 1,
            3 => (version - 1).max(0),
            _ => version,
        })
    }

    fn event(&mut self, share_with_id: f64) -> NewEvent {
        let event_type =
            *["created", "changed", "ünïcode", "\u{1F600}"].choose(&mut self.rng).expect("a type");
        let payload = match self.rng.random_range(0..8) {
            0 => Value::Null,
            1 => json!([]),
            2 => json!("x".repeat(self.rng.random_range(0..5_000))),
            _ => json!({"n": self.rng.random::<u32>(), "nested": {"list": [1, "two", null]}}),
        };
        let metadata = self.rng.random_bool(0.3).then(|| json!({"m": self.rng.random::<u8>()}));
        let id = self.rng.random_bool(share_with_id).then(|| Uuid::from_u128(self.rng.random()));
        NewEvent { event_type: event_type.to_owned(), payload, metadata, id }
    }
}

fn same_version(expected: &i64, answer: &Answer) -> bool {
    matches!(answer, Answer::Version(version) if version == expected)
}

/// Names that differ only in what must not be normalised, and names at the limits.
fn names() -> Vec<String> {
    let mut names: Vec<String> = (0..10).map(|number| format!("stream-{number}")).collect();
    names.extend((0..3).map(|number| format!("{WITH_ENTITY}{number}")));
    for odd in ["é", "e\u{301}", "Stream-1", "stream-1 ", " ", "a'b\"c\\d", "%_%", "日本語"] {
        names.push(odd.to_owned());
    }
    names.push("ß".repeat(255));
    names
}

fn assert_same_events(
    expected: &[std::rc::Rc<ModelEvent>],
    got: &[Event],
    reference: &Reference,
    what: &str,
) {
    assert_eq!(expected.len(), got.len(), "{what}: number of events");
    for (expected, got) in expected.iter().zip(got) {
        let entity = reference.entity_of(expected);
        assert!(expected.is(got, entity), "{what}: {got:?} where {expected:?} is right");
    }
}

/// Positions ascend with the calls that wrote the events; streams of one call may come in any
/// order, but events of a stream in the order of their versions.
fn assert_same_log(expected: &[std::rc::Rc<ModelEvent>], got: &[Event], reference: &Reference) {
    assert!(got.is_sorted_by(|one, other| one.position < other.position), "positions ascend");
    assert_eq!(expected.len(), got.len(), "number of events in the tail");
    let mut start = 0;
    for call in expected.chunk_by(|one, other| one.call == other.call) {
        let mut rest: Vec<&ModelEvent> = call.iter().map(AsRef::as_ref).collect();
        for event in &got[start..start + call.len()] {
            let next = rest.iter().position(|expected| expected.key.1 == event.stream_id);
            let expected = next.map(|index| rest.remove(index));
            let same = expected.is_some_and(|e| e.is(event, reference.entity_of(e)));
            assert!(same, "{event:?} where the tail should have {expected:?}");
        }
        start += call.len();
    }
}
