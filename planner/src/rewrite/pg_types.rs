//! Analyzer rule that gives expressions PostgreSQL's types where DataFusion's coercion differs. Runs before coercion.
//!
//! - An integer literal is `integer` if it fits (DataFusion: always 64 bits).
//! - `double precision` with `numeric` is computed in double precision (DataFusion turns doubles into decimals).
//! - `numeric` division keeps at least 16 digits after the point.
//! - `sum(bigint)` and `avg` of integers are `numeric`.
//! - A regular expression's `.` matches a line break too.
//! - The order within an aggregate that gives the same in any order is dropped.
//! - The keys by which a window is ordered are what DataFusion can compare ([`over_keys`](super::over_keys)).
//! - A text literal beside values of another type is of that type ([`untyped_literals`](super::untyped_literals)).
//! - The difference of two timestamps is an interval, and all timestamps are in microseconds.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, Union, WindowFunctionDefinition, cast,
    lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;

use super::over_keys::{has_distances, with_comparable_keys};
use super::untyped_literals::{in_union, of_one_type};

/// Digits after the point that the dividend of a numeric division is given; the quotient has four more.
const DIVIDEND_SCALE: i8 = 12;
/// Digits after the point that the argument of a numeric average is given; the average has four more.
const AVERAGE_SCALE: i8 = 12;

/// See the module.
#[derive(Debug, Default)]
pub struct PostgresTyping;

impl AnalyzerRule for PostgresTyping {
    fn name(&self) -> &str {
        "postgres_typing"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(type_node)?.data)
    }
}

fn type_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(
        plan,
        LogicalPlan::Limit(_) | LogicalPlan::Values(_) | LogicalPlan::Unnest(_)
    ) {
        return Ok(Transformed::no(plan));
    }
    if let LogicalPlan::Union(mut union) = plan {
        in_union(&mut union)?;
        // its own types are those that the sides had when they were bound
        let schema = Arc::new(coerce_union_schema(&union.inputs)?);
        let inputs = union.inputs;
        return Ok(Transformed::yes(LogicalPlan::Union(Union {
            inputs,
            schema,
        })));
    }
    let schema = input_schema(&plan)?;
    let narrows_literals = matches!(plan, LogicalPlan::Projection(_));
    let is_distant = has_distances(&plan);
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = if narrows_literals {
            narrow_literal(expr)
        } else {
            expr
        };
        let typed = type_expr(expr, &schema)?.transform_data(|expr| {
            expr.transform_down(|part| comparable(part, &schema, is_distant))
        })?;
        Ok(typed.update_data(|expr| name.restore(expr)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

fn comparable(part: Expr, schema: &DFSchema, is_distant: bool) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut window) = part else {
        return Ok(Transformed::no(part));
    };
    with_comparable_keys(&mut window.params, schema, is_distant)?;
    Ok(Transformed::new(
        Expr::WindowFunction(window),
        true,
        TreeNodeRecursion::Jump,
    ))
}

/// The columns that the expressions of `plan` may refer to.
pub(crate) fn input_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    if let LogicalPlan::TableScan(scan) = plan {
        return DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema());
    }
    Ok(merge_schema(&plan.inputs()))
}

/// Types every part of `expr`, whose columns are of `schema`.
pub fn type_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let typed = match expr {
            Expr::BinaryExpr(binary) => type_binary(binary, schema),
            Expr::Between(mut between) => {
                let is_float = is_float(&between.expr, schema);
                between.low = Box::new(float_if(is_float, *between.low, schema));
                between.high = Box::new(float_if(is_float, *between.high, schema));
                let sides = [&mut between.expr, &mut between.low, &mut between.high];
                of_one_type(sides.map(Box::as_mut), schema);
                Expr::Between(between)
            }
            Expr::InList(mut list) => {
                let is_float = is_float(&list.expr, schema);
                list.list = list
                    .list
                    .into_iter()
                    .map(|e| float_if(is_float, e, schema))
                    .collect();
                of_one_type(
                    [list.expr.as_mut()].into_iter().chain(&mut list.list),
                    schema,
                );
                Expr::InList(list)
            }
            Expr::Case(mut case) => {
                let mut results = case
                    .when_then_expr
                    .iter()
                    .map(|(_, then)| then)
                    .chain(&case.else_expr);
                let is_float = results.any(|result| is_float(result, schema));
                let unify = |result: Box<Expr>| {
                    Box::new(float_if(is_float, narrow_literal(*result), schema))
                };
                case.when_then_expr = case
                    .when_then_expr
                    .into_iter()
                    .map(|(when, then)| (when, unify(then)))
                    .collect();
                case.else_expr = case.else_expr.map(unify);
                let results = case.when_then_expr.iter_mut().map(|(_, then)| then);
                let results = results.chain(&mut case.else_expr);
                of_one_type(results.map(Box::as_mut), schema);
                if let Some(subject) = &mut case.expr {
                    let values = case.when_then_expr.iter_mut().map(|(when, _)| when);
                    let compared = [subject].into_iter().chain(values);
                    of_one_type(compared.map(Box::as_mut), schema);
                }
                Expr::Case(case)
            }
            Expr::ScalarFunction(mut function) => {
                if NARROWING.contains(&function.name()) {
                    function.args = function.args.into_iter().map(narrow_literal).collect();
                }
                if UNIFYING.contains(&function.name()) {
                    let is_float = function.args.iter().any(|arg| is_float(arg, schema));
                    function.args = function
                        .args
                        .into_iter()
                        .map(|arg| float_if(is_float, narrow_literal(arg), schema))
                        .collect();
                    of_one_type(&mut function.args, schema);
                }
                microseconds(Expr::ScalarFunction(function), schema)
            }
            Expr::AggregateFunction(mut aggregate) => {
                type_aggregate_arguments(aggregate.func.name(), &mut aggregate.params.args, schema);
                if !depends_on_order(aggregate.func.name()) {
                    aggregate.params.order_by.clear();
                }
                Expr::AggregateFunction(aggregate)
            }
            Expr::WindowFunction(mut window) => {
                if let WindowFunctionDefinition::AggregateUDF(function) = &window.fun {
                    let name = function.name().to_string();
                    type_aggregate_arguments(&name, &mut window.params.args, schema);
                }
                // the default of lag and lead
                if let [value, _, default] = window.params.args.as_mut_slice() {
                    of_one_type([value, default], schema);
                }
                Expr::WindowFunction(window)
            }
            other => return Ok(Transformed::no(other)),
        };
        Ok(Transformed::yes(typed))
    })
}

/// Functions whose result is an integer where their arguments are.
const NARROWING: &[&str] = &[
    "abs",
    "gcd",
    "lcm",
    "mod",
    "pg_typeof",
    "rm_json_get",
    "to_hex",
];

/// Functions whose arguments are brought to one type, which is also the result's.
const UNIFYING: &[&str] = &[
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "make_array",
];

fn type_binary(binary: BinaryExpr, schema: &DFSchema) -> Expr {
    let BinaryExpr { left, op, right } = binary;
    let (mut left, mut right) = (narrow_literal(*left), narrow_literal(*right));
    let is_arithmetic = matches!(
        op,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    );
    if is_comparison(op) {
        of_one_type([&mut left, &mut right], schema);
    }
    if is_arithmetic || is_comparison(op) {
        let is_float = is_float(&left, schema) || is_float(&right, schema);
        left = float_if(is_float, left, schema);
        right = float_if(is_float, right, schema);
    }
    if op == Operator::Divide {
        left = widen_dividend(left, &right, schema);
    }
    if is_match(op) {
        right = across_lines(right);
    }
    let is_time_difference =
        op == Operator::Minus && is_timestamp(&left, schema) && is_timestamp(&right, schema);
    let result = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    if is_time_difference {
        cast(result, DataType::Interval(IntervalUnit::MonthDayNano))
    } else {
        result
    }
}

pub(crate) fn is_match(op: Operator) -> bool {
    matches!(
        op,
        Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
    )
}

/// The pattern with the flag that lets `.` match a line break.
fn across_lines(pattern: Expr) -> Expr {
    const FLAG: &str = "(?s)";
    match pattern {
        Expr::Literal(ScalarValue::Utf8(Some(text)), metadata) if !text.starts_with(FLAG) => {
            Expr::Literal(ScalarValue::Utf8(Some(format!("{FLAG}{text}"))), metadata)
        }
        Expr::Literal(..) => pattern,
        pattern => Expr::BinaryExpr(BinaryExpr::new(
            Box::new(lit(FLAG)),
            Operator::StringConcat,
            Box::new(pattern),
        )),
    }
}

fn type_aggregate_arguments(name: &str, args: &mut [Expr], schema: &DFSchema) {
    if !matches!(name, "sum" | "avg" | "min" | "max") {
        return;
    }
    let Some(arg) = args.first_mut() else { return };
    *arg = narrow_literal(std::mem::take(arg));
    let Ok(data_type) = arg.get_type(schema) else {
        return;
    };
    let target = match (name, &data_type) {
        ("sum", DataType::Int64) => DataType::Decimal128(20, 0),
        ("avg", data_type) if data_type.is_integer() => DataType::Decimal128(38, AVERAGE_SCALE),
        ("avg", DataType::Decimal128(_, scale)) if *scale < AVERAGE_SCALE => {
            DataType::Decimal128(38, AVERAGE_SCALE)
        }
        _ => return,
    };
    *arg = cast(std::mem::take(arg), target);
}

/// Whether the order of its input makes a difference to an aggregate. Percentiles have it from `WITHIN GROUP`.
fn depends_on_order(name: &str) -> bool {
    name.contains("percentile")
        || matches!(
            name,
            "array_agg" | "first_value" | "last_value" | "nth_value" | "string_agg"
        )
}

/// `numeric / numeric` and its mixes with integers; integers alone divide as integers.
fn widen_dividend(left: Expr, right: &Expr, schema: &DFSchema) -> Expr {
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return left;
    };
    let scale = match (&left_type, &right_type) {
        (DataType::Decimal128(_, scale), right) if right.is_integer() || is_decimal(right) => {
            *scale
        }
        (left, DataType::Decimal128(..)) if left.is_integer() => 0,
        _ => return left,
    };
    if scale >= DIVIDEND_SCALE {
        left
    } else {
        cast(left, DataType::Decimal128(38, DIVIDEND_SCALE))
    }
}

pub(crate) fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(
        expr.get_type(schema),
        Ok(DataType::Float32 | DataType::Float64)
    )
}

fn is_timestamp(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Timestamp(..)))
}

/// `expr` in double precision if it is numeric and `is_float` asks for it.
fn float_if(is_float: bool, expr: Expr, schema: &DFSchema) -> Expr {
    if is_float && expr.get_type(schema).is_ok_and(|t| is_decimal(&t)) {
        cast(expr, DataType::Float64)
    } else {
        expr
    }
}

/// An integer literal as PostgreSQL types it.
fn narrow_literal(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(narrow) => Expr::Literal(ScalarValue::Int32(Some(narrow)), metadata),
            Err(_) => Expr::Literal(ScalarValue::Int64(Some(value)), metadata),
        },
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(narrow_literal(*alias.expr));
            Expr::Alias(alias)
        }
        other => other,
    }
}

/// Casts a function's result to microseconds if it is a timestamp of another unit.
fn microseconds(function: Expr, schema: &DFSchema) -> Expr {
    match function.get_type(schema) {
        Ok(DataType::Timestamp(unit, zone)) if unit != TimeUnit::Microsecond => {
            let zone = zone.map(|_| "UTC".into());
            cast(function, DataType::Timestamp(TimeUnit::Microsecond, zone))
        }
        _ => function,
    }
}
