//! Computes new columns from each row.
//!
//! Semantics: `Δout = { (e1(r), …, en(r))·w : r·w ∈ Δin }`. A row of which an expression fails is dropped and reported; its
//!   retraction takes the report back. Equal output rows are not brought together here.
//! State: none.
//! Output: one column per expression; append-only if the input is.
//! Watermark: kept on columns that are a monotone function of a watermark column (the planner's decision).
//! Cost: one vectorised evaluation per expression and delta; a plain column is not copied.

use std::sync::Arc;

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
pub struct Project {
    evaluator: Evaluator,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Project {
    /// `schema`: of the output, one field per expression.
    pub fn new(operator_id: u32, exprs: &[BoundExpr], schema: SchemaRef) -> Self {
        let exprs = exprs.iter().map(|expr| expr.physical.clone()).collect();
        Project {
            evaluator: Evaluator::new(operator_id),
            exprs,
            schema,
        }
    }
}

impl Operator for Project {
    fn name(&self) -> &'static str {
        "Project"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let Project {
            evaluator,
            exprs,
            schema,
        } = self;
        chunks::map(delta, context, |part, failures| {
            let (part, columns) = evaluator.evaluate(exprs, part, failures)?;
            Ok(part.with_batch(conform(schema, columns, part.num_rows())?))
        })
    }
}
