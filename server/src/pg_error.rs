//! Errors and notices as clients see them, and the one translation of every layer's errors into them.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use rivermark_executor::error::ExecutorError;
use rivermark_executor::source::SourceError;
use rivermark_planner::error::{PlanError, UndefinedKind};
use rivermark_planner::pg_text::ValueError;
use thiserror::Error;

use crate::evaluation_state::evaluation_error;
use crate::sqlstate::SqlState;

/// How bad an error is: `Fatal` also ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Fatal,
}

/// An error in PostgreSQL's terms.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct PgError {
    pub severity: Severity,
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// 1-based character of the statement's text.
    pub position: Option<usize>,
    /// Where in the data of a COPY.
    pub context: Option<String>,
}

impl PgError {
    pub fn new(state: SqlState, message: impl Into<String>) -> PgError {
        PgError {
            severity: Severity::Error,
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
        }
    }

    /// An error that ends the connection.
    pub fn fatal(state: SqlState, message: impl Into<String>) -> PgError {
        PgError {
            severity: Severity::Fatal,
            ..PgError::new(state, message)
        }
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> PgError {
        self.detail = Some(detail.into());
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> PgError {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_context(mut self, context: impl Into<String>) -> PgError {
        self.context = Some(context.into());
        self
    }

    pub fn at(mut self, position: Option<usize>) -> PgError {
        self.position = position;
        self
    }

    pub fn cancelled() -> PgError {
        PgError::new(
            SqlState::QueryCanceled,
            "canceling statement due to user request",
        )
    }
}

/// Levels of a message that is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeLevel {
    Notice,
    Warning,
}

/// A message beside a statement's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub level: NoticeLevel,
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Notice {
    pub fn new(message: impl Into<String>) -> Notice {
        Notice {
            level: NoticeLevel::Notice,
            state: SqlState::SuccessfulCompletion,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    pub fn warning(state: SqlState, message: impl Into<String>) -> Notice {
        Notice {
            level: NoticeLevel::Warning,
            state,
            ..Notice::new(message)
        }
    }
}

impl From<PlanError> for PgError {
    fn from(error: PlanError) -> PgError {
        let message = error.to_string();
        match error {
            PlanError::Syntax { message, position } => {
                let message = if message.starts_with("syntax error") {
                    message
                } else {
                    format!("syntax error: {message}")
                };
                PgError::new(SqlState::SyntaxError, message).at(position)
            }
            PlanError::Undefined { kind, position, .. } => {
                PgError::new(undefined_state(kind), message).at(position)
            }
            PlanError::Duplicate { kind, .. } => PgError::new(duplicate_state(kind), message),
            PlanError::TypeMismatch { position, .. } => {
                PgError::new(SqlState::DatatypeMismatch, message).at(position)
            }
            PlanError::Unsupported { feature, hint } => {
                let error = PgError::new(
                    SqlState::FeatureNotSupported,
                    format!("{feature} is not supported"),
                );
                if hint.is_empty() {
                    error
                } else {
                    error.with_hint(hint)
                }
            }
            PlanError::InvalidOption { .. } => {
                PgError::new(SqlState::InvalidParameterValue, message)
            }
            PlanError::InvalidDefinition { hint, .. } => {
                // DataFusion's words for `ORDER BY 5` over fewer columns.
                let state = match message.starts_with("Order by column out of bounds") {
                    true => SqlState::InvalidColumnReference,
                    false => SqlState::InvalidObjectDefinition,
                };
                let error = PgError::new(state, message);
                PgError { hint, ..error }
            }
            PlanError::Grouping { .. } => PgError::new(SqlState::GroupingError, message),
            PlanError::Ambiguous { .. } => PgError::new(SqlState::AmbiguousColumn, message),
            PlanError::DependentObjects { dependents, .. } => {
                dependents_error(message, &dependents)
            }
            PlanError::Misfits { dependents, .. } => PgError::new(
                SqlState::DependentObjectsStillExist,
                message,
            )
            .with_detail(dependents.join("\n"))
            .with_hint(
                "Keep the columns that they use, with their names and types, or drop them first.",
            ),
            PlanError::WrongObjectKind { hint, .. } => PgError {
                hint,
                ..PgError::new(SqlState::WrongObjectType, message)
            },
            PlanError::Evaluation { .. } => evaluation_error(message),
            PlanError::Internal(_) => PgError::new(SqlState::InternalError, message),
        }
    }
}

fn dependents_error(message: String, dependents: &[String]) -> PgError {
    let error = PgError::new(SqlState::DependentObjectsStillExist, message)
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too.");
    if dependents.is_empty() {
        error
    } else {
        error.with_detail(dependents.join("\n"))
    }
}

fn undefined_state(kind: UndefinedKind) -> SqlState {
    match kind {
        UndefinedKind::Relation => SqlState::UndefinedTable,
        UndefinedKind::Column => SqlState::UndefinedColumn,
        UndefinedKind::Function => SqlState::UndefinedFunction,
        UndefinedKind::Schema => SqlState::InvalidSchemaName,
        UndefinedKind::Type => SqlState::UndefinedObject,
        UndefinedKind::Parameter => SqlState::UndefinedParameter,
        UndefinedKind::PreparedStatement => SqlState::InvalidSqlStatementName,
        UndefinedKind::Cursor => SqlState::InvalidCursorName,
        UndefinedKind::Constraint => SqlState::UndefinedObject,
    }
}

fn duplicate_state(kind: UndefinedKind) -> SqlState {
    match kind {
        UndefinedKind::Relation => SqlState::DuplicateTable,
        UndefinedKind::Column => SqlState::DuplicateColumn,
        UndefinedKind::Schema => SqlState::DuplicateSchema,
        UndefinedKind::PreparedStatement => SqlState::DuplicatePreparedStatement,
        UndefinedKind::Cursor => SqlState::DuplicateCursor,
        UndefinedKind::Function
        | UndefinedKind::Type
        | UndefinedKind::Parameter
        | UndefinedKind::Constraint => SqlState::DuplicateObject,
    }
}

impl From<ValueError> for PgError {
    fn from(error: ValueError) -> PgError {
        evaluation_error(error.0)
    }
}

impl From<ExecutorError> for PgError {
    fn from(error: ExecutorError) -> PgError {
        let message = error.to_string();
        match error {
            ExecutorError::UniqueViolation { detail, .. } => {
                PgError::new(SqlState::UniqueViolation, message).with_detail(detail)
            }
            ExecutorError::NotNullViolation { .. } => {
                PgError::new(SqlState::NotNullViolation, message)
            }
            ExecutorError::Conflict | ExecutorError::CatalogChanged => {
                PgError::new(SqlState::SerializationFailure, message)
            }
            ExecutorError::NotReadable { .. } => {
                PgError::new(SqlState::ObjectNotInPrerequisiteState, message)
            }
            ExecutorError::SubscriberTooSlow { .. } => {
                PgError::new(SqlState::ConfigurationLimitExceeded, message).with_hint(
                    "Read faster, or subscribe to a view that changes less; subscribing again starts with a snapshot.",
                )
            }
            ExecutorError::DependentObjects { dependents, .. } => {
                dependents_error(message, &dependents)
            }
            ExecutorError::Source(source) => PgError::new(source_state(&source), message),
            ExecutorError::Evaluation(message) => evaluation_error(message),
            ExecutorError::Storage(ref text) if text.contains("No space left") => {
                PgError::new(SqlState::DiskFull, message)
            }
            ExecutorError::Storage(_) => PgError::new(SqlState::IoError, message),
            ExecutorError::ResourcesExhausted(_) => PgError::new(SqlState::OutOfMemory, message),
            ExecutorError::Cancelled => PgError::cancelled(),
            ExecutorError::ShuttingDown => PgError::fatal(
                SqlState::AdminShutdown,
                "terminating connection due to administrator command",
            ),
            ExecutorError::Internal(_) => PgError::new(SqlState::InternalError, message),
        }
    }
}

fn source_state(error: &SourceError) -> SqlState {
    match error {
        SourceError::InvalidOption(_) => SqlState::InvalidParameterValue,
        SourceError::MissingTopic(_) => SqlState::UndefinedObject,
        SourceError::Unreachable(_) => SqlState::ConnectionException,
        SourceError::DataLoss(_) => SqlState::IoError,
        SourceError::Internal(_) => SqlState::InternalError,
    }
}

impl From<ArrowError> for PgError {
    fn from(error: ArrowError) -> PgError {
        match error {
            ArrowError::DivideByZero => PgError::new(SqlState::DivisionByZero, "division by zero"),
            ArrowError::ArithmeticOverflow(message) => {
                PgError::new(SqlState::NumericValueOutOfRange, message)
            }
            ArrowError::ExternalError(inner) => match inner.downcast::<PgError>() {
                Ok(error) => *error,
                Err(inner) => match inner.downcast::<DataFusionError>() {
                    Ok(error) => PgError::from(*error),
                    Err(inner) => PgError::new(SqlState::InternalError, inner.to_string()),
                },
            },
            ArrowError::MemoryError(message) => PgError::new(SqlState::OutOfMemory, message),
            ArrowError::NotYetImplemented(message) => {
                PgError::new(SqlState::FeatureNotSupported, message)
            }
            ArrowError::CastError(message)
            | ArrowError::ParseError(message)
            | ArrowError::ComputeError(message)
            | ArrowError::InvalidArgumentError(message) => evaluation_error(message),
            other => PgError::new(SqlState::InternalError, other.to_string()),
        }
    }
}

impl From<DataFusionError> for PgError {
    fn from(error: DataFusionError) -> PgError {
        let message = error.strip_backtrace();
        match error {
            DataFusionError::ArrowError(inner, _) => PgError::from(*inner),
            DataFusionError::SQL(inner, _) => {
                PgError::new(SqlState::SyntaxError, format!("syntax error: {inner}"))
            }
            DataFusionError::NotImplemented(text) => {
                PgError::new(SqlState::FeatureNotSupported, text)
            }
            DataFusionError::SchemaError(inner, _) => schema_error(&inner),
            DataFusionError::ResourcesExhausted(text) => PgError::new(SqlState::OutOfMemory, text),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                PgError::from(*inner)
            }
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => PgError::from(first),
                None => PgError::new(SqlState::InternalError, message),
            },
            DataFusionError::External(inner) => from_external(inner, message),
            DataFusionError::Shared(ref inner) => match inner.find_root() {
                DataFusionError::ResourcesExhausted(text) => {
                    PgError::new(SqlState::OutOfMemory, text.clone())
                }
                DataFusionError::Internal(text) => {
                    PgError::new(SqlState::InternalError, text.clone())
                }
                root => evaluation_error(root.strip_backtrace()),
            },
            DataFusionError::Plan(text) => plan_error(text),
            DataFusionError::Execution(text) => evaluation_error(text),
            // without its request to report a bug to someone else
            DataFusionError::Internal(text) if text.contains("offset overflow") => PgError::new(
                SqlState::OutOfMemory,
                "out of memory: a batch of rows is too large",
            ),
            DataFusionError::Internal(text) => {
                PgError::new(SqlState::InternalError, format!("internal error: {text}"))
            }
            DataFusionError::IoError(inner) => PgError::new(SqlState::IoError, inner.to_string()),
            _ => PgError::new(SqlState::InternalError, message),
        }
    }
}

fn from_external(inner: Box<dyn std::error::Error + Send + Sync>, message: String) -> PgError {
    let inner = match inner.downcast::<PgError>() {
        Ok(error) => return *error,
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<ExecutorError>() {
        Ok(error) => return PgError::from(*error),
        Err(inner) => inner,
    };
    let inner = match inner.downcast::<PlanError>() {
        Ok(error) => return PgError::from(*error),
        Err(inner) => inner,
    };
    match inner.downcast::<ArrowError>() {
        Ok(error) => PgError::from(*error),
        Err(_) => PgError::new(SqlState::InternalError, message),
    }
}

fn schema_error(error: &SchemaError) -> PgError {
    match error {
        SchemaError::AmbiguousReference { field } => PgError::new(
            SqlState::AmbiguousColumn,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => PgError::new(
            SqlState::DuplicateColumn,
            format!("column \"{name}\" specified more than once"),
        ),
        SchemaError::FieldNotFound { field, .. } => {
            let message = match &field.relation {
                Some(relation) => {
                    format!("column {}.{} does not exist", relation.table(), field.name)
                }
                None => format!("column \"{}\" does not exist", field.name),
            };
            PgError::new(SqlState::UndefinedColumn, message)
        }
    }
}

/// DataFusion tells planning errors apart by text alone.
fn plan_error(message: String) -> PgError {
    let lower = message.to_lowercase();
    if let Some(name) = missing_table(&message) {
        return PgError::new(
            SqlState::UndefinedTable,
            format!("relation \"{name}\" does not exist"),
        );
    }
    let is_undefined = ["invalid function", "no function matches", "does not exist"]
        .iter()
        .any(|words| lower.contains(words));
    let state = if is_undefined {
        SqlState::UndefinedFunction
    } else if lower.contains("group by") {
        SqlState::GroupingError
    } else if lower.contains("ambiguous") {
        SqlState::AmbiguousColumn
    } else if lower.contains("coerc") || lower.contains("cannot cast") {
        SqlState::DatatypeMismatch
    } else {
        SqlState::SyntaxError
    };
    PgError::new(state, message)
}

/// `table 'catalog.schema.name' not found`: the name, with its schema unless that is `public`.
fn missing_table(message: &str) -> Option<&str> {
    let rest = &message[message.find("table '")? + "table '".len()..];
    let (name, after) = rest.split_once('\'')?;
    if !after.trim_start().starts_with("not found") {
        return None;
    }
    let name = match name.matches('.').count() {
        2 => name.split_once('.')?.1,
        _ => name,
    };
    Some(name.strip_prefix("public.").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_every_layer_keep_their_meaning_through_wrapping() {
        let divide = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        let cases: Vec<(PgError, SqlState)> = vec![
            (
                divide.context("while projecting").into(),
                SqlState::DivisionByZero,
            ),
            (
                DataFusionError::External(Box::new(ExecutorError::Conflict)).into(),
                SqlState::SerializationFailure,
            ),
            (
                DataFusionError::External(Box::new(PgError::cancelled())).into(),
                SqlState::QueryCanceled,
            ),
            (
                DataFusionError::ResourcesExhausted("pool".into()).into(),
                SqlState::OutOfMemory,
            ),
            (
                DataFusionError::Plan("table 'a.b.c' not found".into()).into(),
                SqlState::UndefinedTable,
            ),
            (
                ArrowError::CastError("Cannot cast string 'x' to value of Int32 type".into())
                    .into(),
                SqlState::InvalidTextRepresentation,
            ),
            (
                PlanError::Undefined {
                    kind: UndefinedKind::Column,
                    message: "column \"x\" does not exist".into(),
                    position: Some(8),
                }
                .into(),
                SqlState::UndefinedColumn,
            ),
            (
                ExecutorError::Storage("IO error: No space left on device".into()).into(),
                SqlState::DiskFull,
            ),
        ];
        for (error, state) in cases {
            assert_eq!(error.state, state, "{error:?}");
        }
    }
}
