//! Optimizer rule: DataFusion's `single_distinct_aggregation_to_group_by`, but for sums of numerics beside the distinct
//! aggregate. The rule sums these twice, which gives them another type than what refers to them expects.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::properties::unaliased;

/// See the module.
#[derive(Debug)]
pub struct SingleDistinct {
    pub rule: Arc<dyn OptimizerRule + Send + Sync>,
}

impl OptimizerRule for SingleDistinct {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) => {
                let schema = aggregate.input.schema();
                let mut calls = aggregate.aggr_expr.iter().map(unaliased);
                let sums_numerics = calls.any(|call| match call {
                    Expr::AggregateFunction(function) => {
                        function.func.name() == "sum"
                            && call.get_type(schema).is_ok_and(|t| t.is_decimal())
                    }
                    _ => false,
                });
                match sums_numerics {
                    true => Ok(Transformed::no(plan)),
                    false => self.rule.rewrite(plan, config),
                }
            }
            _ => self.rule.rewrite(plan, config),
        }
    }
}
