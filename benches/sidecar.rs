//! The sidecar: applying batches, and reading while everything is in its cache. The bar is 1 us at the
//! median for one event by its key.
//! `eval "$(scripts/rocksdb.sh)" && cargo bench --no-default-features --features rocksdb --bench sidecar`

use allsource::board::{Answer, Asker, Board, Question, Subject};
use allsource::codec::hot_batch::{self, BODY_BYTES_MAX, HotBatchReader, HotBatchWriter, Pushed};
use allsource::codec::record::{Home, Record};
use allsource::model::batch::StreamKey;
use allsource::model::event::NewEvent;
use allsource::model::partition::Partition;
use allsource::sidecar::{Batches, Identity, Place, Server, Settings, Sidecar};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const IDENTITY: Identity =
    Identity { system_identifier: 1, timeline: 1, database: 1, incarnation: 1 };
/// Streams of one partition.
const STREAMS: u64 = 50_000;
/// Events of a batch, each of a stream of its own, drawn at random.
const BATCH_EVENTS: u64 = 2_000;
/// Batches that are there to be read: as many as give a stream 20 events.
const READ_BATCHES: i64 = (20 * STREAMS / BATCH_EVENTS) as i64;

/// Well spread numbers (splitmix64).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn partition() -> Partition {
    Partition::of(b"a")
}

fn streams() -> Vec<Vec<u8>> {
    let names = (0..).map(|number| format!("sensor-{number:08}").into_bytes());
    names.filter(|name| Partition::of(name) == partition()).take(STREAMS as usize).collect()
}

struct Body {
    batch_no: i64,
    bytes: Vec<u8>,
}

impl Body {
    /// A batch in which the events go through all streams, from where the batch before has stopped.
    fn new(batch_no: i64, streams: &[Vec<u8>], payload_bytes: usize) -> Self {
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        writer.begin(1_000_000 * batch_no);
        for number in 0..BATCH_EVENTS {
            let event = batch_no.cast_unsigned() * BATCH_EVENTS + number;
            // 7919 and the number of streams have no common factor.
            let stream_id = &streams[(event * 7_919 % STREAMS) as usize];
            let payload: Vec<u8> =
                (0..payload_bytes as u64).map(|at| random(event << 8 | at) as u8).collect();
            let record = Record {
                enqueued_at_us: 0,
                home: Home { database: 1, incarnation: 1 },
                stream_id,
                tenant_id: b"default",
                entity_id: None,
                event: NewEvent {
                    event_type: b"measured",
                    payload: &payload,
                    metadata: None,
                    event_id: None,
                },
            };
            assert_eq!(writer.push(&record), Ok(Pushed::Added));
        }
        Self { batch_no, bytes: writer.body().to_vec() }
    }

    fn reader(&self) -> HotBatchReader<'_> {
        let checksum = hot_batch::checksum(partition(), self.batch_no, &self.bytes);
        HotBatchReader::open(partition(), self.batch_no, checksum, &self.bytes).expect("a batch")
    }
}

fn open(name: &str) -> (Sidecar, PathBuf) {
    let path = std::env::temp_dir().join(format!("allsource-bench-{}-{name}", std::process::id()));
    let settings = Settings { cache_bytes: 512 << 20, ..Settings::default() };
    (Sidecar::open(&path, IDENTITY, settings).expect("a sidecar").0, path)
}

const HOME: Home = Home { database: 1, incarnation: 1 };

fn board() -> &'static Board {
    #[expect(unsafe_code, reason = "makes memory for a board")]
    // SAFETY: zeroed memory of the right size that is never freed.
    unsafe {
        Board::at(alloc_zeroed(Layout::new::<Board>()))
    }
}

fn applying(criterion: &mut Criterion, streams: &[Vec<u8>]) {
    let mut group = criterion.benchmark_group("sidecar apply");
    group.throughput(Throughput::Elements(BATCH_EVENTS)).sample_size(50);
    for payload_bytes in [32, 256] {
        let (sidecar, path) = open("apply");
        let next = Cell::new(1);
        group.bench_function(format!("{BATCH_EVENTS} events of {payload_bytes} bytes"), |bench| {
            bench.iter_batched_ref(
                || {
                    let batch_no = next.replace(next.get() + 1);
                    if batch_no > 500 {
                        sidecar.forget(partition(), batch_no - 500).expect("a mark");
                    }
                    Body::new(batch_no, streams, payload_bytes)
                },
                |body| sidecar.apply(&body.reader()).expect("room"),
                BatchSize::PerIteration,
            );
        });
        drop(sidecar);
        std::fs::remove_dir_all(path).expect("a folder");
    }
    group.finish();
}

fn reading(criterion: &mut Criterion, streams: &[Vec<u8>]) {
    let (sidecar, path) = open("read");
    let sidecar = Arc::new(sidecar);
    for batch_no in 1..=READ_BATCHES {
        sidecar.apply(&Body::new(batch_no, streams, 256).reader()).expect("room");
    }
    sidecar.flush().expect("a disk");
    let mut group = criterion.benchmark_group("sidecar read");
    let all = Batches { after: 0, up_to: READ_BATCHES };
    // Few streams, so that all that is read is in the cache.
    let places: Vec<(StreamKey<'_>, Place)> = (0..1_000)
        .map(|number| {
            let event = BATCH_EVENTS + random(number) % (READ_BATCHES as u64 * BATCH_EVENTS);
            let stream_id = &streams[(event * 7_919 % STREAMS) as usize];
            let batch_no = (event / BATCH_EVENTS).cast_signed();
            let place = (event % BATCH_EVENTS) as u32;
            (StreamKey { stream_id, tenant_id: b"default" }, Place { batch_no, place })
        })
        .collect();
    let mut number = 0;
    let mut next = || {
        number = (number + 1) % places.len();
        places[number]
    };
    for (stream, place) in &places {
        let found = sidecar.event(partition(), *stream, *place, |event| event.event.payload.len());
        assert_eq!(found, Ok(Some(256)));
        assert_eq!(
            sidecar.tail(partition(), *stream, all, None, 1 << 20).map(|p| p.events),
            Ok(20)
        );
    }
    group.bench_function("one event by its key", |bench| {
        bench.iter(|| {
            let (stream, place) = next();
            sidecar.event(partition(), stream, place, |event| black_box(event.event.payload.len()))
        });
    });
    group.bench_function("a tail of 20 events", |bench| {
        bench.iter(|| sidecar.tail(partition(), next().0, all, None, 1 << 20));
    });
    group.bench_function("the number of 20 events", |bench| {
        bench.iter(|| sidecar.count(partition(), next().0, all));
    });
    group.bench_function("no tail", |bench| {
        let stream = StreamKey { stream_id: &streams[7], tenant_id: b"another one" };
        bench.iter(|| sidecar.tail(partition(), black_box(stream), all, None, 1 << 20));
    });
    // With a thread of this process in the place of a backend.
    let board = board();
    let server = Server::start(board, HOME, &sidecar, 2).expect("threads");
    let asker = Asker::new();
    group.bench_function("a tail of 20 events, asked on the board", |bench| {
        bench.iter(|| {
            let (stream, subject) = (next().0, Subject::Tail { after: None });
            let question =
                Question { home: HOME, partition: partition(), stream, batches: all, subject };
            let deadline = Instant::now() + Duration::from_secs(1);
            let bytes = board.ask(
                &asker,
                &question,
                deadline,
                || {},
                |answer| match answer {
                    Answer::Tail { bytes, .. } => bytes.to_vec(),
                    _ => unreachable!("another answer"),
                },
            );
            bytes.expect("an answer")
        });
    });
    group.finish();
    drop(server);
    drop(sidecar);
    std::fs::remove_dir_all(path).expect("a folder");
}

fn sidecar(criterion: &mut Criterion) {
    let streams = streams();
    applying(criterion, &streams);
    reading(criterion, &streams);
}

criterion_group!(benches, sidecar);
criterion_main!(benches);
