//! The simple query protocol: one message with any number of statements, which form one implicit transaction; the
//! first error ends them all.

use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};

use super::connection::Connection;
use super::copy_out::copy_out;
use super::encode::Format;
use super::link::Fault;
use super::row_pump::{PumpEnd, RowSource, row_description};
use crate::session_api::{Execution, SqlSession};

impl<S: SqlSession> Connection<S> {
    /// Runs all statements of a Query message. ReadyForQuery is the caller's.
    pub async fn simple_query(&mut self, sql: &str) -> Result<(), Fault> {
        // As in PostgreSQL, a simple query ends the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.link.guard(self.session.parse(sql)).await??;
        let Some(last) = statements.len().checked_sub(1) else {
            self.put(&EmptyQueryResponse::new());
            return self.sync_session().await;
        };
        for (i, statement) in statements.iter().enumerate() {
            if last > 0 {
                self.session.begin_implicit();
            }
            let execution = self
                .link
                .guard(self.session.execute(statement, &[]))
                .await??;
            let tag = self.send_result(execution).await?;
            if i == last {
                // A commit that fails must be told instead of success, so it comes before the last tag.
                self.sync_session().await?;
            }
            self.put_notices();
            self.put(&CommandComplete::new(tag));
        }
        Ok(())
    }

    /// Sends what a statement gave, in text, and returns its tag.
    async fn send_result(&mut self, execution: Execution) -> Result<String, Fault> {
        match execution {
            Execution::Command { tag } => Ok(tag),
            Execution::Rows { stream, tag } => {
                let schema = stream.schema();
                let formats = vec![Format::Text; schema.fields().len()];
                self.put(&row_description(&schema, &formats));
                let mut rows = RowSource::new(stream, tag, formats, self.session.time_zone());
                match rows.pump(&mut self.link, None).await? {
                    PumpEnd::Complete { rows: n } | PumpEnd::Suspended { rows: n } => {
                        Ok(rows.tag.render(n))
                    }
                }
            }
            Execution::CopyIn { columns, is_binary } => self.copy_in(columns, is_binary).await,
            Execution::CopyOut { stream, options } => {
                copy_out(&mut self.link, stream, &options, &self.session.time_zone()).await
            }
        }
    }
}
