//! Temporal filters: conditions of a view that compare `now()` with a time of the row.
//!
//! Each becomes `now() <operator> time`, where `time` is computed from the row alone, as a [`NowTest`]: rows for which it
//! holds until some instant leave the view then, without any input. `ts > now() - INTERVAL '1 hour'` is
//! `now() < ts + INTERVAL '1 hour'`. Runs on an analysed plan, whose casts are explicit, and before constants are folded,
//! which would freeze `now()`. Only conjuncts of WHERE, HAVING and ON can be kept this way.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit,
};

use crate::error::{PlanError, Result};
use crate::functions::NowTest;
use crate::pg_text::output::MICROS_PER_DAY;
use crate::plan::NowComparison;
use crate::rewrite::simplify::simplify_expr;
use crate::rewrite::volatile::is_clock;

/// `plan` with its comparisons of `now()` as [`NowTest`]s, in filters of their own above the other conditions.
pub fn capture_temporal(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut refused = None;
    let captured = plan.transform_up_with_subqueries(|plan| match captured_node(plan) {
        Ok(captured) => Ok(captured),
        Err(Failure::Refused(error)) => {
            refused = Some(error);
            Err(DataFusionError::Plan("refused".to_string()))
        }
        Err(Failure::DataFusion(error)) => Err(error),
    });
    match (captured, refused) {
        (_, Some(error)) => Err(error),
        (Ok(captured), None) => Ok(captured.data),
        (Err(error), None) => Err(PlanError::Internal(error.strip_backtrace())),
    }
}

/// Whether `expr` has a condition on the current time somewhere.
pub fn has_now_test(expr: &Expr) -> bool {
    expr.exists(|part| Ok(NowTest::of(part).is_some()))
        .unwrap_or(true)
}

enum Failure {
    Refused(PlanError),
    DataFusion(DataFusionError),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Failure::DataFusion(error)
    }
}

fn captured_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>, Failure> {
    match plan {
        LogicalPlan::Filter(filter) if has_clock(&filter.predicate) => {
            let schema = filter.input.schema().as_ref().clone();
            let (tests, rest) = tests_of(filter.predicate, &schema)?;
            let mut input = filter.input;
            if let Some(rest) = conjunction(rest) {
                input = Arc::new(LogicalPlan::Filter(Filter::try_new(rest, input)?));
            }
            if let Some(tests) = conjunction(tests) {
                input = Arc::new(LogicalPlan::Filter(Filter::try_new(tests, input)?));
            }
            Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
        }
        LogicalPlan::Join(mut join) if join.filter.as_ref().is_some_and(has_clock) => {
            let schema = join.schema.as_ref().clone();
            if let Some(condition) = join.filter.take() {
                let (tests, mut rest) = tests_of(condition, &schema)?;
                rest.extend(tests);
                join.filter = conjunction(rest);
            }
            Ok(Transformed::yes(LogicalPlan::Join(join)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The conjuncts of `condition` that compare the current time, captured, and the others.
fn tests_of(condition: Expr, schema: &DFSchema) -> Result<(Vec<Expr>, Vec<Expr>), Failure> {
    let (mut tests, mut rest) = (Vec::new(), Vec::new());
    for conjunct in split_conjunction_owned(condition) {
        if has_clock(&conjunct) {
            capture(conjunct, schema, &mut tests, &mut rest)?;
        } else {
            rest.push(conjunct);
        }
    }
    Ok((tests, rest))
}

/// Captures one conjunct that has a clock in it.
fn capture(
    conjunct: Expr,
    schema: &DFSchema,
    tests: &mut Vec<Expr>,
    rest: &mut Vec<Expr>,
) -> Result<(), Failure> {
    match conjunct {
        Expr::Alias(alias) => capture(*alias.expr, schema, tests, rest),
        Expr::Between(between) if !between.negated => {
            let low = compared(between.expr.clone(), Operator::GtEq, between.low);
            let high = compared(between.expr, Operator::LtEq, between.high);
            for side in [low, high] {
                if has_clock(&side) {
                    capture(side, schema, tests, rest)?;
                } else {
                    rest.push(side);
                }
            }
            Ok(())
        }
        Expr::Not(inner) => match *inner {
            Expr::BinaryExpr(binary) => match binary.op.negate() {
                Some(op) if order_of(op).is_some() => {
                    capture(compared(binary.left, op, binary.right), schema, tests, rest)
                }
                _ => Err(misplaced("NOT")),
            },
            _ => Err(misplaced("NOT")),
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match order_of(op) {
            Some(comparison) => {
                tests.push(solved(*left, comparison, *right, schema)?);
                Ok(())
            }
            None if op == Operator::And => {
                capture_if(*left, schema, tests, rest)?;
                capture_if(*right, schema, tests, rest)
            }
            None => Err(misplaced(&op.to_string())),
        },
        Expr::ScalarFunction(mut function) => {
            let comparison = interval_order(function.name());
            match (comparison, function.args.len()) {
                (Some(comparison), 2) => {
                    let right = function.args.remove(1);
                    let left = function.args.remove(0);
                    tests.push(solved_age(left, comparison, right, schema)?);
                    Ok(())
                }
                _ => Err(misplaced(&format!("{}()", function.name()))),
            }
        }
        other => Err(misplaced(other.variant_name())),
    }
}

fn capture_if(
    conjunct: Expr,
    schema: &DFSchema,
    tests: &mut Vec<Expr>,
    rest: &mut Vec<Expr>,
) -> Result<(), Failure> {
    match has_clock(&conjunct) {
        true => capture(conjunct, schema, tests, rest),
        false => {
            rest.push(conjunct);
            Ok(())
        }
    }
}

fn compared(left: Box<Expr>, op: Operator, right: Box<Expr>) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(left, op, right))
}

/// `left < right` as what it says of `left`.
fn order_of(op: Operator) -> Option<NowComparison> {
    match op {
        Operator::Lt => Some(NowComparison::Before),
        Operator::LtEq => Some(NowComparison::Until),
        Operator::Gt => Some(NowComparison::After),
        Operator::GtEq => Some(NowComparison::From),
        _ => None,
    }
}

fn interval_order(function: &str) -> Option<NowComparison> {
    match function {
        "rm_interval_lt" => Some(NowComparison::Before),
        "rm_interval_le" => Some(NowComparison::Until),
        "rm_interval_gt" => Some(NowComparison::After),
        "rm_interval_ge" => Some(NowComparison::From),
        _ => None,
    }
}

/// `left <comparison> right`, of times, one of which is the current one moved by a constant.
fn solved(
    left: Expr,
    comparison: NowComparison,
    right: Expr,
    schema: &DFSchema,
) -> Result<Expr, Failure> {
    let (clock, comparison, time) = match (has_clock(&left), has_clock(&right)) {
        (true, false) => (left, comparison, right),
        (false, true) => (right, comparison.flipped(), left),
        _ => return Err(misplaced("a comparison with itself")),
    };
    let shift_us = shift_of(&clock, schema)?;
    let back = shift_us.checked_neg().ok_or_else(too_long)?;
    test(comparison, time, back, schema)
}

/// `now() - time <comparison> length`, of intervals: a day of them has 24 hours and a month 30 days.
fn solved_age(
    left: Expr,
    comparison: NowComparison,
    right: Expr,
    schema: &DFSchema,
) -> Result<Expr, Failure> {
    let (age, comparison, length) = match (has_clock(&left), has_clock(&right)) {
        (true, false) => (left, comparison, right),
        (false, true) => (right, comparison.flipped(), left),
        _ => return Err(misplaced("a comparison with itself")),
    };
    let length_us = constant_interval(&length, schema)
        .and_then(compared_us)
        .ok_or_else(|| misplaced("a comparison with an interval that is no constant"))?;
    let Expr::ScalarFunction(mut difference) = age else {
        return Err(misplaced("arithmetic with intervals"));
    };
    if difference.name() != "rm_timestamp_difference" || difference.args.len() != 2 {
        return Err(misplaced(&format!("{}()", difference.name())));
    }
    let earlier = difference.args.remove(1);
    let later = difference.args.remove(0);
    let (clock, comparison, time, length_us) = match (has_clock(&later), has_clock(&earlier)) {
        (true, false) => (later, comparison, earlier, Some(length_us)),
        (false, true) => (
            earlier,
            comparison.flipped(),
            later,
            length_us.checked_neg(),
        ),
        _ => return Err(misplaced("a comparison with itself")),
    };
    let shift_us = shift_of(&clock, schema)?;
    let by = length_us
        .and_then(|length| length.checked_sub(shift_us))
        .ok_or_else(too_long)?;
    test(comparison, time, by, schema)
}

/// `now() <comparison> time + by`.
fn test(
    comparison: NowComparison,
    time: Expr,
    by_us: i64,
    schema: &DFSchema,
) -> Result<Expr, Failure> {
    let zone = match time.get_type(schema)? {
        DataType::Timestamp(_, zone) => zone,
        _ => return Err(misplaced("a comparison with what is no timestamp")),
    };
    let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.map(|_| "UTC".into()));
    let time = time.cast_to(&micros, schema)?;
    let nanoseconds = by_us.checked_abs().and_then(|us| us.checked_mul(1000));
    let interval = IntervalMonthDayNano::new(0, 0, nanoseconds.ok_or_else(too_long)?);
    let length = lit(ScalarValue::IntervalMonthDayNano(Some(interval)));
    let time = match by_us {
        0 => time,
        1.. => time + length,
        _ => time - length,
    };
    Ok(NowTest::call(comparison, time))
}

/// By how much `expr` differs from `now()`, in microseconds.
fn shift_of(expr: &Expr, schema: &DFSchema) -> Result<i64, Failure> {
    match expr {
        Expr::Alias(alias) => shift_of(&alias.expr, schema),
        Expr::ScalarFunction(function) if is_clock(function.name()) => match function.name() {
            "now" | "current_timestamp" => Ok(0),
            other => Err(misplaced(&format!("{other}()"))),
        },
        Expr::ScalarFunction(function) => match (function.name(), function.args.as_slice()) {
            ("timezone", [Expr::Literal(zone, _), time]) if is_utc(zone) => shift_of(time, schema),
            // In a zone whose days differ in length, moving by days has no inverse.
            ("rm_timestamp_add", [time, length, _]) => {
                plus_us(shift_of(time, schema)?, moved_us(length, false, schema)?)
            }
            ("rm_timestamp_subtract", [time, length, _]) => {
                minus_us(shift_of(time, schema)?, moved_us(length, false, schema)?)
            }
            _ => Err(misplaced(&format!("{}()", function.name()))),
        },
        Expr::Cast(cast) if cast.field.data_type().is_temporal() => {
            match (cast.expr.get_type(schema)?, cast.field.data_type()) {
                (DataType::Timestamp(..), DataType::Timestamp(..)) => shift_of(&cast.expr, schema),
                _ => Err(misplaced("a cast to another type")),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Plus if has_clock(left) => {
                plus_us(shift_of(left, schema)?, moved_us(right, true, schema)?)
            }
            Operator::Plus => plus_us(shift_of(right, schema)?, moved_us(left, true, schema)?),
            Operator::Minus if has_clock(left) => {
                minus_us(shift_of(left, schema)?, moved_us(right, true, schema)?)
            }
            _ => Err(misplaced(&op.to_string())),
        },
        _ => Err(misplaced(expr.variant_name())),
    }
}

fn plus_us(shift_us: i64, by_us: i64) -> Result<i64, Failure> {
    shift_us.checked_add(by_us).ok_or_else(too_long)
}

fn minus_us(shift_us: i64, by_us: i64) -> Result<i64, Failure> {
    shift_us.checked_sub(by_us).ok_or_else(too_long)
}

/// The length of a constant interval by which the current time is moved.
fn moved_us(length: &Expr, has_even_days: bool, schema: &DFSchema) -> Result<i64, Failure> {
    let Some(interval) = constant_interval(length, schema) else {
        return Err(refused(
            "now() moved by an interval that is no constant in a materialized view",
            "move the time of the row instead: ts + length > now()",
        ));
    };
    if interval.months != 0 {
        return Err(refused(
            "now() moved by months or years in a materialized view",
            "they differ in length; move the time of the row instead: ts + INTERVAL '1 month' > now()",
        ));
    }
    if interval.days != 0 && !has_even_days {
        return Err(refused(
            "now() moved by days in a materialized view of this time zone",
            "its days differ in length; write hours, or move the time of the row: ts + INTERVAL '1 day' > now()",
        ));
    }
    let days_us = i64::from(interval.days)
        .checked_mul(MICROS_PER_DAY)
        .ok_or_else(too_long)?;
    plus_us(days_us, interval.nanoseconds / 1000)
}

/// How PostgreSQL compares intervals: a month is 30 days, a day 24 hours.
fn compared_us(interval: IntervalMonthDayNano) -> Option<i64> {
    let days = i64::from(interval.months) * 30 + i64::from(interval.days);
    days.checked_mul(MICROS_PER_DAY)?
        .checked_add(interval.nanoseconds / 1000)
}

/// The value of an interval that is the same for every row.
fn constant_interval(expr: &Expr, schema: &DFSchema) -> Option<IntervalMonthDayNano> {
    if expr.any_column_refs() || has_clock(expr) {
        return None;
    }
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .build();
    match simplify_expr(expr.clone(), &context).ok()?.data {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(interval), _) => interval,
        _ => None,
    }
}

fn has_clock(expr: &Expr) -> bool {
    let is_call = |part: &Expr| matches!(part, Expr::ScalarFunction(f) if is_clock(f.name()));
    let found: DfResult<bool> = expr.exists(|part| Ok(is_call(part)));
    found.unwrap_or(true)
}

fn is_utc(zone: &ScalarValue) -> bool {
    matches!(zone, ScalarValue::Utf8(Some(name)) if name.eq_ignore_ascii_case("UTC"))
}

fn refused(feature: &str, hint: &str) -> Failure {
    Failure::Refused(PlanError::unsupported(feature, hint))
}

fn too_long() -> Failure {
    refused(
        "an interval of more than 292 years around now()",
        "write a shorter one",
    )
}

/// A clock where no bound of the row's time in the view can be made of it.
fn misplaced(place: &str) -> Failure {
    Failure::Refused(PlanError::unsupported(
        format!("now() within {place} in a materialized view"),
        NOW_HINT,
    ))
}

/// What to write where `now()` is refused.
pub const NOW_HINT: &str = "its value changes without any input; compare it with a time of the row, as a condition of \
    WHERE, HAVING or ON that no OR is around: ts > now() - INTERVAL '1 hour'; or compare with the time in the query \
    that reads the view";
