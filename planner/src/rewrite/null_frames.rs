//! Physical optimizer rule: window functions whose frame ends at a distance in the order (`RANGE … n PRECEDING`) see
//! their whole partition at once.
//!
//! DataFusion runs them while rows come in, and takes the frame of a row whose key is NULL for complete before the
//! other rows with a NULL have come.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};

/// See the module.
#[derive(Debug, Default)]
pub struct WholePartitions;

impl PhysicalOptimizerRule for WholePartitions {
    fn name(&self) -> &str {
        "whole_partitions"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() else {
                return Ok(Transformed::no(node));
            };
            let functions = window.window_expr();
            let is_distant = functions
                .iter()
                .any(|function| ends_at_distance(function.get_window_frame()));
            if !is_distant || window.input_order_mode != InputOrderMode::Sorted {
                return Ok(Transformed::no(node));
            }
            let can_repartition = !window.partition_keys().is_empty();
            let input = Arc::clone(window.input());
            let whole = WindowAggExec::try_new(functions.to_vec(), input, can_repartition)?;
            Ok(Transformed::yes(Arc::new(whole) as Arc<dyn ExecutionPlan>))
        })
        .data()
    }
}

fn ends_at_distance(frame: &WindowFrame) -> bool {
    let is_distance = match &frame.end_bound {
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => !by.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    frame.units == WindowFrameUnits::Range && is_distance
}
