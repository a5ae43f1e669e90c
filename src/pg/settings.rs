//! The settings (`allsource.*`).

use crate::model::stream_no::NODE_ID_MAX;
use crate::pg::error::Error;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

static MAX_EVENT_SIZE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static MAX_BATCH_EVENTS: GucSetting<i32> = GucSetting::<i32>::new(100_000);
static NODE_ID: GucSetting<i32> = GucSetting::<i32>::new(0);
static DATABASE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"postgres"));
static COORDINATOR_DATABASE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static QUEUE_SIZE_MB: GucSetting<i32> = GucSetting::<i32>::new(16);
static ENQUEUE_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static BATCH_MAX_EVENTS: GucSetting<i32> = GucSetting::<i32>::new(100_000);
static BATCH_MAX_KB: GucSetting<i32> = GucSetting::<i32>::new(8 * 1024);
static MOVE_FENCE_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static SETTLE_INTERVAL_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static HOT_MAX_KB: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static HEAT_THRESHOLD: GucSetting<i32> = GucSetting::<i32>::new(0);
static FLUSH_INTERVAL_MS: GucSetting<i32> = GucSetting::<i32>::new(0);
static SIDECAR_DIRECTORY: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static SIDECAR_MIN_BATCHES: GucSetting<i32> = GucSetting::<i32>::new(64);
static SIDECAR_CACHE_KB: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
static SIDECAR_WRITE_BUFFER_KB: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
static ROUTE_TIMEOUT_MS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static ROUTE_RETRY_TIME_MS: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static ROUTE_CONNECT_TIMEOUT_S: GucSetting<i32> = GucSetting::<i32>::new(2);
static ROUTE_IN_TRANSACTION: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Whether the postmaster is loading `shared_preload_libraries`.
pub fn preloading() -> bool {
    // SAFETY: a plain variable of this process.
    #[expect(unsafe_code, reason = "a variable that pgrx does not wrap")]
    unsafe {
        pgrx::pg_sys::process_shared_preload_libraries_in_progress
    }
}

/// Defines the settings.
///
/// Raises 22023 before anything is defined, so that it can be called again.
pub fn init() {
    refuse_early_values();
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
    GucRegistry::define_string_guc(
        c"allsource.coordinator_database",
        c"Database of a cluster's coordinator, whose moves of partitions a process carries on; empty: no process.",
        c"",
        &COORDINATOR_DATABASE,
        at_start(),
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"allsource.move_fence_timeout",
        c"How long nobody may write a partition that is being moved, before the move goes back.",
        c"",
        &MOVE_FENCE_TIMEOUT_MS,
        100,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    queue();
    sidecar();
    router();
    // So a misspelt setting of this prefix is an error.
    // SAFETY: all settings of the prefix are defined.
    #[expect(unsafe_code, reason = "a call that pgrx does not wrap")]
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"allsource".as_ptr());
    }
}

/// Settings that need a restart can only be defined while the postmaster loads libraries. If this library
/// is loaded later there is no queue, and they have no effect; but they can be shown.
fn at_start() -> GucContext {
    if preloading() { GucContext::Postmaster } else { GucContext::Sighup }
}

/// Defines the settings of the queue and its workers.
fn queue() {
    GucRegistry::define_string_guc(
        c"allsource.database",
        c"Database that the workers write to.",
        c"",
        &DATABASE,
        at_start(),
        GucFlags::default(),
    );
    let int = |name, description, setting, range: std::ops::RangeInclusive<i32>, context, unit| {
        let (min, max) = range.into_inner();
        GucRegistry::define_int_guc(name, description, c"", setting, min, max, context, unit);
    };
    int(
        c"allsource.workers",
        c"Number of workers, each with a queue of its own; 0 switches the queue off.",
        &WORKERS,
        0..=32,
        at_start(),
        GucFlags::default(),
    );
    int(
        c"allsource.queue_size",
        c"Shared memory of each queue; rounded up to a power of two.",
        &QUEUE_SIZE_MB,
        1..=8192,
        at_start(),
        GucFlags::UNIT_MB,
    );
    int(
        c"allsource.enqueue_timeout",
        c"How long to wait for room in the queue; 0 does not wait.",
        &ENQUEUE_TIMEOUT_MS,
        0..=i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    int(
        c"allsource.batch_max_events",
        c"Most events that a worker writes in one transaction.",
        &BATCH_MAX_EVENTS,
        1..=1_000_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    int(
        c"allsource.batch_max_bytes",
        c"Most bytes that a worker writes in one transaction, unless one event has more.",
        &BATCH_MAX_KB,
        1..=1024 * 1024,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    int(
        c"allsource.settle_interval",
        c"How long events of a hot partition may stay unsettled before that is begun.",
        &SETTLE_INTERVAL_MS,
        0..=i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    int(
        c"allsource.hot_max_bytes",
        c"Unsettled bytes of all hot partitions above which settling begins at once, and workers wait for it.",
        &HOT_MAX_KB,
        1024..=i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    int(
        c"allsource.heat_threshold",
        c"Scattered events per second above which a partition becomes hot by itself; 0: never.",
        &HEAT_THRESHOLD,
        0..=i32::MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
    int(
        c"allsource.flush_interval",
        c"How long a batch may wait to grow.",
        &FLUSH_INTERVAL_MS,
        0..=60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

/// Defines the settings of the sidecar.
fn sidecar() {
    GucRegistry::define_string_guc(
        c"allsource.sidecar_directory",
        c"Directory of the sidecar; empty: that of the data, with .allsource after its name.",
        c"",
        &SIDECAR_DIRECTORY,
        at_start(),
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"allsource.sidecar_min_batches",
        c"Up to so many batches are looked through for a tail without asking the sidecar.",
        c"",
        &SIDECAR_MIN_BATCHES,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
    let memory = |name, description, setting, min| {
        let max = 64 * 1024 * 1024;
        let context = at_start();
        GucRegistry::define_int_guc(
            name,
            description,
            c"",
            setting,
            min,
            max,
            context,
            GucFlags::UNIT_KB,
        );
    };
    memory(
        c"allsource.sidecar_cache_size",
        c"Memory of the sidecar for what has been read.",
        &SIDECAR_CACHE_KB,
        1024,
    );
    memory(
        c"allsource.sidecar_write_buffer_size",
        c"Memory of the sidecar for what has not been written to files yet.",
        &SIDECAR_WRITE_BUFFER_KB,
        1024,
    );
}

/// A time that is a setting of routers: its name, what it is, and its range in the unit of `flags`.
struct Time {
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<i32>,
    range: std::ops::RangeInclusive<i32>,
    flags: GucFlags,
}

/// The longest time that a router may wait or try.
const ROUTE_TIME_S_MAX: i32 = 24 * 60 * 60;

const ROUTE_TIMES: [Time; 3] = [
    Time {
        name: c"allsource.route_timeout",
        description: c"How long a router waits for a group's answer.",
        setting: &ROUTE_TIMEOUT_MS,
        range: 1..=ROUTE_TIME_S_MAX * 1000,
        flags: GucFlags::UNIT_MS,
    },
    Time {
        name: c"allsource.route_retry_time",
        description: c"How long a router tries a call again that could not be done.",
        setting: &ROUTE_RETRY_TIME_MS,
        range: 1..=ROUTE_TIME_S_MAX * 1000,
        flags: GucFlags::UNIT_MS,
    },
    Time {
        name: c"allsource.route_connect_timeout",
        description: c"How long a router waits for each server of a group when it connects.",
        setting: &ROUTE_CONNECT_TIMEOUT_S,
        // libpq takes 1 for 2.
        range: 2..=ROUTE_TIME_S_MAX,
        flags: GucFlags::UNIT_S,
    },
];

const ROUTE_IN_TRANSACTION_NAME: &CStr = c"allsource.route_in_transaction";

/// Defines the settings of routers.
fn router() {
    for time in ROUTE_TIMES {
        let (min, max) = time.range.into_inner();
        GucRegistry::define_int_guc(
            time.name,
            time.description,
            c"",
            time.setting,
            min,
            max,
            GucContext::Userset,
            time.flags,
        );
    }
    GucRegistry::define_bool_guc(
        ROUTE_IN_TRANSACTION_NAME,
        c"Whether a router appends in a transaction, which cannot undo it.",
        c"",
        &ROUTE_IN_TRANSACTION,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Raises an error if a setting of routers, where the library is often loaded by the first call only, was given
/// a bad value before. PostgreSQL takes good ones over, and would go on with the default in place of others.
fn refuse_early_values() {
    // The postmaster, which an error would stop, warns.
    if preloading() {
        return;
    }
    let refuse = |name: &CStr, value: &CStr| -> ! {
        let text = |text: &CStr| text.to_string_lossy().into_owned();
        Error::EarlySetting { name: text(name), value: text(value) }.raise("_PG_init")
    };
    for Time { name, range, flags, .. } in ROUTE_TIMES {
        if let Some(value) = early_value(name)
            && !int_of(value, flags).is_some_and(|int| range.contains(&int))
        {
            refuse(name, value);
        }
    }
    if let Some(value) = early_value(ROUTE_IN_TRANSACTION_NAME)
        && !is_bool(value)
    {
        refuse(ROUTE_IN_TRANSACTION_NAME, value);
    }
}

/// The value that a setting was given before it was defined. Nobody must set it as long as that is used.
fn early_value(name: &CStr) -> Option<&CStr> {
    // SAFETY: a look-up by name; the text lives until the setting is set.
    #[expect(unsafe_code, reason = "a call that pgrx does not wrap")]
    let value = unsafe {
        let value = pgrx::pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value))
    };
    // What was set once and reset is an empty text.
    value.filter(|value| !value.is_empty())
}

/// A whole number with an optional unit, as PostgreSQL reads it for a setting with these flags.
#[expect(unsafe_code, reason = "a call that pgrx does not wrap")]
fn int_of(value: &CStr, flags: GucFlags) -> Option<i32> {
    let mut int = 0;
    // SAFETY: reads `value`, writes `int`; no hint is asked for.
    let is_int = unsafe {
        pgrx::pg_sys::parse_int(value.as_ptr(), &raw mut int, flags.bits(), std::ptr::null_mut())
    };
    is_int.then_some(int)
}

#[expect(unsafe_code, reason = "a call that pgrx does not wrap")]
fn is_bool(value: &CStr) -> bool {
    let mut found = false;
    // SAFETY: reads `value`, writes `found`.
    unsafe { pgrx::pg_sys::parse_bool(value.as_ptr(), &raw mut found) }
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

/// `allsource.database`.
pub fn database() -> CString {
    DATABASE.get().unwrap_or_else(|| CStr::to_owned(c"postgres"))
}

/// `allsource.coordinator_database`; `None` if there is none.
pub fn coordinator_database() -> Option<CString> {
    COORDINATOR_DATABASE.get().filter(|name| !name.is_empty())
}

/// `allsource.workers`.
pub fn workers() -> usize {
    WORKERS.get() as usize
}

/// `allsource.queue_size`, in bytes.
pub fn queue_size_bytes() -> u64 {
    QUEUE_SIZE_MB.get() as u64 * 1024 * 1024
}

/// `allsource.enqueue_timeout`.
pub fn enqueue_timeout() -> Duration {
    Duration::from_millis(ENQUEUE_TIMEOUT_MS.get() as u64)
}

/// `allsource.batch_max_events`.
pub fn batch_max_events() -> usize {
    BATCH_MAX_EVENTS.get() as usize
}

/// `allsource.batch_max_bytes`, in bytes.
pub fn batch_max_bytes() -> u64 {
    BATCH_MAX_KB.get() as u64 * 1024
}

/// `allsource.settle_interval`.
pub fn settle_interval() -> Duration {
    Duration::from_millis(SETTLE_INTERVAL_MS.get() as u64)
}

/// `allsource.hot_max_bytes`, in bytes.
pub fn hot_max_bytes() -> u64 {
    HOT_MAX_KB.get() as u64 * 1024
}

/// `maintenance_work_mem`, in bytes.
#[expect(unsafe_code, reason = "a variable that pgrx does not wrap")]
pub fn maintenance_bytes() -> usize {
    // SAFETY: a plain variable of this process; it is positive.
    unsafe { pgrx::pg_sys::maintenance_work_mem as usize * 1024 }
}

/// `allsource.heat_threshold`, in events per second; `None`: partitions do not become hot by themselves.
pub fn heat_threshold() -> Option<u64> {
    Some(HEAT_THRESHOLD.get() as u64).filter(|threshold| *threshold > 0)
}

/// `allsource.flush_interval`.
pub fn flush_interval() -> Duration {
    Duration::from_millis(FLUSH_INTERVAL_MS.get() as u64)
}

/// `allsource.sidecar_directory`, or where the sidecar is without it: beside the data directory, so that
/// no backup of that copies it.
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code, reason = "there is no sidecar"))]
pub fn sidecar_directory() -> PathBuf {
    let given = SIDECAR_DIRECTORY.get().unwrap_or_default();
    if !given.is_empty() {
        return PathBuf::from(OsStr::from_bytes(given.as_bytes()));
    }
    // SAFETY: set before any process of the server uses the library.
    #[expect(unsafe_code, reason = "a variable that pgrx does not wrap")]
    let data = unsafe { CStr::from_ptr(pgrx::pg_sys::DataDir) }.to_bytes();
    let data = data.strip_suffix(b"/").unwrap_or(data);
    PathBuf::from(OsString::from_vec([data, b".allsource"].concat()))
}

/// `allsource.sidecar_min_batches`.
pub fn sidecar_min_batches() -> i64 {
    i64::from(SIDECAR_MIN_BATCHES.get())
}

/// `allsource.sidecar_cache_size`, in bytes.
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code, reason = "there is no sidecar"))]
pub fn sidecar_cache_bytes() -> usize {
    SIDECAR_CACHE_KB.get() as usize * 1024
}

/// `allsource.sidecar_write_buffer_size`, in bytes.
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code, reason = "there is no sidecar"))]
pub fn sidecar_write_buffer_bytes() -> usize {
    SIDECAR_WRITE_BUFFER_KB.get() as usize * 1024
}

/// `allsource.route_timeout`, in milliseconds.
pub fn route_timeout_ms() -> i32 {
    ROUTE_TIMEOUT_MS.get()
}

/// `allsource.route_retry_time`, in milliseconds.
pub fn route_retry_time_ms() -> i32 {
    ROUTE_RETRY_TIME_MS.get()
}

/// `allsource.route_connect_timeout`, in seconds.
pub fn route_connect_timeout_s() -> i32 {
    ROUTE_CONNECT_TIMEOUT_S.get()
}

/// `allsource.route_in_transaction`.
pub fn route_in_transaction() -> bool {
    ROUTE_IN_TRANSACTION.get()
}
