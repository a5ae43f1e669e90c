//! Scattered events of one client for the streams of a few partitions, each of which the server has
//! acknowledged: what the streams hold is known exactly, whatever happens to the server.

use std::collections::BTreeMap;

use postgres::{Client, GenericClient};
use serde_json::{Value, json};

use crate::bulk::EnqueueBatch;
use crate::calls::{Append, all_events, assert_verified, names_in};
use crate::event::NewEvent;
use crate::{failure, hot, patience};

const FILLER_BYTES: usize = 200;

/// So many streams of a partition are read to have the sidecar kept up to date.
const NAMES_READ: i64 = 5;

/// Streams, and what they must hold.
#[derive(Clone, Debug)]
pub struct Scattered {
    /// The partitions.
    pub partitions: Vec<i32>,
    /// Bytes of a payload, about.
    pub filler_bytes: usize,
    /// Whether nobody else has streams in the partitions.
    pub is_alone: bool,
    streams: BTreeMap<String, Vec<i64>>,
    next: i64,
}

impl Scattered {
    /// So many streams of each partition, without an event.
    ///
    /// # Panics
    /// Where the server cannot be asked.
    pub fn new(client: &mut Client, partitions: &[i32], streams: i64) -> Self {
        let names = partitions.iter().flat_map(|partition| names_in(client, *partition, streams));
        Self {
            partitions: partitions.to_vec(),
            filler_bytes: FILLER_BYTES,
            is_alone: true,
            streams: names.map(|name| (name, Vec::new())).collect(),
            next: 0,
        }
    }

    /// The same in partitions that are made hot.
    ///
    /// # Panics
    /// Where they cannot be.
    pub fn heated(client: &mut Client, partitions: &[i32], streams: i64) -> Self {
        let scattered = Self::new(client, partitions, streams);
        scattered.heat(client);
        scattered
    }

    /// Makes the partitions hot.
    ///
    /// # Panics
    /// Where they cannot be.
    pub fn heat(&self, client: &mut impl GenericClient) {
        for partition in &self.partitions {
            hot::heat(client, *partition)
                .unwrap_or_else(|error| panic!("es_heat: {}", failure::describe(&error)));
        }
    }

    /// The store is as it was when `past` was true. No later event is ever made again, so that one that
    /// is there all the same is found.
    pub fn back_to(&mut self, past: &Self) {
        self.streams.clone_from(&past.streams);
    }

    /// Other events than those of another client.
    pub fn differ_from(&mut self, other: &Self) {
        self.next = other.next + 1_000_000;
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.streams.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the streams.
    pub fn names(&self) -> Vec<String> {
        self.streams.keys().cloned().collect()
    }

    /// Enqueues so many events for each stream, and waits until they are durable.
    ///
    /// # Panics
    /// Where that fails.
    pub fn enqueue(&mut self, client: &mut impl GenericClient, events: usize) {
        for _ in 0..events {
            let items = self.next_items();
            let sent = EnqueueBatch::of(&items).durably().send(client);
            sent.unwrap_or_else(|error| panic!("es_enqueue: {}", failure::describe(&error)));
            self.enter(&items);
        }
    }

    /// The next event of each stream, which is not taken for acknowledged before [`Self::enter`].
    pub fn next_items(&mut self) -> Vec<(String, NewEvent)> {
        let mut item = |name: &String| {
            self.next += 1;
            (name.clone(), event(self.next, self.filler_bytes))
        };
        self.streams.keys().map(&mut item).collect()
    }

    /// These were acknowledged.
    ///
    /// # Panics
    /// Where they are not what [`Self::next_items`] has made.
    pub fn enter(&mut self, items: &[(String, NewEvent)]) {
        for (name, event) in items {
            let number = event.payload["n"].as_i64().expect("a number");
            self.streams.get_mut(name).expect("a stream").push(number);
        }
    }

    /// Appends an event to every `step`th stream, at the version that it must have.
    ///
    /// # Panics
    /// Where that fails.
    pub fn append(&mut self, client: &mut impl GenericClient, step: usize) {
        for (name, numbers) in self.streams.iter_mut().step_by(step) {
            self.next += 1;
            let events = [event(self.next, self.filler_bytes)];
            let expected = numbers.len() as i64;
            let appended = Append::to(name, &events).expecting(expected).one(client);
            let version =
                appended.unwrap_or_else(|error| panic!("es_append: {}", failure::describe(&error)));
            assert_eq!(version, expected + 1, "{name}");
            numbers.push(self.next);
        }
    }

    /// Every stream is read as it must be.
    ///
    /// # Panics
    /// Where one is not.
    pub fn assert_read(&self, client: &mut impl GenericClient, context: &str) {
        let query = "SELECT s.name, e.version, (e.payload ->> 'n')::int8 \
                     FROM unnest($1::text[]) AS s (name), LATERAL allsource.es_read(s.name) AS e";
        let rows = client.query(query, &[&self.names()]);
        let rows = rows.unwrap_or_else(|error| panic!("{context}: {}", failure::describe(&error)));
        let mut found: BTreeMap<String, Vec<i64>> =
            self.streams.keys().map(|name| (name.clone(), Vec::new())).collect();
        for row in rows {
            let (name, version, number): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            let numbers = found.get_mut(&name).expect("a stream");
            numbers.push(number);
            assert_eq!(version, numbers.len() as i64, "{context}: versions of {name}");
        }
        self.assert_same(&found, context);
        let query = "SELECT s.name, COALESCE(t.current_version, 0) FROM unnest($1::text[]) AS s (name) \
                     LEFT JOIN LATERAL allsource.es_stream(s.name) AS t ON true";
        for row in client.query(query, &[&self.names()]).expect("es_stream") {
            let (name, version): (String, i64) = (row.get(0), row.get(1));
            let numbers = &self.streams[&name];
            assert_eq!(version, numbers.len() as i64, "{context}: es_stream of {name}");
        }
        let query = "SELECT sum(total_events)::int8 FROM allsource.partition_stats \
                     WHERE partition_id = ANY($1) \
                    HAVING NOT EXISTS (SELECT FROM allsource.hot_partitions_status WHERE batches > 0)";
        // While batches are there, some events may be counted twice, or not at all.
        for row in client.query(query, &[&self.partitions]).expect(query) {
            let total: i64 = row.get(0);
            let is_right = if self.is_alone { i64::eq } else { i64::ge };
            assert!(is_right(&total, &(self.len() as i64)), "{context}: partition_stats: {total}");
        }
    }

    /// Everything is in the log, in the order of each stream, nothing twice, and sound.
    ///
    /// # Panics
    /// Where it is not.
    pub fn assert_settled(&self, client: &mut impl GenericClient, context: &str) {
        let mut found: BTreeMap<String, Vec<i64>> =
            self.streams.keys().map(|name| (name.clone(), Vec::new())).collect();
        for event in all_events(client).expect("the content") {
            // Other streams are not ours.
            if let Some(numbers) = found.get_mut(&event.stream_id) {
                numbers.push(event.payload["n"].as_i64().expect("a number"));
                assert_eq!(event.version, numbers.len() as i64, "{context}: {event:?}");
            }
        }
        self.assert_same(&found, context);
        assert_verified(client);
    }

    /// Settles, and everything is in the log.
    ///
    /// # Panics
    /// Where it is not.
    pub fn settle(&self, client: &mut impl GenericClient, context: &str) {
        settled(client, context, |client| hot::settle(client));
        self.assert_settled(client, context);
    }

    /// Makes all partitions cold: everything is in the log, no batch is left, and nothing is wrong.
    ///
    /// # Panics
    /// Where it is not so.
    pub fn cool(&self, client: &mut impl GenericClient, context: &str) {
        for partition in &self.partitions {
            settled(client, context, |client| hot::cool_within(client, *partition, "50s"));
            assert_eq!(hot::batches(client, *partition), 0, "{context}: batches of {partition}");
            assert_eq!(hot::state(client, *partition).as_deref(), Some("cold"), "{context}");
        }
        self.assert_settled(client, context);
        self.assert_read(client, context);
    }

    /// Reads, takes in and settles as if nothing had happened, and the sidecar comes back.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn goes_on(&mut self, client: &mut Client, context: &str, settles_first: bool) {
        self.assert_read(client, context);
        if settles_first {
            self.settle(client, context);
        }
        self.enqueue(client, 2);
        self.append(client, 7);
        self.assert_read(client, context);
        self.enqueue(client, 1);
        self.settle(client, context);
        self.enqueue(client, 1);
        until_applied(client, &self.partitions);
        self.assert_read(client, context);
    }

    fn assert_same(&self, found: &BTreeMap<String, Vec<i64>>, context: &str) {
        for (name, numbers) in &self.streams {
            assert_eq!(&found[name], numbers, "{context}: events of {name}");
        }
    }
}

fn event(number: i64, filler_bytes: usize) -> NewEvent {
    NewEvent::new("scattered", json!({"n": number, "filler": filler(number, filler_bytes)}))
}

/// Text that compression cannot make small.
fn filler(number: i64, bytes: usize) -> Value {
    let mut state = number.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 75) as u8)
    };
    Value::String((0..bytes).map(|_| next()).filter(|c| *c != '\\').collect())
}

/// Makes a session ask the sidecar for every tail.
pub const ALWAYS_ASK: &str = "SET allsource.sidecar_min_batches = 0";

/// Calls what waits for the settler. Where that was not there, or has given up, the view says why.
fn settled<C: GenericClient>(
    client: &mut C,
    context: &str,
    call: impl FnOnce(&mut C) -> Result<(), postgres::Error>,
) {
    if let Err(error) = call(client) {
        let query = "SELECT p::text FROM allsource.hot_partitions_status AS p \
                     UNION ALL SELECT s::text FROM allsource.es_sidecar_stats() AS s";
        let rows = client.query(query, &[]).expect("hot_partitions_status");
        let shown: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        panic!("{context}: {}; {shown:#?}", failure::describe(&error));
    }
}

/// Waits until the sidecar has all batches of these partitions. It gets them as long as it is asked for
/// streams with unsettled events; [`names_in`] are read here, and from now on the session always asks it.
///
/// # Panics
/// Where it never has.
pub fn until_applied(client: &mut impl GenericClient, partitions: &[i32]) {
    let query = "SELECT count(*) = cardinality($1::int4[]) FROM allsource.hot_partitions_status \
                 WHERE partition_id = ANY($1) AND sidecar_lag = 0";
    let mut some = |partition: &i32| names_in(client, *partition, NAMES_READ);
    let names: Vec<String> = partitions.iter().flat_map(&mut some).collect();
    let read = "SELECT count(e.version) FROM unnest($1::text[]) AS s (name), \
                LATERAL allsource.es_read(s.name) AS e";
    client.batch_execute(ALWAYS_ASK).expect(ALWAYS_ASK);
    patience::until_true("the sidecar has all batches", || {
        client.execute(read, &[&names]).expect(read);
        let is_served = "SELECT serving FROM allsource.es_sidecar_stats()";
        client.query_one(is_served, &[]).expect(is_served).get(0)
            && client.query_one(query, &[&partitions]).expect(query).get(0)
    });
}
