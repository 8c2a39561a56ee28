//! Optimizer rule of queries: -0 and 0 are one value where rows are sorted, divided into partitions or held equal by an
//! aggregate. DataFusion knows that of comparisons, joins and `GROUP BY`, but not of
//!
//! - `ORDER BY` with more keys behind a float, and the order within an aggregate,
//! - the partitions and the order of window functions, and so of `DISTINCT ON`, `EXCEPT ALL` and `INTERSECT ALL`,
//! - the arguments of `DISTINCT` aggregates.
//!
//! The operators of views compare keys in a form that has one zero; only the frames of their window functions are found by
//! DataFusion ([`with_equal_zeros`]).

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{ScalarFunction, Sort as SortKey};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::pg_types::input_schema;
use crate::functions::{self, PositiveZero};

/// See the module.
#[derive(Debug)]
pub struct FloatKeys;

impl OptimizerRule for FloatKeys {
    fn name(&self) -> &str {
        "float_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(mut sort) => {
                let schema = sort.input.schema().as_ref().clone();
                let changed = with_equal_zeros(but_last(&mut sort.expr), &schema)?;
                Ok(Transformed::new_transformed(
                    LogicalPlan::Sort(sort),
                    changed,
                ))
            }
            LogicalPlan::Window(_) | LogicalPlan::Aggregate(_) => of_calls(plan),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The calls of window functions and aggregates.
fn of_calls(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = input_schema(&plan)?;
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let call = expr.transform_up(|part| call(part, &schema))?;
        Ok(call.update_data(|expr| name.restore(expr)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

fn call(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match part {
        Expr::WindowFunction(mut window) => {
            let params = &mut window.params;
            let mut changed = with_equal_zeros(&mut params.order_by, schema)?;
            for key in &mut params.partition_by {
                changed |= with_positive_zero(key, schema)?;
            }
            Ok(Transformed::new_transformed(
                Expr::WindowFunction(window),
                changed,
            ))
        }
        Expr::AggregateFunction(mut aggregate) => {
            let params = &mut aggregate.params;
            let mut changed = false;
            let keys = if params.distinct {
                for arg in &mut params.args {
                    changed |= with_positive_zero(arg, schema)?;
                }
                // what it is ordered by has to be what is distinct
                &mut params.order_by[..]
            } else {
                but_last(&mut params.order_by)
            };
            changed |= with_equal_zeros(keys, schema)?;
            Ok(Transformed::new_transformed(
                Expr::AggregateFunction(aggregate),
                changed,
            ))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The keys that have another one behind them: what is equal by the last key is in any order.
fn but_last(keys: &mut [SortKey]) -> &mut [SortKey] {
    match keys {
        [keys @ .., _] => keys,
        [] => keys,
    }
}

/// Makes the zeros of floats among the keys equal. Says whether there were any.
pub fn with_equal_zeros(keys: &mut [SortKey], schema: &DFSchema) -> Result<bool> {
    let mut changed = false;
    for key in keys {
        changed |= with_positive_zero(&mut key.expr, schema)?;
    }
    Ok(changed)
}

fn with_positive_zero(key: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let is_done = |key: &Expr| matches!(key, Expr::ScalarFunction(function) if function.name() == PositiveZero::NAME);
    if is_done(key) || !key.get_type(schema)?.is_floating() {
        return Ok(false);
    }
    let function = functions::named(PositiveZero::NAME)?;
    *key = Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![std::mem::take(key)]));
    Ok(true)
}
