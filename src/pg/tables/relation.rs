//! The extension's tables, indexes and sequences: their numbers, looked up once per backend and
//! forgotten when PostgreSQL says that any of them may have changed.
#![expect(unsafe_code, reason = "opens relations")]

use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::CString;

const SCHEMA: &std::ffi::CStr = c"allsource";

/// A partitioned table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `event_streams`
    Streams,
    /// `event_log`
    Log,
    /// `event_ids`
    Ids,
}

impl Root {
    /// Its name.
    pub fn table(self) -> &'static str {
        match self {
            Self::Streams => "event_streams",
            Self::Log => "event_log",
            Self::Ids => "event_ids",
        }
    }

    fn columns(self) -> i32 {
        match self {
            Self::Streams => 9,
            Self::Log => 10,
            Self::Ids => 4,
        }
    }

    /// Suffixes of the names of a leaf's indexes, in the order of [`LeafIndex`].
    fn indexes(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Streams => [Some("stream_id"), Some("stream_no")],
            Self::Log => [Some("version"), Some("position")],
            Self::Ids => [Some("event_id"), None],
        }
    }
}

/// An index of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafIndex {
    /// The one that a stream's rows are found by: its name, its versions, its event ids.
    ByStream = 0,
    /// `stream_no` of `event_streams`, `position` of `event_log`.
    ByNumber = 1,
}

/// A sequence of the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// `stream_no_seq`
    StreamNo,
    /// `position_seq`
    Position,
}

impl Sequence {
    fn name(self) -> &'static str {
        match self {
            Self::StreamNo => "stream_no_seq",
            Self::Position => "position_seq",
        }
    }
}

#[derive(Clone, Copy)]
struct LeafOids {
    table: pg_sys::Oid,
    indexes: [pg_sys::Oid; 2],
}

struct Cache {
    roots: [Option<pg_sys::Oid>; 3],
    leaves: [[Option<LeafOids>; PARTITIONS]; 3],
    sequences: [Option<pg_sys::Oid>; 2],
}

const EMPTY: Cache =
    Cache { roots: [None; 3], leaves: [[None; PARTITIONS]; 3], sequences: [None; 2] };

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(EMPTY) };
    static STALE: Cell<bool> = const { Cell::new(false) };
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

/// Asks PostgreSQL to tell when relations change.
pub fn init() {
    // SAFETY: registered once, when the library is loaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
    }
}

extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, _relation: pg_sys::Oid) {
    // May come in the middle of anything: only leave a mark.
    STALE.set(true);
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

/// Changes whenever a relation may have changed; for caches of what relations hold.
pub fn generation() -> u64 {
    GENERATION.get()
}

fn with_cache<T>(f: impl FnOnce(&mut Cache) -> Result<T, Error>) -> Result<T, Error> {
    CACHE.with_borrow_mut(|cache| {
        if STALE.replace(false) {
            *cache = EMPTY;
        }
        f(cache)
    })
}

fn look_up(name: &str) -> Result<pg_sys::Oid, Error> {
    let missing = || Error::Missing { object: name.to_owned() };
    let c_name = CString::new(name).map_err(|_| missing())?;
    // SAFETY: catalog look-ups by name.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        pg_sys::get_relname_relid(c_name.as_ptr(), schema)
    };
    if oid == pg_sys::InvalidOid { Err(missing()) } else { Ok(oid) }
}

fn cached(slot: &mut Option<pg_sys::Oid>, name: &str) -> Result<pg_sys::Oid, Error> {
    if let Some(oid) = slot {
        return Ok(*oid);
    }
    Ok(*slot.insert(look_up(name)?))
}

/// The number of a partitioned table.
pub fn root_oid(root: Root) -> Result<pg_sys::Oid, Error> {
    with_cache(|cache| cached(&mut cache.roots[root as usize], root.table()))
}

/// The number of a sequence.
pub fn sequence_oid(sequence: Sequence) -> Result<pg_sys::Oid, Error> {
    with_cache(|cache| cached(&mut cache.sequences[sequence as usize], sequence.name()))
}

/// The number of a sequence that is locked, so that the extension stays as it is until the transaction
/// ends.
pub fn lock_sequence(sequence: Sequence) -> Result<pg_sys::Oid, Error> {
    loop {
        let oid = sequence_oid(sequence)?;
        // SAFETY: a lock of the transaction.
        unsafe { pg_sys::LockRelationOid(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
        // Waiting for the lock may have brought news of a drop.
        if sequence_oid(sequence)? == oid {
            return Ok(oid);
        }
    }
}

/// Locks a leaf for writing without waiting for anybody; `false` where it is locked.
pub fn try_lock(root: Root, partition: Partition) -> Result<bool, Error> {
    let oids = leaf_oids(root, partition)?;
    // SAFETY: a lock of the transaction.
    Ok(unsafe {
        pg_sys::ConditionalLockRelationOid(oids.table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
    })
}

/// A process that has locked a leaf, so that it cannot be written.
pub fn lock_holder(root: Root, partition: Partition) -> Result<Option<i32>, Error> {
    unsafe extern "C-unwind" {
        // From storage/sinvaladt.h.
        fn BackendIdGetProc(backend: pg_sys::BackendId) -> *mut pg_sys::PGPROC;
    }
    let oids = leaf_oids(root, partition)?;
    // SAFETY: looks at shared memory; the list ends with an invalid entry.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: oids.table.to_u32(),
            locktag_field3: 0,
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let mut count = 0;
        let holders = pg_sys::GetLockConflicts(&tag, mode, &mut count);
        if count == 0 {
            return Ok(None);
        }
        let backend = (*holders).backendId;
        let process = pg_sys::ffi::pg_guard_ffi_boundary(|| BackendIdGetProc(backend));
        Ok(process.as_ref().map(|process| process.pid).filter(|pid| *pid != 0))
    }
}

/// A table of the extension that is not partitioned, locked as for an INSERT.
pub fn lock_table(name: &str) -> Result<pg_sys::Oid, Error> {
    let oid = look_up(name)?;
    // SAFETY: a lock of the transaction.
    unsafe { pg_sys::LockRelationOid(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
    Ok(oid)
}

/// Whether there is a relation of this number.
pub fn is_relation(oid: u32) -> bool {
    is_in_catalog(pg_sys::SysCacheIdentifier::RELOID, oid)
}

/// Whether there is a database of this number.
pub fn is_database(oid: u32) -> bool {
    is_in_catalog(pg_sys::SysCacheIdentifier::DATABASEOID, oid)
}

fn is_in_catalog(cache: pg_sys::SysCacheIdentifier::Type, oid: u32) -> bool {
    let none = pg_sys::Datum::from(0);
    let oid = pg_sys::Datum::from(pg_sys::Oid::from(oid));
    // SAFETY: a catalog look-up by one key, which is the number.
    unsafe { pg_sys::SearchSysCacheExists(cache as i32, oid, none, none, none) }
}

fn leaf_oids(root: Root, partition: Partition) -> Result<LeafOids, Error> {
    with_cache(|cache| {
        let slot = &mut cache.leaves[root as usize][partition.index()];
        if let Some(oids) = slot {
            return Ok(*oids);
        }
        let table = leaf_name(root, partition);
        let mut indexes = [pg_sys::InvalidOid; 2];
        for (oid, suffix) in indexes.iter_mut().zip(root.indexes()) {
            if let Some(suffix) = suffix {
                *oid = look_up(&format!("{table}_{suffix}"))?;
            }
        }
        Ok(*slot.insert(LeafOids { table: look_up(&table)?, indexes }))
    })
}

fn leaf_name(root: Root, partition: Partition) -> String {
    format!("{}_p{:02}", root.table(), partition.number())
}

/// An open leaf. Closing keeps its lock until the transaction ends; a leaf that an error left open
/// is closed by PostgreSQL.
#[derive(Clone, Copy)]
pub struct Leaf {
    oids: LeafOids,
    relation: pg_sys::Relation,
    lock: pg_sys::LOCKMODE,
}

/// What a leaf is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Reading.
    Reading,
    /// Writing.
    Writing,
}

impl Leaf {
    /// Opens a leaf.
    pub fn open(root: Root, partition: Partition, purpose: For) -> Result<Self, Error> {
        let lock = match purpose {
            For::Reading => pg_sys::AccessShareLock,
            For::Writing => pg_sys::RowExclusiveLock,
        } as pg_sys::LOCKMODE;
        // Twice, because the leaf can be dropped and made anew between the look-up and the lock.
        for _ in 0..2 {
            let oids = leaf_oids(root, partition)?;
            // SAFETY: opens by number, and gives null where there is no such relation.
            let relation = unsafe { pg_sys::try_relation_open(oids.table, lock) };
            if relation.is_null() {
                STALE.set(true);
                continue;
            }
            let leaf = Self { oids, relation, lock };
            // SAFETY: the relation is open.
            let columns = unsafe { (*leaf.descriptor()).natts };
            if columns != root.columns() {
                return Err(Error::Layout { table: leaf_name(root, partition) });
            }
            return Ok(leaf);
        }
        Err(Error::Missing { object: leaf_name(root, partition) })
    }

    /// Opens one of its indexes.
    pub fn open_index(&self, index: LeafIndex) -> pg_sys::Relation {
        // SAFETY: the index belongs to the open table, so it cannot go away.
        unsafe { pg_sys::index_open(self.oids.indexes[index as usize], self.lock) }
    }

    /// The relation.
    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    /// The columns.
    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_att }
    }

    /// Closes the leaf and keeps its lock.
    pub fn close(self) {
        // SAFETY: opened by `open`, and not used after.
        unsafe { pg_sys::relation_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE) }
    }
}

/// Closes an index and keeps its lock.
pub fn close_index(index: pg_sys::Relation) {
    // SAFETY: opened by `open_index`, and not used after.
    unsafe { pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE) }
}
