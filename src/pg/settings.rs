//! The settings (`allsource.*`).

use crate::model::stream_no::NODE_ID_MAX;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static MAX_EVENT_SIZE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static MAX_BATCH_EVENTS: GucSetting<i32> = GucSetting::<i32>::new(100_000);
static NODE_ID: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Defines the settings.
pub fn init() {
    GucRegistry::define_int_guc(
        c"allsource.max_event_size",
        c"Largest event: the bytes of its type, payload and metadata.",
        c"",
        &MAX_EVENT_SIZE_BYTES,
        1,
        256 * 1024 * 1024,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"allsource.max_batch_events",
        c"Most events in one call.",
        c"",
        &MAX_BATCH_EVENTS,
        1,
        10_000_000,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"allsource.node_id",
        c"Number of this server among those that exchange partitions; part of every stream_no.",
        c"",
        &NODE_ID,
        0,
        NODE_ID_MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // A misspelt setting is an error, not a setting of nobody's.
    // SAFETY: all settings of the prefix are defined.
    #[expect(unsafe_code, reason = "a call that pgrx does not wrap")]
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"allsource".as_ptr());
    }
}

/// `allsource.max_event_size`, in bytes.
pub fn max_event_size_bytes() -> usize {
    MAX_EVENT_SIZE_BYTES.get() as usize
}

/// `allsource.max_batch_events`.
pub fn max_batch_events() -> usize {
    MAX_BATCH_EVENTS.get() as usize
}

/// `allsource.node_id`.
pub fn node_id() -> i32 {
    NODE_ID.get()
}
