//! Expressions that only grow with time, so that a bound of a column becomes one of what is computed of it.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Case, Expr, Operator};

use super::unaliased;
use crate::functions::{CumulateEnds, WindowStart, WindowStarts};

/// Whether `expr` never decreases when a column for which `is_base` holds never decreases.
pub fn follows(expr: &Expr, is_base: &dyn Fn(&Expr) -> bool) -> bool {
    if is_base(expr) {
        return true;
    }
    match expr {
        Expr::Alias(alias) => follows(&alias.expr, is_base),
        Expr::Cast(cast) if is_instant(cast.field.data_type()) => follows(&cast.expr, is_base),
        Expr::BinaryExpr(binary) => {
            matches!(binary.op, Operator::Plus | Operator::Minus)
                && is_fixed_length(&binary.right)
                && follows(&binary.left, is_base)
        }
        Expr::ScalarFunction(function) => match function.name() {
            // of lists: all their elements
            WindowStart::NAME | WindowStarts::NAME | CumulateEnds::NAME => function
                .args
                .first()
                .is_some_and(|time| follows(time, is_base)),
            // and the zone, which matters for days and months only
            "rm_timestamp_add" | "rm_timestamp_subtract" => match function.args.as_slice() {
                [time, length, ..] => is_fixed_length(length) && follows(time, is_base),
                _ => false,
            },
            "date_trunc" | "date_bin" => {
                matches!(function.args.first(), Some(Expr::Literal(..)))
                    && function
                        .args
                        .get(1)
                        .is_some_and(|time| follows(time, is_base))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether `expr` has a bound when columns for which `is_base` holds have one: it follows them, or takes the first that is
/// not NULL of several such values.
pub(super) fn is_bounded(expr: &Expr, is_base: &dyn Fn(&Expr) -> bool) -> bool {
    match unaliased(expr) {
        Expr::ScalarFunction(function) if function.name() == "coalesce" => {
            function.args.iter().all(|arg| is_bounded(arg, is_base))
        }
        Expr::Case(Case {
            expr: None,
            when_then_expr,
            else_expr: Some(other),
        }) => {
            let is_choice =
                |when: &Expr, then: &Expr| matches!(when, Expr::IsNotNull(is) if **is == *then);
            when_then_expr
                .iter()
                .all(|(when, then)| is_choice(when, then))
                && when_then_expr
                    .iter()
                    .all(|(_, then)| is_bounded(then, is_base))
                && is_bounded(other, is_base)
        }
        other => follows(other, is_base),
    }
}

/// Whether `expr` is a constant interval without days and months: in a time zone where clocks are set back, later times
/// can have earlier tomorrows.
fn is_fixed_length(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            interval.months == 0 && interval.days == 0
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => interval.days == 0,
        _ => false,
    }
}

/// Whether values of the type are points of time, which a watermark can bound.
pub fn is_instant(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32 => true,
        DataType::List(element) => {
            matches!(
                element.data_type(),
                DataType::Timestamp(TimeUnit::Microsecond, _)
            )
        }
        _ => false,
    }
}

/// Whether `expr` cuts time into windows.
pub(super) fn is_window(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_window(&alias.expr),
        Expr::Cast(cast) => is_window(&cast.expr),
        Expr::BinaryExpr(binary) => {
            matches!(*binary.right, Expr::Literal(..)) && is_window(&binary.left)
        }
        Expr::ScalarFunction(function)
            if matches!(
                function.name(),
                "timezone" | "rm_timestamp_add" | "rm_timestamp_subtract"
            ) =>
        {
            function.args.iter().any(is_window)
        }
        Expr::ScalarFunction(function) => matches!(
            function.name(),
            WindowStart::NAME | WindowStarts::NAME | CumulateEnds::NAME | "date_trunc" | "date_bin"
        ),
        _ => false,
    }
}
