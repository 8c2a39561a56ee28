//! A change within an epoch: rows with integer weights (a Z-set).
//!
//! `+1` inserts a row, `-1` retracts one, an update is both in the same epoch. Within an epoch a row's accumulated
//! weight may be negative; at the epoch's end it is not.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter, filter_record_batch, take, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;

/// Rows with weights.
#[derive(Debug, Clone)]
pub struct Delta {
    batch: RecordBatch,
    /// `None`: every weight is +1 (the append-only case). Never contains nulls.
    weights: Option<Int64Array>,
}

impl Delta {
    /// Rows that are inserted once each.
    pub fn insertions(batch: RecordBatch) -> Self {
        Delta {
            batch,
            weights: None,
        }
    }

    /// Rows that are retracted once each.
    pub fn retractions(batch: RecordBatch) -> Self {
        let weights = Int64Array::from(vec![-1; batch.num_rows()]);
        Delta {
            batch,
            weights: Some(weights),
        }
    }

    /// Rows with explicit weights, one per row.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(batch: RecordBatch, weights: Option<Int64Array>) -> Self {
        if let Some(weights) = &weights {
            assert_eq!(weights.len(), batch.num_rows(), "one weight per row");
            assert_eq!(weights.null_count(), 0, "weights are never null");
        }
        Delta { batch, weights }
    }

    /// No rows.
    pub fn empty(schema: SchemaRef) -> Self {
        Delta::insertions(RecordBatch::new_empty(schema))
    }

    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    pub fn columns(&self) -> &[ArrayRef] {
        self.batch.columns()
    }

    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }

    /// `None`: all +1.
    pub fn weights(&self) -> Option<&Int64Array> {
        self.weights.as_ref()
    }

    /// The weight of row `i`.
    pub fn weight(&self, i: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w.value(i))
    }

    /// The same weights on other columns (a projection).
    pub fn with_batch(&self, batch: RecordBatch) -> Self {
        Delta::new(batch, self.weights.clone())
    }

    /// Rows where `mask` is true.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self, ArrowError> {
        let batch = filter_record_batch(&self.batch, mask)?;
        let weights = match &self.weights {
            Some(weights) => Some(filter(weights, mask)?.as_primitive::<Int64Type>().clone()),
            None => None,
        };
        Ok(Delta { batch, weights })
    }

    /// Each row as often as its weight says, with a weight of 1; `None` if there is a retraction.
    pub fn repeated(&self) -> Result<Option<Self>, ArrowError> {
        let weights = match &self.weights {
            Some(weights) if weights.values().iter().any(|&weight| weight != 1) => weights,
            _ => return Ok(Some(Delta::insertions(self.batch.clone()))),
        };
        if weights.values().iter().any(|&weight| weight < 0) {
            return Ok(None);
        }
        let times = |row: usize| std::iter::repeat_n(row as u32, weights.value(row) as usize);
        let rows: UInt32Array = (0..self.num_rows()).flat_map(times).collect();
        Ok(Some(Delta::insertions(take_record_batch(
            &self.batch,
            &rows,
        )?)))
    }

    /// Rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let batch = take_record_batch(&self.batch, indices)?;
        let weights = match &self.weights {
            Some(weights) => Some(
                take(weights, indices, None)?
                    .as_primitive::<Int64Type>()
                    .clone(),
            ),
            None => None,
        };
        Ok(Delta { batch, weights })
    }

    /// Rows `offset .. offset + length`, without copying.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Delta {
            batch: self.batch.slice(offset, length),
            weights: self.weights.as_ref().map(|w| w.slice(offset, length)),
        }
    }

    /// Bytes of its rows, about: of a slice only its part.
    pub fn memory(&self) -> usize {
        let of = |array: &ArrayRef| {
            let data = array.to_data();
            data.get_slice_memory_size()
                .unwrap_or_else(|_| array.get_array_memory_size())
        };
        let weights = self.weights.as_ref().map_or(0, |weights| weights.len() * 8);
        self.columns().iter().map(of).sum::<usize>() + weights
    }

    /// All rows of `deltas`, in order.
    pub fn concat(schema: SchemaRef, deltas: &[Delta]) -> Result<Self, ArrowError> {
        if let [only] = deltas {
            return Ok(only.clone());
        }
        let batch = concat_batches(&schema, deltas.iter().map(|d| &d.batch))?;
        let weights = deltas.iter().any(|d| d.weights.is_some()).then(|| {
            deltas
                .iter()
                .flat_map(|d| (0..d.num_rows()).map(|i| d.weight(i)))
                .collect::<Vec<_>>()
                .into()
        });
        Ok(Delta { batch, weights })
    }
}
