//! The ring under shuttle: more threads and longer runs than loom can go through, by schedules
//! drawn at random. `scripts/queue.sh shuttle`
//!
//! Shuttle knows interleavings only, not what weaker orderings allow: that is loom's part.
#![cfg(shuttle)]
#![expect(unsafe_code, reason = "one consumer at a time; rings outlive their handles")]

use allsource::queue::{Capacity, Consumer, HeapRing, PushError, Ring, WakeFlag};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

/// Schedules of each test; `ALLSOURCE_QUEUE_SCHEDULES` says otherwise.
const SCHEDULES: usize = 5_000;

/// Of the schedules for `check_pct`: changes of the thread that runs, at most.
const DEPTH: usize = 5;

const PRODUCERS: u8 = 4;
const RECORDS: u8 = 8;

fn schedules() -> usize {
    std::env::var("ALLSOURCE_QUEUE_SCHEDULES")
        .map_or(SCHEDULES, |value| value.parse().expect("a number of schedules"))
}

fn check(model: impl Fn() + Copy + Send + Sync + 'static) {
    shuttle::check_random(model, schedules());
    shuttle::check_pct(model, schedules(), DEPTH);
}

struct Shared {
    memory: HeapRing,
    wake: WakeFlag,
    latch: (Mutex<bool>, Condvar),
}

impl Shared {
    fn new() -> Arc<Self> {
        // The first record is near the end of a lap, and all of them go round several times.
        Arc::new(Self {
            memory: HeapRing::starting_at(Capacity::at_least(1024), 1024 - 64),
            wake: WakeFlag::new(),
            latch: (Mutex::new(false), Condvar::new()),
        })
    }

    fn ring(&self) -> Ring {
        // SAFETY: each thread uses it only while it has the `Shared`.
        unsafe { self.memory.ring() }
    }

    fn consumer(&self) -> Consumer {
        // SAFETY: the models have one at a time.
        unsafe { self.ring().consumer() }
    }

    fn wake_consumer(&self) {
        if self.wake.must_wake() {
            *self.latch.0.lock().unwrap() = true;
            self.latch.1.notify_one();
        }
    }

    fn sleep(&self, consumer: &Consumer) {
        self.wake.announce_sleep();
        if !consumer.has_record(consumer.read_offset()) {
            let mut set = self.latch.0.lock().unwrap();
            while !*set {
                set = self.latch.1.wait(set).unwrap();
            }
            *set = false;
        }
        self.wake.woken_up();
    }
}

/// Sizes from one byte to the largest there may be, in no order.
fn len(producer: u8, number: u8) -> usize {
    1 + (usize::from(producer) * 31 + usize::from(number) * 97) % 256
}

fn produce(shared: &Shared, producer: u8) {
    for number in 0..RECORDS {
        let body = vec![number; len(producer, number) - 1];
        while let Err(error) = shared.ring().try_push(&[&[producer], &body]) {
            assert_eq!(error, PushError::Full);
            thread::yield_now();
        }
        shared.wake_consumer();
    }
}

/// Each producer's record that is expected next.
type Expected = [u8; PRODUCERS as usize];

/// Takes up to `most` records, `batch` at a time.
fn consume(shared: &Shared, expected: &mut Expected, most: usize, batch: usize) {
    let mut consumer = shared.consumer();
    let mut taken = 0;
    while taken < most {
        let mut offset = consumer.read_offset();
        for _ in 0..batch.min(most - taken) {
            let Some((record, next)) = consumer.peek_from(offset) else { break };
            let producer = record[0];
            let number = &mut expected[usize::from(producer)];
            assert_eq!(record.len(), len(producer, *number));
            assert!(record[1..].iter().all(|byte| byte == number), "not whole, or not in order");
            *number += 1;
            taken += 1;
            offset = next;
        }
        if offset == consumer.read_offset() {
            shared.sleep(&consumer);
        } else {
            consumer.release(offset);
        }
    }
}

fn four_producers(consumers: usize, batch: usize) {
    let shared = Shared::new();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let shared = shared.clone();
            thread::spawn(move || produce(&shared, producer))
        })
        .collect();
    let all = usize::from(PRODUCERS) * usize::from(RECORDS);
    let mut expected = Expected::default();
    for _ in 0..consumers {
        let shared = shared.clone();
        let consumer = thread::spawn(move || {
            consume(&shared, &mut expected, all / consumers, batch);
            expected
        });
        expected = consumer.join().unwrap();
    }
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(expected, [RECORDS; PRODUCERS as usize]);
    assert_eq!(shared.ring().used_bytes(), 0);
}

#[test]
fn every_record_once_and_in_order() {
    check(|| four_producers(1, 1));
}

#[test]
fn every_record_once_and_in_order_in_batches() {
    check(|| four_producers(1, 5));
}

#[test]
fn every_record_once_and_in_order_with_consumers_that_are_replaced() {
    check(|| four_producers(4, 3));
}
