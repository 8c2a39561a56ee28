//! What a table demands of its rows: defaults, generated columns and CHECK constraints, bound and ready to run.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_empty_array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema};
use rivermark_planner::bind::bind_scalar;
use rivermark_planner::catalog::{ColumnDef, TableDef};
use rivermark_planner::plan::BoundExpr;
use rivermark_planner::types::SqlType;

use crate::assignment::{assign, failing_row, row_schema};
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// A table's expressions.
pub struct RowRules {
    /// By column; `None`: NULL.
    defaults: Vec<Option<BoundExpr>>,
    /// By column; `None`: not generated.
    generated: Vec<Option<BoundExpr>>,
    checks: Vec<(String, BoundExpr)>,
}

/// Binds a table's expressions.
pub fn bind_rules(planner: &StatementPlanner, table: &TableDef) -> Result<RowRules, PgError> {
    let nothing = Schema::empty();
    let row = row_schema(&table.columns);
    // Bound as they are: it is the assignment that brings them to the columns' types.
    let bind = |text: &String, schema: &Schema| {
        bind_scalar(text, schema, &planner.state, None).map_err(PgError::from)
    };
    let columns = || table.columns.iter();
    let defaults = columns().map(|c| c.default.as_ref().map(|t| bind(t, &nothing)).transpose());
    let generated = columns().map(|c| c.generated.as_ref().map(|t| bind(t, &row)).transpose());
    let checks = table
        .checks
        .iter()
        .map(|(name, text)| Ok((name.clone(), bind(text, &row)?)));
    let mut checks = checks.collect::<Result<Vec<_>, PgError>>()?;
    // PostgreSQL's order.
    checks.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(RowRules {
        defaults: defaults.collect::<Result<_, PgError>>()?,
        generated: generated.collect::<Result<_, PgError>>()?,
        checks,
    })
}

fn evaluate(expr: &BoundExpr, rows: &RecordBatch) -> Result<ArrayRef, PgError> {
    Ok(expr.physical.evaluate(rows)?.into_array(rows.num_rows())?)
}

impl RowRules {
    /// A column's default, once per row.
    pub fn default(
        &self,
        column: usize,
        rows: usize,
        zone: &SessionTimeZone,
        def: &ColumnDef,
    ) -> Result<ArrayRef, PgError> {
        let Some(expr) = &self.defaults[column] else {
            return Ok(new_null_array(&def.data_type.arrow(), rows));
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let nothing =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
        assign(&evaluate(expr, &nothing)?, def, zone)
    }

    /// The rows with their generated columns computed.
    pub fn generate(
        &self,
        rows: RecordBatch,
        columns: &[ColumnDef],
        zone: &SessionTimeZone,
    ) -> Result<RecordBatch, PgError> {
        if self.generated.iter().all(Option::is_none) {
            return Ok(rows);
        }
        let mut arrays = rows.columns().to_vec();
        for (i, expr) in self.generated.iter().enumerate() {
            if let Some(expr) = expr {
                arrays[i] = assign(&evaluate(expr, &rows)?, &columns[i], zone)?;
            }
        }
        Ok(RecordBatch::try_new(rows.schema(), arrays)?)
    }

    /// Whether the expressions have types that their places take.
    pub fn check_types(&self, columns: &[ColumnDef]) -> Result<(), PgError> {
        for (name, expr) in &self.checks {
            if !matches!(expr.data_type, DataType::Boolean | DataType::Null) {
                let found = SqlType::of_field(&Field::new("", expr.data_type.clone(), true));
                let message = format!("argument of CHECK must be type boolean, not type {found}");
                let detail = format!("The constraint is \"{name}\".");
                return Err(PgError::new(SqlState::DatatypeMismatch, message).with_detail(detail));
            }
        }
        for exprs in [&self.defaults, &self.generated] {
            for (expr, column) in exprs.iter().zip(columns) {
                if let Some(expr) = expr {
                    let none = new_empty_array(&expr.data_type);
                    assign(&none, column, &SessionTimeZone::UTC)?;
                }
            }
        }
        Ok(())
    }

    /// CHECK constraints; NULL passes.
    pub fn check(
        &self,
        rows: &RecordBatch,
        table: &str,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        for (name, expr) in &self.checks {
            let holds = evaluate(expr, rows)?;
            let Some(holds) = holds.as_boolean_opt() else {
                let message = format!(
                    "argument of CHECK must be type boolean, not type {}",
                    holds.data_type()
                );
                return Err(PgError::new(SqlState::DatatypeMismatch, message));
            };
            let failed = (0..holds.len()).find(|row| !holds.is_null(*row) && !holds.value(*row));
            if let Some(row) = failed {
                let message = format!(
                    "new row for relation \"{table}\" violates check constraint \"{name}\""
                );
                return Err(PgError::new(SqlState::CheckViolation, message)
                    .with_detail(failing_row(rows, row, zone)));
            }
        }
        Ok(())
    }
}
