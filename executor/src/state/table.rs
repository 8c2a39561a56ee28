//! The only door to RocksDB for operators: one table's keys and values.
//!
//! Reads see this epoch's own changes over the last commit. Changes stay in the overlay until [`StateTable::drain_into`]
//! hands them to the epoch's [`WriteSet`] without copying them; then either [`StateTable::committed`] makes them the
//! cached state, or [`StateTable::discard`] forgets them. The cache only ever holds committed values, so a discarded
//! epoch leaves no trace. Between drain and committed/discard a table must not be read or written.
//!
//! Changes that outgrow their share of memory are spilled (`spill.rs`), which reads and the commit take into account. A
//! table that could not be spilled goes on in memory; the next read says why.
//!
//! Several tables (one per shard) may share an id if their keys never overlap; a range delete then has to be made on
//! each of them, since each has its own overlay and cache.

use std::cell::{Ref, RefCell};
use std::sync::{Arc, Weak};

use rocksdb::ReadOptions;

use super::arena::{Keys, Values};
use super::cache::{CacheHandle, CacheStats, TableCache};
use super::error::StateError;
use super::key_order::KeyOrder;
use super::layout::{Family, PREFIX_LEN, TableId, table_prefix};
use super::open_db::OpenDb;
use super::overlay::{Change, Overlay};
use super::readers::{TableReaders, layers};
use super::scan::{IteratorPool, KeyRange, OrderRef, TableScan};
use super::spill::Spill;
use super::store::Store;
use super::write_set::WriteSet;

/// Keys per call into RocksDB; bounds what a read pins.
const MULTI_GET_CHUNK: usize = 512;
/// A look whether a range is empty gives up behind so many deleted keys.
const SKIPPED_KEYS: u64 = 1000;
/// A run may be larger than what tables spill, since its bytes are in memory already: so many times the limit.
const RUN_LIMITS: usize = 2;

/// See the module.
pub struct StateTable {
    id: TableId,
    family: Family,
    store: Store,
    cache: Arc<TableCache>,
    overlay: Overlay,
    /// The overlay's entries in key order; kept up to date from the first scan of an epoch on.
    order: RefCell<Option<KeyOrder>>,
    pool: IteratorPool,
    /// What was handed to the write set and is not yet known to be committed.
    in_commit: Option<Arc<Overlay>>,
    spilled: Spilled,
    /// Bytes of the overlay that the budget of all tables knows of.
    accounted: usize,
}

/// What of this epoch's changes is no longer in the overlay.
#[derive(Default)]
struct Spilled {
    place: Option<Arc<Spill>>,
    bytes: usize,
    /// Holds what the table spilled and then discarded: to be forgotten before it spills there again.
    stale: Weak<Spill>,
    /// Why the overlay could not be spilled; told to the next read.
    failure: Option<StateError>,
    /// The overlay's size at which to try again.
    retry_at: usize,
}

impl StateTable {
    /// The table `id` in `family`. Opening costs nothing; a table exists as soon as it has a key.
    pub fn new(id: TableId, family: Family, store: Store, cache: CacheHandle) -> Self {
        Self {
            id,
            family,
            store,
            cache: cache.table(),
            overlay: Overlay::default(),
            order: RefCell::new(None),
            pool: IteratorPool::default(),
            in_commit: None,
            spilled: Spilled::default(),
            accounted: 0,
        }
    }

    /// The table's id.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The family the table lives in.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Bytes of this epoch's uncommitted changes.
    pub fn overlay_bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// The same, with those that were spilled.
    pub fn epoch_bytes(&self) -> usize {
        self.overlay.bytes() + self.spilled.bytes
    }

    /// Hits, misses and bytes of this table's cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    fn check_not_in_commit(&self) -> Result<(), StateError> {
        match self.in_commit {
            None => Ok(()),
            Some(_) => Err(StateError::Bug(format!(
                "{:?} was used while its epoch is being committed",
                self.id
            ))),
        }
    }

    /// The error of the last spilling, once.
    fn take_failure(&mut self) -> Result<(), StateError> {
        self.spilled.failure.take().map_or(Ok(()), Err)
    }

    /// Tells the budget of all tables what this one has in memory, and spills if that is too much.
    fn account(&mut self) {
        let memory = self.overlay.memory();
        if memory < self.accounted + self.store.overlay_budget().step() {
            return;
        }
        let store = self.store.clone();
        let budget = store.overlay_budget();
        budget.replace(self.accounted, memory);
        self.accounted = memory;
        if memory >= budget.least_to_spill().max(self.spilled.retry_at)
            && budget.is_exceeded()
            && let Err(error) = self.spill_overlay()
        {
            tracing::warn!(%error, table = ?self.id, "changes could not be spilled");
            self.spilled.failure = Some(error);
            self.spilled.retry_at = memory + budget.least_to_spill();
        }
    }

    /// Makes room for others, if they need it: the table is not written again soon.
    pub fn set_aside(&mut self) -> Result<(), StateError> {
        let store = self.store.clone();
        let budget = store.overlay_budget();
        let is_worth_it = self.overlay.memory() >= budget.least_to_set_aside();
        match is_worth_it && budget.is_exceeded() {
            true => self.spill_overlay(),
            false => Ok(()),
        }
    }

    fn spill_overlay(&mut self) -> Result<(), StateError> {
        let spill = self.store.spill()?;
        if self.spilled.stale.ptr_eq(&Arc::downgrade(&spill)) {
            spill.delete_range(self.family, self.id, &KeyRange::all())?;
            self.spilled.stale = Weak::new();
        }
        spill.write_table(self.family, self.id, &self.overlay)?;
        let entries = self.overlay.take_entries();
        let mut cache = self.cache.lock();
        entries.changes().for_each(|(key, _)| cache.forget(key));
        drop(cache);
        self.spilled.bytes += entries.bytes();
        self.spilled.place = Some(spill);
        self.spilled.failure = None;
        self.spilled.retry_at = 0;
        self.order = RefCell::new(None);
        self.pool = IteratorPool::default();
        self.forget_accounted(self.overlay.memory());
        Ok(())
    }

    fn forget_accounted(&mut self, left: usize) {
        self.store.overlay_budget().replace(self.accounted, left);
        self.accounted = left;
    }

    /// The values of `keys`, in their order: from the overlay, the cache, or one sorted read of the database.
    pub fn get_many(&mut self, keys: &Keys) -> Result<Values, StateError> {
        self.check_not_in_commit()?;
        self.take_failure()?;
        let mut values = Values::absent(keys.len());
        let mut untouched = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            match self.overlay.entry(key) {
                Change::Put(value) => values.set(index, value),
                Change::Deleted => {}
                Change::Untouched => untouched.push(index),
            }
        }
        if let Some(spill) = &self.spilled.place {
            untouched = spill.get_many((self.family, self.id), keys, untouched, &mut values)?;
        }
        let mut cache = self.cache.lock();
        let mut missing = Vec::new();
        for index in untouched {
            let key = keys.get(index);
            if self.overlay.is_range_deleted(key) {
                continue;
            }
            match cache.get(key) {
                Some(Some(value)) => values.set(index, value),
                Some(None) => {}
                None => missing.push(index),
            }
        }
        if missing.is_empty() {
            return Ok(values);
        }
        let db = self.store.db()?;
        let mut last: Option<usize> = None;
        read_sorted(
            &db,
            self.family,
            self.id,
            keys,
            missing,
            &ReadOptions::default(),
            |index, value| match last.filter(|&last| keys.get(last) == keys.get(index)) {
                Some(last) => values.share(index, last),
                None => {
                    if let Some(value) = value {
                        values.set(index, value);
                    }
                    cache.put(keys.get(index), value);
                    last = Some(index);
                }
            },
        )?;
        Ok(values)
    }

    /// The value of one key.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let keys: Keys = std::iter::once(key).collect();
        Ok(self.get_many(&keys)?.get(0).map(<[u8]>::to_vec))
    }

    /// Sets the value of `key`, visible to this table's reads at once and to others with the commit.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let new = self.overlay.put(key, value);
        self.keep_order(new);
    }

    /// Sets the values of keys that are in strictly ascending order. Cheaper than one by one.
    pub fn put_ascending(&mut self, keys: Keys, values: Keys) {
        debug_assert!(
            self.in_commit.is_none(),
            "{:?} was written while its epoch is being committed",
            self.id
        );
        debug_assert!(keys.iter().is_sorted_by(|a, b| a < b));
        let limit = self
            .store
            .overlay_budget()
            .limit()
            .saturating_mul(RUN_LIMITS);
        let is_run = self.overlay.takes_run(&keys, &values)
            && Overlay::memory_of_run(&keys, &values) <= limit;
        if !is_run {
            for (key, value) in keys.iter().zip(values.iter()) {
                self.put(key, value);
            }
            return;
        }
        self.overlay.put_run(keys, values);
        self.order = RefCell::new(None);
        let memory = self.overlay.memory();
        self.store.overlay_budget().replace(self.accounted, memory);
        self.accounted = memory;
    }

    /// True if no key from the first to the last, both included, is there. False also if it would take long to find out.
    pub fn is_empty_between(&self, first: &[u8], last: &[u8]) -> Result<bool, StateError> {
        self.check_not_in_commit()?;
        if !self.overlay.is_empty() || self.spilled.place.is_some() {
            return Ok(false);
        }
        let whole = |key: &[u8]| [&table_prefix(self.id), key].concat();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([&whole(last)[..], &[0]].concat());
        options.set_max_skippable_internal_keys(SKIPPED_KEYS);
        let mut iterator = self.store.db()?.iterator(self.family, options);
        iterator.raw().seek(whole(first));
        Ok(iterator.item().is_none() && iterator.status().is_ok())
    }

    /// Deletes `key`, whether it exists or not.
    pub fn delete(&mut self, key: &[u8]) {
        let new = self.overlay.delete(key);
        self.keep_order(new);
    }

    fn keep_order(&mut self, new: Option<u32>) {
        debug_assert!(
            self.in_commit.is_none(),
            "{:?} was written while its epoch is being committed",
            self.id
        );
        if let (Some(id), Some(order)) = (new, self.order.get_mut()) {
            order.insert(&self.overlay, id);
        }
        self.account();
    }

    /// Deletes all keys of the range, also those that this epoch wrote so far. Cheap however many there are, but
    /// every later read of the family pays a little for it until compaction: at most a few per epoch and table.
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<(), StateError> {
        if range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return Ok(());
        }
        if let Some(spill) = &self.spilled.place {
            spill.delete_range(self.family, self.id, range)?;
            self.pool = IteratorPool::default();
        }
        self.overlay.delete_range(&range.from, range.to.as_deref());
        Ok(())
    }

    /// Reads a range in key order.
    pub fn scan(&self, range: &KeyRange) -> Result<TableScan<'_>, StateError> {
        self.scan_in(range, false)
    }

    /// Gives back what scans keep for the next one, and with it the files that it reads. Whoever scans a table that may not
    /// be committed for long has to.
    pub fn release(&self) {
        self.pool.database.take();
        self.pool.spilled.take();
    }

    /// Reads a range from its last key to its first.
    pub fn scan_reverse(&self, range: &KeyRange) -> Result<TableScan<'_>, StateError> {
        self.scan_in(range, true)
    }

    fn scan_in(&self, range: &KeyRange, is_reverse: bool) -> Result<TableScan<'_>, StateError> {
        self.check_not_in_commit()?;
        let layers = layers(
            (&self.store, self.family, self.id),
            self.spilled.place.as_ref(),
            &self.pool,
        )?;
        if self.order.borrow().is_none() {
            *self.order.borrow_mut() = Some(KeyOrder::new(&self.overlay));
        }
        let order = Ref::map(self.order.borrow(), |order| {
            order.as_ref().expect("the order was made just above")
        });
        Ok(TableScan::new(
            &self.overlay,
            OrderRef::Shared(order),
            &self.pool,
            layers,
            &table_prefix(self.id),
            range,
            is_reverse,
        ))
    }

    /// The table as it is, for ordered reads on several threads.
    pub fn readers(&mut self) -> Result<TableReaders<'_>, StateError> {
        self.check_not_in_commit()?;
        let overlay = &self.overlay;
        let order = self.order.get_mut();
        Ok(TableReaders {
            id: self.id,
            family: self.family,
            store: &self.store,
            overlay,
            order: order.get_or_insert_with(|| KeyOrder::new(overlay)),
            spilled: self.spilled.place.as_ref(),
        })
    }

    /// Hands this epoch's changes to the epoch's write, without copying them.
    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.order = RefCell::new(None);
        self.pool = IteratorPool::default();
        let spilled = std::mem::take(&mut self.spilled);
        if self.overlay.is_empty() && spilled.place.is_none() {
            return;
        }
        if let Some(spill) = spilled.place {
            writes.add_spilled(self.family, self.id, spill, spilled.bytes);
        }
        let next = Overlay::with_capacity(self.overlay.len().min(1 << 16));
        let overlay = Arc::new(std::mem::replace(&mut self.overlay, next));
        writes.add_overlay(self.family, self.id, Arc::clone(&overlay));
        self.in_commit = Some(overlay);
    }

    /// The epoch is committed: its values are the cached ones from now on.
    pub fn committed(&mut self) {
        self.pool = IteratorPool::default();
        self.forget_accounted(0);
        let Some(overlay) = self.in_commit.take() else {
            return;
        };
        let mut cache = self.cache.lock();
        if cache.budget_bytes() == 0 {
            return;
        }
        if !overlay.deleted_ranges().is_empty() {
            cache.retain(|key| !overlay.is_range_deleted(key));
        }
        // An epoch that would flush everything else out of the cache only refreshes what is there already; so does a run,
        // most of whose keys nobody asks for soon.
        let fits = overlay.run_bytes() == 0 && overlay.bytes() <= cache.budget_bytes() / 4;
        if !fits && cache.is_empty() {
            return;
        }
        for (key, value) in overlay.changes() {
            if fits || cache.contains(key) {
                cache.put(key, value);
            }
        }
    }

    /// The epoch failed: everything written since the last commit is forgotten.
    pub fn discard(&mut self) {
        self.overlay = Overlay::default();
        self.order = RefCell::new(None);
        self.pool = IteratorPool::default();
        self.in_commit = None;
        let stale = match self.spilled.place.take() {
            Some(spill) => Arc::downgrade(&spill),
            None => std::mem::take(&mut self.spilled.stale),
        };
        self.spilled = Spilled {
            stale,
            ..Spilled::default()
        };
        self.forget_accounted(0);
    }
}

impl Drop for StateTable {
    fn drop(&mut self) {
        self.forget_accounted(0);
    }
}

/// Reads the keys at `indices` from the database in key order and reports each with its value. Equal keys are
/// reported one after the other.
pub(super) fn read_sorted(
    db: &OpenDb,
    family: Family,
    id: TableId,
    keys: &Keys,
    mut indices: Vec<usize>,
    options: &ReadOptions,
    mut report: impl FnMut(usize, Option<&[u8]>),
) -> Result<(), StateError> {
    let is_before = |a: &usize, b: &usize| keys.get(*a) <= keys.get(*b);
    if !indices.is_sorted_by(is_before) {
        indices.sort_unstable_by(|&a, &b| keys.get(a).cmp(keys.get(b)));
    }
    let prefix = table_prefix(id);
    let mut prefixed = Keys::new();
    for chunk in indices.chunks(MULTI_GET_CHUNK) {
        prefixed.clear();
        for &index in chunk {
            prefixed.push_with(|out| {
                out.extend_from_slice(&prefix);
                out.extend_from_slice(keys.get(index));
            });
        }
        debug_assert_eq!(prefixed.get(0).len(), PREFIX_LEN + keys.get(chunk[0]).len());
        let found =
            db.db()
                .batched_multi_get_cf_opt(db.family(family), prefixed.iter(), true, options);
        for (&index, value) in chunk.iter().zip(found) {
            report(index, value?.as_deref());
        }
    }
    Ok(())
}
