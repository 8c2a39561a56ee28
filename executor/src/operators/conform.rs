//! Giving computed columns exactly the types that the plan promises.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;

use crate::error::{ExecutorError, Result};

/// A batch of `schema`. Columns of a like type (another name inside a list, a dictionary) are cast.
pub fn conform(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    row_count: usize,
) -> Result<RecordBatch> {
    let columns = schema.fields().iter().zip(columns).map(|(field, column)| {
        if column.data_type() == field.data_type() {
            Ok(column)
        } else {
            cast(&column, field.data_type())
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    // What does not fit the plan is the planner's mistake, not a row's.
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| {
        ExecutorError::Internal(format!("a column is not what the plan says: {error}"))
    })
}
