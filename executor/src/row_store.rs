//! The writer's side of the rows of one table or materialized view.
//!
//! Semantics: `rows := rows + delta` (Z-set addition). What statements retract is all compared with what is stored, of what
//! operators retract some.

mod backfill;
mod forget;
#[cfg(test)]
mod forget_tests;
mod insert;
#[cfg(test)]
mod insert_tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};

use rivermark_planner::catalog::ObjectId;

use self::forget::Floor;
use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::index::{IndexFormat, RowEntries, RowIndex, RowIndexes};
use crate::index_build::{log_chunk, stored_chunk};
use crate::operator_stats::{OperatorReport, OperatorStats};
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout, multiplicity};
use crate::spool::{EncodedPiece, RelationChange, SpooledDelta};
use crate::state::{BlockTable, CacheHandle, Keys, StateTable, Store, WriteSet, prepare_merge};

/// Appends between two looks for small blocks to merge.
const APPENDS_PER_MERGE: u32 = 64;
/// How far back from the end small blocks are looked for.
const MERGE_WINDOW_ROWS: u64 = 4 * 65_536;

/// Retractions of a change that are compared with what is stored. An operator that goes wrong does so for many rows, and
/// comparing all would double what keeping a view's rows costs; a build with assertions compares all (`None`).
const CHECKED_RETRACTIONS: Option<usize> = if cfg!(debug_assertions) {
    None
} else {
    Some(64)
};

/// The writer's side of a relation's rows.
pub struct RowStore {
    pub format: Arc<RowFormat>,
    state: StateTable,
    /// Set for the `Log` layout, which does not use `state`.
    blocks: Option<BlockTable>,
    appends: u32,
    indexes: RowIndexes,
    store: Store,
    /// Rows stored, multiplicities counted; with the epoch's changes.
    rows: u64,
    committed_rows: u64,
    floor: Floor,
}

impl RowStore {
    /// `rows`: how many the last commit left.
    pub fn new(
        format: Arc<RowFormat>,
        rows: u64,
        store: &Store,
        cache: &CacheHandle,
    ) -> Result<Self> {
        let state = StateTable::new(format.table, ROWS_FAMILY, store.clone(), cache.clone());
        let blocks = match format.layout {
            RowLayout::Keyed(_) | RowLayout::Bag => None,
            RowLayout::Log => Some(BlockTable::new(
                format.table,
                ROWS_FAMILY,
                store.clone(),
                format.schema.clone(),
            )?),
        };
        Ok(RowStore {
            format,
            state,
            blocks,
            appends: 0,
            indexes: RowIndexes::default(),
            store: store.clone(),
            rows,
            committed_rows: rows,
            floor: Floor::default(),
        })
    }

    /// Goes on with other names and nullability; the rows stay as they are.
    pub fn set_format(&mut self, format: RowFormat) {
        debug_assert!(format.table == self.format.table && format.layout == self.format.layout);
        if let Some(blocks) = &mut self.blocks {
            blocks.set_schema(format.schema.clone());
        }
        self.format = Arc::new(format);
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a view's changes. A retraction that is found to be of a row that is not stored is a bug of an operator and fails
    /// the view.
    pub fn apply(&mut self, change: &RelationChange) -> Result<()> {
        match change {
            RelationChange::Delta(delta) => self.apply_delta(delta),
            RelationChange::Spooled(spooled) => {
                let mut pieces = spooled.pieces();
                while let Some(piece) = pieces.next_piece()? {
                    self.apply_piece(spooled, piece)?;
                }
                Ok(())
            }
        }
    }

    /// As [`Self::apply`]; the delta must be consolidated.
    pub fn apply_delta(&mut self, delta: &Delta) -> Result<()> {
        let delta = &self.above_floor(delta)?;
        match self.format.layout {
            RowLayout::Keyed(_) => {
                let keys = self.format.storage_keys(delta.columns())?;
                let values = self.format.rows.encode(delta.columns())?;
                let entries = self.indexes.entries(delta.columns(), &keys)?;
                let weights = delta.weights().map(|w| &w.values()[..]);
                let bad_row = self.apply_keyed(&keys, &values, weights, &entries)?;
                bad_row.map_or(Ok(()), |row| Err(self.mismatch(delta, row)))
            }
            RowLayout::Bag => match self.apply_bag(delta)? {
                true => Ok(()),
                false => Err(ExecutorError::Internal(format!(
                    "rows are retracted that table {:?} does not have",
                    self.format.table
                ))),
            },
            RowLayout::Log => self.append(delta),
        }
    }

    fn apply_piece(&mut self, spooled: &SpooledDelta, piece: EncodedPiece) -> Result<()> {
        match self.format.layout {
            RowLayout::Keyed(_) if self.indexes.is_empty() && !self.reaches_floor(&piece)? => {
                let EncodedPiece {
                    storage_keys,
                    rows,
                    weights,
                } = &piece;
                let no_entries = self.indexes.entries(&[], storage_keys)?;
                let bad_row = self.apply_keyed(storage_keys, rows, Some(weights), &no_entries)?;
                match bad_row {
                    None => Ok(()),
                    Some(row) => Err(self.mismatch(&spooled.decode(&piece)?, row)),
                }
            }
            RowLayout::Keyed(_) | RowLayout::Bag | RowLayout::Log => {
                self.apply_delta(&spooled.decode(&piece)?)
            }
        }
    }

    /// One statement's change: all of `delete` must be stored (else `Conflict`), then the keys of `insert` must be
    /// free (else `UniqueViolation`). Nothing is changed on an error. Returns the change as a delta.
    pub fn write(
        &mut self,
        delete: Option<&RecordBatch>,
        insert: Option<&RecordBatch>,
        name: &str,
    ) -> Result<Delta> {
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
            RowLayout::Bag if delete.is_none() => {
                self.insert_bag(&whole)?;
                Ok(whole)
            }
            RowLayout::Bag => {
                let net = consolidate(whole)?;
                if self.apply_bag(&net)? {
                    Ok(net)
                } else {
                    Err(ExecutorError::Conflict)
                }
            }
            RowLayout::Log => {
                if delete.is_some_and(|d| d.num_rows() > 0) {
                    return Err(ExecutorError::NotReadable {
                        message: format!(
                            "\"{name}\" is append-only: rows can not be updated or deleted"
                        ),
                    });
                }
                self.append(&whole)?;
                Ok(whole)
            }
        }
    }

    /// Retractions first, then insertions; `weights`: `None` for insertions only. The first row that does not fit what
    /// is stored, if there is one; then part of the change is applied.
    fn apply_keyed(
        &mut self,
        keys: &Keys,
        values: &Keys,
        weights: Option<&[i64]>,
        entries: &RowEntries,
    ) -> Result<Option<usize>> {
        let Some(weights) = weights else {
            for i in 0..keys.len() {
                self.state.put(keys.get(i), values.get(i));
                self.indexes.put(entries, i);
            }
            self.rows += keys.len() as u64;
            return Ok(None);
        };
        let retracted: Vec<usize> = (0..keys.len()).filter(|&i| weights[i] < 0).collect();
        let step = CHECKED_RETRACTIONS.map_or(1, |most| retracted.len().div_ceil(most).max(1));
        // Other ones each time.
        let first = self.rows as usize % step;
        let checked: Vec<usize> = retracted
            .iter()
            .skip(first)
            .step_by(step)
            .copied()
            .collect();
        let stored = self
            .state
            .get_many(&checked.iter().map(|&i| keys.get(i)).collect::<Keys>())?;
        for (n, &i) in checked.iter().enumerate() {
            if stored.get(n) != Some(values.get(i)) {
                return Ok(Some(i));
            }
        }
        for &i in &retracted {
            self.state.delete(keys.get(i));
            self.indexes.delete(entries, i);
        }
        let left = self.rows.checked_sub(retracted.len() as u64);
        self.rows = left.ok_or_else(|| {
            let table = self.format.table;
            ExecutorError::Internal(format!("more rows are retracted than table {table:?} has"))
        })?;
        for i in (0..keys.len()).filter(|&i| weights[i] > 0) {
            if weights[i] != 1 {
                return Ok(Some(i));
            }
            self.state.put(keys.get(i), values.get(i));
            self.indexes.put(entries, i);
            self.rows += 1;
        }
        Ok(None)
    }

    fn mismatch(&self, delta: &Delta, row: usize) -> ExecutorError {
        ExecutorError::Internal(format!(
            "a change with weight {} does not fit the stored rows of table {:?}: {:?}",
            delta.weight(row),
            self.format.table,
            delta.batch().slice(row, 1),
        ))
    }

    /// Checks all, then applies all. False: a retracted row is not there; nothing was changed. Equal rows may come
    /// several times: consolidation leaves a delta without retractions as it is.
    fn apply_bag(&mut self, delta: &Delta) -> Result<bool> {
        let keys = self.format.storage_keys(delta.columns())?;
        let entries = self.indexes.entries(delta.columns(), &keys)?;
        let stored = self.state.get_many(&keys)?;
        // With the first of the equal rows.
        let mut after: HashMap<&[u8], (usize, i64)> = HashMap::with_capacity(keys.len());
        for i in 0..keys.len() {
            let (_, count) = match after.entry(keys.get(i)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    entry.insert((i, stored.get(i).map_or(Ok(0), multiplicity)?))
                }
            };
            *count += delta.weight(i);
        }
        if after.values().any(|&(_, count)| count < 0) {
            return Ok(false);
        }
        for (key, (i, count)) in after {
            if count == 0 {
                self.state.delete(key);
                self.indexes.delete(&entries, i);
            } else {
                self.state.put(key, &count.to_be_bytes());
                self.indexes.put(&entries, i);
            }
        }
        for i in 0..keys.len() {
            self.rows = self.rows.wrapping_add_signed(delta.weight(i));
        }
        Ok(true)
    }

    /// A statement on a keyed table: deletions first, then insertions, all checked before anything is changed.
    fn write_keyed(&mut self, parts: &[Delta], has_deletes: bool, name: &str) -> Result<()> {
        if let ([only], false) = (parts, has_deletes) {
            return self.insert_keyed(only, name);
        }
        let mut keyed = Vec::with_capacity(parts.len());
        let mut entries = Vec::with_capacity(parts.len());
        for part in parts {
            let keys = self.format.storage_keys(part.columns())?;
            let stored = self.state.get_many(&keys)?;
            entries.push(self.indexes.entries(part.columns(), &keys)?);
            keyed.push((keys, self.format.rows.encode(part.columns())?, stored));
        }
        // What this statement leaves behind, by key; entries as the checks pass.
        let mut after: HashMap<&[u8], Option<&[u8]>> = HashMap::new();
        let mut inserts = 0;
        let mut deletes = 0;
        for (n, (keys, values, stored)) in keyed.iter().enumerate() {
            let is_delete = has_deletes && n == 0;
            for i in 0..keys.len() {
                let current = after
                    .get(keys.get(i))
                    .copied()
                    .unwrap_or_else(|| stored.get(i));
                if is_delete {
                    if current != Some(values.get(i)) {
                        return Err(ExecutorError::Conflict);
                    }
                    after.insert(keys.get(i), None);
                    deletes += 1;
                } else {
                    if current.is_some() {
                        return Err(self.format.unique_violation(parts[n].batch(), i, name));
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
        // Deletions come first, here as above: an updated row may keep its entry.
        for (n, (entries, part)) in entries.iter().zip(parts).enumerate() {
            for i in 0..part.num_rows() {
                match has_deletes && n == 0 {
                    true => self.indexes.delete(entries, i),
                    false => self.indexes.put(entries, i),
                }
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
                let entries = self.indexes.entries(delta.columns(), &keys)?;
                for i in (0..keys.len()).filter(|&i| delta.weight(i) > 0) {
                    self.state.delete(keys.get(i));
                    self.indexes.delete(&entries, i);
                    self.rows -= 1;
                }
                for i in (0..keys.len()).filter(|&i| delta.weight(i) < 0) {
                    self.state.put(keys.get(i), values.get(i));
                    self.indexes.put(&entries, i);
                    self.rows += 1;
                }
                Ok(())
            }
            RowLayout::Bag => {
                let negated: Int64Array = (0..delta.num_rows())
                    .map(|i| -delta.weight(i))
                    .collect::<Vec<_>>()
                    .into();
                self.apply_bag(&Delta::new(delta.batch().clone(), Some(negated)))
                    .map(|_| ())
            }
            // Written after all other tables of a transaction, when nothing can fail any more.
            RowLayout::Log => Err(ExecutorError::Internal(
                "appended rows are never taken back".into(),
            )),
        }
    }

    fn append(&mut self, delta: &Delta) -> Result<()> {
        // Joins give equal rows together.
        let Some(delta) = &delta.repeated()? else {
            return Err(ExecutorError::Internal(
                "an append-only relation got a retraction".into(),
            ));
        };
        if let Some(blocks) = &mut self.blocks {
            let first = blocks.next_ordinal();
            let locators = ordinals(first, delta.num_rows());
            let entries = self.indexes.entries(delta.columns(), &locators)?;
            blocks.append(delta.batch())?;
            if !self.indexes.is_empty() {
                (0..delta.num_rows()).for_each(|i| self.indexes.put(&entries, i));
            }
            self.appends += 1;
        }
        self.rows += delta.num_rows() as u64;
        Ok(())
    }

    /// Adds an index; it is built from the stored rows unless it says that it is complete.
    pub fn add_index(&mut self, index: RowIndex) {
        self.indexes.add(index);
    }

    pub fn remove_index(&mut self, id: ObjectId) {
        self.indexes.remove(id);
    }

    /// Indexes that queries may use.
    pub fn complete_indexes(&self) -> Vec<Arc<IndexFormat>> {
        self.indexes.complete()
    }

    pub fn has_incomplete_index(&mut self) -> bool {
        self.indexes.building().next().is_some()
    }

    /// Reads the next at most `limit` rows for each index that is being built; those that are complete now, and how
    /// many rows were read.
    pub fn build_indexes(&mut self, limit: usize) -> Result<(Vec<ObjectId>, usize)> {
        let mut completed = Vec::new();
        let mut rows_read = 0;
        for index in self.indexes.building() {
            let cursor = index.progress.cursor.as_deref();
            let chunk = match &self.blocks {
                Some(blocks) => log_chunk(&self.format, blocks, cursor, limit)?,
                None => stored_chunk(&self.format, &self.state, cursor, limit)?,
            };
            rows_read += chunk.locators.len();
            index.add_built(&chunk.columns, &chunk.locators, chunk.cursor)?;
            if index.is_complete {
                completed.push(index.format.id);
            }
        }
        Ok((completed, rows_read))
    }

    /// Merges small blocks of a `Log` relation, now and then.
    pub fn merge_blocks(&mut self) -> Result<()> {
        let Some(blocks) = &mut self.blocks else {
            return Ok(());
        };
        if self.appends < APPENDS_PER_MERGE {
            return Ok(());
        }
        self.appends = 0;
        let from = blocks.next_ordinal().saturating_sub(MERGE_WINDOW_ROWS);
        let place = (ROWS_FAMILY, self.format.table);
        if let Some(merged) =
            prepare_merge(&self.store.snapshot(), place, &self.format.schema, from)?
        {
            blocks.apply_merge(&merged)?;
        }
        Ok(())
    }

    /// What `rivermark.operators` says of it.
    pub fn report(&mut self, stats: OperatorStats) -> OperatorReport {
        let mut report = OperatorReport::new("Materialize", stats, [&mut self.state]);
        report.keys = Some(self.rows);
        report
    }

    /// The epoch goes on with other relations: makes room for them, if they need it.
    pub fn set_aside(&mut self) -> Result<()> {
        self.indexes.set_aside()?;
        match &mut self.blocks {
            Some(blocks) => Ok(blocks.set_aside()?),
            None => Ok(self.state.set_aside()?),
        }
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) -> Result<()> {
        match &mut self.blocks {
            Some(blocks) => blocks.drain_into(writes),
            None => self.state.drain_into(writes),
        }
        self.indexes.drain_into(writes)
    }

    pub fn committed(&mut self) {
        match &mut self.blocks {
            Some(blocks) => blocks.committed(),
            None => self.state.committed(),
        }
        self.indexes.committed();
        self.committed_rows = self.rows;
        self.floor.committed();
    }

    pub fn discard(&mut self) {
        match &mut self.blocks {
            Some(blocks) => blocks.discard(),
            None => self.state.discard(),
        }
        self.indexes.discard();
        self.rows = self.committed_rows;
        self.floor.discard();
    }
}

/// The locators of rows with consecutive ordinals.
fn ordinals(first: u64, rows: usize) -> Keys {
    let mut keys = Keys::with_capacity(rows, 8 * rows);
    (first..first + rows as u64).for_each(|ordinal| keys.push(&ordinal.to_be_bytes()));
    keys
}
