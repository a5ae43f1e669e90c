//! The ring against a queue of the standard library, and its edges one by one.
#![expect(unsafe_code, reason = "there is one consumer, and rings outlive their handles")]

use super::{Capacity, Consumer, HeapRing, PushError, Ring};
use proptest::prelude::*;
use std::collections::VecDeque;

const SMALL: Capacity = Capacity::at_least(0);

/// A ring of 512 bytes, with its handle and its consumer.
struct Small {
    consumer: Consumer,
    ring: Ring,
    _memory: HeapRing,
}

impl Small {
    fn starting_at(offset: u64) -> Self {
        let memory = HeapRing::starting_at(SMALL, offset);
        // SAFETY: dropped together, the memory last; the only consumer.
        let (ring, consumer) = unsafe { (memory.ring(), memory.ring().consumer()) };
        Self { consumer, ring, _memory: memory }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let (record, next) = self.consumer.peek_from(self.consumer.read_offset())?;
        let record = record.to_vec();
        self.consumer.release(next);
        Some(record)
    }
}

#[test]
fn parts_become_one_record() {
    let mut small = Small::starting_at(0);
    assert_eq!(small.ring.try_push(&[b"one", b"", b" record"]), Ok(64));
    assert_eq!(small.take().as_deref(), Some(&b"one record"[..]));
    assert_eq!(small.take(), None);
}

#[test]
fn empty_records_are_records() {
    let mut small = Small::starting_at(0);
    assert_eq!(small.ring.try_push(&[]), Ok(64));
    assert_eq!(small.ring.try_push(&[b"", b""]), Ok(128));
    assert_eq!(small.take(), Some(vec![]));
    assert_eq!(small.take(), Some(vec![]));
    assert_eq!(small.take(), None);
}

#[test]
fn looking_takes_nothing_out() {
    let mut small = Small::starting_at(0);
    small.ring.try_push(&[b"first"]).unwrap();
    small.ring.try_push(&[b"second"]).unwrap();
    let (first, next) = small.consumer.peek_from(0).unwrap();
    let (second, end) = small.consumer.peek_from(next).unwrap();
    assert_eq!((first, second), (&b"first"[..], &b"second"[..]));
    assert!(small.consumer.has_record(0) && !small.consumer.has_record(end));
    assert_eq!(
        (small.ring.read_offset(), small.ring.write_offset(), small.ring.used_bytes()),
        (0, 128, 128)
    );
    small.consumer.release(next);
    assert_eq!((small.ring.read_offset(), small.ring.used_bytes()), (64, 64));
    assert_eq!(small.take().as_deref(), Some(&b"second"[..]));
}

#[test]
fn a_new_consumer_goes_on_where_the_last_one_released() {
    let mut small = Small::starting_at(0);
    for record in [b"a", b"b", b"c"] {
        small.ring.try_push(&[record]).unwrap();
    }
    assert_eq!(small.take().as_deref(), Some(&b"a"[..]));
    assert!(small.consumer.peek_from(64).is_some());
    // SAFETY: the old one is dropped by the assignment and not used meanwhile.
    small.consumer = unsafe { small.ring.consumer() };
    assert_eq!(small.take().as_deref(), Some(&b"b"[..]));
    assert_eq!(small.take().as_deref(), Some(&b"c"[..]));
}

#[test]
fn a_full_ring_refuses_until_there_is_room() {
    let mut small = Small::starting_at(0);
    for _ in 0..8 {
        small.ring.try_push(&[&[1; 64]]).unwrap();
    }
    assert_eq!(small.ring.try_push(&[]), Err(PushError::Full));
    assert_eq!(small.ring.used_bytes(), 512);
    small.take().unwrap();
    assert_eq!(small.ring.try_push(&[&[2; 65]]), Err(PushError::Full));
    assert_eq!(small.ring.try_push(&[&[2; 64]]), Ok(9 * 64));
}

#[test]
fn a_record_of_more_than_a_quarter_is_too_large() {
    let small = Small::starting_at(0);
    let too_large = PushError::TooLarge { record_bytes: 129, limit_bytes: 128 };
    assert_eq!(small.ring.try_push(&[&[0; 100], &[0; 29]]), Err(too_large));
    assert_eq!(small.ring.try_push(&[&[0; 100], &[0; 28]]), Ok(128));
}

#[test]
fn a_record_that_does_not_fit_before_the_end_begins_the_next_lap() {
    let mut small = Small::starting_at(512 - 64);
    assert_eq!(small.ring.try_push(&[&[1; 128]]), Ok(512 + 128));
    assert_eq!(small.ring.used_bytes(), 64 + 128);
    assert!(small.consumer.has_record(512 - 64));
    assert_eq!(small.take(), Some(vec![1; 128]));
    assert_eq!(small.ring.used_bytes(), 0);
}

#[test]
fn what_a_record_contains_is_never_taken_for_an_entry() {
    // Records full of the words that would be entries of the lap to come, at each place.
    let mut small = Small::starting_at(0);
    for lap in 0..5_u64 {
        let forged = ((lap + 2) << 32 | 8).to_ne_bytes().repeat(8);
        for _ in 0..8 {
            small.ring.try_push(&[&forged]).unwrap();
            assert_eq!(small.take().as_ref(), Some(&forged));
            assert_eq!(small.take(), None);
        }
    }
}

#[test]
fn numbers_of_laps_may_overflow() {
    let mut small = Small::starting_at(((1 << 32) - 3) * 512);
    for n in 0..64_u8 {
        small.ring.try_push(&[&[n; 100]]).unwrap();
        assert_eq!(small.take(), Some(vec![n; 100]));
        assert_eq!(small.take(), None);
    }
    assert!(small.ring.read_offset() > (1 << 32) * 512);
}

#[test]
fn an_attached_handle_is_of_the_same_ring() {
    let bytes = Ring::memory_bytes(SMALL);
    let layout = std::alloc::Layout::from_size_align(bytes, Ring::ALIGNMENT).unwrap();
    // SAFETY: memory of the size and alignment that are asked for; freed when all is done.
    unsafe {
        let memory = std::ptr::NonNull::new(std::alloc::alloc(layout)).unwrap();
        memory.write_bytes(0xA5, bytes);
        let made = Ring::init(memory, SMALL);
        let attached = Ring::attach(memory);
        assert_eq!(attached.capacity_bytes(), 512);
        made.try_push(&[b"by the one"]).unwrap();
        let consumer = attached.consumer();
        assert_eq!(consumer.peek_from(0), Some((&b"by the one"[..], 64)));
        std::alloc::dealloc(memory.as_ptr(), layout);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Push a record of that many bytes, in parts that end there.
    Push(usize, usize),
    /// Look at up to so many records, and release the first so many of them.
    Take(usize, usize),
    /// Another consumer.
    Replace,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..300_usize, 0..300_usize).prop_map(|(len, cut)| Step::Push(len, cut.min(len))),
        3 => (0..12_usize, 0..12_usize).prop_map(|(look, take)| Step::Take(look, take.min(look))),
        1 => Just(Step::Replace),
    ]
}

proptest! {
    #[test]
    fn it_is_a_queue(
        steps in prop::collection::vec(any_step(), 1..200),
        start in prop_oneof![Just(0), 0..1_u64 << 45],
    ) {
        let capacity = Capacity::at_least(1024);
        let memory = HeapRing::starting_at(capacity, start);
        // SAFETY: used only here, before the memory is dropped; one consumer at a time.
        let (ring, mut consumer) = unsafe { (memory.ring(), memory.ring().consumer()) };
        // What is in the ring: each record, and its end.
        let mut expected: VecDeque<(Vec<u8>, u64)> = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(len, cut) => {
                    let record: Vec<u8> = (0..len).map(|i| (number + i * 7) as u8).collect();
                    let (before, read_offset) = (ring.write_offset(), ring.read_offset());
                    match ring.try_push(&[&record[..cut], &record[cut..]]) {
                        Ok(end) => {
                            prop_assert!(len <= 256);
                            prop_assert_eq!(ring.write_offset(), end);
                            prop_assert!(end >= before + Ring::span_bytes(len));
                            prop_assert!(end - read_offset <= 1024);
                            expected.push_back((record, end));
                        }
                        Err(PushError::TooLarge { record_bytes, limit_bytes }) => {
                            prop_assert_eq!((record_bytes, limit_bytes), (len, 256));
                            prop_assert!(len > 256);
                        }
                        Err(PushError::Full) => {
                            let left = 1024 - before % 1024;
                            let span = Ring::span_bytes(len);
                            let padding = if span > left { left } else { 0 };
                            prop_assert!(before + padding + span > read_offset + 1024);
                            prop_assert_eq!(ring.write_offset(), before);
                        }
                    }
                }
                Step::Take(look, take) => {
                    let mut offset = consumer.read_offset();
                    for (index, (record, end)) in expected.iter().take(look).enumerate() {
                        prop_assert!(consumer.has_record(offset), "record {}", index);
                        prop_assert_eq!(consumer.peek_from(offset), Some((&record[..], *end)));
                        offset = *end;
                    }
                    if look >= expected.len() {
                        prop_assert_eq!(consumer.peek_from(offset), None);
                    }
                    for (_, end) in expected.drain(..take.min(expected.len())) {
                        consumer.release(end);
                    }
                }
                Step::Replace => {
                    // SAFETY: the old one is dropped by the assignment.
                    consumer = unsafe { ring.consumer() };
                }
            }
            prop_assert_eq!(ring.read_offset(), consumer.read_offset());
            prop_assert_eq!(ring.used_bytes(), ring.write_offset() - ring.read_offset());
        }
    }
}
