//! Errors of PostgreSQL on their way through Rust.
//!
//! pgrx makes a panic of an error, so that Rust's destructors run, and keeps its SQLSTATE, message,
//! DETAIL and HINT. What else belongs to it, the CONTEXT and the names of table, column, type and
//! constraint, is copied here, by an error context callback: PostgreSQL calls it when the error is
//! complete except for the context of outer callers. The code that catches the panic throws the copy.
#![expect(unsafe_code, reason = "copies PostgreSQL's error data")]

use crate::drain::failure::Failure;
use crate::model::memory::OutOfMemory;
use crate::pg::error::{Error, Report, sqlstate};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, pg_sys};
use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

unsafe extern "C-unwind" {
    // PostgreSQL's own functions and not guarded calls of them: the first is called while an error
    // is being made, the second must not come back as a panic.
    fn CopyErrorData() -> *mut pg_sys::ErrorData;
    fn ThrowErrorData(error: *mut pg_sys::ErrorData);
}

/// Memory that a process keeps, untouched, to report that it has none: pgrx copies an error into the
/// context that was current, which may be one that takes a megabyte or nothing.
const SPARE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of a message that are kept of an error that goes into a table.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    /// The last error that was raised, in `MEMORY`.
    static COPY: Cell<*mut pg_sys::ErrorData> = const { Cell::new(null_mut()) };
    static MEMORY: Cell<pg_sys::MemoryContext> = const { Cell::new(null_mut()) };
    static SPARE: Cell<*mut c_void> = const { Cell::new(null_mut()) };
}

/// An error with all that PostgreSQL knows of it. Valid until the next one is raised.
#[derive(Clone, Copy)]
pub struct Raised(*mut pg_sys::ErrorData);

/// What has ended a call.
pub enum Caught {
    /// An error of PostgreSQL.
    Raised(Raised),
    /// A panic of Rust, which only a defect explains.
    Panic(Box<dyn Any + Send>),
}

/// Runs `f` and catches what it raises. Then the transaction must be aborted, by throwing the error again
/// or by the code that began it.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Caught> {
    if let Err(refused) = prepare() {
        let report = Error::from(refused).report("");
        return Err(Caught::Raised(Raised::of_report(&report)));
    }
    // SAFETY: the callback is in the list as long as `f` runs; an error in between restores the list
    // to what it was when `f` called PostgreSQL.
    let result = unsafe {
        let mut callback = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(copy_error),
            arg: null_mut(),
        };
        pg_sys::error_context_stack = &raw mut callback;
        let result = catch_unwind(AssertUnwindSafe(f));
        pg_sys::error_context_stack = callback.previous;
        result
    };
    result.map_err(|payload| {
        give_up_spare();
        let report = match payload.downcast::<CaughtError>() {
            Ok(caught) => match *caught {
                CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
                CaughtError::RustPanic { payload, .. } => return Caught::Panic(payload),
            },
            Err(payload) => match payload.downcast::<ErrorReportWithLevel>() {
                Ok(report) => *report,
                Err(payload) => return Caught::Panic(payload),
            },
        };
        Caught::Raised(Raised::of_panic(&report))
    })
}

/// Gets ready to copy an error: memory that is asked for now need not be asked for then.
fn prepare() -> Result<(), OutOfMemory> {
    if MEMORY.get().is_null() {
        // SAFETY: made once; it begins with a block that is never given back.
        MEMORY.set(unsafe {
            pg_sys::AllocSetContextCreateExtended(
                pg_sys::TopMemoryContext,
                c"allsource errors".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        });
    }
    if SPARE.get().is_null() {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own, wherever there is room.
        let spare = unsafe { libc::mmap(null_mut(), SPARE_BYTES, protection, flags, -1, 0) };
        if spare == libc::MAP_FAILED {
            return Err(OutOfMemory { size_bytes: SPARE_BYTES });
        }
        SPARE.set(spare);
    }
    Ok(())
}

/// Called when memory has run out, or may have: what reports it takes some itself.
pub fn give_up_spare() {
    let spare = SPARE.replace(null_mut());
    if !spare.is_null() {
        // SAFETY: mapped in `prepare`, and used by nobody.
        unsafe { libc::munmap(spare, SPARE_BYTES) };
    }
}

/// An error context callback.
unsafe extern "C-unwind" fn copy_error(_argument: *mut c_void) {
    // SAFETY: called for the error on top of PostgreSQL's stack, with its own memory as the current
    // one, which the copy must not be in.
    unsafe {
        pg_sys::MemoryContextReset(MEMORY.get());
        COPY.set(null_mut());
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = MEMORY.get();
        COPY.set(CopyErrorData());
        pg_sys::CurrentMemoryContext = before;
        // A notice ends nothing.
        if (*COPY.get()).elevel >= PgLogLevel::ERROR as i32 {
            give_up_spare();
        }
    }
}

impl Caught {
    /// What a worker remembers of it.
    pub fn failure(self) -> Failure {
        match self {
            Self::Raised(raised) => raised.failure(),
            Self::Panic(payload) => {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text.or(payload.downcast_ref::<&str>().copied());
                let message = shortened(text.unwrap_or("panic")).to_owned();
                Failure { sqlstate: *b"XX000", message }
            }
        }
    }
}

impl Raised {
    /// The copy of the error that has become a panic; what the panic knows of it, where that is
    /// another one.
    fn of_panic(panic: &ErrorReportWithLevel) -> Self {
        let copy = Self(COPY.replace(null_mut()));
        if !copy.0.is_null()
            && copy.code() == panic.sql_error_code()
            && copy.message() == panic.message()
        {
            return copy;
        }
        Self::of_report(&Report {
            code: panic.sql_error_code(),
            message: panic.message().to_owned(),
            detail: panic.detail().map(str::to_owned),
            hint: panic.hint().map(|hint| Cow::Owned(hint.to_owned())),
        })
    }

    /// An error of ours.
    pub fn of_report(report: &Report) -> Self {
        // SAFETY: zeroed error data is empty; its texts are in the same memory.
        unsafe {
            pg_sys::MemoryContextReset(MEMORY.get());
            let size = size_of::<pg_sys::ErrorData>();
            let data = pg_sys::MemoryContextAllocZero(MEMORY.get(), size);
            let data = data.cast::<pg_sys::ErrorData>();
            (*data).elevel = PgLogLevel::ERROR as i32;
            (*data).sqlerrcode = report.code as i32;
            (*data).message = copied(&report.message);
            (*data).detail = report.detail.as_deref().map_or(null_mut(), |text| copied(text));
            (*data).hint = report.hint.as_deref().map_or(null_mut(), |text| copied(text));
            Self(data)
        }
    }

    /// Throws the error in PostgreSQL, which adds the context of those outside.
    ///
    /// # Safety
    ///
    /// There must be nothing to be dropped up to the entry from PostgreSQL.
    pub unsafe fn throw(self) -> ! {
        // SAFETY: complete error data; PostgreSQL copies it.
        unsafe { ThrowErrorData(self.0) };
        unreachable!("an error does not return")
    }

    /// Raises the error once more from where it was caught, for code further out.
    pub fn raise_again(self) -> ! {
        let (code, message) = (self.code(), self.message().into_owned());
        ErrorReport::new(code, message, "allsource").report(PgLogLevel::ERROR);
        unreachable!("an error report at level ERROR does not return")
    }

    /// Its SQLSTATE.
    pub fn code(self) -> PgSqlErrorCode {
        // SAFETY: see the type.
        PgSqlErrorCode::from(unsafe { (*self.0).sqlerrcode } as isize)
    }

    /// Its message.
    pub fn message(&self) -> Cow<'_, str> {
        // SAFETY: see the type.
        text(unsafe { (*self.0).message }).unwrap_or_default()
    }

    /// Message, DETAIL and CONTEXT in one text.
    fn failure(self) -> Failure {
        // SAFETY: see the type.
        let (code, detail, context) =
            unsafe { ((*self.0).sqlerrcode, text((*self.0).detail), text((*self.0).context)) };
        let mut message = shortened(&self.message()).to_owned();
        for (before, text, after) in [(": ", detail, ""), (" (", context, ")")] {
            if let Some(text) = text {
                message.extend([before, shortened(&text), after]);
            }
        }
        // As PostgreSQL's unpack_sql_state does it.
        Failure { sqlstate: sqlstate(code), message }
    }
}

fn text<'a>(text: *const c_char) -> Option<Cow<'a, str>> {
    // SAFETY: a text of error data, which ends with a zero, or null.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy())
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

unsafe fn copied(text: &str) -> *mut c_char {
    // SAFETY: there is room for the text and the zero after it.
    unsafe {
        let copy = pg_sys::MemoryContextAllocZero(MEMORY.get(), text.len() + 1).cast::<u8>();
        std::ptr::copy_nonoverlapping(text.as_ptr(), copy, text.len());
        copy.cast()
    }
}
