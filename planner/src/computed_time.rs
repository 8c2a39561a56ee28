//! The computed column that a source's watermark is on: `ts TIMESTAMPTZ AS (to_timestamp(ms / 1000.0))`.
//!
//! Which rows are late is decided before any view sees them, so the column is computed where messages are read, once, and is
//! delivered like those of the message. Other computed columns are expressions of the queries that use them.

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::logical_expr::Volatility;
use sqlparser::ast::{Expr, visit_expressions};

use crate::bind::bind_scalar;
use crate::catalog::SourceDef;
use crate::error::{PlanError, Result};
use crate::names::fold;
use crate::parse::parse_expression;
use crate::plan::BoundExpr;
use crate::rewrite::expressions::rewrite_expressions;
use crate::rewrite::volatile::is_clock;
use crate::session::session_state;

/// Whose zone counts where an expression depends on one.
const ZONE: &str = "UTC";

/// The time of a source's messages over their own columns ([`SourceDef::of_messages`]), if it is a computed one.
pub fn computed_time(def: &SourceDef) -> Result<Option<BoundExpr>> {
    let Some(column) = def.computed_time() else {
        return Ok(None);
    };
    let Some(text) = &column.generated else {
        return Ok(None);
    };
    let state = session_state(ZONE);
    refuse_unsteady(&column.name, text, &state)?;
    let schema = def.of_messages().physical_schema();
    bind_scalar(text, &schema, &state, Some(&column.data_type)).map(Some)
}

/// A replay must find the same rows late.
fn refuse_unsteady(column: &str, text: &str, state: &SessionState) -> Result<()> {
    let mut expr = parse_expression(text)?;
    rewrite_expressions(&mut expr);
    let found = visit_expressions(&expr, |part| {
        let Expr::Function(function) = part else {
            return ControlFlow::Continue(());
        };
        let Some(name) = function.name.0.last().and_then(|part| part.as_ident()) else {
            return ControlFlow::Continue(());
        };
        let name = fold(name);
        let known = state.scalar_functions().get(&name);
        let is_volatile = known.is_some_and(|f| f.signature().volatility == Volatility::Volatile);
        match is_volatile || is_clock(&name) {
            true => ControlFlow::Break(name),
            false => ControlFlow::Continue(()),
        }
    });
    match found {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(name) => Err(PlanError::InvalidDefinition {
            message: format!(
                "the watermark's column \"{column}\" is computed with {name}(), which is not the same each time"
            ),
            hint: Some(
                "compute the time of the message's columns alone; INCLUDE timestamp AS t is when the broker got it"
                    .to_string(),
            ),
        }),
    }
}
