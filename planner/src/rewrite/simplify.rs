//! Optimizer rule that simplifies expressions, in place of DataFusion's rule of the same name.
//!
//! DataFusion's forgets NULL and types in places: `x IN (1, 2) AND x IN (3, 4)` becomes false where `x` is NULL,
//! `x IN (y, 1) AND x IN (z, 2)` becomes false even where `y = z`, `s ~ '.*'` becomes `s IS NOT NULL`, a numeric
//! `% 1` becomes zero. So nothing of its algebra is used, only its evaluation of constants. Here are an allow-list of
//! identities that hold in three-valued logic for every type, and what functions say of themselves.

mod comparison;
mod logic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, SortExpr, lit,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::rewrite::pg_types::{input_schema, is_comparison, is_match};

/// One simplification can make another possible, but seldom more than this.
const MAX_PASSES: usize = 3;
/// Functions whose own simplification is algebra too: `power(a, log(a, b))` is `b` only for some `b`.
const ALGEBRAIC_FUNCTIONS: &[&str] = &["log", "power"];

/// See the module.
#[derive(Debug, Default)]
pub struct Simplify;

impl OptimizerRule for Simplify {
    fn name(&self) -> &str {
        "simplify_expressions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(input_schema(&plan)?))
            .with_config_options(config.options())
            .with_query_execution_start_time(config.query_execution_start_time())
            .build();
        let names = NamePreserver::new(&plan);
        let mut simplify = |expr: Expr| {
            let name = names.save(&expr);
            let simplified = simplify_expr(expr, &context)?;
            Ok(simplified.update_data(|expr| name.restore(expr)))
        };
        plan.map_expressions(|expr| match expr {
            // has no name of its own; its parts have
            Expr::GroupingSet(_) => expr.map_children(&mut simplify),
            expr => simplify(expr),
        })
    }
}

/// A simpler equivalent of `expr`, which is coerced and whose columns are of the context's schema.
pub fn simplify_expr(expr: Expr, context: &SimplifyContext) -> Result<Transformed<Expr>> {
    let constants = ExprSimplifier::new(context.clone());
    let mut simplified = Transformed::no(expr);
    for _ in 0..MAX_PASSES {
        let pass = simplified
            .data
            .transform_up(|part| simplify_part(part, context, &constants))?;
        let is_stable = !pass.transformed;
        simplified = Transformed::new_transformed(pass.data, simplified.transformed || !is_stable);
        if is_stable {
            break;
        }
    }
    Ok(simplified)
}

/// `ORDER BY x, y, x` becomes `ORDER BY x, y`: DataFusion's state of an aggregate has no room for the third. Whether there
/// was one.
fn without_repeated_keys(order_by: &mut Vec<SortExpr>) -> bool {
    let before = order_by.len();
    let mut known: Vec<Expr> = Vec::new();
    order_by.retain(|key| {
        let is_new = !known.contains(&key.expr);
        known.push(key.expr.clone());
        is_new
    });
    order_by.len() < before
}

/// `expr`, whose parts are simple already.
fn simplify_part(
    expr: Expr,
    context: &SimplifyContext,
    constants: &ExprSimplifier,
) -> Result<Transformed<Expr>> {
    let evaluated = evaluate(expr, constants)?;
    if evaluated.transformed {
        return Ok(evaluated);
    }
    let schema = context.schema();
    Ok(match evaluated.data {
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And => logic::and(*binary.left, *binary.right),
            Operator::Or => logic::or(*binary.left, *binary.right),
            op if is_comparison(op) => comparison::comparison(binary, schema)?,
            _ => {
                check_pattern(&binary, constants)?;
                Transformed::no(Expr::BinaryExpr(binary))
            }
        },
        Expr::Not(inner) => logic::not(*inner),
        Expr::Case(case) => logic::case(case, schema)?,
        Expr::Between(between) => Transformed::yes(comparison::between(between)),
        Expr::IsNull(inner) | Expr::IsUnknown(inner) if !inner.nullable(schema)? => {
            Transformed::yes(lit(false))
        }
        Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) if !inner.nullable(schema)? => {
            Transformed::yes(lit(true))
        }
        Expr::ScalarFunction(function) => by_function(function, context)?,
        Expr::AggregateFunction(mut aggregate) => {
            let is_shorter = without_repeated_keys(&mut aggregate.params.order_by);
            Transformed::new_transformed(Expr::AggregateFunction(aggregate), is_shorter)
        }
        other => Transformed::no(other),
    })
}

/// The value of `expr` if its parts are constants. DataFusion evaluates before it does any algebra; what fails stays
/// as it is, since a CASE may never come to it, except for a literal's cast.
fn evaluate(expr: Expr, constants: &ExprSimplifier) -> Result<Transformed<Expr>> {
    if !is_of_constants(&expr)? {
        return Ok(Transformed::no(expr));
    }
    Ok(match constants.simplify(expr.clone())? {
        value @ Expr::Literal(..) => Transformed::yes(value),
        _ => Transformed::no(expr),
    })
}

fn is_of_constants(expr: &Expr) -> Result<bool> {
    let can_be_evaluated = match expr {
        // `now()` and its like have no parts
        Expr::ScalarFunction(_) => true,
        Expr::BinaryExpr(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Case(_)
        | Expr::InList(_)
        | Expr::Cast(_)
        | Expr::TryCast(_) => true,
        _ => false,
    };
    let mut is_constant = can_be_evaluated;
    if is_constant {
        expr.apply_children(|part| {
            is_constant &= matches!(part, Expr::Literal(..));
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(is_constant)
}

/// An error for a constant regular expression that is none: it would be one in every row.
fn check_pattern(binary: &BinaryExpr, constants: &ExprSimplifier) -> Result<()> {
    if is_match(binary.op) && matches!(*binary.right, Expr::Literal(..)) {
        let probe = BinaryExpr::new(Box::new(lit("")), binary.op, binary.right.clone());
        constants.simplify(Expr::BinaryExpr(probe))?;
    }
    Ok(())
}

/// What the function knows of itself: `now()`'s value, `coalesce` as a CASE.
fn by_function(function: ScalarFunction, context: &SimplifyContext) -> Result<Transformed<Expr>> {
    if ALGEBRAIC_FUNCTIONS.contains(&function.name()) {
        return Ok(Transformed::no(Expr::ScalarFunction(function)));
    }
    let ScalarFunction { func, args } = function;
    Ok(match func.simplify(args, context)? {
        ExprSimplifyResult::Original(args) => {
            Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        ExprSimplifyResult::Simplified(expr) => Transformed::yes(expr),
    })
}
