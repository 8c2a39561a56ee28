//! Repeats rows for GROUPING SETS, ROLLUP and CUBE.
//!
//! Semantics: `Δout = { (r, k1 or NULL, …, kn or NULL, id)·w : r·w ∈ Δin, each set }`, NULL where the set leaves the key
//!   out. A row of which a key fails is dropped and reported; its retraction takes the report back.
//! State: none.
//! Output: the input's columns, the keys, the set's id; append-only if the input is; no stream key.
//! Watermark: none; the aggregate above groups by keys that may be NULL.
//! Cost: one vectorised evaluation per key and delta; columns are shared between the sets, not copied.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, new_null_array};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{BoundExpr, GroupingSet};

use super::conform::conform;
use crate::delta::Delta;
use crate::error::Result;
use crate::evaluate::Evaluator;
use crate::operator::{EpochContext, Operator};

/// See the module text.
pub struct GroupingSets {
    evaluator: Evaluator,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    sets: Vec<GroupingSet>,
    schema: SchemaRef,
}

impl GroupingSets {
    /// `schema`: of the output.
    pub fn new(
        operator_id: u32,
        keys: &[BoundExpr],
        sets: &[GroupingSet],
        schema: SchemaRef,
    ) -> Self {
        GroupingSets {
            evaluator: Evaluator::new(operator_id),
            keys: keys.iter().map(|key| key.physical.clone()).collect(),
            sets: sets.to_vec(),
            schema,
        }
    }
}

impl Operator for GroupingSets {
    fn name(&self) -> &'static str {
        "GroupingSets"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let failures = &mut context.failures;
        let (delta, keys) = self.evaluator.evaluate(&self.keys, delta, failures)?;
        let count = delta.num_rows();
        if count == 0 {
            return Ok(Vec::new());
        }
        let repeated = |set: &GroupingSet| {
            let mut columns: Vec<ArrayRef> = delta.columns().to_vec();
            for (key, is_left_out) in keys.iter().zip(&set.left_out) {
                columns.push(match is_left_out {
                    true => new_null_array(key.data_type(), count),
                    false => key.clone(),
                });
            }
            columns.push(Arc::new(Int64Array::from(vec![set.id; count])));
            Ok(delta.with_batch(conform(&self.schema, columns, count)?))
        };
        self.sets.iter().map(repeated).collect()
    }
}
