//! The state store: one RocksDB database that one writer commits to, an epoch at a time.
//!
//! # When the disk fails
//! A commit that fails changed nothing that a reader can see; the same [`WriteSet`] must be committed again (writing
//! it twice is harmless), never dropped: part of it may already be in the log. What the next commit needs depends on
//! the error, as found in RocksDB 11's error handler. After "no space left" RocksDB stops writing, keeps serving
//! reads, looks every 5 s whether its reserve is free again and then goes on by itself; if there is room and it still
//! refuses after [`PATIENCE`], and after every other I/O error, the database has to be reopened, because the binding
//! has no `resume()`. [`Store::commit`] does that; it revokes all snapshots, whose readers get
//! [`StateError::Reopened`] and run again.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rocksdb::{BottommostLevelCompaction, CompactOptions, Range, WriteBatch, WriteOptions};

use super::error::StateError;
use super::failpoint;
use super::ingest;
use super::layout::{FORMAT_VERSION, Family, TableId, guards, meta_key, prefix_end, table_prefix};
use super::log_write;
use super::open_db::{OpenDb, SharedMemory};
use super::snapshot::{Revocable, StoreSnapshot};
use super::spill::Spill;
use super::write_set::WriteSet;

/// How long RocksDB may take to notice that there is room again.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a reopening waits for reads in progress.
const REOPEN_WAIT: Duration = Duration::from_secs(30);
/// Keys that came in order make a good file: they are ingested from this share of the threshold on.
const RUN_SHARE: usize = 8;
/// What must fit on the disk before a reopening is worth trying.
const PROBE_BYTES: usize = 4 << 20;

/// Memory that RocksDB may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Blocks, indexes and filters of files, in bytes.
    pub block_cache_bytes: usize,
    /// Memtables of all families together, in bytes.
    pub write_buffer_bytes: usize,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The directory for state; `db/`, `ingest/` and `spill/` are made in it.
    pub path: PathBuf,
    /// Memory limits.
    pub memory: MemoryPlan,
    /// Bytes of log after which quiet families are flushed too.
    pub max_wal_bytes: u64,
    /// Bytes of a write set from which on it is written through files (see `ingest.rs`).
    pub ingest_threshold_bytes: usize,
    /// Bytes that the changes of one epoch may take in memory before tables spill them (see `spill.rs`).
    pub overlay_bytes: usize,
}

impl StoreOptions {
    /// Defaults for a store at `path`.
    pub fn new(path: impl Into<PathBuf>, memory: MemoryPlan) -> Self {
        Self {
            path: path.into(),
            memory,
            max_wal_bytes: 64 << 20,
            ingest_threshold_bytes: 64 << 20,
            overlay_bytes: 64 << 20,
        }
    }

    pub(super) fn db_path(&self) -> PathBuf {
        self.path.join("db")
    }

    pub(super) fn ingest_path(&self) -> PathBuf {
        self.path.join("ingest")
    }

    fn spill_path(&self) -> PathBuf {
        self.path.join("spill")
    }
}

/// What a commit wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Keys written or deleted.
    pub entries: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// Whether they went through files.
    pub was_ingested: bool,
}

/// Memory and disk in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Block cache and memtables, in bytes: all of RocksDB that the memory limit knows of.
    pub memory_bytes: usize,
    /// The part of it that is memtables.
    pub memtable_bytes: usize,
    /// Data files on disk.
    pub disk_bytes: u64,
}

/// How much memory the changes of an epoch take, over all tables.
pub(super) struct OverlayBudget {
    limit: usize,
    used: AtomicUsize,
}

impl OverlayBudget {
    /// Bytes beyond which tables spill.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Changes smaller than this need not be accounted for.
    pub(super) fn step(&self) -> usize {
        (self.limit / 64).min(64 << 10)
    }

    /// A table with less than this goes on, whatever others take: many small runs make every read slow.
    pub(super) fn least_to_spill(&self) -> usize {
        self.limit / 4
    }

    /// What is worth a run once the table is not written for a while.
    pub(super) fn least_to_set_aside(&self) -> usize {
        self.limit / 64
    }

    pub(super) fn replace(&self, before: usize, after: usize) {
        self.used
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }
}

/// The store. Cheap to clone; the database closes with the last clone, snapshot and iterator.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    options: StoreOptions,
    memory: SharedMemory,
    /// `None` while, and if, a reopening fails.
    db: RwLock<Option<Arc<OpenDb>>>,
    snapshots: Mutex<Vec<Weak<Revocable>>>,
    overlay_budget: OverlayBudget,
    /// What the epoch in progress has spilled so far.
    spill: Mutex<Option<Arc<Spill>>>,
    /// Numbers their directories: one may still be in use when the next is made.
    next_spill: AtomicUsize,
    /// Since when commits fail.
    failing_since: Mutex<Option<Instant>>,
}

impl Store {
    /// Opens or creates a store, and completes a large commit that a crash interrupted.
    pub fn open(options: &StoreOptions) -> Result<Self, StateError> {
        fs::create_dir_all(&options.path)?;
        let memory = SharedMemory::new(options);
        let db = open_checked(options, &memory)?;
        // What an interrupted epoch spilled is of no use. Not before the directory is known to be ours alone.
        if options.spill_path().exists() {
            fs::remove_dir_all(options.spill_path())?;
        }
        let inner = Inner {
            options: options.clone(),
            memory,
            db: RwLock::new(Some(Arc::new(db))),
            snapshots: Mutex::new(Vec::new()),
            overlay_budget: OverlayBudget {
                limit: options.overlay_bytes,
                used: AtomicUsize::new(0),
            },
            spill: Mutex::new(None),
            next_spill: AtomicUsize::new(0),
            failing_since: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(super) fn db(&self) -> Result<Arc<OpenDb>, StateError> {
        self.inner.db.read().clone().ok_or(StateError::Reopened)
    }

    pub(super) fn overlay_budget(&self) -> &OverlayBudget {
        &self.inner.overlay_budget
    }

    /// Where the epoch in progress puts what does not fit in memory; made when first asked for.
    pub fn spill(&self) -> Result<Arc<Spill>, StateError> {
        let mut slot = self.inner.spill.lock();
        if let Some(spill) = &*slot {
            return Ok(Arc::clone(spill));
        }
        let Inner {
            options, memory, ..
        } = &*self.inner;
        let number = self.inner.next_spill.fetch_add(1, Ordering::Relaxed);
        let directory = options.spill_path().join(number.to_string());
        let spill = Arc::new(Spill::create(directory, options, memory)?);
        *slot = Some(Arc::clone(&spill));
        Ok(spill)
    }

    /// The epoch is over, committed or not: what it has spilled goes when its last user lets go of it.
    pub fn release_spill(&self) {
        *self.inner.spill.lock() = None;
    }

    /// Everything that is committed now. If the database could not be reopened after an error, reading the snapshot
    /// gives that error.
    pub fn snapshot(&self) -> StoreSnapshot {
        let snapshot = StoreSnapshot::new(self.inner.db.read().as_ref().map(OpenDb::snapshot));
        let mut snapshots = self.inner.snapshots.lock();
        if snapshots.len() == snapshots.capacity() {
            snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        }
        snapshots.push(Arc::downgrade(snapshot.revocable()));
        snapshot
    }

    /// A committed entry of the meta family.
    pub fn get_meta(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let db = self.db()?;
        Ok(db.db().get_cf(db.family(Family::Meta), name)?)
    }

    /// Writes everything or nothing, durably if `sync`. Only one thread may commit. After an error the same writes
    /// must be committed again (see the module); [`StateError::is_retryable`] says whether that can help without a
    /// restart.
    pub fn commit(&self, writes: &WriteSet, sync: bool) -> Result<CommitStats, StateError> {
        failpoint::hit(failpoint::BEFORE_COMMIT);
        if self.inner.db.read().is_none() {
            self.reopen()?;
        }
        let mut result = self.try_commit(writes, sync);
        if let Err(error) = &result
            && self.needs_reopen(error)
        {
            tracing::warn!(%error, "reopening the state store");
            self.reopen()?;
            result = self.try_commit(writes, sync);
        }
        let mut failing_since = self.inner.failing_since.lock();
        match &result {
            Ok(_) => *failing_since = None,
            Err(_) => *failing_since = failing_since.or_else(|| Some(Instant::now())),
        }
        result
    }

    fn try_commit(&self, writes: &WriteSet, sync: bool) -> Result<CommitStats, StateError> {
        let db = self.db()?;
        let mut stats = CommitStats {
            entries: writes.len(),
            bytes: writes.bytes(),
            was_ingested: false,
        };
        let threshold = self.inner.options.ingest_threshold_bytes;
        let is_large = stats.bytes >= threshold || writes.run_bytes() >= threshold / RUN_SHARE;
        if is_large || writes.has_spilled() {
            ingest::commit(&db, &self.inner.options, &self.inner.memory, writes)?;
            if !writes.dropped().is_empty() {
                log_write::write(&db, false, || {
                    let mut batch = WriteBatch::default();
                    put_guards(&mut batch, &db, writes);
                    Ok(batch)
                })?;
            }
            stats.was_ingested = true;
            return Ok(stats);
        }
        if self.inner.failing_since.lock().is_some() {
            ingest::complete_interrupted(&db, &self.inner.options)?;
        }
        log_write::write(&db, sync, || write_batch(&db, writes))?;
        failpoint::hit(failpoint::AFTER_WAL_WRITE);
        Ok(stats)
    }

    /// Makes all commits so far durable.
    pub fn sync_wal(&self) -> Result<(), StateError> {
        Ok(self.db()?.db().flush_wal(true)?)
    }

    fn needs_reopen(&self, error: &StateError) -> bool {
        match error {
            StateError::Io(_) | StateError::Reopened => true,
            StateError::DiskFull(_) => {
                let since = *self.inner.failing_since.lock();
                since.is_some_and(|since| since.elapsed() > PATIENCE) && self.has_room()
            }
            StateError::Locked(_)
            | StateError::Format { .. }
            | StateError::Corrupt(_)
            | StateError::Unsupported(_)
            | StateError::Bug(_) => false,
        }
    }

    /// Whether a few megabytes can be written to the disk of the store.
    fn has_room(&self) -> bool {
        let path = self.inner.options.path.join("probe");
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0xA5; PROBE_BYTES])?;
            file.sync_all()
        });
        fs::remove_file(&path).is_ok() && written.is_ok()
    }

    /// Closes the database and opens it again: the way out of an I/O error. Revokes all snapshots, waits for reads
    /// in progress, completes an interrupted large commit. If it fails, the store has no database until a later
    /// reopening succeeds; what is committed is not lost.
    pub fn reopen(&self) -> Result<(), StateError> {
        let mut slot = self.inner.db.write();
        for snapshot in self.inner.snapshots.lock().drain(..) {
            if let Some(snapshot) = snapshot.upgrade() {
                snapshot.revoke();
            }
        }
        if let Some(mut old) = slot.take() {
            let deadline = Instant::now() + REOPEN_WAIT;
            loop {
                match Arc::try_unwrap(old) {
                    Ok(db) => {
                        drop(db);
                        break;
                    }
                    Err(still_read) if Instant::now() < deadline => {
                        old = still_read;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(still_read) => {
                        *slot = Some(still_read);
                        return Err(StateError::Io(
                            "a read of the state store does not end".to_string(),
                        ));
                    }
                }
            }
        }
        *slot = Some(Arc::new(open_checked(
            &self.inner.options,
            &self.inner.memory,
        )?));
        Ok(())
    }

    /// Rewrites all files, so that what was deleted takes no room any more. Reads and commits go on meanwhile.
    pub fn compact(&self) -> Result<(), StateError> {
        let db = self.db()?;
        for family in Family::ALL {
            let mut options = CompactOptions::default();
            options.set_exclusive_manual_compaction(false);
            options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
            let family = db.family(family);
            db.db().flush_cf(family)?;
            db.db()
                .compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    /// Memory and disk in use now.
    pub fn usage(&self) -> Result<StoreUsage, StateError> {
        let db = self.db()?;
        let mut usage = StoreUsage {
            memory_bytes: self.inner.memory.cache.get_usage(),
            memtable_bytes: self.inner.memory.write_buffers.get_usage(),
            disk_bytes: 0,
        };
        for family in Family::ALL {
            let bytes = db
                .db()
                .property_int_value_cf(db.family(family), "rocksdb.live-sst-files-size")?;
            usage.disk_bytes += bytes.unwrap_or(0);
        }
        Ok(usage)
    }

    /// About how many bytes of data files a table takes. What is still in memtables is not counted.
    pub fn table_bytes(&self, family: Family, id: TableId) -> Result<u64, StateError> {
        let db = self.db()?;
        let prefix = table_prefix(id);
        let end = prefix_end(&prefix).unwrap_or_else(|| vec![0xFF; prefix.len() + 1]);
        let sizes = db
            .db()
            .get_approximate_sizes_cf(db.family(family), &[Range::new(&prefix, &end)]);
        Ok(sizes.first().copied().unwrap_or(0))
    }
}

/// Opens the database, checks its format and completes what a crash interrupted.
fn open_checked(options: &StoreOptions, memory: &SharedMemory) -> Result<OpenDb, StateError> {
    let db = OpenDb::open(&options.db_path(), options, memory)?;
    let meta = db.family(Family::Meta);
    let expected = FORMAT_VERSION.to_string();
    match db.db().get_cf(meta, meta_key::FORMAT)? {
        Some(found) if found == expected.as_bytes() => {}
        Some(found) => {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(StateError::Format {
                path: options.path.clone(),
                found,
                expected: FORMAT_VERSION,
            });
        }
        None => {
            // A crash right after the first opening leaves an empty database, nothing else does.
            if db.db().latest_sequence_number() > 0 {
                let found = "unknown".to_string();
                return Err(StateError::Format {
                    path: options.path.clone(),
                    found,
                    expected: FORMAT_VERSION,
                });
            }
            let mut write = WriteOptions::default();
            write.set_sync(true);
            db.db()
                .put_cf_opt(meta, meta_key::FORMAT, expected, &write)?;
        }
    }
    ingest::complete_interrupted(&db, options)?;
    Ok(db)
}

/// One batch in key order: range deletes first, then keys, then meta.
fn write_batch(db: &OpenDb, writes: &WriteSet) -> Result<WriteBatch, StateError> {
    let mut batch = WriteBatch::with_capacity_bytes(writes.bytes() + writes.len() * 16 + 64);
    let mut key = Vec::new();
    for family in Family::ALL
        .into_iter()
        .filter(|family| *family != Family::Meta)
    {
        let handle = db.family(family);
        for (from, to) in writes.ranges(family) {
            let to =
                to.ok_or_else(|| StateError::Bug("a range delete without an end".to_string()))?;
            batch.delete_range_cf(handle, from, to);
        }
        for write in writes.sorted(family) {
            key.clear();
            key.extend_from_slice(&write.key.prefix);
            key.extend_from_slice(write.key.key);
            match write.value {
                Some(value) => batch.put_cf(handle, &key, value),
                None => batch.delete_cf(handle, &key),
            }
        }
    }
    put_guards(&mut batch, db, writes);
    let handle = db.family(Family::Meta);
    for (name, value) in writes.meta().changes() {
        match value {
            Some(value) => batch.put_cf(handle, name, value),
            None => batch.delete_cf(handle, name),
        }
    }
    Ok(batch)
}

/// Fences off what is left of dropped tables.
fn put_guards(batch: &mut WriteBatch, db: &OpenDb, writes: &WriteSet) {
    for (family, id) in writes.dropped() {
        for guard in guards(*id) {
            batch.put_cf(db.family(*family), guard, []);
        }
    }
}

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod tests;
