//! Aggregates over HOP's windows, put together from panes when a window closes.
//!
//! Semantics: with t the row's time, w its watermark and W(s) = [s, s + size) the windows: in the epoch in which w reaches
//!   the end of W(s), `out = { (k, f1(R), …, fn(R)) : R = rows of group k with t in W(s), R not empty }`. It is what an
//!   aggregate gives over each row once per window, held back until the window is over; but each row is added up once, in
//!   its pane (planner/src/hop.rs), and the states of a window's panes are merged when it closes. Rows in no window,
//!   without a time or in a gap, count nowhere; for windows that are closed a row comes too late, which is counted, and
//!   in those that are not it counts. What can not be computed, of a row or of a group, is as of Aggregate.
//! State: `panes`: (pane, group) → row count and a state per call, as a group's row of Aggregate; forgotten a range at a
//!   time when the last window with the pane is closed. `closed`: up to where windows were given, one entry.
//! Output: as of Aggregate, in the order of windows, then of groups; each group of a window once: append-only.
//! Watermark: of the input's time; the output's windows are not below the earliest that is open.
//! Cost: per row, hashing the key and one addition per call; per touched pane and group and epoch, one sorted read and
//!   write; per window and group, reading and merging the states of as many panes as have rows of it.

mod merge;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use rivermark_planner::plan::{AggregateCall, BoundExpr, HopWindows, PaneKey};

use self::merge::{Merged, MergedWindow};
use super::aggregate::group_row::{GroupTable, StoredGroups};
use super::aggregate::partial::{self, Partial};
use super::aggregate::spec::Spec;
use super::conform::conform;
use super::windows::Windows;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::row_as_json;
use crate::operator::{Emit, EpochContext, Failure, Operator};
use crate::state::{KeyCodec, KeyRange, StateTable};
use crate::watermark::{Watermarks, key_of};

/// See the module text.
pub struct Panes {
    /// Groups by the pane, then by the columns that are not of the window.
    spec: Arc<Spec>,
    windows: HopWindows,
    /// The input's column of the time.
    time: usize,
    time_type: DataType,
    /// What the output's group columns are.
    keys: Vec<OutputKey>,
    /// Of the pane.
    pane_codec: KeyCodec,
    /// Of the group columns behind it.
    key_codec: KeyCodec,
    schema: SchemaRef,
    panes: StateTable,
    closed: Windows,
    partials: Vec<Partial>,
    dropped: u64,
}

/// A group column of the output.
enum OutputKey {
    /// So much behind the window's start.
    Window(i64),
    /// The group column of this number.
    Column(usize),
}

impl Panes {
    /// `input`: the schema of the input, whose column `time` says when a row is. `tables`: panes, closed.
    ///
    /// # Errors
    /// If a type can not be stored, or states of a call can not be merged.
    pub fn new(
        operator_id: u32,
        keys: &[PaneKey],
        calls: &[AggregateCall],
        (time, windows): (usize, HopWindows),
        (input, schema): (&SchemaRef, SchemaRef),
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let [panes, closed] = <[StateTable; 2]>::try_from(tables).map_err(|tables| {
            ExecutorError::Internal(format!("Panes was given {} tables", tables.len()))
        })?;
        let mut group_by = vec![column_of(input, time)];
        let mut outputs = Vec::with_capacity(keys.len());
        for key in keys {
            outputs.push(match key {
                PaneKey::Window { shift_us } => OutputKey::Window(*shift_us),
                PaneKey::Column(expr) => {
                    group_by.push(expr.clone());
                    OutputKey::Column(group_by.len() - 2)
                }
            });
        }
        let types: Vec<DataType> = group_by.iter().map(|key| key.data_type.clone()).collect();
        let spec = Spec::new(operator_id, &group_by, calls, &[], None, schema.clone())?;
        spec.check_mergeable()?;
        Ok(Panes {
            spec: Arc::new(spec),
            windows,
            time,
            time_type: types[0].clone(),
            keys: outputs,
            pane_codec: KeyCodec::new(types[..1].to_vec(), None)?,
            key_codec: KeyCodec::new(types[1..].to_vec(), None)?,
            schema,
            panes,
            closed: Windows::new(types[0].clone(), closed)?,
            partials: Vec::new(),
            dropped: 0,
        })
    }

    /// The first key of a pane.
    fn start_of(&self, pane: i64) -> Result<Vec<u8>> {
        key_of(pane, &self.time_type, &self.pane_codec)
    }

    /// Rows of open windows, with their pane instead of the time.
    fn in_panes(&mut self, delta: Delta) -> Result<Delta> {
        let closed = self.closed.passed()?;
        let column = &delta.columns()[self.time];
        let times = column.as_primitive::<TimestampMicrosecondType>();
        let pane_of = |time: i64| {
            let pane = self.windows.pane_of(time)?;
            // A pane's last window begins with it or before, and there is one less than a slide before it.
            let is_over = closed.is_some_and(|closed| pane < closed);
            (!is_over).then_some(pane)
        };
        let panes = times.unary_opt::<_, TimestampMicrosecondType>(pane_of);
        if let Some(closed) = closed {
            let end = closed - self.windows.slide_us + self.windows.size_us;
            let late = times.iter().flatten().filter(|time| *time < end);
            let windows = late.filter(|time| self.windows.pane_of(*time).is_some());
            self.dropped += windows
                .map(|time| self.windows.count_before(time, closed))
                .sum::<u64>();
        }
        let panes: TimestampMicrosecondArray = panes.with_timezone_opt(times.timezone());
        let is_kept: BooleanArray = panes.iter().map(|pane| Some(pane.is_some())).collect();
        let mut columns = delta.columns().to_vec();
        columns[self.time] = Arc::new(panes);
        let batch = conform(&delta.batch().schema(), columns, delta.num_rows())?;
        let delta = delta.with_batch(batch);
        match is_kept.true_count() == is_kept.len() {
            true => Ok(delta),
            false => Ok(delta.filter(&is_kept)?),
        }
    }

    /// Gives the groups of the window that begins at `start`.
    fn close(&mut self, start: i64, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        let range = KeyRange::new(
            self.start_of(start)?,
            Some(self.start_of(start + self.windows.size_us)?),
        );
        let pane_len = range.from.len();
        let mut window = MergedWindow::new(&self.spec, &self.panes, range, pane_len);
        while let Some(merged) = window.next_groups()? {
            if let Some(delta) = self.given(start, &merged, context)? {
                emit(delta, context)?;
            }
        }
        Ok(())
    }

    /// The rows of groups of the window that begins at `start`.
    fn given(
        &self,
        start: i64,
        merged: &Merged,
        context: &mut EpochContext,
    ) -> Result<Option<Delta>> {
        let decoded = self.key_codec.decode(merged.keys())?;
        let count = merged.len();
        let mut keys: Vec<ArrayRef> = Vec::with_capacity(self.keys.len());
        for (key, field) in self.keys.iter().zip(self.schema.fields()) {
            keys.push(match key {
                OutputKey::Column(index) => decoded[*index].clone(),
                OutputKey::Window(shift_us) => {
                    let time = start.saturating_add(*shift_us);
                    let times = TimestampMicrosecondArray::from_value(time, count);
                    let zone = match field.data_type() {
                        DataType::Timestamp(_, zone) => zone.clone(),
                        _ => None,
                    };
                    Arc::new(times.with_timezone_opt(zone))
                }
            });
        }
        let mut columns = keys.clone();
        let mut failed = vec![false; count];
        let outputs = merged.outputs()?;
        let places = match outputs.iter().all(|output| output.failures.is_empty()) {
            true => Vec::new(),
            false => merged.places(),
        };
        for output in outputs {
            columns.push(take(&output.values, merged.order(), None)?);
            for (group, error) in output.failures {
                let Some(row) = places[group].filter(|row| !failed[*row]) else {
                    continue;
                };
                failed[row] = true;
                let mut key = self.spec.operator_id.to_be_bytes().to_vec();
                key.extend_from_slice(&self.start_of(start)?);
                key.extend_from_slice(merged.key(row));
                context.failures.push(Failure {
                    key,
                    weight: 1,
                    payload: row_as_json(self.schema.fields(), &keys, row)?,
                    error,
                });
            }
        }
        let delta = Delta::insertions(conform(&self.schema, columns, count)?);
        if failed.contains(&true) {
            let is_given: BooleanArray = failed.iter().map(|failed| Some(!failed)).collect();
            return Ok(Some(delta.filter(&is_given)?).filter(|delta| !delta.is_empty()));
        }
        Ok(Some(delta))
    }

    /// The first pane from `from` on that has rows.
    fn first_pane(&self, from: Option<i64>) -> Result<Option<i64>> {
        let from = from.map_or(Ok(Vec::new()), |from| self.start_of(from))?;
        let mut scan = self.panes.scan(&KeyRange::new(from, None))?;
        if !scan.advance()? {
            return Ok(None);
        }
        let pane = self.pane_codec.decode(std::iter::once(scan.key()))?;
        let pane = pane[0].as_primitive::<TimestampMicrosecondType>();
        Ok(Some(pane.value(0)))
    }
}

impl Operator for Panes {
    fn name(&self) -> &'static str {
        "Panes"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let delta = self.in_panes(delta)?;
        partial::update_all(&mut self.partials, &self.spec, delta, None, context)?;
        Ok(Vec::new())
    }

    fn finish(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        let Some(partial) = partial::merge_all(&mut self.partials, &self.spec)? else {
            return Ok(Vec::new());
        };
        let group_count = partial.group_count();
        let (keys, changes) = partial.into_changes()?;
        let keys = self.spec.encode_keys(&keys, group_count)?;
        let stored = StoredGroups::read(&keys, &mut self.panes)?;
        let mut groups = GroupTable::of_states(changes)?;
        groups.merge_stored(&mut stored.readers())?;
        let mut row = Vec::new();
        for group in stored.order.iter().map(|&group| group as usize) {
            row.clear();
            groups.store(group, &mut row);
            self.panes.put(keys.get(group), &row);
        }
        Ok(Vec::new())
    }

    fn advance(
        &mut self,
        inputs: &[Watermarks],
        _output: &Watermarks,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let bound = inputs.first().and_then(|input| input.get(self.time));
        let open = bound.and_then(|bound| self.windows.first_after(bound));
        let mut from = self.closed.passed()?;
        let Some(open) = open.filter(|open| Some(*open) > from) else {
            return Ok(());
        };
        // Windows without rows are not even looked at.
        while let Some(pane) = self.first_pane(from)? {
            let Some(first) = self.windows.first_after(pane).max(from) else {
                break;
            };
            if first >= open {
                break;
            }
            self.close(first, context, emit)?;
            from = Some(first + self.windows.slide_us);
        }
        self.closed
            .clean(Some(open), context, &mut [&mut self.panes])
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn held_bytes(&self) -> usize {
        self.partials.iter().map(Partial::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        vec![&mut self.panes, self.closed.table()]
    }

    fn discard(&mut self) {
        self.partials.clear();
        self.panes.discard();
        self.closed.discard();
    }
}

/// A column of `schema` as an expression.
fn column_of(schema: &SchemaRef, index: usize) -> BoundExpr {
    let field = schema.field(index);
    BoundExpr {
        logical: Expr::Column(datafusion::common::Column::new_unqualified(field.name())),
        physical: Arc::new(Column::new(field.name(), index)),
        data_type: field.data_type().clone(),
        nullable: true,
        is_fallible: false,
    }
}
