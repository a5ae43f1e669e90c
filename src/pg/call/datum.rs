//! Values of PostgreSQL's variable-length types as byte slices, and back.
#![expect(unsafe_code, reason = "follows PostgreSQL's pointers")]

use crate::pg::error::Error;
use pgrx::pg_sys;
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_any, varsize_any_exhdr};
use std::ffi::CString;

/// The bytes of a value without its length word; unpacked into the current memory context where it
/// is compressed or stored elsewhere.
///
/// # Safety
///
/// `datum` must be a valid, non-null value of a variable-length type. The slice must not be used
/// after what it points to is gone: the tuple or the memory context.
pub unsafe fn body<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut value = datum.cast_mut_ptr::<pg_sys::varlena>();
        let plain = varatt_is_4b_u(value) || (varatt_is_1b(value) && !varatt_is_1b_e(value));
        if !plain {
            value = pg_sys::pg_detoast_datum_packed(value);
        }
        std::slice::from_raw_parts(vardata_any(value).cast(), varsize_any_exhdr(value))
    }
}

/// Like [`body`], but with a full length word before the first byte, on a boundary of 4 bytes, so
/// that elements within can be passed on as values.
///
/// # Safety
///
/// As for [`body`].
pub unsafe fn aligned_body<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut value = datum.cast_mut_ptr::<pg_sys::varlena>();
        if !varatt_is_4b_u(value) {
            value = pg_sys::pg_detoast_datum(value);
        }
        std::slice::from_raw_parts(vardata_any(value).cast(), varsize_any_exhdr(value))
    }
}

/// A value of type text, in the current memory context.
pub fn text(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: copies `bytes`; lengths above what a value can hold raise an error in PostgreSQL.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            bytes.as_ptr().cast(),
            bytes.len() as i32,
        ))
    }
}

/// A value of type jsonb from its text.
pub fn jsonb(json: &str) -> Result<pg_sys::Datum, Error> {
    let broken = || Error::Internal { what: "text is not JSON".into() };
    let text = CString::new(json).map_err(|_| broken())?;
    // SAFETY: calls jsonb_in(cstring) with what it declares.
    let value = unsafe {
        pgrx::direct_function_call_as_datum(
            pg_sys::jsonb_in,
            &[Some(pg_sys::Datum::from(text.as_ptr()))],
        )
    };
    value.ok_or_else(broken)
}

/// The number of characters in the database's encoding.
pub fn count_chars(bytes: &[u8]) -> usize {
    // SAFETY: reads within the given length.
    let chars = unsafe { pg_sys::pg_mbstrlen_with_len(bytes.as_ptr().cast(), bytes.len() as i32) };
    chars as usize
}

/// A name for a message.
pub fn display(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
