//! One committed epoch, for readers on any thread.
//!
//! A snapshot may live for as long as a client likes, but reopening the database (after an I/O error) needs every
//! reference to the old one gone. So a snapshot can be revoked, and a scan reads in chunks and holds nothing of
//! RocksDB between two of them.

use std::cmp::Ordering;
use std::sync::Arc;

use parking_lot::RwLock;
use rocksdb::ReadOptions;

use super::arena::{Keys, Values};
use super::error::StateError;
use super::layout::{Family, PREFIX_LEN, TableId, prefix_end, table_prefix};
use super::open_db::OwnedSnapshot;
use super::scan::KeyRange;
use super::table::read_sorted;

/// Fewer keys are looked up one by one.
const FEW_KEYS: usize = 64;
/// Steps of an iterator that cost as much as a seek.
const MAX_STEPS: usize = 6;
/// Keys that lie together have at least so many found for each seek, the first seeks aside.
const KEYS_PER_SEEK: usize = 4;
const MIN_SEEKS: usize = 16;

/// An entry of a state table: its key without table prefix, and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// All state as of one commit. Cheap to clone.
#[derive(Clone)]
pub struct StoreSnapshot {
    inner: Arc<Revocable>,
}

/// A snapshot until the store takes it back.
pub(super) struct Revocable {
    snapshot: RwLock<Option<OwnedSnapshot>>,
}

impl Revocable {
    /// Releases the snapshot; waits for reads in progress, which are bounded.
    pub(super) fn revoke(&self) {
        *self.snapshot.write() = None;
    }
}

impl StoreSnapshot {
    pub(super) fn new(snapshot: Option<OwnedSnapshot>) -> Self {
        Self {
            inner: Arc::new(Revocable {
                snapshot: RwLock::new(snapshot),
            }),
        }
    }

    pub(super) fn revocable(&self) -> &Arc<Revocable> {
        &self.inner
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&OwnedSnapshot) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        match &*self.inner.snapshot.read() {
            Some(snapshot) => read(snapshot),
            None => Err(StateError::Reopened),
        }
    }

    /// An entry of the meta family.
    pub fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.read(|snapshot| {
            let db = snapshot.db();
            Ok(db
                .db()
                .get_cf_opt(db.family(Family::Meta), key, &snapshot.read_options())?)
        })
    }

    /// The values of many keys (without table prefix) of a table.
    pub fn get_many(&self, family: Family, id: TableId, keys: &Keys) -> Result<Values, StateError> {
        self.read(|snapshot| {
            let mut values = Values::absent(keys.len());
            let missing: Vec<usize> = (0..keys.len()).collect();
            read_sorted(
                snapshot.db(),
                family,
                id,
                keys,
                missing,
                &snapshot.read_options(),
                |index, value| {
                    if let Some(value) = value {
                        values.set(index, value);
                    }
                },
            )?;
            Ok(values)
        })
    }

    /// As [`Self::get_many`], for keys that may lie close together, as where an index has about the order of the
    /// rows: an iterator passes over them, many times as fast. If they turn out to lie far apart, it gives up.
    pub fn get_near(&self, family: Family, id: TableId, keys: &Keys) -> Result<Values, StateError> {
        if keys.len() < FEW_KEYS {
            return self.get_many(family, id, keys);
        }
        let mut order: Vec<usize> = (0..keys.len()).collect();
        if !order.is_sorted_by(|a, b| keys.get(*a) <= keys.get(*b)) {
            order.sort_unstable_by(|&a, &b| keys.get(a).cmp(keys.get(b)));
        }
        self.read(|snapshot| {
            let mut values = Values::absent(keys.len());
            let passed = pass_over((snapshot, family, id), keys, &order, &mut values)?;
            read_sorted(
                snapshot.db(),
                family,
                id,
                keys,
                order.split_off(passed),
                &snapshot.read_options(),
                |index, value| {
                    if let Some(value) = value {
                        values.set(index, value);
                    }
                },
            )?;
            Ok(values)
        })
    }

    /// The last entry of a range, if there is one. The key is without table prefix.
    pub fn last(
        &self,
        family: Family,
        id: TableId,
        range: &KeyRange,
    ) -> Result<Option<KeyValue>, StateError> {
        let prefix = table_prefix(id);
        let (from, to) = range.prefixed(&prefix);
        self.read(|snapshot| {
            let mut options: ReadOptions = snapshot.read_options();
            options.set_iterate_lower_bound(from);
            if let Some(to) = to {
                options.set_iterate_upper_bound(to);
            }
            let mut iterator = snapshot.db().iterator(family, options);
            iterator.raw().seek_to_last();
            let last = iterator
                .item()
                .map(|(key, value)| (key[prefix.len()..].to_vec(), value.to_vec()));
            iterator.status()?;
            Ok(last)
        })
    }

    /// About how many bytes on disk lie in a range of a table; what is only in memory is not counted.
    pub fn disk_bytes(
        &self,
        family: Family,
        id: TableId,
        range: &KeyRange,
    ) -> Result<u64, StateError> {
        let (from, to) = range.prefixed(&table_prefix(id));
        let to = to.unwrap_or_else(|| vec![0xFF; 16]);
        self.read(|snapshot| {
            let db = snapshot.db();
            let ranges = [rocksdb::Range::new(&from, &to)];
            let sizes = db
                .db()
                .get_approximate_sizes_cf(&db.family(family), &ranges);
            Ok(sizes.iter().sum())
        })
    }

    /// Reads a range of a table in key order, a chunk at a time.
    pub fn scan(&self, family: Family, id: TableId, range: &KeyRange) -> SnapshotScan {
        let (from, to) = range.prefixed(&table_prefix(id));
        SnapshotScan {
            snapshot: self.clone(),
            family,
            from,
            to,
            prefix_len: table_prefix(id).len(),
            is_done: false,
        }
    }

    /// Reads the entries of the meta family whose names start with `prefix`, in order of name.
    pub fn scan_meta(&self, prefix: &[u8]) -> SnapshotScan {
        SnapshotScan {
            snapshot: self.clone(),
            family: Family::Meta,
            from: prefix.to_vec(),
            to: prefix_end(prefix),
            prefix_len: 0,
            is_done: false,
        }
    }
}

/// Reads the keys at `order`, which sorts them, with an iterator; returns how many it read before it gave up.
fn pass_over(
    (snapshot, family, id): (&OwnedSnapshot, Family, TableId),
    keys: &Keys,
    order: &[usize],
    values: &mut Values,
) -> Result<usize, StateError> {
    let prefix = table_prefix(id);
    let mut options = snapshot.read_options();
    if let Some(end) = prefix_end(&prefix) {
        options.set_iterate_upper_bound(end);
    }
    let mut iterator = snapshot.db().iterator(family, options);
    let mut wanted = prefix.to_vec();
    let mut seeks = 0;
    for (done, &index) in order.iter().enumerate() {
        let key = keys.get(index);
        // The first key has to be sought; from there on the next one is perhaps only steps away.
        let mut steps = if done == 0 { MAX_STEPS } else { 0 };
        loop {
            let ordering = match iterator.item() {
                Some((found, value)) => {
                    let ordering = found[PREFIX_LEN..].cmp(key);
                    if ordering.is_eq() {
                        values.set(index, value);
                    }
                    ordering
                }
                None if done == 0 && steps == MAX_STEPS => Ordering::Less,
                // Nothing is stored behind here.
                None => Ordering::Greater,
            };
            if ordering.is_ge() {
                break;
            }
            if steps < MAX_STEPS {
                iterator.raw().next();
            } else if steps == MAX_STEPS {
                if seeks > MIN_SEEKS && seeks > done / KEYS_PER_SEEK {
                    return Ok(done);
                }
                seeks += 1;
                wanted.truncate(PREFIX_LEN);
                wanted.extend_from_slice(key);
                iterator.raw().seek(&wanted);
            }
            steps += 1;
        }
    }
    iterator.status()?;
    Ok(order.len())
}

/// A scan of a snapshot in progress.
pub struct SnapshotScan {
    snapshot: StoreSnapshot,
    family: Family,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    prefix_len: usize,
    is_done: bool,
}

/// Some entries of a scan, in key order.
#[derive(Debug, Clone, Default)]
pub struct ScanChunk {
    /// Keys without table prefix.
    pub keys: Keys,
    /// One value per key.
    pub values: Keys,
}

impl SnapshotScan {
    /// The next entries: at least one, at most `max_rows`, and no more after `max_bytes` bytes; `None` at the end.
    pub fn next_chunk(
        &mut self,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Option<ScanChunk>, StateError> {
        let mut chunk = ScanChunk::default();
        let found = self.visit_chunk(max_rows, max_bytes, |key, value| {
            chunk.keys.push(key);
            chunk.values.push(value);
            Ok::<_, StateError>(())
        })?;
        Ok((found > 0).then_some(chunk))
    }

    /// As [`Self::next_chunk`], but hands each key (without table prefix) and value to `take`; how many there were.
    pub fn visit_chunk<E: From<StateError>>(
        &mut self,
        max_rows: usize,
        max_bytes: usize,
        take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        if self.is_done {
            return Ok(0);
        }
        let read =
            |snapshot: &OwnedSnapshot| Ok(self.read_chunk(snapshot, max_rows, max_bytes, take));
        let (found, last) = self.snapshot.read(read)??;
        match last {
            Some(last) => {
                // The next chunk starts right behind the last key.
                self.from = last;
                self.from.push(0);
            }
            None => self.is_done = true,
        }
        Ok(found)
    }

    /// How many entries there were, and the last one's key unless the range has ended.
    fn read_chunk<E: From<StateError>>(
        &self,
        snapshot: &OwnedSnapshot,
        max_rows: usize,
        max_bytes: usize,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(usize, Option<Vec<u8>>), E> {
        let mut options: ReadOptions = snapshot.read_options();
        options.set_iterate_lower_bound(self.from.clone());
        if let Some(to) = &self.to {
            options.set_iterate_upper_bound(to.clone());
        }
        let mut iterator = snapshot.db().iterator(self.family, options);
        iterator.raw().seek(&self.from);
        let (mut rows, mut bytes) = (0, 0);
        let mut last = None;
        while let Some((key, value)) = iterator.item() {
            take(&key[self.prefix_len..], value)?;
            rows += 1;
            bytes += key.len() - self.prefix_len + value.len();
            if rows >= max_rows || bytes >= max_bytes {
                last = Some(key.to_vec());
                break;
            }
            iterator.raw().next();
        }
        iterator.status()?;
        Ok((rows, last))
    }
}
