//! What stands between PostgreSQL and the body of a SQL function: the macro that makes a function known
//! to PostgreSQL, errors, and measurements.
#![expect(unsafe_code, reason = "called by PostgreSQL, and throws its errors")]

use crate::metrics::kind::{ErrorKind, Function};
use crate::pg::call::Call;
use crate::pg::error::{Error, kind_of};
use crate::pg::session::raised::{Caught, Raised, catch, give_up_spare};
use crate::pg::shared::counting;
use pgrx::pg_sys;
use std::panic::resume_unwind;

/// Defines a SQL function of version-1 calling convention: its symbol, and the symbol that describes
/// it. The body has type `Result<Option<Datum>, Error>`; `None` is NULL. With `#[measured(…)]`, its
/// calls are counted and timed as those of that [`Function`](crate::metrics::kind::Function).
#[macro_export]
macro_rules! sql_function {
    (
        $(#[doc = $doc:expr])*
        #[measured($function:ident)]
        fn $name:ident, $info:ident($call:ident) $body:block
    ) => {
        $crate::sql_function! {
            @as Some($crate::metrics::kind::Function::$function);
            $(#[doc = $doc])*
            fn $name, $info($call) $body
        }
    };
    ($(#[doc = $doc:expr])* fn $name:ident, $info:ident($call:ident) $body:block) => {
        $crate::sql_function! { @as None; $(#[doc = $doc])* fn $name, $info($call) $body }
    };
    (
        @as $counted:expr;
        $(#[$doc:meta])*
        fn $name:ident, $info:ident($call:ident) $body:block
    ) => {
        #[doc = concat!("Describes `", stringify!($name), "` to PostgreSQL.")]
        #[expect(unsafe_code, reason = "a symbol that PostgreSQL looks up")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const INFO: pgrx::pg_sys::Pg_finfo_record =
                pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &INFO
        }

        $(#[$doc])*
        #[doc = ""]
        #[doc = "# Safety"]
        #[doc = ""]
        #[doc = "Called by PostgreSQL's function manager, with the arguments that the SQL declares."]
        #[expect(unsafe_code, reason = "a symbol that PostgreSQL calls")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            let body = |$call: &$crate::pg::call::Call| -> Result<
                Option<pgrx::pg_sys::Datum>,
                $crate::pg::error::Error,
            > { $body };
            // SAFETY: the function manager passes a valid call.
            unsafe { $crate::pg::call::guard::run(fcinfo, stringify!($name), $counted, body) }
        }
    };
}

/// How a call has ended. Nothing in it is to be dropped.
#[derive(Clone, Copy)]
enum Outcome {
    Returned(pg_sys::Datum),
    Raised(Raised),
}

/// Runs the body of the SQL function `name`, and counts the call where it is one that is `counted`.
/// An error of ours is raised with the function's name, one of PostgreSQL as it is.
///
/// # Safety
///
/// `fcinfo` must be the function manager's, which must be the caller of the caller.
pub unsafe fn run(
    fcinfo: pg_sys::FunctionCallInfo,
    name: &'static str,
    counted: Option<Function>,
    body: impl FnOnce(&Call) -> Result<Option<pg_sys::Datum>, Error>,
) -> pg_sys::Datum {
    // SAFETY: by the caller's promise. What panics is left to pgrx.
    let outcome = unsafe {
        pg_sys::panic::pgrx_extern_c_guard(|| attempt(&Call::new(fcinfo), name, counted, body))
    };
    match outcome {
        Outcome::Returned(datum) => datum,
        // SAFETY: everything was dropped with `attempt`.
        Outcome::Raised(raised) => unsafe { raised.throw() },
    }
}

fn attempt(
    call: &Call,
    name: &'static str,
    counted: Option<Function>,
    body: impl FnOnce(&Call) -> Result<Option<pg_sys::Datum>, Error>,
) -> Outcome {
    let measured = counted.and_then(counting::begin);
    let finished = |failed: Option<ErrorKind>| {
        if let Some(measured) = &measured {
            measured.end(failed);
        }
    };
    match catch(|| body(call)) {
        Ok(Ok(result)) => {
            finished(None);
            Outcome::Returned(result.unwrap_or_else(|| call.null()))
        }
        Ok(Err(error)) => {
            give_up_spare();
            finished(Some(error.class().1));
            Outcome::Raised(Raised::of_report(&error.report(name)))
        }
        Err(Caught::Raised(raised)) => {
            finished(Some(kind_of(raised.code())));
            Outcome::Raised(raised)
        }
        Err(Caught::Panic(payload)) => {
            finished(Some(ErrorKind::Internal));
            resume_unwind(payload)
        }
    }
}
