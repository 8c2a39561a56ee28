//! One thread's share of an epoch: its rows by group, pre-aggregated.
//!
//! Every thread has an interner and states of its own, so that one hot group still uses all of them; at the end of
//! the epoch the shares are merged group by group, through the stored form of the states.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt64Array};
use arrow::compute::{filter, prep_null_mask_filter};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::GroupValues;
use rayon::prelude::*;

use super::spec::{CallInputs, Spec};
use crate::aggregates::{Accumulate, Call, CallKind, EpochEntries, GroupedRows, Reader};
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{EpochContext, Failure};
use crate::operators::chunks;
use crate::operators::windows::without_passed;

/// See the module text.
pub struct Partial {
    /// `None`: everything is group 0.
    interner: Option<Box<dyn GroupValues>>,
    /// The group of each row of the current batch.
    groups: Vec<usize>,
    /// Sum of the weights of each group's rows.
    row_counts: Vec<i64>,
    calls: Vec<Change>,
}

/// What the epoch's rows mean for one call.
pub enum Change {
    Accumulated(Box<dyn Accumulate>),
    /// Elements of collections.
    Collected(EpochEntries),
}

/// What the epoch's rows mean for all groups.
pub struct Changes {
    pub row_counts: Vec<i64>,
    pub calls: Vec<Change>,
}

/// Adds rows, on all threads if there are many, but for those of windows before `passed`; how many these were.
pub fn update_all(
    partials: &mut Vec<Partial>,
    spec: &Spec,
    delta: Delta,
    passed: Option<i64>,
    context: &mut EpochContext,
) -> Result<u64> {
    if delta.is_empty() {
        return Ok(0);
    }
    let parts = chunks::split(delta, context.shards);
    while partials.len() < parts.len() {
        partials.push(Partial::new(spec)?);
    }
    let jobs = partials.iter_mut().zip(parts);
    let run = |(partial, part): (&mut Partial, Delta)| {
        let mut failures = Vec::new();
        let dropped = partial.update(spec, part, passed, &mut failures)?;
        Ok((failures, dropped))
    };
    let results: Vec<Result<(Vec<Failure>, u64)>> = if jobs.len() == 1 {
        jobs.map(run).collect()
    } else {
        jobs.collect::<Vec<_>>().into_par_iter().map(run).collect()
    };
    let mut all_dropped = 0;
    for result in results {
        let (failures, dropped) = result?;
        context.failures.extend(failures);
        all_dropped += dropped;
    }
    Ok(all_dropped)
}

/// What all threads found, in one; `None` if there are no rows.
pub fn merge_all(partials: &mut Vec<Partial>, spec: &Spec) -> Result<Option<Partial>> {
    let mut partials = std::mem::take(partials).into_iter();
    let Some(mut whole) = partials.next() else {
        return Ok(None);
    };
    for part in partials {
        whole.merge(spec, part)?;
    }
    Ok((whole.group_count() > 0).then_some(whole))
}

impl Partial {
    pub fn new(spec: &Spec) -> Result<Self> {
        let calls = spec.calls.iter().map(|call| match &call.kind {
            CallKind::Accumulated(recipe) => Ok(Change::Accumulated(recipe.states()?)),
            CallKind::Distinct { .. } | CallKind::Ordered { .. } => {
                Ok(Change::Collected(EpochEntries::default()))
            }
        });
        Ok(Partial {
            interner: spec.interner()?,
            groups: Vec::new(),
            row_counts: Vec::new(),
            calls: calls.collect::<Result<_>>()?,
        })
    }

    /// Number of groups so far.
    pub fn group_count(&self) -> usize {
        self.row_counts.len()
    }

    /// Bytes in memory, about.
    pub fn memory(&self) -> usize {
        let keys = self.interner.as_ref().map_or(0, |groups| groups.size());
        let of = |call: &Change| match call {
            // of most functions; a few keep more
            Change::Accumulated(_) => self.group_count() * 32,
            Change::Collected(elements) => elements.memory(),
        };
        keys + self.group_count() * 8 + self.calls.iter().map(of).sum::<usize>()
    }

    /// Adds rows, but for those of windows before `passed`; how many these were.
    pub fn update(
        &mut self,
        spec: &Spec,
        delta: Delta,
        passed: Option<i64>,
        failures: &mut Vec<Failure>,
    ) -> Result<u64> {
        let compute = |batch: &_| spec.evaluate(batch);
        let (delta, columns) = spec.evaluator.evaluate_with(&compute, delta, failures)?;
        let before = delta.num_rows();
        let (delta, columns) = match spec.window.zip(passed) {
            Some((window, passed)) => without_passed(delta, columns, window, passed)?,
            None => (delta, columns),
        };
        let dropped = (before - delta.num_rows()) as u64;
        if delta.is_empty() {
            return Ok(dropped);
        }
        let inputs = spec.inputs(columns)?;
        self.intern(&inputs.keys, delta.num_rows())?;
        let weights = delta.weights().map(|weights| weights.values().as_ref());
        match weights {
            None => self
                .groups
                .iter()
                .for_each(|&group| self.row_counts[group] += 1),
            Some(weights) => {
                self.groups
                    .iter()
                    .zip(weights)
                    .for_each(|(&group, &weight)| self.row_counts[group] += weight);
            }
        }
        let group_count = self.row_counts.len();
        for ((call, change), inputs) in spec.calls.iter().zip(&mut self.calls).zip(inputs.calls) {
            change.update(call, &self.groups, weights, inputs, group_count)?;
        }
        Ok(dropped)
    }

    /// Fills `groups` and makes room for new ones.
    fn intern(&mut self, keys: &[ArrayRef], row_count: usize) -> Result<()> {
        let group_count = match &mut self.interner {
            None => {
                self.groups.clear();
                self.groups.resize(row_count, 0);
                1
            }
            Some(interner) => {
                interner.intern(keys, &mut self.groups)?;
                interner.len()
            }
        };
        self.row_counts.resize(group_count, 0);
        Ok(())
    }

    /// Adds another thread's share.
    pub fn merge(&mut self, spec: &Spec, mut other: Partial) -> Result<()> {
        let other_count = other.group_count();
        if other_count == 0 {
            return Ok(());
        }
        let keys = other.emit_keys()?;
        self.intern(&keys, other_count)?;
        let group_count = self.row_counts.len();
        for (&group, count) in self.groups.iter().zip(&other.row_counts) {
            self.row_counts[group] += count;
        }
        debug_assert_eq!(spec.calls.len(), self.calls.len());
        for (mine, theirs) in self.calls.iter_mut().zip(&other.calls) {
            match (mine, theirs) {
                (Change::Accumulated(mine), Change::Accumulated(theirs)) => {
                    merge_states(mine.as_mut(), theirs.as_ref(), &self.groups, group_count)?;
                }
                (Change::Collected(mine), Change::Collected(theirs)) => {
                    mine.merge(theirs, &self.groups)
                }
                (Change::Accumulated(_), Change::Collected(_))
                | (Change::Collected(_), Change::Accumulated(_)) => {
                    unreachable!("all shares are made from the same calls")
                }
            }
        }
        Ok(())
    }

    fn emit_keys(&mut self) -> Result<Vec<ArrayRef>> {
        match &mut self.interner {
            None => Ok(Vec::new()),
            Some(interner) => Ok(interner.emit(EmitTo::All)?),
        }
    }

    /// The keys of the groups, and what happened to them.
    pub fn into_changes(mut self) -> Result<(Vec<ArrayRef>, Changes)> {
        let keys = self.emit_keys()?;
        let group_count = self.row_counts.len();
        for change in &mut self.calls {
            if let Change::Accumulated(states) = change {
                states.resize(group_count);
            }
        }
        Ok((
            keys,
            Changes {
                row_counts: self.row_counts,
                calls: self.calls,
            },
        ))
    }
}

impl Change {
    fn update(
        &mut self,
        call: &Call,
        groups: &[usize],
        weights: Option<&[i64]>,
        inputs: CallInputs,
        group_count: usize,
    ) -> Result<()> {
        let Some(mask) = inputs.filter else {
            return self.add(
                call,
                &GroupedRows {
                    groups,
                    args: &inputs.columns,
                    weights,
                },
                group_count,
            );
        };
        let mask = mask.as_boolean();
        let mask = if mask.null_count() > 0 {
            &prep_null_mask_filter(mask)
        } else {
            mask
        };
        let columns = inputs
            .columns
            .iter()
            .map(|column| filter(column, mask))
            .collect::<Result<Vec<_>, _>>()?;
        let groups = UInt64Array::from_iter_values(groups.iter().map(|&group| group as u64));
        let groups = filter(&groups, mask)?;
        let groups: Vec<usize> = groups
            .as_primitive::<UInt64Type>()
            .values()
            .iter()
            .map(|&group| group as usize)
            .collect();
        let weights = weights
            .map(|weights| filter(&Int64Array::from(weights.to_vec()), mask))
            .transpose()?;
        let weights = weights
            .as_ref()
            .map(|weights| weights.as_primitive::<Int64Type>().values().as_ref());
        self.add(
            call,
            &GroupedRows {
                groups: &groups,
                args: &columns,
                weights,
            },
            group_count,
        )
    }

    fn add(&mut self, call: &Call, rows: &GroupedRows<'_>, group_count: usize) -> Result<()> {
        match (self, &call.kind) {
            (Change::Accumulated(states), CallKind::Accumulated(_)) => {
                states.resize(group_count);
                states.update(rows)
            }
            (
                Change::Collected(collected),
                CallKind::Distinct { entries, .. } | CallKind::Ordered { entries, .. },
            ) => collected.update(entries, rows),
            (Change::Accumulated(_), CallKind::Distinct { .. } | CallKind::Ordered { .. })
            | (Change::Collected(_), CallKind::Accumulated(_)) => {
                unreachable!("changes are made from the same calls")
            }
        }
    }
}

/// Adds the states of groups `0..` of `theirs` to groups `groups[0..]` of `mine`.
fn merge_states(
    mine: &mut dyn Accumulate,
    theirs: &dyn Accumulate,
    groups: &[usize],
    group_count: usize,
) -> Result<()> {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(groups.len());
    for theirs_group in 0..groups.len() {
        theirs.store(theirs_group, &mut bytes);
        ends.push(bytes.len());
    }
    let mut readers: Vec<Option<Reader<'_>>> = vec![None; group_count];
    let mut start = 0;
    for (&group, end) in groups.iter().zip(ends) {
        readers[group] = Some(Reader::new(&bytes[start..end]));
        start = end;
    }
    mine.resize(group_count);
    mine.merge_stored(&mut readers)
}
