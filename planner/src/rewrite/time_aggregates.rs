//! Aggregates over time in TimescaleDB's spelling, as functions of those that DataFusion has.
//!
//! - `first(x, ts)` is `first_value(x ORDER BY ts, x)`, `last(x, ts)` the same from the other end.
//! - `average(time_weight('LOCF', ts, x))` is `rm_time_weight('average', 'LOCF', xs, times)`, where `xs` and `times` are
//!   arrays in the order of time; `integral` of it, and `delta`, `rate`, `num_resets` and `time_delta` of
//!   `counter_agg(ts, x)`, are alike.
//! - `approx_percentile(p, percentile_agg(x))` is `approx_percentile_cont(p) WITHIN GROUP (ORDER BY x)`.
//!
//! Rows without a time, or without a value where values are counted, are left out.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArgumentClause, FunctionArguments, OrderByExpr,
    OrderByOptions, Value,
};

use super::aggregate_calls::{arguments, is_distinct, renamed};
use super::build::{binary, text};
use crate::names::fold;
use crate::rewrite::expressions::call;

/// What stands for a call of such an aggregate, or of a function of one.
pub(super) fn rewrite_time_aggregate(function: &Function) -> Option<Expr> {
    if function.over.is_some() || is_distinct(function) {
        return None;
    }
    let args = arguments(function)?;
    match (name_of(function)?.as_str(), args.as_slice()) {
        ("first", [value, time]) => Some(first_by(function, value, time, true)),
        ("last", [value, time]) => Some(first_by(function, value, time, false)),
        ("average", [summary]) => weighted("average", summary, "second"),
        ("integral", [summary]) => weighted("integral", summary, "second"),
        ("integral", [summary, Expr::Value(unit)]) => match &unit.value {
            Value::SingleQuotedString(unit) => weighted("integral", summary, unit),
            _ => None,
        },
        (name @ ("delta" | "rate" | "num_resets" | "time_delta"), [summary]) => {
            let (counter, args) = summary_of(summary, "counter_agg")?;
            let [time, value] = args.as_slice() else {
                return None;
            };
            let [values, times] = in_time(counter, value, time);
            Some(call("rm_counter", vec![text(name), values, times]))
        }
        ("approx_percentile", [fraction, summary]) => {
            let (counter, value) = match summary_of(summary, "percentile_agg") {
                Some((function, args)) => (function, args.into_iter().next()?),
                None => {
                    let (function, args) = summary_of(summary, "tdigest")?;
                    (function, args.into_iter().nth(1)?)
                }
            };
            let mut percentile = renamed(counter, "approx_percentile_cont", vec![fraction.clone()]);
            percentile.within_group = vec![ordered(&value, true)];
            Some(Expr::Function(percentile))
        }
        _ => None,
    }
}

fn name_of(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(fold),
        _ => None,
    }
}

/// The aggregate of this name that `expr` is, and its arguments.
fn summary_of<'a>(expr: &'a Expr, name: &str) -> Option<(&'a Function, Vec<Expr>)> {
    match expr {
        Expr::Nested(inner) => summary_of(inner, name),
        Expr::Function(function)
            if function.over.is_none()
                && !is_distinct(function)
                && name_of(function).as_deref() == Some(name) =>
        {
            Some((function, arguments(function)?))
        }
        _ => None,
    }
}

fn weighted(what: &str, summary: &Expr, unit: &str) -> Option<Expr> {
    let (function, args) = summary_of(summary, "time_weight")?;
    let [method, time, value] = args.as_slice() else {
        return None;
    };
    let [values, times] = in_time(function, value, time);
    let args = vec![text(what), method.clone(), text(unit), values, times];
    Some(call("rm_time_weight", args))
}

/// `first_value(value ORDER BY time, value)`, or the last one.
fn first_by(function: &Function, value: &Expr, time: &Expr, is_first: bool) -> Expr {
    let mut first = renamed(function, "first_value", vec![value.clone()]);
    set_order(
        &mut first,
        vec![ordered(time, is_first), ordered(value, is_first)],
    );
    first.filter = filtered(function, &[time]);
    Expr::Function(first)
}

/// Values and times as arrays, in the order of time.
fn in_time(function: &Function, value: &Expr, time: &Expr) -> [Expr; 2] {
    [value, time].map(|element| {
        let mut array = renamed(function, "array_agg", vec![element.clone()]);
        set_order(&mut array, vec![ordered(time, true), ordered(value, true)]);
        array.filter = filtered(function, &[time, value]);
        Expr::Function(array)
    })
}

fn set_order(function: &mut Function, order: Vec<OrderByExpr>) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.clauses = vec![FunctionArgumentClause::OrderBy(order)];
    }
}

fn ordered(expr: &Expr, is_ascending: bool) -> OrderByExpr {
    OrderByExpr {
        expr: expr.clone(),
        options: OrderByOptions {
            asc: Some(is_ascending),
            nulls_first: None,
        },
        with_fill: None,
    }
}

/// The function's own filter, and that `parts` are there.
fn filtered(function: &Function, parts: &[&Expr]) -> Option<Box<Expr>> {
    let present = parts
        .iter()
        .map(|part| Expr::IsNotNull(Box::new((*part).clone())));
    let own = function
        .filter
        .as_ref()
        .map(|filter| Expr::Nested(filter.clone()));
    let all = own.into_iter().chain(present);
    all.reduce(|left, right| binary(left, BinaryOperator::And, right))
        .map(Box::new)
}
