//! The residual predicate over candidate pairs, in vectors.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::BoundExpr;

use super::{LEFT, RIGHT};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::{Evaluator, evaluate_all};
use crate::operator::Failure;
use crate::pieces::most_rows;

/// Most pairs that are looked at together. Tests split much.
fn max_pairs() -> usize {
    most_rows(if cfg!(test) { 7 } else { 8192 })
}

/// Pairs of rows, by their numbers in columns of the left and of the right, with how often each comes and goes.
#[derive(Default)]
pub struct Pairs {
    pub rows: [Vec<u32>; 2],
    pub weights: Vec<i64>,
}

impl Pairs {
    pub fn push(&mut self, left: usize, right: usize, weight: i64) {
        self.rows[LEFT].push(left as u32);
        self.rows[RIGHT].push(right as u32);
        self.weights.push(weight);
    }

    pub fn len(&self) -> usize {
        self.weights.len()
    }

    pub fn is_full(&self) -> bool {
        self.len() >= max_pairs()
    }

    /// The given columns of one side, one row per pair.
    pub fn gather(&self, side: usize, columns: &[&ArrayRef]) -> Result<Vec<ArrayRef>> {
        let indices = UInt32Array::from(self.rows[side].clone());
        let taken = columns
            .iter()
            .map(|column| Ok(take(column, &indices, None)?));
        taken.collect()
    }

    /// Keeps the pairs for which `keep` is true.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut kept = keep.iter().copied().cycle();
        let mut is_kept = move || kept.next().unwrap_or(true);
        for rows in &mut self.rows {
            rows.retain(|_| is_kept());
        }
        self.weights.retain(|_| is_kept());
    }
}

/// See the module.
pub struct Residual {
    /// Over the columns that it uses.
    predicate: [Arc<dyn PhysicalExpr>; 1],
    /// These columns, by side.
    used: [Vec<usize>; 2],
    schema: SchemaRef,
    pub is_fallible: bool,
    evaluator: Evaluator,
}

impl Residual {
    pub fn new(residual: &BoundExpr, sides: [&SchemaRef; 2], evaluator: Evaluator) -> Result<Self> {
        let width = sides[LEFT].fields().len();
        let mut used: Vec<usize> = collect_columns(&residual.physical)
            .iter()
            .map(Column::index)
            .collect();
        used.sort_unstable();
        used.dedup();
        let field = |index: &usize| {
            let (side, index) = if *index < width {
                (LEFT, *index)
            } else {
                (RIGHT, index - width)
            };
            sides[side].field(index).clone()
        };
        let schema = Arc::new(Schema::new(used.iter().map(field).collect::<Vec<_>>()));
        let predicate = residual.physical.clone().transform(|part| {
            let Some(column) = part.downcast_ref::<Column>() else {
                return Ok(Transformed::no(part));
            };
            let place = used.binary_search(&column.index()).unwrap_or_default();
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), place));
            Ok(Transformed::yes(column))
        })?;
        let split = used.partition_point(|index| *index < width);
        let right = used[split..].iter().map(|index| index - width).collect();
        Ok(Residual {
            predicate: [predicate.data],
            used: [used[..split].to_vec(), right],
            schema,
            is_fallible: residual.is_fallible,
            evaluator,
        })
    }

    /// Which pairs match. A pair of which the predicate fails does not, and is reported.
    pub fn matches(
        &self,
        pairs: &Pairs,
        columns: [&[ArrayRef]; 2],
        failures: &mut Vec<Failure>,
    ) -> Result<Vec<bool>> {
        let mut gathered = Vec::with_capacity(self.schema.fields().len());
        for side in [LEFT, RIGHT] {
            let used: Vec<&ArrayRef> = self.used[side].iter().map(|i| &columns[side][*i]).collect();
            gathered.extend(pairs.gather(side, &used)?);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), gathered, &options)?;
        let mut found = Vec::with_capacity(pairs.len());
        self.evaluate(&batch, &pairs.weights, &mut found, failures)?;
        Ok(found)
    }

    fn evaluate(
        &self,
        batch: &RecordBatch,
        weights: &[i64],
        found: &mut Vec<bool>,
        failures: &mut Vec<Failure>,
    ) -> Result<()> {
        let count = batch.num_rows();
        match evaluate_all(&self.predicate, batch) {
            Ok(columns) => {
                let mask: &BooleanArray = columns[0].as_boolean();
                found.extend((0..count).map(|row| mask.is_valid(row) && mask.value(row)));
                Ok(())
            }
            Err(ExecutorError::Evaluation(_)) if count > 1 => {
                let half = count / 2;
                let (first, second) = weights.split_at(half);
                self.evaluate(&batch.slice(0, half), first, found, failures)?;
                self.evaluate(&batch.slice(half, count - half), second, found, failures)
            }
            Err(ExecutorError::Evaluation(_)) => {
                // reports the pair, unless it is there as often as before
                if weights[0] != 0 {
                    let pair = Delta::new(batch.clone(), Some(weights.to_vec().into()));
                    self.evaluator.evaluate(&self.predicate, pair, failures)?;
                }
                found.push(false);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }
}
