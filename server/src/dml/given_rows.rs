//! Rows that a statement itself has at hand, as relations that its further queries read: those it changes, and those
//! that it proposed and found taken.
//!
//! Each has the column [`ROW`] with the row's number, by which they are joined and their order is kept.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::catalog::MemTable;
use rivermark_planner::names::ident;

use crate::pg_error::PgError;
use crate::planning::StatementPlanner;

/// The schema of such relations. Nobody can make one of that name: see `StatementPlanner`.
pub const SCHEMA: &str = "pg_statement";
/// The column with a row's number.
pub const ROW: &str = "rm row";

/// A relation of `SCHEMA` in a FROM clause.
pub fn from_item(name: &str, alias: &str) -> String {
    format!("{SCHEMA}.{} AS {alias}", ident(name))
}

/// The number of a row of the relation with this alias.
pub fn row_of(alias: &str) -> String {
    format!("{alias}.{}", ident(ROW))
}

/// Gives the planner a relation of these columns.
pub fn give(
    planner: &mut StatementPlanner,
    name: &str,
    fields: &[FieldRef],
    columns: &[ArrayRef],
    rows: usize,
) -> Result<(), PgError> {
    let as_nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let mut fields: Vec<FieldRef> = fields.iter().map(as_nullable).collect();
    fields.push(Arc::new(Field::new(ROW, DataType::Int64, false)));
    let numbers: ArrayRef = Arc::new((0..rows as i64).collect::<Int64Array>());
    let columns = columns.iter().cloned().chain([numbers]).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    planner.given.insert(name.to_string(), Arc::new(table));
    Ok(())
}

/// Gives the planner a relation of these rows.
pub fn give_rows(
    planner: &mut StatementPlanner,
    name: &str,
    rows: &RecordBatch,
) -> Result<(), PgError> {
    let fields = rows.schema().fields().clone();
    give(planner, name, &fields, rows.columns(), rows.num_rows())
}
