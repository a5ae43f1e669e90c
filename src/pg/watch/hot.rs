//! What is not settled yet, and how the sidecar is.

use crate::metrics::sample::HotGauges;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::control::Control;
use crate::pg::hot::map::{self, State};
use crate::pg::session::xact::{accept_invalidations, now_us};
use crate::pg::sidecar;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A partition that is hot or cooling.
#[derive(Clone, Copy, Debug)]
pub struct HotNow {
    /// the partition
    pub partition: Partition,
    /// which of the two it is
    pub state: State,
    /// whether a dump has brought it, so that nothing is settled
    pub is_restored: bool,
    /// bytes of its batches
    pub bytes: u64,
    /// how long ago the oldest of them was written; `None`: there is none
    pub oldest: Option<Duration>,
}

/// The partitions of this database that are hot or cooling, as the statement's snapshot shows them. Without
/// any, that is known without a look into the tables.
pub fn hot_partitions() -> Result<Vec<HotNow>, Error> {
    accept_invalidations();
    for partition in Partition::all() {
        if map::get(partition)?.may_have_batches() {
            return read();
        }
    }
    Ok(Vec::new())
}

fn read() -> Result<Vec<HotNow>, Error> {
    let now = now_us();
    let age = |written_at: i64| Duration::from_micros(now.saturating_sub(written_at).max(0) as u64);
    let mut found = Vec::new();
    map::report(|of| {
        if let Some(partition) = Partition::new(of.partition)
            && of.known.may_have_batches()
        {
            found.push(HotNow {
                partition,
                state: of.known.state,
                is_restored: !of.known.is_ours,
                bytes: of.bytes.max(0) as u64,
                oldest: of.oldest.map(|oldest| age(oldest.value() as i64)),
            });
        }
        Ok(())
    })?;
    Ok(found)
}

/// The numbers about hot partitions.
pub fn gauges() -> Result<HotGauges, Error> {
    let mut gauges = HotGauges::default();
    for of in hot_partitions()? {
        let count = match of.state {
            _ if of.is_restored => &mut gauges.restored,
            State::Cooling => &mut gauges.cooling,
            _ => &mut gauges.hot,
        };
        *count += 1;
        gauges.unsettled_bytes += of.bytes;
        gauges.oldest_unsettled = gauges.oldest_unsettled.max(of.oldest.unwrap_or_default());
    }
    if let Some(control) = Control::get() {
        gauges.settler_up = control.pid().is_some();
        for partition in Partition::all() {
            let of = control.of(partition);
            gauges.taken_events += of.taken_events.load(Ordering::Relaxed);
            gauges.settled_events += of.settled_events.load(Ordering::Relaxed);
        }
        (gauges.tails_found, gauges.tails_missing) = control.tails();
    }
    if let Some(status) = sidecar::status() {
        let figures = status.figures;
        gauges.sidecar_up = status.is_served;
        gauges.sidecar_disk_bytes = figures.disk_bytes;
        gauges.sidecar_memory_bytes = figures.memory_bytes;
        gauges.sidecar_answers = figures.answers;
        gauges.sidecar_misses = figures.misses;
        gauges.sidecar_rebuilds = figures.rebuilds;
    }
    Ok(gauges)
}
