//! Analyzer rule: references to the row around a subquery get the type that the row's columns have by now.
//!
//! A reference carries the type that its column had when the query was bound; [`super::pg_types`] has since made
//! `avg(integer)` a numeric. Runs between the two and coercion.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use datafusion::optimizer::AnalyzerRule;

use super::decorrelate::{has_subquery, on_subquery, with_references};
use super::pg_types::input_schema;

/// See the module.
#[derive(Debug, Default)]
pub struct OuterTypes;

impl AnalyzerRule for OuterTypes {
    fn name(&self) -> &str {
        "outer_types"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        // From the outside in: what a subquery's own row is like depends on what it refers to.
        let retyped = plan.transform_down_with_subqueries(|node| {
            if !node.expressions().iter().any(has_subquery) {
                return Ok(Transformed::no(node));
            }
            let schema = input_schema(&node)?;
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let retyped =
                    expr.transform_up(|part| on_subquery(part, |s| retyped(s, &schema)))?;
                Ok(retyped.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(retyped.data)
    }
}

fn retyped(subquery: Subquery, row: &DFSchema) -> Result<Subquery> {
    let plan = subquery.subquery.as_ref().clone();
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let retyped = expr.transform_up(|part| Ok(reference(part, row)))?;
            Ok(retyped.update_data(|expr| name.restore(expr)))
        })?;
        match node.transformed {
            true => node.map_data(LogicalPlan::recompute_schema),
            false => Ok(node),
        }
    })?;
    match plan.transformed {
        true => with_references(subquery.with_plan(Arc::new(plan.data))),
        false => Ok(subquery),
    }
}

fn reference(part: Expr, row: &DFSchema) -> Transformed<Expr> {
    if let Expr::OuterReferenceColumn(field, column) = &part
        && let Ok((_, now)) = row.qualified_field_from_column(column)
        && now.data_type() != field.data_type()
    {
        let retyped = Expr::OuterReferenceColumn(Arc::clone(now), column.clone());
        return Transformed::yes(retyped);
    }
    Transformed::no(part)
}
