//! The safe position as a table has it, for standbys: there is no registry there.
//!
//! The first worker records the safe position about once a second. Every transaction that has taken
//! a position at or below it had committed, or rolled back, before it was found; so its commit comes
//! before the record's own in the WAL, and a snapshot that shows the record shows all those events.

use crate::pg::call::rows::int8;
use crate::pg::error::Error;
use crate::pg::positions::counter::observe;
use crate::pg::tables::query::{Access, execute, execute_as_owner};
use crate::pg::tables::relation::lock_sequence;
use crate::pg::tables::schema::Sequence;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// The sequence of the store in which this process has recorded last.
    static RECORDED_IN: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Records the safe position where it is above `recorded`, which is what was recorded last. Does
/// nothing in a database without the extension. Errors are raised.
pub fn record(recorded: &mut Option<u64>) {
    if let Err(error) = try_record(recorded) {
        error.raise("allsource worker");
    }
}

fn try_record(recorded: &mut Option<u64>) -> Result<(), Error> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let Ok(sequence) = lock_sequence(Sequence::Position, lock) else {
        *recorded = None;
        return Ok(());
    };
    // Another incarnation has recorded nothing, even if its safe position is the same.
    if RECORDED_IN.replace(sequence) != sequence {
        *recorded = None;
    }
    let safe = observe()?.safe;
    if *recorded == Some(safe) {
        return Ok(());
    }
    execute_as_owner(
        "safe_position",
        RECORD,
        &[(pg_sys::INT8OID, int8(safe as i64))],
        Access::Write,
        |_| Ok(()),
    )?;
    *recorded = Some(safe);
    Ok(())
}

const RECORD: &std::ffi::CStr = c"
    UPDATE allsource.safe_position
       SET \"position\" = $1, recorded_at = pg_catalog.clock_timestamp()
     WHERE \"position\" OPERATOR(pg_catalog.<) $1 OR recorded_at IS NULL";

/// The safe position that the statement's snapshot shows as recorded; `None` if none ever was.
pub fn recorded() -> Result<Option<i64>, Error> {
    let mut position = None;
    execute(RECORDED, &[], Access::Read, |row| {
        position = row.get(1).map(|value| value.value() as i64);
        Ok(())
    })?;
    Ok(position)
}

const RECORDED: &std::ffi::CStr =
    c"SELECT s.\"position\" FROM allsource.safe_position s WHERE s.recorded_at IS NOT NULL";
