//! Constant rows.
//!
//! Semantics: `Δout = rows` once, when the view is created; nothing ever after.
//! State: none.
//! Output: the rows' columns; append-only; stream key: none is needed for a single row, else there is none.
//! Watermark: none.
//! Cost: none.

use arrow::array::RecordBatch;

use super::conform::conform;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{EpochContext, Operator};

/// See the module text.
pub struct Values {
    rows: RecordBatch,
}

impl Values {
    /// Rows of the output's schema.
    pub fn new(rows: &RecordBatch, schema: &arrow::datatypes::SchemaRef) -> Result<Self> {
        Ok(Values {
            rows: conform(schema, rows.columns().to_vec(), rows.num_rows())?,
        })
    }
}

impl Operator for Values {
    fn name(&self) -> &'static str {
        "Values"
    }

    fn initialize(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        Ok(vec![Delta::insertions(self.rows.clone())])
    }

    fn push(
        &mut self,
        _port: usize,
        _delta: Delta,
        _context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        Err(ExecutorError::Internal("Values has no input".to_string()))
    }
}
