//! Refuses functions in a view whose value changes without the view's inputs changing. Must run before constant
//! folding, which would freeze `now()` at the moment the view is created.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use crate::error::{PlanError, Result};

/// Functions of the current time.
const CLOCKS: &[&str] = &[
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "to_local_time",
];

/// An error if `plan` calls a function that is not a function of its arguments alone.
pub fn refuse_volatile(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(function) = part
                    && function.func.signature().volatility != Volatility::Immutable
                {
                    found = Some(function.name().to_string());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(|error| PlanError::Internal(error.strip_backtrace()))?;
    match found {
        None => Ok(()),
        Some(name) if CLOCKS.contains(&name.as_str()) => Err(PlanError::Unsupported {
            feature: format!("{name}() in a materialized view"),
            hint: "its value changes without any input; compare with the time in the query that reads the view, \
                   or use a column of the rows"
                .to_string(),
        }),
        Some(name) => Err(PlanError::Unsupported {
            feature: format!("{name}() in a materialized view"),
            hint: "it gives another value each time it is evaluated; compute the value where rows are produced \
                   and store it in a column"
                .to_string(),
        }),
    }
}
