//! How RocksDB is set up: bounded memory, few threads and files, and nothing that trusts a damaged file.

use super::key;
use super::mark::Forgotten;
use crate::model::partition::PARTITIONS;
use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompactionStyle,
    DBCompressionType, DataBlockIndexType, LogLevel, Options, ReadOptions, ReadTier,
    SliceTransform, UniversalCompactOptions, WriteBufferManager, WriteOptions,
};
use std::sync::Arc;

/// Stream and batch → the events.
pub const EVENTS: &str = "events";
/// Partition → its mark.
pub const PARTITION_MARKS: &str = "partitions";

/// A family is flushed when its write buffer has this share of all of them.
const WRITE_BUFFER_SHARE: usize = 3;
/// Files are merged when there are so many of about the same size. Most of what is in them is forgotten
/// soon, so merging them early would be in vain.
const MERGED_FILES_MIN: i32 = 32;
const MERGED_FILES_MAX: i32 = 64;
/// Applying must not wait for that.
const FILES_SLOW: i32 = 500;
const FILES_STOP: i32 = 1_000;
/// Old and forgotten files are dropped when they are merged or by their age; how many bytes they have in
/// comparison with the others is no reason to merge all.
const SIZE_AMPLIFICATION_PERCENT: i32 = 100_000;
/// Write buffers of a family; writing waits while all are full, so this bounds their memory.
const WRITE_BUFFERS_MAX: i32 = WRITE_BUFFER_SHARE as i32;
const BLOCK_BYTES: usize = 8 << 10;
const FILE_BYTES: u64 = 32 << 20;
/// A file that is so old is compacted, so that what is forgotten does not stay while little is written.
const FILE_AGE_S_MAX: u64 = 600;
/// RocksDB's own log, which is kept twice.
const LOG_BYTES_MAX: usize = 1 << 20;

/// What the user decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// memory for blocks that have been read, their indexes and filters
    pub cache_bytes: usize,
    /// memory for what has not been flushed yet
    pub write_buffer_bytes: usize,
    /// files that are open at the same time
    pub open_files_max: i32,
    /// how fast files are written by flushing and compaction
    pub background_bytes_per_s: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            open_files_max: 256,
            background_bytes_per_s: 256 << 20,
        }
    }
}

/// The memory that the database takes: all of it is charged to the cache.
pub struct Memory {
    pub cache: Cache,
    pub write_buffers: WriteBufferManager,
}

impl Memory {
    pub fn new(settings: Settings) -> Self {
        let cache =
            Cache::new_hyper_clock_cache(settings.cache_bytes + settings.write_buffer_bytes, 0);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            settings.write_buffer_bytes,
            // What waits for this manager waits for ever if a flush fails. The number of write buffers
            // bounds memory as well, and that wait ends with the error.
            false,
            cache.clone(),
        );
        Self { cache, write_buffers }
    }
}

/// Options of the database.
pub fn database(settings: Settings, memory: &Memory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // There is no log of its own: the families are flushed together, so that what is found after a
    // crash is what there was at some time before.
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_max_open_files(settings.open_files_max);
    options.set_max_file_opening_threads(1);
    // One flushes, one compacts.
    options.set_max_background_jobs(2);
    options.set_max_subcompactions(1);
    options.set_ratelimiter(settings.background_bytes_per_s, 100_000, 10);
    options.set_bytes_per_sync(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(LOG_BYTES_MAX);
    options.set_keep_log_file_num(2);
    options
}

/// The families with their options.
pub fn families(
    settings: Settings,
    memory: &Memory,
    forgotten: &Arc<Forgotten>,
) -> [ColumnFamilyDescriptor; 2] {
    let mut events = family(settings, memory);
    events.set_prefix_extractor(SliceTransform::create("allsource.stream", key::prefix, None));
    let forgotten = Arc::clone(forgotten);
    events.set_compaction_filter("allsource.forgotten", move |_, key, _| {
        match (key.first(), key::batch_no(key)) {
            (Some(partition), Some(batch_no))
                if forgotten.covers(usize::from(*partition), batch_no) =>
            {
                Decision::Remove
            }
            _ => Decision::Keep,
        }
    });
    [
        ColumnFamilyDescriptor::new(EVENTS, events),
        ColumnFamilyDescriptor::new(PARTITION_MARKS, family(settings, memory)),
    ]
}

fn family(settings: Settings, memory: &Memory) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_format_version(6);
    table.set_index_type(BlockBasedIndexType::BinarySearch);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_bloom_filter(10.0, false);
    // Indexes and filters count as cache too, or memory would grow with the files.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_optimize_filters_for_memory(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(settings.write_buffer_bytes / WRITE_BUFFER_SHARE);
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_target_file_size_base(FILE_BYTES);
    let mut universal = UniversalCompactOptions::default();
    universal.set_min_merge_width(MERGED_FILES_MIN);
    universal.set_max_merge_width(MERGED_FILES_MAX);
    universal.set_max_size_amplification_percent(SIZE_AMPLIFICATION_PERCENT);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&universal);
    options.set_level_zero_file_num_compaction_trigger(MERGED_FILES_MIN);
    options.set_level_zero_slowdown_writes_trigger(FILES_SLOW);
    options.set_level_zero_stop_writes_trigger(FILES_STOP);
    options.set_periodic_compaction_seconds(FILE_AGE_S_MAX);
    // Most entries are forgotten before they leave the first level.
    options.set_compression_per_level(&[
        DBCompressionType::None,
        DBCompressionType::None,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
        DBCompressionType::Lz4,
    ]);
    options
}

/// How everything is written.
pub fn writing() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    // The writer has other things to do than to wait, and a full disk may never have room again.
    options.set_no_slowdown(true);
    // A batch is sorted.
    options.set_memtable_insert_hint_per_batch(true);
    options
}

/// How the entries of one stream are read: those with keys from that of the seek up to before `end`.
pub fn reading_stream(end: Vec<u8>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(end);
    options.set_prefix_same_as_start(true);
    options
}

/// How it is read what a crash would leave.
pub fn reading_flushed() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_read_tier(ReadTier::Persisted);
    options
}

// The number of a partition is a byte of each key, and so is the next number.
const _: () = assert!(PARTITIONS < 255);
