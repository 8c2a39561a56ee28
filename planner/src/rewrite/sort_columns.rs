//! Columns that only an ORDER BY uses, in an order of their own.
//!
//! DataFusion adds the columns of `ORDER BY` that are not selected to the projection below the sort, in the order of a
//! hash table: another one each time. Rows with these columns are kept by limits, so the next start of the server would
//! find a plan with another layout of the state. Here they get the order of their names.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort};

/// The plan with such columns in a fixed order.
pub fn order_sort_columns(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let ordered = plan.transform_down_with_subqueries(|plan| {
        let LogicalPlan::Projection(outer) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let LogicalPlan::Sort(sort) = &*outer.input else {
            return Ok(Transformed::no(plan));
        };
        let selected = outer.expr.len();
        let input = with_ordered_tail(&sort.input, selected)?;
        let sort = LogicalPlan::Sort(Sort {
            input: Arc::new(input),
            ..sort.clone()
        });
        let projection = Projection::try_new(outer.expr.clone(), Arc::new(sort))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    })?;
    Ok(ordered.data)
}

/// The next projection from `plan` down, with its columns behind the first `selected` ordered by name.
fn with_ordered_tail(plan: &LogicalPlan, selected: usize) -> DfResult<LogicalPlan> {
    if let LogicalPlan::Projection(projection) = plan {
        let mut exprs = projection.expr.clone();
        let tail = exprs.get_mut(selected..).unwrap_or_default();
        if tail.iter().all(|expr| matches!(expr, Expr::Column(_))) {
            tail.sort_by_key(|expr| expr.schema_name().to_string());
        }
        let projection = Projection::try_new(exprs, Arc::clone(&projection.input))?;
        return Ok(LogicalPlan::Projection(projection));
    }
    match plan.inputs().as_slice() {
        [input] => {
            let input = with_ordered_tail(input, selected)?;
            plan.with_new_exprs(plan.expressions(), vec![input])
        }
        _ => Ok(plan.clone()),
    }
}
