//! The ring between processes: producers that run on, and consumers that are killed or that end,
//! one after the other. Every record has its producer, its number and a checksum: each must come
//! once, whole, and in the order of its producer. `scripts/queue.sh processes`
//!
//! A consumer notes what it has taken in one of two places, by turns, each marked with a read offset
//! of the ring, and then releases up to that. So wherever it is killed, one of the two notes has the
//! read offset that its successor finds.
//!
//! `ALLSOURCE_QUEUE_RECORDS` says how many records; the full run is 100 million. A build that is not
//! optimised, as of a plain `cargo test`, sends fewer by default.
#![expect(unsafe_code, reason = "makes a ring in memory that it maps")]

mod forked;

use allsource::queue::{Capacity, Consumer, PushError, Ring, WakeFlag};
use forked::{Child, End, SharedMemory};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::UnsafeCell;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RECORDS: u64 = if cfg!(debug_assertions) { 200_000 } else { 3_000_000 };
const PRODUCERS: usize = 3;

/// Number, producer, checksum of all else.
const HEADER_BYTES: usize = 16;
/// Of the other bytes of most records; one in 64 goes up to the largest there may be.
const BODY_BYTES_MAX: u64 = 300;
/// A consumer releases after as many records at the latest.
const BATCH_RECORDS: u64 = 200;
/// A consumer ends by itself after as many records.
const CONSUMER_RECORDS: u64 = 150_000;
/// A consumer that is killed is killed after up to so long.
const CONSUMER_MS_MAX: u64 = 40;
/// If there is a record after so long without a wake-up, the wake-up was lost.
const SLEEP_MS: u16 = 10_000;
/// A producer that has waited for room so long gives up.
const FULL_MS: Duration = Duration::from_secs(60);

/// A generator of numbers that are well spread (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// How many records of each producer were taken before `read_offset`.
#[derive(Clone, Copy)]
struct Note {
    read_offset: u64,
    taken: [u64; PRODUCERS],
}

/// What the processes share besides the ring. Zeros are its beginning.
struct Beside {
    wake: WakeFlag,
    /// Written by the one consumer, read by the next.
    notes: [UnsafeCell<Note>; 2],
    sleeps: AtomicU64,
    wake_ups: AtomicU64,
}

#[derive(Clone, Copy)]
struct Shared<'a> {
    ring: Ring,
    beside: &'a Beside,
    latch: &'a EventFd,
}

/// The length of a record's body, which the consumer computes too.
fn body_bytes(producer: usize, number: u64, ring: &Ring) -> usize {
    let mut random = Random(number << 8 | producer as u64);
    let most = (ring.record_bytes_max() - HEADER_BYTES) as u64;
    if random.below(64) == 0 {
        random.below(most + 1) as usize
    } else {
        random.below(BODY_BYTES_MAX.min(most) + 1) as usize
    }
}

fn checksum(number: u64, producer: u32, body: &[u8]) -> u32 {
    let start = crc32c::crc32c(&number.to_ne_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(start, &producer.to_ne_bytes()), body)
}

fn produce(shared: &Shared<'_>, producer: usize, records: u64) {
    let mut random = Random(producer as u64);
    let noise: Vec<u8> =
        (0..shared.ring.record_bytes_max() * 2).map(|_| random.next() as u8).collect();
    for number in 0..records {
        let start = random.below(shared.ring.record_bytes_max() as u64) as usize;
        let body = &noise[start..start + body_bytes(producer, number, &shared.ring)];
        let sum = checksum(number, producer as u32, body).to_ne_bytes();
        let parts = [&number.to_ne_bytes()[..], &(producer as u32).to_ne_bytes(), &sum, body];
        let mut since = None;
        while let Err(error) = shared.ring.try_push(&parts) {
            assert_eq!(error, PushError::Full);
            assert!(since.get_or_insert_with(Instant::now).elapsed() < FULL_MS, "no room");
            std::thread::sleep(Duration::from_micros(20));
        }
        if shared.beside.wake.must_wake() {
            shared.beside.wake_ups.fetch_add(1, Ordering::Relaxed);
            shared.latch.write(1).expect("the latch");
        }
    }
}

fn check(record: &[u8], taken: &mut [u64; PRODUCERS], ring: &Ring) {
    let (header, body) = record.split_at(HEADER_BYTES);
    let number = u64::from_ne_bytes(header[..8].try_into().expect("8 bytes"));
    let producer = u32::from_ne_bytes(header[8..12].try_into().expect("4 bytes"));
    let sum = u32::from_ne_bytes(header[12..].try_into().expect("4 bytes"));
    assert_eq!(checksum(number, producer, body), sum, "record {number} of {producer} is damaged");
    assert_eq!(body.len(), body_bytes(producer as usize, number, ring));
    let expected = &mut taken[producer as usize];
    assert_eq!(number, *expected, "producer {producer}");
    *expected += 1;
}

/// The note of the ring's read offset, and which of the two it is.
fn note_of_offset(shared: &Shared<'_>, read_offset: u64) -> (usize, Note) {
    // SAFETY: only the one consumer writes them, and it is the caller or has ended.
    let notes = shared.beside.notes.each_ref().map(|note| unsafe { *note.get() });
    let which = notes.iter().position(|note| note.read_offset == read_offset).expect("a note");
    (which, notes[which])
}

fn sleep(shared: &Shared<'_>, consumer: &Consumer) {
    shared.beside.wake.announce_sleep();
    if !consumer.has_record(consumer.read_offset()) {
        shared.beside.sleeps.fetch_add(1, Ordering::Relaxed);
        let mut latch = [PollFd::new(shared.latch.as_fd(), PollFlags::POLLIN)];
        let set = poll(&mut latch, PollTimeout::from(SLEEP_MS)).expect("the latch") > 0;
        assert!(set || !consumer.has_record(consumer.read_offset()), "a wake-up was lost");
        if set {
            shared.latch.read().expect("the latch");
        }
    }
    shared.beside.wake.woken_up();
}

fn consume(shared: &Shared<'_>, records: u64, seed: u64) {
    let mut random = Random(seed);
    // SAFETY: the last one was waited for.
    let mut consumer = unsafe { shared.ring.consumer() };
    let (mut which, mut note) = note_of_offset(shared, consumer.read_offset());
    let begun_with: u64 = note.taken.iter().sum();
    loop {
        let all: u64 = note.taken.iter().sum();
        if all == records || all - begun_with >= CONSUMER_RECORDS {
            return;
        }
        // Of what it looks at it releases a part, and looks at the rest once more.
        let look = 1 + random.below(BATCH_RECORDS);
        let keep = 1 + random.below(look);
        let (mut offset, mut taken) = (consumer.read_offset(), note.taken);
        for looked in 0..look {
            let Some((record, next)) = consumer.peek_from(offset) else { break };
            check(record, &mut taken, &shared.ring);
            offset = next;
            if looked < keep {
                note = Note { read_offset: next, taken };
            }
        }
        if note.read_offset == consumer.read_offset() {
            sleep(shared, &consumer);
            continue;
        }
        which = 1 - which;
        // SAFETY: this is the one consumer, and no reference to a note exists.
        unsafe { shared.beside.notes[which].get().write_volatile(note) };
        consumer.release(note.read_offset);
    }
}

/// Sends so many records through a ring of that capacity.
fn run(capacity: Capacity, records: u64) -> Result<String, String> {
    let memory = SharedMemory::new(Ring::memory_bytes(capacity));
    let beside = SharedMemory::new(size_of::<Beside>());
    let latch = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).map_err(|error| error.to_string())?;
    // SAFETY: the memory is aligned and large enough, and zeros are what `Beside` begins with; it
    // is mapped until this function returns.
    let shared = unsafe {
        let ring = Ring::init(memory.address(), capacity);
        Shared { ring, beside: beside.address().cast().as_ref(), latch: &latch }
    };
    let each = records / PRODUCERS as u64;
    let producers: Vec<Child> =
        (0..PRODUCERS).map(|producer| Child::fork(|| produce(&shared, producer, each))).collect();
    let (mut ended, mut killed) = (0_u64, 0_u64);
    let mut random = Random(records);
    let result = loop {
        let seed = random.next();
        let consumer = Child::fork(|| consume(&shared, each * PRODUCERS as u64, seed));
        if random.below(2) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(CONSUMER_MS_MAX)));
            consumer.kill();
        }
        match consumer.wait() {
            End::Done => ended += 1,
            End::Killed => killed += 1,
            End::Failed => break Err("a consumer failed".to_owned()),
        }
        if note_of_offset(&shared, shared.ring.read_offset()).1.taken == [each; PRODUCERS] {
            break Ok(());
        }
    };
    if result.is_err() {
        producers.iter().for_each(Child::kill);
    }
    let ends: Vec<End> = producers.into_iter().map(Child::wait).collect();
    result?;
    if ends.iter().any(|end| *end != End::Done) || shared.ring.used_bytes() != 0 {
        return Err(format!("producers: {ends:?}, left: {} bytes", shared.ring.used_bytes()));
    }
    let laps = shared.ring.write_offset() / shared.ring.capacity_bytes();
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    Ok(format!(
        "{} records, {laps} laps; consumers: {ended} ended, {killed} killed, slept {} times, \
         woken {} times",
        each * PRODUCERS as u64,
        count(&shared.beside.sleeps),
        count(&shared.beside.wake_ups),
    ))
}

fn main() {
    let records = std::env::var("ALLSOURCE_QUEUE_RECORDS")
        .map_or(RECORDS, |value| value.parse().expect("a number of records"));
    // In the small ring everything happens often: the end of a lap, being full, being empty.
    let runs = [("small_ring", 4 << 10, records / 4), ("large_ring", 1 << 20, records / 4 * 3)];
    println!("\nrunning {} tests", runs.len());
    let start = Instant::now();
    let mut failed = 0;
    for (name, capacity_bytes, records) in runs {
        match run(Capacity::at_least(capacity_bytes), records) {
            Ok(facts) => println!("test {name} ... ok ({facts})"),
            Err(reason) => {
                println!("test {name} ... FAILED ({reason})");
                failed += 1;
            }
        }
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; \
         finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        runs.len() - failed,
        start.elapsed().as_secs_f64()
    );
    std::process::exit((failed > 0).into());
}
