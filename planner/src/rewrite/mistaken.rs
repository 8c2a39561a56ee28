//! Refuses queries that DataFusion is known to answer wrongly, until it or a rewrite of ours answers them rightly.
//!
//! - `NOT IN (subquery)` below OR or CASE becomes a join mark without NULL.
//! - `NOT IN (correlated subquery)` loses rows when the subquery is empty and the value is NULL.
//! - `EXISTS (... OFFSET n)` ignores the offset.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{PlanError, Result};

/// An error if `plan`, not yet optimised, contains one of these.
pub fn refuse_mistaken(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let conjuncts: Vec<&Expr> = match node {
            LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate),
            _ => Vec::new(),
        };
        node.apply_expressions(|expr| check(expr, &conjuncts, &mut found))
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

/// Looks for a mistake in `expr`; `conjuncts` are parts of it whose truth alone decides about a row.
fn check(
    expr: &Expr,
    conjuncts: &[&Expr],
    found: &mut Option<Mistake>,
) -> DfResult<TreeNodeRecursion> {
    expr.apply(|part| {
        let mistake = match part {
            Expr::InSubquery(inside)
                if inside.negated && !inside.subquery.outer_ref_columns.is_empty() =>
            {
                Some(("NOT IN with a correlated subquery", "write NOT EXISTS"))
            }
            Expr::InSubquery(inside) if inside.negated && !is_one_of(conjuncts, part) => Some((
                "NOT IN with a subquery below OR or CASE",
                "write NOT EXISTS",
            )),
            Expr::Not(inner) if matches!(**inner, Expr::InSubquery(_)) => {
                Some(("NOT over IN with a subquery", "write NOT EXISTS"))
            }
            Expr::Exists(exists) if has_offset(&exists.subquery.subquery) => Some((
                "EXISTS with OFFSET",
                "count the rows of the subquery and compare",
            )),
            _ => None,
        };
        if mistake.is_some() {
            *found = mistake;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })
}

fn is_one_of(conjuncts: &[&Expr], expr: &Expr) -> bool {
    conjuncts.contains(&expr)
}

fn has_offset(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Limit(limit) => limit.skip.is_some(),
        LogicalPlan::Projection(projection) => has_offset(&projection.input),
        _ => false,
    }
}
