//! The pure hot loops: hashing a name, planning a batch, encoding and reading a run.
//! `cargo bench --no-default-features`

use allsource::codec::checksum::RunKey;
use allsource::codec::run::{RunColumns, encode_run};
use allsource::model::batch::{Plan, StreamKey};
use allsource::model::event::NewEvent;
use allsource::model::partition::Partition;
use allsource::model::run::cut_runs;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const EVENTS: usize = 1_000;
const KEY: RunKey = RunKey { stream_no: 1, first_version: 1, position: 1, timestamp_us: 0 };

fn body(encoded: &[u8], start: usize) -> &[u8] {
    let word = encoded[start..start + 4].try_into().expect("a length word");
    &encoded[start + 4..start + (u32::from_le_bytes(word) >> 2) as usize]
}

fn hot_loops(criterion: &mut Criterion) {
    let payloads: Vec<[u8; 256]> = (0..EVENTS).map(|n| [n as u8; 256]).collect();
    let events: Vec<NewEvent> = payloads
        .iter()
        .map(|payload| NewEvent {
            event_type: b"order-placed",
            payload,
            metadata: None,
            event_id: None,
        })
        .collect();
    let names: Vec<String> = (0..EVENTS).map(|n| format!("stream-{}", n * 7_919 % 100)).collect();
    let streams: Vec<StreamKey> = names
        .iter()
        .map(|name| StreamKey { stream_id: name.as_bytes(), tenant_id: b"default" })
        .collect();

    let mut group = criterion.benchmark_group("hot_loops");
    group.bench_function("partition of a name", |bench| {
        bench.iter(|| Partition::of(black_box(b"customer-4711/order-0815")));
    });
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("plan 1,000 events of 100 streams", |bench| {
        bench.iter(|| {
            Plan::new(black_box(&streams).iter().copied()).and_then(|plan| plan.lock_order())
        });
    });
    let mut encoded = Vec::new();
    group.bench_function("cut and encode 1,000 events of 256 bytes", |bench| {
        bench.iter(|| {
            encoded.clear();
            for run in cut_runs(events.iter().map(NewEvent::size_bytes)) {
                black_box(encode_run(&mut encoded, KEY, None, events[run].iter())).expect("memory");
            }
        });
    });
    encoded.clear();
    let run = encode_run(&mut encoded, KEY, None, events.iter()).expect("memory");
    let columns = RunColumns {
        event_types: body(&encoded, run.event_types),
        payloads: body(&encoded, run.payloads),
        metadata: None,
        event_ids: None,
        timestamps: None,
    };
    group.bench_function("read 1,000 events", |bench| {
        bench.iter(|| {
            let mut readers = columns.readers().expect("a whole run");
            while readers.remaining() > 0 {
                black_box(readers.read().expect("an event"));
            }
        });
    });
    group.bench_function("checksum 1,000 events", |bench| {
        bench.iter(|| columns.checksum(black_box(KEY)));
    });
    group.finish();
}

criterion_group!(benches, hot_loops);
criterion_main!(benches);
