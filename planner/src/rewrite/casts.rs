//! Analyzer rule: casts from and to text by PostgreSQL's input and output functions, and the few casts that DataFusion
//! has otherwise. Runs after coercion, when every cast is explicit.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, ScalarUDF, lit};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

use crate::functions::{CastArray, NearestFloat, Read, Written, named, nearest_float};
use crate::rewrite::pg_types::input_schema;
use crate::types::SqlType;

/// See the module.
#[derive(Debug, Default)]
pub struct PostgresCasts;

impl AnalyzerRule for PostgresCasts {
    fn name(&self) -> &str {
        "postgres_casts"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = session_zone(config);
        let cast = plan.transform_up_with_subqueries(|plan| {
            if matches!(plan, LogicalPlan::Limit(_)) {
                return Ok(Transformed::no(plan));
            }
            let schema = input_schema(&plan)?;
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let cast = cast_expr(expr, &schema, &zone)?;
                Ok(cast.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(cast.data)
    }
}

/// The session's zone by name; `UTC` if none is set.
pub fn session_zone(config: &ConfigOptions) -> String {
    config
        .execution
        .time_zone
        .clone()
        .unwrap_or_else(|| "UTC".to_string())
}

/// Replaces the casts of `expr`, which is coerced and whose columns are of `schema`.
pub fn cast_expr(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::Cast(Cast { expr, field }) => {
            let source = expr.to_field(schema)?.1;
            if let Expr::Literal(value, _) = expr.as_ref()
                && source.data_type().is_decimal()
                && field.data_type().is_floating()
            {
                let value = nearest_float(value, field.data_type())?;
                return Ok(Transformed::yes(Expr::Literal(value, None)));
            }
            match replacement(&source, &field, zone)? {
                Some(Replacement::Call(function)) => Ok(Transformed::yes(Expr::ScalarFunction(
                    ScalarFunction::new_udf(function, vec![*expr]),
                ))),
                Some(Replacement::Nothing) => Ok(Transformed::yes(*expr)),
                None => Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
            }
        }
        other => Ok(Transformed::no(other)),
    })
}

enum Replacement {
    Call(Arc<ScalarUDF>),
    /// The value is of the type already.
    Nothing,
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// What stands for the cast; `None`: DataFusion's is right, or another rule mends it.
fn replacement(source: &FieldRef, target: &FieldRef, zone: &str) -> Result<Option<Replacement>> {
    let (from, to) = (SqlType::of_field(source), SqlType::of_field(target));
    let call = |function| Ok(Some(Replacement::Call(function)));
    if source.data_type() == &DataType::Null {
        return match to {
            SqlType::Json | SqlType::Jsonb | SqlType::Uuid => call(Read::udf(to, zone)),
            _ => Ok(None),
        };
    }
    if is_text(source.data_type()) {
        return match (&from, &to) {
            // between texts: views and offsets are DataFusion's own matter
            (SqlType::Text { .. }, SqlType::Text { .. }) => Ok(None),
            (from, to) if from == to => Ok(Some(Replacement::Nothing)),
            (_, SqlType::Text { .. }) => call(Written::udf(zone)),
            // intermediate types of other rules
            (_, _) if !is_own(target.data_type(), &to) => Ok(None),
            (SqlType::Text { .. } | SqlType::Json | SqlType::Jsonb, _) => call(Read::udf(to, zone)),
            (from, to) => plan_err!("cannot cast type {from} to {to}"),
        };
    }
    match (&from, &to) {
        (from, SqlType::Json | SqlType::Jsonb | SqlType::Uuid) => {
            plan_err!("cannot cast type {} to {to}", from.base_name())
        }
        (SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Numeric { .. }, _)
            if is_text(target.data_type()) =>
        {
            Ok(None)
        }
        _ if is_text(target.data_type()) => call(Written::udf(zone)),
        (SqlType::Array(a), SqlType::Array(b)) if a != b => {
            match (source.data_type(), is_own(target.data_type(), &to)) {
                (DataType::List(_), true) => call(CastArray::udf(to, zone)),
                _ => Ok(None),
            }
        }
        (SqlType::Numeric { .. }, SqlType::Real | SqlType::Double) => {
            let function = NearestFloat::instead_of_cast(source.data_type(), target.data_type());
            Ok(function.map(Replacement::Call))
        }
        (SqlType::Interval, SqlType::Time) => call(named("rm_interval_time")?),
        (SqlType::Time, SqlType::Interval) => call(named("rm_time_interval")?),
        _ => Ok(None),
    }
}

/// Whether a type is one that SQL can name, as opposed to nanoseconds and the like.
fn is_own(data_type: &DataType, sql_type: &SqlType) -> bool {
    sql_type.arrow() == *data_type
}

/// A call of one of our functions.
pub fn call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
        named(name)?,
        args,
    )))
}

/// A text.
pub fn text(value: &str) -> Expr {
    lit(value)
}
