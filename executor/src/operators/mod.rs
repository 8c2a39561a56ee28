//! The incremental operators, one per file, and the one place that makes them from plan nodes.

mod aggregate;
mod chunks;
mod conform;
mod filter;
mod join;
mod project;
mod union_all;
mod unnest;
mod values;

#[cfg(test)]
mod tests;

use rivermark_planner::plan::{PlanNode, PlanOp};

use crate::error::{ExecutorError, Result};
use crate::operator::Operator;
use crate::state::StateTable;

pub use aggregate::Aggregate;
pub use join::Join;

/// The operator of `node`, without its inputs. `operator_id` tells the operators of a view apart in the keys of
/// failures; it must be the same after a restart. `tables` are as many as [`PlanOp::state_tables`] says.
///
/// # Errors
/// If a type can not be stored, or for a node that is no operator: a scan is the dataflow's own affair.
pub fn build_operator(
    operator_id: u32,
    node: &PlanNode,
    tables: Vec<StateTable>,
) -> Result<Box<dyn Operator>> {
    if tables.len() != node.op.state_tables() as usize {
        let message = format!("{} was given {} state tables", node.op.name(), tables.len());
        return Err(ExecutorError::Internal(message));
    }
    let schema = node.schema.clone();
    Ok(match &node.op {
        PlanOp::Scan { name, .. } => {
            return Err(ExecutorError::Internal(format!(
                "the scan of {name} is no operator"
            )));
        }
        PlanOp::Values { rows } => Box::new(values::Values::new(rows, &schema)?),
        PlanOp::Filter { predicate } => {
            Box::new(filter::Filter::new(operator_id, predicate, schema))
        }
        PlanOp::Project { exprs } => Box::new(project::Project::new(operator_id, exprs, schema)),
        PlanOp::Unnest { columns } => Box::new(unnest::Unnest::new(columns, schema)),
        PlanOp::UnionAll => Box::new(union_all::UnionAll::new(schema)),
        PlanOp::Aggregate { group_by, calls } => Box::new(Aggregate::new(
            operator_id,
            group_by,
            calls,
            schema,
            tables,
        )?),
        PlanOp::Join {
            kind,
            keys,
            residual,
        } => Box::new(Join::new(
            operator_id,
            *kind,
            keys,
            residual.as_ref(),
            &node.inputs,
            schema,
            tables,
        )?),
    })
}
