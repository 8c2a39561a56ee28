//! One open RocksDB database: its options, and the owned iterators and snapshots that keep it open.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, LogLevel, Options, ReadOptions, Snapshot, WriteBufferManager,
};

use super::error::StateError;
use super::layout::{FORMAT_VERSION, Family};
use super::spill::add_up;
use super::store::StoreOptions;

/// What a memtable's bloom filter takes of its size.
const MEMTABLE_BLOOM_SHARE: f64 = 0.02;

/// The caches that outlive a reopening.
#[derive(Clone)]
pub(super) struct SharedMemory {
    pub(super) cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
}

impl SharedMemory {
    pub(super) fn new(options: &StoreOptions) -> Self {
        let memory = options.memory;
        // Memtables are charged to the block cache, so that the cache's usage is the memory of RocksDB.
        let cache = Cache::new_lru_cache(memory.block_cache_bytes + memory.write_buffer_bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            memory.write_buffer_bytes,
            false,
            cache.clone(),
        );
        Self {
            cache,
            write_buffers,
        }
    }
}

/// An open database. Dropping the last reference closes it and releases its lock.
pub(super) struct OpenDb {
    db: DB,
}

impl OpenDb {
    pub(super) fn open(
        path: &Path,
        options: &StoreOptions,
        memory: &SharedMemory,
    ) -> Result<Self, StateError> {
        let db_options = database_options(options, memory);
        if path.join("CURRENT").exists() {
            check_families(path, &db_options, options)?;
        }
        // RocksDB insists on its own family "default"; unused, it must not reserve room for 64 MB memtables.
        let unused = (rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Family::Meta);
        let families = Family::ALL
            .map(|family| (family.name(), family))
            .into_iter()
            .chain([unused]);
        let families = families.map(|(name, family)| {
            ColumnFamilyDescriptor::new(name, family_options(family, options, memory))
        });
        let db = DB::open_cf_descriptors(&db_options, path, families)
            .map_err(|error| open_error(error, options))?;
        let open = Self { db };
        // Not an open option in RocksDB's C API: flush a memtable before its range tombstones slow every read.
        open.db.set_options_cf(
            open.family(Family::Windowed),
            &[("memtable_max_range_deletions", "100")],
        )?;
        Ok(open)
    }

    /// A database for one epoch's spilled changes (`spill.rs`): never compacted, and the weights in its meta family
    /// are added up.
    pub(super) fn open_temporary(
        path: &Path,
        options: &StoreOptions,
        memory: &SharedMemory,
    ) -> Result<Self, StateError> {
        let db_options = database_options(options, memory);
        let unused = (rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Family::Log);
        let families = Family::ALL
            .map(|family| (family.name(), family))
            .into_iter()
            .chain([unused]);
        let families = families.map(|(name, family)| {
            let mut family_options = family_options(family, options, memory);
            family_options.set_disable_auto_compactions(true);
            if family == Family::Meta {
                family_options.set_merge_operator_associative("add", add_up);
            }
            ColumnFamilyDescriptor::new(name, family_options)
        });
        let db = DB::open_cf_descriptors(&db_options, path, families)?;
        Ok(Self { db })
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(family.name())
            .expect("every family is opened with the database")
    }

    /// An iterator that keeps the database open.
    pub(super) fn iterator(
        self: &Arc<Self>,
        family: Family,
        options: ReadOptions,
    ) -> OwnedIterator {
        let iterator = self.db.raw_iterator_cf_opt(self.family(family), options);
        // SAFETY: the iterator borrows `self.db`, which lives inside the Arc that is stored beside it and never
        // moves. `OwnedIterator::drop` destroys the iterator before it lets go of the Arc, and the 'static lifetime
        // does not leave `OwnedIterator`: its accessors borrow from it.
        let iterator =
            unsafe { std::mem::transmute::<DBRawIterator<'_>, DBRawIterator<'static>>(iterator) };
        OwnedIterator {
            iterator: ManuallyDrop::new(iterator),
            _db: Arc::clone(self),
        }
    }

    /// A snapshot that keeps the database open.
    pub(super) fn snapshot(self: &Arc<Self>) -> OwnedSnapshot {
        let snapshot = self.db.snapshot();
        // SAFETY: as in `iterator`: the database lives in the Arc beside the snapshot, never moves, and is let go of
        // after the snapshot is released; the 'static lifetime does not leave `OwnedSnapshot`.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        OwnedSnapshot {
            snapshot: ManuallyDrop::new(snapshot),
            db: Arc::clone(self),
        }
    }
}

/// A raw iterator together with the database it reads.
pub(super) struct OwnedIterator {
    iterator: ManuallyDrop<DBRawIterator<'static>>,
    _db: Arc<OpenDb>,
}

impl OwnedIterator {
    pub(super) fn raw(&mut self) -> &mut DBRawIterator<'static> {
        &mut self.iterator
    }

    /// The entry the iterator stands on.
    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    /// An error if the iterator stopped for another reason than its end.
    pub(super) fn status(&self) -> Result<(), StateError> {
        Ok(self.iterator.status()?)
    }
}

impl Drop for OwnedIterator {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards; the database is let go of after this.
        unsafe { ManuallyDrop::drop(&mut self.iterator) }
    }
}

/// A RocksDB snapshot together with its database.
pub(super) struct OwnedSnapshot {
    snapshot: ManuallyDrop<Snapshot<'static>>,
    db: Arc<OpenDb>,
}

impl OwnedSnapshot {
    pub(super) fn db(&self) -> &Arc<OpenDb> {
        &self.db
    }

    /// Options that read this snapshot. What is read with them must not outlive `self`.
    pub(super) fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl Drop for OwnedSnapshot {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards; the database is let go of after this.
        unsafe { ManuallyDrop::drop(&mut self.snapshot) }
    }
}

fn database_options(options: &StoreOptions, memory: &SharedMemory) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_write_buffer_manager(&memory.write_buffers);
    db.set_max_total_wal_size(options.max_wal_bytes);
    db.set_max_background_jobs(4);
    db.set_max_open_files(512);
    db.set_bytes_per_sync(1 << 20);
    db.set_wal_bytes_per_sync(512 << 10);
    db.set_keep_log_file_num(3);
    db.set_max_log_file_size(8 << 20);
    db.set_log_level(LogLevel::Warn);
    // An idle server does no work.
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

/// Options of one family, also of the files that are written to be ingested into it.
pub(super) fn family_options(
    family: Family,
    options: &StoreOptions,
    memory: &SharedMemory,
) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    // Small: a change touches few keys that lie far apart, and decompressing the blocks around them is most of its cost
    // once data have outgrown the memtables.
    table.set_block_size(4 << 10);
    table.set_format_version(6);
    let mut family_options = Options::default();
    family_options.set_block_based_table_factory(&table);
    family_options.set_compression_type(DBCompressionType::Lz4);
    let share = match family {
        Family::Meta => 8,
        Family::State | Family::Windowed | Family::Views | Family::Log => 2,
    };
    family_options.set_write_buffer_size(
        (options.memory.write_buffer_bytes / share).clamp(1 << 20, 64 << 20),
    );
    // Most keys that are read one by one are not in the memtable; this says so without a walk down its skip list.
    family_options.set_memtable_whole_key_filtering(true);
    family_options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE);
    family_options.set_target_file_size_base(64 << 20);
    family_options
}

fn check_families(
    path: &Path,
    db_options: &Options,
    options: &StoreOptions,
) -> Result<(), StateError> {
    let found = DB::list_cf(db_options, path).map_err(|error| open_error(error, options))?;
    let unknown = found.iter().find(|name| {
        *name != rocksdb::DEFAULT_COLUMN_FAMILY_NAME
            && Family::ALL.iter().all(|family| family.name() != *name)
    });
    match unknown {
        Some(name) => Err(StateError::Format {
            path: options.path.clone(),
            found: format!("with a column family {name}"),
            expected: FORMAT_VERSION,
        }),
        None => Ok(()),
    }
}

fn open_error(error: rocksdb::Error, options: &StoreOptions) -> StateError {
    let text = error.as_ref();
    if text.contains("While lock file") || text.contains("lock hold by current process") {
        return StateError::Locked(options.path.clone());
    }
    error.into()
}
