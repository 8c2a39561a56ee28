//! The incremental operators, one per file, and the one place that makes them from plan nodes.

mod aggregate;
mod chunks;
mod conform;
mod due;
mod filter;
mod grouping_sets;
mod join;
mod nearest;
mod net;
mod ordered_rows;
mod over;
mod panes;
mod passed;
mod project;
mod session;
mod session_close;
mod session_open;
mod set_operation;
mod temporal_filter;
mod top_n;
mod union_all;
mod unnest;
mod values;
mod window_close;
mod windows;

#[cfg(test)]
mod property_bench;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod set_operation_tests;
#[cfg(test)]
mod temporal_filter_tests;
#[cfg(test)]
mod tests;

use arrow::compute::SortOptions;
use rivermark_planner::plan::{BoundExpr, PlanNode, PlanOp};

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
        PlanOp::TemporalFilter { bounds } => Box::new(temporal_filter::TemporalFilter::new(
            operator_id,
            bounds,
            schema,
            tables,
        )?),
        PlanOp::Unnest { columns } => Box::new(unnest::Unnest::new(columns, schema)),
        PlanOp::UnionAll => Box::new(union_all::UnionAll::new(schema)),
        PlanOp::GroupingSets { keys, sets } => Box::new(grouping_sets::GroupingSets::new(
            operator_id,
            keys,
            sets,
            schema,
        )),
        PlanOp::SetOperation { operation } => Box::new(set_operation::SetOperation::new(
            *operation, schema, tables,
        )?),
        PlanOp::WindowClose { column } => {
            Box::new(window_close::WindowClose::new(*column, schema, tables)?)
        }
        PlanOp::Aggregate {
            group_by,
            calls,
            permanent,
            window,
        } => Box::new(Aggregate::new(
            operator_id,
            group_by,
            calls,
            (permanent, *window),
            schema,
            tables,
        )?),
        PlanOp::Panes {
            keys,
            calls,
            time,
            windows,
        } => Box::new(panes::Panes::new(
            operator_id,
            keys,
            calls,
            (*time, *windows),
            (&input_of(node)?.schema, schema),
            tables,
        )?),
        PlanOp::Join {
            kind,
            keys,
            residual,
            window,
            is_as_of_now,
        } => Box::new(Join::new(
            operator_id,
            (*kind, *is_as_of_now),
            (keys, *window),
            residual.as_ref(),
            &node.inputs,
            schema,
            tables,
        )?),
        PlanOp::Nearest { .. } => nearest_row(operator_id, node, tables)?,
        PlanOp::Over {
            partition_by,
            order_by,
            checked,
            calls,
            window,
            due,
        } => Box::new(over::Over::new(
            operator_id,
            (partition_by, *window, *due),
            order_by,
            (checked, calls),
            &input_of(node)?.schema,
            schema,
            tables,
        )?),
        PlanOp::Session { .. } => sessions(operator_id, node, tables)?,
        PlanOp::TopN {
            partition_by,
            order_by,
            skip,
            fetch,
            counting,
            is_numbered,
            window,
        } => {
            let shown = top_n::Shown {
                skip: *skip,
                fetch: *fetch,
                counting: *counting,
                is_numbered: *is_numbered,
            };
            let groups = (partition_by.as_slice(), *window);
            first_rows(operator_id, node, groups, order_by, shown, tables)?
        }
    })
}

/// Of a node that is known to be one of sessions.
fn sessions(
    operator_id: u32,
    node: &PlanNode,
    tables: Vec<StateTable>,
) -> Result<Box<dyn Operator>> {
    let PlanOp::Session {
        partition_by,
        time,
        gap_us,
        bounds,
        is_final,
        ..
    } = &node.op
    else {
        return Err(ExecutorError::Internal("no sessions".to_string()));
    };
    let (keys, input) = ((partition_by.as_slice(), time), &input_of(node)?.schema);
    let schema = node.schema.clone();
    Ok(match is_final {
        true => Box::new(session_close::SessionClose::new(
            operator_id,
            keys,
            *gap_us,
            bounds,
            input,
            schema,
            tables,
        )?),
        false => Box::new(session::Session::new(
            operator_id,
            keys,
            *gap_us,
            bounds,
            input,
            schema,
            tables,
        )?),
    })
}

/// Of a node that is known to be a join with the nearest row.
fn nearest_row(
    operator_id: u32,
    node: &PlanNode,
    tables: Vec<StateTable>,
) -> Result<Box<dyn Operator>> {
    let PlanOp::Nearest {
        keeps_unmatched,
        keys,
        times,
        tolerance,
        forgets,
    } = &node.op
    else {
        return Err(ExecutorError::Internal("no nearest row".to_string()));
    };
    Ok(Box::new(nearest::Nearest::new(
        operator_id,
        (keys, times),
        (*keeps_unmatched, tolerance.as_ref()),
        *forgets,
        &node.inputs,
        node.schema.clone(),
        tables,
    )?))
}

fn first_rows(
    operator_id: u32,
    node: &PlanNode,
    groups: (&[BoundExpr], Option<usize>),
    order_by: &[(BoundExpr, SortOptions)],
    shown: top_n::Shown,
    tables: Vec<StateTable>,
) -> Result<Box<dyn Operator>> {
    let input = input_of(node)?;
    Ok(Box::new(top_n::TopN::new(
        operator_id,
        groups,
        order_by,
        shown,
        (&input.schema, input.properties.append_only),
        node.schema.clone(),
        tables,
    )?))
}

/// The only input of `node`.
fn input_of(node: &PlanNode) -> Result<&PlanNode> {
    match node.inputs.as_slice() {
        [input] => Ok(input),
        inputs => Err(ExecutorError::Internal(format!(
            "{} has {} inputs",
            node.op.name(),
            inputs.len()
        ))),
    }
}
