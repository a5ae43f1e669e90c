//! Where heads are in their tables, remembered in shared memory for all processes: most appends and
//! reads of a stream find its head without the index.
//!
//! It is a hint and no more. Whoever uses it compares the name in the row, and looks into the index if
//! it is another one, or if the snapshot shows no row there. So nothing has to be forgotten when rows
//! move or tables are exchanged, and no lock is needed.
//!
//! ```text
//! an entry   63      48 47                16 15       0      0: nothing is remembered
//!            ┌─────────┬────────────────────┬──────────┐
//!            │   tag   │       block        │  offset  │
//!            └─────────┴────────────────────┴──────────┘
//!            bits of the hash of table, tenant and name that do not choose the entry
//! ```
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::model::batch::StreamKey;
use crate::pg::shared::memory::Area;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// How many places are remembered: 1 MB. A power of two. Streams that share an entry replace each
/// other.
const ENTRIES: usize = 1 << 17;

/// The entries; zeroed memory remembers nothing.
pub static AREA: Area = Area {
    name: c"allsource head places",
    bytes: || ENTRIES * size_of::<AtomicU64>(),
    set_up: |_| {},
    start: AtomicPtr::new(std::ptr::null_mut()),
};

/// The entry of a stream.
#[derive(Clone, Copy)]
pub struct HeadPlace {
    entry: &'static AtomicU64,
    tag: u64,
}

impl HeadPlace {
    /// The entry of the stream of this name in the leaf `table`; `None` if the library was not loaded
    /// at server start.
    pub fn of(table: pg_sys::Oid, stream_id: &[u8], tenant_id: &[u8]) -> Option<Self> {
        let start = AREA.start().ok()?.cast::<AtomicU64>();
        // OIDs of leaves of several databases can be the same, which does no harm.
        let spread = u64::from(table.to_u32()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = StreamKey { stream_id, tenant_id }.hash64() ^ spread;
        // SAFETY: the area has `ENTRIES` entries and is never given back.
        let entry = unsafe { &*start.add(hash as usize % ENTRIES) };
        Some(Self { entry, tag: hash >> 48 })
    }

    /// The place that is remembered for the stream.
    pub fn get(self) -> Option<pg_sys::ItemPointerData> {
        // Relaxed: what is found at the place is checked.
        let entry = self.entry.load(Ordering::Relaxed);
        (entry != 0 && entry >> 48 == self.tag).then_some(pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (entry >> 32) as u16,
                bi_lo: (entry >> 16) as u16,
            },
            ip_posid: entry as u16,
        })
    }

    /// Remembers where the index says that the stream is.
    pub fn set(self, place: pg_sys::ItemPointerData) {
        let pg_sys::BlockIdData { bi_hi, bi_lo } = place.ip_blkid;
        let block = u64::from(bi_hi) << 16 | u64::from(bi_lo);
        let entry = self.tag << 48 | block << 16 | u64::from(place.ip_posid);
        self.entry.store(entry, Ordering::Relaxed);
    }
}
