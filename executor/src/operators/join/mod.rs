//! Joins of two inputs, L and R: pairs of rows, rows with or without a match, and rows with a mark.
//!
//! Semantics: `Δ(L⋈R) = ΔL⋈R_old + L_new⋈ΔR`. Two rows match if their keys are equal (−0.0 = 0.0, NaN = NaN; NULL equals
//!   nothing, but by IS NOT DISTINCT FROM) and the residual predicate is true. Left, right and full also give the rows
//!   of a side without a match, padded with NULLs; semi, anti and mark give left rows by whether they have one. NOT IN
//!   lets everything pass while R is empty, nothing while R has a NULL, and else no NULL. Weights multiply: bags. A
//!   row of which a key fails is left out and reported; a pair of which the residual fails does not match and is
//!   reported. As of now (`FOR SYSTEM_TIME AS OF PROCTIME()`, inner or left, L append-only): only `ΔL⋈R_new`, R being taken
//!   first, so that a row of L meets what R is at the end of its epoch, and nothing of it changes later.
//! State: `left`, `right`: join key, row → weight and, where there is a residual, the number of the row's matches;
//!   `counts`: join key → rows of the left and of the right, and for NOT IN (empty key) → rows and NULLs of the right.
//!   Rows whose key has a NULL can have no match and are not kept; nor are the right rows of semi, anti and mark
//!   without a residual, nor the left rows of a join as of now. Grows with both inputs, but for joins with a window: `forgotten` says up to where.
//! Output: the columns of both, or of the left (and the mark); stream key: those of the inputs; append-only if inner or
//!   semi of append-only inputs, or as of now. Each change once: every pair's weight before and after is known when it is met.
//! Watermark: kept on compared columns, the minimum of both sides (not of NOT IN), and on the times of an interval: of
//!   `l ≤ left − right ≤ m`, left's is min(left's, right's + l) and right's min(right's, left's − m). If the first key is a
//!   window (of time, or the bucket of an interval), state keys begin with it, and windows that both sides have passed
//!   are forgotten, a range at a time; output rows stay. Rows that come for them all the same are left out and counted.
//! Cost: per changed row one sorted read and write; per touched key one count, and a scan of the other side's rows if
//!   it has any; a residual over the candidate pairs, in vectors. Memory: bounded chunks of rows and of pairs.

mod changes;
mod membership;
mod output;
pub(super) mod pairs;
mod pass;
mod spec;
mod stored;

#[cfg(test)]
mod tests;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::{BoundExpr, JoinKey, JoinKind, JoinWindow, PlanNode};

use self::changes::{Changes, Touched, touched_keys};
use self::membership::Regime;
use self::output::Output;
use self::pass::Pass;
use self::spec::Spec;
use self::stored::{Stored, read_counts, write_counts};
use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::row_as_json;
use crate::operator::{Emit, EpochContext, Operator};
use crate::operators::windows::{Windows, without_passed};
use crate::state::{Keys, StateTable};
use crate::watermark::Watermarks;

/// Number of a side; the other one is `1 - side`.
pub(super) const LEFT: usize = 0;
pub(super) const RIGHT: usize = 1;

/// See the module text.
pub struct Join {
    spec: Spec,
    rows: [StateTable; 2],
    counts: StateTable,
    /// Of the first key, with its place on either side.
    windows: Option<(Windows, [usize; 2])>,
    /// Rows for forgotten windows, since they were last asked for.
    dropped: u64,
    /// What this epoch brought so far: rows, and the values of their keys.
    pending: [Vec<(Delta, Vec<ArrayRef>)>; 2],
    /// Bytes of that, about.
    pending_bytes: usize,
}

impl Join {
    /// `kind`: and whether it is as of now. `window`: that of the first key. `tables`: left, right, counts, and with a window one for what is forgotten.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operator_id: u32,
        kind: (JoinKind, bool),
        (keys, window): (&[JoinKey], Option<JoinWindow>),
        residual: Option<&BoundExpr>,
        inputs: &[PlanNode],
        schema: SchemaRef,
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let mut tables = tables.into_iter();
        let missing = || ExecutorError::Internal("Join was given too few tables".into());
        let mut next = || tables.next().ok_or_else(missing);
        let (left, right, counts) = (next()?, next()?, next()?);
        let windows = match (window, keys.first()) {
            (Some(window), Some(key)) => {
                let windows = Windows::new(key.left.data_type.clone(), next()?)?;
                Some((windows, [window.left, window.right]))
            }
            _ => None,
        };
        Ok(Join {
            spec: Spec::new(operator_id, kind, keys, residual, inputs, schema)?,
            rows: [left, right],
            counts,
            windows,
            dropped: 0,
            pending: [Vec::new(), Vec::new()],
            pending_bytes: 0,
        })
    }

    /// The net changes of both sides, with what is stored of each row.
    fn changes(&mut self, output: &mut Output<'_, '_>) -> Result<[Changes; 2]> {
        let mut both = [Changes::default(), Changes::default()];
        self.pending_bytes = 0;
        for (side, changes) in both.iter_mut().enumerate() {
            let pending = std::mem::take(&mut self.pending[side]);
            let (keyed, loose) = Changes::collect(&self.spec, side, pending)?;
            *changes = keyed;
            if let Some(loose) = loose {
                output.unmatched(&self.spec, side, &consolidate(loose)?)?;
            }
            if !self.spec.keeps_rows(side) || changes.is_empty() {
                continue;
            }
            let values = self.rows[side].get_many(&changes.keys)?;
            for (row, value) in values.iter().enumerate() {
                let stored = value.map(Stored::decode).transpose()?.unwrap_or_default();
                if stored.weight + changes.delta[row] < 0 {
                    let fields = self.spec.input_schemas[side].fields();
                    let row = row_as_json(fields, &changes.columns, row)?;
                    let message = format!("more of row {row} was retracted than there is");
                    return Err(ExecutorError::Internal(message));
                }
                changes.before[row] = stored;
            }
        }
        Ok(both)
    }

    /// The keys that the epoch touches, with how many rows each side has of them.
    fn touched(&mut self, changes: &[Changes; 2]) -> Result<Vec<Touched>> {
        let mut touched = touched_keys(changes);
        let keys: Keys = touched.iter().map(|touched| touched.key(changes)).collect();
        let counts = self.counts.get_many(&keys)?;
        for (touched, value) in touched.iter_mut().zip(counts.iter()) {
            touched.count_before = read_counts(value)?;
            for side in [LEFT, RIGHT] {
                if side == LEFT && self.spec.is_as_of_now {
                    continue;
                }
                let delta: i64 = changes[side].delta[touched.rows[side].clone()].iter().sum();
                touched.count_after[side] = touched.count_before[side] + delta;
            }
            if touched.count_after.iter().any(|count| *count < 0) {
                let message = "more rows of a join key were retracted than there are".to_string();
                return Err(ExecutorError::Internal(message));
            }
            touched.set_matched(&self.spec);
        }
        Ok(touched)
    }

    fn store(&mut self, changes: &[Changes; 2], touched: &[Touched]) {
        let mut value = Vec::new();
        for (side, changes) in changes.iter().enumerate() {
            if !self.spec.keeps_rows(side) {
                continue;
            }
            let table = &mut self.rows[side];
            for row in 0..changes.len() {
                let (before, after) = (changes.before[row], changes.after(row));
                let key = changes.keys.get(row);
                if after.weight > 0 {
                    value.clear();
                    after.encode(self.spec.counts_matches(side), &mut value);
                    table.put(key, &value);
                } else if before.weight > 0 {
                    table.delete(key);
                }
            }
        }
        for touched in touched.iter().filter(|t| t.count_before != t.count_after) {
            let key = touched.key(changes);
            write_counts(&mut self.counts, key, touched.count_after);
        }
    }
}

impl Operator for Join {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn push(
        &mut self,
        port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        if delta.is_empty() {
            return Ok(Vec::new());
        }
        let mut evaluated = self
            .spec
            .evaluate_keys(port, delta, &mut context.failures)?;
        let passed = match &mut self.windows {
            Some((windows, _)) => windows.passed()?,
            None => None,
        };
        if let Some(passed) = passed {
            let before = evaluated.0.num_rows();
            evaluated = without_passed(evaluated.0, evaluated.1, 0, passed)?;
            self.dropped += (before - evaluated.0.num_rows()) as u64;
        }
        if !evaluated.0.is_empty() {
            self.pending_bytes += evaluated.0.memory();
            self.pending[port].push(evaluated);
        }
        Ok(Vec::new())
    }

    fn finish_into(&mut self, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        if self.pending.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let mut output = Output { context, emit };
        let mut changes = self.changes(&mut output)?;
        let mut touched = self.touched(&changes)?;
        let regime = Regime::read(&self.spec, &mut self.counts, &changes, &mut touched)?;

        let [left, right] = &mut self.rows;
        let mut pass = Pass {
            spec: &self.spec,
            touched: &touched,
            changes: &mut changes,
            output,
        };
        pass.pair_changes()?;
        pass.scan(LEFT, right)?;
        match &regime {
            Some(regime) if regime.has_changed() => {
                regime.scan_all(&mut pass, left, &mut self.counts)?;
            }
            _ => pass.scan(RIGHT, left)?,
        }
        pass.changed_rows()?;
        self.store(&changes, &touched);
        if let Some(regime) = regime {
            regime.store(&mut self.counts);
        }
        Ok(())
    }

    fn advance(
        &mut self,
        inputs: &[Watermarks],
        _output: &Watermarks,
        context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        let (Some((windows, columns)), [left, right]) = (&mut self.windows, inputs) else {
            return Ok(());
        };
        let bounds = left.get(columns[LEFT]).zip(right.get(columns[RIGHT]));
        let bound = bounds.map(|(left, right)| left.min(right));
        let [left, right] = &mut self.rows;
        windows.clean(bound, context, &mut [left, right, &mut self.counts])
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn held_bytes(&self) -> usize {
        self.pending_bytes
    }

    fn takes_last_input_first(&self) -> bool {
        self.spec.is_as_of_now
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let [left, right] = &mut self.rows;
        let mut tables = vec![left, right, &mut self.counts];
        tables.extend(self.windows.as_mut().map(|(windows, _)| windows.table()));
        tables
    }

    fn discard(&mut self) {
        self.pending = [Vec::new(), Vec::new()];
        self.pending_bytes = 0;
        for table in [&mut self.counts].into_iter().chain(&mut self.rows) {
            table.discard();
        }
        if let Some((windows, _)) = &mut self.windows {
            windows.discard();
        }
    }
}
