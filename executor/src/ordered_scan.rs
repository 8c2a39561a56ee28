//! Plan rule: `ORDER BY key LIMIT n` reads the first rows in the order of the storage key or of an index and stops,
//! instead of reading all and keeping the first.
//!
//! It applies where a sort with a limit stands over a scan, with nothing but filters and projections between. A scan
//! of all rows changes to an index only if no filter could make it go on for long; a range that conditions have
//! already chosen is read in order at no further cost, behind the columns that they pin to one value.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::{PhysicalSortExpr, expressions::Column};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use crate::row_scan::RowScanExec;

/// A longer limit is better served by a sort.
const MAX_FETCH: usize = 10_000;

/// A column of a relation in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub column: usize,
    pub options: SortOptions,
}

/// See the module.
#[derive(Debug, Default)]
pub struct OrderedScans;

impl PhysicalOptimizerRule for OrderedScans {
    fn name(&self) -> &str {
        "ordered_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_down(|node| {
            let ordered = match node.downcast_ref::<SortExec>() {
                Some(sort) => in_order(sort)?,
                None => None,
            };
            Ok(match ordered {
                Some(ordered) => Transformed::yes(ordered),
                None => Transformed::no(node),
            })
        })?;
        Ok(plan.data)
    }
}

/// What gives the same rows as the sort; `None` if no key or index has its order.
fn in_order(sort: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(fetch) = sort.fetch().filter(|fetch| *fetch <= MAX_FETCH) else {
        return Ok(None);
    };
    let order: Vec<PhysicalSortExpr> = sort.expr().iter().cloned().collect();
    let Some(input) = ordered(sort.input(), &order, false)? else {
        return Ok(None);
    };
    Ok(Some(Arc::new(GlobalLimitExec::new(input, 0, Some(fetch)))))
}

/// The node with its rows in this order, in one partition.
fn ordered(
    node: &Arc<dyn ExecutionPlan>,
    order: &[PhysicalSortExpr],
    is_filtered: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = node.downcast_ref::<RowScanExec>() {
        let Some(wanted) = wanted(scan, order) else {
            return Ok(None);
        };
        let scan = scan.in_order(order, &wanted, is_filtered)?;
        return Ok(scan.map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>));
    }
    let children = node.children();
    let [child] = children.as_slice() else {
        return Ok(None);
    };
    if node.is::<RepartitionExec>() {
        // It only spreads the rows over threads: one reads them now.
        return ordered(child, order, is_filtered);
    }
    let (below, is_filtered) = if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let Some(below) = below_projection(projection, order) else {
            return Ok(None);
        };
        (below, is_filtered)
    } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
        match filter.projection() {
            // It gives columns other places.
            Some(projection) => {
                let Some(below) = moved(order, |at| projection.get(at).copied()) else {
                    return Ok(None);
                };
                (below, true)
            }
            None => (order.to_vec(), true),
        }
    } else if node.is::<CooperativeExec>() {
        (order.to_vec(), is_filtered)
    } else {
        return Ok(None);
    };
    match ordered(child, &below, is_filtered)? {
        Some(child) => Ok(Some(node.clone().replace_children(
            vec![child],
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )?)),
        None => Ok(None),
    }
}

/// The order of columns that a projection only hands on, in its input.
fn below_projection(
    projection: &ProjectionExec,
    order: &[PhysicalSortExpr],
) -> Option<Vec<PhysicalSortExpr>> {
    moved(order, |at| {
        let below = projection.expr().get(at)?;
        Some(below.expr.downcast_ref::<Column>()?.index())
    })
}

/// The order with every column at another place.
fn moved(
    order: &[PhysicalSortExpr],
    place: impl Fn(usize) -> Option<usize>,
) -> Option<Vec<PhysicalSortExpr>> {
    let moved = order.iter().map(|sort| {
        let column = sort.expr.downcast_ref::<Column>()?;
        Some(PhysicalSortExpr {
            expr: Arc::new(Column::new(column.name(), place(column.index())?)),
            options: sort.options,
        })
    });
    moved.collect()
}

/// The order in columns of the relation; `None` if it is of anything else, or of floats: −0.0 and 0.0 have one key.
fn wanted(scan: &RowScanExec, order: &[PhysicalSortExpr]) -> Option<Vec<Wanted>> {
    let wanted = order.iter().map(|sort| {
        let at = sort.expr.downcast_ref::<Column>()?.index();
        let column = scan.relation_column(at)?;
        let is_exact = !matches!(
            scan.schema().field(at).data_type(),
            DataType::Float32 | DataType::Float64 | DataType::Interval(_)
        );
        is_exact.then_some(Wanted {
            column,
            options: sort.options,
        })
    });
    wanted.collect()
}
