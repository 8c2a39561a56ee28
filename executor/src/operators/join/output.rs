//! The rows that a join gives, in deltas of bounded size.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array, new_null_array};
use arrow::compute::take;
use rivermark_planner::plan::JoinKind;

use super::pairs::Pairs;
use super::spec::Spec;
use super::{LEFT, RIGHT};
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{Emit, EpochContext};
use crate::operators::conform::conform;

/// See the module.
pub struct Output<'a, 'e> {
    pub context: &'a mut EpochContext,
    pub emit: &'a mut Emit<'e>,
}

/// Rows of one side, by their numbers, that are shown by whether they have a match.
#[derive(Default)]
pub struct Singles {
    rows: Vec<u32>,
    weights: Vec<i64>,
    marks: Vec<bool>,
}

impl Singles {
    /// A row's weight and whether it has a match, before and after.
    pub fn change(&mut self, kind: JoinKind, row: usize, before: (i64, bool), after: (i64, bool)) {
        let (weight_before, was_matched) = before;
        let (weight_after, is_matched) = after;
        let shows = |is_matched: bool| match kind {
            JoinKind::Semi => is_matched,
            JoinKind::Mark => true,
            JoinKind::Inner
            | JoinKind::Left
            | JoinKind::Right
            | JoinKind::Full
            | JoinKind::Anti
            | JoinKind::NotIn => !is_matched,
        };
        let before = if shows(was_matched) { weight_before } else { 0 };
        let after = if shows(is_matched) { weight_after } else { 0 };
        if kind == JoinKind::Mark && was_matched != is_matched {
            self.push(row, -before, was_matched);
            self.push(row, after, is_matched);
        } else {
            self.push(row, after - before, is_matched);
        }
    }

    fn push(&mut self, row: usize, weight: i64, mark: bool) {
        if weight != 0 {
            self.rows.push(row as u32);
            self.weights.push(weight);
            self.marks.push(mark);
        }
    }
}

impl Output<'_, '_> {
    /// Pairs that match; those of weight 0 did before too.
    pub fn pairs(
        &mut self,
        spec: &Spec,
        mut pairs: Pairs,
        columns: [&[ArrayRef]; 2],
    ) -> Result<()> {
        if pairs.weights.contains(&0) {
            let keep: Vec<bool> = pairs.weights.iter().map(|weight| *weight != 0).collect();
            pairs.retain(&keep);
        }
        if pairs.len() == 0 {
            return Ok(());
        }
        let mut joined = Vec::with_capacity(spec.schema.fields().len());
        for side in [LEFT, RIGHT] {
            let all: Vec<&ArrayRef> = columns[side].iter().collect();
            joined.extend(pairs.gather(side, &all)?);
        }
        self.push(spec, joined, pairs.weights)
    }

    /// Rows of one side, alone.
    pub fn singles(
        &mut self,
        spec: &Spec,
        side: usize,
        singles: Singles,
        columns: &[ArrayRef],
    ) -> Result<()> {
        if singles.rows.is_empty() {
            return Ok(());
        }
        let indices = UInt32Array::from(singles.rows);
        let own = columns
            .iter()
            .map(|column| Ok(take(column, &indices, None)?))
            .collect::<Result<Vec<_>>>()?;
        let all = self.alone(spec, side, own, singles.marks);
        self.push(spec, all, singles.weights)
    }

    /// Rows that can have no match, with how often each comes and goes.
    pub fn unmatched(&mut self, spec: &Spec, side: usize, rows: &Delta) -> Result<()> {
        if rows.is_empty() || !spec.is_tracked(side) || spec.kind == JoinKind::Semi {
            return Ok(());
        }
        let count = rows.num_rows();
        let all = self.alone(spec, side, rows.columns().to_vec(), vec![false; count]);
        self.push(spec, all, (0..count).map(|row| rows.weight(row)).collect())
    }

    /// The output's columns for rows of one side without a partner.
    fn alone(
        &self,
        spec: &Spec,
        side: usize,
        own: Vec<ArrayRef>,
        marks: Vec<bool>,
    ) -> Vec<ArrayRef> {
        if spec.kind == JoinKind::Mark {
            let mark: ArrayRef = Arc::new(BooleanArray::from(marks));
            return own.into_iter().chain([mark]).collect();
        }
        if !spec.kind.is_pairing() {
            return own;
        }
        let fields = spec.input_schemas[1 - side].fields();
        let nulls: Vec<ArrayRef> = fields
            .iter()
            .map(|field| new_null_array(field.data_type(), marks.len()))
            .collect();
        match side {
            LEFT => own.into_iter().chain(nulls).collect(),
            _ => nulls.into_iter().chain(own).collect(),
        }
    }

    fn push(&mut self, spec: &Spec, columns: Vec<ArrayRef>, weights: Vec<i64>) -> Result<()> {
        let batch = conform(&spec.schema, columns, weights.len())?;
        let is_plain = weights.iter().all(|weight| *weight == 1);
        let weights = (!is_plain).then(|| Int64Array::from(weights));
        (self.emit)(Delta::new(batch, weights), self.context)
    }
}
