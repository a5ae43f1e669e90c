//! Queries through SQL, for functions where speed does not matter.
#![expect(unsafe_code, reason = "drives PostgreSQL's SPI")]

use super::call::Call;
use super::error::Error;
use super::rows::Rows;
use pgrx::pg_sys;
use std::ffi::{CStr, c_int};

/// A parameter: its type and its value, `None` for NULL.
pub type Parameter = (pg_sys::Oid, Option<pg_sys::Datum>);

/// Runs `sql`, as the statement's snapshot has it and with the caller's rights, into the result of
/// `call`. The columns must be those of the result. Functions that call it must have a fixed
/// `search_path`.
pub fn query_into(call: &Call, sql: &CStr, parameters: &[Parameter]) -> Result<(), Error> {
    let mut rows = Rows::begin(call)?;
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
            true,
            0,
        );
        if result != pg_sys::SPI_OK_SELECT as c_int {
            return Err(Error::Internal { what: format!("query failed with code {result}") });
        }
        let table = pg_sys::SPI_tuptable;
        for index in 0..pg_sys::SPI_processed as usize {
            rows.put_tuple(*(*table).vals.add(index));
        }
        pg_sys::SPI_finish();
    }
    Ok(())
}
