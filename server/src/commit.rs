//! How a change of rows is committed: by itself, or with the rest of its transaction.
//!
//! A change is computed on a snapshot, and the engine refuses it if rows that it takes away are gone by then. A
//! statement by itself, and an implicit transaction of which the client knows nothing but tags, is then run again; in
//! the end with a turn of its own at the table, so that it always comes through.

use datafusion::scalar::ScalarValue;
use rivermark_executor::ExecutorError;
use rivermark_executor::api::TableWrite;
use rivermark_planner::ObjectId;

use crate::dml::{Change, Dml};
use crate::pg_error::PgError;
use crate::serve::ServerState;
use crate::session::{Session, SessionStatement};
use crate::session_api::Execution;
use crate::transaction::{OpenTransaction, Step, Transaction};

/// How often a statement by itself is tried before it asks for a turn of its own.
const FREE_TRIES: usize = 3;

/// Tables that lose rows.
fn reduced(writes: &[TableWrite]) -> impl Iterator<Item = ObjectId> {
    let reduced = writes.iter().filter(|write| write.delete.is_some());
    reduced.map(|write| write.table)
}

/// Gives writes to the engine, as one change.
async fn write_shared(server: &ServerState, writes: Vec<TableWrite>) -> Result<(), ExecutorError> {
    if writes.is_empty() {
        return Ok(());
    }
    let _turns = server.turns.shared(reduced(&writes)).await;
    server.engine.write(writes).await.map(|_| ())
}

async fn commit(server: &ServerState, open: &OpenTransaction) -> Result<(), ExecutorError> {
    write_shared(server, open.net_writes()?).await
}

impl Session {
    /// Runs an INSERT, UPDATE or DELETE.
    pub async fn change_rows(
        &mut self,
        statement: &SessionStatement,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let dml = self.dml(&statement.statement)?;
        let rows = if self.transaction.is_open() {
            let rows = self.defer(&dml, values).await?;
            if let Transaction::Implicit(open) = &mut self.transaction {
                let step = Step {
                    statement: statement.clone(),
                    values: values.to_vec(),
                    rows,
                };
                open.keep(step, &self.server.queries.env().memory_pool)?;
            }
            rows
        } else {
            self.change_alone(&dml, values).await?
        };
        Ok(Execution::Command { tag: dml.tag(rows) })
    }

    /// Runs a statement that is a transaction of its own.
    async fn change_alone(&mut self, dml: &Dml, values: &[ScalarValue]) -> Result<usize, PgError> {
        let server = self.server.clone();
        let mut own_turn = Vec::new();
        for attempt in 1.. {
            if attempt > FREE_TRIES && own_turn.is_empty() {
                own_turn = server.turns.exclusive([dml.table()]).await;
            }
            let Change { write, rows } = self.compute(dml, values).await?;
            if write.delete.is_none() && write.insert.is_none() {
                return Ok(rows);
            }
            let written = if own_turn.is_empty() {
                write_shared(&server, vec![write]).await
            } else {
                server.engine.write(vec![write]).await.map(|_| ())
            };
            match written {
                // Answered when the change that was in the way is published: the next snapshot has it.
                Err(ExecutorError::Conflict) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(rows),
            }
        }
        Err(ExecutorError::Conflict.into())
    }

    /// Computes a statement's change and keeps it until the transaction ends; the number of rows.
    async fn defer(&mut self, dml: &Dml, values: &[ScalarValue]) -> Result<usize, PgError> {
        if let Some(open) = self.transaction.open() {
            open.pin(&self.server.engine);
        }
        let Change { write, rows } = self.compute(dml, values).await?;
        if let Some(open) = self.transaction.open() {
            let pool = &self.server.queries.env().memory_pool;
            open.defer(&write, &self.server.engine, pool)?;
        }
        Ok(rows)
    }

    /// Commits a block; a conflict is the client's to resolve, who has read what it wrote by.
    pub async fn commit_block(&mut self, open: OpenTransaction) -> Result<(), PgError> {
        Ok(commit(&self.server, &open).await?)
    }

    /// Ends an implicit transaction, if there is one.
    pub async fn commit_implicit(&mut self) -> Result<(), PgError> {
        let open = match std::mem::take(&mut self.transaction) {
            Transaction::Implicit(open) => open,
            other => {
                self.transaction = other;
                return Ok(());
            }
        };
        let result = match commit(&self.server, &open).await {
            Err(ExecutorError::Conflict) if !open.has_shown => self.commit_again(open).await,
            other => other.map_err(PgError::from),
        };
        self.transaction = Transaction::None;
        self.block_ends(result.is_ok());
        result
    }

    /// Runs the statements again with turns of their own; they must change as many rows as the client was told.
    async fn commit_again(&mut self, open: OpenTransaction) -> Result<(), PgError> {
        let server = self.server.clone();
        let OpenTransaction { writes, steps, .. } = open;
        let tables: Vec<ObjectId> = writes.keys().copied().collect();
        drop(writes);
        let _turns = server.turns.exclusive(tables).await;
        self.transaction = Transaction::Implicit(OpenTransaction::default());
        for step in steps {
            let dml = self.dml(&step.statement.statement)?;
            if self.defer(&dml, &step.values).await? != step.rows {
                return Err(ExecutorError::Conflict.into());
            }
        }
        let again = self.transaction.open();
        let writes = again.map_or(Ok(Vec::new()), |open| open.net_writes())?;
        if !writes.is_empty() {
            server.engine.write(writes).await?;
        }
        Ok(())
    }
}
