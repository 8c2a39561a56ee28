//! Captures joins with the nearest row in a view's plan before DataFusion's rules, for which they are joins like any other,
//! take their conditions apart. Where they come from: `decorrelate/nearest.rs`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, Result as DfResult, internal_err};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Extension, Filter, Join, LogicalPlan, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::as_of_join::used_columns;
use super::guard::is_fallible;
use super::temporal::has_now_test;
use crate::bind_error::{SourceText, plan_error};
use crate::error::Result;
use crate::functions::Mark;

/// An inner or left join of each row of the left with the nearest one of the right that fulfils the conditions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NearestJoinNode {
    /// Without its condition.
    pub join: Join,
    /// The first compares the times; the others are equalities of both sides, and what a pair must fulfil too, which nearer
    /// rows do before those that are farther.
    pub conditions: Vec<Expr>,
}

/// `plan`, which is analysed, with its joins of that kind as nodes of their own.
pub fn capture_nearest_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let captured = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) => captured(join),
        other => Ok(Transformed::no(other)),
    });
    let captured = captured.map_err(|error| plan_error(error, SourceText::default()))?;
    Ok(captured.data)
}

fn captured(mut join: Join) -> DfResult<Transformed<LogicalPlan>> {
    let Some(filter) = join.filter.take() else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let mut conditions = split_conjunction_owned(filter.clone());
    let Some(mark) = conditions.iter().position(|c| Mark::is(Mark::NEAREST, c)) else {
        join.filter = Some(filter);
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    conditions.remove(mark);
    let equal = join.on.drain(..);
    conditions.extend(equal.map(|(left, right)| left.eq(right)));
    let node = Arc::new(NearestJoinNode { join, conditions });
    Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
}

/// Optimizer rule: conditions on the left side alone go below the join, which so keeps fewer rows.
#[derive(Debug, Default)]
pub struct FilterNearest;

impl OptimizerRule for FilterNearest {
    fn name(&self) -> &str {
        "filter_nearest"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        let Some((filter, node)) = filtered(&plan) else {
            return Ok(Transformed::no(plan));
        };
        let left = &node.join.left;
        // What can fail must not meet rows that another condition takes away first; what ends by itself would end the
        // bound that a watermark is.
        let goes_below = |condition: &Expr| {
            let columns = condition.column_refs();
            let is_of_left = columns.iter().all(|c| left.schema().has_column(c));
            is_of_left && !is_fallible(condition, left.schema()) && !has_now_test(condition)
        };
        let conditions = split_conjunction_owned(filter.predicate.clone());
        let (below, above): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(goes_below);
        let Some(below) = conjunction(below) else {
            return Ok(Transformed::no(plan));
        };
        let mut node = node.clone();
        let fewer = LogicalPlan::Filter(Filter::try_new(below, Arc::clone(left))?);
        node.join.left = Arc::new(fewer);
        let node = LogicalPlan::Extension(Extension {
            node: Arc::new(node),
        });
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(node))?),
            None => node,
        }))
    }
}

/// A filter right above a join with the nearest row.
fn filtered(plan: &LogicalPlan) -> Option<(&Filter, &NearestJoinNode)> {
    let LogicalPlan::Filter(filter) = plan else {
        return None;
    };
    let LogicalPlan::Extension(extension) = filter.input.as_ref() else {
        return None;
    };
    Some((filter, extension.node.as_any().downcast_ref()?))
}

impl UserDefinedLogicalNodeCore for NearestJoinNode {
    fn name(&self) -> &str {
        "NearestJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.join.left, &self.join.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.join.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.conditions.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NearestJoin: {}", self.join.join_type)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return internal_err!("a nearest join of other than two inputs");
        };
        let mut join = self.join.clone();
        let schema = build_join_schema(left.schema(), right.schema(), &join.join_type)?;
        (join.left, join.right, join.schema) = (Arc::new(left), Arc::new(right), Arc::new(schema));
        Ok(NearestJoinNode {
            join,
            conditions: exprs,
        })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let sides = [&self.join.left, &self.join.right];
        Some(used_columns(output_columns, &self.conditions, sides))
    }
}

impl PartialOrd for NearestJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
