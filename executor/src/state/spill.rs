//! What an epoch can not hold in memory: sorted runs in a temporary database, thrown away after the commit.
//!
//! A table whose changes outgrow their share of memory writes them here as one sorted file and goes on with an empty
//! overlay; its reads look into the overlay, then here, then into the store. At the commit the newest change of every
//! key is merged with what is still in memory into the files that are ingested (`ingest.rs`). Nothing here outlives
//! the process: a crash before the record of an ingestion is written leaves the store at the epoch before.
//!
//! ```text
//! changes of tables, in their own family:   | whole key |  ->  | 1 | value |, or | 0 |: deleted
//! spooled weights, in the meta family:      | spool u32 BE | bytes |  ->  weight i64 LE; those of equal bytes are added
//! ```

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rocksdb::{IngestExternalFileOptions, ReadOptions, SstFileWriter, WriteOptions};

use super::arena::{Keys, Values};
use super::error::StateError;
use super::failpoint;
use super::layout::{Family, TableId, prefix_end, table_prefix};
use super::open_db::{OpenDb, OwnedIterator, SharedMemory, family_options};
use super::overlay::Overlay;
use super::scan::KeyRange;
use super::store::StoreOptions;
use super::table::read_sorted;

const PUT: u8 = 1;
const DELETED: u8 = 0;
/// Read ahead per file by whoever reads a whole table or spool.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// See the module. The last owner removes it from the disk.
pub struct Spill {
    db: Arc<OpenDb>,
    directory: PathBuf,
    options: StoreOptions,
    memory: SharedMemory,
    next_run: AtomicU64,
    next_spool: AtomicU32,
}

/// The value of a spilled change; `None`: the key is deleted.
pub(super) fn spilled_value(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.split_first() {
        Some((&PUT, value)) => Some(value),
        _ => None,
    }
}

impl Spill {
    pub(super) fn create(
        directory: PathBuf,
        options: &StoreOptions,
        memory: &SharedMemory,
    ) -> Result<Self, StateError> {
        fs::create_dir_all(&directory)?;
        let db = OpenDb::open_temporary(&directory.join("db"), options, memory)?;
        Ok(Self {
            db: Arc::new(db),
            directory,
            options: options.clone(),
            memory: memory.clone(),
            next_run: AtomicU64::new(0),
            next_spool: AtomicU32::new(0),
        })
    }

    /// Writes what an overlay says of keys, its newest word on each; not its range deletes.
    pub(super) fn write_table(
        &self,
        family: Family,
        id: TableId,
        overlay: &Overlay,
    ) -> Result<(), StateError> {
        let mut changes: Vec<_> = overlay.changes().collect();
        if changes.is_empty() {
            return Ok(());
        }
        changes.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let (mut whole, mut marked) = (table_prefix(id).to_vec(), Vec::new());
        self.write_run(family, |writer| {
            for (key, value) in changes {
                whole.truncate(table_prefix(id).len());
                whole.extend_from_slice(key);
                marked.clear();
                marked.push(if value.is_some() { PUT } else { DELETED });
                marked.extend_from_slice(value.unwrap_or_default());
                writer.put(&whole, &marked)?;
            }
            Ok(())
        })
    }

    fn write_run(
        &self,
        family: Family,
        write: impl FnOnce(&mut SstFileWriter<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number:06}.sst"));
        let file_options = family_options(family, &self.options, &self.memory);
        let mut writer = SstFileWriter::create(&file_options);
        writer.open(&path)?;
        write(&mut writer)?;
        writer.finish()?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        let family = self.db.family(family);
        self.db
            .db()
            .ingest_external_file_cf_opts(family, &ingest, vec![&path])?;
        failpoint::hit(failpoint::SPILL_WRITTEN);
        Ok(())
    }

    /// Answers the keys at `indices` that were spilled, and returns the others.
    pub(super) fn get_many(
        &self,
        (family, id): (Family, TableId),
        keys: &Keys,
        indices: Vec<usize>,
        values: &mut Values,
    ) -> Result<Vec<usize>, StateError> {
        let mut rest = Vec::new();
        let options = ReadOptions::default();
        let report = |index: usize, found: Option<&[u8]>| match found {
            Some(bytes) => {
                if let Some(value) = spilled_value(bytes) {
                    values.set(index, value);
                }
            }
            None => rest.push(index),
        };
        read_sorted(&self.db, family, id, keys, indices, &options, report)?;
        Ok(rest)
    }

    /// Forgets what was spilled of a range of a table.
    pub(super) fn delete_range(
        &self,
        family: Family,
        id: TableId,
        range: &KeyRange,
    ) -> Result<(), StateError> {
        let (from, to) = range.prefixed(&table_prefix(id));
        let to = to.ok_or_else(|| StateError::Bug("a range delete without an end".to_string()))?;
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let family = self.db.family(family);
        Ok(self
            .db
            .db()
            .delete_range_cf_opt(family, from, to, &options)?)
    }

    /// The spilled changes of a table, not yet positioned.
    pub(super) fn table_iterator(&self, family: Family, id: TableId) -> OwnedIterator {
        self.iterator(family, &table_prefix(id), ReadOptions::default())
    }

    /// The same for one read of all of them.
    pub(super) fn whole_table(&self, family: Family, id: TableId) -> OwnedIterator {
        let mut iterator = self.iterator(family, &table_prefix(id), whole_read());
        iterator.raw().seek_to_first();
        iterator
    }

    fn iterator(&self, family: Family, prefix: &[u8], mut options: ReadOptions) -> OwnedIterator {
        options.set_iterate_lower_bound(prefix);
        if let Some(end) = prefix_end(prefix) {
            options.set_iterate_upper_bound(end);
        }
        self.db.iterator(family, options)
    }

    /// The number of a new spool.
    pub fn new_spool(&self) -> u32 {
        self.next_spool.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds weights to byte strings of a spool.
    pub fn add_weights(&self, spool: u32, keys: &Keys, weights: &[i64]) -> Result<(), StateError> {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| keys.get(a as usize).cmp(keys.get(b as usize)));
        let is_same = |a: &u32, b: &u32| keys.get(*a as usize) == keys.get(*b as usize);
        let mut whole = spool.to_be_bytes().to_vec();
        self.write_run(Family::Meta, |writer| {
            for same in order.chunk_by(is_same) {
                let sum: i64 = same.iter().map(|&row| weights[row as usize]).sum();
                whole.truncate(4);
                whole.extend_from_slice(keys.get(same[0] as usize));
                writer.merge(&whole, sum.to_le_bytes())?;
            }
            Ok(())
        })
    }

    /// Reads a spool in the order of its bytes.
    pub fn weights(&self, spool: u32) -> WeightScan {
        let mut iterator = self.iterator(Family::Meta, &spool.to_be_bytes(), whole_read());
        iterator.raw().seek_to_first();
        WeightScan {
            iterator,
            is_started: false,
        }
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // What is left is removed at the next start.
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, "temporary files could not be removed");
        }
    }
}

/// Bytes that are read once do not belong in the cache.
fn whole_read() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD_BYTES);
    options
}

/// The bytes of a spool whose weights do not add up to 0, in order.
pub struct WeightScan {
    iterator: OwnedIterator,
    is_started: bool,
}

impl WeightScan {
    /// Moves to the next entry: its bytes and weight; `None` at the end.
    pub fn advance(&mut self) -> Result<Option<(&[u8], i64)>, StateError> {
        loop {
            if self.is_started {
                self.iterator.raw().next();
            }
            self.is_started = true;
            match self.iterator.item() {
                None => {
                    self.iterator.status()?;
                    return Ok(None);
                }
                Some((_, value)) if weight_of(value) == 0 => {}
                Some(_) => break,
            }
        }
        Ok(self
            .iterator
            .item()
            .map(|(key, value)| (&key[4..], weight_of(value))))
    }
}

fn weight_of(value: &[u8]) -> i64 {
    value.try_into().map_or(0, i64::from_le_bytes)
}

/// The merge operator of the meta family: the sum.
pub(super) fn add_up(
    _key: &[u8],
    existing: Option<&[u8]>,
    operands: &rocksdb::MergeOperands,
) -> Option<Vec<u8>> {
    let sum: i64 = existing.into_iter().chain(operands).map(weight_of).sum();
    Some(sum.to_le_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::store::{MemoryPlan, Store, StoreOptions};
    use super::*;

    #[test]
    fn weights_of_equal_bytes_are_added_over_runs() {
        let directory = tempfile::tempdir().unwrap();
        let memory = MemoryPlan {
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: 1 << 20,
        };
        let store = Store::open(&StoreOptions::new(directory.path(), memory)).unwrap();
        let spill = store.spill().unwrap();
        let keys = |keys: &[&str]| -> Keys { keys.iter().map(|key| key.as_bytes()).collect() };
        let (one, other) = (spill.new_spool(), spill.new_spool());
        spill
            .add_weights(one, &keys(&["b", "a", "b"]), &[1, 2, 1])
            .unwrap();
        spill.add_weights(other, &keys(&["a"]), &[7]).unwrap();
        spill
            .add_weights(one, &keys(&["c", "b", ""]), &[-1, -2, 5])
            .unwrap();
        let mut scan = spill.weights(one);
        let mut found = Vec::new();
        while let Some((bytes, weight)) = scan.advance().unwrap() {
            found.push((String::from_utf8(bytes.to_vec()).unwrap(), weight));
        }
        let expected = [("", 5), ("a", 2), ("c", -1)].map(|(key, n)| (key.to_string(), n));
        assert_eq!(found, expected);
        drop((scan, spill));
        store.release_spill();
        let left = std::fs::read_dir(directory.path().join("spill")).unwrap();
        assert_eq!(left.count(), 0);
    }
}
