//! Casts with a name of their own, where two expressions would else have the same.
//!
//! DataFusion tells the columns of an aggregation and of window functions apart by name, and leaves casts out of names:
//! `x` and `x::text` in one GROUP BY, or `sum(x)` and `sum(x::float8)` in one SELECT, are one column twice to it. In
//! such a query every cast is bound as an argument of [`NamedCast`], which is part of the name, and the analyzer's
//! first rule takes the call away again, keeping the name.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use sqlparser::ast::{
    DataType, Expr, GroupByExpr, Ident, Query, Select, SelectItem, Value, Visit, VisitMut, Visitor,
    VisitorMut, visit_expressions, visit_expressions_mut,
};

use super::expressions::{call, take};
use crate::functions::NamedCast;
use crate::names::fold;
use crate::type_planner::sql_type;

/// Names the casts of `query` if some of its expressions may differ in nothing else. Without need it does no harm.
pub fn name_casts(query: &mut Query) {
    if !has_cast(query) {
        return;
    }
    let mut names = Names::default();
    let ControlFlow::Continue(()) = Visit::visit(&*query, &mut names);
    if !names.are_mistakable {
        return;
    }
    let _: ControlFlow<()> = visit_expressions_mut(query, |expr| {
        if let Expr::Cast { data_type, .. } = expr {
            let name = Value::SingleQuotedString(type_name(data_type));
            *expr = call(NamedCast::NAME, vec![take(expr), Expr::Value(name.into())]);
        }
        ControlFlow::Continue(())
    });
}

fn has_cast(query: &Query) -> bool {
    let found = visit_expressions(query, |expr| match expr {
        Expr::Cast { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The same for all spellings of a type.
fn type_name(data_type: &DataType) -> String {
    match sql_type(data_type) {
        Ok(Some(sql_type)) => sql_type.to_string(),
        _ => data_type.to_string(),
    }
}

/// What DataFusion will tell apart by name.
#[derive(Default)]
struct Names {
    /// Expressions by what is left of them without casts.
    by_name: HashMap<String, String>,
    are_mistakable: bool,
}

impl Names {
    fn add(&mut self, expr: &Expr) {
        let mut expr = expr.clone();
        let ControlFlow::Continue(()) = VisitMut::visit(&mut expr, &mut Fold);
        let whole = expr.to_string();
        let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |part| {
            if let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = part {
                *part = take(inner);
            }
            ControlFlow::Continue(())
        });
        let first = self.by_name.entry(expr.to_string().to_lowercase());
        self.are_mistakable |= *first.or_insert_with(|| whole.clone()) != whole;
    }
}

impl Visitor for Names {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Infallible> {
        let GroupByExpr::Expressions(keys, _) = &select.group_by else {
            return ControlFlow::Continue(());
        };
        if keys.is_empty() {
            return ControlFlow::Continue(());
        }
        // a key can also be the number or the alias of an item
        for item in &select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.add(expr);
            }
        }
        for key in keys {
            match key {
                Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                    sets.iter().flatten().for_each(|key| self.add(key));
                }
                key => self.add(key),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        // aggregates and window functions are among these
        if matches!(expr, Expr::Function(_)) {
            self.add(expr);
        }
        ControlFlow::Continue(())
    }
}

/// Makes columns comparable: folded, and the last part of their names only.
struct Fold;

impl VisitorMut for Fold {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let column = match expr {
            Expr::Identifier(column) => Some(fold(column)),
            Expr::CompoundIdentifier(parts) => parts.last().map(fold),
            _ => None,
        };
        if let Some(column) = column {
            *expr = Expr::Identifier(Ident::with_quote('"', column));
        }
        ControlFlow::Continue(())
    }
}

/// Analyzer rule: takes the calls of [`NamedCast`] away.
#[derive(Debug, Default)]
pub struct UnnameCasts;

impl AnalyzerRule for UnnameCasts {
    fn name(&self) -> &str {
        "unname_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let unnamed = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let mut unname = |expr: LogicalExpr| {
                let name = names.save(&expr);
                let unnamed = expr.transform_up(without_call)?;
                Ok(match unnamed.transformed {
                    true => unnamed.update_data(|expr| name.restore(expr)),
                    false => unnamed,
                })
            };
            plan.map_expressions(|expr| match expr {
                // has no name of its own; its parts have
                LogicalExpr::GroupingSet(_) => expr.map_children(&mut unname),
                expr => unname(expr),
            })
        })?;
        Ok(unnamed.data)
    }
}

fn without_call(expr: LogicalExpr) -> Result<Transformed<LogicalExpr>> {
    Ok(match expr {
        LogicalExpr::ScalarFunction(mut function) if function.name() == NamedCast::NAME => {
            Transformed::yes(function.args.swap_remove(0))
        }
        other => Transformed::no(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_query::parse_query;

    #[test]
    fn only_where_names_would_be_the_same() {
        for (sql, expected) in [
            ("SELECT a, a::text FROM t", None),
            ("SELECT sum(a::float8) FROM t", None),
            (
                "SELECT sum(t.a), sum(A::float8) FROM t",
                Some("SELECT sum(t.a), sum(rm_cast(A::FLOAT8, 'double precision')) FROM t"),
            ),
            (
                "SELECT a::int4 FROM t GROUP BY a::integer, a",
                Some(
                    "SELECT rm_cast(a::INT4, 'integer') FROM t GROUP BY rm_cast(a::INTEGER, 'integer'), a",
                ),
            ),
            (
                "SELECT -a, (-a)::text FROM t GROUP BY 1, 2",
                Some("SELECT -a, rm_cast((-a)::TEXT, 'text') FROM t GROUP BY 1, 2"),
            ),
        ] {
            let mut query = parse_query(sql).unwrap();
            let before = query.to_string();
            name_casts(&mut query);
            assert_eq!(query.to_string(), expected.unwrap_or(&before), "{sql}");
        }
    }
}
