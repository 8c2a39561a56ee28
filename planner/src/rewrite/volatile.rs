//! Refuses functions in a view whose value changes without the view's inputs changing. Must run before constant
//! folding, which would freeze `now()` at the moment the view is created.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use crate::error::{PlanError, Result};
use crate::rewrite::temporal::NOW_HINT;

/// Functions of the current time.
const CLOCKS: &[&str] = &[
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "to_local_time",
];

/// Whether the function of this name gives the current time.
pub fn is_clock(name: &str) -> bool {
    CLOCKS.contains(&name)
}

/// An error if `plan` calls a function that is neither one of its arguments alone nor a clock.
pub fn refuse_volatile(plan: &LogicalPlan) -> Result<()> {
    refuse(plan, &|name| !is_clock(name))
}

/// An error if `plan`, whose comparisons of the current time are captured, calls a clock elsewhere.
pub fn refuse_clocks(plan: &LogicalPlan) -> Result<()> {
    refuse(plan, &is_clock)
}

fn refuse(plan: &LogicalPlan, is_refused: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(function) = part
                    && function.func.signature().volatility != Volatility::Immutable
                    && is_refused(function.name())
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
        Some(name) if is_clock(&name) => Err(PlanError::Unsupported {
            feature: format!("{name}() in a materialized view outside of a condition"),
            hint: NOW_HINT.to_string(),
        }),
        Some(name) => Err(PlanError::Unsupported {
            feature: format!("{name}() in a materialized view"),
            hint: "it gives another value each time it is evaluated; compute the value where rows are produced \
                   and store it in a column"
                .to_string(),
        }),
    }
}
