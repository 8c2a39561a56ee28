//! The state of a session's transaction: one epoch for all reads, writes kept back until it ends.
//!
//! At the end all writes go to the engine as one change. Tables are read with the transaction's own writes on top;
//! materialized views stay at its epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::scalar::ScalarValue;
use rivermark_executor::api::TableWrite;
use rivermark_executor::engine::Engine;
use rivermark_executor::snapshot::Snapshot;
use rivermark_executor::{ExecutorError, OwnWrites};
use rivermark_planner::ObjectId;

use crate::pg_error::PgError;
use crate::savepoints::Savepoint;
use crate::session::SessionStatement;
use crate::session_api::TransactionStatus;
use crate::sqlstate::SqlState;

/// What a kept statement takes besides its parameters.
const STEP_BYTES: usize = 128;

/// The state of a session's transaction.
#[derive(Default)]
pub enum Transaction {
    /// The next statement is a transaction of its own.
    #[default]
    None,
    /// The statements of one message or pipeline, outside of a block.
    Implicit(OpenTransaction),
    /// A block, from BEGIN on.
    Block(OpenTransaction),
    /// A statement of a block failed: only the end of the block is accepted, or of what follows a savepoint.
    Failed(OpenTransaction),
}

/// A transaction that has not failed.
#[derive(Default)]
pub struct OpenTransaction {
    /// Taken by the block's first statement, and by an implicit transaction's first that writes.
    snapshot: Option<Arc<Snapshot>>,
    pub writes: WrittenTables,
    /// An implicit transaction's statements that write, in order.
    pub steps: Vec<Step>,
    /// The client has seen more than the tags of the steps.
    pub has_shown: bool,
    /// Statements have decided by which keys are taken.
    pub has_upserts: bool,
    pub savepoints: Vec<Savepoint>,
    /// For writes and steps, within the queries' memory.
    memory: Option<MemoryReservation>,
}

/// Uncommitted changes by table; those whom a statement reads them for share them.
pub type WrittenTables = BTreeMap<ObjectId, Arc<OwnWrites>>;

/// A statement that can be run again, and the number of rows it has changed.
pub struct Step {
    pub statement: SessionStatement,
    pub values: Vec<ScalarValue>,
    pub rows: usize,
}

impl Transaction {
    pub fn status(&self) -> TransactionStatus {
        match self {
            Transaction::None | Transaction::Implicit(_) => TransactionStatus::Idle,
            Transaction::Block(_) => TransactionStatus::InTransaction,
            Transaction::Failed(_) => TransactionStatus::Failed,
        }
    }

    /// In a block that has not failed.
    pub fn is_block(&self) -> bool {
        matches!(self, Transaction::Block(_))
    }

    /// Whether writes are kept back.
    pub fn is_open(&self) -> bool {
        matches!(self, Transaction::Implicit(_) | Transaction::Block(_))
    }

    pub fn open(&mut self) -> Option<&mut OpenTransaction> {
        match self {
            Transaction::Implicit(open) | Transaction::Block(open) => Some(open),
            Transaction::None | Transaction::Failed(_) => None,
        }
    }

    /// The snapshot that a statement reads: the transaction's, or the newest.
    pub fn snapshot(&mut self, engine: &Engine) -> Arc<Snapshot> {
        match self {
            Transaction::Block(open) => open.pin(engine),
            Transaction::Implicit(open) => match &open.snapshot {
                Some(snapshot) => snapshot.clone(),
                None => engine.snapshot(),
            },
            Transaction::None | Transaction::Failed(_) => engine.snapshot(),
        }
    }

    /// What the transaction has written.
    pub fn written(&self) -> WrittenTables {
        match self {
            Transaction::Implicit(open) | Transaction::Block(open) => open.writes.clone(),
            Transaction::None | Transaction::Failed(_) => WrittenTables::new(),
        }
    }
}

impl OpenTransaction {
    /// Reads one epoch from here on.
    pub fn pin(&mut self, engine: &Engine) -> Arc<Snapshot> {
        let snapshot = self.snapshot.get_or_insert_with(|| engine.snapshot());
        snapshot.clone()
    }

    /// Keeps a statement's change until the transaction ends. An upsert has looked which keys are taken; if others
    /// have taken them since, the commit tells.
    pub fn defer(
        &mut self,
        write: &TableWrite,
        is_upsert: bool,
        engine: &Engine,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<(), PgError> {
        let newest = match is_upsert {
            true => self.pin(engine),
            false => engine.snapshot(),
        };
        let own = match self.writes.entry(write.table) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Arc::new(newest.own_writes(write.table)?))
            }
        };
        let before = own.bytes();
        // Copied only while something reads them, such as a cursor.
        let own = Arc::make_mut(own);
        own.add(&newest, write)?;
        let added = own.bytes() - before;
        self.reserve(added, pool)
    }

    /// Remembers a statement that has written, to run it again if it meets a conflict in the end.
    pub fn keep(&mut self, step: Step, pool: &Arc<dyn MemoryPool>) -> Result<(), PgError> {
        let values: usize = step.values.iter().map(ScalarValue::size).sum();
        self.steps.push(step);
        self.reserve(values + STEP_BYTES, pool)
    }

    fn reserve(&mut self, bytes: usize, pool: &Arc<dyn MemoryPool>) -> Result<(), PgError> {
        let reservation = self
            .memory
            .get_or_insert_with(|| MemoryConsumer::new("writes of a transaction").register(pool));
        Ok(reservation.try_grow(bytes)?)
    }

    /// The writes, one per table.
    pub fn net_writes(&self) -> Result<Vec<TableWrite>, ExecutorError> {
        let writes = self.writes.values().map(|own| own.net());
        writes.filter_map(Result::transpose).collect()
    }
}

/// The error for a statement that a failed block does not accept.
pub fn in_failed_transaction() -> PgError {
    PgError::new(
        SqlState::InFailedSqlTransaction,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// The error for a statement that can not be part of a block.
pub fn refused_in_block(what: &str) -> PgError {
    PgError::new(
        SqlState::ActiveSqlTransaction,
        format!("{what} cannot run inside a transaction block"),
    )
}
