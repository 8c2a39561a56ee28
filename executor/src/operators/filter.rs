//! Keeps the rows for which a predicate is true.
//!
//! Semantics: `Δout = { r·w ∈ Δin : p(r) }`. False and NULL both drop the row. A row whose predicate fails is dropped and
//!   reported; its retraction takes the report back.
//! State: none.
//! Output: the input's columns and stream key; append-only if the input is.
//! Watermark: kept on all columns.
//! Cost: one vectorised evaluation per delta; nothing is copied when all rows pass.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::BoundExpr;

use super::chunks;
use super::conform::conform;
use crate::delta::Delta;
use crate::error::Result;
use crate::evaluate::Evaluator;
use crate::operator::{EpochContext, Operator};

/// See the module text.
pub struct Filter {
    evaluator: Evaluator,
    predicate: [Arc<dyn PhysicalExpr>; 1],
    schema: SchemaRef,
}

impl Filter {
    /// `schema`: of the output.
    pub fn new(operator_id: u32, predicate: &BoundExpr, schema: SchemaRef) -> Self {
        Filter {
            evaluator: Evaluator::new(operator_id),
            predicate: [predicate.physical.clone()],
            schema,
        }
    }
}

impl Operator for Filter {
    fn name(&self) -> &'static str {
        "Filter"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let Filter {
            evaluator,
            predicate,
            schema,
        } = self;
        chunks::map(delta, context, |part, failures| {
            let (part, columns) = evaluator.evaluate(predicate.as_slice(), part, failures)?;
            let mask = columns[0].as_boolean();
            let is_all = mask.null_count() == 0 && mask.true_count() == part.num_rows();
            let kept = if is_all { part } else { part.filter(mask)? };
            Ok(kept.with_batch(conform(schema, kept.columns().to_vec(), kept.num_rows())?))
        })
    }
}
