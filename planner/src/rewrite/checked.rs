//! Analyzer rule for evaluation as PostgreSQL evaluates. Runs after coercion, when every type is known.
//!
//! Integer arithmetic fails on overflow instead of wrapping, division of floats by zero fails instead of being infinite, and
//! that of numerics rounds; casts to integers round (floats to even, numerics away from zero) instead of truncating, as does `round`
//! of a float; `x IN (1, y)` is `x IN (1) OR x = y`; lists, CASE and NULLIF compare floats by `=`, to which -0 is 0.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, cast, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use crate::functions::{CheckedArithmetic, RoundHalfEven};
use crate::rewrite::pg_types::input_schema;

/// See the module.
#[derive(Debug, Default)]
pub struct CheckedEvaluation;

impl AnalyzerRule for CheckedEvaluation {
    fn name(&self) -> &str {
        "checked_evaluation"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let checked = plan.transform_up_with_subqueries(|plan| {
            if matches!(plan, LogicalPlan::Limit(_)) {
                return Ok(Transformed::no(plan));
            }
            let schema = input_schema(&plan)?;
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                check_expr(expr, &schema)
                    .map(|checked| checked.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(checked.data)
    }
}

/// Makes every part of `expr`, which is coerced and whose columns are of `schema`, checked.
pub fn check_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::BinaryExpr(binary) => {
            let both = |is: fn(&DataType) -> bool| {
                binary.left.get_type(schema).is_ok_and(|t| is(&t))
                    && binary.right.get_type(schema).is_ok_and(|t| is(&t))
            };
            let is_checked = match binary.op {
                Operator::Divide => {
                    both(DataType::is_decimal) || (both(DataType::is_floating) && !is_nonzero(&binary.right))
                }
                _ => both(DataType::is_integer),
            };
            match CheckedArithmetic::of(binary.op).filter(|_| is_checked) {
                Some(function) => Ok(Transformed::yes(call(
                    function,
                    vec![*binary.left, *binary.right],
                ))),
                None => Ok(Transformed::no(Expr::BinaryExpr(binary))),
            }
        }
        Expr::Negative(inner) => {
            let data_type = inner.get_type(schema)?;
            match CheckedArithmetic::of(Operator::Minus).filter(|_| data_type.is_integer()) {
                Some(subtract) => {
                    let zero = Expr::Literal(ScalarValue::new_zero(&data_type)?, None);
                    Ok(Transformed::yes(call(subtract, vec![zero, *inner])))
                }
                None => Ok(Transformed::no(Expr::Negative(inner))),
            }
        }
        Expr::ScalarFunction(function)
            if function.name() == "round"
                && matches!(function.args.as_slice(), [arg] if arg.get_type(schema).is_ok_and(|t| t.is_floating())) =>
        {
            Ok(Transformed::yes(call(
                ScalarUDF::from(RoundHalfEven::default()).into(),
                function.args,
            )))
        }
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() => {
            let rounded = match expr.get_type(schema)? {
                DataType::Float32 | DataType::Float64 => call(
                    ScalarUDF::from(RoundHalfEven::default()).into(),
                    vec![*expr],
                ),
                DataType::Decimal128(_, scale) if scale > 0 => {
                    cast(*expr, DataType::Decimal128(38, 0))
                }
                DataType::Decimal256(_, scale) if scale > 0 => {
                    cast(*expr, DataType::Decimal256(76, 0))
                }
                _ => return Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
            };
            Ok(Transformed::yes(Expr::Cast(Cast {
                expr: Box::new(rounded),
                field,
            })))
        }
        Expr::InList(list) if is_float(&list.expr, schema) => Ok(Transformed::yes(each_equal(list))),
        Expr::InList(list) if !list.list.iter().all(is_fixed) => Ok(Transformed::yes(unlisted(list))),
        Expr::Case(case) => Ok(compared_case(case, schema)),
        Expr::ScalarFunction(function) if function.name() == "nullif" => {
            unequal_or_null(function, schema)
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Values that differ from row to row taken out of the list, as PostgreSQL does. DataFusion looks for such values by
/// evaluating them over no rows, and takes `CASE WHEN b THEN 6 ELSE c END` for a constant.
fn unlisted(list: InList) -> Expr {
    let InList {
        expr,
        list,
        negated,
    } = list;
    let (fixed, others): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(is_fixed);
    let listed = (!fixed.is_empty()).then(|| (*expr).clone().in_list(fixed, negated));
    let compared = others.into_iter().map(|other| match negated {
        true => (*expr).clone().not_eq(other),
        false => (*expr).clone().eq(other),
    });
    let all = listed.into_iter().chain(compared);
    match negated {
        true => all.reduce(Expr::and),
        false => all.reduce(Expr::or),
    }
    .unwrap_or(lit(negated))
}

/// Each value compared by `=`: DataFusion's look-up in a list tells -0 from 0, as do CASE and NULLIF.
fn each_equal(list: InList) -> Expr {
    let InList {
        expr,
        list,
        negated,
    } = list;
    let compared = list.into_iter().map(|value| match negated {
        true => (*expr).clone().not_eq(value),
        false => (*expr).clone().eq(value),
    });
    match negated {
        true => compared.reduce(Expr::and),
        false => compared.reduce(Expr::or),
    }
    .unwrap_or(lit(negated))
}

/// `CASE x WHEN v …` of floats as `CASE WHEN x = v …`.
fn compared_case(mut case: Case, schema: &DFSchema) -> Transformed<Expr> {
    let Some(operand) = case.expr.take_if(|operand| is_float(operand, schema)) else {
        return Transformed::no(Expr::Case(case));
    };
    for (when, _) in &mut case.when_then_expr {
        let value = std::mem::take(when.as_mut());
        **when = (*operand).clone().eq(value);
    }
    Transformed::yes(Expr::Case(case))
}

/// `NULLIF(x, y)` of floats as `CASE WHEN x = y THEN NULL ELSE x END`.
fn unequal_or_null(function: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let [value, other] = function.args.as_slice() else {
        return Ok(Transformed::no(Expr::ScalarFunction(function)));
    };
    if !is_float(value, schema) {
        return Ok(Transformed::no(Expr::ScalarFunction(function)));
    }
    let nothing = lit(ScalarValue::try_from(value.get_type(schema)?)?);
    let is_equal = value.clone().eq(other.clone());
    let chosen = when(is_equal, nothing).otherwise(value.clone())?;
    Ok(Transformed::yes(chosen))
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|t| t.is_floating())
}

/// Whether `expr` reads nothing of a row.
fn is_fixed(expr: &Expr) -> bool {
    let mut is_fixed = true;
    let visited = expr.apply(|part| {
        is_fixed = !matches!(
            part,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::LambdaVariable(_)
        );
        Ok(match is_fixed {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    is_fixed && visited.is_ok()
}

/// Whether `divisor` is a constant that is not zero.
fn is_nonzero(divisor: &Expr) -> bool {
    match divisor {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => *value != 0.0,
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => *value != 0.0,
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => {
                ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| *value != zero)
                    && !value.is_null()
            }
            _ => false,
        },
        _ => false,
    }
}

fn call(function: std::sync::Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
}
