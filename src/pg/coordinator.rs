//! The coordinator's process: it carries on moves of partitions that nobody carries on any more, because the session
//! that did was ended, or the server failed over. It is there where `allsource.coordinator_database` is set.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use crate::drain::failure::Failure;
use crate::pg::call::datum::{self, text};
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::Error;
use crate::pg::settings;
use crate::pg::settings::preloading;
use crate::pg::tables::query::{Access, execute};
use crate::pg::worker::background::{
    Definition, Termination, in_transaction, set_setting, set_up_signals, sleep,
};
use crate::pg::worker::process::end_if_database_is_wanted;
use crate::pg::worker::state::one_line;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::time::Duration;

/// The process's name in messages.
const ITSELF: &str = "allsource coordinator";

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// Settings of its session. Who carries a move on waits as long as it takes.
const SETTINGS: [(&CStr, &CStr); 8] = [
    (c"session_replication_role", c"origin"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"10s"),
    (c"idle_in_transaction_session_timeout", c"0"),
];

const IS_THERE: &CStr =
    c"SELECT 1 WHERE pg_catalog.to_regprocedure('allsource.move_abandoned()') IS NOT NULL";

const ABANDONED: &CStr =
    c"SELECT a.partition_id, a.epoch, a.started_by FROM allsource.move_abandoned() AS a";

// In a process without a client it has no value to go back to at the end of a transaction, and so stays what it was.
const BE_MYSELF: &CStr = c"
    SELECT pg_catalog.set_config('session_authorization', r.rolname::pg_catalog.text, true)
      FROM pg_catalog.pg_roles r
     WHERE r.oid OPERATOR(pg_catalog.=) 10";

const BECOME: &CStr = c"SELECT pg_catalog.set_config('session_authorization', $1, true)";

const LOOK_AT: &CStr = c"SELECT allsource.move_look($1, $2, $3::pg_catalog.jsonb)::pg_catalog.text";

const STEP: &CStr = c"SELECT allsource.move_step($1, $2, $3::pg_catalog.jsonb)::pg_catalog.text";

const NOTE: &CStr = c"
    SELECT allsource.move_look($1, $2, pg_catalog.jsonb_build_object('problem', $3))::pg_catalog.text";

/// Registers the process where the library is loaded at server start.
pub fn init() {
    // While pg_upgrade runs, only pg_upgrade may write.
    // SAFETY: a plain variable of the postmaster.
    let upgrading = unsafe { pg_sys::IsBinaryUpgrade };
    if !preloading() || upgrading || settings::coordinator_database().is_none() {
        return;
    }
    let definition = Definition {
        name: ITSELF,
        function: "allsource_coordinator_main",
        argument: 0,
        restart_s: Some(5),
        notify_pid: 0,
    };
    // SAFETY: called while the postmaster loads libraries.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut definition.to_pg()) }
}

/// The process's function.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn allsource_coordinator_main(_argument: pg_sys::Datum) {
    set_up_signals(Termination::AtOnce);
    let Some(database) = settings::coordinator_database() else { return };
    // SAFETY: connects as the bootstrap superuser; moves are carried on as those who have begun them.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(database.as_ptr(), std::ptr::null(), 0);
    }
    for (name, value) in SETTINGS {
        set_setting(name, value);
    }
    let mut last_message = String::new();
    loop {
        end_if_database_is_wanted();
        if let Err(failure) = look() {
            let message = one_line(&failure);
            if message != last_message {
                pgrx::warning!("{ITSELF}: {message}");
                last_message = message;
            }
        }
        sleep(LOOK);
    }
}

/// A move, and who has begun it.
struct Abandoned {
    partition_id: i32,
    epoch: i64,
    started_by: Vec<u8>,
}

/// Carries on with the moves that stand. What stops one of them, a role that is gone, say, stops no other.
fn look() -> Result<(), Failure> {
    let mut result = Ok(());
    for abandoned in run(find)? {
        if let Err(failure) = abandoned.carry_on() {
            run(|| abandoned.note(&one_line(&failure)))?;
            result = Err(failure);
        }
    }
    result
}

fn be_myself() -> Result<(), Error> {
    execute(BE_MYSELF, &[], Access::Read, |_| Ok(()))
}

fn run<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    in_transaction(|| f().unwrap_or_else(|error| error.raise(ITSELF)))
}

fn find() -> Result<Vec<Abandoned>, Error> {
    be_myself()?;
    let mut is_there = false;
    execute(IS_THERE, &[], Access::Read, |_| {
        is_there = true;
        Ok(())
    })?;
    let mut found = Vec::new();
    if is_there {
        execute(ABANDONED, &[], Access::Write, |row| {
            let number = |column| row.get(column).map_or(0, |value| value.value() as i64);
            found.push(Abandoned {
                partition_id: number(1) as i32,
                epoch: number(2),
                started_by: bytes(row.get(3)).unwrap_or_default(),
            });
            Ok(())
        })?;
    }
    Ok(found)
}

impl Abandoned {
    /// Goes on until the move has ended.
    fn carry_on(&self) -> Result<(), Failure> {
        let mut memory = b"{}".to_vec();
        loop {
            end_if_database_is_wanted();
            for sql in [LOOK_AT, STEP] {
                let Some(seen) = run(|| self.ask(sql, &memory))? else { return Ok(()) };
                memory = seen;
            }
        }
    }

    /// Calls a function about the move as the one who has begun it, and returns its result.
    fn ask(&self, sql: &CStr, memory: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let user = (pg_sys::TEXTOID, Some(text(&self.started_by)));
        execute(BECOME, &[user], Access::Read, |_| Ok(()))?;
        self.call(sql, memory)
    }

    /// Lets everybody see what is in the way, and tries again later.
    fn note(&self, problem: &str) -> Result<(), Error> {
        be_myself()?;
        self.call(NOTE, problem.as_bytes()).map(drop)
    }

    fn call(&self, sql: &CStr, about: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let parameters = [
            (pg_sys::INT4OID, int4(self.partition_id)),
            (pg_sys::INT8OID, int8(self.epoch)),
            (pg_sys::TEXTOID, Some(text(about))),
        ];
        let mut answer = None;
        execute(sql, &parameters, Access::Write, |row| {
            answer = bytes(row.get(1));
            Ok(())
        })?;
        Ok(answer)
    }
}

/// A text of a row.
fn bytes(value: Option<pg_sys::Datum>) -> Option<Vec<u8>> {
    // SAFETY: a text, copied while the row is there.
    value.map(|value| unsafe { datum::body(value) }.to_vec())
}
