//! Analyzer rule for sessions whose time zone is not UTC. Runs after coercion, when every cast is explicit.
//!
//! A `timestamptz` is kept in UTC; texts and timestamps that become one, and what is cut or read out of one, are in
//! the session's zone. For a view this fixes the zone of the session that created it.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;

use crate::functions::TimeZone;
use crate::rewrite::casts::call;
use crate::rewrite::pg_types::input_schema;

/// See the module.
#[derive(Debug, Default)]
pub struct SessionZone;

impl AnalyzerRule for SessionZone {
    fn name(&self) -> &str {
        "session_zone"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let Some(zone) = zone_of(config) else {
            return Ok(plan);
        };
        let localized = plan.transform_up_with_subqueries(|plan| {
            let schema = input_schema(&plan)?;
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = localize(expr, &schema, zone)?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(localized.data)
    }
}

/// The session's zone; `None`: it is UTC.
pub fn zone_of(config: &ConfigOptions) -> Option<&str> {
    let zone = config.execution.time_zone.as_deref()?;
    let is_utc = ["UTC", "Etc/UTC", "GMT", "Z", "+00:00", "+00"]
        .iter()
        .any(|name| zone.eq_ignore_ascii_case(name));
    (!is_utc).then_some(zone)
}

/// Puts what depends on a zone in `expr` into `zone`.
pub fn localize(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::Cast(Cast { expr, field }) => localize_cast(*expr, field, schema, zone),
        Expr::ScalarFunction(mut function)
            if matches!(
                function.name(),
                "date_trunc" | "date_part" | "extract" | "rm_extract_whole"
            ) && function.args.len() == 2
                && function
                    .args
                    .get(1)
                    .is_some_and(|arg| is_instant(arg, schema))
                && !is_epoch(&function.args[0]) =>
        {
            let is_cut = function.name() == "date_trunc";
            let local = in_zone(zone, std::mem::take(&mut function.args[1]));
            function.args[1] = local;
            let result = Expr::ScalarFunction(function);
            Ok(Transformed::yes(if is_cut {
                in_zone(zone, result)
            } else {
                result
            }))
        }
        Expr::ScalarFunction(mut function) if takes_zone(&function, schema) => {
            function.args.push(lit(zone));
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        Expr::BinaryExpr(binary)
            if matches!(binary.op, Operator::Plus | Operator::Minus)
                && is_instant(&binary.left, schema)
                && is_interval(&binary.right, schema) =>
        {
            let name = match binary.op {
                Operator::Plus => "rm_timestamp_add",
                _ => "rm_timestamp_subtract",
            };
            let args = vec![*binary.left, *binary.right, lit(zone)];
            Ok(Transformed::yes(call(name, args)?))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Functions that take the zone as a last argument, which users leave out.
fn takes_zone(function: &ScalarFunction, schema: &DFSchema) -> bool {
    match (function.name(), function.args.as_slice()) {
        ("to_char", [time, _]) => is_instant(time, schema),
        ("to_timestamp", [_, _]) => true,
        ("make_timestamptz", args) => args.len() == 6,
        _ => false,
    }
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(_)))
}

fn localize_cast(
    expr: Expr,
    field: arrow::datatypes::FieldRef,
    schema: &DFSchema,
    zone: &str,
) -> Result<Transformed<Expr>> {
    let from = expr.get_type(schema)?;
    let local = DataType::Timestamp(TimeUnit::Microsecond, None);
    let of_zone = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    let inner = match (&from, field.data_type()) {
        (DataType::Utf8, DataType::Timestamp(_, Some(_))) => cast(expr, of_zone),
        (DataType::Date32, DataType::Timestamp(_, Some(_))) => in_zone(zone, cast(expr, local)),
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_)))
        | (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None) | DataType::Date32) => {
            in_zone(zone, expr)
        }
        (DataType::Timestamp(_, Some(_)), DataType::Utf8) => cast(expr, of_zone),
        _ => {
            return Ok(Transformed::no(Expr::Cast(Cast {
                expr: Box::new(expr),
                field,
            })));
        }
    };
    Ok(Transformed::yes(Expr::Cast(Cast {
        expr: Box::new(inner),
        field,
    })))
}

/// `expr AT TIME ZONE zone`.
fn in_zone(zone: &str, expr: Expr) -> Expr {
    let function = Arc::new(ScalarUDF::from(TimeZone::default()));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![lit(zone), expr]))
}

fn is_instant(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Timestamp(_, Some(_))))
}

fn is_epoch(part: &Expr) -> bool {
    matches!(part, Expr::Literal(ScalarValue::Utf8(Some(part)), _) if part.eq_ignore_ascii_case("epoch"))
}
