//! What can be wrong with a statement, told so that a person can mend it.

use thiserror::Error;

/// An error of parsing, binding or planning. All but `Internal` are the user's to mend.
#[derive(Debug, Clone, Error)]
pub enum PlanError {
    /// The text is not SQL that Rivermark speaks. `position` is the 1-based character where it went wrong.
    #[error("syntax error: {message}")]
    Syntax {
        message: String,
        position: Option<usize>,
    },
    /// A relation, column, function or schema that does not exist.
    #[error("{message}")]
    Undefined {
        kind: UndefinedKind,
        message: String,
        position: Option<usize>,
    },
    /// A name that is taken already.
    #[error("{message}")]
    Duplicate {
        kind: UndefinedKind,
        message: String,
    },
    /// Types do not fit (argument types, casts, comparison of unlike types).
    #[error("{message}")]
    TypeMismatch {
        message: String,
        position: Option<usize>,
    },
    /// The statement is well formed but what it asks can not be kept up to date, or is not supported.
    #[error("{feature} is not supported: {hint}")]
    Unsupported { feature: String, hint: String },
    /// A `WITH` or `ENCODE` option is unknown, missing or has a wrong value.
    #[error("{message}")]
    InvalidOption { message: String },
    /// A definition that contradicts itself (two primary keys, a watermark on a text column, ...).
    #[error("{message}")]
    InvalidDefinition {
        message: String,
        hint: Option<String>,
    },
    /// Grouping errors: a column that must appear in GROUP BY.
    #[error("{message}")]
    Grouping { message: String },
    /// An ambiguous column or function.
    #[error("{message}")]
    Ambiguous { message: String },
    /// Dropping what others depend on.
    #[error("{message}")]
    DependentObjects {
        message: String,
        dependents: Vec<String>,
    },
    /// A new definition that does not fit what depends on the old one.
    #[error("{message}")]
    Misfits {
        message: String,
        dependents: Vec<String>,
    },
    /// A statement on an object of another kind (`DROP TABLE` of a view).
    #[error("{message}")]
    WrongObjectKind {
        message: String,
        hint: Option<String>,
    },
    /// A constant expression that fails to evaluate (division by zero, overflow, bad cast).
    #[error("{message}")]
    Evaluation { message: String },
    /// A bug of ours.
    #[error("internal planner error: {0}")]
    Internal(String),
}

/// What kind of thing a name was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndefinedKind {
    Relation,
    Column,
    Function,
    Schema,
    Type,
    Parameter,
    PreparedStatement,
    Cursor,
    Constraint,
}

pub type Result<T, E = PlanError> = std::result::Result<T, E>;

impl PlanError {
    /// `feature` is known but refused; `hint` says what to write instead.
    pub fn unsupported(feature: impl Into<String>, hint: impl Into<String>) -> Self {
        PlanError::Unsupported {
            feature: feature.into(),
            hint: hint.into(),
        }
    }

    /// A definition that contradicts itself, with nothing to add.
    pub fn invalid_definition(message: impl Into<String>) -> Self {
        PlanError::InvalidDefinition {
            message: message.into(),
            hint: None,
        }
    }

    /// A wrong, unknown or missing option.
    pub fn invalid_option(message: impl Into<String>) -> Self {
        PlanError::InvalidOption {
            message: message.into(),
        }
    }

    /// The 1-based character of the query string where the error is, where that is known.
    pub fn position(&self) -> Option<usize> {
        match self {
            PlanError::Syntax { position, .. }
            | PlanError::Undefined { position, .. }
            | PlanError::TypeMismatch { position, .. } => *position,
            PlanError::Duplicate { .. }
            | PlanError::Unsupported { .. }
            | PlanError::InvalidOption { .. }
            | PlanError::InvalidDefinition { .. }
            | PlanError::Grouping { .. }
            | PlanError::Ambiguous { .. }
            | PlanError::DependentObjects { .. }
            | PlanError::Misfits { .. }
            | PlanError::WrongObjectKind { .. }
            | PlanError::Evaluation { .. }
            | PlanError::Internal(_) => None,
        }
    }

    /// What to do about it, where the message does not say so itself.
    pub fn hint(&self) -> Option<&str> {
        match self {
            PlanError::InvalidDefinition { hint, .. } | PlanError::WrongObjectKind { hint, .. } => {
                hint.as_deref()
            }
            PlanError::Unsupported { .. }
            | PlanError::Syntax { .. }
            | PlanError::Undefined { .. }
            | PlanError::TypeMismatch { .. }
            | PlanError::Duplicate { .. }
            | PlanError::InvalidOption { .. }
            | PlanError::Grouping { .. }
            | PlanError::Ambiguous { .. }
            | PlanError::DependentObjects { .. }
            | PlanError::Misfits { .. }
            | PlanError::Evaluation { .. }
            | PlanError::Internal(_) => None,
        }
    }
}
