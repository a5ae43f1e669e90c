//! How many records a second go through the ring, from producer processes to a consumer process,
//! beside crossbeam's `ArrayQueue` of boxes between threads.
//! `cargo bench --no-default-features --bench ring`
//!
//! Every record is copied in by its producer, and its first and last word are read by the consumer.
//! A box is allocated by its producer and dropped by the consumer. Both wait alike, and have room
//! for as many records. The rounds of all kinds take turns; the table has their medians.
#![expect(unsafe_code, reason = "makes a ring in memory that it maps")]

#[path = "../tests/forked/mod.rs"]
mod forked;

use allsource::queue::{Capacity, Ring, WakeFlag};
use crossbeam_queue::ArrayQueue;
use forked::{Child, End, SharedMemory};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const RECORD_BYTES: usize = 128;
const CAPACITY: Capacity = Capacity::at_least(8 << 20);
const QUEUE_RECORDS: usize = CAPACITY.bytes() as usize / RECORD_BYTES;
const PRODUCERS: [u64; 3] = [1, 2, 4];
/// Records of a round, all producers together.
const RECORDS: u64 = 2_000_000;
const ROUNDS: usize = 7;
/// The consumer releases after as many records at the latest.
const BATCH_RECORDS: u64 = 256;

type Record = [u8; RECORD_BYTES];

fn record(number: u64) -> Record {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number.to_ne_bytes());
    record[RECORD_BYTES - 8..].copy_from_slice(&number.to_ne_bytes());
    record
}

fn first_and_last(record: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("a word"));
    word(&record[..8]).wrapping_add(word(&record[record.len() - 8..]))
}

/// What all first and last words of a round add up to.
fn sum_of(producers: u64) -> u64 {
    let each = RECORDS / producers;
    producers * (each * (each - 1))
}

/// Waits longer the longer it lasts, up to giving the processor away.
#[derive(Default)]
struct Wait(u32);

impl Wait {
    fn once_more(&mut self) {
        if self.0 < 7 {
            (0..1_u32 << self.0).for_each(|_| spin_loop());
            self.0 += 1;
        } else {
            std::thread::yield_now();
        }
    }
}

/// Producers say that they are there, and wait for each other and the consumer.
fn meet(met: &AtomicU64, all: u64) {
    met.fetch_add(1, Ordering::SeqCst);
    while met.load(Ordering::SeqCst) < all {
        std::thread::yield_now();
    }
}

/// What the processes share besides the ring. Zeros are its beginning.
struct Beside {
    met: AtomicU64,
    wake: WakeFlag,
}

/// Seconds of a round through the ring; with `wake` every push asks whether to wake the consumer.
fn ring_round(producers: u64, wake: bool) -> f64 {
    let memory = SharedMemory::new(Ring::memory_bytes(CAPACITY));
    let beside = SharedMemory::new(size_of::<Beside>());
    // SAFETY: zeroed and aligned, and mapped for as long as this function runs.
    let beside: &Beside = unsafe { beside.address().cast().as_ref() };
    // SAFETY: likewise, and large enough.
    let ring = unsafe { Ring::init(memory.address(), CAPACITY) };
    let produce = || {
        meet(&beside.met, producers + 1);
        for number in 0..RECORDS / producers {
            let record = record(number);
            let mut wait = Wait::default();
            while ring.try_push(&[&record]).is_err() {
                wait.once_more();
            }
            if wake {
                black_box(beside.wake.must_wake());
            }
        }
    };
    let children: Vec<Child> = (0..producers).map(|_| Child::fork(produce)).collect();
    meet(&beside.met, producers + 1);
    let start = Instant::now();
    // SAFETY: the only one.
    let mut consumer = unsafe { ring.consumer() };
    let (mut taken, mut sum) = (0, 0_u64);
    let mut wait = Wait::default();
    while taken < RECORDS {
        let (mut offset, before) = (consumer.read_offset(), taken);
        while let Some((record, next)) = consumer.peek_from(offset) {
            sum = sum.wrapping_add(first_and_last(record));
            offset = next;
            taken += 1;
            if taken - before == BATCH_RECORDS {
                break;
            }
        }
        if taken > before {
            consumer.release(offset);
            wait = Wait::default();
        } else {
            wait.once_more();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(sum, sum_of(producers));
    children.into_iter().for_each(|child| assert_eq!(child.wait(), End::Done));
    seconds
}

/// Seconds of a round through the queue of boxes.
fn array_queue_round(producers: u64) -> f64 {
    let queue = ArrayQueue::<Box<Record>>::new(QUEUE_RECORDS);
    let met = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..producers {
            scope.spawn(|| {
                meet(&met, producers + 1);
                for number in 0..RECORDS / producers {
                    let mut boxed = Box::new(record(number));
                    let mut wait = Wait::default();
                    while let Err(refused) = queue.push(boxed) {
                        boxed = refused;
                        wait.once_more();
                    }
                }
            });
        }
        meet(&met, producers + 1);
        let start = Instant::now();
        let (mut taken, mut sum) = (0, 0_u64);
        let mut wait = Wait::default();
        while taken < RECORDS {
            match queue.pop() {
                Some(record) => {
                    sum = sum.wrapping_add(first_and_last(&record[..]));
                    taken += 1;
                    wait = Wait::default();
                }
                None => wait.once_more(),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(sum, sum_of(producers));
        seconds
    })
}

/// Million records a second, by the median of the rounds' seconds.
fn rate(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    RECORDS as f64 / seconds[seconds.len() / 2] / 1e6
}

fn main() {
    println!("million records of {RECORD_BYTES} bytes a second, medians of {ROUNDS} rounds");
    println!("producers    ring  ring, asking to wake  ArrayQueue of boxes  ring : ArrayQueue");
    let mut rows = Vec::new();
    for producers in PRODUCERS {
        let [mut ring, mut asking, mut boxes] = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            ring.push(ring_round(producers, false));
            boxes.push(array_queue_round(producers));
            asking.push(ring_round(producers, true));
        }
        let (ring, asking, boxes) = (rate(ring), rate(asking), rate(boxes));
        let ratio = ring / boxes;
        println!("{producers:9}{ring:8.2}{asking:22.2}{boxes:21.2}{ratio:19.2}");
        rows.push(format!(
            "{{\"producers\":{producers},\"ring\":{ring:.3},\"ring_asking_to_wake\":{asking:.3},\
             \"array_queue\":{boxes:.3},\"ratio\":{ratio:.3}}}"
        ));
    }
    println!(
        "{{\"bench\":\"ring\",\"unit\":\"million records/s\",\"record_bytes\":{RECORD_BYTES},\
         \"rounds\":{ROUNDS},\"results\":[{}]}}",
        rows.join(",")
    );
}
