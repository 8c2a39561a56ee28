//! Whole rows of a table: put together, their generated columns filled, their constraints checked.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array,
};
use arrow::compute::{concat, concat_batches, take};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use rivermark_planner::catalog::ColumnDef;

use crate::assignment::{assign, check_not_null, row_schema};
use crate::constraints::{RowRules, bind_rules};
use crate::dml::row_query::RowQuery;
use crate::dml::target::Target;
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::query::Collected;
use crate::wire::time_zone::SessionTimeZone;

/// One batch of all rows.
pub fn concatenated(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, PgError> {
    Ok(concat_batches(schema, batches)?)
}

/// A batch of these columns; `rows` also holds where there are none.
pub fn batch(
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, PgError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        schema, columns, &options,
    )?)
}

/// The schema of rows that are not checked yet: every column may be NULL.
pub fn unchecked_schema(columns: &[ColumnDef]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|c| c.data_type.field(&c.name, true))
            .collect::<Vec<_>>(),
    ))
}

/// Fills generated columns and checks every constraint.
pub fn checked(
    rules: &RowRules,
    target: &Target,
    rows: RecordBatch,
    zone: &SessionTimeZone,
) -> Result<RecordBatch, PgError> {
    let columns = &target.table.columns;
    let count = rows.num_rows();
    let rows = rules.generate(rows, columns, zone)?;
    check_not_null(&rows, columns, target.name(), zone)?;
    rules.check(&rows, target.name(), zone)?;
    batch(row_schema(columns), rows.columns().to_vec(), count)
}

/// All rows of a query, by column.
pub struct Gathered {
    pub fields: Vec<FieldRef>,
    pub columns: Vec<ArrayRef>,
    pub rows: usize,
}

pub fn gathered(collected: &Collected) -> Result<Gathered, PgError> {
    let fields: Vec<FieldRef> = collected.schema.fields().iter().cloned().collect();
    let batches = &collected.batches;
    let column = |i: usize| -> Result<ArrayRef, PgError> {
        let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(i).as_ref()).collect();
        match parts.is_empty() {
            true => Ok(new_empty_array(fields[i].data_type())),
            false => Ok(concat(&parts)?),
        }
    };
    Ok(Gathered {
        columns: (0..fields.len()).map(column).collect::<Result<_, _>>()?,
        rows: batches.iter().map(RecordBatch::num_rows).sum(),
        fields,
    })
}

impl Gathered {
    /// The rows at these places.
    pub fn taken(self, places: Vec<u32>) -> Result<Gathered, PgError> {
        let (rows, places) = (places.len(), UInt32Array::from(places));
        let columns = self
            .columns
            .iter()
            .map(|column| take(column, &places, None));
        Ok(Gathered {
            columns: columns.collect::<Result<_, _>>()?,
            rows,
            ..self
        })
    }

    /// The rows that an UPDATE or DELETE takes away: the first columns of its query.
    pub fn old_rows(&self, target: &Target) -> Result<RecordBatch, PgError> {
        let schema = row_schema(&target.table.columns);
        let width = schema.fields().len();
        batch(schema, self.columns[..width].to_vec(), self.rows)
    }

    /// The rows that an UPDATE puts in their place.
    pub fn new_rows(
        &self,
        query: &RowQuery,
        planner: &StatementPlanner,
        target: &Target,
        zone: &SessionTimeZone,
    ) -> Result<RecordBatch, PgError> {
        let columns = &target.table.columns;
        let rules = bind_rules(planner, &target.table)?;
        let mut arrays = self.columns[..columns.len()].to_vec();
        let values = &self.columns[columns.len()..];
        for (to, value) in query.columns.iter().zip(values) {
            arrays[*to] = assign(value, &columns[*to], zone)?;
        }
        let unchecked = batch(unchecked_schema(columns), arrays, self.rows)?;
        checked(&rules, target, unchecked, zone)
    }

    /// The columns behind the first `width`.
    pub fn behind(&self, width: usize) -> (Vec<FieldRef>, Vec<ArrayRef>) {
        (
            self.fields[width..].to_vec(),
            self.columns[width..].to_vec(),
        )
    }
}
