//! Refuses queries that DataFusion is known to answer wrongly, until it or a rewrite of ours answers them rightly.
//!
//! - `IN (subquery)` becomes a join mark without NULL, so it is right only where NULL does as well as false; as
//!   `NOT IN` it is right only as a condition of its own.
//! - `NOT IN (correlated subquery)` loses rows when the subquery is empty and the value is NULL.
//! - `EXISTS (... OFFSET n)` ignores the offset.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::error::{PlanError, Result};

/// An error if `plan`, not yet optimised, contains one of these.
pub fn refuse_mistaken(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let place = match node {
            LogicalPlan::Filter(_) => Place::Condition,
            LogicalPlan::Join(_) => Place::Truth,
            _ => Place::Value,
        };
        node.apply_expressions(|expr| {
            check(expr, place, &mut found)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map_err(|error| PlanError::Internal(error.strip_backtrace()))?;
    match found {
        None => Ok(()),
        Some((feature, hint)) => Err(PlanError::Unsupported {
            feature: feature.to_string(),
            hint: hint.to_string(),
        }),
    }
}

type Mistake = (&'static str, &'static str);

/// What becomes of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It decides alone whether a row stays.
    Condition,
    /// NULL does the same as false: below the AND and OR of a condition, after WHEN.
    Truth,
    /// NULL and false differ.
    Value,
}

/// Looks for a mistake in `expr`.
fn check(expr: &Expr, place: Place, found: &mut Option<Mistake>) -> DfResult<()> {
    let mistake = match expr {
        Expr::InSubquery(inside)
            if inside.negated && !inside.subquery.outer_ref_columns.is_empty() =>
        {
            Some(("NOT IN with a correlated subquery", "write NOT EXISTS"))
        }
        Expr::InSubquery(inside) if inside.negated && place != Place::Condition => Some((
            "NOT IN with a subquery below OR or CASE",
            "write NOT EXISTS",
        )),
        Expr::Not(inner) if matches!(**inner, Expr::InSubquery(_)) => {
            Some(("NOT over IN with a subquery", "write NOT EXISTS"))
        }
        Expr::InSubquery(_) if place == Place::Value => {
            Some(("the value of IN with a subquery", "write EXISTS"))
        }
        Expr::Exists(exists) if has_offset(&exists.subquery.subquery) => Some((
            "EXISTS with OFFSET",
            "count the rows of the subquery and compare",
        )),
        _ => None,
    };
    if mistake.is_some() {
        *found = mistake;
        return Ok(());
    }
    check_parts(expr, place, found)
}

fn check_parts(expr: &Expr, place: Place, found: &mut Option<Mistake>) -> DfResult<()> {
    let is_decided_by_truth = place != Place::Value;
    match expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::And => {
            check(&binary.left, place, found)?;
            check(&binary.right, place, found)
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or && is_decided_by_truth => {
            check(&binary.left, Place::Truth, found)?;
            check(&binary.right, Place::Truth, found)
        }
        Expr::IsTrue(inner) | Expr::IsNotTrue(inner) => check(inner, Place::Truth, found),
        Expr::Case(case) if case.expr.is_none() => {
            let of_result = match is_decided_by_truth {
                true => Place::Truth,
                false => Place::Value,
            };
            for (when, then) in &case.when_then_expr {
                check(when, Place::Truth, found)?;
                check(then, of_result, found)?;
            }
            case.else_expr
                .iter()
                .try_for_each(|otherwise| check(otherwise, of_result, found))
        }
        other => {
            other.apply_children(|part| {
                check(part, Place::Value, found)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(())
        }
    }
}

fn has_offset(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Limit(limit) => limit.skip.is_some(),
        LogicalPlan::Projection(projection) => has_offset(&projection.input),
        _ => false,
    }
}
