//! The boundary between a connection and what it serves. The wire code (`wire/`) knows messages, formats and flow
//! control and nothing of SQL; a [`SqlSession`] knows SQL and nothing of messages. One session belongs to one
//! connection and is only ever used by that connection's task.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use rivermark_planner::statement::CopyOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pg_error::{Notice, PgError};
use crate::sqlstate::SqlState;
use crate::wire::CancelSignal;
use crate::wire::time_zone::SessionTimeZone;

/// Makes a session for every client that has passed authentication.
#[async_trait]
pub trait SessionFactory: Send + Sync + 'static {
    type Session: SqlSession + 'static;

    /// Opens a session. An error is sent to the client as FATAL and closes the connection.
    async fn connect(&self, start: SessionStart) -> Result<Self::Session, PgError>;
}

/// What is known of a client when its session begins.
#[derive(Debug)]
pub struct SessionStart {
    /// The number that `pg_backend_pid()` shows and a cancel request names.
    pub pid: i32,
    pub peer: Option<SocketAddr>,
    pub user: String,
    pub database: String,
    /// All other startup parameters (`application_name`, `DateStyle`, ...), with those of `options` (`-c name=value`)
    /// merged in. Names are as the client wrote them.
    pub settings: BTreeMap<String, String>,
    /// For what the client is to hear while a statement runs, or while it is idle.
    pub outlet: Outlet,
    /// For other sessions that cancel or end this one.
    pub reach: Reach,
}

/// Reaches a connection from elsewhere.
#[derive(Debug, Clone)]
pub struct Reach {
    pub(crate) cancel: Arc<CancelSignal>,
    pub(crate) end: CancellationToken,
}

impl Reach {
    /// Cancels the statement that runs, if one does.
    pub fn cancel_statement(&self) {
        self.cancel.request();
    }

    /// Ends the connection, as a server does that stops.
    pub fn end_connection(&self) {
        self.end.cancel();
    }
}

/// A bounded queue of messages to a client that belong to no statement's result.
#[derive(Debug, Clone)]
pub struct Outlet(pub(crate) mpsc::Sender<ServerMessage>);

impl Outlet {
    /// Queues a message. A full queue (the client does not read) or a closed connection drops it and returns false.
    pub fn send(&self, message: ServerMessage) -> bool {
        self.0.try_send(message).is_ok()
    }
}

/// A message that may be sent at any time between two others.
#[derive(Debug, Clone)]
pub enum ServerMessage {
    Notice(Notice),
    /// `NOTIFY` to a client that listens. `pid` is the notifying session's.
    Notification {
        pid: i32,
        channel: String,
        payload: String,
    },
}

/// What ReadyForQuery reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    /// In a transaction block that failed: only its end is accepted.
    Failed,
}

/// Types of a statement's parameters and of its result.
#[derive(Debug, Clone)]
pub struct StatementShape {
    /// One field per `$n`, in order. The field's metadata tells uuid, json and jsonb from text.
    pub parameters: Vec<FieldRef>,
    /// The result's columns; `None` for a statement that returns no rows.
    pub result: Option<SchemaRef>,
}

/// Prepared statements that the session has dropped by SQL (`DEALLOCATE`, `DISCARD ALL`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deallocated {
    Named(String),
    All,
}

/// A session's behaviour, in the order in which a statement meets it.
///
/// Every future may be dropped before it is complete: the client cancelled or vanished, or the server stops. The
/// session must then be in a state in which [`SqlSession::statement_failed`] puts things right.
#[async_trait]
pub trait SqlSession: Send {
    type Statement: Clone + Send + Sync + 'static;

    /// Splits a text into statements; none for a text of blanks and comments. Error positions count characters of `sql`.
    async fn parse(&mut self, sql: &str) -> Result<Vec<Self::Statement>, PgError>;

    /// Types of parameters and result. `declared[i]` is the OID the client gave for `$i+1`, `None` to infer it.
    async fn describe(
        &mut self,
        statement: &Self::Statement,
        declared: &[Option<u32>],
    ) -> Result<StatementShape, PgError>;

    /// The next statement is not the only one up to `sync`: outside of a block, they are one implicit transaction.
    fn begin_implicit(&mut self) {}

    /// Runs a statement. `parameters` have the types of the shape that `describe` gave (an empty slice for the simple
    /// protocol). Rows are pulled from the returned stream as fast as the client takes them.
    async fn execute(
        &mut self,
        statement: &Self::Statement,
        parameters: &[ScalarValue],
    ) -> Result<Execution, PgError>;

    /// Data of the COPY that `execute` has begun.
    async fn copy_data(&mut self, _data: Bytes) -> Result<(), PgError> {
        Err(no_copy())
    }

    /// All data of the COPY has come; its tag.
    async fn copy_done(&mut self) -> Result<String, PgError> {
        Err(no_copy())
    }

    /// The client gives the COPY up; the error is the statement's.
    async fn copy_failed(&mut self, _reason: &str) -> Result<(), PgError> {
        Err(no_copy())
    }

    /// The end of a simple query or of a pipeline (Sync): an implicit transaction commits here. In a failed
    /// implicit transaction (`statement_failed` was called) there is nothing left to commit.
    async fn sync(&mut self) -> Result<(), PgError>;

    /// A statement failed, was cancelled or was given up, in any of the steps above or while its rows were read:
    /// an implicit transaction is rolled back, an explicit one becomes `Failed`.
    fn statement_failed(&mut self, error: &PgError);

    /// All that the client has asked for is answered.
    fn rests(&mut self) {}

    fn transaction_status(&self) -> TransactionStatus;

    /// Notices since the last call; they are sent before the statement's CommandComplete or error.
    fn take_notices(&mut self) -> Vec<Notice>;

    /// All reported parameters (`server_version`, `client_encoding`, `DateStyle`, ...), sent once at the start.
    fn reported_parameters(&self) -> Vec<(String, String)>;

    /// Reported parameters that have changed since the last call (`SET TimeZone`, also a rollback's undoing of it).
    fn take_parameter_changes(&mut self) -> Vec<(String, String)>;

    /// The zone in which `timestamptz` values are printed and read.
    fn time_zone(&self) -> SessionTimeZone;

    /// A named statement was prepared by the Parse message: SQL's `EXECUTE` and `DEALLOCATE` share its namespace.
    fn statement_prepared(
        &mut self,
        _name: &str,
        _statement: &Self::Statement,
        _shape: &StatementShape,
    ) {
    }

    /// A named prepared statement was closed by the Close message.
    fn statement_closed(&mut self, _name: &str) {}

    /// Prepared statements dropped by SQL since the last call.
    fn take_deallocated(&mut self) -> Vec<Deallocated> {
        Vec::new()
    }
}

/// What running a statement gives.
pub enum Execution {
    /// A statement without rows, complete: `CREATE TABLE`, `INSERT 0 3`.
    Command { tag: String },
    /// Rows, sent as they come.
    Rows {
        stream: SendableRecordBatchStream,
        tag: RowTag,
    },
    /// `COPY ... TO STDOUT`.
    CopyOut {
        stream: SendableRecordBatchStream,
        options: CopyOptions,
    },
    /// `COPY ... FROM STDIN`: the session waits for `copy_data`, then `copy_done` or `copy_failed`.
    CopyIn { columns: usize, is_binary: bool },
}

fn no_copy() -> PgError {
    PgError::new(SqlState::InternalError, "no COPY is under way")
}

/// The command tag of a statement with rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowTag {
    /// The words, then the number of rows sent: `SELECT 3`, `FETCH 3`, `INSERT 0 3`.
    Counted(&'static str),
    /// Only the words: `SHOW`, `EXPLAIN`.
    Fixed(String),
}

impl RowTag {
    pub const SELECT: RowTag = RowTag::Counted("SELECT");

    /// The tag after `rows` rows.
    pub fn render(&self, rows: u64) -> String {
        match self {
            RowTag::Counted(words) => format!("{words} {rows}"),
            RowTag::Fixed(words) => words.clone(),
        }
    }
}
