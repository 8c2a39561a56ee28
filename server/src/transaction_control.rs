//! BEGIN, COMMIT and ROLLBACK, and what a transaction makes of other statements.

use rivermark_planner::statement::{Discarded, Statement};

use crate::pg_error::{Notice, PgError};
use crate::session::Session;
use crate::sqlstate::SqlState;
use crate::transaction::{OpenTransaction, Transaction, refused_in_block};

/// The name of a statement that can not be undone: it is a transaction of its own, or waits for what others do.
fn stands_alone(statement: &Statement) -> Option<&'static str> {
    match statement {
        Statement::CreateSource { .. } => Some("CREATE SOURCE"),
        Statement::CreateTable { .. } => Some("CREATE TABLE"),
        Statement::CreateView { .. } => Some("CREATE VIEW"),
        Statement::CreateMaterializedView { .. } => Some("CREATE MATERIALIZED VIEW"),
        Statement::CreateSchema { .. } => Some("CREATE SCHEMA"),
        Statement::CreateIndex(_) => Some("CREATE INDEX"),
        Statement::Drop { .. } | Statement::DropSchema { .. } => Some("DROP"),
        Statement::Alter { .. } => Some("ALTER"),
        Statement::Comment { .. } => Some("COMMENT"),
        Statement::CreateRole { .. } => Some("CREATE ROLE"),
        Statement::AlterRole { .. } => Some("ALTER ROLE"),
        Statement::DropRole { .. } => Some("DROP ROLE"),
        Statement::CreateSecret { .. } => Some("CREATE SECRET"),
        Statement::DropSecret { .. } => Some("DROP SECRET"),
        Statement::Grant(grant) if grant.is_revoke => Some("REVOKE"),
        Statement::Grant(_) => Some("GRANT"),
        Statement::AlterSchemaOwner { .. } => Some("ALTER"),
        Statement::Reassign { .. } => Some("REASSIGN OWNED"),
        Statement::DropOwned { .. } => Some("DROP OWNED"),
        Statement::Flush => Some("FLUSH"),
        Statement::Vacuum => Some("VACUUM"),
        Statement::Discard(Discarded::All) => Some("DISCARD ALL"),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Truncate { .. }
        | Statement::Query(_)
        | Statement::Explain { .. }
        | Statement::ExplainRunning { .. }
        | Statement::CopyOut { .. }
        | Statement::CopyIn(_)
        | Statement::Show(_)
        | Statement::Describe { .. }
        | Statement::Set { .. }
        | Statement::Reset { .. }
        | Statement::Begin { .. }
        | Statement::Discard(_)
        | Statement::Commit
        | Statement::Rollback
        | Statement::Savepoint { .. }
        | Statement::Release { .. }
        | Statement::RollbackTo { .. }
        | Statement::Subscribe(_)
        | Statement::CopySubscription { .. }
        | Statement::DeclareSubscription { .. }
        | Statement::Listen { .. }
        | Statement::Unlisten { .. }
        | Statement::Notify { .. }
        | Statement::Prepare { .. }
        | Statement::Execute { .. }
        | Statement::Deallocate { .. }
        | Statement::DeclareCursor { .. }
        | Statement::Fetch { .. }
        | Statement::CloseCursor { .. } => None,
    }
}

/// What a read-only transaction does not do.
fn written_by(statement: &Statement) -> Option<&'static str> {
    match statement {
        Statement::Insert(_) => Some("INSERT"),
        Statement::Update(_) => Some("UPDATE"),
        Statement::Delete(_) => Some("DELETE"),
        Statement::Truncate { .. } => Some("TRUNCATE TABLE"),
        Statement::CopyIn(_) => Some("COPY FROM"),
        Statement::Flush | Statement::Vacuum | Statement::Discard(_) => None,
        other => stands_alone(other),
    }
}

impl Session {
    fn is_read_only(&self) -> bool {
        let settings = self.shared.settings.lock();
        match self.transaction.is_block() {
            true => settings.is_on("transaction_read_only"),
            false => settings.is_on("default_transaction_read_only"),
        }
    }

    /// A block refuses a statement that can not be undone; an implicit transaction ends before it.
    pub async fn prepare_transaction(&mut self, statement: &Statement) -> Result<(), PgError> {
        if let Some(verb) = written_by(statement)
            && self.is_read_only()
        {
            let message = format!("cannot execute {verb} in a read-only transaction");
            return Err(PgError::new(SqlState::ReadOnlySqlTransaction, message));
        }
        if let Some(name) = stands_alone(statement) {
            if self.transaction.is_block() {
                return Err(refused_in_block(name));
            }
            return self.commit_implicit().await;
        }
        let changes_rows = matches!(
            statement,
            Statement::Insert(_)
                | Statement::Update(_)
                | Statement::Delete(_)
                | Statement::Truncate { .. }
        );
        if !changes_rows
            // EXECUTE comes by here again with the statement it stands for
            && !matches!(statement, Statement::Execute { .. })
            && let Some(open) = self.transaction.open()
        {
            open.has_shown |= !open.steps.is_empty();
        }
        Ok(())
    }

    /// Runs BEGIN, COMMIT, ROLLBACK or what is about savepoints; the tag.
    pub async fn control_transaction(
        &mut self,
        statement: &Statement,
    ) -> Result<&'static str, PgError> {
        match statement {
            Statement::Begin { modes } => self.begin(modes),
            Statement::Commit => self.commit().await,
            Statement::Rollback => Ok(self.rollback()),
            Statement::Savepoint { name } => self.savepoint(name),
            Statement::Release { name } => self.release(name),
            Statement::RollbackTo { name } => self.rollback_to(name),
            other => {
                let message = format!("not about transactions: {other:?}");
                Err(PgError::new(SqlState::InternalError, message))
            }
        }
    }

    fn begin(&mut self, modes: &[(&'static str, String)]) -> Result<&'static str, PgError> {
        self.transaction = match std::mem::take(&mut self.transaction) {
            Transaction::None => {
                self.shared.settings.lock().begin();
                Transaction::Block(OpenTransaction::default())
            }
            // As in PostgreSQL, what came before in the same message belongs to the block.
            Transaction::Implicit(mut open) => {
                open.steps.clear();
                Transaction::Block(open)
            }
            open @ (Transaction::Block(_) | Transaction::Failed(_)) => {
                self.transaction = open;
                let message = "there is already a transaction in progress";
                self.notify(Notice::warning(SqlState::ActiveSqlTransaction, message));
                return Ok("BEGIN");
            }
        };
        let mut settings = self.shared.settings.lock();
        for name in ["transaction_read_only", "transaction_isolation"] {
            let default = settings.get(&format!("default_{name}"))?;
            settings.set(name, Some(&default), true)?;
        }
        for (name, value) in modes {
            settings.set(name, Some(value), true)?;
        }
        Ok("BEGIN")
    }

    fn warn_without_block(&mut self) {
        if matches!(
            self.transaction,
            Transaction::None | Transaction::Implicit(_)
        ) {
            let message = "there is no transaction in progress";
            self.notify(Notice::warning(SqlState::NoActiveSqlTransaction, message));
        }
    }

    async fn commit(&mut self) -> Result<&'static str, PgError> {
        self.warn_without_block();
        match std::mem::take(&mut self.transaction) {
            Transaction::None => Ok("COMMIT"),
            implicit @ Transaction::Implicit(_) => {
                self.transaction = implicit;
                self.commit_implicit().await?;
                Ok("COMMIT")
            }
            Transaction::Block(open) => {
                let result = self.commit_block(open).await;
                self.block_ends(result.is_ok());
                result.map(|()| "COMMIT")
            }
            Transaction::Failed(_) => {
                self.block_ends(false);
                Ok("ROLLBACK")
            }
        }
    }

    fn rollback(&mut self) -> &'static str {
        self.warn_without_block();
        self.transaction = Transaction::None;
        self.block_ends(false);
        "ROLLBACK"
    }
}
