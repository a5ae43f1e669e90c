//! The safe position as a table has it, for standbys: there is no registry there.
//!
//! The first worker records the safe position about once a second. Every transaction that has taken
//! a position at or below it had committed, or rolled back, before it was found; so its commit comes
//! before the record's own in the log, and whoever sees the record sees all those events.
use super::error::Error;
use super::position::Positions;
use super::query::{Access, execute, execute_as_owner};
use super::relation::{Sequence, sequence_oid};
use super::rows::int8;
use pgrx::pg_sys;

/// Records the safe position where it is above `recorded`, which is what was recorded last. Does
/// nothing in a database without the extension. What goes wrong is raised.
pub fn record(recorded: &mut u64) {
    if let Err(error) = try_record(recorded) {
        error.raise();
    }
}

fn try_record(recorded: &mut u64) -> Result<(), Error> {
    if sequence_oid(Sequence::Position).is_err() {
        *recorded = 0;
        return Ok(());
    }
    let safe = Positions::open_locked("allsource worker")?.safe();
    if safe == *recorded {
        return Ok(());
    }
    execute_as_owner("safe_position", RECORD, &[(pg_sys::INT8OID, int8(safe as i64))], |_| Ok(()))?;
    *recorded = safe;
    Ok(())
}

const RECORD: &std::ffi::CStr = c"
    UPDATE allsource.safe_position
       SET \"position\" = $1, recorded_at = pg_catalog.clock_timestamp()
     WHERE \"position\" OPERATOR(pg_catalog.<) $1";

/// The safe position that the statement's snapshot has recorded.
pub fn recorded() -> Result<i64, Error> {
    let mut position = 0;
    execute(c"SELECT s.\"position\" FROM allsource.safe_position s", &[], Access::Read, |row| {
        position = row.get(1).map_or(0, |value| value.value() as i64);
        Ok(())
    })?;
    Ok(position)
}
