//! One committed epoch, for readers on any thread.
//!
//! A snapshot may live for as long as a client likes, but reopening the database (after an I/O error) needs every
//! reference to the old one gone. So a snapshot can be revoked, and a scan reads in chunks and holds nothing of
//! RocksDB between two of them.

use std::sync::Arc;

use parking_lot::RwLock;
use rocksdb::ReadOptions;

use super::arena::{Keys, Values};
use super::error::StateError;
use super::layout::{Family, TableId, prefix_end, table_prefix};
use super::open_db::OwnedSnapshot;
use super::scan::KeyRange;
use super::table::read_sorted;

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
        if self.is_done {
            return Ok(None);
        }
        let (chunk, is_end) = self
            .snapshot
            .read(|snapshot| self.read_chunk(snapshot, max_rows, max_bytes))?;
        self.is_done = is_end;
        match chunk.keys.is_empty() {
            true => {
                self.is_done = true;
                Ok(None)
            }
            false => {
                // The next chunk starts right behind the last key.
                let last = chunk.keys.get(chunk.keys.len() - 1);
                self.from.truncate(self.prefix_len);
                self.from.extend_from_slice(last);
                self.from.push(0);
                Ok(Some(chunk))
            }
        }
    }

    /// The entries, and whether they are the last ones.
    fn read_chunk(
        &self,
        snapshot: &OwnedSnapshot,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<(ScanChunk, bool), StateError> {
        let mut options: ReadOptions = snapshot.read_options();
        options.set_iterate_lower_bound(self.from.clone());
        if let Some(to) = &self.to {
            options.set_iterate_upper_bound(to.clone());
        }
        let mut iterator = snapshot.db().iterator(self.family, options);
        iterator.raw().seek(&self.from);
        let mut chunk = ScanChunk::default();
        let mut is_end = true;
        while let Some((key, value)) = iterator.item() {
            chunk.keys.push(&key[self.prefix_len..]);
            chunk.values.push(value);
            if chunk.keys.len() >= max_rows
                || chunk.keys.data_len() + chunk.values.data_len() >= max_bytes
            {
                is_end = false;
                break;
            }
            iterator.raw().next();
        }
        iterator.status()?;
        Ok((chunk, is_end))
    }
}
