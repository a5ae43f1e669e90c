//! Queries through SQL, for functions where speed does not matter.
#![expect(unsafe_code, reason = "drives PostgreSQL's SPI")]

use crate::pg::call::Call;
use crate::pg::call::rows::Rows;
use crate::pg::error::Error;
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::rights::{as_user, relation_owner};
use pgrx::pg_sys;
use std::ffi::{CStr, c_int};

/// A parameter: its type and its value, `None` for NULL.
pub type Parameter = (pg_sys::Oid, Option<pg_sys::Datum>);

/// Whether a statement may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads, as the statement that called the function has its snapshot.
    Read,
    /// It may write, and sees what is committed when it begins.
    Write,
}

/// A row of a result.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column, from 1; `None` for NULL. It lives as long as the result.
    pub fn get(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut null = false;
        // SAFETY: tuple and descriptor belong together.
        let value =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut null) };
        (!null).then_some(value)
    }
}

/// Runs one statement and gives each row of its result to `use_row`. Names in it must be qualified,
/// or the function that calls it have a fixed `search_path`.
pub fn execute(
    sql: &CStr,
    parameters: &[Parameter],
    access: Access,
    mut use_row: impl FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut types: Vec<_> = parameters.iter().map(|(oid, _)| *oid).collect();
    let mut values: Vec<_> =
        parameters.iter().map(|(_, value)| value.unwrap_or(pg_sys::Datum::from(0))).collect();
    let nulls: Vec<_> =
        parameters.iter().map(|(_, value)| if value.is_none() { b'n' } else { b' ' }).collect();
    // SAFETY: connected and finished in pairs; the tuples live until `SPI_finish`.
    unsafe {
        pg_sys::SPI_connect();
        let result = pg_sys::SPI_execute_with_args(
            sql.as_ptr(),
            parameters.len() as c_int,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr().cast(),
            access == Access::Read,
            0,
        );
        if result < 0 {
            return Err(Error::Internal { what: format!("query failed with code {result}") });
        }
        let table = pg_sys::SPI_tuptable;
        if !table.is_null() {
            for index in 0..(*table).numvals as usize {
                use_row(Row { tuple: *(*table).vals.add(index), descriptor: (*table).tupdesc })?;
            }
        }
        pg_sys::SPI_finish();
    }
    Ok(())
}

/// Runs a query with the caller's rights into the result of `call`. The columns must be those of the
/// result.
pub fn query_into(call: &Call, sql: &CStr, parameters: &[Parameter]) -> Result<(), Error> {
    query_into_rows(&mut Rows::begin(call), sql, parameters)
}

/// The same, into a result that was begun.
pub fn query_into_rows(rows: &mut Rows, sql: &CStr, parameters: &[Parameter]) -> Result<(), Error> {
    execute(sql, parameters, Access::Read, |row| {
        // SAFETY: the caller says that the columns are those of the result.
        unsafe { rows.put_tuple(row.tuple) };
        Ok(())
    })
}

/// Runs a statement as the owner of `table`, a table of the extension.
pub fn execute_as_owner(
    table: &str,
    sql: &CStr,
    parameters: &[Parameter],
    access: Access,
    use_row: impl FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let lock = match access {
        Access::Read => pg_sys::AccessShareLock,
        Access::Write => pg_sys::RowExclusiveLock,
    };
    let owner = relation_owner(lock_by_name(table, lock as pg_sys::LOCKMODE)?);
    // SAFETY: an owner is a role that is there.
    unsafe { as_user(owner, || execute(sql, parameters, access, use_row)) }
}
