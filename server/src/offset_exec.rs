//! LIMIT with OFFSET in a query's physical plan, as a node that DataFusion's rules leave alone.
//!
//! A sort that a node above an offset needs is moved below it by `EnsureRequirements`, with the limit's number of rows and
//! without those to skip: rows are lost. What it does not know it does not move things through.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, OrderingRequirements};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
};

/// Physical optimizer rule: hides offsets. Runs before the others.
#[derive(Debug)]
pub struct HideOffsets;

impl PhysicalOptimizerRule for HideOffsets {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let hidden = plan.transform_up(|node| {
            let limit = node.downcast_ref::<GlobalLimitExec>();
            Ok(match limit.filter(|limit| limit.skip() > 0) {
                Some(limit) => Transformed::yes(Arc::new(OffsetExec::new(limit)) as _),
                None => Transformed::no(node),
            })
        })?;
        Ok(hidden.data)
    }

    fn name(&self) -> &str {
        "hide_offsets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `GlobalLimitExec` by another name.
#[derive(Debug)]
struct OffsetExec {
    limit: GlobalLimitExec,
}

impl OffsetExec {
    fn new(limit: &GlobalLimitExec) -> OffsetExec {
        let input = Arc::clone(limit.input());
        OffsetExec {
            limit: GlobalLimitExec::new(input, limit.skip(), limit.fetch()),
        }
    }
}

impl DisplayAs for OffsetExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.limit.fmt_as(kind, f)
    }
}

impl ExecutionPlan for OffsetExec {
    fn name(&self) -> &str {
        "OffsetExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.limit.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.limit.input()]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    /// Which rows are skipped is a matter of the order in which they come: it must stay as it is.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let ordering = self.limit.input().output_ordering().cloned();
        vec![ordering.map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.swap_remove(0);
        let limit = GlobalLimitExec::new(input, self.limit.skip(), self.limit.fetch());
        Ok(Arc::new(OffsetExec { limit }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.limit.execute(partition, context)
    }
}
