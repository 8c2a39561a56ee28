//! The hot keys of all tables, under one byte budget.
//!
//! Every table has its own cache: a hash table over entries in a short log of chunks. New entries go to the last
//! chunk; to free memory the oldest chunk is dropped as a whole, and of its entries those that were read since they
//! were written get a second chance at the end of the log. So an entry costs no allocation of its own, and the budget
//! counts what is really allocated. When the budget is used up, a table that nobody asks any more pays first, else
//! the table that wants the memory. Keys without a value are cached too: most lookups of new groups find nothing.

mod log;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use self::log::{Entries, MIN_CHUNK};

/// A table is cold if it was not read during so many reads of others.
const COLD_READS: u64 = 4096;

/// The budget that all caches share. Cheap to clone.
#[derive(Clone)]
pub struct CacheHandle {
    shared: Arc<Shared>,
}

struct Shared {
    budget: usize,
    used: AtomicUsize,
    /// Counts locks of any cache, as a clock.
    reads: AtomicU64,
    tables: Mutex<Vec<Weak<TableCache>>>,
}

/// What caches did and hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Lookups answered from memory.
    pub hits: u64,
    /// Lookups that had to go to the database.
    pub misses: u64,
    /// Bytes allocated.
    pub bytes: usize,
    /// Keys held.
    pub entries: usize,
}

impl CacheHandle {
    /// A budget of so many bytes.
    pub fn new(budget_bytes: usize) -> Self {
        let (used, reads, tables) = (
            AtomicUsize::new(0),
            AtomicU64::new(0),
            Mutex::new(Vec::new()),
        );
        Self {
            shared: Arc::new(Shared {
                budget: budget_bytes,
                used,
                reads,
                tables,
            }),
        }
    }

    /// Bytes that all caches together have allocated.
    pub fn used_bytes(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// The sum over all tables.
    pub fn stats(&self) -> CacheStats {
        let tables: Vec<_> = self
            .shared
            .tables
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        tables
            .iter()
            .map(|table| table.stats())
            .fold(CacheStats::default(), |sum, stats| CacheStats {
                hits: sum.hits + stats.hits,
                misses: sum.misses + stats.misses,
                bytes: sum.bytes + stats.bytes,
                entries: sum.entries + stats.entries,
            })
    }

    pub(super) fn table(&self) -> Arc<TableCache> {
        let table = Arc::new(TableCache {
            shared: Arc::clone(&self.shared),
            last_read: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            entries: Mutex::new(Entries::default()),
        });
        let mut tables = self.shared.tables.lock();
        tables.retain(|table| table.strong_count() > 0);
        tables.push(Arc::downgrade(&table));
        table
    }
}

/// The cache of one table.
pub(super) struct TableCache {
    shared: Arc<Shared>,
    last_read: AtomicU64,
    bytes: AtomicUsize,
    entries: Mutex<Entries>,
}

impl TableCache {
    pub(super) fn lock(&self) -> CacheGuard<'_> {
        let now = self.shared.reads.fetch_add(1, Ordering::Relaxed) + 1;
        self.last_read.store(now, Ordering::Relaxed);
        CacheGuard {
            table: self,
            entries: self.entries.lock(),
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        let entries = self.entries.lock();
        CacheStats {
            hits: entries.hits,
            misses: entries.misses,
            bytes: self.bytes.load(Ordering::Relaxed),
            entries: entries.len(),
        }
    }

    /// Takes what `entries` has allocated now into account.
    fn account(&self, entries: &Entries) {
        let now = entries.allocated();
        let before = self.bytes.swap(now, Ordering::Relaxed);
        self.shared
            .used
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    fn evict(&self, entries: &mut Entries, second_chance: bool) {
        entries.drop_oldest_chunk(second_chance);
        self.account(entries);
    }
}

impl Drop for TableCache {
    fn drop(&mut self) {
        self.shared
            .used
            .fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// A table's cache, locked.
pub(super) struct CacheGuard<'a> {
    table: &'a TableCache,
    entries: MutexGuard<'a, Entries>,
}

impl CacheGuard<'_> {
    pub(super) fn budget_bytes(&self) -> usize {
        self.table.shared.budget
    }

    /// The value of `key`, `Some(None)` if it is known to have none, `None` if the cache does not know.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.entries.get(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.entries.find(key).is_some()
    }

    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        if self.budget_bytes() == 0 {
            return;
        }
        let had = self.entries.allocations;
        self.entries.put(key, value);
        if self.entries.allocations != had {
            self.table.account(&self.entries);
            self.relieve();
        }
    }

    /// Forgets one key.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.entries.forget(key);
    }

    /// Forgets the keys for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        self.entries.retain(keep);
    }

    /// Frees memory until the budget holds again.
    fn relieve(&mut self) {
        let shared = &self.table.shared;
        while shared.used.load(Ordering::Relaxed) > shared.budget {
            if !self.evict_cold_table() {
                if self.entries.is_empty() {
                    return;
                }
                self.table.evict(&mut self.entries, true);
            }
        }
    }

    /// Takes memory from the table that was not read for longest, if that is long enough; or from the largest, if
    /// this one has next to nothing.
    fn evict_cold_table(&self) -> bool {
        let shared = &self.table.shared;
        let now = shared.reads.load(Ordering::Relaxed);
        let own = self.table.bytes.load(Ordering::Relaxed);
        let others: Vec<Arc<TableCache>> = shared
            .tables
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let others = others.iter().filter(|table| {
            !std::ptr::eq(Arc::as_ptr(table), self.table)
                && table.bytes.load(Ordering::Relaxed) > MIN_CHUNK
        });
        let coldest = others
            .clone()
            .min_by_key(|table| table.last_read.load(Ordering::Relaxed));
        let is_cold =
            |table: &&Arc<TableCache>| table.last_read.load(Ordering::Relaxed) + COLD_READS < now;
        let victim = coldest.filter(is_cold).or_else(|| {
            let largest = others.max_by_key(|table| table.bytes.load(Ordering::Relaxed));
            largest.filter(|table| table.bytes.load(Ordering::Relaxed) / 8 > own)
        });
        // Another thread may be inside: then this table pays.
        let Some(victim) = victim else { return false };
        let Some(mut entries) = victim.entries.try_lock() else {
            return false;
        };
        if entries.is_empty() {
            return false;
        }
        victim.evict(&mut entries, false);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(n: u32) -> Vec<u8> {
        vec![n as u8; 20 + n as usize % 50]
    }

    #[test]
    fn remembers_values_and_absence() {
        let cache = CacheHandle::new(1 << 20);
        let table = cache.table();
        let mut guard = table.lock();
        guard.put(b"a", Some(b"1"));
        guard.put(b"b", None);
        assert_eq!(guard.get(b"a"), Some(Some(&b"1"[..])));
        assert_eq!(guard.get(b"b"), Some(None));
        assert_eq!(guard.get(b"c"), None);
        guard.put(b"b", Some(b"long enough to move"));
        guard.put(b"a", None);
        assert_eq!(guard.get(b"b"), Some(Some(&b"long enough to move"[..])));
        assert_eq!(guard.get(b"a"), Some(None));
        guard.put(b"a", Some(&vec![0; 2 << 20]));
        assert_eq!(
            guard.get(b"a"),
            None,
            "too large to keep, and the old value is gone"
        );
        guard.retain(|key| key != b"b");
        assert_eq!(guard.get(b"b"), None);
        drop(guard);
        assert_eq!((table.stats().hits, table.stats().misses), (4, 3));
    }

    #[test]
    fn budget_holds_and_hot_keys_stay() {
        let cache = CacheHandle::new(400 << 10);
        let table = cache.table();
        for n in 0..50_000u32 {
            let mut guard = table.lock();
            guard.put(&n.to_be_bytes(), Some(&value(n)));
            guard.get(&7u32.to_be_bytes());
            drop(guard);
            assert!(cache.used_bytes() <= 400 << 10, "{}", cache.used_bytes());
        }
        let mut guard = table.lock();
        assert_eq!(guard.get(&7u32.to_be_bytes()), Some(Some(&value(7)[..])));
        assert_eq!(guard.get(&8u32.to_be_bytes()), None);
        assert_eq!(
            guard.get(&49_999u32.to_be_bytes()),
            Some(Some(&value(49_999)[..]))
        );
        drop(guard);
        drop(table);
        assert_eq!(cache.used_bytes(), 0);
    }

    #[test]
    fn cold_tables_pay_for_hot_ones() {
        let cache = CacheHandle::new(400 << 10);
        let (cold, hot) = (cache.table(), cache.table());
        for n in 0..20_000u32 {
            cold.lock().put(&n.to_be_bytes(), Some(&value(n)));
        }
        let before = cold.stats().bytes;
        for n in 0..20_000u32 {
            hot.lock().put(&n.to_be_bytes(), Some(&value(n)));
        }
        assert!(
            cold.stats().bytes < before / 4,
            "{} of {before}",
            cold.stats().bytes
        );
        assert!(cache.used_bytes() <= 400 << 10);
    }
}
