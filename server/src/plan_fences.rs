//! Nodes and rules that keep DataFusion's physical optimizer from what it gets wrong.
//!
//! - A sort that a node above an OFFSET needs is moved below it by `EnsureRequirements`, with the limit's number of rows and
//!   without those to skip: rows are lost. [`OffsetExec`] is a limit by another name: what the rules do not know they do
//!   not move things through.
//! - Columns that are constant or equal to others, and orders that only hold within each branch of a UNION, make it sort the
//!   input of a window function by less than the function relies on when it runs. A [`Fence`] below it knows no such thing.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, OrderingRequirements};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr,
    PlanProperties, replace_children_if_necessary,
};

/// Puts our rules before DataFusion's.
pub fn precede(rules: &mut Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>) {
    rules.insert(0, Arc::new(HideOffsets));
    rules.insert(0, Arc::new(FenceWindows));
}

type Plan = Arc<dyn ExecutionPlan>;

/// Physical optimizer rule: hides offsets. Runs before the others.
#[derive(Debug)]
struct HideOffsets;

impl PhysicalOptimizerRule for HideOffsets {
    fn optimize(&self, plan: Plan, _config: &ConfigOptions) -> Result<Plan> {
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

/// Physical optimizer rule: fences below window functions whose input has more order than is said of it. Runs before the
/// others.
#[derive(Debug)]
struct FenceWindows;

impl PhysicalOptimizerRule for FenceWindows {
    fn optimize(&self, plan: Plan, _config: &ConfigOptions) -> Result<Plan> {
        let fenced = plan.transform_up(|node| {
            let is_window = node.is::<BoundedWindowAggExec>() || node.is::<WindowAggExec>();
            let children: Vec<Plan> = node.children().into_iter().cloned().collect();
            Ok(match &children[..] {
                [input] if is_window && is_treacherous(input)? => {
                    let fence = Arc::new(Fence::new(Arc::clone(input)));
                    Transformed::yes(replace_children_if_necessary(node, vec![fence])?)
                }
                _ => Transformed::no(node),
            })
        })?;
        Ok(fenced.data)
    }

    fn name(&self) -> &str {
        "fence_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_treacherous(input: &Plan) -> Result<bool> {
    let has_equal_columns = !input.equivalence_properties().eq_group().is_empty();
    Ok(has_equal_columns || input.exists(|node| Ok(node.is::<UnionExec>()))?)
}

/// Passes its input on and says nothing of its order.
#[derive(Debug)]
struct Fence {
    input: Plan,
    properties: Arc<PlanProperties>,
}

impl Fence {
    fn new(input: Plan) -> Fence {
        let known = input.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            known.partitioning.clone(),
            known.emission_type,
            known.boundedness,
        );
        Fence {
            input,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for Fence {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Fence")
    }
}

impl ExecutionPlan for Fence {
    fn name(&self) -> &str {
        "Fence"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
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

    fn with_new_children(self: Arc<Self>, mut children: Vec<Plan>) -> Result<Plan> {
        Ok(Arc::new(Fence::new(children.swap_remove(0))))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
