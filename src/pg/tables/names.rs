//! Finding relations of the extension by name, and locking them.
//!
//! A name is looked up, the relation locked, and the name looked up again if meanwhile any relation
//! concerned may have changed, as PostgreSQL does for the names in a statement
//! (`RangeVarGetRelidExtended`): after waiting for a lock the name may belong to another relation.
#![expect(unsafe_code, reason = "looks into catalogs and locks relations")]

use super::schema::SCHEMA;
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CString;

/// Bits of [`WATCHED`].
const WATCHED_BITS: u32 = 1024;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    /// A bit for each OID that was looked up; one bit may stand for several.
    static WATCHED: [Cell<u64>; WATCHED_BITS as usize / 64] =
        const { [const { Cell::new(0) }; WATCHED_BITS as usize / 64] };
}

/// Asks PostgreSQL to report changes of relations, schemas and roles.
pub fn init() {
    let none = pg_sys::Datum::from(0);
    // SAFETY: registered once, when the library is loaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        for cache in [
            pg_sys::SysCacheIdentifier::NAMESPACEOID,
            pg_sys::SysCacheIdentifier::AUTHOID,
            pg_sys::SysCacheIdentifier::AUTHMEMROLEMEM,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), none);
        }
    }
}

extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    // May come in the middle of anything: only leave a mark.
    if relation == pg_sys::InvalidOid || watched(relation, false) {
        forget();
    }
}

extern "C-unwind" fn catalog_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    forget();
}

fn forget() {
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

/// Whether changes of a relation are of interest; with `from_now_on` they are.
fn watched(relation: pg_sys::Oid, from_now_on: bool) -> bool {
    let bit = relation.to_u32() % WATCHED_BITS;
    WATCHED.with(|words| {
        let word = &words[bit as usize / 64];
        let mask = 1 << (bit % 64);
        let before = word.get();
        if from_now_on {
            word.set(before | mask);
        }
        before & mask != 0
    })
}

/// Changes whenever a relation of the store, or a role, may have changed; for caches of what they hold.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// The OID of a relation of the extension, by its name now.
pub fn look_up(name: &str) -> Result<pg_sys::Oid, Error> {
    let missing = || Error::Missing { object: name.to_owned() };
    let c_name = CString::new(name).map_err(|_| missing())?;
    // SAFETY: catalog look-ups by name.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        pg_sys::get_relname_relid(c_name.as_ptr(), schema)
    };
    if oid == pg_sys::InvalidOid {
        return Err(missing());
    }
    watched(oid, true);
    Ok(oid)
}

/// Locks the relation of this name until the transaction ends. When this returns, the relation has
/// this name, and who wants to change that waits.
pub fn lock_by_name(name: &str, lock: pg_sys::LOCKMODE) -> Result<pg_sys::Oid, Error> {
    let mut oid = look_up(name)?;
    loop {
        let before = generation();
        // SAFETY: a lock of the transaction.
        unsafe { pg_sys::LockRelationOid(oid, lock) };
        if generation() == before {
            return Ok(oid);
        }
        let now = match look_up(name) {
            Ok(now) if now == oid => return Ok(oid),
            now => now,
        };
        // SAFETY: the lock that was just taken.
        unsafe { pg_sys::UnlockRelationOid(oid, lock) };
        oid = now?;
    }
}

/// Whether there is a relation of this OID.
pub fn is_relation(oid: u32) -> bool {
    is_in_catalog(pg_sys::SysCacheIdentifier::RELOID, oid)
}

/// Whether there is a database of this OID.
pub fn is_database(oid: u32) -> bool {
    is_in_catalog(pg_sys::SysCacheIdentifier::DATABASEOID, oid)
}

fn is_in_catalog(cache: pg_sys::SysCacheIdentifier::Type, oid: u32) -> bool {
    let none = pg_sys::Datum::from(0);
    let oid = pg_sys::Datum::from(pg_sys::Oid::from(oid));
    // SAFETY: a catalog look-up by one key, the OID.
    unsafe { pg_sys::SearchSysCacheExists(cache as i32, oid, none, none, none) }
}
