//! Nodes and rules that keep DataFusion's physical optimizer from what it gets wrong.
//!
//! - A sort that a node above an OFFSET needs is moved below it by `EnsureRequirements`, as if it did not matter which rows
//!   are skipped. What ends in an OFFSET is planned apart, as a query of its own, and hidden from the rules that plan the rest.
//! - Columns that are constant or equal to others, and orders that only hold within each branch of a UNION, make it sort the
//!   input of a window function by less than the function relies on when it runs. A [`Fence`] below it knows no such thing.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr,
    PlanProperties, replace_children_if_necessary,
};

/// Puts our rules around DataFusion's.
pub fn surround(rules: &mut Rules) {
    let apart = rules.clone();
    rules.insert(0, Arc::new(PlanOffsetsApart { rules: apart }));
    rules.insert(0, Arc::new(FenceWindows));
    rules.push(Arc::new(ShowOffsets));
}

type Plan = Arc<dyn ExecutionPlan>;
type Rules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// Physical optimizer rule: plans what ends in an OFFSET with rules of its own and hides it. Runs before the others.
#[derive(Debug)]
struct PlanOffsetsApart {
    rules: Rules,
}

impl PhysicalOptimizerRule for PlanOffsetsApart {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let hidden = plan.transform_up(|node| {
            let limit = node.downcast_ref::<GlobalLimitExec>();
            if limit.is_none_or(|limit| limit.skip() == 0) {
                return Ok(Transformed::no(node));
            }
            let mut rules = self.rules.iter();
            let plan = rules.try_fold(node, |plan, rule| rule.optimize(plan, config))?;
            Ok(Transformed::yes(Arc::new(Hidden { plan }) as Plan))
        })?;
        Ok(hidden.data)
    }

    fn name(&self) -> &str {
        "plan_offsets_apart"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Physical optimizer rule: puts back what was hidden. Runs after the others.
#[derive(Debug)]
struct ShowOffsets;

impl PhysicalOptimizerRule for ShowOffsets {
    fn optimize(&self, plan: Plan, _config: &ConfigOptions) -> Result<Plan> {
        let shown = plan.transform_down(|node| {
            Ok(match node.downcast_ref::<Hidden>() {
                Some(hidden) => Transformed::yes(Arc::clone(&hidden.plan)),
                None => Transformed::no(node),
            })
        })?;
        Ok(shown.data)
    }

    fn name(&self) -> &str {
        "show_offsets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A plan that is finished, as a leaf of the one around it.
#[derive(Debug)]
struct Hidden {
    plan: Plan,
}

impl DisplayAs for Hidden {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.plan.fmt_as(kind, f)
    }
}

impl ExecutionPlan for Hidden {
    fn name(&self) -> &str {
        "Hidden"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Plan> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Plan>) -> Result<Plan> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.plan.execute(partition, context)
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
