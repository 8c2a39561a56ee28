//! What can go wrong in the state store, whose fault it is and whether trying again can help.

use std::path::PathBuf;

/// An error of the state store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The device of the data directory has no room left.
    #[error(
        "the disk of the data directory is full: {0}; free some space, the server goes on by itself"
    )]
    DiskFull(String),
    /// Another process has the data directory open.
    #[error("the data directory {} is in use by another server; stop it, or give this one another --data-dir", .0.display())]
    Locked(PathBuf),
    /// The data directory was written in a format that this binary does not read.
    #[error(
        "the data directory {} has storage format {found}, this server reads format {expected}; start it with the \
         version that wrote the directory, or with a new --data-dir", path.display()
    )]
    Format {
        /// The data directory.
        path: PathBuf,
        /// What the directory says.
        found: String,
        /// What this binary reads.
        expected: u32,
    },
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// The operating system refused an operation for another reason than missing space.
    #[error("input/output error in the data directory: {0}")]
    Io(String),
    /// The database is being reopened after an error; a snapshot of before is gone.
    #[error("the state store was reopened after an error; run the statement again")]
    Reopened,
    /// A data type that keys or rows cannot hold.
    #[error("type {0} cannot be stored")]
    Unsupported(String),
    /// The caller broke a rule of this module.
    #[error("internal error in the state store: {0}")]
    Bug(String),
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateErrorKind {
    /// The machine or the way the server was started.
    Environment,
    /// The request: it cannot be done.
    Request,
    /// Rivermark, or damaged hardware.
    Internal,
}

impl StateError {
    /// Whether the same call can succeed later without anybody changing the program or the data.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::DiskFull(_) | Self::Io(_) | Self::Reopened => true,
            Self::Locked(_)
            | Self::Format { .. }
            | Self::Corrupt(_)
            | Self::Unsupported(_)
            | Self::Bug(_) => false,
        }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> StateErrorKind {
        match self {
            Self::DiskFull(_)
            | Self::Locked(_)
            | Self::Format { .. }
            | Self::Io(_)
            | Self::Reopened => StateErrorKind::Environment,
            Self::Unsupported(_) => StateErrorKind::Request,
            Self::Corrupt(_) | Self::Bug(_) => StateErrorKind::Internal,
        }
    }
}

impl From<rocksdb::Error> for StateError {
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let text = error.into_string();
        if text.contains("No space left on device") || text.contains("NoSpace") {
            return Self::DiskFull(text);
        }
        match kind {
            rocksdb::ErrorKind::Corruption => Self::Corrupt(text),
            rocksdb::ErrorKind::NotSupported | rocksdb::ErrorKind::InvalidArgument => {
                Self::Bug(text)
            }
            _ => Self::Io(text),
        }
    }
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull(error.to_string())
            }
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<arrow::error::ArrowError> for StateError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<StateError> for crate::error::ExecutorError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Bug(_) | StateError::Corrupt(_) => Self::Internal(error.to_string()),
            StateError::DiskFull(_)
            | StateError::Locked(_)
            | StateError::Format { .. }
            | StateError::Io(_)
            | StateError::Reopened
            | StateError::Unsupported(_) => Self::Storage(error.to_string()),
        }
    }
}
