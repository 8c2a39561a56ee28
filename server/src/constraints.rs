//! What a table demands of its rows: defaults, generated columns and CHECK constraints, bound and ready to run.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::Schema;
use rivermark_planner::bind::bind_scalar;
use rivermark_planner::catalog::{ColumnDef, TableDef};
use rivermark_planner::plan::BoundExpr;

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
    let bind = |text: &String, schema: &Schema, column: Option<&ColumnDef>| {
        bind_scalar(text, schema, &planner.state, column.map(|c| &c.data_type))
            .map_err(PgError::from)
    };
    let defaults = table.columns.iter().map(|c| {
        c.default
            .as_ref()
            .map(|t| bind(t, &nothing, Some(c)))
            .transpose()
    });
    let generated = table.columns.iter().map(|c| {
        c.generated
            .as_ref()
            .map(|t| bind(t, &row, Some(c)))
            .transpose()
    });
    let checks = table
        .checks
        .iter()
        .map(|(name, text)| Ok((name.clone(), bind(text, &row, None)?)));
    Ok(RowRules {
        defaults: defaults.collect::<Result<_, PgError>>()?,
        generated: generated.collect::<Result<_, PgError>>()?,
        checks: checks.collect::<Result<_, PgError>>()?,
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
