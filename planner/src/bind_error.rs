//! DataFusion's errors as ours: whose fault, which kind of name is missing, and where in the text.

use datafusion::common::{Column, DataFusionError, SchemaError, TableReference};
use sqlparser::tokenizer::{Location, Span};

use crate::error::{PlanError, UndefinedKind};

/// The statement's text, if positions in it are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceText<'a>(pub Option<&'a str>);

impl SourceText<'_> {
    /// The 1-based character position of a span's start; `None` if it is of no text, or of another one.
    pub fn position_of(&self, span: Span) -> Option<usize> {
        self.position(span.start)
    }

    fn position(&self, at: Location) -> Option<usize> {
        let text = self.0.filter(|_| at.line > 0 && at.column > 0)?;
        let mut lines = text.split_inclusive('\n');
        let before: usize = lines
            .by_ref()
            .take(at.line as usize - 1)
            .map(|line| line.chars().count())
            .sum();
        let line = lines.next()?;
        (at.column as usize <= line.chars().count()).then_some(before + at.column as usize)
    }
}

/// Says what `error` means for the person who wrote the statement.
pub fn plan_error(error: DataFusionError, text: SourceText<'_>) -> PlanError {
    let position = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .and_then(|span| {
            text.position(Location {
                line: span.start.line,
                column: span.start.column,
            })
        });
    classify(&error, position)
}

fn classify(error: &DataFusionError, position: Option<usize>) -> PlanError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            classify(inner, position)
        }
        DataFusionError::Shared(inner) => classify(inner, position),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => classify(first, position),
            None => PlanError::Internal("no error".to_string()),
        },
        DataFusionError::SchemaError(schema, _) => schema_error(schema, position),
        DataFusionError::SQL(parse, _) => PlanError::Syntax {
            message: parse.to_string(),
            position,
        },
        DataFusionError::NotImplemented(message)
            if message.contains("only support Literal types") =>
        {
            PlanError::unsupported(
                "an argument of a window function that differs from row to row",
                "write a number for the offset of lag() and lead() and for ntile()",
            )
        }
        DataFusionError::NotImplemented(message) if message.contains("LATERAL syntax") => {
            PlanError::unsupported(
                "LATERAL on the right of a RIGHT or FULL JOIN",
                "use an inner or a left join",
            )
        }
        DataFusionError::NotImplemented(message)
            if let Some(name) = without_prefix(message).strip_prefix("Unsupported SQL type ") =>
        {
            PlanError::Undefined {
                kind: UndefinedKind::Type,
                message: format!("type \"{name}\" does not exist"),
                position,
            }
        }
        DataFusionError::NotImplemented(message) => PlanError::Unsupported {
            feature: without_prefix(message),
            hint: "DataFusion, which plans queries, does not have it".to_string(),
        },
        DataFusionError::Internal(message) => PlanError::Internal(message.clone()),
        DataFusionError::ArrowError(arrow, _) => PlanError::Evaluation {
            message: arrow.to_string(),
        },
        DataFusionError::Execution(message) => PlanError::Evaluation {
            message: without_prefix(message),
        },
        DataFusionError::Plan(message) => plan_message(message, position),
        other => PlanError::Internal(other.strip_backtrace()),
    }
}

fn schema_error(error: &SchemaError, position: Option<usize>) -> PlanError {
    let duplicate = |name: &str| PlanError::Duplicate {
        kind: UndefinedKind::Column,
        message: format!("column name \"{name}\" is specified more than once"),
    };
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let is_of = |table: &TableReference, column: &Column| {
                let relation = column.relation.as_ref();
                relation.is_some_and(|relation| relation.table() == table.table())
            };
            if let Some(table) = &field.relation
                && !valid_fields.iter().any(|column| is_of(table, column))
            {
                let message = format!("missing FROM-clause entry for table \"{}\"", table.table());
                return PlanError::Undefined {
                    kind: UndefinedKind::Relation,
                    message,
                    position,
                };
            }
            let message = match &field.relation {
                Some(table) => format!("column {}.{} does not exist", table.table(), field.name),
                None => format!("column \"{}\" does not exist", field.name),
            };
            PlanError::Undefined {
                kind: UndefinedKind::Column,
                message,
                position,
            }
        }
        SchemaError::AmbiguousReference { field } => PlanError::Ambiguous {
            message: format!("column reference \"{}\" is ambiguous", field.name),
        },
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => duplicate(name),
    }
}

/// DataFusion's planning errors are texts; these are the ones that have a kind of their own.
fn plan_message(message: &str, position: Option<usize>) -> PlanError {
    let message = without_prefix(message);
    let first_line = message.lines().next().unwrap_or_default();
    if let Some(name) = between(first_line, "Invalid function '", "'") {
        return PlanError::Undefined {
            kind: UndefinedKind::Function,
            message: format!("function {name} does not exist"),
            position,
        };
    }
    if let Some(message) = undefined(first_line) {
        return PlanError::Undefined {
            kind: UndefinedKind::Function,
            message: message.to_string(),
            position,
        };
    }
    if let Some(name) = between(first_line, "table function '", "' not found") {
        return PlanError::Undefined {
            kind: UndefinedKind::Function,
            message: format!("function {name} does not exist"),
            position,
        };
    }
    if let Some(name) = between(first_line, "table '", "' not found") {
        return PlanError::Undefined {
            kind: UndefinedKind::Relation,
            message: format!("relation \"{name}\" does not exist"),
            position,
        };
    }
    if first_line.contains("GROUP BY") {
        let message = match between(first_line, "column \"", "\"") {
            Some(column) => format!(
                "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
            ),
            None => first_line.to_string(),
        };
        return PlanError::Grouping { message };
    }
    if first_line.contains("Ambiguous reference") || first_line.contains("ambiguous") {
        return PlanError::Ambiguous {
            message: first_line.to_string(),
        };
    }
    const TYPES: &[&str] = &[
        "Cannot coerce",
        "Cannot infer common",
        "Failed to coerce",
        "failed to match any signature",
        "No function matches",
        "Cannot cast",
        "Unsupported CAST",
        "Cannot automatically convert",
        "Cannot create filter with non-boolean",
        "cannot cast",
    ];
    if TYPES.iter().any(|start| message.contains(start)) {
        return PlanError::TypeMismatch {
            message: first_line.to_string(),
            position,
        };
    }
    PlanError::InvalidDefinition {
        message: first_line.to_string(),
        hint: None,
    }
}

/// Our own words for a function or an operator that does not take these types, without DataFusion's around them.
fn undefined(line: &str) -> Option<&str> {
    const MISSING: &str = "does not exist";
    if let Some(at) = line.find("operator does not exist: ") {
        return Some(line[at..].trim_end());
    }
    let end = line.find(MISSING)? + MISSING.len();
    let start = line[..end].rfind("function ")?;
    Some(&line[start..end])
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let from = text.find(start)? + start.len();
    let rest = &text[from..];
    Some(&rest[..rest.find(end)?])
}

fn without_prefix(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or_default();
    message
        .trim_start_matches("Error during planning: ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = SourceText(Some("SELECT 'ä',\n  nope FROM t"));
        assert_eq!(text.position(Location { line: 2, column: 3 }), Some(15));
        assert_eq!(text.position(Location { line: 3, column: 1 }), None);
        assert_eq!(text.position(Location { line: 0, column: 0 }), None);
    }
}
