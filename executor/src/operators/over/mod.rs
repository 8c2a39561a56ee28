//! Window functions: OVER.
//!
//! Semantics: `out = { (r, f1(r in P), …, fn(r in P)) : r in P, each partition P }`, with P in the order of the clause,
//!   which ends with the whole row; a row of weight n is n rows, each with results of its own. What was shown of the
//!   rows within reach of a change is retracted, and what follows is inserted, as far as it differs. NULLs are one
//!   partition, as are −0.0 and 0.0. A row of which a key or an argument fails is left out and reported; a partition
//!   over which a function fails (a sum out of range) is not shown while that lasts, and is reported. If all functions
//!   look at so many rows before and after only, it is the row for which a function fails that is not shown.
//! State: (partition, order, row) → weight, one entry per distinct row of the input; if a partition column has a
//!   watermark, of those of partitions that it has not passed. If no row goes, the order begins with a time that has a
//!   watermark, and all functions look at so many rows before and after, then of those that it has passed only as many as
//!   later ones look at, or change; `due`: (time, row) → nothing says what it passes.
//! Output: the input's columns, then one per function; stream key: the input's; not append-only.
//! Watermark: kept on partition columns, and else on a time that the order begins with, if no row goes and no function looks
//!   at rows behind its own. Where a partition column has one, state keys begin with it, and partitions that it has passed
//!   are forgotten, a range at a time; their output rows stay. Rows that come for them all the same are left out and
//!   counted.
//! Cost: per epoch and touched partition, reading and evaluating it once as it was and once as it is; if all functions
//!   look at so many rows before and after only (lag, lead, frames in ROWS), then no more rows than that around each
//!   change (`segment.rs`), which are evaluated together; if they look back only, rows before the first change are evaluated, but not compared.
//!   Forgetting reads the rows that are passed and those kept before them.
//!   Aggregates over moving frames that can not subtract (floats, most others) cost rows × frame (`results.rs`).

mod forget;
mod results;
mod segment;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use rayon::prelude::*;
use rivermark_planner::plan::{BoundExpr, Reach, WindowCall};

use self::forget::Forget;
use self::results::results;
use self::segment::{Segment, SegmentRow, segments};
use super::chunks::parallel_rows;
use super::conform::conform;
use super::ordered_rows::{GroupChanges, Pushed, RowOrder, changes, write};
use super::windows::{Windows, passed_of, windows_of};
use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::{reason, row_as_json};
use crate::operator::{Emit, EpochContext, Failure, Operator};
use crate::state::{StateTable, TableReader};
use crate::watermark::Watermarks;

/// So many changed rows, each with a seek or two, are worth the threads. Tests fork for few, to see that it changes
/// nothing.
const PARALLEL_CHANGES: usize = if cfg!(test) { 4 } else { 64 };

/// How often a row is there, before or after the epoch.
type Weight = fn(&SegmentRow) -> i64;
/// Failures of a segment, by key.
type Failures = BTreeMap<Vec<u8>, Failure>;

/// See the module text.
pub struct Over {
    evaluation: Evaluation,
    rows: StateTable,
    /// Of the first partition column, with its place in the output.
    windows: Option<(Windows, usize)>,
    forget: Option<Forget>,
    pushed: Vec<Pushed>,
    dropped: u64,
}

/// What threads may share: all but the state.
struct Evaluation {
    operator_id: u32,
    order: RowOrder,
    calls: Vec<WindowCall>,
    reach: Reach,
    input: SchemaRef,
    schema: SchemaRef,
}

/// What part of a partition shows, before or after the epoch.
enum Side {
    Rows(RecordBatch),
    /// What shows of a segment of which a function fails for some rows, and which of the segment's rows these are, each
    /// as often as it is there. Without the rows that only help to compute others.
    Partly(RecordBatch, Vec<(usize, String)>),
    /// The partition as a whole does not show.
    Failed(String),
}

impl Over {
    /// `window`: the place in input and output of the first partition column, if it has a watermark; `due`: of the first
    /// order column, if what its watermark passes is forgotten. `tables`: rows, and with a window one for what is forgotten,
    /// or what is due and up to where it is forgotten. `input`: the schema of the input.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operator_id: u32,
        (partition_by, window, due): (&[BoundExpr], Option<usize>, Option<usize>),
        order_by: &[(BoundExpr, SortOptions)],
        (checked, calls): (&[BoundExpr], &[WindowCall]),
        input: &SchemaRef,
        schema: SchemaRef,
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let mut tables = tables.into_iter();
        let missing = || ExecutorError::Internal("Over without a table".to_string());
        let mut next = || tables.next().ok_or_else(missing);
        let rows = next()?;
        let due = match due {
            Some(column) => Some((column, [next()?, next()?])),
            None => None,
        };
        let windows = windows_of(partition_by, window, tables.next())?;
        let reach = calls
            .iter()
            .map(|call| call.reach)
            .reduce(Reach::and)
            .unwrap_or(Reach::Partition);
        let forget = match (due, reach) {
            (Some((column, tables)), Reach::Rows { before, after }) => {
                Some(Forget::new(column, before.saturating_add(after), tables))
            }
            (None, _) => None,
            (Some(_), Reach::Before | Reach::Partition) => {
                let message = "Over forgets rows that functions look at";
                return Err(ExecutorError::Internal(message.to_string()));
            }
        };
        let evaluation = Evaluation {
            operator_id,
            order: RowOrder::new(operator_id, partition_by, order_by, input)?.checking(checked),
            calls: calls.to_vec(),
            reach,
            input: input.clone(),
            schema,
        };
        Ok(Over {
            evaluation,
            rows,
            windows,
            forget,
            pushed: Vec::new(),
            dropped: 0,
        })
    }
}

/// A segment and the partition that it is of.
type OfGroup<'a> = (&'a [u8], Segment);

impl Evaluation {
    /// What changes in the results of segments.
    fn differences(&self, segments: &[OfGroup]) -> Result<(Vec<Delta>, Vec<Failure>)> {
        if segments.len() > 1
            && let Some(deltas) = self.together(segments)?
        {
            return Ok((deltas, Vec::new()));
        }
        let (mut deltas, mut failures) = (Vec::new(), Vec::new());
        for (group, segment) in segments {
            let (rows, failed) = self.difference(group, segment)?;
            deltas.extend(rows);
            failures.extend(failed);
        }
        Ok((deltas, failures))
    }

    /// What changes in segments that show nothing of what lies beyond their ends, so that it does not matter what does:
    /// they are evaluated one behind the other as if they were one partition. `None` if a function fails.
    fn together(&self, segments: &[OfGroup]) -> Result<Option<Vec<Delta>>> {
        let rows = segments.iter().flat_map(|(_, segment)| &segment.rows);
        let columns = self.order.decode(rows.map(|row| row.row.as_slice()))?;
        let mut deltas = Vec::new();
        let sides: [(i64, Weight); 2] = [(-1, |row| row.before), (1, |row| row.after)];
        for (weight, copies) in sides {
            let (mut indices, mut shown, mut next) = (Vec::new(), Vec::new(), 0_u32);
            for (_, segment) in segments {
                let begin = indices.len();
                for row in &segment.rows {
                    let copies = usize::try_from(copies(row)).unwrap_or(0);
                    indices.extend(std::iter::repeat_n(next, copies));
                    next += 1;
                }
                let end = indices.len() - segment.trail;
                shown.extend((begin + segment.lead..end).map(|row| row as u32));
            }
            if shown.is_empty() {
                continue;
            }
            let input = self.taken(&columns, &indices.into())?;
            let batch = match self.with_results(&input) {
                Ok(batch) => take_record_batch(&batch, &UInt32Array::from(shown))?,
                Err(ExecutorError::Evaluation(_)) => return Ok(None),
                Err(other) => return Err(other),
            };
            let weights = Int64Array::from(vec![weight; batch.num_rows()]);
            deltas.push(Delta::new(batch, Some(weights)));
        }
        Ok(Some(deltas))
    }

    /// What changes in the results of a segment of `group`.
    fn difference(&self, group: &[u8], segment: &Segment) -> Result<(Vec<Delta>, Vec<Failure>)> {
        let bytes = segment.rows.iter().map(|row| row.row.as_slice());
        let columns = self.order.decode(bytes)?;
        let old = self.side(&columns, segment, |row| row.before)?;
        let new = self.side(&columns, segment, |row| row.after)?;
        let is_whole = [&old, &new]
            .iter()
            .any(|side| matches!(side, Side::Failed(_)));
        let (lead, trail) = match is_whole {
            true => (0, 0),
            false => (segment.lead, segment.trail),
        };
        let (mut deltas, mut failures) = (Vec::new(), Failures::default());
        for (side, weight) in [(old, -1), (new, 1)] {
            let shown = match side {
                Side::Rows(batch) => {
                    let count = batch.num_rows().saturating_sub(lead + trail);
                    batch.slice(lead.min(batch.num_rows()), count)
                }
                Side::Partly(batch, failed) => {
                    for (row, error) in failed {
                        let key = [group, &segment.rows[row].row].concat();
                        self.report(&mut failures, &key, weight, (&columns, row), error)?;
                    }
                    batch
                }
                Side::Failed(error) => {
                    self.report(&mut failures, group, weight, (&columns, 0), error)?;
                    continue;
                }
            };
            if shown.num_rows() > 0 {
                let weights = Int64Array::from(vec![weight; shown.num_rows()]);
                deltas.push(Delta::new(shown, Some(weights)));
            }
        }
        let failures = failures.into_values().filter(|failure| failure.weight != 0);
        Ok((deltas, failures.collect()))
    }

    /// Adds to the failure of `key`, whose row is the one given.
    fn report(
        &self,
        failures: &mut Failures,
        key: &[u8],
        weight: i64,
        (columns, row): (&[ArrayRef], usize),
        error: String,
    ) -> Result<()> {
        let key = [&self.operator_id.to_be_bytes()[..], key].concat();
        if let Some(known) = failures.get_mut(&key) {
            known.weight += weight;
            known.error = error;
            return Ok(());
        }
        let failure = Failure {
            key: key.clone(),
            weight,
            payload: row_as_json(self.input.fields(), columns, row)?,
            error,
        };
        failures.insert(key, failure);
        Ok(())
    }

    /// The rows, each as often as `weight` says, with the functions' results.
    fn side(
        &self,
        columns: &[ArrayRef],
        segment: &Segment,
        weight: impl Fn(&SegmentRow) -> i64,
    ) -> Result<Side> {
        let copies = (0_u32..).zip(&segment.rows).flat_map(|(index, row)| {
            let weight = usize::try_from(weight(row)).unwrap_or(0);
            std::iter::repeat_n(index, weight)
        });
        let indices: UInt32Array = copies.collect::<Vec<_>>().into();
        let count = indices.len();
        if count == 0 {
            return Ok(Side::Rows(RecordBatch::new_empty(self.schema.clone())));
        }
        let input = self.taken(columns, &indices)?;
        match self.with_results(&input) {
            Ok(batch) => Ok(Side::Rows(batch)),
            Err(ExecutorError::Evaluation(error)) => match self.reach {
                Reach::Rows { before, after } => {
                    let shown = segment.lead..count.saturating_sub(segment.trail);
                    self.row_by_row(&input, &indices, shown, (before, after))
                }
                Reach::Before | Reach::Partition => Ok(Side::Failed(reason(&error))),
            },
            Err(other) => Err(other),
        }
    }

    /// The rows at these places, as input of the functions.
    fn taken(&self, columns: &[ArrayRef], indices: &UInt32Array) -> Result<RecordBatch> {
        let columns = columns
            .iter()
            .map(|column| take(column, indices, None))
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        Ok(RecordBatch::try_new_with_options(
            self.input.clone(),
            columns,
            &options,
        )?)
    }

    /// Rows with the functions' results.
    fn with_results(&self, input: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = input.columns().to_vec();
        columns.extend(results(&self.calls, input)?);
        conform(&self.schema, columns, input.num_rows())
    }

    /// The `shown` rows of a segment of which some fail, each computed of the rows within reach only.
    fn row_by_row(
        &self,
        input: &RecordBatch,
        indices: &UInt32Array,
        shown: Range<usize>,
        (before, after): (u64, u64),
    ) -> Result<Side> {
        let rows = |reach: u64| usize::try_from(reach).unwrap_or(usize::MAX);
        let (mut batches, mut failed) = (Vec::new(), Vec::new());
        for row in shown {
            let from = row.saturating_sub(rows(before));
            let to = row.saturating_add(rows(after)).saturating_add(1);
            let around = input.slice(from, to.min(input.num_rows()) - from);
            match results(&self.calls, &around) {
                Ok(values) => {
                    let own = input.columns().iter().map(|column| column.slice(row, 1));
                    let values = values.iter().map(|column| column.slice(row - from, 1));
                    batches.push(conform(&self.schema, own.chain(values).collect(), 1)?);
                }
                Err(ExecutorError::Evaluation(error)) => {
                    failed.push((indices.value(row) as usize, reason(&error)));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Side::Partly(
            concat_batches(&self.schema, &batches)?,
            failed,
        ))
    }
}

/// The segments of all groups, whose changes are written. Groups are read on several threads if there is much to read.
fn segments_of<'a>(
    groups: &'a [GroupChanges],
    reach: Reach,
    table: &mut StateTable,
    context: &EpochContext,
) -> Result<Vec<OfGroup<'a>>> {
    let readers = table.readers()?;
    let changed: usize = groups.iter().map(|changes| changes.rows.len()).sum();
    let found: Vec<Result<Vec<Segment>>> = if context.shards > 1 && changed >= PARALLEL_CHANGES {
        let read = |reader: &mut TableReader, changes| segments(changes, reach, reader);
        let groups = groups.par_iter();
        groups.map_init(|| readers.reader(), read).collect()
    } else {
        let reader = readers.reader();
        let read = |changes| segments(changes, reach, &reader);
        groups.iter().map(read).collect()
    };
    let mut all = Vec::new();
    for (changes, found) in groups.iter().zip(found) {
        all.extend(
            found?
                .into_iter()
                .map(|segment| (&changes.group[..], segment)),
        );
    }
    Ok(all)
}

/// Segments that can be evaluated together, up to so many rows that it does not matter any more, and the others.
fn pieces(segments: Vec<OfGroup>) -> Vec<Vec<OfGroup>> {
    let (inner, others): (Vec<OfGroup>, Vec<OfGroup>) = segments
        .into_iter()
        .partition(|(_, segment)| segment.is_inner);
    let mut pieces: Vec<Vec<OfGroup>> = others.into_iter().map(|segment| vec![segment]).collect();
    let (mut piece, mut rows) = (Vec::new(), 0);
    for segment in inner {
        rows += segment.1.rows.len();
        piece.push(segment);
        if rows >= parallel_rows() {
            pieces.push(std::mem::take(&mut piece));
            rows = 0;
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

impl Operator for Over {
    fn name(&self) -> &'static str {
        "Over"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        if !delta.is_empty() {
            let passed = passed_of(&mut self.windows)?;
            let order = &self.evaluation.order;
            self.dropped += order.push(delta, &mut self.pushed, passed, context)?;
        }
        Ok(Vec::new())
    }

    fn finish(&mut self, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let pushed = std::mem::take(&mut self.pushed);
        let groups = match &mut self.forget {
            Some(forget) => forget.changes(&pushed, &mut self.rows)?,
            None => changes(&pushed, &mut self.rows, |_, _, _| true)?,
        };
        for changes in &groups {
            for change in &changes.rows {
                write(&mut self.rows, &changes.group, change);
            }
        }
        let work = segments_of(&groups, self.evaluation.reach, &mut self.rows, context)?;
        let count: usize = work.iter().map(|(_, segment)| segment.rows.len()).sum();
        let work = pieces(work);
        let evaluation = &self.evaluation;
        let evaluate = |piece: &Vec<OfGroup>| evaluation.differences(piece);
        let parts: Vec<Result<(Vec<Delta>, Vec<Failure>)>> =
            if context.shards > 1 && count >= parallel_rows() {
                work.par_iter().map(evaluate).collect()
            } else {
                work.iter().map(evaluate).collect()
            };
        let mut deltas = Vec::new();
        for part in parts {
            let (rows, failures) = part?;
            deltas.extend(rows);
            context.failures.extend(failures);
        }
        if deltas.is_empty() {
            return Ok(Vec::new());
        }
        let output = consolidate(Delta::concat(evaluation.schema.clone(), &deltas)?)?;
        Ok(vec![output])
    }

    fn advance(
        &mut self,
        inputs: &[Watermarks],
        output: &Watermarks,
        context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        if let (Some(forget), Some(input)) = (&mut self.forget, inputs.first()) {
            forget.advance(input, &mut self.rows)?;
        }
        match &mut self.windows {
            Some((windows, column)) => {
                windows.clean(output.get(*column), context, &mut [&mut self.rows])
            }
            None => Ok(()),
        }
    }

    fn take_dropped(&mut self) -> u64 {
        let forget = self.forget.as_mut();
        std::mem::take(&mut self.dropped) + forget.map_or(0, Forget::take_dropped)
    }

    fn held_bytes(&self) -> usize {
        self.pushed.iter().map(Pushed::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let mut tables = vec![&mut self.rows];
        tables.extend(self.windows.as_mut().map(|(windows, _)| windows.table()));
        tables.extend(self.forget.iter_mut().flat_map(Forget::tables));
        tables
    }

    fn discard(&mut self) {
        self.pushed.clear();
        self.rows.discard();
        if let Some((windows, _)) = &mut self.windows {
            windows.discard();
        }
        if let Some(forget) = &mut self.forget {
            forget.discard();
        }
    }
}
