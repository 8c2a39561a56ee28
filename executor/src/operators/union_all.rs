//! Brings several inputs together.
//!
//! Semantics: `Δout = Δin0 + Δin1 + …`; bag semantics, nothing is compared.
//! State: none.
//! Output: the columns of the plan, by position; append-only if all inputs are; no stream key.
//! Watermark: the minimum of the inputs' watermarks, column by column.
//! Cost: none; batches are handed through.

use arrow::datatypes::SchemaRef;

use super::conform::conform;
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{EpochContext, Operator};

/// See the module text.
pub struct UnionAll {
    schema: SchemaRef,
}

impl UnionAll {
    /// `schema`: of the output.
    pub fn new(schema: SchemaRef) -> Self {
        UnionAll { schema }
    }
}

impl Operator for UnionAll {
    fn name(&self) -> &'static str {
        "UnionAll"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        _context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let batch = conform(&self.schema, delta.columns().to_vec(), delta.num_rows())?;
        Ok(vec![delta.with_batch(batch)])
    }
}
