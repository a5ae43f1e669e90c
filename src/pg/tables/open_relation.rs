//! An open relation.
#![expect(unsafe_code, reason = "opens relations")]

use pgrx::pg_sys;

/// A relation that is closed when the value is dropped. After an error PostgreSQL closes it.
#[derive(Debug)]
pub struct OpenRelation {
    relation: pg_sys::Relation,
    /// The lock that is given back then; otherwise locks stay until the transaction ends.
    gives_back: pg_sys::LOCKMODE,
}

impl OpenRelation {
    /// Opens a relation with a lock.
    ///
    /// # Safety
    ///
    /// There must be such a relation, or the lock make sure of it.
    pub unsafe fn open(oid: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Self {
        // SAFETY: by the caller's promise; what is not there is an error of PostgreSQL.
        let relation = unsafe { pg_sys::relation_open(oid, lock) };
        Self { relation, gives_back: pg_sys::NoLock as pg_sys::LOCKMODE }
    }

    /// Opens an index to read it. Its lock goes with it, the table's stays: REINDEX, which lets readers
    /// of the table go on, locks indexes in another order than they are read in.
    ///
    /// # Safety
    ///
    /// It must be an index of a locked table.
    pub unsafe fn open_to_read(index: pg_sys::Oid) -> Self {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        // SAFETY: by the caller's promise.
        let mut open = unsafe { Self::open(index, lock) };
        open.gives_back = lock;
        open
    }

    /// Takes over a relation that is open.
    ///
    /// # Safety
    ///
    /// It must be open, and must not be closed otherwise.
    pub unsafe fn of(relation: pg_sys::Relation) -> Self {
        Self { relation, gives_back: pg_sys::NoLock as pg_sys::LOCKMODE }
    }

    /// The relation.
    pub fn get(&self) -> pg_sys::Relation {
        self.relation
    }
}

impl Drop for OpenRelation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, and not used after.
        unsafe { pg_sys::relation_close(self.relation, self.gives_back) }
    }
}
