//! Cursors: results that a client takes piece by piece within a transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use rivermark_planner::statement::{FetchCount, Subscribe};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::parse_duration;
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
    /// Of a subscription, which has no end: whether it has nothing to give at present.
    is_idle: Option<watch::Receiver<bool>>,
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

    /// At most `rows` rows of a subscription: those that come until `deadline`, or, without one, those that are there.
    async fn take_until(
        &mut self,
        rows: u64,
        deadline: Option<Instant>,
        mut is_idle: watch::Receiver<bool>,
    ) -> Result<Vec<RecordBatch>, PgError> {
        let mut taken = Vec::new();
        let mut wanted = usize::try_from(rows).unwrap_or(usize::MAX);
        while wanted > 0 {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => {
                    let over = async {
                        match deadline {
                            Some(deadline) => sleep_until(deadline).await,
                            // an error: the stream is over, and says so by itself
                            None => drop(is_idle.wait_for(|is_idle| *is_idle).await),
                        }
                    };
                    tokio::select! {
                        biased;
                        batch = self.stream.next() => match batch {
                            Some(batch) => batch?,
                            None => break,
                        },
                        () = over => break,
                    }
                }
            };
            let count = batch.num_rows().min(wanted);
            if count < batch.num_rows() {
                self.rest = Some(batch.slice(count, batch.num_rows() - count));
            }
            wanted -= count;
            taken.push(batch.slice(0, count));
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

/// A duration as a setting would have it.
fn duration(text: &str) -> Result<Duration, PgError> {
    parse_duration("timeout", text).map_err(|_| {
        let message = format!("invalid value for timeout: \"{text}\"");
        let hint = "Write a number and a unit, such as '500ms', '1s' or '1min'.";
        PgError::new(SqlState::InvalidParameterValue, message).with_hint(hint)
    })
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
        self.check_declaration(name)?;
        let stream = self.query_stream(query, text, &[]).await?;
        self.add_cursor(name, stream, None)
    }

    /// `DECLARE ... CURSOR FOR SUBSCRIBE ...`.
    pub async fn declare_subscription(
        &mut self,
        name: &str,
        subscribe: &Subscribe,
    ) -> Result<Execution, PgError> {
        self.check_declaration(name)?;
        let following = self.follow(subscribe).await?;
        self.add_cursor(name, following.stream, Some(following.is_idle))
    }

    fn check_declaration(&self, name: &str) -> Result<(), PgError> {
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
        Ok(())
    }

    fn add_cursor(
        &mut self,
        name: &str,
        stream: SendableRecordBatchStream,
        is_idle: Option<watch::Receiver<bool>>,
    ) -> Result<Execution, PgError> {
        let cursor = Cursor {
            schema: stream.schema(),
            stream,
            rest: None,
            is_idle,
        };
        self.cursors.insert(name.to_string(), cursor);
        Ok(Execution::Command {
            tag: "DECLARE CURSOR".to_string(),
        })
    }

    pub async fn fetch(
        &mut self,
        name: &str,
        count: FetchCount,
        timeout: Option<&str>,
    ) -> Result<Execution, PgError> {
        let cursor = self.cursors.get_mut(name).ok_or_else(|| undefined(name))?;
        let deadline = match timeout {
            Some(text) => Some(Instant::now() + duration(text)?),
            None => None,
        };
        let batches = match (&cursor.is_idle, count) {
            (Some(is_idle), count) => {
                let rows = match count {
                    FetchCount::All => u64::MAX,
                    FetchCount::Rows(rows) => rows,
                };
                let is_idle = is_idle.clone();
                Some(cursor.take_until(rows, deadline, is_idle).await?)
            }
            (None, FetchCount::All) => None,
            (None, FetchCount::Rows(rows)) => Some(cursor.take(rows).await?),
        };
        let stream: SendableRecordBatchStream = match batches {
            None => cursor.take_all(),
            Some(batches) => {
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
            is_idle: None,
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
