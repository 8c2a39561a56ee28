//! How a change of rows is committed: by itself, or with the rest of its transaction.
//!
//! A change is computed on a snapshot, and the engine refuses it if rows that it takes away are gone by then. A
//! statement by itself, and an implicit transaction of which the client knows nothing but tags, is then run again; in
//! the end with a turn of its own at the table, so that it always comes through.

use datafusion::scalar::ScalarValue;
use rivermark_executor::ExecutorError;
use rivermark_executor::api::TableWrite;
use rivermark_planner::ObjectId;

use crate::ddl::ATTEMPTS;
use crate::dml::{Change, Dml, Returned};
use crate::pg_error::PgError;
use crate::serve::ServerState;
use crate::session::{Session, SessionStatement};
use crate::session_api::{Execution, RowTag};
use crate::transaction::{OpenTransaction, Step, Transaction};

/// How often a statement by itself is tried before it asks for a turn of its own.
const FREE_TRIES: usize = 3;
/// How often it is tried then. Only plain INSERTs of the keys of an ON CONFLICT can still get in the way, each of them
/// once.
const OWN_TRIES: usize = 1000;

/// Gives writes to the engine, as one change. Whoever takes rows away, or has decided by which keys are taken, has a
/// shared turn at the table; an INSERT that wants a key for itself needs none.
async fn write_shared(
    server: &ServerState,
    writes: Vec<TableWrite>,
    is_upsert: bool,
) -> Result<(), ExecutorError> {
    if writes.is_empty() {
        return Ok(());
    }
    let needs_turn = |write: &&TableWrite| is_upsert || write.delete.is_some();
    let tables = writes.iter().filter(needs_turn).map(|write| write.table);
    let _turns = server.turns.shared(tables).await;
    write(server, writes, is_upsert).await
}

/// A key that was taken after a statement with ON CONFLICT had looked is a conflict like any other.
async fn write(
    server: &ServerState,
    writes: Vec<TableWrite>,
    is_upsert: bool,
) -> Result<(), ExecutorError> {
    match server.engine.write(writes).await {
        Err(ExecutorError::UniqueViolation { .. }) if is_upsert => Err(ExecutorError::Conflict),
        other => other.map(|_| ()),
    }
}

async fn commit(server: &ServerState, open: &OpenTransaction) -> Result<(), ExecutorError> {
    write_shared(server, open.net_writes()?, open.has_upserts).await
}

/// What a statement has done.
struct Outcome {
    rows: usize,
    returned: Option<Returned>,
}

impl Change {
    fn parts(self) -> (Vec<TableWrite>, Outcome) {
        let Change {
            writes,
            rows,
            returned,
        } = self;
        (writes, Outcome { rows, returned })
    }
}

impl Session {
    /// Runs an INSERT, UPDATE, DELETE or TRUNCATE.
    pub async fn change_rows(
        &mut self,
        statement: &SessionStatement,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let mut dml = self.bound_change(statement, values)?;
        let Outcome { rows, returned } = if self.transaction.is_open() {
            let outcome = self.defer(&dml, values).await?;
            if let Transaction::Implicit(open) = &mut self.transaction {
                let step = Step {
                    statement: statement.clone(),
                    values: values.to_vec(),
                    rows: outcome.rows,
                };
                open.keep(step, &self.server.queries.env().memory_pool)?;
                open.has_shown |= outcome.returned.is_some();
            }
            outcome
        } else {
            let mut attempt = 1;
            loop {
                match self.change_alone(&dml, values, attempt < ATTEMPTS).await? {
                    Some(outcome) => break outcome,
                    // The table has changed its form, or is gone.
                    None => dml = self.dml(&statement.statement)?,
                }
                attempt += 1;
            }
        };
        Ok(match returned {
            Some(returned) => Execution::Rows {
                stream: returned.into_stream(),
                tag: RowTag::Counted(dml.tag_words()),
            },
            None => Execution::Command { tag: dml.tag(rows) },
        })
    }

    /// Runs a statement that is a transaction of its own; `None`: it may be planned again, and has to be.
    async fn change_alone(
        &mut self,
        dml: &Dml,
        values: &[ScalarValue],
        may_plan_again: bool,
    ) -> Result<Option<Outcome>, PgError> {
        let server = self.server.clone();
        let is_upsert = dml.is_upsert();
        let mut own_turn = Vec::new();
        for attempt in 1..=FREE_TRIES + OWN_TRIES {
            if attempt > FREE_TRIES && own_turn.is_empty() {
                own_turn = server.turns.exclusive(dml.tables()).await;
            }
            let (writes, outcome) = self.compute(dml, values).await?.parts();
            if writes.is_empty() {
                return Ok(Some(outcome));
            }
            let written = if own_turn.is_empty() {
                write_shared(&server, writes, is_upsert).await
            } else {
                write(&server, writes, is_upsert).await
            };
            match written {
                // Answered when the change that was in the way is published: the next snapshot has it.
                Err(ExecutorError::Conflict) => {}
                Err(ExecutorError::CatalogChanged) if may_plan_again => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(Some(outcome)),
            }
        }
        Err(ExecutorError::Conflict.into())
    }

    /// Computes a statement's change and keeps it until the transaction ends.
    async fn defer(&mut self, dml: &Dml, values: &[ScalarValue]) -> Result<Outcome, PgError> {
        if let Some(open) = self.transaction.open() {
            open.pin(&self.server.engine);
        }
        let (writes, outcome) = self.compute(dml, values).await?.parts();
        if let Some(open) = self.transaction.open() {
            let pool = &self.server.queries.env().memory_pool;
            open.has_upserts |= dml.is_upsert();
            for write in &writes {
                open.defer(write, dml.is_upsert(), &self.server.engine, pool)?;
            }
        }
        Ok(outcome)
    }

    /// Stores the rows of a COPY, or keeps them until the transaction ends.
    pub async fn store_copied(&mut self, write: TableWrite) -> Result<(), PgError> {
        let server = self.server.clone();
        let Some(open) = self.transaction.open() else {
            return Ok(write_shared(&server, vec![write], false).await?);
        };
        // Its data can not be asked for again.
        open.has_shown = true;
        open.pin(&server.engine);
        let pool = &server.queries.env().memory_pool;
        open.defer(&write, false, &server.engine, pool)
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
        for _ in 0..OWN_TRIES {
            self.transaction = Transaction::Implicit(OpenTransaction::default());
            for step in &steps {
                let dml = self.dml(&step.statement.statement)?;
                if self.defer(&dml, &step.values).await?.rows != step.rows {
                    return Err(ExecutorError::Conflict.into());
                }
            }
            let Some(again) = self.transaction.open() else {
                return Ok(());
            };
            let (writes, is_upsert) = (again.net_writes()?, again.has_upserts);
            if writes.is_empty() {
                return Ok(());
            }
            match write(&server, writes, is_upsert).await {
                Err(ExecutorError::Conflict) => {}
                other => return Ok(other?),
            }
        }
        Err(ExecutorError::Conflict.into())
    }
}
