//! The caller's rights. The functions reach the tables below SQL, where nobody else checks them.
#![expect(unsafe_code, reason = "asks PostgreSQL about rights")]

use super::error::Error;
use super::relation::{Root, root_oid};
use pgrx::pg_sys;

/// Refuses a caller who may not read the tables, or to whom row security applies.
pub fn check_reader() -> Result<(), Error> {
    for root in [Root::Streams, Root::Log] {
        let oid = root_oid(root)?;
        // SAFETY: a catalog look-up.
        let granted =
            unsafe { pg_sys::pg_class_aclcheck(oid, pg_sys::GetUserId(), pg_sys::ACL_SELECT) };
        if granted != pg_sys::AclResult::ACLCHECK_OK {
            return Err(Error::PermissionDenied { object: root.table(), role: "allsource_reader" });
        }
        check_row_security(root)?;
    }
    Ok(())
}

/// Refuses a caller to whom row security on the table applies: below SQL it would be bypassed.
fn check_row_security(root: Root) -> Result<(), Error> {
    let oid = root_oid(root)?;
    // SAFETY: a catalog look-up.
    let row_security = unsafe { pg_sys::check_enable_rls(oid, pg_sys::InvalidOid, false) };
    if row_security == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 {
        return Err(Error::RowSecurity { table: root.table() });
    }
    Ok(())
}

/// Refuses a caller who is not a member of `allsource_writer`, or to whom row security applies.
/// Nobody but the owner has rights to write the tables themselves, so the role is what there is to
/// check.
pub fn check_writer() -> Result<(), Error> {
    // SAFETY: catalog look-ups.
    let (role, allowed) = unsafe {
        let role = pg_sys::get_role_oid(c"allsource_writer".as_ptr(), true);
        (role, pg_sys::has_privs_of_role(pg_sys::GetUserId(), role))
    };
    if role == pg_sys::InvalidOid {
        return Err(Error::Missing { object: "role allsource_writer".into() });
    }
    if !allowed {
        return Err(Error::PermissionDenied {
            object: "the event store",
            role: "allsource_writer",
        });
    }
    check_row_security(Root::Streams)?;
    check_row_security(Root::Log)
}
