//! No memory is left for what a call asks for: the call is refused, and nobody else notices. The
//! calls are made with ever more room, so that each step of theirs is once the one that has none.

use allsource_e2e::bulk::{flush, pause, resume, worker};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::failure::{OUT_OF_MEMORY, describe, sqlstate};
use allsource_e2e::{Cluster, Enqueue, NewEvent};
use postgres::Client;
use serde_json::json;

const EVENTS: i64 = 400_000;
const STEP_BYTES: u64 = 6 << 20;
/// Enough for each of the calls.
const ROOM_MAX_BYTES: u64 = 600 << 20;

/// A server whose queue holds an event that nobody has drained.
struct Server {
    cluster: Cluster,
    client: Client,
    started: String,
}

impl Server {
    fn new(name: &str) -> Self {
        let settings = ["allsource.max_batch_events=1000000", "allsource.queue_size=64"];
        let cluster = Cluster::with_queue(name, &settings);
        let mut client = cluster.store();
        client
            .batch_execute(&format!(
                "CREATE TABLE arguments AS
                 SELECT array_agg('s' || i % 1000) AS streams, array_agg('t'::text) AS types,
                        array_agg(to_jsonb(i)) AS payloads,
                        array_agg(lpad(i::text, 32, '0')::uuid) AS ids, array_agg(-1::int8) AS versions
                   FROM generate_series(1, {EVENTS}) AS i"
            ))
            .expect("arguments");
        pause(&mut client).expect("es_worker_pause");
        let event = NewEvent::new("t", json!("waiting"));
        Enqueue::to("waiting", &event).send(&mut client).expect("es_enqueue");
        let started = started(&mut client);
        Self { cluster, client, started }
    }

    /// Runs `call` in transactions that are rolled back, until there is room for it.
    fn starve(&mut self, call: &str) {
        let mut refused = 0;
        let mut room = STEP_BYTES;
        let succeeded = loop {
            let mut starved = self.cluster.store();
            let row = starved.query_one("SELECT pg_backend_pid()", &[]).expect("a process");
            let pid: i32 = row.get(0);
            starved
                .batch_execute("BEGIN; SELECT allsource.es_append('warm', 't', '1')")
                .expect("BEGIN");
            self.cluster.limit_memory(pid, Some(room));
            let result = starved.simple_query(call);
            self.cluster.limit_memory(pid, None);
            match result {
                Ok(_) => break true,
                Err(error) => {
                    assert_eq!(sqlstate(&error), OUT_OF_MEMORY, "{}", describe(&error));
                    refused += 1;
                }
            }
            // The process goes on, and so do all others.
            starved
                .batch_execute("ROLLBACK; SELECT allsource.es_append('after', 't', '1')")
                .expect("an append");
            assert_eq!(started(&mut self.client), self.started, "the server was restarted");
            if room > ROOM_MAX_BYTES {
                break false;
            }
            room += STEP_BYTES;
        };
        assert!(succeeded, "there was never enough room for {call}");
        assert!(refused > 2, "there was always enough room for {call}");
    }

    /// What was enqueued before is still there, and is written.
    fn finish(mut self) {
        assert_eq!(worker(&mut self.client).depth_events, 1);
        resume(&mut self.client).expect("es_worker_resume");
        flush(&mut self.client).expect("es_flush");
        let events = all_events(&mut self.client).expect("es_read_all");
        assert!(events.iter().any(|event| event.payload == json!("waiting")));
        assert_verified(&mut self.client);
    }
}

fn started(client: &mut Client) -> String {
    // Shared memory is made again when the server recovers from a crash of one of its processes.
    let sql = "SELECT pg_postmaster_start_time()::text || ' ' || sum(enqueued)::text
                 FROM allsource.queue_stats";
    client.query_one(sql, &[]).expect("a time").get(0)
}

#[test]
fn a_batch_that_there_is_no_memory_for_is_refused() {
    let mut server = Server::new("memory-batch");
    server.starve(
        "SELECT count(*) FROM arguments,
                LATERAL allsource.es_append_batch(streams, types, payloads, payloads)",
    );
    server.starve(
        "SELECT count(*) FROM arguments,
                LATERAL allsource.es_append_batch(types, types, payloads, event_ids => ids)",
    );
    server.finish();
}

#[test]
fn events_of_one_stream_that_there_is_no_memory_for_are_refused() {
    let mut server = Server::new("memory-many");
    server.starve("SELECT allsource.es_append_many('many', types, payloads) FROM arguments");
    server.starve(
        "SELECT allsource.es_append_many('ids', types, payloads, event_ids => ids) FROM arguments",
    );
    server.finish();
}

#[test]
fn what_is_enqueued_is_refused_before_any_of_it_is_handed_over() {
    let mut server = Server::new("memory-enqueue");
    // The last event has no payload, so that nothing is ever handed over.
    server.client.batch_execute("UPDATE arguments SET types[400000] = ''").expect("UPDATE");
    let call = "SELECT allsource.es_enqueue_batch(streams, types, payloads) FROM arguments";
    server.starve(&format!(
        "DO $$ BEGIN PERFORM ({call});
         EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$"
    ));
    server.finish();
}

/// A session that follows the store remembers the names of streams, but not more and more of them.
#[test]
fn a_reader_of_many_streams_does_not_grow() {
    const STREAMS: i64 = 150_000;
    const GROWTH_KB_MAX: u64 = 32 << 10;
    let cluster = Cluster::with_store("memory-names");
    let call = "SELECT count(*) FROM allsource.es_append_batch(
                    (SELECT array_agg(rpad('s' || i, 200, '-')) FROM generate_series($1::int8, $1 + 9999) i),
                    array_fill('t'::text, ARRAY[10000]), array_fill('1'::jsonb, ARRAY[10000]))";
    let mut writer = cluster.store();
    for first in (0..STREAMS).step_by(10_000) {
        writer.query_one(call, &[&first]).expect("es_append_batch");
    }
    let mut reader = cluster.store();
    reader.batch_execute("SET work_mem = '1MB'").expect("SET");
    let row = reader.query_one("SELECT pg_backend_pid()", &[]).expect("a process");
    let pid: i32 = row.get(0);
    reader.query("SELECT FROM allsource.es_read_all(0, 1000)", &[]).expect("es_read_all");
    let before = private_kb(pid);
    let all = "SELECT count(*) FROM allsource.es_read_all(0, NULL)";
    let count: i64 = reader.query_one(all, &[]).expect("es_read_all").get(0);
    assert_eq!(count, STREAMS);
    let grown = private_kb(pid).saturating_sub(before);
    assert!(grown < GROWTH_KB_MAX, "the process has grown by {grown} kB");
}

/// Memory that a process has for itself.
fn private_kb(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
