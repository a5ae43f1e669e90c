//! A member of a cluster, as the coordinator asks it: `es_member_…`. Users do not call these functions.
//!
//! `epoch` is that of a move. A request that does not fit the member's row of `partition_owners` is refused
//! with 55000 and changes nothing. All but `es_member_summary` wait at their commit for the synchronous
//! standby, as a writer does.

use crate::codec::argument::partition;
use crate::codec::array::ElementType;
use crate::model::error::StoreError;
use crate::pg::call::Call;
use crate::pg::call::rows::{bool, int8};
use crate::pg::cluster::link::{publish, subscribe};
use crate::pg::cluster::membership;
use crate::pg::cluster::owners::forget_all;
use crate::pg::cluster::report::report;
use crate::pg::cluster::row::{Request, group};
use crate::pg::cluster::summary::{Asked, summarize};
use crate::pg::error::Error;
use crate::sql_function;

fn request(call: &Call) -> Result<Request, Error> {
    Request::new(partition("partition_id", call.int4(0))?, call.int8(1))
}

sql_function! {
    /// `es_member_join(group_id, owners, epochs)`: makes this database a member of a group, with the owner
    /// and the epoch of each partition. Does nothing in a member of this group.
    ///
    /// Errors: 22023 bad argument, 55000 `allsource.node_id` is not the group's number, a member of another
    /// group, or a partition of another group is not empty. Volatile, parallel unsafe.
    fn es_member_join, pg_finfo_es_member_join(call) {
        let owners = call.required_array(1, "owners", ElementType::Int4)?.group_ids()?;
        let epochs = call.required_array(2, "epochs", ElementType::Int8)?.positions()?;
        membership::join(call.int4(0), owners, epochs)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_leave()`: makes this database a single server again.
    ///
    /// Errors: 55000 no member, or it has some of the partitions and not all. Volatile, parallel unsafe.
    fn es_member_leave, pg_finfo_es_member_leave(_call) {
        membership::leave()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_receive(partition_id, epoch, source)`: the target begins to receive a partition, and
    /// empties what it has of an earlier copy.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_receive, pg_finfo_es_member_receive(call) {
        request(call)?.receive(group("source", call.int4(2))?)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_publish(partition_id, epoch)`: the source publishes a partition, and makes the slot.
    /// Returns whether it is done; if not, it is to be called again, in another transaction.
    ///
    /// Errors: 22023, 25001 in a transaction that has written, 55000. Volatile, parallel unsafe.
    fn es_member_publish, pg_finfo_es_member_publish(call) {
        Ok(bool(publish(request(call)?)?))
    }
}

sql_function! {
    /// `es_member_subscribe(partition_id, epoch, conninfo, slot_name)`: the target subscribes to what the
    /// source, at `conninfo`, has published, by the slot that the source's report names.
    ///
    /// Errors: 08006 the source cannot be reached, 22023, 55000. Volatile, parallel unsafe.
    fn es_member_subscribe, pg_finfo_es_member_subscribe(call) {
        let conninfo = call.bytes(2).ok_or(StoreError::NullArgument { argument: "conninfo" })?;
        let slot = call.bytes(3).ok_or(StoreError::NullArgument { argument: "slot_name" })?;
        subscribe(request(call)?, conninfo, slot)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_close(partition_id, epoch)`: the source takes no more enqueued events for a partition.
    /// Returns whether all that was enqueued before is written; if not, it is to be called again, in another
    /// transaction.
    ///
    /// Errors: 22023, 55000 stale, or hot, 55P03 `lock_timeout`. Volatile, parallel unsafe.
    fn es_member_close, pg_finfo_es_member_close(call) {
        Ok(bool(request(call)?.close()?))
    }
}

sql_function! {
    /// `es_member_fence(partition_id, epoch)`: the source ends writing a partition. Waits for those who are
    /// writing, for no longer than `lock_timeout`; who comes later waits, and is refused.
    ///
    /// Errors: 22023, 55000 stale, hot, or with waiting events, 55P03 `lock_timeout`. Volatile, parallel
    /// unsafe.
    fn es_member_fence, pg_finfo_es_member_fence(call) {
        request(call)?.fence()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_raise_counter(partition_id, epoch, above)`: the target assigns positions above this one
    /// from now on.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_raise_counter, pg_finfo_es_member_raise_counter(call) {
        let above = call.int8(2).ok_or(StoreError::NullArgument { argument: "above" })?;
        request(call)?.raise_counter(above)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_give(partition_id, epoch)`: the target owns a partition.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_give, pg_finfo_es_member_give(call) {
        request(call)?.give()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_release(partition_id, epoch, target)`: the source learns that the target owns a partition.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_release, pg_finfo_es_member_release(call) {
        request(call)?.release(group("target", call.int4(2))?)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_refuse(partition_id, epoch, source)`: the target cannot be given a partition by this move
    /// any more.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_refuse, pg_finfo_es_member_refuse(call) {
        request(call)?.refuse(group("source", call.int4(2))?)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_take_back(partition_id, epoch)`: the source owns a partition again.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_take_back, pg_finfo_es_member_take_back(call) {
        request(call)?.take_back()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_unsubscribe(partition_id, epoch)`: the target drops the subscription of a move.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_unsubscribe, pg_finfo_es_member_unsubscribe(call) {
        request(call)?.unsubscribe()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_unpublish(partition_id, epoch)`: the source drops the publication and the slot of a move.
    ///
    /// Errors: 22023, 55000, 55006 the slot is still in use. Volatile, parallel unsafe.
    fn es_member_unpublish, pg_finfo_es_member_unpublish(call) {
        request(call)?.unpublish()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_empty(partition_id, epoch)`: source or target empties its copy, when the move has made it
    /// useless.
    ///
    /// Errors: 22023, 55000. Volatile, parallel unsafe.
    fn es_member_empty, pg_finfo_es_member_empty(call) {
        request(call)?.empty()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_member_report(partition_id, epoch)`: one row about a partition and a move.
    ///
    /// Errors: 22023, 25006 on a standby, 55000 no member. Volatile, parallel unsafe.
    fn es_member_report, pg_finfo_es_member_report(call) {
        report(call, request(call)?)?;
        Ok(None)
    }
}

sql_function! {
    /// `es_member_summary(partition_id, above, up_to, with_streams, streams_above)`: what is compared of
    /// source and target: counts and a checksum of the runs in a range of positions, and of heads. With
    /// `up_to`: of the heads as they were at that position. Without it: of those that were written above
    /// `above`.
    ///
    /// Errors: 22023. Stable, parallel restricted.
    fn es_member_summary, pg_finfo_es_member_summary(call) {
        let asked = Asked {
            above: call.int8(1).unwrap_or(0),
            up_to: call.int8(2),
            with_streams: call.bool(3),
            streams_above: call.int8(4),
        };
        summarize(call, partition("partition_id", call.int4(0))?, asked)?;
        Ok(None)
    }
}

sql_function! {
    /// `cluster_changed()`: the trigger of `cluster_member` and `partition_owners`. Sessions read them again.
    ///
    /// Volatile, parallel unsafe.
    fn cluster_changed, pg_finfo_cluster_changed(_call) {
        forget_all()?;
        Ok(int8(0))
    }
}
