//! Single rows of a table as a statement sees them, found by what they are stored under: those of a snapshot with
//! the transaction's own writes on top.
//!
//! Cost: one batched read per call, in key order.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use crate::error::{ExecutorError, Result};
use crate::own_writes::OwnWrites;
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout, multiplicity};
use crate::state::{Keys, StoreSnapshot, Values};

/// Access to one table's rows.
pub struct StoredRows {
    pub(crate) format: Arc<RowFormat>,
    pub(crate) store: StoreSnapshot,
    pub(crate) own: Option<Arc<OwnWrites>>,
    /// As in error messages.
    pub(crate) name: String,
}

/// Stored rows that were asked for.
pub struct Found {
    pub rows: RecordBatch,
    /// For each key that was asked for, its place in `rows`.
    pub places: Vec<Option<usize>>,
}

impl StoredRows {
    /// Whether a row is stored under its primary key. Else it is stored under itself, with a multiplicity.
    pub fn is_keyed(&self) -> bool {
        matches!(self.format.layout, RowLayout::Keyed(_))
    }

    /// What rows are stored under.
    pub fn keys(&self, rows: &RecordBatch) -> Result<Keys> {
        self.format.storage_keys(rows.columns())
    }

    fn stored(&self, keys: &Keys) -> Result<Values> {
        Ok(self.store.get_many(ROWS_FAMILY, self.format.table, keys)?)
    }

    /// The rows of these primary keys.
    pub fn find(&self, keys: &Keys) -> Result<Found> {
        let stored = self.stored(keys)?;
        let mut entries: Vec<(&[u8], &[u8])> = Vec::new();
        let mut places = Vec::with_capacity(keys.len());
        for i in 0..keys.len() {
            let key = keys.get(i);
            let own = self.own.as_ref().and_then(|own| own.row_of(key));
            let row = own.unwrap_or_else(|| stored.get(i));
            places.push(row.map(|row| {
                entries.push((key, row));
                entries.len() - 1
            }));
        }
        let rows = self.format.decode(entries.into_iter())?;
        Ok(Found { rows, places })
    }

    /// The row of a primary key, whose columns are in the order in which rows are stored; no row if there is none.
    pub fn find_by_key(&self, key: &[ArrayRef]) -> Result<RecordBatch> {
        let keys = self.format.key_codec().encode(key)?;
        Ok(self.find(&keys)?.rows)
    }

    /// How often each row is there, of a table without a primary key.
    pub fn copies(&self, keys: &Keys) -> Result<Vec<i64>> {
        let stored = self.stored(keys)?;
        (0..keys.len())
            .map(|i| {
                let before = stored.get(i).map_or(Ok(0), multiplicity)?;
                let own = self.own.as_ref();
                Ok(before + own.map_or(0, |own| own.copies_of(keys.get(i))))
            })
            .collect()
    }

    /// The error for a row whose key is taken.
    pub fn unique_violation(&self, rows: &RecordBatch, row: usize) -> ExecutorError {
        self.format.unique_violation(rows, row, &self.name)
    }
}
