//! The rows of a COPY on their way into the table: values assigned to columns, defaults and generated columns filled,
//! constraints checked, batch by batch. The first row that does not fit ends the COPY.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use rivermark_executor::api::TableWrite;
use rivermark_executor::stored_rows::StoredRows;
use rivermark_planner::plan::BoundExpr;

use crate::assignment::{assign, row_schema};
use crate::constraints::RowRules;
use crate::copy_in::input::{Batch, Places, text_of};
use crate::dml::rows::{batch as batch_of, checked, unchecked_schema};
use crate::dml::target::Target;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// What one row's place takes.
const PLACE_BYTES: usize = 8;

/// A table that is being filled.
pub struct Load {
    pub target: Target,
    /// Positions of the columns that come.
    columns: Vec<usize>,
    rules: RowRules,
    filter: Option<BoundExpr>,
    zone: SessionTimeZone,
    stored: Vec<RecordBatch>,
    /// Line numbers of the stored rows.
    numbers: Vec<u64>,
    bytes: usize,
}

impl Load {
    pub fn new(
        target: Target,
        columns: Vec<usize>,
        rules: RowRules,
        filter: Option<BoundExpr>,
        zone: SessionTimeZone,
    ) -> Load {
        Load {
            target,
            columns,
            rules,
            filter,
            zone,
            stored: Vec::new(),
            numbers: Vec::new(),
            bytes: 0,
        }
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.bytes + self.numbers.len() * PLACE_BYTES
    }

    pub fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Takes rows in.
    pub fn add(&mut self, batch: Batch) -> Result<(), PgError> {
        let Batch { columns, places } = batch;
        let values = match self.assigned(&columns) {
            Ok(values) => values,
            Err(error) => return Err(self.at_value(&columns, &places, error)),
        };
        let rows = places.numbers.len();
        let (kept, rows) = match self.completed(values.clone(), rows) {
            Ok(kept) => kept,
            Err(error) => return Err(self.at_row(&values, &places, error)),
        };
        let numbers = places.numbers.iter().zip(kept.iter());
        self.numbers.extend(
            numbers
                .filter(|(_, is_kept)| *is_kept == Some(true))
                .map(|(number, _)| number),
        );
        if rows.num_rows() > 0 {
            self.bytes += rows.get_array_memory_size();
            self.stored.push(rows);
        }
        Ok(())
    }

    fn assigned(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, PgError> {
        let defs = &self.target.table.columns;
        columns
            .iter()
            .zip(&self.columns)
            .map(|(values, to)| assign(values, &defs[*to], &self.zone))
            .collect()
    }

    /// Whole rows of assigned values, and which of the rows were kept.
    fn completed(
        &self,
        values: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<(BooleanArray, RecordBatch), PgError> {
        let defs = &self.target.table.columns;
        let mut whole: Vec<Option<ArrayRef>> = vec![None; defs.len()];
        for (value, to) in values.into_iter().zip(&self.columns) {
            whole[*to] = Some(value);
        }
        let mut arrays = Vec::with_capacity(defs.len());
        for (i, value) in whole.into_iter().enumerate() {
            arrays.push(match value {
                Some(value) => value,
                None => self.rules.default(i, rows, &self.zone, &defs[i])?,
            });
        }
        let unchecked = batch_of(unchecked_schema(defs), arrays, rows)?;
        let kept = match &self.filter {
            None => BooleanArray::from(vec![true; rows]),
            Some(filter) => {
                let holds = filter.physical.evaluate(&unchecked)?.into_array(rows)?;
                let Some(holds) = holds.as_boolean_opt() else {
                    let message = "argument of COPY FROM WHERE must be type boolean";
                    return Err(PgError::new(SqlState::DatatypeMismatch, message));
                };
                holds.clone()
            }
        };
        let unchecked = match &self.filter {
            None => unchecked,
            Some(_) => filter_record_batch(&unchecked, &kept)?,
        };
        let rows = checked(&self.rules, &self.target, unchecked, &self.zone)?;
        Ok((kept, rows))
    }

    /// The error of the first value that does not fit; they were assigned column by column.
    fn at_value(&self, columns: &[ArrayRef], places: &Places, error: PgError) -> PgError {
        let defs = &self.target.table.columns;
        for row in 0..places.numbers.len() {
            for (values, to) in columns.iter().zip(&self.columns) {
                if let Err(error) = assign(&values.slice(row, 1), &defs[*to], &self.zone) {
                    return places.at_value(row, &defs[*to].name, text_of(values, row), error);
                }
            }
            let single: Vec<ArrayRef> = columns.iter().map(|c| c.slice(row, 1)).collect();
            let single = self.assigned(&single);
            if let Err(error) = single.and_then(|values| self.completed(values, 1).map(|_| ())) {
                return places.at_row(row, error);
            }
        }
        error
    }

    /// The error of the first row that is not allowed.
    fn at_row(&self, values: &[ArrayRef], places: &Places, error: PgError) -> PgError {
        for row in 0..places.numbers.len() {
            let single = values.iter().map(|values| values.slice(row, 1));
            if let Err(error) = self.completed(single.collect(), 1) {
                return places.at_row(row, error);
            }
        }
        error
    }

    /// All rows as one change.
    pub fn write(&self) -> Result<Option<TableWrite>, PgError> {
        if self.stored.is_empty() {
            return Ok(None);
        }
        let schema = row_schema(&self.target.table.columns);
        Ok(Some(TableWrite {
            table: self.target.object.id,
            delete: None,
            insert: Some(concat_batches(&schema, &self.stored)?),
        }))
    }

    /// Says which line has the first key that is taken.
    pub fn at_duplicate(&self, stored: &StoredRows, error: PgError) -> PgError {
        match self.first_duplicate(stored) {
            Some((line, error)) => {
                error.with_context(format!("COPY {}, line {line}", self.target.name()))
            }
            None => error,
        }
    }

    fn first_duplicate(&self, stored: &StoredRows) -> Option<(u64, PgError)> {
        let mut met: HashSet<Vec<u8>> = HashSet::new();
        let mut numbers = self.numbers.iter();
        for batch in &self.stored {
            let keys = stored.keys(batch).ok()?;
            let taken = stored.find(&keys).ok()?.places;
            for (row, taken) in taken.into_iter().enumerate() {
                let number = numbers.next()?;
                if taken.is_some() || !met.insert(keys.get(row).to_vec()) {
                    return Some((*number, stored.unique_violation(batch, row).into()));
                }
            }
        }
        None
    }
}
