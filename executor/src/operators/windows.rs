//! State of windows that are over: forgotten by ranges, since its keys begin with the window.
//!
//! A row is compared with the watermark that was passed last, never with what is there: that a group has no entry says
//! nothing, and that it still has one neither, since deleting waits until it is worth a range.
//!
//! ```text
//! value of the one entry:   | passed, 8 bytes BE | deleted up to, 8 bytes BE |
//! ```

use arrow::array::ArrayRef;
use arrow::compute::filter;
use arrow::datatypes::DataType;

use rivermark_planner::plan::BoundExpr;

use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::EpochContext;
use crate::state::{KeyCodec, KeyRange, StateTable};
use crate::watermark::{is_reached, key_of};

/// Epochs between two cleanings: every later read of the tables pays for a deleted range.
const LEAST_EPOCHS: u64 = if cfg!(test) { 2 } else { 16 };
/// An epoch that has written so much of the tables is worth a range: of a backlog it can be days of windows.
const MANY_BYTES: usize = if cfg!(test) { 200 } else { 1 << 20 };
/// The key of the one entry.
const MARKS: &[u8] = b"";

/// See the module text.
pub struct Windows {
    data_type: DataType,
    codec: KeyCodec,
    table: StateTable,
    /// `None`: not read yet.
    marks: Option<Marks>,
    last_epoch: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Marks {
    /// Groups below it are over.
    passed: Option<i64>,
    /// Groups below it are deleted.
    deleted: Option<i64>,
}

impl Windows {
    /// `table` keeps up to where windows, which are of this type, are forgotten.
    pub fn new(data_type: DataType, table: StateTable) -> Result<Self> {
        Ok(Windows {
            codec: KeyCodec::new(vec![data_type.clone()], None)?,
            data_type,
            table,
            marks: None,
            last_epoch: None,
        })
    }

    pub fn table(&mut self) -> &mut StateTable {
        &mut self.table
    }

    pub fn discard(&mut self) {
        self.table.discard();
        self.marks = None;
    }

    fn marks(&mut self) -> Result<Marks> {
        if let Some(marks) = self.marks {
            return Ok(marks);
        }
        let damaged = || ExecutorError::Storage("the marks of windows are damaged".into());
        let number = |bytes: Option<&[u8; 8]>| {
            let number = bytes.map(|bytes| i64::from_be_bytes(*bytes));
            number.ok_or_else(damaged)
        };
        let marks = match self.table.get(MARKS)? {
            None => Marks {
                passed: None,
                deleted: None,
            },
            Some(bytes) => Marks {
                passed: Some(number(bytes.first_chunk())?),
                deleted: Some(number(bytes.last_chunk())?).filter(|at| *at != i64::MIN),
            },
        };
        self.marks = Some(marks);
        Ok(marks)
    }

    /// All groups below it are over.
    pub fn passed(&mut self) -> Result<Option<i64>> {
        Ok(self.marks()?.passed)
    }

    fn start_of(&self, time: i64) -> Result<Vec<u8>> {
        key_of(time, &self.data_type, &self.codec)
    }

    /// Forgets in `tables` what the watermark of the windows, `bound`, has passed.
    pub fn clean(
        &mut self,
        bound: Option<i64>,
        context: &EpochContext,
        tables: &mut [&mut StateTable],
    ) -> Result<()> {
        let mut known = self.marks()?;
        let Some(bound) = bound.filter(|b| Some(*b) > known.passed) else {
            return Ok(());
        };
        known.passed = Some(bound);
        let written: usize = tables.iter().map(|table| table.epoch_bytes()).sum();
        let is_due = |last| context.epoch >= last + LEAST_EPOCHS || written >= MANY_BYTES;
        if self.last_epoch.is_none_or(is_due) {
            let from = known
                .deleted
                .map_or(Ok(Vec::new()), |at| self.start_of(at))?;
            let range = KeyRange::new(from, Some(self.start_of(bound)?));
            for table in tables {
                table.delete_range(&range)?;
            }
            known.deleted = Some(bound);
            self.last_epoch = Some(context.epoch);
        }
        let deleted = known.deleted.unwrap_or(i64::MIN);
        let value = [bound.to_be_bytes(), deleted.to_be_bytes()].concat();
        self.table.put(MARKS, &value);
        self.marks = Some(known);
        Ok(())
    }
}

/// Of an operator whose groups' first column is a window, which is the output's column `window`.
pub fn windows_of(
    groups: &[BoundExpr],
    window: Option<usize>,
    table: Option<StateTable>,
) -> Result<Option<(Windows, usize)>> {
    match (window, groups.first(), table) {
        (None, _, None) => Ok(None),
        (Some(column), Some(group), Some(table)) => {
            let windows = Windows::new(group.data_type.clone(), table)?;
            Ok(Some((windows, column)))
        }
        _ => Err(ExecutorError::Internal(
            "windows without a group or a table of their own".into(),
        )),
    }
}

/// Up to where windows are over.
pub fn passed_of(windows: &mut Option<(Windows, usize)>) -> Result<Option<i64>> {
    match windows {
        Some((windows, _)) => windows.passed(),
        None => Ok(None),
    }
}

/// Rows and what was computed of them without those of windows that are over. `columns[window]` is the window.
pub fn without_passed(
    delta: Delta,
    columns: Vec<ArrayRef>,
    window: usize,
    passed: i64,
) -> Result<(Delta, Vec<ArrayRef>)> {
    let is_kept = is_reached(&columns[window], passed)?;
    if is_kept.true_count() == is_kept.len() {
        return Ok((delta, columns));
    }
    let delta = delta.filter(&is_kept)?;
    let columns = columns.iter().map(|column| filter(column, &is_kept));
    Ok((delta, columns.collect::<Result<_, _>>()?))
}
