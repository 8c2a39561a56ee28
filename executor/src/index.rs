//! Indexes of a relation's rows: how entries are laid out, and how the writer keeps them.
//!
//! ```text
//! key:    | index columns, KeyCodec | locator |      value: | length of the columns' part, 4 bytes LE |
//! locator: the row's storage key; in a `Log` relation the row's ordinal, 8 bytes BE
//! ```
//! A row that is stored has exactly one entry in every complete index, in the same commit. While an index is being
//! built every change of the rows is applied to it, wherever the build stands: putting or deleting an entry twice
//! changes nothing, so what the build reads later agrees with what it finds.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use rivermark_planner::TableId;
use rivermark_planner::catalog::{IndexDef, ObjectId};
use serde::{Deserialize, Serialize};

use crate::error::{ExecutorError, Result};
use crate::meta;
use crate::rows::ROWS_FAMILY;
use crate::state::{CacheHandle, KeyCodec, Keys, StateTable, Store, WriteSet};

/// Everything needed to read an index from a snapshot.
#[derive(Debug)]
pub struct IndexFormat {
    pub id: ObjectId,
    pub name: String,
    pub table: TableId,
    /// Indices into the relation's columns.
    pub columns: Vec<usize>,
    pub options: Vec<SortOptions>,
    pub keys: KeyCodec,
}

impl IndexFormat {
    pub fn new(id: ObjectId, name: &str, def: &IndexDef, schema: &SchemaRef) -> Result<Self> {
        let columns: Vec<usize> = def.columns.iter().map(|c| c.column).collect();
        let types = columns
            .iter()
            .map(|&c| schema.field(c).data_type().clone())
            .collect();
        let options: Vec<SortOptions> = def
            .columns
            .iter()
            .map(|c| SortOptions {
                descending: c.is_descending,
                nulls_first: c.nulls_first,
            })
            .collect();
        Ok(IndexFormat {
            id,
            name: name.to_string(),
            table: def.entries,
            columns,
            keys: KeyCodec::new(types, Some(options.clone()))?,
            options,
        })
    }

    /// The entries of rows: keys and values.
    fn entries(&self, rows: &[ArrayRef], locators: &Keys) -> Result<Entries> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&c| rows[c].clone()).collect();
        let prefixes = self.keys.encode(&columns)?;
        let bytes = prefixes.data_len() + locators.data_len();
        let mut keys = Keys::with_capacity(prefixes.len(), bytes);
        let mut prefix_lens = Vec::with_capacity(prefixes.len());
        for (prefix, locator) in prefixes.iter().zip(locators.iter()) {
            keys.push_with(|out| {
                out.extend_from_slice(prefix);
                out.extend_from_slice(locator);
            });
            prefix_lens.push(prefix.len() as u32);
        }
        Ok(Entries { keys, prefix_lens })
    }
}

/// The locator within an entry.
pub fn locator<'a>(key: &'a [u8], value: &[u8]) -> Result<&'a [u8]> {
    let len: Option<[u8; 4]> = value.try_into().ok();
    len.and_then(|len| key.get(u32::from_le_bytes(len) as usize..))
        .ok_or_else(|| ExecutorError::Internal("an index entry is damaged".into()))
}

/// Entries of one index, one for each of some rows.
pub struct Entries {
    keys: Keys,
    prefix_lens: Vec<u32>,
}

/// What survives a restart in the middle of building an index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexProgress {
    /// Rows up to this storage key or ordinal have entries.
    pub cursor: Option<Vec<u8>>,
}

/// The writer's side of one index.
pub struct RowIndex {
    pub format: Arc<IndexFormat>,
    state: StateTable,
    pub is_complete: bool,
    pub progress: IndexProgress,
    committed: (bool, IndexProgress),
}

impl RowIndex {
    pub fn new(
        format: IndexFormat,
        is_complete: bool,
        progress: IndexProgress,
        store: &Store,
    ) -> Self {
        // Entries are only ever written here: no cache.
        let state = StateTable::new(
            format.table,
            ROWS_FAMILY,
            store.clone(),
            CacheHandle::new(0),
        );
        RowIndex {
            format: Arc::new(format),
            state,
            is_complete,
            committed: (is_complete, progress.clone()),
            progress,
        }
    }

    fn put(&mut self, entries: &Entries, row: usize) {
        let value = entries.prefix_lens[row].to_le_bytes();
        self.state.put(entries.keys.get(row), &value);
    }

    fn delete(&mut self, entries: &Entries, row: usize) {
        self.state.delete(entries.keys.get(row));
    }

    /// Adds rows that the build has read; `cursor` is where it goes on, `None` at the end.
    pub fn add_built(
        &mut self,
        rows: &[ArrayRef],
        locators: &Keys,
        cursor: Option<Vec<u8>>,
    ) -> Result<()> {
        let entries = self.format.entries(rows, locators)?;
        for row in 0..entries.keys.len() {
            self.put(&entries, row);
        }
        self.is_complete = cursor.is_none();
        self.progress = IndexProgress { cursor };
        Ok(())
    }

    fn drain_into(&mut self, writes: &mut WriteSet) -> Result<()> {
        self.state.drain_into(writes);
        if (self.is_complete, &self.progress) != (self.committed.0, &self.committed.1) {
            let key = meta::index_key(self.format.id);
            match self.is_complete {
                true => writes.delete_meta(&key),
                false => meta::put(writes, &key, &self.progress)?,
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.state.committed();
        self.committed = (self.is_complete, self.progress.clone());
    }

    fn discard(&mut self) {
        self.state.discard();
        (self.is_complete, self.progress) = self.committed.clone();
    }
}

/// All indexes of a relation.
#[derive(Default)]
pub struct RowIndexes(Vec<RowIndex>);

/// Entries of some rows, by index.
pub struct RowEntries(Vec<Entries>);

impl RowIndexes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, index: RowIndex) {
        self.0.push(index);
    }

    pub fn remove(&mut self, id: ObjectId) {
        self.0.retain(|index| index.format.id != id);
    }

    /// Formats of those that queries may use.
    pub fn complete(&self) -> Vec<Arc<IndexFormat>> {
        let complete = self.0.iter().filter(|index| index.is_complete);
        complete.map(|index| index.format.clone()).collect()
    }

    /// Those that are being built.
    pub fn building(&mut self) -> impl Iterator<Item = &mut RowIndex> {
        self.0.iter_mut().filter(|index| !index.is_complete)
    }

    /// The entries of rows; nothing is changed yet.
    pub fn entries(&self, rows: &[ArrayRef], locators: &Keys) -> Result<RowEntries> {
        let entries = self.0.iter().map(|i| i.format.entries(rows, locators));
        entries.collect::<Result<_>>().map(RowEntries)
    }

    /// A row is stored now.
    pub fn put(&mut self, entries: &RowEntries, row: usize) {
        for (index, entries) in self.0.iter_mut().zip(&entries.0) {
            index.put(entries, row);
        }
    }

    /// A row is not stored any more.
    pub fn delete(&mut self, entries: &RowEntries, row: usize) {
        for (index, entries) in self.0.iter_mut().zip(&entries.0) {
            index.delete(entries, row);
        }
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) -> Result<()> {
        self.0.iter_mut().try_for_each(|i| i.drain_into(writes))
    }

    pub fn committed(&mut self) {
        self.0.iter_mut().for_each(RowIndex::committed);
    }

    pub fn discard(&mut self) {
        self.0.iter_mut().for_each(RowIndex::discard);
    }
}
