//! Messages of one partition to a batch of rows, with the failures beside.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use rivermark_executor::source::{ColumnError, MalformedMessage, SourceBatch, SourceError};
use rivermark_planner::catalog::SourceDef;

use super::include::IncludeColumn;
use super::json::{JsonDecoder, JsonField, TimestampUnit};
use crate::message::Message;

/// Bytes of a failing message that are kept.
const MAX_KEPT_PAYLOAD: usize = 64 * 1024;

/// Where a requested column comes from.
#[derive(Clone, Copy)]
enum Origin {
    /// Index among the decoder's requested fields.
    Payload(usize),
    Include(usize),
}

/// Decodes messages into the requested columns of a source.
pub struct BatchDecoder {
    schema: SchemaRef,
    origins: Vec<Origin>,
    json: JsonDecoder,
    /// Index into the request's columns, by index of the decoder's field; fields that are only checked have none.
    requested: Vec<Option<usize>>,
    includes: Vec<IncludeColumn>,
}

/// The schema of `columns` (indices into the physical columns) of a source.
pub fn projected_schema(def: &SourceDef, columns: &[usize]) -> Result<SchemaRef, SourceError> {
    let physical = def.physical_schema();
    if let Some(bad) = columns.iter().find(|i| **i >= physical.fields().len()) {
        return Err(SourceError::Internal(format!(
            "column {bad} of a source that has no such column"
        )));
    }
    Ok(Arc::new(Schema::new(
        columns
            .iter()
            .map(|i| physical.field(*i).clone())
            .collect::<Vec<_>>(),
    )))
}

impl BatchDecoder {
    /// `columns`: indices into the source's physical columns, without repetition.
    pub fn new(
        def: &SourceDef,
        columns: &[usize],
        unit: Option<TimestampUnit>,
    ) -> Result<Self, SourceError> {
        let schema = projected_schema(def, columns)?;
        let mut origins = vec![Origin::Payload(0); columns.len()];
        let (mut fields, mut requested, mut includes) = (Vec::new(), Vec::new(), Vec::new());
        let mut payload_columns = 0;
        for (index, column) in def.physical_columns().enumerate() {
            let output = columns.iter().position(|c| *c == index);
            if let Some(include) = &column.include {
                if let Some(output) = output {
                    origins[output] = Origin::Include(includes.len());
                    includes.push(IncludeColumn::new(column, include.clone()));
                }
                continue;
            }
            if let Some(output) = output {
                origins[output] = Origin::Payload(payload_columns);
                payload_columns += 1;
            }
            if output.is_some() || column.not_null {
                requested.push(output);
                fields.push(JsonField {
                    name: column.name.clone(),
                    data_type: column.data_type.clone(),
                    not_null: column.not_null,
                    is_requested: output.is_some(),
                });
            }
        }
        let json = JsonDecoder::new(fields, unit);
        Ok(BatchDecoder {
            schema,
            origins,
            json,
            requested,
            includes,
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes `messages`, which are in offset order; reading resumes at `next_offset`.
    pub fn decode<'m, M: Message + 'm>(
        &mut self,
        partition: i32,
        messages: impl ExactSizeIterator<Item = &'m M>,
        next_offset: i64,
    ) -> Result<SourceBatch, SourceError> {
        let mut offsets = Vec::with_capacity(messages.len());
        let mut timestamps_ms = Vec::with_capacity(messages.len());
        let (mut column_errors, mut malformed) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for message in messages {
            let payload = message.payload();
            bytes += payload.map_or(0, <[u8]>::len) as u64;
            let decoded = match payload {
                Some(payload) if !payload.trim_ascii().is_empty() => self.json.decode(payload),
                Some(_) => Err("the payload is empty".to_string()),
                None => Err("the message has no value (a tombstone)".to_string()),
            };
            if let Err(error) = decoded {
                malformed.push(malformed_message(message, error));
                continue;
            }
            let row = offsets.len();
            for (field, error) in self.json.errors().drain(..) {
                let column = self.requested[field].unwrap_or_default();
                column_errors.push(column_error(row, column, message, error));
            }
            self.includes
                .iter_mut()
                .for_each(|i| i.push(partition, message));
            offsets.push(message.offset());
            timestamps_ms.push(message.timestamp_ms());
        }
        Ok(SourceBatch {
            partition,
            next_offset,
            rows: self.finish(offsets.len())?,
            offsets: Int64Array::from(offsets),
            timestamps_ms: Int64Array::from(timestamps_ms),
            column_errors,
            malformed,
            bytes,
        })
    }

    fn finish(&mut self, rows: usize) -> Result<RecordBatch, SourceError> {
        let payload = self.json.finish();
        let includes: Vec<_> = self
            .includes
            .iter_mut()
            .map(IncludeColumn::finish)
            .collect();
        let column = |origin: &Origin| -> ArrayRef {
            match origin {
                Origin::Payload(i) => payload[*i].clone(),
                Origin::Include(i) => includes[*i].clone(),
            }
        };
        let columns = self.origins.iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| SourceError::Internal(e.to_string()))
    }
}

fn kept(payload: &[u8]) -> Vec<u8> {
    payload[..payload.len().min(MAX_KEPT_PAYLOAD)].to_vec()
}

fn malformed_message(message: &impl Message, error: String) -> MalformedMessage {
    MalformedMessage {
        offset: message.offset(),
        timestamp_ms: message.timestamp_ms(),
        key: message.key().map(kept),
        payload: message.payload().map(kept).unwrap_or_default(),
        error,
    }
}

fn column_error(row: usize, column: usize, message: &impl Message, error: String) -> ColumnError {
    ColumnError {
        row,
        column,
        error,
        key: message.key().map(kept),
        payload: message.payload().map(kept).unwrap_or_default(),
    }
}

/// Takes the first `rows` rows (fewer than the batch has) off the front of `batch`.
pub fn split_front(batch: &mut SourceBatch, rows: usize) -> SourceBatch {
    let total = batch.rows.num_rows();
    let boundary = batch.offsets.value(rows);
    let bytes = batch.bytes * rows as u64 / total as u64;
    let (front_errors, mut rest_errors): (Vec<_>, Vec<_>) =
        std::mem::take(&mut batch.column_errors)
            .into_iter()
            .partition(|e| e.row < rows);
    rest_errors.iter_mut().for_each(|e| e.row -= rows);
    let (front_malformed, rest_malformed) = std::mem::take(&mut batch.malformed)
        .into_iter()
        .partition(|m| m.offset < boundary);
    let front = SourceBatch {
        partition: batch.partition,
        next_offset: boundary,
        rows: batch.rows.slice(0, rows),
        offsets: batch.offsets.slice(0, rows),
        timestamps_ms: batch.timestamps_ms.slice(0, rows),
        column_errors: front_errors,
        malformed: front_malformed,
        bytes,
    };
    batch.rows = batch.rows.slice(rows, total - rows);
    batch.offsets = batch.offsets.slice(rows, total - rows);
    batch.timestamps_ms = batch.timestamps_ms.slice(rows, total - rows);
    batch.column_errors = rest_errors;
    batch.malformed = rest_malformed;
    batch.bytes -= bytes;
    front
}
