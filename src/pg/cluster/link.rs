//! What copies a partition while it is written to: a publication and a slot on the source, a subscription
//! on the target. All have the same name, which tells the partition and the epoch of the move. That of the
//! slot tells the source's database too: slots are those of the whole server, which may have other stores.
//!
//! `hot_batches` is not copied: the source is fenced only when there are none.

use super::copy::statement;
use super::owners::OWNERS;
use super::row::Request;
use crate::cluster::connection::without_addresses;
use crate::cluster::epoch::Epoch;
use crate::cluster::member::{may_publish, may_subscribe};
use crate::drain::failure::Failure;
use crate::model::partition::Partition;
use crate::model::stream_no::stream_no;
use crate::pg::call::datum::text;
use crate::pg::error::Error;
use crate::pg::positions::sequence;
use crate::pg::session::raised::{Caught, catch};
use crate::pg::session::xact::{check_writable, database_oid, set_for_transaction, wait_at_commit};
use crate::pg::settings;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::relation::lock_sequence;
use crate::pg::tables::schema::{Root, Sequence};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::panic::resume_unwind;

/// What is published: emptying the source's copy must not empty the target's.
const PUBLISHED: [Root; 3] = [Root::Streams, Root::Log, Root::Ids];

/// The name of publication and subscription of a move.
pub fn name(partition: Partition, epoch: Epoch) -> String {
    format!("allsource_p{:02}_e{}", partition.number(), epoch.number())
}

/// The name of the slot, on the source.
pub fn slot_name(partition: Partition, epoch: Epoch) -> String {
    format!("{}_d{}", name(partition, epoch), database_oid())
}

const PUBLICATION: &CStr = c"
    SELECT (SELECT pg_catalog.count(*)
              FROM pg_catalog.pg_publication_rel r
             WHERE r.prpubid OPERATOR(pg_catalog.=) p.oid)
      FROM pg_catalog.pg_publication p
     WHERE p.pubname OPERATOR(pg_catalog.=) $1::pg_catalog.name";

const SLOT: &CStr = c"
    SELECT s.active_pid
      FROM pg_catalog.pg_replication_slots s
     WHERE s.slot_name OPERATOR(pg_catalog.=) $1::pg_catalog.name";

const CREATE_SLOT: &CStr =
    c"SELECT pg_catalog.pg_create_logical_replication_slot($1::pg_catalog.name, 'pgoutput')";

const DROP_SLOT: &CStr = c"SELECT pg_catalog.pg_drop_replication_slot($1::pg_catalog.name)";

const SUBSCRIPTION: &CStr = c"
    SELECT 1
      FROM pg_catalog.pg_subscription s
      JOIN pg_catalog.pg_database d
        ON d.oid OPERATOR(pg_catalog.=) s.subdbid
     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
       AND s.subname OPERATOR(pg_catalog.=) $1::pg_catalog.name";

fn run(sql: &CStr) -> Result<(), Error> {
    execute_as_owner(OWNERS, sql, &[], Access::Write, |_| Ok(()))
}

/// Runs a query about the name; the first column of its first row, and whether there is one.
fn ask(sql: &CStr, name: &str) -> Result<Option<Option<i64>>, Error> {
    let mut found = None;
    let parameter = (pg_sys::TEXTOID, Some(text(name.as_bytes())));
    execute_as_owner(OWNERS, sql, &[parameter], Access::Write, |row| {
        found = Some(row.get(1).map(|value| value.value() as i64));
        Ok(())
    })?;
    Ok(found)
}

/// Publishes the partition and makes the slot, in two calls that are transactions of their own. Returns
/// whether it is done.
///
/// A slot gives changes from its beginning on, and the publication must have been there by then. So it is
/// made first, empty; what is published is added behind the slot. A publication that is not empty had a
/// slot, which is not made again if it was lost.
pub fn publish(request: Request) -> Result<bool, Error> {
    check_writable()?;
    let Request { partition, epoch } = request;
    let expected = |row| may_publish(row, epoch);
    expected(request.look()?.row).map_err(|stale| request.stale(stale))?;
    let name = name(partition, epoch);
    match ask(PUBLICATION, &name)?.flatten() {
        None => {
            let create =
                format!("CREATE PUBLICATION {name} WITH (publish = 'insert, update, delete')");
            let create = statement(create)?;
            request.expect(expected, || {
                run(&create)?;
                // The slot, which comes later, waits for those who have reserved numbers before.
                request.note_streams(last_stream_no(partition)?)
            })?;
            Ok(false)
        }
        Some(0) => {
            // In a transaction that has written nothing: before the row is locked.
            let slot = slot_name(partition, epoch);
            if ask(SLOT, &slot)?.is_none() {
                ask(CREATE_SLOT, &slot)?;
            }
            let leaves = PUBLISHED.map(|root| format!("allsource.{}", root.leaf(partition)));
            let add =
                statement(format!("ALTER PUBLICATION {name} ADD TABLE {}", leaves.join(", ")))?;
            let added = request.expect(expected, || run(&add));
            if added.is_err() {
                // Others have gone on meanwhile, and may have looked for a slot already.
                ask(DROP_SLOT, &slot)?;
            }
            added.map(|()| true)
        }
        Some(_) => {
            wait_at_commit();
            Ok(true)
        }
    }
}

/// Subscribes to what the source, at `conninfo`, has published, by the slot that it has made. With
/// `synchronous_commit`, what the source is told to be there survives a failover of the target.
pub fn subscribe(request: Request, conninfo: &[u8], slot: &[u8]) -> Result<(), Error> {
    // An error of this call is not to bring its text, with the connection string, into the log.
    set_for_transaction(c"log_min_error_statement", c"panic");
    let Request { partition, epoch } = request;
    let name = name(partition, epoch);
    let (conninfo, slot) = (quoted(conninfo)?, quoted(slot)?);
    let create = statement(format!(
        "CREATE SUBSCRIPTION {name} CONNECTION {conninfo} PUBLICATION {name} \
         WITH (create_slot = false, slot_name = {slot}, synchronous_commit = 'on')"
    ))?;
    request.expect(
        |row| may_subscribe(row, epoch),
        || {
            if ask(SUBSCRIPTION, &name)?.is_some() {
                return Ok(());
            }
            // Its text would show addresses, and its context the connection string.
            catch(|| run(&create)).unwrap_or_else(|caught| match caught {
                Caught::Panic(payload) => resume_unwind(payload),
                caught => {
                    let failure = caught.failure();
                    let message = without_addresses(&failure.message);
                    Err(Error::Subscription { failure: Failure { message, ..failure } })
                }
            })
        },
    )
}

/// Drops the subscription of a move. The source is not asked, and keeps the slot.
pub fn drop_subscription(partition: Partition, epoch: Epoch) -> Result<(), Error> {
    let name = name(partition, epoch);
    if ask(SUBSCRIPTION, &name)?.is_none() {
        return Ok(());
    }
    for drop in [
        format!("ALTER SUBSCRIPTION {name} DISABLE"),
        format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {name}"),
    ] {
        run(&statement(drop)?)?;
    }
    Ok(())
}

/// Drops publication and slot of a move. A slot that is in use is given up first, and dropped by the next
/// call.
pub fn drop_publication(partition: Partition, epoch: Epoch) -> Result<(), Error> {
    let name = name(partition, epoch);
    if ask(PUBLICATION, &name)?.is_some() {
        run(&statement(format!("DROP PUBLICATION {name}"))?)?;
    }
    let slot = slot_name(partition, epoch);
    match ask(SLOT, &slot)? {
        None => return Ok(()),
        Some(None) => {}
        Some(Some(pid)) => {
            run(&statement(format!("SELECT pg_catalog.pg_terminate_backend({pid}, 5000)"))?)?;
        }
    }
    ask(DROP_SLOT, &slot)?;
    Ok(())
}

/// The number of the stream that was created last, or is about to be: no stream of the partition has a
/// higher one of this server's, and no later one gets a lower one.
#[expect(unsafe_code, reason = "reads a sequence")]
fn last_stream_no(partition: Partition) -> Result<i64, Error> {
    let sequence = lock_sequence(Sequence::StreamNo, pg_sys::AccessShareLock as pg_sys::LOCKMODE)?;
    // SAFETY: locked.
    let counter = unsafe { sequence::read(sequence) }.value;
    stream_no(partition, settings::node_id(), counter as i64).ok_or(Error::StreamNumbers)
}

#[expect(unsafe_code, reason = "calls PostgreSQL's quoting")]
fn quoted(value: &[u8]) -> Result<String, Error> {
    let value = CString::new(value).map_err(|_| Error::Internal {
        what: "name or connection string has a zero byte".into(),
    })?;
    // SAFETY: a text with a zero at its end, both times.
    let quoted = unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(value.as_ptr())) };
    Ok(quoted.to_string_lossy().into_owned())
}
