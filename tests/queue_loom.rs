//! The ring under loom: every interleaving of a few threads, and every value that the orderings
//! allow a load to return. `scripts/queue.sh loom`
//!
//! A record that is read while it is written, or written while it is read, fails the model too.
#![cfg(loom)]
#![expect(unsafe_code, reason = "one consumer at a time; rings outlive their handles")]

use allsource::queue::{Capacity, Consumer, HeapRing, PushError, Ring, WakeFlag};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

/// 512 bytes, 8 blocks; records of up to 128 bytes.
const CAPACITY: Capacity = Capacity::at_least(0);

/// Preemptions of a schedule, where all schedules would take too long. Bugs need few.
const PREEMPTIONS_MAX: usize = 3;

fn check(preemptions_max: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.check(model);
}

/// A ring that is kept until all threads of the model are done with it.
#[derive(Clone)]
struct Shared {
    memory: Arc<HeapRing>,
}

impl Shared {
    fn starting_at(offset: u64) -> Self {
        Self { memory: Arc::new(HeapRing::starting_at(CAPACITY, offset)) }
    }

    fn ring(&self) -> Ring {
        // SAFETY: each thread uses it only while it has its `Shared`.
        unsafe { self.memory.ring() }
    }

    fn consumer(&self) -> Consumer {
        // SAFETY: the models have one at a time.
        unsafe { self.ring().consumer() }
    }
}

/// A record that shows whose it is, which one, and whether it is whole.
fn record(producer: u8, number: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![number; len];
    bytes[0] = producer;
    bytes
}

fn whose(record: &[u8]) -> (u8, u8) {
    assert!(record[1..].iter().all(|byte| *byte == record[1]), "torn: {record:?}");
    (record[0], record[1])
}

fn take(consumer: &mut Consumer) -> Option<(u8, u8)> {
    let (record, next) = consumer.peek_from(consumer.read_offset())?;
    let taken = whose(record);
    consumer.release(next);
    Some(taken)
}

/// Takes what is there after each of `looks` looks. Models do not wait in a loop: loom would go
/// through every number of rounds.
fn take_some(consumer: &mut Consumer, looks: usize) -> Vec<(u8, u8)> {
    (0..looks).filter_map(|_| take(consumer)).collect()
}

fn take_all(consumer: &mut Consumer) -> Vec<(u8, u8)> {
    std::iter::from_fn(|| take(consumer)).collect()
}

fn try_push(ring: Ring, record: &[u8]) -> bool {
    match ring.try_push(&[&record[..1], &record[1..]]) {
        Ok(_) => true,
        Err(PushError::Full) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_record_is_whole_when_it_is_seen() {
    check(None, || {
        let shared = Shared::starting_at(0);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || {
                assert!(try_push(shared.ring(), &record(0, 1, 100)));
                assert!(try_push(shared.ring(), &record(0, 2, 10)));
            }
        });
        let mut consumer = shared.consumer();
        let mut taken = take_some(&mut consumer, 2);
        producer.join().unwrap();
        taken.extend(take_all(&mut consumer));
        assert_eq!(taken, [(0, 1), (0, 2)]);
    });
}

#[test]
fn two_producers_keep_their_orders() {
    check(None, || {
        let shared = Shared::starting_at(0);
        let producers = [0, 1].map(|producer| {
            let shared = shared.clone();
            thread::spawn(move || {
                assert!(try_push(shared.ring(), &record(producer, 1, 2)));
                assert!(try_push(shared.ring(), &record(producer, 2, 70)));
            })
        });
        let mut consumer = shared.consumer();
        let mut taken = take_some(&mut consumer, 2);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        taken.extend(take_all(&mut consumer));
        taken.sort_by_key(|(producer, _)| *producer);
        assert_eq!(taken, [(0, 1), (0, 2), (1, 1), (1, 2)]);
        assert_eq!(shared.ring().used_bytes(), 0);
    });
}

#[test]
fn the_end_of_a_lap_is_passed_over() {
    check(None, || {
        let shared = Shared::starting_at(512 - 64);
        let producers = [(0, 128), (1, 60)].map(|(producer, len)| {
            let shared = shared.clone();
            thread::spawn(move || assert!(try_push(shared.ring(), &record(producer, 9, len))))
        });
        let mut consumer = shared.consumer();
        let mut taken = take_some(&mut consumer, 2);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        taken.extend(take_all(&mut consumer));
        taken.sort_unstable();
        assert_eq!(taken, [(0, 9), (1, 9)]);
        assert_eq!(shared.ring().used_bytes(), 0);
    });
}

/// Four records fill the ring, with their entries where those of the next lap will stand.
fn fill(shared: &Shared) {
    for number in 0..4 {
        assert!(try_push(shared.ring(), &record(8, number, 128)));
    }
    assert_eq!(shared.ring().try_push(&[]), Err(PushError::Full));
}

const FILLED: [(u8, u8); 4] = [(8, 0), (8, 1), (8, 2), (8, 3)];

#[test]
fn what_is_not_released_is_not_written_over() {
    check(None, || {
        let shared = Shared::starting_at(0);
        let mut consumer = shared.consumer();
        fill(&shared);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || {
                let pushed = try_push(shared.ring(), &record(0, 7, 128));
                pushed || try_push(shared.ring(), &record(0, 7, 128))
            }
        });
        let mut taken = take_some(&mut consumer, 5);
        let pushed = producer.join().unwrap();
        taken.extend(take_all(&mut consumer));
        assert_eq!(taken[..4], FILLED);
        assert_eq!(taken[4..], [(0, 7)][..usize::from(pushed)]);
    });
}

#[test]
fn one_producer_may_rely_on_the_read_offset_that_another_has_found() {
    check(None, || {
        let shared = Shared::starting_at(0);
        let mut consumer = shared.consumer();
        fill(&shared);
        let producers = [0, 1].map(|producer| {
            let shared = shared.clone();
            thread::spawn(move || try_push(shared.ring(), &record(producer, 7, 128)))
        });
        // Two at once: the second producer may find room without looking at the read offset.
        let (first, next) = consumer.peek_from(consumer.read_offset()).unwrap();
        let (second, next) = consumer.peek_from(next).unwrap();
        assert_eq!([whose(first), whose(second)], FILLED[..2]);
        consumer.release(next);
        let pushed = producers.map(|producer| producer.join().unwrap());
        let mut taken = take_all(&mut consumer);
        assert_eq!(taken[..2], FILLED[2..]);
        taken[2..].sort_unstable();
        let expected: Vec<_> = (0..2).filter(|n| pushed[*n]).map(|n| (n as u8, 7)).collect();
        assert_eq!(taken[2..], expected);
    });
}

#[test]
fn a_producer_is_refused_only_when_the_ring_is_full() {
    check(None, || {
        let shared = Shared::starting_at(0);
        let mut consumer = shared.consumer();
        fill(&shared);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || shared.ring().try_push(&[&record(0, 7, 64)])
        });
        let read_offset = shared.ring().read_offset();
        assert_eq!(take(&mut consumer), Some((8, 0)));
        match producer.join().unwrap() {
            Ok(end) => assert_eq!(end, read_offset + 512 + 64),
            Err(error) => assert_eq!(error, PushError::Full),
        }
        assert_eq!(shared.ring().try_push(&[]).map(|end| end > read_offset + 512), Ok(true));
    });
}

#[test]
fn a_new_consumer_goes_on() {
    check(None, || {
        let shared = Shared::starting_at(512 - 64);
        let producer = thread::spawn({
            let shared = shared.clone();
            move || {
                assert!(try_push(shared.ring(), &record(0, 1, 60)));
                assert!(try_push(shared.ring(), &record(0, 2, 60)));
            }
        });
        let first = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut consumer = shared.consumer();
                let taken = take_some(&mut consumer, 1);
                // It looks further than it releases.
                consumer.peek_from(consumer.read_offset()).map(|(record, _)| whose(record));
                taken
            }
        });
        let mut taken = first.join().unwrap();
        let mut consumer = shared.consumer();
        taken.extend(take_some(&mut consumer, 1));
        producer.join().unwrap();
        taken.extend(take_all(&mut consumer));
        assert_eq!(taken, [(0, 1), (0, 2)]);
    });
}

#[test]
fn who_sees_the_read_offset_sees_what_the_consumer_did() {
    check(None, || {
        let shared = Shared::starting_at(0);
        let end = shared.ring().try_push(&[b"x"]).unwrap();
        // Stands for the commit.
        let done = Arc::new(AtomicBool::new(false));
        let waiter = thread::spawn({
            let (shared, done) = (shared.clone(), done.clone());
            move || {
                if shared.ring().read_offset() >= end {
                    assert!(done.load(Ordering::Relaxed));
                }
                assert!(shared.ring().used_bytes() <= 64);
            }
        });
        let mut consumer = shared.consumer();
        let (_, next) = consumer.peek_from(0).unwrap();
        done.store(true, Ordering::Relaxed);
        consumer.release(next);
        waiter.join().unwrap();
    });
}

/// The consumer sleeps whenever it finds nothing; a wake-up that is lost is a deadlock, which loom
/// reports.
fn sleeping(producers: u8, preemptions_max: Option<usize>) {
    check(preemptions_max, move || {
        let shared = Shared::starting_at(0);
        let wake = Arc::new((WakeFlag::new(), Notify::new()));
        let threads: Vec<_> = (0..producers)
            .map(|producer| {
                let (shared, wake) = (shared.clone(), wake.clone());
                thread::spawn(move || {
                    assert!(try_push(shared.ring(), &record(producer, 1, 2)));
                    if wake.0.must_wake() {
                        wake.1.notify();
                    }
                })
            })
            .collect();
        let mut consumer = shared.consumer();
        let mut taken = 0;
        while taken < producers {
            if take(&mut consumer).is_some() {
                taken += 1;
                continue;
            }
            wake.0.announce_sleep();
            if !consumer.has_record(consumer.read_offset()) {
                wake.1.wait();
            }
            wake.0.woken_up();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn no_wake_up_is_lost() {
    sleeping(1, None);
}

#[test]
fn no_wake_up_of_two_is_lost() {
    sleeping(2, Some(PREEMPTIONS_MAX));
}
