//! Sources whose watermark is on a computed column: the connector reads the message's columns, and what comes out of it has the
//! time beside them, as if it had been read.
//!
//! A message of which a value that the time is computed of can not be converted, or the time not be computed, has no time: it is
//! never late, and it is left out, as a dead letter, where the time is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::catalog::{Positions, SourceDef};
use rivermark_planner::computed_time::computed_time;

use crate::evaluate::{evaluate_all, row_as_json};
use crate::source::{
    ColumnError, ConnectorFactory, ReadRequest, ReaderStatus, Source, SourceBatch, SourceError,
    SourceReader,
};

/// Makes the connectors' sources, with computed times.
pub struct WithComputedTime(pub Arc<dyn ConnectorFactory>);

impl ConnectorFactory for WithComputedTime {
    fn source(&self, name: &str, def: &SourceDef) -> Result<Arc<dyn Source>, SourceError> {
        let time = computed_time(def).map_err(|e| SourceError::InvalidOption(e.to_string()))?;
        let place = def
            .physical_columns()
            .position(|column| column.generated.is_some());
        let (Some(time), Some(place)) = (time, place) else {
            return self.0.source(name, def);
        };
        let messages = def.of_messages();
        Ok(Arc::new(ComputedSource {
            source: self.0.source(name, &messages)?,
            schema: def.physical_schema(),
            place,
            expr: time.physical,
        }))
    }
}

struct ComputedSource {
    source: Arc<dyn Source>,
    /// All that is delivered.
    schema: SchemaRef,
    /// Of the time among that; the message's columns are the others.
    place: usize,
    /// Over the message's columns.
    expr: Arc<dyn PhysicalExpr>,
}

impl Source for ComputedSource {
    fn resolve_start(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        self.source.resolve_start(timeout_ms)
    }

    fn end_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        self.source.end_offsets(timeout_ms)
    }

    fn first_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError> {
        self.source.first_offsets(timeout_ms)
    }

    fn reader(&self, request: ReadRequest) -> Result<Box<dyn SourceReader>, SourceError> {
        let of_message = |column: &usize| column - usize::from(*column > self.place);
        let asked = request.columns.clone();
        let mut read: Vec<usize> = asked
            .iter()
            .filter(|column| **column != self.place)
            .map(of_message)
            .collect();
        let is_asked = asked.contains(&self.place);
        if is_asked {
            for column in collect_columns(&self.expr) {
                if !read.contains(&column.index()) {
                    read.push(column.index());
                }
            }
        }
        let find = |column: usize| read.iter().position(|c| *c == column).unwrap_or_default();
        let origins = asked
            .iter()
            .map(|column| (*column != self.place).then(|| find(of_message(column))))
            .collect();
        let expr = self.expr.clone().transform(|part| {
            let Some(column) = part.downcast_ref::<Column>() else {
                return Ok(Transformed::no(part));
            };
            let place = find(column.index());
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), place));
            Ok(Transformed::yes(column))
        });
        let expr = expr.map_err(|e| SourceError::Internal(e.to_string()))?.data;
        let inputs = collect_columns(&expr).iter().map(Column::index).collect();
        let schema = self.schema.project(&asked);
        let schema = schema.map_err(|e| SourceError::Internal(e.to_string()))?;
        Ok(Box::new(ComputedReader {
            reader: self.source.reader(ReadRequest {
                columns: read,
                ..request
            })?,
            columns: ComputedColumns {
                schema: Arc::new(schema),
                origins,
                inputs,
                expr,
            },
        }))
    }
}

struct ComputedReader {
    reader: Box<dyn SourceReader>,
    columns: ComputedColumns,
}

impl SourceReader for ComputedReader {
    fn schema(&self) -> SchemaRef {
        self.columns.schema.clone()
    }

    fn take(&mut self, max_rows: usize) -> Option<SourceBatch> {
        Some(self.columns.of(self.reader.take(max_rows)?))
    }

    fn status(&self) -> ReaderStatus {
        self.reader.status()
    }

    fn durable(&mut self, positions: &Positions) {
        self.reader.durable(positions);
    }

    fn set_paused(&mut self, partition: i32, is_paused: bool) {
        self.reader.set_paused(partition, is_paused);
    }
}

/// How what was asked for is made of what was read.
struct ComputedColumns {
    /// What was asked for.
    schema: SchemaRef,
    /// Per column its place in what was read; `None`: the time.
    origins: Vec<Option<usize>>,
    /// Places in what was read that the time is computed of.
    inputs: Vec<usize>,
    /// Over what was read.
    expr: Arc<dyn PhysicalExpr>,
}

impl ComputedColumns {
    fn of(&self, batch: SourceBatch) -> SourceBatch {
        let count = batch.rows.num_rows();
        // By row: why it has no time.
        let mut failed = BTreeMap::new();
        for error in &batch.column_errors {
            if self.inputs.contains(&error.column) {
                failed.entry(error.row).or_insert_with(|| error.clone());
            }
        }
        let place = self.origins.iter().position(Option::is_none);
        let time = place.map(|_| {
            let times = self.times(&batch.rows, 0, &mut failed);
            let is_known = |row: usize| !failed.contains_key(&row);
            known_times(&times, count, &is_known)
        });
        let columns: Vec<ArrayRef> = self
            .origins
            .iter()
            .zip(self.schema.fields())
            .map(|(origin, field)| match (origin, &time) {
                (Some(origin), _) => batch.rows.column(*origin).clone(),
                (None, Some(time)) => time.clone(),
                (None, None) => new_null_array(field.data_type(), count),
            })
            .collect();
        let origin_of = |column: usize| self.origins.iter().position(|o| *o == Some(column));
        let kept = batch.column_errors.iter().filter_map(|error| {
            let column = origin_of(error.column)?;
            Some(ColumnError {
                column,
                ..error.clone()
            })
        });
        let of_time = failed.into_iter().filter_map(|(row, error)| {
            let column = place?;
            Some(ColumnError {
                row,
                column,
                ..error
            })
        });
        let mut column_errors: Vec<ColumnError> = kept.chain(of_time).collect();
        column_errors.sort_by_key(|error| error.row);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("every column has its field's type and as many rows as were read");
        SourceBatch {
            rows,
            column_errors,
            ..batch
        }
    }

    /// The times of `rows`, which begin at number `first` of the batch, piece by piece.
    fn times(
        &self,
        rows: &RecordBatch,
        first: usize,
        failed: &mut BTreeMap<usize, ColumnError>,
    ) -> Vec<ArrayRef> {
        let count = rows.num_rows();
        match evaluate_all(std::slice::from_ref(&self.expr), rows) {
            Ok(times) => times,
            Err(_) if count > 1 => {
                let half = count / 2;
                let mut times = self.times(&rows.slice(0, half), first, failed);
                times.extend(self.times(&rows.slice(half, count - half), first + half, failed));
                times
            }
            Err(error) => {
                failed.entry(first).or_insert_with(|| ColumnError {
                    row: first,
                    column: 0,
                    error: error.to_string(),
                    key: None,
                    payload: self.inputs_as_json(rows),
                });
                self.schema
                    .fields()
                    .iter()
                    .zip(&self.origins)
                    .filter(|(_, origin)| origin.is_none())
                    .map(|(field, _)| new_null_array(field.data_type(), count))
                    .collect()
            }
        }
    }

    /// What the only one of `rows` has to compute the time of.
    fn inputs_as_json(&self, rows: &RecordBatch) -> Vec<u8> {
        let inputs = rows.project(&self.inputs);
        let text = inputs.ok().and_then(|inputs| {
            let schema: Arc<Schema> = inputs.schema();
            row_as_json(schema.fields(), inputs.columns(), 0).ok()
        });
        text.unwrap_or_default().into_bytes()
    }
}

/// The pieces together, NULL where `is_known` is not.
fn known_times(pieces: &[ArrayRef], count: usize, is_known: &dyn Fn(usize) -> bool) -> ArrayRef {
    let parts: Vec<&dyn arrow::array::Array> = pieces.iter().map(AsRef::as_ref).collect();
    let unknown: arrow::array::BooleanArray = (0..count).map(|row| Some(!is_known(row))).collect();
    let times = concat(&parts).expect("all pieces are of the type that the time was bound to");
    arrow::compute::nullif(&times, &unknown).expect("the pieces have as many rows as were read")
}
