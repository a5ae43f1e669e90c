//! Random histories against what the batches say: applying, reading, forgetting, discarding, closing,
//! crashing.

use crate::hot::{Batch, Folder, IDENTITY, Truth, streams_of};
use allsource::model::partition::Partition;
use allsource::sidecar::{Batches, Opened, Settings, Sidecar, SidecarError};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[derive(Clone, Debug)]
enum Step {
    /// Partition; batch numbers to skip; stream and payload of each event.
    Apply(bool, i64, Vec<(prop::sample::Index, Vec<u8>)>),
    /// Apply again what is there.
    Again,
    /// Compare everything in a range of batches, with pages of so many bytes.
    Compare(bool, prop::sample::Index, prop::sample::Index, usize),
    Forget(bool, prop::sample::Index),
    Discard(bool),
    Flush,
    /// Close and open.
    Reopen,
    /// Go on with the files as they are now.
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 3_000..6_000),
    ];
    let events = prop::collection::vec((any::<prop::sample::Index>(), payload), 1..40);
    let bytes_max = prop_oneof![0..200usize, Just(1 << 20)];
    prop_oneof![
        10 => (any::<bool>(), 0..3i64, events).prop_map(|(p, skip, e)| Step::Apply(p, skip, e)),
        1 => Just(Step::Again),
        5 => (any::<bool>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), bytes_max)
            .prop_map(|(p, after, up_to, bytes)| Step::Compare(p, after, up_to, bytes)),
        2 => (any::<bool>(), any::<prop::sample::Index>()).prop_map(|(p, at)| Step::Forget(p, at)),
        1 => any::<bool>().prop_map(Step::Discard),
        3 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

pub fn settings() -> Settings {
    Settings {
        cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 20,
        open_files_max: 32,
        background_bytes_per_s: 1 << 30,
    }
}

/// Copies files as a crash would leave them.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // What RocksDB removes meanwhile would not be there after a crash either.
            let _ = fs::copy(entry.path(), target);
        }
    }
}

/// The partitions that are used.
fn partition(second: bool) -> Partition {
    Partition::new(if second { 31 } else { 0 }).unwrap()
}

fn run(steps: Vec<Step>) {
    let folder = Folder::new();
    let mut directory = folder.join("0");
    let mut truth = Truth::default();
    let streams = [streams_of(partition(false)), streams_of(partition(true))];
    let mut forgotten = [0, 0];
    let (opened, was) = Sidecar::open(&directory, IDENTITY, settings()).unwrap();
    assert!(matches!(was, Opened::Emptied { .. }));
    let mut sidecar = Some(opened);
    for (number, step) in (1..).zip(steps) {
        let open = sidecar.as_ref().unwrap();
        match step {
            Step::Apply(second, skip, events) => {
                let partition = partition(second);
                let streams = &streams[usize::from(second)];
                let events: Vec<_> = events
                    .into_iter()
                    .map(|(stream, payload)| (stream.get(streams).clone(), payload))
                    .collect();
                let batch = Batch::new(partition, truth.last(partition) + 1 + skip, &events);
                assert_eq!(crate::hot::apply(open, &batch), Ok(true));
                assert_eq!(open.applied(partition), batch.batch_no);
                truth.batches.push(batch);
            }
            Step::Again => {
                for batch in &truth.batches {
                    assert_eq!(open.apply(&batch.reader()), Ok(false));
                }
            }
            Step::Compare(second, after, up_to, bytes_max) => {
                let partition = partition(second);
                let last = truth.last(partition);
                let after = after.index(last as usize + 1) as i64;
                let up_to = up_to.index(last as usize + 1) as i64;
                let batches = Batches { after, up_to };
                let oldest = forgotten[usize::from(second)];
                let compared = if after < oldest {
                    let (stream, up_to) = (&streams[usize::from(second)][0], oldest);
                    let refused = open.count(partition, stream.key(), batches);
                    assert_eq!(refused, Err(SidecarError::Forgotten { up_to, after }));
                    Ok(())
                } else {
                    truth.compare(open, partition, batches, bytes_max)
                };
                compared.unwrap();
                let behind = Batches { after: last, up_to: last + 1 };
                let refused = truth.compare(open, partition, behind, bytes_max);
                assert_eq!(refused, Err(SidecarError::Behind { applied: last, up_to: last + 1 }));
            }
            Step::Forget(second, up_to) => {
                let partition = partition(second);
                let up_to = up_to.index(truth.last(partition) as usize + 1) as i64;
                open.forget(partition, up_to).unwrap();
                let forgotten = &mut forgotten[usize::from(second)];
                *forgotten = up_to.max(*forgotten);
            }
            Step::Discard(second) => {
                open.discard_partition(partition(second)).unwrap();
                forgotten[usize::from(second)] = 0;
                truth.catch_up(open).unwrap();
            }
            Step::Flush => open.flush().unwrap(),
            Step::Reopen => {
                let marks = [false, true].map(|second| open.mark(partition(second)));
                drop(sidecar.take());
                let (opened, was) = Sidecar::open(&directory, IDENTITY, settings()).unwrap();
                assert_eq!(was, Opened::Kept);
                assert_eq!([false, true].map(|second| opened.mark(partition(second))), marks);
                sidecar = Some(opened);
            }
            Step::Crash => {
                let crashed = folder.join(&number.to_string());
                copy(&directory, &crashed);
                drop(sidecar.take());
                directory = crashed;
                let (opened, _) = Sidecar::open(&directory, IDENTITY, settings()).unwrap();
                for second in [false, true] {
                    // What was forgotten may have been so only in memory.
                    forgotten[usize::from(second)] = opened.mark(partition(second)).forgotten;
                }
                truth.catch_up(&opened).unwrap();
                sidecar = Some(opened);
            }
        }
    }
    let open = sidecar.as_ref().unwrap();
    for second in [false, true] {
        let (partition, after) = (partition(second), forgotten[usize::from(second)]);
        let batches = Batches { after, up_to: truth.last(partition) };
        truth.compare(open, partition, batches, 100).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..Default::default() })]
    #[test]
    fn answers_are_those_of_the_batches(steps in prop::collection::vec(any_step(), 1..60)) {
        run(steps);
    }
}
