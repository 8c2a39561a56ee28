//! The stored rows of one table or materialized view.
//!
//! Semantics: `rows := rows + delta` (Z-set addition), with every retraction checked against what is stored.
//! Three layouts: `Keyed` (key -> row), `Bag` (row -> multiplicity) and `Log` (columnar blocks of an append-only
//! relation without a key). The [`RowFormat`] half is immutable and shared with snapshots; the [`RowStore`] half
//! belongs to the writer.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use rivermark_planner::TableId;

use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::state::{Family, KeyCodec, KeyRange, Keys, RowCodec, StateTable, WriteSet};

/// How a relation's rows are laid out in the state store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowLayout {
    /// Storage key: these columns; value: the whole row.
    Keyed(Vec<usize>),
    /// Storage key: the whole row; value: its multiplicity.
    Bag,
    /// Storage key: first ordinal; value: a block of rows.
    Log,
}

/// Everything needed to read a relation's rows from a snapshot.
#[derive(Debug)]
pub struct RowFormat {
    pub table: TableId,
    pub schema: SchemaRef,
    pub layout: RowLayout,
    keys: KeyCodec,
    rows: RowCodec,
}

impl RowFormat {
    pub fn new(table: TableId, schema: SchemaRef, layout: RowLayout) -> Result<Self> {
        let types: Vec<DataType> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let key_types = match &layout {
            RowLayout::Keyed(columns) => columns.iter().map(|&c| types[c].clone()).collect(),
            RowLayout::Bag | RowLayout::Log => Vec::new(),
        };
        Ok(RowFormat { table, schema, layout, keys: KeyCodec::new(key_types, None)?, rows: RowCodec::new(types)? })
    }

    /// The column family that holds the rows.
    pub fn family(&self) -> Family {
        match self.layout {
            RowLayout::Keyed(_) | RowLayout::Bag | RowLayout::Log => Family::Views,
        }
    }

    /// Storage keys of whole rows. Not for `Log`, whose rows have ordinals.
    pub fn storage_keys(&self, columns: &[ArrayRef]) -> Result<Keys> {
        match &self.layout {
            RowLayout::Keyed(key) => {
                let columns: Vec<ArrayRef> = key.iter().map(|&c| columns[c].clone()).collect();
                Ok(self.keys.encode(&columns)?)
            }
            RowLayout::Bag | RowLayout::Log => Ok(self.rows.encode(columns)?),
        }
    }

    /// The storage key's leading columns encoded, for a point or prefix lookup on a `Keyed` relation.
    pub fn key_codec(&self) -> &KeyCodec {
        &self.keys
    }

    /// Rows of stored entries, each as often as its multiplicity says.
    pub fn decode<'a>(&self, entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<RecordBatch> {
        match &self.layout {
            RowLayout::Keyed(_) => self.batch(self.rows.decode(entries.map(|(_, value)| value))?),
            RowLayout::Bag => {
                let mut copies = Vec::new();
                let mut rows = Vec::new();
                for (i, (key, value)) in entries.enumerate() {
                    rows.push(key);
                    copies.resize(copies.len() + multiplicity(value)? as usize, i as u32);
                }
                let distinct = self.batch(self.rows.decode(rows.iter().copied())?)?;
                if copies.len() == distinct.num_rows() {
                    return Ok(distinct);
                }
                Ok(take_record_batch(&distinct, &UInt32Array::from(copies))?)
            }
            RowLayout::Log => {
                let blocks = entries
                    .map(|(_, value)| Ok(crate::state::block::read_block(value, None)?))
                    .collect::<Result<Vec<_>>>()?;
                Ok(concat_batches(&self.schema, blocks.iter().map(|b| &b.batch))?)
            }
        }
    }

    fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(columns.first().map(|c| c.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// A bag entry's value: multiplicity as 8 bytes, big-endian, always positive.
fn multiplicity(value: &[u8]) -> Result<i64> {
    let bytes: [u8; 8] =
        value.try_into().map_err(|_| ExecutorError::Internal("a bag entry's value is not 8 bytes".into()))?;
    Ok(i64::from_be_bytes(bytes))
}

/// The writer's side of a relation's rows.
pub struct RowStore {
    pub format: Arc<RowFormat>,
    state: StateTable,
    /// Rows stored, multiplicities counted; with the epoch's changes.
    rows: u64,
    committed_rows: u64,
    log: crate::log_rows::LogTail,
}

impl RowStore {
    /// `rows` and `log` as the last commit left them.
    pub fn new(format: Arc<RowFormat>, state: StateTable, rows: u64, log: crate::log_rows::LogTail) -> Self {
        RowStore { format, state, rows, committed_rows: rows, log }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The ordinal of the next row of a `Log` relation.
    pub fn log_tail(&self) -> &crate::log_rows::LogTail {
        &self.log
    }

    /// Adds a view's changes. The delta must be consolidated. A retraction of a row that is not stored is a bug of
    /// an operator and fails the view.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        match self.format.layout {
            RowLayout::Keyed(_) => self.apply_keyed(delta),
            RowLayout::Bag => self.apply_bag(delta).map(|_| ()),
            RowLayout::Log => self.append(delta),
        }
    }

    /// One statement's change: all of `delete` must be stored (else `Conflict`), then the keys of `insert` must be
    /// free (else `UniqueViolation`). Nothing is changed on an error. Returns the change as a delta.
    pub fn write(&mut self, delete: Option<&RecordBatch>, insert: Option<&RecordBatch>, name: &str) -> Result<Delta> {
        let mut parts = Vec::new();
        if let Some(delete) = delete {
            parts.push(Delta::retractions(delete.clone()));
        }
        if let Some(insert) = insert {
            parts.push(Delta::insertions(insert.clone()));
        }
        let whole = Delta::concat(self.format.schema.clone(), &parts)?;
        match self.format.layout {
            RowLayout::Keyed(_) => {
                self.write_keyed(&parts, delete.is_some(), name)?;
                Ok(consolidate(whole)?)
            }
            RowLayout::Bag => {
                let net = consolidate(whole)?;
                if self.apply_bag(&net)? { Ok(net) } else { Err(ExecutorError::Conflict) }
            }
            RowLayout::Log => {
                if delete.is_some_and(|d| d.num_rows() > 0) {
                    return Err(ExecutorError::NotReadable {
                        message: format!("\"{name}\" is append-only: rows can not be updated or deleted"),
                    });
                }
                self.append(&whole)?;
                Ok(whole)
            }
        }
    }

    fn apply_keyed(&mut self, delta: &Delta) -> Result<()> {
        let keys = self.format.storage_keys(delta.columns())?;
        let values = self.format.rows.encode(delta.columns())?;
        if delta.weights().is_none() {
            for i in 0..keys.len() {
                self.state.put(keys.get(i), values.get(i));
            }
            self.rows += keys.len() as u64;
            return Ok(());
        }
        let retracted: Vec<usize> = (0..keys.len()).filter(|&i| delta.weight(i) < 0).collect();
        let stored = self.state.get_many(&retracted.iter().map(|&i| keys.get(i)).collect::<Keys>())?;
        for (n, &i) in retracted.iter().enumerate() {
            if stored.get(n) != Some(values.get(i)) {
                return Err(self.mismatch(delta, i));
            }
            self.state.delete(keys.get(i));
        }
        self.rows -= retracted.len() as u64;
        for i in (0..keys.len()).filter(|&i| delta.weight(i) > 0) {
            if delta.weight(i) != 1 {
                return Err(self.mismatch(delta, i));
            }
            self.state.put(keys.get(i), values.get(i));
            self.rows += 1;
        }
        Ok(())
    }

    fn mismatch(&self, delta: &Delta, row: usize) -> ExecutorError {
        ExecutorError::Internal(format!(
            "a change with weight {} does not fit the stored rows of table {:?}: {:?}",
            delta.weight(row),
            self.format.table,
            delta.batch().slice(row, 1),
        ))
    }

    /// Checks all, then applies all. False: a retracted row is not there; nothing was changed.
    fn apply_bag(&mut self, delta: &Delta) -> Result<bool> {
        let keys = self.format.storage_keys(delta.columns())?;
        let stored = self.state.get_many(&keys)?;
        let mut after = Vec::with_capacity(keys.len());
        for i in 0..keys.len() {
            let before = stored.get(i).map_or(Ok(0), multiplicity)?;
            after.push(before + delta.weight(i));
        }
        if after.iter().any(|&m| m < 0) {
            return Ok(false);
        }
        for (i, &count) in after.iter().enumerate() {
            if count == 0 {
                self.state.delete(keys.get(i));
            } else {
                self.state.put(keys.get(i), &count.to_be_bytes());
            }
            self.rows = self.rows.wrapping_add_signed(delta.weight(i));
        }
        Ok(true)
    }

    /// A statement on a keyed table: deletions first, then insertions, all checked before anything is changed.
    fn write_keyed(&mut self, parts: &[Delta], has_deletes: bool, name: &str) -> Result<()> {
        let mut keyed = Vec::with_capacity(parts.len());
        for part in parts {
            let keys = self.format.storage_keys(part.columns())?;
            let stored = self.state.get_many(&keys)?;
            keyed.push((keys, self.format.rows.encode(part.columns())?, stored));
        }
        // What this statement leaves behind, by key; entries as the checks pass.
        let mut after: HashMap<&[u8], Option<&[u8]>> = HashMap::new();
        let mut inserts = 0;
        let mut deletes = 0;
        for (n, (keys, values, stored)) in keyed.iter().enumerate() {
            let is_delete = has_deletes && n == 0;
            for i in 0..keys.len() {
                let current = after.get(keys.get(i)).copied().unwrap_or_else(|| stored.get(i));
                if is_delete {
                    if current != Some(values.get(i)) {
                        return Err(ExecutorError::Conflict);
                    }
                    after.insert(keys.get(i), None);
                    deletes += 1;
                } else {
                    if current.is_some() {
                        return Err(self.unique_violation(parts[n].batch(), i, name));
                    }
                    after.insert(keys.get(i), Some(values.get(i)));
                    inserts += 1;
                }
            }
        }
        for (key, value) in after {
            match value {
                Some(value) => self.state.put(key, value),
                None => self.state.delete(key),
            }
        }
        self.rows = self.rows + inserts - deletes;
        Ok(())
    }

    /// Undoes a `write` of this epoch, given the delta it returned. Later writes must have been undone before.
    pub fn take_back(&mut self, delta: &Delta) -> Result<()> {
        match self.format.layout {
            RowLayout::Keyed(_) => {
                let keys = self.format.storage_keys(delta.columns())?;
                let values = self.format.rows.encode(delta.columns())?;
                for i in (0..keys.len()).filter(|&i| delta.weight(i) > 0) {
                    self.state.delete(keys.get(i));
                    self.rows -= 1;
                }
                for i in (0..keys.len()).filter(|&i| delta.weight(i) < 0) {
                    self.state.put(keys.get(i), values.get(i));
                    self.rows += 1;
                }
                Ok(())
            }
            RowLayout::Bag => {
                let negated: Int64Array = (0..delta.num_rows()).map(|i| -delta.weight(i)).collect::<Vec<_>>().into();
                self.apply_bag(&Delta::new(delta.batch().clone(), Some(negated))).map(|_| ())
            }
            RowLayout::Log => {
                self.rows -= delta.num_rows() as u64;
                self.log.take_back(&mut self.state, delta.num_rows());
                Ok(())
            }
        }
    }

    fn unique_violation(&self, batch: &RecordBatch, row: usize, name: &str) -> ExecutorError {
        let RowLayout::Keyed(key) = &self.format.layout else { return ExecutorError::Conflict };
        let options = arrow::util::display::FormatOptions::default().with_null("null");
        let text = |c: &usize| {
            arrow::util::display::ArrayFormatter::try_new(batch.column(*c), &options)
                .map(|f| f.value(row).to_string())
                .unwrap_or_default()
        };
        let names: Vec<&str> = key.iter().map(|&c| self.format.schema.field(c).name().as_str()).collect();
        let values: Vec<String> = key.iter().map(text).collect();
        ExecutorError::UniqueViolation {
            constraint: format!("{name}_pkey"),
            detail: format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")),
        }
    }

    fn append(&mut self, delta: &Delta) -> Result<()> {
        if let Some(weights) = delta.weights() {
            if weights.values().iter().any(|&w| w != 1) {
                return Err(ExecutorError::Internal("an append-only relation got a retraction".into()));
            }
        }
        self.log.append(&mut self.state, delta.batch())?;
        self.rows += delta.num_rows() as u64;
        Ok(())
    }

    /// The next at most about `limit` rows after `cursor` (a storage key; `None`: from the start), through the
    /// epoch's overlay, and the new cursor; `None` when the end was reached.
    pub fn chunk(&self, cursor: Option<&[u8]>, limit: usize) -> Result<(Delta, Option<Vec<u8>>)> {
        let start = cursor.map(|c| [c, &[0]].concat()).unwrap_or_default();
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut rows = 0;
        let mut is_end = true;
        for entry in self.state.scan(&KeyRange::new(start, None))? {
            let (key, value) = entry?;
            if rows >= limit {
                is_end = false;
                break;
            }
            rows += match self.format.layout {
                RowLayout::Keyed(_) => 1,
                RowLayout::Bag => multiplicity(&value)? as usize,
                RowLayout::Log => crate::state::block::row_count(&value)?,
            };
            entries.push((key.to_vec(), value.to_vec()));
        }
        let batch = self.format.decode(entries.iter().map(|(k, v)| (k.as_slice(), v.as_slice())))?;
        let next = if is_end { None } else { entries.pop().map(|(key, _)| key) };
        Ok((Delta::insertions(batch), next))
    }

    /// The part of `delta` whose rows lie at or before `cursor`: those a backfill has read already.
    pub fn before_cursor(&self, delta: &Delta, cursor: Option<&[u8]>) -> Result<Delta> {
        let Some(cursor) = cursor else { return Ok(Delta::empty(delta.schema())) };
        if self.format.layout == RowLayout::Log {
            // Rows are only ever appended behind the cursor.
            return Ok(Delta::empty(delta.schema()));
        }
        let keys = self.format.storage_keys(delta.columns())?;
        let rows: Vec<u32> = (0..keys.len()).filter(|&i| keys.get(i) <= cursor).map(|i| i as u32).collect();
        Ok(delta.take(&UInt32Array::from(rows))?)
    }

    /// Merges small blocks of a `Log` relation where enough have come together.
    pub fn merge_log(&mut self) -> Result<()> {
        self.log.merge(&mut self.state)
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.state.drain_into(writes);
    }

    pub fn committed(&mut self) {
        self.state.committed();
        self.committed_rows = self.rows;
        self.log.committed();
    }

    pub fn discard(&mut self) {
        self.state.discard();
        self.rows = self.committed_rows;
        self.log.discard();
    }
}
