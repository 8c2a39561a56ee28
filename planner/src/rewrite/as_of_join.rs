//! Captures joins `FOR SYSTEM_TIME AS OF PROCTIME()` in a view's plan before DataFusion's rules, for which they are joins like
//! any other, exchange or regroup their sides.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, JoinType, Result as DfResult, internal_err};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::bind_error::{SourceText, plan_error};
use crate::error::{PlanError, Result};
use crate::functions::Mark;

/// An inner or left join of each row of the left with the right as it is when the row comes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AsOfJoinNode {
    pub join: Join,
}

/// `plan`, which is analysed, with its joins of that kind as nodes of their own.
pub fn capture_as_of_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let captured = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) => captured(join),
        other => Ok(Transformed::no(other)),
    });
    let fail = |error| plan_error(error, SourceText::default());
    let captured = captured.map_err(fail)?.data;
    let mut remains = false;
    let visited = captured.apply_with_subqueries(|node| {
        remains |= is_mark(node);
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(fail)?;
    match remains {
        false => Ok(captured),
        true => Err(PlanError::unsupported(
            "FOR SYSTEM_TIME AS OF PROCTIME() in this place",
            "write the join into a materialized view of its own",
        )),
    }
}

fn is_mark(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Filter(filter) if Mark::is(Mark::AS_OF_NOW, &filter.predicate))
}

fn captured(mut join: Join) -> DfResult<Transformed<LogicalPlan>> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    match without_mark(&join.right)? {
        None => Ok(Transformed::no(LogicalPlan::Join(join))),
        Some(right) => {
            join.right = Arc::new(right);
            let node = Arc::new(AsOfJoinNode { join });
            Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
        }
    }
}

/// The right side of a join without its mark, if it has one.
fn without_mark(plan: &LogicalPlan) -> DfResult<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Filter(filter) if is_mark(plan) => Ok(Some(filter.input.as_ref().clone())),
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => {
            let Some(input) = plan.inputs().first().map(|input| without_mark(input)) else {
                return Ok(None);
            };
            let with = |input| plan.with_new_exprs(plan.expressions(), vec![input]);
            input?.map(with).transpose()
        }
        _ => Ok(None),
    }
}

impl UserDefinedLogicalNodeCore for AsOfJoinNode {
    fn name(&self) -> &str {
        "AsOfJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.join.left, &self.join.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.join.schema
    }

    /// Both sides of each equality, then the other condition.
    fn expressions(&self) -> Vec<Expr> {
        let keys = self
            .join
            .on
            .iter()
            .flat_map(|(l, r)| [l.clone(), r.clone()]);
        keys.chain(self.join.filter.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsOfJoin: {}", self.join.join_type)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return internal_err!("an as-of join of other than two inputs");
        };
        let mut join = self.join.clone();
        let mut exprs = exprs.into_iter();
        for (of_left, of_right) in &mut join.on {
            if let (Some(left), Some(right)) = (exprs.next(), exprs.next()) {
                (*of_left, *of_right) = (left, right);
            }
        }
        join.filter = exprs.next();
        let schema = build_join_schema(left.schema(), right.schema(), &join.join_type)?;
        (join.left, join.right, join.schema) = (Arc::new(left), Arc::new(right), Arc::new(schema));
        Ok(AsOfJoinNode { join })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let sides = [&self.join.left, &self.join.right];
        Some(used_columns(output_columns, &self.expressions(), sides))
    }
}

/// The columns of both sides that a join needs for those of its output, and for what it computes.
pub(super) fn used_columns(
    output_columns: &[usize],
    exprs: &[Expr],
    sides: [&Arc<LogicalPlan>; 2],
) -> Vec<Vec<usize>> {
    let width = sides[0].schema().fields().len();
    let mut needed = [Vec::new(), Vec::new()];
    for column in output_columns {
        match column.checked_sub(width) {
            None => needed[0].push(*column),
            Some(column) => needed[1].push(column),
        }
    }
    for (needed, side) in needed.iter_mut().zip(sides) {
        let columns = exprs.iter().flat_map(Expr::column_refs);
        needed.extend(columns.filter_map(|column| side.schema().maybe_index_of_column(column)));
        needed.sort_unstable();
        needed.dedup();
    }
    needed.into()
}

impl PartialOrd for AsOfJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
