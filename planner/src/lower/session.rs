//! Lowers SESSION, which arrives as window functions over the rows of a partition in the order of their times.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};

use super::{Lowered, bound, column_index, node_of};
use crate::error::{PlanError, Result};
use crate::functions::session_bound;
use crate::plan::{PlanOp, SessionBound};
use crate::properties::{self, unaliased};

/// Whether these are the functions of a session.
pub(super) fn is_session(functions: &[(usize, &WindowFunction)]) -> bool {
    functions
        .iter()
        .all(|(_, function)| session_bound(function.fun.name()).is_some())
}

/// `functions`, all of a session, over `input`, whose first columns DataFusion knows as `from`.
pub(super) fn session(
    input: Lowered,
    from: &DFSchema,
    params: &WindowFunctionParams,
    functions: &[(usize, &WindowFunction)],
    fields: &[&Field],
) -> Result<Lowered> {
    let Lowered { node, lineage } = input;
    let bounds: Vec<SessionBound> = functions
        .iter()
        .filter_map(|(_, function)| session_bound(function.fun.name()))
        .collect();
    let args = functions.first().map(|(_, function)| &function.params.args);
    let (time, gap_us) = match args.map(Vec::as_slice) {
        Some([time, Expr::Literal(ScalarValue::Int64(Some(gap)), _)]) => (time, *gap),
        other => {
            return Err(PlanError::Internal(format!(
                "a session of {other:?}, not of a time and a gap"
            )));
        }
    };
    let bind = |expr: &Expr| bound(expr, from, &node.schema);
    let partition_by = params
        .partition_by
        .iter()
        .map(bind)
        .collect::<Result<Vec<_>>>()?;
    let time = bind(time)?;
    let places: Vec<Option<usize>> = params
        .partition_by
        .iter()
        .map(|key| column_index(unaliased(key), from))
        .collect();
    let mut all: Vec<Field> = node
        .schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    for (bound, field) in bounds.iter().zip(fields) {
        all.push(Field::new(bound.column(), field.data_type().clone(), true));
    }
    let (properties, lineage) =
        properties::of_session(&node.properties, &lineage, &places, bounds.len());
    let op = PlanOp::Session {
        partition_by,
        time,
        gap_us,
        bounds,
    };
    Ok(Lowered {
        node: node_of(op, vec![node], Arc::new(Schema::new(all)), properties),
        lineage,
    })
}
