//! Refuses queries that DataFusion is known to answer wrongly, until it or a rewrite of ours answers them rightly.
//!
//! - `EXISTS (… OFFSET n)` ignores the offset.
//! - A condition on the row around a subquery is moved out of the subquery, also across what changes its meaning:
//!   an aggregate without GROUP BY that is not the subquery's own result (it loses its row for no input), the side of
//!   an outer join that may be missing, a window function.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use crate::error::{PlanError, Result};

/// What is wrong, and what to write instead.
type Mistake = (&'static str, &'static str);

/// An error if `plan`, not yet optimised, contains one of these.
pub fn refuse_mistaken(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                found = found.or(match part {
                    Expr::Exists(exists) if has_offset(&exists.subquery.subquery) => Some((
                        "EXISTS with OFFSET",
                        "count the rows of the subquery and compare",
                    )),
                    Expr::Exists(exists) => mistake(&exists.subquery, false)?,
                    Expr::InSubquery(test) => mistake(&test.subquery, false)?,
                    Expr::ScalarSubquery(subquery) => mistake(subquery, true)?,
                    _ => None,
                });
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(|error| PlanError::Internal(error.strip_backtrace()))?;
    match found {
        None => Ok(()),
        Some((feature, hint)) => Err(PlanError::unsupported(feature, hint)),
    }
}

fn has_offset(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Limit(limit) => limit.skip.is_some(),
        LogicalPlan::Projection(projection) => has_offset(&projection.input),
        _ => false,
    }
}

fn mistake(subquery: &Subquery, is_scalar: bool) -> DfResult<Option<Mistake>> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(None);
    }
    let result = own_aggregate(&subquery.subquery, is_scalar);
    let mut found = None;
    subquery.subquery.apply(|node| {
        found = found.or(match node {
            LogicalPlan::Window(window) if refers_out(&window.input)? => Some((
                "a window function in a subquery that refers to the row around it",
                "compute it in a view or a subquery in FROM, and refer to the row outside of that",
            )),
            LogicalPlan::Join(join) => {
                let (left, right) = (refers_out(&join.left)?, refers_out(&join.right)?);
                let is_wrong = match join.join_type {
                    JoinType::Left => right,
                    JoinType::Right => left,
                    JoinType::Full => left || right,
                    _ => false,
                };
                is_wrong.then_some((
                    "an outer join in a subquery that refers to the row around it on the side that may be missing",
                    "refer to the row in the WHERE clause of the subquery itself",
                ))
            }
            LogicalPlan::Aggregate(aggregate)
                if aggregate.group_expr.is_empty()
                    && refers_out(&aggregate.input)?
                    && !result.is_some_and(|own| std::ptr::eq(own, node)) =>
            {
                Some((
                    "an aggregate inside a subquery that refers to the row around it",
                    "make the aggregate the only result of the subquery, (SELECT count(*) … ), and compare that",
                ))
            }
            _ => None,
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The aggregate that gives the one row of a subquery. With HAVING there may be none: only a value can do with that.
fn own_aggregate(plan: &LogicalPlan, is_scalar: bool) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Some(plan),
        LogicalPlan::Projection(projection) => own_aggregate(&projection.input, is_scalar),
        LogicalPlan::SubqueryAlias(alias) => own_aggregate(&alias.input, is_scalar),
        LogicalPlan::Filter(filter) if is_scalar => own_aggregate(&filter.input, is_scalar),
        _ => None,
    }
}

/// Whether `plan` is an aggregate without GROUP BY: there is exactly one row.
pub fn is_one_row(plan: &LogicalPlan) -> bool {
    own_aggregate(plan, false).is_some()
}

fn refers_out(plan: &LogicalPlan) -> DfResult<bool> {
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.contains_outer();
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    })
}
