//! Transactions of a session: one epoch for all reads, writes kept back until COMMIT.
//!
//! At COMMIT all writes go to the engine as one change; rows that someone else changed meanwhile are a serialization
//! failure. A transaction does not see its own writes, so a table that it wrote can not be read in it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use rivermark_executor::api::TableWrite;
use rivermark_executor::engine::Engine;
use rivermark_executor::snapshot::Snapshot;
use rivermark_planner::ObjectId;

use crate::pg_error::PgError;
use crate::session_api::TransactionStatus;
use crate::sqlstate::SqlState;

/// The state of a session's transaction block.
#[derive(Default)]
pub enum Transaction {
    #[default]
    None,
    Open(OpenTransaction),
    /// A statement failed: only the end of the block is accepted.
    Failed,
}

/// A transaction block that has not failed.
#[derive(Default)]
pub struct OpenTransaction {
    /// Taken by the first statement that reads.
    snapshot: Option<Arc<Snapshot>>,
    writes: Vec<TableWrite>,
}

impl Transaction {
    pub fn status(&self) -> TransactionStatus {
        match self {
            Transaction::None => TransactionStatus::Idle,
            Transaction::Open(_) => TransactionStatus::InTransaction,
            Transaction::Failed => TransactionStatus::Failed,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Transaction::Open(_))
    }

    /// The snapshot that a statement reads: the block's, or the newest.
    pub fn snapshot(&mut self, engine: &Engine) -> Arc<Snapshot> {
        match self {
            Transaction::Open(open) => open
                .snapshot
                .get_or_insert_with(|| engine.snapshot())
                .clone(),
            Transaction::None | Transaction::Failed => engine.snapshot(),
        }
    }

    /// Tables that the block has written: they can not be read in it.
    pub fn written(&self) -> BTreeSet<ObjectId> {
        match self {
            Transaction::Open(open) => open.writes.iter().map(|w| w.table).collect(),
            Transaction::None | Transaction::Failed => BTreeSet::new(),
        }
    }

    /// Keeps a statement's writes until the block ends. Outside of a block this must not be called.
    pub fn defer(&mut self, write: TableWrite) {
        match self {
            Transaction::Open(open) => open.writes.push(write),
            Transaction::None | Transaction::Failed => {
                unreachable!("writes are deferred in an open transaction only")
            }
        }
    }

    /// A statement of the block failed.
    pub fn fail(&mut self) {
        if self.is_open() {
            *self = Transaction::Failed;
        }
    }

    /// Ends the block; `true` if it was committed, `false` if it had failed before.
    pub async fn commit(&mut self, engine: &Engine) -> Result<bool, PgError> {
        match std::mem::take(self) {
            Transaction::None => Ok(true),
            Transaction::Failed => Ok(false),
            Transaction::Open(open) if open.writes.is_empty() => Ok(true),
            Transaction::Open(open) => {
                engine.write(open.writes).await?;
                Ok(true)
            }
        }
    }
}

/// The error for a statement that a failed block does not accept.
pub fn in_failed_transaction() -> PgError {
    PgError::new(
        SqlState::InFailedSqlTransaction,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// The error for reading a table that the transaction has written.
pub fn own_writes(table: &str) -> PgError {
    PgError::new(
        SqlState::FeatureNotSupported,
        format!("reading \"{table}\" in the transaction that has written it is not supported"),
    )
    .with_hint("Own writes become visible at COMMIT. Read before writing, or commit first.")
}

/// The error for a statement that can not be part of a block.
pub fn refused_in_block(what: &str) -> PgError {
    PgError::new(
        SqlState::ActiveSqlTransaction,
        format!("{what} cannot run inside a transaction block"),
    )
}
