//! What it costs to count: each call alone, and while a second thread hammers the same registry.
//! The bar is 50 ns a call. `cargo bench --no-default-features --bench metrics`

use allsource::metrics::kind::{Counter, ErrorKind, Function, Latency};
use allsource::metrics::registry::Registry;
use allsource::model::partition::Partition;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static REGISTRY: Registry = Registry::new();
static NEIGHBOUR_ENDS: AtomicBool = AtomicBool::new(false);

/// The same for both threads, as it is for the processes of a server: an add to a second that is long
/// past would be cheaper.
const NOW_S: u64 = 1_000_000;

fn each_call(criterion: &mut Criterion, group_name: &str) {
    let partition = Partition::of(b"order-1");
    let mut group = criterion.benchmark_group(group_name);
    group.bench_function("counter and rate", |bench| {
        bench.iter(|| REGISTRY.add(Counter::EventsAppended, black_box(10), black_box(NOW_S)));
    });
    group.bench_function("rate", |bench| {
        let rate = REGISTRY.rate(Counter::EventsAppended);
        bench.iter(|| rate.add(black_box(10), black_box(NOW_S)));
    });
    group.bench_function("call", |bench| {
        bench.iter(|| REGISTRY.call(black_box(Function::Append)));
    });
    group.bench_function("error", |bench| {
        bench.iter(|| REGISTRY.error(black_box(ErrorKind::Conflict)));
    });
    group.bench_function("partition", |bench| {
        bench.iter(|| REGISTRY.partition(black_box(partition), black_box(10)));
    });
    group.bench_function("histogram", |bench| {
        let mut calls = 0u64;
        bench.iter(|| {
            calls += 1;
            // From 1 us to 1 ms.
            let ns = 1_000 + calls.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000;
            REGISTRY.record(Latency::Append, black_box(Duration::from_nanos(ns)));
        });
    });
    group.finish();
}

fn alone(criterion: &mut Criterion) {
    each_call(criterion, "metrics alone");
}

fn beside_another_thread(criterion: &mut Criterion) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let partition = Partition::of(b"order-1");
            let mut calls = 0;
            // Relaxed: nothing but the end is told.
            while !NEIGHBOUR_ENDS.load(Ordering::Relaxed) {
                calls += 1;
                REGISTRY.add(Counter::EventsAppended, 1, NOW_S);
                REGISTRY.call(Function::Append);
                REGISTRY.error(ErrorKind::Conflict);
                REGISTRY.partition(partition, 1);
                REGISTRY.record(Latency::Append, Duration::from_nanos(1_000 + calls % 1_000_000));
            }
        });
        each_call(criterion, "metrics beside another thread");
        NEIGHBOUR_ENDS.store(true, Ordering::Relaxed);
    });
}

criterion_group!(benches, alone, beside_another_thread);
criterion_main!(benches);
