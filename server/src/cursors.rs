//! Cursors: results that a client takes piece by piece within a transaction.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use rivermark_planner::statement::FetchCount;

use crate::pg_error::PgError;
use crate::session::Session;
use crate::session_api::{Execution, RowTag};
use crate::sqlstate::SqlState;

/// A result that is still being read.
pub struct Cursor {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    /// Rows that were read but not yet fetched.
    rest: Option<RecordBatch>,
}

impl Cursor {
    /// At most `rows` rows.
    async fn take(&mut self, rows: u64) -> Result<Vec<RecordBatch>, PgError> {
        let mut taken = Vec::new();
        let mut wanted = usize::try_from(rows).unwrap_or(usize::MAX);
        while wanted > 0 {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match self.stream.next().await {
                    Some(batch) => batch?,
                    None => break,
                },
            };
            if batch.num_rows() > wanted {
                taken.push(batch.slice(0, wanted));
                self.rest = Some(batch.slice(wanted, batch.num_rows() - wanted));
                break;
            }
            wanted -= batch.num_rows();
            taken.push(batch);
        }
        Ok(taken)
    }

    /// All rows that are left; the cursor has none afterwards.
    fn take_all(&mut self) -> SendableRecordBatchStream {
        let none = RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::empty());
        let stream = std::mem::replace(&mut self.stream, Box::pin(none));
        let first = futures::stream::iter(self.rest.take().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(
            self.schema.clone(),
            first.chain(stream),
        ))
    }
}

fn undefined(name: &str) -> PgError {
    PgError::new(
        SqlState::InvalidCursorName,
        format!("cursor \"{name}\" does not exist"),
    )
}

/// The columns of a cursor's rows.
pub fn schema(cursors: &BTreeMap<String, Cursor>, name: &str) -> Result<SchemaRef, PgError> {
    cursors
        .get(name)
        .map(|c| c.schema.clone())
        .ok_or_else(|| undefined(name))
}

impl Session {
    pub async fn declare_cursor(
        &mut self,
        name: &str,
        query: &ast::Query,
        text: &str,
    ) -> Result<Execution, PgError> {
        if !self.transaction.is_open() {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(PgError::new(SqlState::NoActiveSqlTransaction, message));
        }
        if self.cursors.contains_key(name) {
            return Err(PgError::new(
                SqlState::DuplicateCursor,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        let stream = self.query_stream(query, text, &[]).await?;
        let cursor = Cursor {
            schema: stream.schema(),
            stream,
            rest: None,
        };
        self.cursors.insert(name.to_string(), cursor);
        Ok(Execution::Command {
            tag: "DECLARE CURSOR".to_string(),
        })
    }

    pub async fn fetch(&mut self, name: &str, count: FetchCount) -> Result<Execution, PgError> {
        let cursor = self.cursors.get_mut(name).ok_or_else(|| undefined(name))?;
        let stream: SendableRecordBatchStream = match count {
            FetchCount::All => cursor.take_all(),
            FetchCount::Rows(rows) => {
                let batches = cursor.take(rows).await?;
                let batches = futures::stream::iter(batches.into_iter().map(Ok));
                Box::pin(RecordBatchStreamAdapter::new(
                    cursor.schema.clone(),
                    batches,
                ))
            }
        };
        Ok(Execution::Rows {
            stream,
            tag: RowTag::Counted("FETCH"),
        })
    }

    pub fn close_cursor(&mut self, name: Option<&str>) -> Result<Execution, PgError> {
        match name {
            None => {
                self.cursors.clear();
                Ok(Execution::Command {
                    tag: "CLOSE CURSOR ALL".to_string(),
                })
            }
            Some(name) => {
                self.cursors.remove(name).ok_or_else(|| undefined(name))?;
                Ok(Execution::Command {
                    tag: "CLOSE CURSOR".to_string(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array};

    use super::*;

    #[tokio::test]
    async fn rows_come_once_and_in_order() {
        let batch = |values: Vec<i32>| {
            RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(values)) as ArrayRef)])
                .unwrap()
        };
        let schema = batch(vec![]).schema();
        let batches = futures::stream::iter([Ok(batch(vec![1, 2, 3])), Ok(batch(vec![4, 5]))]);
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), batches));
        let mut cursor = Cursor {
            schema,
            stream,
            rest: None,
        };
        let rows =
            |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(rows(&cursor.take(2).await.unwrap()), 2);
        assert_eq!(rows(&cursor.take(2).await.unwrap()), 2);
        let all: Vec<_> = cursor.take_all().map(|b| b.unwrap()).collect().await;
        assert_eq!(rows(&all), 1);
        assert_eq!(rows(&cursor.take(9).await.unwrap()), 0);
    }
}
