//! Refuses in a view what can not be kept up to date yet, where possible on the AST, so that the error can name the
//! clause as it was written and say what to write instead.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use sqlparser::ast::{Expr, GroupByExpr, Query, Select, TableFactor, Visit, Visitor};

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
            "write it as a join; a subquery may stand in WHERE, HAVING and the select list, and may refer to the \
             query around it by equalities (inner.k = outer.k) in its WHERE clause",
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
        if !query.locks.is_empty() {
            return refuse("FOR UPDATE", "views are never locked; leave it out");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        match &select.group_by {
            GroupByExpr::Expressions(_, modifiers) if !modifiers.is_empty() => refuse(
                "GROUP BY … WITH",
                "write GROUP BY ROLLUP (…) or GROUP BY CUBE (…)",
            ),
            GroupByExpr::Expressions(..) | GroupByExpr::All(_) => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } => refuse(
                "a function in FROM",
                "only TUMBLE, HOP and CUMULATE are supported there yet",
            ),
            TableFactor::Derived { lateral: true, .. } => refuse(
                "LATERAL",
                "it is not supported yet; put unnest() into the select list",
            ),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. }
                if matches!(**right, Expr::Subquery(_)) =>
            {
                refuse(
                    "ANY or ALL of a subquery",
                    "it is not supported yet; write IN, or compare with its min() or max()",
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn refuse(what: &'static str, hint: &'static str) -> ControlFlow<Box<Refused>> {
    ControlFlow::Break(Box::new(Refused { what, hint }))
}
