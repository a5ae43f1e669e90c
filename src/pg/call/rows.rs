//! The rows that a set-returning function hands back, collected in a tuple store.
#![expect(unsafe_code, reason = "fills PostgreSQL's tuple store")]

use crate::pg::call::Call;
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::time::Duration;

/// A result that is being collected.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
}

impl Rows {
    /// Begins the result of `call`. Raises an error where no rows can be taken.
    pub fn begin(call: &Call) -> Self {
        let fcinfo = call.fcinfo();
        // SAFETY: `fcinfo` is the function manager's; PostgreSQL checks what the caller expects, and
        // makes the tuple store and its descriptor where the executor looks for them.
        unsafe {
            pg_sys::InitMaterializedSRF(fcinfo, 0);
            let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            Self { store: (*info).setResult, descriptor: (*info).setDesc }
        }
    }

    /// Adds a row; a `None` is NULL. The values are copied.
    pub fn put<const N: usize>(&mut self, row: [Option<pg_sys::Datum>; N]) -> Result<(), Error> {
        let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::from(0)));
        let mut nulls = row.map(|value| value.is_none());
        // SAFETY: the descriptor is the one that the store was begun for, and has N columns.
        unsafe {
            if (*self.descriptor).natts as usize != N {
                return Err(Error::Internal { what: "the result has other columns".into() });
            }
            pg_sys::tuplestore_putvalues(
                self.store,
                self.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        Ok(())
    }

    /// Adds a tuple as it is.
    ///
    /// # Safety
    ///
    /// `tuple` must be valid and have the columns of the result.
    pub unsafe fn put_tuple(&mut self, tuple: pg_sys::HeapTuple) {
        // SAFETY: by the caller's promise.
        unsafe { pg_sys::tuplestore_puttuple(self.store, tuple) }
    }
}

/// A bigint value.
pub fn int8(value: i64) -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(value))
}

/// An integer value.
pub fn int4(value: i32) -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(value))
}

/// An interval value.
pub fn interval(duration: Duration) -> Option<pg_sys::Datum> {
    // SAFETY: made in the current memory context.
    unsafe {
        let value = pg_sys::palloc0(size_of::<pg_sys::Interval>()).cast::<pg_sys::Interval>();
        (*value).time = duration.as_micros() as i64;
        Some(pg_sys::Datum::from(value))
    }
}

/// A double precision value.
pub fn float8(value: f64) -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(value.to_bits()))
}

/// A boolean value.
pub fn bool(value: bool) -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(value))
}
