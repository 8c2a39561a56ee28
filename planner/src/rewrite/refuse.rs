//! Refuses in a view what can not be kept up to date yet, where possible on the AST, so that the error can name the
//! clause as it was written and say what to write instead.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use sqlparser::ast::{Expr, LimitClause, Query, TableFactor, Visit, Visitor};

use crate::error::{PlanError, Result};

/// An error if `query`, which is expanded, has a clause that no streaming operator maintains.
pub fn refuse_unsupported(query: &Query) -> Result<()> {
    match query.visit(&mut Checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused.into_error()),
    }
}

/// An error if `plan`, which is optimised, still has a subquery that did not become a join.
pub fn refuse_subqueries(plan: &LogicalPlan) -> Result<()> {
    let mut is_left = false;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                is_left |= matches!(
                    part,
                    PlanExpr::ScalarSubquery(_)
                        | PlanExpr::InSubquery(_)
                        | PlanExpr::Exists(_)
                        | PlanExpr::SetComparison(_)
                        | PlanExpr::OuterReferenceColumn(..)
                );
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(|error| PlanError::Internal(error.strip_backtrace()))?;
    if is_left {
        return Err(PlanError::unsupported(
            "this subquery in a materialized view",
            "write it as a join, or as a subquery in FROM (LATERAL if it refers to the row)",
        ));
    }
    Ok(())
}

struct Refused {
    what: &'static str,
    hint: &'static str,
}

impl Refused {
    fn into_error(self) -> PlanError {
        PlanError::Unsupported {
            feature: format!("{} in a materialized view", self.what),
            hint: self.hint.to_string(),
        }
    }
}

struct Checker;

impl Visitor for Checker {
    type Break = Box<Refused>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return refuse(
                "WITH RECURSIVE",
                "a view can not read itself; store the closure in a table and extend it by statements",
            );
        }
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            let counts = [limit.as_ref(), offset.as_ref().map(|offset| &offset.value)];
            let is_query = |count: &&Expr| matches!(count, Expr::Subquery(_));
            if counts.into_iter().flatten().any(|count| is_query(&count)) {
                return refuse("LIMIT with something else than a number", "write a number");
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } => refuse(
                "this function in FROM",
                "TUMBLE, HOP, CUMULATE and functions that give rows, such as unnest(), are supported there",
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn refuse(what: &'static str, hint: &'static str) -> ControlFlow<Box<Refused>> {
    ControlFlow::Break(Box::new(Refused { what, hint }))
}
