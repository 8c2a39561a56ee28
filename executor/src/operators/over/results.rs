//! Runs window functions over the rows of one partition, or a part of it, in order.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter, prep_null_mask_filter};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::window_state::WindowFrameContext;
use datafusion::physical_plan::WindowExpr;
use rivermark_planner::plan::{FrameAggregate, WindowCall};

use crate::error::Result;
use crate::evaluate::evaluate_all;

/// One column per call.
pub fn results(calls: &[WindowCall], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    calls
        .iter()
        .map(|call| match &call.anew {
            Some(aggregate) => frame_by_frame(call.function.as_ref(), aggregate, rows),
            None => Ok(call.function.evaluate(rows)?),
        })
        .collect()
}

/// An aggregate of each row's frame, from nothing.
fn frame_by_frame(
    function: &dyn WindowExpr,
    aggregate: &FrameAggregate,
    rows: &RecordBatch,
) -> Result<ArrayRef> {
    let args = evaluate_all(&aggregate.function.expressions(), rows)?;
    let order: Vec<ArrayRef> = function
        .order_by_columns(rows)?
        .into_iter()
        .map(|column| column.values)
        .collect();
    let mask = match &aggregate.filter {
        None => None,
        Some(filter) => {
            let mask = filter.evaluate(rows)?.into_array(rows.num_rows())?;
            let mask = mask.as_boolean();
            Some(match mask.null_count() {
                0 => mask.clone(),
                _ => prep_null_mask_filter(mask),
            })
        }
    };
    let options = function.order_by().iter().map(|by| by.options).collect();
    let mut frames = WindowFrameContext::new(function.get_window_frame().clone(), options);
    let mut frame = 0..0;
    let mut values: Vec<ScalarValue> = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        frame = frames.calculate_range(&order, &frame, rows.num_rows(), row)?;
        let mut accumulator = aggregate.function.create_accumulator()?;
        if !frame.is_empty() {
            let inside = |array: &ArrayRef| part(array, frame.start, frame.len(), mask.as_ref());
            let inside = args.iter().map(inside).collect::<Result<Vec<_>>>()?;
            accumulator.update_batch(&inside)?;
        }
        values.push(accumulator.evaluate()?);
    }
    Ok(ScalarValue::iter_to_array(values)?)
}

fn part(
    array: &ArrayRef,
    start: usize,
    length: usize,
    mask: Option<&BooleanArray>,
) -> Result<ArrayRef> {
    let slice = array.slice(start, length);
    match mask {
        None => Ok(slice),
        Some(mask) => Ok(filter(&slice, &mask.slice(start, length))?),
    }
}
