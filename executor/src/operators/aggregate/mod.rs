//! GROUP BY, DISTINCT and global aggregates.
//!
//! Semantics: for every group `k` with rows left, `out[k] = (k, f1(rows of k), …, fn(rows of k))`;
//!   `Δout = Σ −out_before[k] + out_after[k]` over the groups that the epoch touched and whose row changed. NULLs group
//!   together, −0.0 with 0.0, NaN with NaN. A group is there while its rows' weights sum to more than 0, whatever the
//!   FILTERs. A global aggregate has its one row from creation, as has the grouping set without columns. Whatever can
//!   not be computed (a sum out of range) takes away the row of that group while it lasts, and is reported. An input row
//!   of which an expression fails is left out of its group and reported.
//! State: `groups`: group key → row count and a state per call (`group_row.rs`), one entry per group; `collections`:
//!   (group key, call, element key) → weight and element, one entry per distinct element of the calls that need their
//!   values (`aggregates/call.rs`). Grows with the number of groups and of elements. `cleaned`, if there is a watermark:
//!   up to where groups are forgotten, one entry.
//! Output: group columns, then one column per call; stream key: the group columns; append-only without calls (DISTINCT)
//!   if the input is.
//! Watermark: kept on group columns. Where a group column has one, state keys begin with it, and groups that it has passed
//!   are forgotten, a range at a time; their output rows stay. Rows that come for them all the same are left out and
//!   counted.
//! Cost: per row, hashing the key and one addition per call; per touched group and epoch, one sorted read and write,
//!   and for calls over collections a seek (min, max, first, last) or a read of all its elements (the rest).

mod collections;
pub(super) mod group_row;
mod keys;
pub(super) mod partial;
pub(super) mod spec;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, interleave, take};
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::{AggregateCall, BoundExpr};

use self::group_row::{GroupTable, StoredGroups};
use self::partial::Partial;
use self::spec::Spec;
use super::conform::conform;
use super::windows::Windows;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::row_as_json;
use crate::operator::{Emit, EpochContext, Failure, Operator};
use crate::state::{Keys, StateTable};
use crate::watermark::Watermarks;

/// See the module text.
pub struct Aggregate {
    spec: Arc<Spec>,
    groups: StateTable,
    collections: StateTable,
    windows: Option<Windows>,
    /// Rows for forgotten windows, since they were last asked for.
    dropped: u64,
    /// What this epoch brought so far, one per thread that took part.
    partials: Vec<Partial>,
}

/// What the epoch's groups show before or after it.
struct View {
    /// One column per call.
    columns: Vec<ArrayRef>,
    /// Whether the group has a row in principle.
    exists: Vec<bool>,
    /// Why it has none all the same.
    failures: Vec<Option<String>>,
}

impl View {
    fn is_shown(&self, group: usize) -> bool {
        self.exists[group] && self.failures[group].is_none()
    }

    fn failure(&self, group: usize) -> Option<&str> {
        if self.exists[group] {
            self.failures[group].as_deref()
        } else {
            None
        }
    }
}

impl Aggregate {
    /// `window`: the group column whose watermark says which groups are over. `tables`: groups, collections, and with a
    /// window one for what is forgotten.
    ///
    /// # Errors
    /// If a type can not be stored or a function can not be prepared.
    pub fn new(
        operator_id: u32,
        group_by: &[BoundExpr],
        calls: &[AggregateCall],
        (permanent, window): (&[i64], Option<usize>),
        schema: SchemaRef,
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let mut tables = tables.into_iter();
        let mut next = || {
            let missing = || ExecutorError::Internal("Aggregate was given too few tables".into());
            tables.next().ok_or_else(missing)
        };
        let (groups, collections) = (next()?, next()?);
        let windows = match window {
            Some(window) => {
                let data_type = group_by[window].data_type.clone();
                Some(Windows::new(data_type, next()?)?)
            }
            None => None,
        };
        let spec = Spec::new(operator_id, group_by, calls, permanent, window, schema)?;
        Ok(Aggregate {
            spec: Arc::new(spec),
            groups,
            collections,
            windows,
            dropped: 0,
            partials: Vec::new(),
        })
    }

    /// The columns that a table of groups shows, and which groups it has. `keys` are the groups'.
    fn view(
        &self,
        table: &GroupTable,
        keys: &[ArrayRef],
        is_stored: impl Fn(usize) -> bool,
    ) -> Result<View> {
        let outputs = table.outputs()?;
        let group_count = table.group_count();
        let mut failures = vec![None; group_count];
        let mut columns = Vec::with_capacity(outputs.len());
        for output in outputs {
            columns.push(output.values);
            for (group, error) in output.failures {
                failures[group].get_or_insert(error);
            }
        }
        let exists = (0..group_count)
            .map(|group| self.spec.is_permanent(keys, group) || is_stored(group))
            .collect();
        Ok(View {
            columns,
            exists,
            failures,
        })
    }

    /// The rows that differ, retracted as they were and inserted as they are, in key order.
    fn difference(
        &self,
        keys: &[ArrayRef],
        order: &[u32],
        before: &View,
        after: &View,
    ) -> Result<Option<Delta>> {
        let comparators = before
            .columns
            .iter()
            .zip(&after.columns)
            .map(|(before, after)| make_comparator(before, after, SortOptions::default()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rows: Vec<(usize, usize)> = Vec::new();
        for group in order.iter().map(|&group| group as usize) {
            let (was_shown, is_shown) = (before.is_shown(group), after.is_shown(group));
            if was_shown
                && is_shown
                && comparators
                    .iter()
                    .all(|compare| compare(group, group).is_eq())
            {
                continue;
            }
            rows.extend(was_shown.then_some((0, group)));
            rows.extend(is_shown.then_some((1, group)));
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let indices = UInt32Array::from_iter_values(rows.iter().map(|&(_, group)| group as u32));
        let mut columns = keys
            .iter()
            .map(|key| take(key, &indices, None))
            .collect::<Result<Vec<_>, _>>()?;
        for (before, after) in before.columns.iter().zip(&after.columns) {
            columns.push(interleave(&[before.as_ref(), after.as_ref()], &rows)?);
        }
        let has_retraction = rows.iter().any(|&(side, _)| side == 0);
        let weights = rows.iter().map(|&(side, _)| if side == 0 { -1 } else { 1 });
        let weights = has_retraction.then(|| Int64Array::from_iter_values(weights));
        let batch = conform(&self.spec.schema, columns, rows.len())?;
        Ok(Some(Delta::new(batch, weights)))
    }

    /// Groups that began to fail, and those that recovered.
    fn report(
        &self,
        keys: &[ArrayRef],
        key_bytes: &Keys,
        before: &View,
        after: &View,
        failures: &mut Vec<Failure>,
    ) -> Result<()> {
        for group in 0..before.exists.len() {
            let (weight, error) = match (before.failure(group), after.failure(group)) {
                (None, Some(error)) => (1, error),
                (Some(error), None) => (-1, error),
                (None, None) | (Some(_), Some(_)) => continue,
            };
            let mut key = self.spec.operator_id.to_be_bytes().to_vec();
            key.extend_from_slice(key_bytes.get(group));
            let payload = row_as_json(self.spec.schema.fields(), keys, group)?;
            failures.push(Failure {
                key,
                weight,
                payload,
                error: error.to_string(),
            });
        }
        Ok(())
    }
}

impl Operator for Aggregate {
    fn name(&self) -> &'static str {
        "Aggregate"
    }

    fn initialize(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        let keys = self.spec.permanent_keys()?;
        let count = match keys.first() {
            Some(key) => key.len(),
            None => usize::from(self.spec.is_global()),
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        let view = self.view(&GroupTable::empty(&self.spec, count)?, &keys, |_| true)?;
        // Over no rows a call fails in every group or in none.
        if !view.is_shown(0) {
            return Ok(Vec::new());
        }
        let columns = keys.into_iter().chain(view.columns).collect();
        let batch = conform(&self.spec.schema, columns, count)?;
        Ok(vec![Delta::insertions(batch)])
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let passed = match &mut self.windows {
            Some(windows) => windows.passed()?,
            None => None,
        };
        self.dropped +=
            partial::update_all(&mut self.partials, &self.spec, delta, passed, context)?;
        Ok(Vec::new())
    }

    fn finish(&mut self, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let Some(partial) = partial::merge_all(&mut self.partials, &self.spec)? else {
            return Ok(Vec::new());
        };
        let group_count = partial.group_count();
        let (keys, changes) = partial.into_changes()?;
        let key_bytes = self.spec.encode_keys(&keys, group_count)?;
        let stored = StoredGroups::read(&key_bytes, &mut self.groups)?;
        let readers = stored.readers();

        let mut before = GroupTable::empty(&self.spec, group_count)?;
        before.merge_stored(&mut readers.clone())?;
        let mut after =
            GroupTable::of_changes(&self.spec, changes, &key_bytes, &mut self.collections)?;
        after.merge_stored(&mut readers.clone())?;
        if let Some(group) = after.counts().iter().position(|&count| count < 0) {
            let key = row_as_json(self.spec.schema.fields(), &keys, group)?;
            let message = format!("more rows of group {key} were retracted than there are");
            return Err(ExecutorError::Internal(message));
        }

        let old_view = self.view(&before, &keys, |group| readers[group].is_some())?;
        let new_view = self.view(&after, &keys, |group| after.counts()[group] > 0)?;
        let output = self.difference(&keys, &stored.order, &old_view, &new_view)?;
        self.report(
            &keys,
            &key_bytes,
            &old_view,
            &new_view,
            &mut context.failures,
        )?;

        let mut row = Vec::new();
        for group in stored.order.iter().map(|&group| group as usize) {
            let old = readers[group].map(|reader| reader.rest());
            if after.counts()[group] == 0 {
                if old.is_some() {
                    self.groups.delete(key_bytes.get(group));
                }
                continue;
            }
            row.clear();
            after.store(group, &mut row);
            if old != Some(row.as_slice()) {
                self.groups.put(key_bytes.get(group), &row);
            }
        }
        Ok(output.into_iter().collect())
    }

    fn advance(
        &mut self,
        _inputs: &[Watermarks],
        output: &Watermarks,
        context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        let Some((windows, column)) = self.windows.as_mut().zip(self.spec.window) else {
            return Ok(());
        };
        let tables = &mut [&mut self.groups, &mut self.collections];
        windows.clean(output.get(column), context, tables)
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn held_bytes(&self) -> usize {
        self.partials.iter().map(Partial::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let mut tables = vec![&mut self.groups, &mut self.collections];
        tables.extend(self.windows.as_mut().map(Windows::table));
        tables
    }

    fn discard(&mut self) {
        self.partials.clear();
        self.groups.discard();
        self.collections.discard();
        if let Some(windows) = &mut self.windows {
            windows.discard();
        }
    }
}
