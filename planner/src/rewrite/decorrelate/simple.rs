//! The subqueries that DataFusion decorrelates, and rightly: those that refer to the row around them in the conditions
//! of a WHERE clause that nothing above it gives another meaning.

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, Operator};

use super::references::references;

/// What a subquery is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `IN`, `EXISTS`.
    Test,
    Value,
}

/// Whether DataFusion is right about a subquery of a row of `host`.
pub fn is_simple(plan: &LogicalPlan, of: Use, host: &DFSchema) -> Result<bool> {
    let refers_to = references(plan)?;
    if refers_to.is_empty() {
        return Ok(true);
    }
    if refers_to.iter().any(|(_, column)| !host.has_column(column)) {
        return Ok(false);
    }
    match of {
        Use::Test => pullable(plan, Below::Rows),
        Use::Value => value(plan),
    }
}

/// What stands above a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Rows,
    /// An aggregate, whose groups an equality splits up as a condition above it would.
    Aggregate,
}

/// A value is an aggregate's, of which HAVING may make nothing.
fn value(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        _ if has_outer(plan) => Ok(false),
        LogicalPlan::Projection(projection) => value(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => value(&alias.input),
        LogicalPlan::Filter(filter) => value(&filter.input),
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            pullable(&aggregate.input, Below::Aggregate)
        }
        _ => Ok(false),
    }
}

fn pullable(plan: &LogicalPlan, below: Below) -> Result<bool> {
    if references(plan)?.is_empty() {
        return Ok(true);
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            let own = filter.input.schema();
            let is_right = split_conjunction(&filter.predicate)
                .into_iter()
                .filter(|conjunct| conjunct.contains_outer())
                .all(|conjunct| {
                    let is_pulled = below == Below::Rows || is_equality(conjunct);
                    is_pulled && !is_ambiguous(conjunct, own)
                });
            Ok(is_right && pullable(&filter.input, below)?)
        }
        _ if has_outer(plan) => Ok(false),
        LogicalPlan::Projection(projection) => pullable(&projection.input, below),
        // loses columns that the alias calls otherwise
        LogicalPlan::SubqueryAlias(_) => Ok(false),
        LogicalPlan::Distinct(Distinct::All(input)) if below == Below::Rows => {
            pullable(input, below)
        }
        LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => {
            pullable(&aggregate.input, Below::Aggregate)
        }
        LogicalPlan::Join(join) => {
            let (may_left, may_right) = match join.join_type {
                JoinType::Inner => (true, true),
                JoinType::Left => (true, false),
                JoinType::Right => (false, true),
                _ => (false, false),
            };
            let side = |input: &LogicalPlan, may: bool| match may {
                true => pullable(input, below),
                false => Ok(references(input)?.is_empty()),
            };
            Ok(side(&join.left, may_left)? && side(&join.right, may_right)?)
        }
        _ => Ok(false),
    }
}

/// Whether the row around and the subquery's own call a column alike: DataFusion would take one for the other.
fn is_ambiguous(conjunct: &Expr, own: &DFSchema) -> bool {
    let is_known = |part: &Expr| {
        Ok(matches!(part, Expr::OuterReferenceColumn(_, column) if own.has_column(column)))
    };
    conjunct.exists(is_known).unwrap_or(true)
}

fn has_outer(plan: &LogicalPlan) -> bool {
    plan.expressions().iter().any(Expr::contains_outer)
}

/// `column = something of the row around`.
fn is_equality(conjunct: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = conjunct
    else {
        return false;
    };
    let is_pair = |own: &Expr, outer: &Expr| {
        matches!(own, Expr::Column(_)) && outer.contains_outer() && !outer.any_column_refs()
    };
    is_pair(left, right) || is_pair(right, left)
}
