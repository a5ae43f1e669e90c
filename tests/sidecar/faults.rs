//! What happens to files: deleted, cut, flipped, older, another's; while nobody has them open, and while
//! somebody has. Either the sidecar notices, or its answers are right.

use crate::hot::{Batch, Folder, IDENTITY, Truth, streams_of};
use crate::model::{copy, settings};
use allsource::model::partition::Partition;
use allsource::sidecar::{Batches, Identity, Opened, Sidecar, SidecarError};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn partition() -> Partition {
    Partition::new(3).unwrap()
}

/// Adds batches to the truth, with payloads that do not compress.
fn add_batches(truth: &mut Truth, batches: usize) {
    let streams = streams_of(partition());
    let mut number = truth.batches.len() as u64 * 7_919;
    for _ in 0..batches {
        let events: Vec<_> = (0..60)
            .map(|_| {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                let stream = &streams[(number >> 33) as usize % streams.len()];
                (stream.clone(), number.to_le_bytes().repeat(12))
            })
            .collect();
        let batch_no = truth.last(partition()) + 1;
        truth.batches.push(Batch::new(partition(), batch_no, &events));
    }
}

fn open(directory: &Path) -> (Sidecar, Opened) {
    Sidecar::open(directory, IDENTITY, settings()).unwrap()
}

fn compare(truth: &Truth, sidecar: &Sidecar) -> Result<(), SidecarError> {
    let batches = Batches { after: 0, up_to: truth.last(partition()) };
    truth.compare(sidecar, partition(), batches, 500)
}

/// A sidecar with several files, closed.
fn populated(folder: &Folder) -> (PathBuf, Truth) {
    let directory = folder.join("sidecar");
    let mut truth = Truth::default();
    let (sidecar, _) = open(&directory);
    for _ in 0..3 {
        add_batches(&mut truth, 10);
        truth.catch_up(&sidecar).unwrap();
        sidecar.flush().unwrap();
    }
    drop(sidecar);
    (directory, truth)
}

/// When damage was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Noticed {
    Never,
    Reading,
    Opening,
}

/// Opens what was tampered with, and does what the owner does.
fn recovers(directory: &Path, truth: &Truth) -> Noticed {
    let (sidecar, opened) = open(directory);
    let compared = truth.catch_up(&sidecar).and_then(|()| compare(truth, &sidecar));
    if opened != Opened::Kept {
        compared.unwrap();
        return Noticed::Opening;
    }
    let Err(error) = compared else { return Noticed::Never };
    assert!(error.is_failure(), "{error:?}");
    drop(sidecar);
    let sidecar = Sidecar::open_emptied(directory, IDENTITY, settings()).unwrap();
    truth.catch_up(&sidecar).unwrap();
    compare(truth, &sidecar).unwrap();
    Noticed::Reading
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let database = directory.join("database");
    fs::read_dir(database).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
}

/// Does something to each file of a copy of its own, one after the other.
/// For tables it must be noticed, and not later than `latest`.
fn for_each_file(tamper: impl Fn(&Path), latest: Noticed) {
    let folder = Folder::new();
    let (directory, truth) = populated(&folder);
    let mut tables = 0;
    for (number, file) in files(&directory).iter().enumerate() {
        let copied = folder.join(&number.to_string());
        copy(&directory, &copied);
        let file = copied.join("database").join(file.file_name().unwrap());
        tamper(&file);
        let recovered = catch_unwind(AssertUnwindSafe(|| recovers(&copied, &truth)));
        let noticed = recovered.unwrap_or_else(|_| panic!("{}", file.display()));
        assert!(!is_table(&file) || noticed >= latest, "{}: {noticed:?}", file.display());
        tables += usize::from(is_table(&file));
    }
    assert!(tables >= 5, "{tables} tables");
}

#[test]
fn files_are_deleted() {
    for_each_file(|file| fs::remove_file(file).unwrap(), Noticed::Opening);
}

#[test]
fn files_are_cut() {
    let cut = |file: &Path, share: u64| {
        let opened = OpenOptions::new().write(true).open(file).unwrap();
        opened.set_len(opened.metadata().unwrap().len() * share / 100).unwrap();
    };
    for_each_file(|file| cut(file, 0), Noticed::Opening);
    for_each_file(|file| cut(file, 50), Noticed::Opening);
    for_each_file(|file| cut(file, 99), Noticed::Opening);
}

#[test]
fn bits_are_flipped() {
    for share in [0, 10, 30, 50, 70, 90, 99] {
        let flip = |file: &Path| {
            let mut opened = OpenOptions::new().read(true).write(true).open(file).unwrap();
            let len = opened.metadata().unwrap().len();
            if len == 0 {
                return;
            }
            let at = SeekFrom::Start(len * share / 100);
            let mut byte = [0];
            opened.seek(at).unwrap();
            opened.read_exact(&mut byte).unwrap();
            byte[0] ^= 0x10;
            opened.seek(at).unwrap();
            opened.write_all(&byte).unwrap();
        };
        // Parts of a table that are not needed may be flipped without anybody noticing.
        for_each_file(flip, Noticed::Never);
    }
}

#[test]
fn everything_is_deleted() {
    let folder = Folder::new();
    let (directory, truth) = populated(&folder);
    fs::remove_dir_all(directory.join("database")).unwrap();
    assert_eq!(recovers(&directory, &truth), Noticed::Opening);
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(recovers(&directory, &truth), Noticed::Opening);
}

#[test]
fn files_are_older() {
    let folder = Folder::new();
    let directory = folder.join("sidecar");
    let mut truth = Truth::default();
    let (sidecar, _) = open(&directory);
    add_batches(&mut truth, 10);
    truth.catch_up(&sidecar).unwrap();
    let older = folder.join("older");
    fs::create_dir(&older).unwrap();
    sidecar.checkpoint(&older.join("database")).unwrap();
    let before = sidecar.mark(partition());
    add_batches(&mut truth, 30);
    truth.catch_up(&sidecar).unwrap();
    sidecar.flush().unwrap();
    drop(sidecar);
    // Each of them alone.
    for (number, file) in files(&older).iter().enumerate() {
        let mixed = folder.join(&number.to_string());
        copy(&directory, &mixed);
        fs::copy(file, mixed.join("database").join(file.file_name().unwrap())).unwrap();
        recovers(&mixed, &truth);
    }
    // All of them.
    let (sidecar, opened) = open(&older);
    assert_eq!((opened, sidecar.mark(partition())), (Opened::Kept, before));
    truth.catch_up(&sidecar).unwrap();
    compare(&truth, &sidecar).unwrap();
}

#[test]
fn a_batch_was_lost_and_its_number_used_again() {
    let folder = Folder::new();
    let (directory, mut truth) = populated(&folder);
    truth.batches.pop();
    let events = [(streams_of(partition())[0].clone(), b"another one".to_vec())];
    let batch_no = truth.last(partition()) + 1;
    truth.batches.push(Batch::new(partition(), batch_no, &events));
    let (sidecar, opened) = open(&directory);
    assert_eq!(opened, Opened::Kept);
    truth.catch_up(&sidecar).unwrap();
    compare(&truth, &sidecar).unwrap();
}

#[test]
fn it_belongs_to_another() {
    let others = [
        Identity { system_identifier: 1, ..IDENTITY },
        Identity { timeline: 2, ..IDENTITY },
        Identity { database: 6, ..IDENTITY },
        Identity { incarnation: 10, ..IDENTITY },
    ];
    for other in others {
        let folder = Folder::new();
        let (directory, truth) = populated(&folder);
        let (sidecar, opened) = Sidecar::open(&directory, other, settings()).unwrap();
        assert!(matches!(opened, Opened::Emptied { .. }));
        assert_eq!(sidecar.applied(partition()), 0);
        truth.catch_up(&sidecar).unwrap();
        compare(&truth, &sidecar).unwrap();
    }
}

#[test]
fn one_process_has_it() {
    let folder = Folder::new();
    let (directory, truth) = populated(&folder);
    let (first, _) = open(&directory);
    let second = Sidecar::open(&directory, IDENTITY, settings());
    assert_eq!(second.err(), Some(SidecarError::InUse));
    let second = Sidecar::open_emptied(&directory, IDENTITY, settings());
    assert_eq!(second.err(), Some(SidecarError::InUse));
    compare(&truth, &first).unwrap();
}

#[test]
fn its_directory_cannot_be_used() {
    let folder = Folder::new();
    let file = folder.join("file");
    File::create(&file).unwrap();
    let opened = Sidecar::open(&file.join("sidecar"), IDENTITY, settings());
    assert!(matches!(opened.err(), Some(SidecarError::Directory { .. })));
}

#[test]
fn files_vanish_while_it_is_open() {
    let folder = Folder::new();
    let (directory, mut truth) = populated(&folder);
    let (sidecar, opened) = open(&directory);
    assert_eq!(opened, Opened::Kept);
    for file in files(&directory) {
        fs::remove_file(file).unwrap();
    }
    let mut outcome = compare(&truth, &sidecar);
    // It cannot go on writing for ever without noticing.
    for _ in 0..200 {
        if outcome.is_err() {
            break;
        }
        add_batches(&mut truth, 10);
        outcome = truth.catch_up(&sidecar).and_then(|()| compare(&truth, &sidecar));
        outcome = outcome.and_then(|()| sidecar.flush());
        if truth.batches.len() > 400 {
            break;
        }
    }
    drop(sidecar);
    if let Err(error) = &outcome {
        assert!(error.is_failure(), "{error:?}");
    }
    assert_eq!(recovers(&directory, &truth), Noticed::Opening);
}

#[test]
fn tables_are_overwritten_while_it_is_open() {
    let folder = Folder::new();
    let (directory, truth) = populated(&folder);
    let (sidecar, _) = open(&directory);
    for file in files(&directory).iter().filter(|file| is_table(file)) {
        let mut opened = OpenOptions::new().write(true).open(file).unwrap();
        let len = opened.metadata().unwrap().len();
        opened.write_all(&vec![0x55; len as usize]).unwrap();
    }
    let error = compare(&truth, &sidecar).unwrap_err();
    assert!(error.is_failure(), "{error:?}");
    drop(sidecar);
    assert_eq!(recovers(&directory, &truth), Noticed::Opening);
}

#[test]
fn what_is_forgotten_goes() {
    let folder = Folder::new();
    let directory = folder.join("sidecar");
    let mut truth = Truth::default();
    let (sidecar, _) = open(&directory);
    let mut bytes = 0;
    for _ in 0..40 {
        add_batches(&mut truth, 10);
        truth.catch_up(&sidecar).unwrap();
        let last = truth.last(partition());
        bytes += truth.batches[truth.batches.len() - 10..]
            .iter()
            .map(|batch| batch.body.len() as u64)
            .sum::<u64>();
        sidecar.forget(partition(), last - 10).unwrap();
        sidecar.flush().unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    let statistics = sidecar.statistics().unwrap();
    assert!(statistics.disk_bytes < bytes / 3, "{statistics:?} of {bytes}");
    assert!(statistics.memory_bytes < 4 << 20, "{statistics:?}");
    assert_eq!(statistics.background_errors, 0);
    let last = truth.last(partition());
    let batches = Batches { after: last - 10, up_to: last };
    truth.compare(&sidecar, partition(), batches, 500).unwrap();
}

#[test]
fn no_signal_reaches_the_threads_of_rocksdb() {
    let folder = Folder::new();
    let (directory, mut truth) = populated(&folder);
    let (sidecar, _) = open(&directory);
    add_batches(&mut truth, 10);
    truth.catch_up(&sidecar).unwrap();
    sidecar.flush().unwrap();
    let mut seen = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // Threads of other tests come and go.
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        if !field("Name:").starts_with("rocksdb") {
            continue;
        }
        let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap();
        for signal in [1, 2, 3, 10, 12, 14, 15, 17] {
            assert!(blocked & 1 << (signal - 1) != 0, "{}: {signal}", field("Name:"));
        }
        seen += 1;
    }
    assert!(seen >= 2, "nothing was checked");
}
