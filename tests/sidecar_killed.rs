//! Processes that apply batches to a sidecar and are killed, one after the other. Each finds a state of
//! some time before, and no answer is wrong. Batches are made from their numbers, so that each process
//! knows all of them.

#[expect(unsafe_code, reason = "forks")]
#[expect(dead_code, reason = "no memory is shared")]
#[path = "forked/mod.rs"]
mod forked;
#[path = "hot/mod.rs"]
mod hot;

use allsource::model::partition::Partition;
use allsource::sidecar::{Batches, Opened, Settings, Sidecar, SidecarError, StreamName};
use forked::{Child, End};
use hot::{Batch, Folder, IDENTITY, Truth, streams_of};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::alarm;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: u64 = if cfg!(debug_assertions) { 40 } else { 200 };
/// A process is killed after up to so long.
const LIFE_US_MAX: u64 = 250_000;
const BATCHES: i64 = 3_000;
const PARTITIONS: [i32; 2] = [5, 17];

fn settings() -> Settings {
    Settings {
        cache_bytes: 1 << 20,
        // Much is flushed and compacted.
        write_buffer_bytes: 512 << 10,
        open_files_max: 32,
        background_bytes_per_s: 1 << 30,
    }
}

/// Well spread numbers (splitmix64).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn batch(partition: Partition, batch_no: i64, streams: &[StreamName]) -> Batch {
    let seed = batch_no.cast_unsigned() << 8 | partition.index() as u64;
    let events: Vec<_> = (0..20)
        .map(|place| {
            let number = random(seed << 8 | place);
            let stream = streams[number as usize % streams.len()].clone();
            (stream, number.to_le_bytes().repeat(1 + number as usize % 30))
        })
        .collect();
    Batch::new(partition, batch_no, &events)
}

/// What a process does: checks what it finds, and goes on from there until it is killed.
fn apply(directory: &Path) {
    let (sidecar, opened) = Sidecar::open(directory, IDENTITY, settings()).expect("a sidecar");
    let partitions = PARTITIONS.map(|number| Partition::new(number).expect("a partition"));
    let streams = partitions.map(streams_of);
    let next = partitions.map(|partition| sidecar.applied(partition) + 1);
    if matches!(opened, Opened::Emptied { .. }) {
        assert_eq!(next, [1, 1]);
    }
    for (partition, streams) in partitions.into_iter().zip(&streams) {
        check(&sidecar, partition, streams);
    }
    for number in 0..BATCHES {
        for ((partition, streams), next) in partitions.into_iter().zip(&streams).zip(next) {
            let batch = batch(partition, next + number, streams);
            assert_eq!(sidecar.apply(&batch.reader()), Ok(true));
            if number % 16 == 15 {
                sidecar.flush().expect("a sidecar that works");
            }
            if number % 64 == 63 {
                let forgotten = (next + number - 200).max(0);
                sidecar.forget(partition, forgotten).expect("a sidecar that works");
            }
        }
    }
}

/// Compares what a sidecar says about the batches that it has not forgotten.
fn check(sidecar: &Sidecar, partition: Partition, streams: &[StreamName]) {
    let mark = sidecar.mark(partition);
    let mut truth = Truth::default();
    for batch_no in mark.forgotten + 1..=mark.applied {
        truth.batches.push(batch(partition, batch_no, streams));
    }
    if let Some(last) = truth.batches.last() {
        assert_eq!(last.checksum, mark.checksum);
    }
    let batches = Batches { after: mark.forgotten, up_to: mark.applied };
    truth.compare(sidecar, partition, batches, 1_000).expect("a sidecar that works");
}

/// How many batches there are in the end.
fn last(directory: &Path) -> i64 {
    let folder = Folder::new();
    let file = folder.join("last");
    let child = Child::fork(|| {
        let (sidecar, opened) = Sidecar::open(directory, IDENTITY, settings()).expect("a sidecar");
        assert_eq!(opened, Opened::Kept);
        let partition = Partition::new(PARTITIONS[0]).expect("a partition");
        std::fs::write(&file, sidecar.applied(partition).to_string()).expect("a file");
    });
    assert_eq!(child.wait(), End::Done);
    std::fs::read_to_string(&file).expect("a file").parse().expect("a number")
}

fn run() -> Result<String, String> {
    let folder = Folder::new();
    let directory = folder.join("sidecar");
    let mut killed = 0;
    for round in 0..ROUNDS {
        // RocksDB is opened in forked processes only: its threads would not survive a fork.
        let child = Child::fork(|| apply(&directory));
        std::thread::sleep(Duration::from_micros(random(round) % LIFE_US_MAX));
        child.kill();
        match child.wait() {
            End::Killed => killed += 1,
            End::Done => {}
            End::Failed => return Err(format!("round {round} failed")),
        }
    }
    let last = last(&directory);
    if last == 0 {
        return Err("no process has come far enough to flush anything".to_owned());
    }
    Ok(format!("{killed} of {ROUNDS} killed, {last} batches kept"))
}

/// Applies batches while files cannot grow beyond a size, as on a full disk, and slowly enough for memory
/// to be full when that happens. It must be an error, and not a wait without an end.
fn fill(directory: &Path) {
    const FILE_BYTES_MAX: u64 = 96 << 10;
    // SAFETY: a signal that is ignored.
    #[expect(unsafe_code, reason = "sets how a signal is handled")]
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("a handler");
    alarm::set(60);
    let settings = Settings { background_bytes_per_s: 256 << 10, ..settings() };
    let (sidecar, _) = Sidecar::open(directory, IDENTITY, settings).expect("a sidecar");
    setrlimit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX, FILE_BYTES_MAX).expect("a limit");
    let partition = Partition::new(PARTITIONS[0]).expect("a partition");
    let streams = streams_of(partition);
    for batch_no in 1.. {
        let payload: Vec<u8> =
            (0..200).flat_map(|n| random(n << 32 | batch_no).to_le_bytes()).collect();
        let events: Vec<_> =
            streams.iter().map(|stream| (stream.clone(), payload.clone())).collect();
        let batch = Batch::new(partition, batch_no.cast_signed(), &events);
        if let Err(error) = sidecar.apply(&batch.reader()) {
            // It takes nothing more, or has noticed why.
            assert!(error.is_failure() || error == SidecarError::Busy, "{error:?}");
            break;
        }
        let bytes = sidecar.statistics().expect("numbers").write_buffer_bytes;
        assert!(bytes < settings.write_buffer_bytes as u64 * 3 / 2, "{bytes}");
    }
}

fn run_full() -> Result<String, String> {
    let folder = Folder::new();
    let directory = folder.join("sidecar");
    let start = Instant::now();
    match Child::fork(|| fill(&directory)).wait() {
        End::Done => Ok(format!("failed after {:.1} s", start.elapsed().as_secs_f64())),
        end => Err(format!("{end:?}")),
    }
}

/// What was found, or why it has failed.
type Test = fn() -> Result<String, String>;

fn main() {
    let tests: [(&str, Test); 2] = [("killed", run), ("full", run_full)];
    println!("\nrunning {} tests", tests.len());
    let start = Instant::now();
    let mut failed = 0;
    for (name, test) in tests {
        match test() {
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
        tests.len() - failed,
        start.elapsed().as_secs_f64()
    );
    std::process::exit(i32::from(failed > 0));
}
