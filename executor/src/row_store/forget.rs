//! Rows whose retention is over: deleted by ranges, and kept out from then on.
//!
//! Semantics: `rows := { r ∈ rows : time(r) ≥ floor or time(r) is NULL }`, and the same of every later change. Nobody who
//!   reads the relation's changes is told: their watermark says that rows of these times do not change any more. Of rows
//!   that are only appended, those go that came before the first one at or above the floor.
//! Cost: per forgotten row, one scan step; per call, one range delete; with indexes, one deletion per entry.

use arrow::array::{Array, ArrayRef};

use super::RowStore;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::rows::{RowLayout, multiplicity};
use crate::spool::EncodedPiece;
use crate::state::{KeyRange, Keys};
use crate::watermark::{is_reached, key_of};

/// Forgotten rows that are looked at together.
const CHUNK_ROWS: usize = 8192;

/// Rows of earlier times are forgotten (microseconds since 1970).
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Floor {
    us: Option<i64>,
    committed_us: Option<i64>,
}

impl Floor {
    pub(super) fn committed(&mut self) {
        self.committed_us = self.us;
    }

    pub(super) fn discard(&mut self) {
        self.us = self.committed_us;
    }
}

impl RowStore {
    pub fn floor_us(&self) -> Option<i64> {
        self.floor.us
    }

    /// Takes over what the last commit left.
    pub fn set_floor(&mut self, floor_us: Option<i64>) {
        self.floor = Floor {
            us: floor_us,
            committed_us: floor_us,
        };
    }

    /// Forgets the rows of earlier times, if that is more than what is forgotten already.
    pub fn forget_before(&mut self, floor_us: i64) -> Result<()> {
        if self.floor.us.is_some_and(|floor| floor >= floor_us) {
            return Ok(());
        }
        match self.format.layout {
            RowLayout::Keyed(_) | RowLayout::Bag => self.forget_range(floor_us)?,
            RowLayout::Log => self.forget_blocks(floor_us)?,
        }
        self.floor.us = Some(floor_us);
        Ok(())
    }

    /// The first storage key of a time.
    fn key_of_time(&self, time_us: i64) -> Result<Vec<u8>> {
        let (column, codec) = self.time()?;
        key_of(time_us, self.format.schema.field(column).data_type(), codec)
    }

    fn time(&self) -> Result<(usize, &crate::state::KeyCodec)> {
        let time = self.format.time();
        time.ok_or_else(|| ExecutorError::Internal("a retention without a time".into()))
    }

    fn forget_range(&mut self, floor_us: i64) -> Result<()> {
        let from = self
            .floor
            .us
            .map_or(Ok(Vec::new()), |us| self.key_of_time(us))?;
        let range = KeyRange::new(from, Some(self.key_of_time(floor_us)?));
        let (mut next, mut forgotten) = (range.from.clone(), 0);
        loop {
            let (mut keys, mut values) = (Keys::new(), Keys::new());
            let mut scan = self.state.scan(&KeyRange::new(next, range.to.clone()))?;
            while keys.len() < CHUNK_ROWS && scan.advance()? {
                keys.push(scan.key());
                values.push(scan.value());
                forgotten += match self.format.layout {
                    RowLayout::Bag => multiplicity(scan.value())? as u64,
                    RowLayout::Keyed(_) | RowLayout::Log => 1,
                };
            }
            drop(scan);
            if keys.is_empty() {
                break;
            }
            next = [keys.get(keys.len() - 1), &[0]].concat();
            if !self.indexes.is_empty() {
                let columns = match self.format.layout {
                    RowLayout::Bag => {
                        let rows = keys.iter().map(|key| self.format.row_in(key));
                        let rows = rows.collect::<Result<Vec<_>>>()?;
                        self.format.rows.decode(rows.into_iter())?
                    }
                    RowLayout::Keyed(_) | RowLayout::Log => {
                        self.format.rows.decode(values.iter())?
                    }
                };
                self.forget_entries(&columns, &keys)?;
            }
        }
        if forgotten > 0 {
            self.state.delete_range(&range)?;
            self.rows -= forgotten;
        }
        Ok(())
    }

    fn forget_entries(&mut self, columns: &[ArrayRef], locators: &Keys) -> Result<()> {
        let entries = self.indexes.entries(columns, locators)?;
        (0..locators.len()).for_each(|row| self.indexes.delete(&entries, row));
        Ok(())
    }

    fn forget_blocks(&mut self, floor_us: i64) -> Result<()> {
        let (column, _) = self.time()?;
        let (mut cut, mut is_done) = (0, false);
        while !is_done {
            let Some(blocks) = &self.blocks else { break };
            let read = blocks.read_from(cut, CHUNK_ROWS, None)?;
            is_done = read.is_empty();
            for block in read {
                let columns = block.batch.columns();
                let times = &columns[column];
                let is_reached = is_reached(times, floor_us)?;
                let is_kept = |row: &usize| times.is_valid(*row) && is_reached.value(*row);
                let kept = (0..times.len()).find(is_kept);
                let count = kept.unwrap_or(times.len());
                if !self.indexes.is_empty() {
                    let locators = super::ordinals(block.first_ordinal, count);
                    let gone: Vec<_> = columns.iter().map(|c| c.slice(0, count)).collect();
                    self.forget_entries(&gone, &locators)?;
                }
                self.rows -= count as u64;
                cut = block.first_ordinal + count as u64;
                if kept.is_some() {
                    is_done = true;
                    break;
                }
            }
        }
        if let (Some(blocks), true) = (&mut self.blocks, cut > 0) {
            blocks.delete_before(cut)?;
        }
        Ok(())
    }

    /// A change without the rows that are forgotten, whether they come or go.
    pub(super) fn above_floor(&self, delta: &Delta) -> Result<Delta> {
        let Some(floor_us) = self.floor.us else {
            return Ok(delta.clone());
        };
        let (column, _) = self.time()?;
        let is_kept = is_reached(&delta.columns()[column], floor_us)?;
        match is_kept.true_count() == delta.num_rows() {
            true => Ok(delta.clone()),
            false => Ok(delta.filter(&is_kept)?),
        }
    }

    /// Whether some of the rows, which come in the order of their storage keys, are forgotten.
    pub(super) fn reaches_floor(&self, piece: &EncodedPiece) -> Result<bool> {
        let (Some(floor_us), true) = (self.floor.us, !piece.storage_keys.is_empty()) else {
            return Ok(false);
        };
        Ok(piece.storage_keys.get(0) < self.key_of_time(floor_us)?.as_slice())
    }
}
