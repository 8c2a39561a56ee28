//! What DEFAULT, CHECK and generation expressions of a new table may say; told when the table is created.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{self, Expr};
use rivermark_planner::catalog::TableDef;
use rivermark_planner::names::fold;
use rivermark_planner::parse::parse_expression;

use crate::constraints::bind_rules;
use crate::pg_error::PgError;
use crate::session::Session;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Default,
    Check,
    Generated,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Default => "DEFAULT expression",
            Place::Check => "check constraint",
            Place::Generated => "column generation expression",
        }
    }
}

/// What an expression mentions, outside of its subqueries.
#[derive(Default)]
struct Mentioned {
    columns: BTreeSet<String>,
    functions: BTreeSet<String>,
    has_subquery: bool,
    has_window: bool,
}

impl Mentioned {
    fn of(expr: &Expr) -> Mentioned {
        let mut mentioned = Mentioned::default();
        let _: ControlFlow<()> = ast::visit_expressions(expr, |expr| {
            match expr {
                Expr::Identifier(name) => {
                    mentioned.columns.insert(fold(name));
                }
                Expr::CompoundIdentifier(parts) => mentioned.columns.extend(parts.last().map(fold)),
                Expr::Function(function) => {
                    let name = function.name.0.last().and_then(|part| part.as_ident());
                    mentioned.functions.extend(name.map(fold));
                    mentioned.has_window |= function.over.is_some();
                }
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                    mentioned.has_subquery = true;
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        mentioned
    }

    fn check(&self, place: Place, state: &SessionState) -> Result<(), PgError> {
        let name = place.name();
        if self.has_subquery {
            let message = format!("cannot use subquery in {name}");
            return Err(PgError::new(SqlState::FeatureNotSupported, message));
        }
        if self.has_window {
            let message = format!("window functions are not allowed in {name}s");
            return Err(PgError::new(SqlState::WindowingError, message));
        }
        let is_aggregate = |name: &&String| {
            state.aggregate_functions().contains_key(*name)
                && !state.scalar_functions().contains_key(*name)
        };
        if self.functions.iter().any(|name| is_aggregate(&name)) {
            let message = format!("aggregate functions are not allowed in {name}s");
            return Err(PgError::new(SqlState::GroupingError, message));
        }
        Ok(())
    }

    /// Whether a function is called that may give something else the next time.
    fn changes(&self, state: &SessionState) -> bool {
        self.functions.iter().any(|name| {
            let function = state.scalar_functions().get(name);
            function.is_some_and(|f| f.signature().volatility != Volatility::Immutable)
        })
    }
}

fn refuse_column_reference() -> PgError {
    let message = "cannot use column reference in DEFAULT expression";
    PgError::new(SqlState::FeatureNotSupported, message)
}

impl Session {
    /// Checks that a new table's DEFAULT, CHECK and generation expressions can be bound and make sense.
    pub fn check_expressions(&mut self, table: &TableDef) -> Result<(), PgError> {
        let planner = self.planner("");
        let state = &planner.state;
        let mentioned = |text: &str| Ok::<_, PgError>(Mentioned::of(&parse_expression(text)?));
        for column in &table.columns {
            if let Some(text) = &column.default {
                let found = mentioned(text)?;
                found.check(Place::Default, state)?;
                if !found.columns.is_empty() {
                    return Err(refuse_column_reference());
                }
            }
            if let Some(text) = &column.generated {
                let found = mentioned(text)?;
                found.check(Place::Generated, state)?;
                check_generated(&found, table, state)?;
            }
        }
        for (_, text) in &table.checks {
            mentioned(text)?.check(Place::Check, state)?;
        }
        let rules = bind_rules(&planner, table)?;
        rules.check_types(&table.columns)?;
        for (i, column) in table.columns.iter().enumerate() {
            let is_literal = |text: &String| matches!(parse_expression(text), Ok(Expr::Value(_)));
            // As in PostgreSQL, the length of a text counts only when it is stored.
            if column.default.as_ref().is_some_and(is_literal)
                && let Err(error) = rules.default(i, 1, &SessionTimeZone::UTC, column)
                && error.state != SqlState::StringDataRightTruncation
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

fn check_generated(
    mentioned: &Mentioned,
    table: &TableDef,
    state: &SessionState,
) -> Result<(), PgError> {
    let is_generated = |name: &&String| {
        let mut columns = table.columns.iter();
        columns.any(|c| c.name == **name && c.generated.is_some())
    };
    if let Some(name) = mentioned.columns.iter().find(is_generated) {
        let message =
            format!("cannot use generated column \"{name}\" in column generation expression");
        return Err(PgError::new(SqlState::InvalidObjectDefinition, message)
            .with_detail("A generated column cannot reference another generated column."));
    }
    if mentioned.changes(state) {
        let message = "generation expression is not immutable";
        return Err(PgError::new(SqlState::InvalidObjectDefinition, message));
    }
    Ok(())
}
