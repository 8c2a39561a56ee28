//! Scalar subqueries that may give several rows: the error that PostgreSQL raises for them must survive their becoming
//! joins.
//!
//! `(SELECT x …)` becomes `rm_single((SELECT {value: first_value(x), rows: count(*)} FROM (SELECT x …)))`, and
//! `rm_single` fails for the rows that meet more than one.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_datafusion_err};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::functions_aggregate::count::count_all;
use datafusion::functions_aggregate::first_last::first_value;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Subquery, col, lit,
};

use crate::functions::Single;

/// Which subqueries to rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalars {
    /// DataFusion runs the others as they are, and checks them.
    Correlated,
    All,
}

/// Rewrites all of `plan`, which is not yet analysed.
pub fn checked_scalars(plan: LogicalPlan, which: Scalars) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let checked = expr.transform_down(|part| match part {
                Expr::ScalarSubquery(subquery) if must_check(&subquery, which) => {
                    let checked = checked(&subquery)?;
                    Ok(Transformed::new(checked, true, TreeNodeRecursion::Jump))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(checked.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(rewritten.data)
}

fn must_check(subquery: &Subquery, which: Scalars) -> bool {
    let is_wanted = which == Scalars::All || !subquery.outer_ref_columns.is_empty();
    is_wanted && !is_single_row(&subquery.subquery)
}

/// Whether `plan` gives one row at most, whatever its input.
fn is_single_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(values) => values.values.len() <= 1,
        LogicalPlan::Projection(projection) => is_single_row(&projection.input),
        LogicalPlan::Filter(filter) => is_single_row(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => is_single_row(&alias.input),
        LogicalPlan::Sort(sort) => is_single_row(&sort.input),
        _ => false,
    }
}

fn checked(subquery: &Subquery) -> Result<Expr> {
    let plan = subquery.subquery.as_ref().clone();
    let column = plan.schema().columns().into_iter().next();
    let column = column.ok_or_else(|| plan_datafusion_err!("subquery has no column"))?;
    let value = first_value(Expr::Column(column), vec![]).alias("rm:value");
    let counted = LogicalPlanBuilder::from(plan).aggregate(
        Vec::<Expr>::new(),
        vec![value, count_all().alias("rm:rows")],
    )?;
    let both = named_struct(vec![
        lit("value"),
        col("\"rm:value\""),
        lit("rows"),
        col("\"rm:rows\""),
    ]);
    let plan = counted.project(vec![both.alias("rm:single")])?.build()?;
    let subquery = Expr::ScalarSubquery(subquery.with_plan(Arc::new(plan)));
    let single = Arc::new(ScalarUDF::from(Single::default()));
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
        single,
        vec![subquery],
    )))
}

/// Whether `plan` is an aggregate without GROUP BY: there is exactly one row.
pub fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => is_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
        _ => false,
    }
}
