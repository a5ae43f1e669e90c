//! The caller's rights. The functions reach the tables below SQL, where PostgreSQL does not check them.
#![expect(unsafe_code, reason = "asks PostgreSQL about rights")]

use crate::pg::error::Error;
use crate::pg::tables::names::generation;
use crate::pg::tables::relation::root_oid;
use crate::pg::tables::schema::Root;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

thread_local! {
    /// Who was found to have which right, and the generation that this is of.
    static GRANTED: [Cell<Option<(pg_sys::Oid, u64)>>; 2] = const { [const { Cell::new(None) }; 2] };
}

/// What the functions need rights for.
#[derive(Clone, Copy)]
enum Right {
    Read,
    Write,
}

/// Runs `check`, unless it has succeeded for this user and nothing has changed since. `check` returns
/// whether that is all that matters.
fn check_once(right: Right, check: impl FnOnce() -> Result<bool, Error>) -> Result<(), Error> {
    // SAFETY: a plain variable of this backend.
    let now = (unsafe { pg_sys::GetUserId() }, generation());
    GRANTED.with(|granted| {
        let granted = &granted[right as usize];
        if granted.get() == Some(now) {
            return Ok(());
        }
        if check()? && generation() == now.1 {
            granted.set(Some(now));
        }
        Ok(())
    })
}

/// Refuses a caller who may not read the tables, or to whom row security applies.
pub fn check_reader() -> Result<(), Error> {
    check_once(Right::Read, || {
        for root in [Root::Streams, Root::Log] {
            let oid = root_oid(root)?;
            // SAFETY: a catalog look-up.
            let granted =
                unsafe { pg_sys::pg_class_aclcheck(oid, pg_sys::GetUserId(), pg_sys::ACL_SELECT) };
            if granted != pg_sys::AclResult::ACLCHECK_OK {
                let (object, role) = (root.table(), "allsource_reader");
                return Err(Error::PermissionDenied { object, role });
            }
        }
        have_no_row_security()
    })
}

/// Refuses to bypass row security, where it applies to the caller; below SQL it would be. Returns whether
/// the tables have none, for anybody and with any settings.
fn have_no_row_security() -> Result<bool, Error> {
    let mut have_none = true;
    for root in [Root::Streams, Root::Log] {
        let oid = root_oid(root)?;
        // SAFETY: a catalog look-up.
        let row_security = unsafe { pg_sys::check_enable_rls(oid, pg_sys::InvalidOid, false) };
        if row_security == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 {
            return Err(Error::RowSecurity { table: root.table() });
        }
        have_none &= row_security == pg_sys::CheckEnableRlsResult::RLS_NONE as i32;
    }
    Ok(have_none)
}

/// Refuses a caller who is not a member of `allsource_writer`, or to whom row security applies.
/// Only the owner has rights to write the tables themselves, so the role is checked instead.
pub fn check_writer() -> Result<(), Error> {
    check_once(Right::Write, || {
        check_member(WRITER, "the event store")?;
        have_no_row_security()
    })
}

/// Refuses a caller who is not a member of `allsource_admin`.
pub fn check_admin(object: &'static str) -> Result<(), Error> {
    check_member(c"allsource_admin", object)
}

/// Refuses a caller who is not a superuser.
pub fn check_superuser(object: &'static str) -> Result<(), Error> {
    // SAFETY: a catalog look-up.
    if unsafe { pg_sys::superuser() } {
        return Ok(());
    }
    Err(Error::SuperuserOnly { object })
}

const WRITER: &CStr = c"allsource_writer";

fn check_member(role: &'static CStr, object: &'static str) -> Result<(), Error> {
    let oid = role_oid(role)?;
    // SAFETY: a catalog look-up.
    if unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), oid) } {
        return Ok(());
    }
    Err(Error::PermissionDenied { object, role: role.to_str().unwrap_or_default() })
}

fn role_oid(role: &CStr) -> Result<pg_sys::Oid, Error> {
    // SAFETY: a catalog look-up.
    let oid = unsafe { pg_sys::get_role_oid(role.as_ptr(), true) };
    if oid == pg_sys::InvalidOid {
        return Err(Error::Missing { object: format!("role {}", role.to_string_lossy()) });
    }
    Ok(oid)
}

/// Runs `f` with the rights of `allsource_writer`.
pub fn as_writer<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let role = role_oid(WRITER)?;
    // SAFETY: a role that is there.
    unsafe { as_user(role, f) }
}

/// Runs `f` with the rights of a role, in a context where security-restricted operations apply:
/// code of others that might run within cannot leave it.
///
/// # Safety
///
/// There must be such a role.
pub unsafe fn as_user<T>(role: pg_sys::Oid, f: impl FnOnce() -> T) -> T {
    // SAFETY: by the caller's promise; an abort of the transaction puts the user back as well.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted =
            (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
        pg_sys::SetUserIdAndSecContext(role, context | restricted);
        let result = f();
        pg_sys::SetUserIdAndSecContext(user, context);
        result
    }
}

/// The owner of a relation that the transaction has locked.
pub fn relation_owner(relation: pg_sys::Oid) -> pg_sys::Oid {
    let lock = pg_sys::NoLock as pg_sys::LOCKMODE;
    // SAFETY: locked, so it is there; opened and closed in pairs.
    unsafe {
        let open = pg_sys::relation_open(relation, lock);
        let owner = (*(*open).rd_rel).relowner;
        pg_sys::relation_close(open, lock);
        owner
    }
}
