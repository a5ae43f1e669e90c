//! What a member tells the coordinator about a partition and a move.

use super::copy::{is_empty, last_position};
use super::link::{name, slot_name};
use super::row::Request;
use crate::model::partition::Partition;
use crate::pg::call::Call;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{Rows, bool, int4, int8};
use crate::pg::error::Error;
use crate::pg::hot::map;
use crate::pg::positions::counter::observe;
use crate::pg::queue::Queues;
use crate::pg::session::xact::{accept_invalidations, check_writable, wait_at_commit};
use crate::pg::settings;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::waiting_events::has_waiting_events;
use pgrx::pg_sys;
use std::ffi::CStr;

const LINKS: &CStr = c"
    SELECT EXISTS (SELECT FROM pg_catalog.pg_publication p
                     JOIN pg_catalog.pg_publication_rel r
                       ON r.prpubid OPERATOR(pg_catalog.=) p.oid
                    WHERE p.pubname OPERATOR(pg_catalog.=) $1::pg_catalog.name),
           (SELECT s.confirmed_flush_lsn
              FROM pg_catalog.pg_replication_slots s
             WHERE s.slot_name OPERATOR(pg_catalog.=) $2::pg_catalog.name
               AND s.wal_status OPERATOR(pg_catalog.<>) 'lost'),
           s.oid IS NOT NULL,
           COALESCE((SELECT pg_catalog.bool_and(r.srsubstate OPERATOR(pg_catalog.=) 'r')
                       FROM pg_catalog.pg_subscription_rel r
                      WHERE r.srsubid OPERATOR(pg_catalog.=) s.oid), false)
      FROM (VALUES (1)) AS one (row)
      LEFT JOIN (pg_catalog.pg_subscription s
                 JOIN pg_catalog.pg_database d
                   ON d.oid OPERATOR(pg_catalog.=) s.subdbid
                  AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
        ON s.subname OPERATOR(pg_catalog.=) $1::pg_catalog.name";

/// Puts the report into the result of `call`. It is true when the transaction has committed: not before
/// the standby has confirmed what it is about. The row is read first, and the place in the WAL last.
pub fn report(call: &Call, request: Request) -> Result<(), Error> {
    check_writable()?;
    let mut rows = Rows::begin(call);
    let found = request.look()?;
    let Request { partition, epoch } = request;
    let mut links = [None; 4];
    let slot_name = slot_name(partition, epoch);
    let names = [&name(partition, epoch), &slot_name]
        .map(|name| (pg_sys::TEXTOID, Some(text(name.as_bytes()))));
    execute_as_owner(super::owners::OWNERS, LINKS, &names, Access::Write, |row| {
        links = [1, 2, 3, 4].map(|column| row.get(column));
        Ok(())
    })?;
    let [is_published, slot_lsn, is_subscribed, is_copied] = links;
    let slot_name = slot_lsn.map(|_| text(slot_name.as_bytes()));
    accept_invalidations();
    let is_hot = map::get(partition)?.may_have_batches();
    let is_waiting = has_waiting_events(partition)?;
    let is_empty = is_empty(partition)?;
    let positions = observe()?;
    let last_position = last_position(partition)?;
    // Others have it in their WAL by the time that the report is true.
    wait_at_commit();
    rows.put([
        int4(found.own.number()),
        int4(settings::node_id()),
        Some(text(found.row.state.name().as_bytes())),
        int4(found.row.owner.number()),
        int8(found.row.epoch.number()),
        is_published,
        slot_lsn,
        is_subscribed,
        is_copied,
        bool(is_hot),
        bool(is_enqueued(partition)),
        bool(is_waiting),
        bool(is_empty),
        int8(last_position.unwrap_or(0)),
        int8(positions.safe as i64),
        int8(positions.next as i64 - 1),
        Some(insert_lsn()),
        slot_name,
        found.streams_above.and_then(int8),
    ])
}

/// Whether anything is in the queue that the partition's events go through, of whatever partition.
fn is_enqueued(partition: Partition) -> bool {
    // Without a queue there is nothing.
    Queues::of_this_database()
        .is_ok_and(|queues| queues.of_partition(partition).ring.used_bytes() > 0)
}

/// The end of the WAL.
#[expect(unsafe_code, reason = "asks PostgreSQL about the WAL")]
fn insert_lsn() -> pg_sys::Datum {
    // SAFETY: not in recovery.
    pg_sys::Datum::from(unsafe { pg_sys::GetXLogInsertRecPtr() })
}
