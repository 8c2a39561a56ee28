//! Analyzer rule: expressions in GROUPING SETS, ROLLUP and CUBE become columns of a projection below. Runs first, while
//! casts have names.
//!
//! Later rules give such an expression other types and functions, and so another name, under which the nodes above do not
//! find it. (For plain GROUP BY the rules keep names.)

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;

use crate::properties::unaliased;

/// See the module.
#[derive(Debug, Default)]
pub struct GroupingColumns;

impl AnalyzerRule for GroupingColumns {
    fn name(&self) -> &str {
        "grouping_columns"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => with_columns(aggregate),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(rewritten.data)
    }
}

fn with_columns(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let computed: Vec<Expr> = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(sets)] => sets
            .distinct_expr()
            .into_iter()
            .filter(|expr| !matches!(expr, Expr::Column(_)))
            .cloned()
            .collect(),
        _ => Vec::new(),
    };
    if computed.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let column = |expr: &Expr| Column::new_unqualified(expr.schema_name().to_string());
    let below = aggregate.input.schema().columns();
    let below = below.into_iter().map(Expr::Column);
    let named = computed
        .iter()
        .map(|expr| expr.clone().alias(expr.schema_name().to_string()));
    let input = Projection::try_new(below.chain(named).collect(), Arc::clone(&aggregate.input))?;
    let replaced = |expr: Expr| {
        // From the top, so that `a + b` is found before an `a` in it.
        expr.transform_down(|part| {
            Ok(if computed.contains(&part) {
                Transformed::yes(Expr::Column(column(&part)))
            } else {
                Transformed::no(part)
            })
        })
        .map(|replaced| replaced.data)
    };
    let group_expr = aggregate
        .group_expr
        .into_iter()
        .map(replaced)
        .collect::<Result<Vec<_>>>()?;
    let is_grouping = |expr: &Expr| matches!(unaliased(expr), Expr::AggregateFunction(call) if call.func.name() == "grouping");
    let aggr_expr = aggregate
        .aggr_expr
        .into_iter()
        .map(|expr| {
            if is_grouping(&expr) {
                replaced(expr)
            } else {
                Ok(expr)
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let input = Arc::new(LogicalPlan::Projection(input));
    let aggregate = Aggregate::try_new(input, group_expr, aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}
