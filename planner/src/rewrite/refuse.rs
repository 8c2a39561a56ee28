//! Refuses in a view what can not be kept up to date yet, on the AST, so that the error can name the clause as it was
//! written and say what to write instead.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, GroupByExpr, Query, Select, TableFactor, Visit, Visitor};

use crate::error::{PlanError, Result};

/// An error if `query`, which is expanded, has a clause that no streaming operator maintains.
pub fn refuse_unsupported(query: &Query) -> Result<()> {
    match query.visit(&mut Checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused.into_error()),
    }
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
        if select.from.len() > 1 || select.from.iter().any(|table| !table.joins.is_empty()) {
            return refuse(
                "JOIN",
                "it is not supported yet; make one view of each side and join them in queries",
            );
        }
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
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                refuse("a subquery", SUBQUERY_HINT)
            }
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. }
                if matches!(**right, Expr::Subquery(_)) =>
            {
                refuse("a subquery", SUBQUERY_HINT)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

const SUBQUERY_HINT: &str = "it is not supported yet in an expression; make it a view and combine the two in the query that reads them";
fn refuse(what: &'static str, hint: &'static str) -> ControlFlow<Box<Refused>> {
    ControlFlow::Break(Box::new(Refused { what, hint }))
}
