//! Opening the extension's leaves and sequences. What was found by name is remembered by the backend
//! until PostgreSQL reports a change.
#![expect(unsafe_code, reason = "opens relations")]

use super::layout::{KnownLeaf, check_leaf};
use super::names::{generation, lock_by_name, look_up};
use super::open_relation::OpenRelation;
use super::schema::{LeafIndex, ROOTS, Root, Sequence};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

struct Cache {
    roots: [Option<pg_sys::Oid>; ROOTS],
    leaves: [[Option<KnownLeaf>; PARTITIONS]; ROOTS],
    sequences: [Option<pg_sys::Oid>; 2],
}

const EMPTY: Cache =
    Cache { roots: [None; ROOTS], leaves: [[None; PARTITIONS]; ROOTS], sequences: [None; 2] };

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(EMPTY) };
    /// The generation that `CACHE` is of.
    static CACHED: Cell<u64> = const { Cell::new(0) };
}

fn with_cache<T>(f: impl FnOnce(&mut Cache) -> T) -> T {
    CACHE.with_borrow_mut(|cache| {
        let now = generation();
        if CACHED.replace(now) != now {
            *cache = EMPTY;
        }
        f(cache)
    })
}

/// The OID of a partitioned table. It is not locked: for what is asked about rights.
pub fn root_oid(root: Root) -> Result<pg_sys::Oid, Error> {
    if let Some(oid) = with_cache(|cache| cache.roots[root as usize]) {
        return Ok(oid);
    }
    let before = generation();
    let oid = look_up(root.table())?;
    if generation() == before {
        with_cache(|cache| cache.roots[root as usize] = Some(oid));
    }
    Ok(oid)
}

/// The OID of a sequence, which is not locked.
pub fn sequence_oid(sequence: Sequence) -> Result<pg_sys::Oid, Error> {
    if let Some(oid) = with_cache(|cache| cache.sequences[sequence as usize]) {
        return Ok(oid);
    }
    let before = generation();
    let oid = look_up(sequence.name())?;
    check_sequence(sequence, oid)?;
    if generation() == before {
        with_cache(|cache| cache.sequences[sequence as usize] = Some(oid));
    }
    Ok(oid)
}

/// Locks a sequence until the transaction ends.
pub fn lock_sequence(sequence: Sequence, lock: pg_sys::LOCKMODE) -> Result<pg_sys::Oid, Error> {
    let oid = sequence_oid(sequence)?;
    let before = generation();
    // SAFETY: a lock of the transaction.
    unsafe { pg_sys::LockRelationOid(oid, lock) };
    if generation() == before {
        return Ok(oid);
    }
    // SAFETY: the lock that was just taken.
    unsafe { pg_sys::UnlockRelationOid(oid, lock) };
    let oid = lock_by_name(sequence.name(), lock)?;
    check_sequence(sequence, oid)?;
    Ok(oid)
}

fn check_sequence(sequence: Sequence, oid: pg_sys::Oid) -> Result<(), Error> {
    // SAFETY: a catalog look-up.
    if unsafe { pg_sys::get_rel_relkind(oid) } as u8 == pg_sys::RELKIND_SEQUENCE {
        return Ok(());
    }
    let object = sequence.name().to_owned();
    Err(Error::Layout { object, problem: "It is not a sequence.".into() })
}

/// Locks a leaf for writing without waiting for anybody; `false` if it is locked.
pub fn try_lock(root: Root, partition: Partition) -> Result<bool, Error> {
    let table = look_up(&root.leaf(partition))?;
    // SAFETY: a lock of the transaction.
    Ok(unsafe {
        pg_sys::ConditionalLockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
    })
}

/// Tables and sequences besides the leaves that a worker locks.
const SHARED: [&str; 5] =
    ["waiting_events", "dead_letters", "position_seq", "stream_no_seq", "hot_partitions"];

/// A table of the store that this session itself has locked, so that the workers cannot write it: a leaf
/// of one of these partitions, or one that they use for all.
pub fn locked_by_caller(partitions: &[bool; PARTITIONS]) -> Result<Option<String>, Error> {
    let wanted = Partition::all().filter(|partition| partitions[partition.index()]);
    let leaves = wanted.flat_map(|partition| {
        [Root::Streams, Root::Log, Root::Ids, Root::Batches].map(|root| root.leaf(partition))
    });
    for name in SHARED.map(str::to_owned).into_iter().chain(leaves) {
        // Those that conflict with RowExclusiveLock.
        if has_locked(&name, pg_sys::ShareLock as pg_sys::LOCKMODE)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether this session has locked a relation of the store in this mode or in a stronger one.
pub fn has_locked(name: &str, least: pg_sys::LOCKMODE) -> Result<bool, Error> {
    let tag = lock_tag(look_up(name)?);
    let mut modes = least..=pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
    Ok(modes.any(|mode| {
        // SAFETY: looks at the locks of this session.
        unsafe { pg_sys::LockHeldByMe(&tag, mode) }
    }))
}

fn lock_tag(table: pg_sys::Oid) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a constant of this process.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: table.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

/// Whether a table can be read without waiting for anybody. It is not locked when this returns.
pub fn is_free(table: &str) -> Result<bool, Error> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let oid = look_up(table)?;
    // SAFETY: a lock that is given back at once.
    unsafe {
        let is_free = pg_sys::ConditionalLockRelationOid(oid, lock);
        if is_free {
            pg_sys::UnlockRelationOid(oid, lock);
        }
        Ok(is_free)
    }
}

/// Whether a table has, or may have had, a row. It is not locked when this returns.
pub fn has_blocks(table: &str) -> Result<bool, Error> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let oid = lock_by_name(table, lock)?;
    // SAFETY: locked, so it is there; the lock is given back in the end.
    let blocks = unsafe {
        let relation = OpenRelation::open(oid, pg_sys::NoLock as pg_sys::LOCKMODE);
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation.get(), fork);
        drop(relation);
        pg_sys::UnlockRelationOid(oid, lock);
        blocks
    };
    Ok(blocks > 0)
}

/// A process that has locked a leaf, so that it cannot be written.
pub fn lock_holder(root: Root, partition: Partition) -> Result<Option<i32>, Error> {
    unsafe extern "C-unwind" {
        // From storage/sinvaladt.h.
        fn BackendIdGetProc(backend: pg_sys::BackendId) -> *mut pg_sys::PGPROC;
    }
    let table = look_up(&root.leaf(partition))?;
    // SAFETY: looks at shared memory; the list ends with an invalid entry.
    unsafe {
        let tag = lock_tag(table);
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let mut count = 0;
        let holders = pg_sys::GetLockConflicts(&tag, mode, &mut count);
        if count == 0 {
            return Ok(None);
        }
        let pg_sys::VirtualTransactionId { backendId: backend, localTransactionId: transaction } =
            *holders;
        let process = pg_sys::ffi::pg_guard_ffi_boundary(|| BackendIdGetProc(backend));
        // A prepared transaction has the number of the backend that has prepared it.
        let process = process.as_ref().filter(|process| process.lxid == transaction);
        Ok(process.map(|process| process.pid).filter(|pid| *pid != 0))
    }
}

/// The backends, by their numbers, other than this one that have locked a leaf as a writer does, or more
/// strongly; -1 is a prepared transaction.
pub fn writers_of(root: Root) -> Vec<pg_sys::BackendId> {
    let leaves: Vec<u32> = Partition::all()
        .filter_map(|partition| look_up(&root.leaf(partition)).ok())
        .map(pg_sys::Oid::to_u32)
        .collect();
    let modes: i32 = [
        pg_sys::RowExclusiveLock,
        pg_sys::ShareRowExclusiveLock,
        pg_sys::ExclusiveLock,
        pg_sys::AccessExclusiveLock,
    ]
    .iter()
    .map(|mode| 1 << mode)
    .sum();
    let relation = pg_sys::LockTagType::LOCKTAG_RELATION as u8;
    // SAFETY: a copy of the lock table, with as many elements as it says.
    unsafe {
        let data = pg_sys::GetLockStatusData();
        let locks = std::slice::from_raw_parts((*data).locks, (*data).nelements as usize);
        let writers = locks
            .iter()
            .filter(|lock| {
                lock.locktag.locktag_type == relation
                    && lock.locktag.locktag_field1 == pg_sys::MyDatabaseId.to_u32()
                    && leaves.contains(&lock.locktag.locktag_field2)
                    && lock.holdMask & modes != 0
                    && lock.pid != pg_sys::MyProcPid
            })
            .map(|lock| lock.backend)
            .collect();
        pg_sys::pfree((*data).locks.cast());
        pg_sys::pfree(data.cast());
        writers
    }
}

/// An open leaf.
#[derive(Debug)]
pub struct Leaf {
    known: KnownLeaf,
    relation: OpenRelation,
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
        let place = (root as usize, partition.index());
        if let Some(known) = with_cache(|cache| cache.leaves[place.0][place.1]) {
            let before = generation();
            // SAFETY: gives null where there is no such relation any more.
            let relation = unsafe { pg_sys::try_relation_open(known.table, lock) };
            if !relation.is_null() {
                if generation() == before {
                    return Ok(Self {
                        known,
                        // SAFETY: just opened, and handed over.
                        relation: unsafe { OpenRelation::of(relation) },
                        lock,
                    });
                }
                // SAFETY: just opened.
                unsafe { pg_sys::relation_close(relation, lock) };
            }
        }
        let name = root.leaf(partition);
        loop {
            let table = lock_by_name(&name, lock)?;
            let before = generation();
            // SAFETY: locked.
            let relation = unsafe { OpenRelation::open(table, lock) };
            let checked = check_leaf(root, partition, relation.get());
            if generation() == before {
                let known = checked?;
                with_cache(|cache| cache.leaves[place.0][place.1] = Some(known));
                return Ok(Self { known, relation, lock });
            }
            // An index was exchanged by REINDEX CONCURRENTLY, or the like.
        }
    }

    /// Opens a leaf for reading, with locks of all its indexes; `None` if another lock is in the way.
    /// The locks stay.
    pub fn open_if_free(root: Root, partition: Partition) -> Result<Option<Self>, Error> {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = look_up(&root.leaf(partition))?;
        // SAFETY: locks of the transaction; the table is opened under its lock, and null if it is gone.
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(table, lock) {
                return Ok(None);
            }
            let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as pg_sys::LOCKMODE);
            if relation.is_null() {
                return Ok(None);
            }
            let relation = OpenRelation::of(relation);
            // REINDEX INDEX locks the index, and lets others read the table.
            let list = pg_sys::RelationGetIndexList(relation.get());
            let indexes = pgrx::PgList::<pg_sys::Oid>::from_pg(list);
            if !indexes.iter_oid().all(|index| pg_sys::ConditionalLockRelationOid(index, lock)) {
                return Ok(None);
            }
        }
        Self::open(root, partition, For::Reading).map(Some)
    }

    /// Opens it once more.
    pub fn again(&self) -> Self {
        // SAFETY: it is open; the further reference is closed like the first.
        let relation = unsafe {
            pg_sys::RelationIncrementReferenceCount(self.relation());
            OpenRelation::of(self.relation())
        };
        Self { known: self.known, relation, lock: self.lock }
    }

    /// What is known of it.
    pub fn known(&self) -> &KnownLeaf {
        &self.known
    }

    /// Opens one of its indexes.
    pub fn open_index(&self, index: LeafIndex) -> OpenRelation {
        let oid = self.known.indexes[index as usize];
        // SAFETY: the index belongs to the open table, so it cannot go away.
        unsafe {
            if self.lock == pg_sys::AccessShareLock as pg_sys::LOCKMODE {
                OpenRelation::open_to_read(oid)
            } else {
                OpenRelation::open(oid, self.lock)
            }
        }
    }

    /// The relation.
    pub fn relation(&self) -> pg_sys::Relation {
        self.relation.get()
    }

    /// The columns.
    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.relation()).rd_att }
    }
}
