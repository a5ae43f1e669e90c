//! Opening a sidecar: as it was left, or emptied where it cannot be used as it is.
//!
//! ```text
//! lock        locked by the process that has the sidecar open
//! database/   RocksDB's; removed as a whole
//! ```
//!
//! Nothing else in the directory is touched.

use super::error::SidecarError;
use super::mark::{Mark, Marks};
use super::options::{self, EVENTS, Memory, PARTITION_MARKS, Settings};
use super::signals;
use super::stamp::{Identity, stamp};
use crate::model::partition::Partition;
use rocksdb::DB;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

const LOCK: &str = "lock";
const DATABASE: &str = "database";
const STAMP_KEY: &str = "stamp";

/// What was found at opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// What had been flushed.
    Kept,
    /// Nothing: there was nothing, or it could not be used.
    Emptied {
        /// why
        reason: String,
    },
}

/// Locks the directory, which is made if it is missing. The lock ends with the file, or the process.
pub fn lock(directory: &Path) -> Result<File, SidecarError> {
    let failed = |error: io::Error| SidecarError::Directory { reason: error.to_string() };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(directory.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SidecarError::InUse),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Opens the database of a directory that is locked. `marks` are as at its beginning.
pub fn open(
    directory: &Path,
    identity: Identity,
    settings: Settings,
    memory: &Memory,
    marks: &Marks,
) -> Result<(DB, Opened), SidecarError> {
    let path = directory.join(DATABASE);
    let kept = match path.exists() {
        true => open_kept(&path, identity, settings, memory, marks),
        false => Err("there was none".to_owned()),
    };
    match kept {
        Ok(database) => Ok((database, Opened::Kept)),
        Err(reason) => {
            let database = open_emptied(directory, identity, settings, memory, marks)?;
            Ok((database, Opened::Emptied { reason }))
        }
    }
}

/// Removes what is in a directory that is locked, and opens an empty database in it.
pub fn open_emptied(
    directory: &Path,
    identity: Identity,
    settings: Settings,
    memory: &Memory,
    marks: &Marks,
) -> Result<DB, SidecarError> {
    let path = directory.join(DATABASE);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(SidecarError::Directory { reason: error.to_string() });
        }
        _ => {}
    }
    for partition in Partition::all() {
        marks.discard(partition);
    }
    let database = open_database(&path, settings, memory, marks)?;
    // Written at once: a database without a stamp is not used.
    database.put_opt(STAMP_KEY, stamp(identity), &options::writing())?;
    database.flush()?;
    Ok(database)
}

fn open_database(
    path: &Path,
    settings: Settings,
    memory: &Memory,
    marks: &Marks,
) -> Result<DB, rocksdb::Error> {
    let families = options::families(settings, memory, &marks.forgotten());
    signals::with_all_blocked(|| {
        DB::open_cf_descriptors(&options::database(settings, memory), path, families)
    })
}

/// The database as it is, or why it cannot be used.
fn open_kept(
    path: &Path,
    identity: Identity,
    settings: Settings,
    memory: &Memory,
    marks: &Marks,
) -> Result<DB, String> {
    let mut options = options::database(settings, memory);
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let families = options::families(settings, memory, &marks.forgotten());
    let database = signals::with_all_blocked(|| DB::open_cf_descriptors(&options, path, families))?;
    match database.get(STAMP_KEY)? {
        None => return Err("it has no stamp".to_owned()),
        Some(found) if found != stamp(identity) => {
            return Err("it belongs to another store, or to another time of it".to_owned());
        }
        Some(_) => {}
    }
    check_files(&database, path)?;
    let family = |name| database.cf_handle(name).ok_or_else(|| format!("it has no {name}"));
    family(EVENTS)?;
    let family = family(PARTITION_MARKS)?;
    for partition in Partition::all() {
        let found = database.get_cf(family, [partition.number() as u8])?;
        let mark = found.as_deref().map_or(Some(Mark::default()), Mark::from_bytes);
        let mark = mark.ok_or("a mark of a partition is damaged")?;
        marks.set(partition, mark);
        marks.release(partition, mark);
    }
    Ok(database)
}

/// RocksDB looks for a file when it needs it. One that is missing or was cut is better noticed now.
fn check_files(database: &DB, path: &Path) -> Result<(), String> {
    // Compaction may be at work by now.
    database.disable_file_deletions()?;
    for file in database.live_files()? {
        let name = file.name.trim_start_matches('/');
        match fs::metadata(path.join(name)) {
            Ok(found) if found.len() == file.size as u64 => {}
            Ok(found) => {
                return Err(format!("{name} has {} bytes instead of {}", found.len(), file.size));
            }
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    Ok(database.enable_file_deletions()?)
}
