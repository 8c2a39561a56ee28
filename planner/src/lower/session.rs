//! Lowers SESSION, which arrives as window functions over the rows of a partition in the order of their times.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};

use super::{Lowered, Lowering, bound, column_index, node_of};
use crate::error::{PlanError, Result};
use crate::functions::session_bound;
use crate::plan::{PlanOp, SessionBound};
use crate::properties::{self, SessionProperties};

/// Whether these are the functions of a session.
pub(super) fn is_session(functions: &[(usize, &WindowFunction)]) -> bool {
    functions
        .iter()
        .all(|(_, function)| session_bound(function.fun.name()).is_some())
}

impl Lowering<'_> {
    /// `functions`, all of a session, over `input`, whose first columns DataFusion knows as `from`.
    pub(super) fn session(
        &self,
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
        let time_expr = time;
        let time = bind(time)?;
        let mut all: Vec<Field> = node
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        for (bound, field) in bounds.iter().zip(fields) {
            all.push(Field::new(bound.column(), field.data_type().clone(), true));
        }
        let is_marked = properties::follows(time_expr, &|expr| {
            column_index(expr, from).is_some_and(|c| node.properties.watermark_columns.contains(&c))
        });
        let end = bounds.iter().position(|bound| *bound == SessionBound::End);
        let forgets = is_marked && end.is_some() && node.properties.append_only;
        let known = SessionProperties {
            bounds: bounds.len(),
            end: end.filter(|_| is_marked),
            is_final: self.emits_on_window_close && forgets,
            forgets,
        };
        let is_final = known.is_final;
        let (properties, lineage) = properties::of_session(&node.properties, &lineage, known);
        let op = PlanOp::Session {
            partition_by,
            time,
            gap_us,
            bounds,
            is_final,
            forgets,
        };
        Ok(Lowered {
            node: node_of(op, vec![node], Arc::new(Schema::new(all)), properties),
            lineage,
        })
    }
}
