//! What a transaction has changed of one table and not yet committed: read on top of a snapshot's rows, and given to
//! the writer as one change.
//!
//! Semantics: the transaction sees `stored + own` (Z-sets), which is what its commit leaves if nobody else interferes.
//! However many statements wrote the table, the commit carries the difference between its rows before and after.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use rivermark_planner::catalog::ObjectId;

use crate::api::TableWrite;
use crate::error::{ExecutorError, Result};
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout, multiplicity};
use crate::snapshot::Snapshot;

/// What an entry takes besides its key and value.
const ENTRY_BYTES: usize = 96;
/// Rows decoded at once.
const BATCH_ENTRIES: usize = 8192;

/// One table's uncommitted changes. A clone is a copy.
#[derive(Debug, Clone)]
pub struct OwnWrites {
    table: ObjectId,
    /// As in error messages.
    name: String,
    format: Arc<RowFormat>,
    rows: OwnRows,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum OwnRows {
    /// By storage key.
    Keyed(BTreeMap<Vec<u8>, KeyChange>),
    /// By row: the change of its multiplicity.
    Bag(BTreeMap<Vec<u8>, i64>),
    /// Appended rows.
    Log(Vec<RecordBatch>),
}

/// A key's row before the transaction and now.
#[derive(Debug, Clone)]
struct KeyChange {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl OwnWrites {
    pub(crate) fn new(table: ObjectId, name: String, format: Arc<RowFormat>) -> OwnWrites {
        let rows = match format.layout {
            RowLayout::Keyed(_) => OwnRows::Keyed(BTreeMap::new()),
            RowLayout::Bag => OwnRows::Bag(BTreeMap::new()),
            RowLayout::Log => OwnRows::Log(Vec::new()),
        };
        OwnWrites {
            table,
            name,
            format,
            rows,
            bytes: 0,
        }
    }

    /// An upper bound of what they take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a statement's change. A key that the transaction or `taken`, the newest snapshot, has is a
    /// `UniqueViolation` already here, so that the statement fails and not the commit; the writer has the last word.
    pub fn add(&mut self, taken: &Snapshot, write: &TableWrite) -> Result<()> {
        let (delete, insert) = (write.delete.as_ref(), write.insert.as_ref());
        match self.rows {
            OwnRows::Keyed(_) => {
                if let Some(rows) = delete {
                    self.delete_keyed(rows)?;
                }
                if let Some(rows) = insert {
                    self.insert_keyed(taken, rows)?;
                }
            }
            OwnRows::Bag(_) => {
                if let Some(rows) = delete {
                    self.count(rows, -1)?;
                }
                if let Some(rows) = insert {
                    self.count(rows, 1)?;
                }
            }
            OwnRows::Log(ref mut batches) => {
                if let Some(rows) = insert {
                    self.bytes += rows.get_array_memory_size();
                    batches.push(rows.clone());
                }
            }
        }
        Ok(())
    }

    fn delete_keyed(&mut self, rows: &RecordBatch) -> Result<()> {
        let OwnRows::Keyed(changes) = &mut self.rows else {
            return Ok(());
        };
        let keys = self.format.storage_keys(rows.columns())?;
        let values = self.format.rows.encode(rows.columns())?;
        for i in 0..keys.len() {
            let (key, value) = (keys.get(i), values.get(i));
            match changes.get_mut(key) {
                // The row was new in this transaction.
                Some(change) if change.before.is_none() => drop(changes.remove(key)),
                Some(change) => change.after = None,
                None => {
                    let change = KeyChange {
                        before: Some(value.to_vec()),
                        after: None,
                    };
                    self.bytes += key.len() + value.len() + ENTRY_BYTES;
                    changes.insert(key.to_vec(), change);
                }
            }
        }
        Ok(())
    }

    fn insert_keyed(&mut self, taken: &Snapshot, rows: &RecordBatch) -> Result<()> {
        let OwnRows::Keyed(changes) = &mut self.rows else {
            return Ok(());
        };
        let keys = self.format.storage_keys(rows.columns())?;
        let values = self.format.rows.encode(rows.columns())?;
        let stored = taken
            .store
            .get_many(ROWS_FAMILY, self.format.table, &keys)?;
        for i in 0..keys.len() {
            let (key, value) = (keys.get(i), values.get(i));
            let is_taken = match changes.get(key) {
                Some(change) => change.after.is_some(),
                None => stored.get(i).is_some(),
            };
            if is_taken {
                return Err(self.format.unique_violation(rows, i, &self.name));
            }
            self.bytes += key.len() + value.len() + ENTRY_BYTES;
            let change = changes.entry(key.to_vec()).or_insert(KeyChange {
                before: None,
                after: None,
            });
            change.after = Some(value.to_vec());
        }
        Ok(())
    }

    fn count(&mut self, rows: &RecordBatch, weight: i64) -> Result<()> {
        let OwnRows::Bag(counts) = &mut self.rows else {
            return Ok(());
        };
        let keys = self.format.storage_keys(rows.columns())?;
        for key in keys.iter() {
            match counts.get_mut(key) {
                Some(count) => *count += weight,
                None => {
                    self.bytes += key.len() + ENTRY_BYTES;
                    counts.insert(key.to_vec(), weight);
                }
            }
        }
        Ok(())
    }

    /// Whether the change takes stored rows away, so that it can meet a `Conflict`.
    pub fn takes_away(&self) -> bool {
        match &self.rows {
            OwnRows::Keyed(changes) => changes.values().any(|change| change.before.is_some()),
            OwnRows::Bag(counts) => counts.values().any(|&count| count < 0),
            OwnRows::Log(_) => false,
        }
    }

    /// The whole change as one; `None` if nothing has changed in the end.
    pub fn net(&self) -> Result<Option<TableWrite>> {
        let (delete, insert) = match &self.rows {
            OwnRows::Keyed(changes) => {
                let changed = || changes.iter().filter(|(_, c)| c.before != c.after);
                let before =
                    changed().filter_map(|(key, c)| Some((slice(key), c.before.as_deref()?)));
                let after =
                    changed().filter_map(|(key, c)| Some((slice(key), c.after.as_deref()?)));
                (self.format.decode(before)?, self.format.decode(after)?)
            }
            OwnRows::Bag(counts) => {
                let rows = |sign: i64| {
                    let copies: Vec<_> = counts
                        .iter()
                        .map(|(key, count)| (slice(key), (count * sign).max(0)))
                        .filter(|(_, copies)| *copies > 0)
                        .map(|(key, copies)| (key, copies.to_be_bytes()))
                        .collect();
                    self.format
                        .decode(copies.iter().map(|(key, copies)| (*key, &copies[..])))
                };
                (rows(-1)?, rows(1)?)
            }
            OwnRows::Log(batches) => {
                let schema = &self.format.schema;
                let nothing = RecordBatch::new_empty(schema.clone());
                (nothing, concat_batches(schema, batches)?)
            }
        };
        let some = |rows: RecordBatch| (rows.num_rows() > 0).then_some(rows);
        let (delete, insert) = (some(delete), some(insert));
        let is_change = delete.is_some() || insert.is_some();
        Ok(is_change.then_some(TableWrite {
            table: self.table,
            delete,
            insert,
        }))
    }

    /// What a key holds now, if it was written: `Some(None)` for a row that was taken away.
    pub(crate) fn row_of(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        match &self.rows {
            OwnRows::Keyed(changes) => changes.get(key).map(|change| change.after.as_deref()),
            OwnRows::Bag(_) | OwnRows::Log(_) => None,
        }
    }

    /// The change of a row's multiplicity.
    pub(crate) fn copies_of(&self, key: &[u8]) -> i64 {
        match &self.rows {
            OwnRows::Bag(counts) => counts.get(key).copied().unwrap_or_default(),
            OwnRows::Keyed(_) | OwnRows::Log(_) => 0,
        }
    }

    /// What is left of stored entries.
    pub(crate) fn left_of<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<RecordBatch> {
        match &self.rows {
            OwnRows::Keyed(changes) => self
                .format
                .decode(entries.filter(|(key, _)| !changes.contains_key(*key))),
            OwnRows::Bag(counts) => {
                let mut left = Vec::new();
                for (key, value) in entries {
                    let removed = counts.get(key).map_or(0, |&count| count.min(0));
                    let copies = multiplicity(value)? + removed;
                    if copies > 0 {
                        left.push((key, copies.to_be_bytes()));
                    }
                }
                self.format
                    .decode(left.iter().map(|(key, copies)| (*key, &copies[..])))
            }
            OwnRows::Log(_) => Err(ExecutorError::Internal("blocks are not entries".into())),
        }
    }

    /// The rows that come on top of the stored ones.
    pub(crate) fn added(&self) -> Result<Vec<RecordBatch>> {
        let entries: Vec<(&[u8], [u8; 8])> = match &self.rows {
            OwnRows::Keyed(changes) => {
                let rows: Vec<(&[u8], &[u8])> = changes
                    .iter()
                    .filter_map(|(key, change)| Some((slice(key), change.after.as_deref()?)))
                    .collect();
                let batches = rows.chunks(BATCH_ENTRIES);
                return batches
                    .map(|rows| self.format.decode(rows.iter().copied()))
                    .collect();
            }
            OwnRows::Bag(counts) => counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(key, count)| (slice(key), count.to_be_bytes()))
                .collect(),
            OwnRows::Log(batches) => return Ok(batches.clone()),
        };
        let batches = entries.chunks(BATCH_ENTRIES);
        batches
            .map(|rows| {
                self.format
                    .decode(rows.iter().map(|(key, copies)| (*key, &copies[..])))
            })
            .collect()
    }
}

fn slice(bytes: &Vec<u8>) -> &[u8] {
    bytes
}
