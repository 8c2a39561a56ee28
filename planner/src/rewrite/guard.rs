//! Keeps `b <> 0 AND 1 / b > 0` from failing where PostgreSQL does not.
//!
//! DataFusion evaluates both sides of AND and OR for a whole batch and moves filters freely. Here a conjunct that can
//! fail becomes a filter of its own above the conjuncts before it, never moves, and elsewhere than in a filter
//! AND and OR become a CASE, which evaluates a branch only for the rows that take it.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, internal_datafusion_err};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_binary_owned, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

use crate::rewrite::pg_types::input_schema;
use crate::rewrite::temporal::has_now_test;

/// Analyzer rule: separates and guards what can fail. Runs after coercion.
#[derive(Debug, Default)]
pub struct GuardFallible;

impl AnalyzerRule for GuardFallible {
    fn name(&self) -> &str {
        "guard_fallible"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(guard_node)?.data)
    }
}

fn guard_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = input_schema(&plan)?;
    let plan = match plan {
        LogicalPlan::Filter(filter) => return split_filter(filter, &schema),
        LogicalPlan::Join(mut join) => {
            join.filter = guard_condition(join.filter, &schema)?;
            return Ok(Transformed::yes(LogicalPlan::Join(join)));
        }
        other => other,
    };
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        guard_expr(expr, &schema).map(|guarded| guarded.update_data(|expr| name.restore(expr)))
    })
}

/// `WHERE a AND f(b) AND c`, where only `f` can fail: `c` over `f(b)` over `a`.
fn split_filter(filter: Filter, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let mut input = filter.input;
    let mut waiting = Vec::new();
    // What refers to the query around a subquery becomes the condition of a join, and must stay one condition.
    let (correlated, own): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate)
        .into_iter()
        .partition(Expr::contains_outer);
    for conjunct in own {
        if is_fallible(&conjunct, schema) {
            if let Some(before) = conjunction(std::mem::take(&mut waiting)) {
                input = Arc::new(LogicalPlan::Filter(Filter::try_new(before, input)?));
            }
            let guarded = guard_expr(conjunct, schema)?.data;
            input = Arc::new(LogicalPlan::Filter(Filter::try_new(guarded, input)?));
        } else {
            waiting.push(conjunct);
        }
    }
    let correlated = guard_condition(conjunction(correlated), schema)?;
    for rest in [conjunction(waiting), correlated].into_iter().flatten() {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(rest, input)?));
    }
    Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
}

/// `ON a = b AND c <> 0 AND 1 / c > d`: each conjunct that can fail is guarded by those before it that can not, and
/// stays a conjunct, so that equalities can still be found.
fn guard_condition(condition: Option<Expr>, schema: &DFSchema) -> Result<Option<Expr>> {
    let Some(condition) = condition else {
        return Ok(None);
    };
    let mut before: Vec<Expr> = Vec::new();
    let mut guarded = Vec::new();
    for conjunct in split_conjunction_owned(condition) {
        if !is_fallible(&conjunct, schema) {
            guarded.push(conjunct.clone());
            before.push(conjunct);
            continue;
        }
        let is_equality = matches!(&conjunct, Expr::BinaryExpr(b) if b.op == Operator::Eq);
        let conjunct = match conjunction(before.clone()) {
            Some(before) if !is_equality => before.and(conjunct),
            _ => conjunct,
        };
        guarded.push(guard_expr(conjunct, schema)?.data);
    }
    Ok(conjunction(guarded))
}

/// Guards every AND and OR of `expr` of which a later part can fail.
pub fn guard_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr {
            op: op @ (Operator::And | Operator::Or),
            ..
        }) => {
            let parts = split_binary_owned(expr, op);
            let guarded = guard_parts(parts, op, schema)?;
            Ok(Transformed::new(guarded, true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// `a OR f(b) OR g(c)` as `CASE WHEN a IS TRUE THEN true WHEN f(b) IS TRUE THEN true ELSE a OR f(b) OR g(c) END`: the
/// ELSE repeats what has not failed for its rows, so the size is linear.
fn guard_parts(parts: Vec<Expr>, op: Operator, schema: &DFSchema) -> Result<Expr> {
    let join = |left: Expr, right: Expr| {
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
    };
    // every run but the first starts with what can fail
    let mut runs: Vec<Expr> = Vec::new();
    for part in parts {
        let can_fail = is_fallible(&part, schema);
        let part = guard_expr(part, schema)?.data;
        match runs.pop() {
            Some(run) if !can_fail => runs.push(join(run, part)),
            before => {
                runs.extend(before);
                runs.push(part);
            }
        }
    }
    let all = runs.iter().cloned().reduce(join);
    let all = all.ok_or_else(|| internal_datafusion_err!("{op} of nothing"))?;
    runs.pop();
    let is_or = op == Operator::Or;
    let branches: Vec<_> = runs
        .into_iter()
        .map(|run| match is_or {
            true => run.is_true(),
            false => run.is_false(),
        })
        .map(|decides| (Box::new(decides), Box::new(lit(is_or))))
        .collect();
    Ok(match branches.is_empty() {
        true => all,
        false => Expr::Case(Case::new(None, branches, Some(Box::new(all)))),
    })
}

/// Whether `expr` can fail on some rows: arithmetic on integers and numerics, narrowing casts, and functions that are
/// not known to be total.
pub fn is_fallible(expr: &Expr, schema: &DFSchema) -> bool {
    let mut found = false;
    let visited = expr.apply(|part| {
        found |= can_fail(part, schema);
        Ok(if found {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    found || visited.is_err()
}

fn can_fail(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => {
            let is_arithmetic = matches!(
                binary.op,
                Operator::Plus
                    | Operator::Minus
                    | Operator::Multiply
                    | Operator::Divide
                    | Operator::Modulo
            );
            is_arithmetic && !binary.left.get_type(schema).is_ok_and(|t| is_total_in(&t))
        }
        Expr::Negative(inner) => !inner.get_type(schema).is_ok_and(|t| is_total_in(&t)),
        Expr::Cast(inner) => match inner.expr.get_type(schema) {
            Ok(from) => !is_total_cast(&from, inner.field.data_type()),
            Err(_) => true,
        },
        Expr::ScalarFunction(function) => {
            TOTAL_FUNCTIONS.binary_search(&function.name()).is_err()
                // a constant argument has been seen to work, or fails for every row
                && !function.args.iter().all(|arg| matches!(arg, Expr::Literal(..)))
        }
        Expr::HigherOrderFunction(_) | Expr::ScalarSubquery(_) => true,
        _ => false,
    }
}

/// Arithmetic on floats gives infinities, on times it stays in range for any real time.
fn is_total_in(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Float32
            | DataType::Float64
            | DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Interval(_)
            | DataType::Duration(_)
            | DataType::Time64(_)
    )
}

/// Whether a cast has a value for every value.
pub(super) fn is_total_cast(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Decimal128, Duration, Float32, Float64, Int8, Int16, Int32, Int64,
        Interval, Null, Time64, Timestamp, Utf8,
    };
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _) => true,
        (_, Utf8) => !from.is_nested(),
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Time64(_), Int64) => true,
        (from, Float32 | Float64) => from.is_numeric(),
        (Boolean, to) => to.is_integer(),
        (Int8, Decimal128(precision, scale)) => i16::from(*precision) - i16::from(*scale) >= 3,
        (Int16, Decimal128(precision, scale)) => i16::from(*precision) - i16::from(*scale) >= 5,
        (Int32, Decimal128(precision, scale)) => i16::from(*precision) - i16::from(*scale) >= 10,
        (Int64, Decimal128(precision, scale)) => i16::from(*precision) - i16::from(*scale) >= 19,
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        (Timestamp(..) | Date32, Timestamp(..) | Date32) => true,
        (Duration(_), Interval(_)) => true,
        _ => false,
    }
}

/// Functions that give a value for every input, sorted.
const TOTAL_FUNCTIONS: &[&str] = &[
    "age",
    "array_dims",
    "array_element",
    "array_length",
    "array_lower",
    "array_ndims",
    "array_to_string",
    "array_upper",
    "ascii",
    "bit_length",
    "btrim",
    "cardinality",
    "ceil",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "floor",
    "get_field",
    "greatest",
    "initcap",
    "isnan",
    "least",
    "left",
    "lower",
    "ltrim",
    "md5",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "nvl",
    "octet_length",
    "position",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "replace",
    "reverse",
    "right",
    "rm_cumulate_ends",
    "rm_date_subtract",
    "rm_date_time",
    "rm_float4",
    "rm_float8",
    "rm_interval_eq",
    "rm_interval_ge",
    "rm_interval_gt",
    "rm_interval_le",
    "rm_interval_lt",
    "rm_interval_ne",
    "rm_interval_span",
    "rm_now_ge",
    "rm_now_gt",
    "rm_now_le",
    "rm_now_lt",
    "rm_positive_zero",
    "rm_round_half_even",
    "rm_text",
    "rm_time_interval",
    "rm_timestamp_difference",
    "rm_window_start",
    "rm_window_starts",
    "rtrim",
    "starts_with",
    "string_to_array",
    "strpos",
    "to_hex",
    "to_json",
    "translate",
    "upper",
];

/// DataFusion's filter push-down, but a filter that can fail stays where it is, as does one that would take a
/// fallible expression of the projection below into itself.
#[derive(Debug, Default)]
pub struct GuardedPushDownFilter {
    inner: PushDownFilter,
}

impl OptimizerRule for GuardedPushDownFilter {
    fn name(&self) -> &str {
        "push_down_filter"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) if must_stay(&filter) => {
                Ok(Transformed::no(LogicalPlan::Filter(filter)))
            }
            LogicalPlan::Filter(filter) if is_above_groups(&filter) => without_tests(filter),
            other => self.inner.rewrite(other, config),
        }
    }
}

fn must_stay(filter: &Filter) -> bool {
    if is_fallible(&filter.predicate, filter.input.schema()) {
        return true;
    }
    match filter.input.as_ref() {
        LogicalPlan::Projection(projection) => projection
            .expr
            .iter()
            .any(|expr| is_fallible(expr, projection.input.schema())),
        // merging would put this predicate into the same batch as one that must be guarded
        LogicalPlan::Filter(below) => {
            is_fallible(&below.predicate, below.input.schema())
                || has_now_test(&filter.predicate) && is_above_groups_of(&below.input)
        }
        // below it nothing would keep the row of the group without columns, which needs no input
        LogicalPlan::Aggregate(aggregate) => {
            let keys = &aggregate.group_expr;
            keys.is_empty() || keys.iter().any(|key| matches!(key, Expr::GroupingSet(_)))
        }
        _ => false,
    }
}

/// Whether it is a filter on the current time above groups or partitions. Below them it would keep all their rows to
/// let them go one by one, where a group can go as a whole.
fn is_above_groups(filter: &Filter) -> bool {
    has_now_test(&filter.predicate) && is_above_groups_of(&filter.input)
}

fn is_above_groups_of(input: &LogicalPlan) -> bool {
    matches!(
        input,
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(_)
    )
}

/// The filter as one on the current time above another one, which may be moved.
fn without_tests(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let (tests, rest): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate)
        .into_iter()
        .partition(has_now_test);
    let is_split = !rest.is_empty();
    let mut input = filter.input;
    for part in [conjunction(rest), conjunction(tests)]
        .into_iter()
        .flatten()
    {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(part, input)?));
    }
    let plan = Arc::unwrap_or_clone(input);
    Ok(Transformed::new_transformed(plan, is_split))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted() {
        assert!(TOTAL_FUNCTIONS.is_sorted());
    }
}
