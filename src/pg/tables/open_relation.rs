//! An open relation.
#![expect(unsafe_code, reason = "opens relations")]

use pgrx::pg_sys;

/// A relation that is closed when the value goes; its lock stays until the transaction ends. After an
/// error PostgreSQL closes it.
#[derive(Debug)]
pub struct OpenRelation(pg_sys::Relation);

impl OpenRelation {
    /// Opens a relation with a lock.
    ///
    /// # Safety
    ///
    /// There must be such a relation, or the lock make sure of it.
    pub unsafe fn open(oid: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Self {
        // SAFETY: by the caller's promise; what is not there is an error of PostgreSQL.
        Self(unsafe { pg_sys::relation_open(oid, lock) })
    }

    /// Takes over a relation that is open.
    ///
    /// # Safety
    ///
    /// It must be open, and nobody else close it.
    pub unsafe fn of(relation: pg_sys::Relation) -> Self {
        Self(relation)
    }

    /// The relation.
    pub fn get(&self) -> pg_sys::Relation {
        self.0
    }
}

impl Drop for OpenRelation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, and not used after.
        unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) }
    }
}
