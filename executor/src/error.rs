//! What can go wrong while running.

use thiserror::Error;

use crate::source::SourceError;

/// An error of the engine, told apart by whose it is to mend.
#[derive(Debug, Clone, Error)]
pub enum ExecutorError {
    /// A written row has a key that exists (or occurs twice in one statement).
    #[error("duplicate key value violates unique constraint \"{constraint}\"")]
    UniqueViolation { constraint: String, detail: String },
    /// A stored row has a NULL where none may be.
    #[error("{message}")]
    NotNullViolation { message: String },
    /// Another statement changed a row between this statement's read and its write; run it again.
    #[error("could not serialize access due to concurrent update")]
    Conflict,
    /// The catalog changed between planning and execution; plan again.
    #[error("the catalog changed while the statement was planned")]
    CatalogChanged,
    /// The relation can not be read in the state it is in.
    #[error("{message}")]
    NotReadable { message: String },
    /// A subscriber did not take what it subscribed to.
    #[error("{message}")]
    SubscriberTooSlow { message: String },
    /// A view or table in the way: dependants exist.
    #[error("{message}")]
    DependentObjects {
        message: String,
        dependents: Vec<String>,
    },
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An expression or aggregate failed.
    #[error("{0}")]
    Evaluation(String),
    /// Disk full, I/O errors: the environment's.
    #[error("storage: {0}")]
    Storage(String),
    #[error("out of memory: {0}")]
    ResourcesExhausted(String),
    #[error("canceling statement due to user request")]
    Cancelled,
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A bug of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

pub type Result<T, E = ExecutorError> = std::result::Result<T, E>;

impl From<arrow::error::ArrowError> for ExecutorError {
    fn from(error: arrow::error::ArrowError) -> Self {
        ExecutorError::Evaluation(error.to_string())
    }
}

impl From<datafusion::error::DataFusionError> for ExecutorError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError;
        match error.find_root() {
            DataFusionError::ResourcesExhausted(message) => {
                ExecutorError::ResourcesExhausted(message.clone())
            }
            DataFusionError::Internal(message) => ExecutorError::Internal(message.clone()),
            other => ExecutorError::Evaluation(other.strip_backtrace()),
        }
    }
}

/// The error as DataFusion carries it through a query.
pub fn external(error: ExecutorError) -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::External(Box::new(error))
}
