//! The keys by which a window is divided and ordered, as something that DataFusion can compare and go a distance from.
//!
//! It knows no frames of `RANGE`, which is what every `ORDER BY` without a frame has, over intervals, times and bytes.
//! - An interval is ordered by its length, and a distance from it is one of lengths: PostgreSQL compares intervals so.
//! - A time is ordered by its microseconds.
//! - What lies at a distance from a date is a timestamp.
//! - For anything else a frame that only ends at the current row's peers is one of `GROUPS`.

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits, lit,
};

use crate::functions::{self, span_us};
use crate::pg_text::interval_input;
use crate::properties::unaliased;

/// Whether a window function of the node has a frame of `RANGE` that begins or ends at a distance.
pub fn has_distances(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Window(window) = plan else {
        return false;
    };
    let mut functions = window.window_expr.iter();
    functions.any(|expr| match unaliased(expr) {
        Expr::WindowFunction(function) => has_distance(&function.params.window_frame),
        _ => false,
    })
}

/// Rewrites the keys of a window, whose columns are of `schema`, and its frame. All functions of a node have the same
/// keys, so what a distance asks of them, all get: `is_distant` is [`has_distances`] of the node.
pub fn with_comparable_keys(
    params: &mut WindowFunctionParams,
    schema: &DFSchema,
    is_distant: bool,
) -> Result<()> {
    let first = params.order_by.first();
    let first = first
        .map(|sort| sort.expr.get_type(schema))
        .transpose()?
        .unwrap_or(DataType::Null);
    let frame = &mut params.window_frame;
    let has_distance = has_distance(frame);
    // the same for both: DataFusion takes a key of the partitions for one of the order
    let order_by = params.order_by.iter_mut().map(|sort| &mut sort.expr);
    for key in params.partition_by.iter_mut().chain(order_by) {
        *key = comparable(std::mem::take(key), schema, is_distant)?;
    }
    if frame.units != WindowFrameUnits::Range {
        return Ok(());
    }
    match first {
        DataType::Interval(_) => {
            frame.start_bound = bound(&frame.start_bound, span_us)?;
            frame.end_bound = bound(&frame.end_bound, span_us)?;
        }
        DataType::Time64(_) => {
            let clock_us = |by: IntervalMonthDayNano| i128::from(by.nanoseconds / 1000);
            frame.start_bound = bound(&frame.start_bound, clock_us)?;
            frame.end_bound = bound(&frame.end_bound, clock_us)?;
        }
        DataType::Binary | DataType::Struct(_) if !has_distance => {
            *frame = WindowFrame::new_bounds(
                WindowFrameUnits::Groups,
                frame.start_bound.clone(),
                frame.end_bound.clone(),
            );
        }
        _ => {}
    }
    Ok(())
}

/// The key as something that DataFusion can compare. By calls and not by casts: a cast is not seen in the name of what it
/// is part of, and when DataFusion computes a key once for several functions it tells by names whether it is the same.
fn comparable(key: Expr, schema: &DFSchema, is_distant: bool) -> Result<Expr> {
    let call = |name: &str, args: Vec<Expr>| -> Result<Expr> {
        let function = functions::named(name)?;
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
            function, args,
        )))
    };
    match key.get_type(schema)? {
        DataType::Interval(_) => call("rm_interval_span", vec![key]),
        DataType::Time64(_) => {
            let span = call("rm_time_interval", vec![key])?;
            call("rm_interval_span", vec![span])
        }
        DataType::Date32 if is_distant => {
            let midnight = lit(ScalarValue::Time64Microsecond(Some(0)));
            call("rm_date_time", vec![key, midnight])
        }
        _ => Ok(key),
    }
}

/// A bound at a distance, which is the text of an interval still, as a number of microseconds.
fn bound(
    bound: &WindowFrameBound,
    microseconds: impl Fn(IntervalMonthDayNano) -> i128,
) -> Result<WindowFrameBound> {
    let distance = |value: &ScalarValue| {
        let ScalarValue::Utf8(Some(text)) = value else {
            return Ok(value.clone());
        };
        let by = interval_input::parse(text).map_err(|error| exec_datafusion_err!("{error}"))?;
        let by = microseconds(by);
        if by < 0 {
            return exec_err!("invalid preceding or following size in window function");
        }
        Ok(ScalarValue::Utf8(Some(by.to_string())))
    };
    Ok(match bound {
        WindowFrameBound::Preceding(value) => WindowFrameBound::Preceding(distance(value)?),
        WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
        WindowFrameBound::Following(value) => WindowFrameBound::Following(distance(value)?),
    })
}

fn has_distance(frame: &WindowFrame) -> bool {
    let mut bounds = [&frame.start_bound, &frame.end_bound].into_iter();
    frame.units == WindowFrameUnits::Range
        && bounds.any(|bound| match bound {
            WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => !by.is_null(),
            WindowFrameBound::CurrentRow => false,
        })
}
