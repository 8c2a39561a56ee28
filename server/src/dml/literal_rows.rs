//! The rows of an INSERT whose values are plain constants and parameters, read from the statement without planning a query.
//!
//! Planning handles every value as an expression of its own, which costs far more than storing it. What is not plain (an
//! expression, numbers where the column takes texts) is left to a query, which gives the same rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, NullArray, RecordBatch, StringArray,
};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, Field, Schema};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, SetExpr, UnaryOperator, Value};
use rivermark_planner::types::SqlType;

use crate::dml::row_query::RowQuery;
use crate::parameters;

/// The rows, if the statement has a VALUES list of constants and of parameters that are assigned as they are; `types` are
/// those of the columns that take them.
pub fn literal_rows(
    rows: &RowQuery,
    types: &[SqlType],
    parameters: &[ScalarValue],
) -> Option<RecordBatch> {
    let query = &rows.query;
    let SetExpr::Values(values) = query.body.as_ref() else {
        return None;
    };
    // A parameter got its column's type in a cast. One that was written means more: it cuts texts.
    let cells = values.rows.iter().flat_map(|row| &row.content);
    let casts = cells.filter(|cell| cast_parameter(cell).is_some()).count();
    let parameters = (casts == rows.assigned.len()).then_some(parameters);
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    let first = values.rows.first()?;
    if !is_plain || first.content.is_empty() || first.content.len() > types.len() {
        return None;
    }
    let columns = types[..first.content.len()].iter().enumerate();
    let arrays = columns.map(|(at, data_type)| {
        let cells = values.rows.iter().map(|row| row.content.get(at));
        let cells = cells.collect::<Option<Vec<&Expr>>>()?;
        match parameters.filter(|_| cast_parameter(cells[0]).is_some()) {
            Some(parameters) => parameter_column(&cells, parameters),
            None => column(&cells, data_type),
        }
    });
    let arrays = arrays.collect::<Option<Vec<ArrayRef>>>()?;
    let fields = (0..).zip(&arrays);
    let fields =
        fields.map(|(i, array)| Field::new(format!("column{i}"), array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, arrays).ok()
}

/// The number of a parameter with a cast around it.
fn cast_parameter(cell: &Expr) -> Option<usize> {
    match cell {
        Expr::Cast { expr, .. } => parameters::number(expr),
        _ => None,
    }
}

/// The parameters of a column, if nothing else is in it.
fn parameter_column(cells: &[&Expr], parameters: &[ScalarValue]) -> Option<ArrayRef> {
    let value = |cell: &&Expr| {
        parameters
            .get(cast_parameter(cell)?.checked_sub(1)?)
            .cloned()
    };
    let values = cells
        .iter()
        .map(value)
        .collect::<Option<Vec<ScalarValue>>>()?;
    ScalarValue::iter_to_array(values).ok()
}

/// A constant as it is written.
enum Literal<'a> {
    Null,
    Text(&'a str),
    Boolean(bool),
    Number { digits: &'a str, is_negative: bool },
}

fn literal(cell: &Expr) -> Option<Literal<'_>> {
    match cell {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Literal::Null),
            Value::SingleQuotedString(text) => Some(Literal::Text(text)),
            Value::Boolean(value) => Some(Literal::Boolean(*value)),
            Value::Number(digits, false) => Some(Literal::Number {
                digits,
                is_negative: false,
            }),
            _ => None,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match literal(expr)? {
            Literal::Number {
                digits,
                is_negative: false,
            } => Some(Literal::Number {
                digits,
                is_negative: true,
            }),
            _ => None,
        },
        _ => None,
    }
}

/// The cells of a column, if they are of one kind, and one that needs no conversion but assignment's.
fn column(cells: &[&Expr], data_type: &SqlType) -> Option<ArrayRef> {
    let literals = cells.iter().map(|cell| literal(cell));
    let literals = literals.collect::<Option<Vec<Literal<'_>>>>()?;
    let takes_numbers = matches!(
        data_type,
        SqlType::SmallInt
            | SqlType::Integer
            | SqlType::BigInt
            | SqlType::Numeric { .. }
            | SqlType::Real
            | SqlType::Double
    );
    match literals
        .iter()
        .find(|literal| !matches!(literal, Literal::Null))
    {
        None => Some(Arc::new(NullArray::new(cells.len()))),
        Some(Literal::Text(_)) => {
            let texts = of_kind(&literals, |literal| match literal {
                Literal::Text(text) => Some(*text),
                _ => None,
            })?;
            Some(Arc::new(StringArray::from(texts)))
        }
        Some(Literal::Boolean(_)) if *data_type == SqlType::Boolean => {
            let values = of_kind(&literals, |literal| match literal {
                Literal::Boolean(value) => Some(*value),
                _ => None,
            })?;
            Some(Arc::new(BooleanArray::from(values)))
        }
        Some(Literal::Number { .. }) if takes_numbers => {
            integers(&literals).or_else(|| match data_type {
                SqlType::Real | SqlType::Double => digits(&literals),
                _ => decimals(&literals),
            })
        }
        _ => None,
    }
}

/// The values of one kind, and NULLs; `None` if there is another kind.
fn of_kind<'a, T>(
    literals: &'a [Literal<'a>],
    value: impl Fn(&'a Literal<'a>) -> Option<T>,
) -> Option<Vec<Option<T>>> {
    let values = literals.iter().map(|literal| match literal {
        Literal::Null => Some(None),
        other => value(other).map(Some),
    });
    values.collect()
}

fn integers(literals: &[Literal<'_>]) -> Option<ArrayRef> {
    let values = of_kind(literals, |literal| match literal {
        Literal::Number {
            digits,
            is_negative,
        } if is_digits(digits) => {
            let value: i128 = digits.parse().ok()?;
            i64::try_from(if *is_negative { -value } else { value }).ok()
        }
        _ => None,
    })?;
    Some(Arc::new(Int64Array::from(values)))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Numbers as they are written: what a float's input function rounds best.
fn digits(literals: &[Literal<'_>]) -> Option<ArrayRef> {
    let texts = of_kind(literals, |literal| match literal {
        Literal::Number {
            digits,
            is_negative,
        } => Some(format!("{}{digits}", if *is_negative { "-" } else { "" })),
        _ => None,
    })?;
    Some(Arc::new(StringArray::from(texts)))
}

/// Numbers with digits behind the point, all with as many as the longest has.
fn decimals(literals: &[Literal<'_>]) -> Option<ArrayRef> {
    let parts = of_kind(literals, |literal| match literal {
        Literal::Number {
            digits,
            is_negative,
        } => {
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            (is_digits(whole) && is_digits(fraction)).then_some((whole, fraction, *is_negative))
        }
        _ => None,
    })?;
    let scale = parts
        .iter()
        .flatten()
        .map(|(_, fraction, _)| fraction.len())
        .max()?;
    let values = parts.iter().map(|part| {
        let Some((whole, fraction, is_negative)) = part else {
            return Some(None);
        };
        let text = format!("{whole}{fraction:0<scale$}");
        if text.trim_start_matches('0').len() > usize::from(DECIMAL128_MAX_PRECISION) {
            return None;
        }
        let value: i128 = text.parse().ok()?;
        Some(Some(if *is_negative { -value } else { value }))
    });
    let values = Decimal128Array::from(values.collect::<Option<Vec<Option<i128>>>>()?);
    let scale = i8::try_from(scale).ok()?;
    let values = values
        .with_precision_and_scale(DECIMAL128_MAX_PRECISION, scale)
        .ok()?;
    Some(Arc::new(values))
}

#[cfg(test)]
mod tests {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    use rivermark_planner::parse::parse_query;

    use super::*;

    fn rows(values: &str, types: &[SqlType]) -> Option<Vec<String>> {
        let parameters = [ScalarValue::Int32(Some(7)), ScalarValue::Int32(None)];
        // those with CAST are the statement's own
        let assigned = (0..values.matches("CAST").count()).map(|i| (i, 0));
        let query = RowQuery {
            query: *parse_query(values).unwrap(),
            columns: vec![0],
            are_listed: false,
            is_width_open: false,
            assigned: assigned.collect(),
            is_blind: false,
            is_join: false,
            joined: Vec::new(),
        };
        let batch = literal_rows(&query, types, &parameters)?;
        let options = FormatOptions::default().with_null("NULL");
        let shown = batch.columns().iter().map(|column| {
            let formatter = ArrayFormatter::try_new(column, &options).unwrap();
            let values = (0..column.len()).map(|row| formatter.value(row).to_string());
            format!(
                "{}: {}",
                column.data_type(),
                values.collect::<Vec<_>>().join(" ")
            )
        });
        Some(shown.collect())
    }

    #[test]
    fn plain_constants_are_read() {
        let text = SqlType::Text { max_length: None };
        let numeric = SqlType::Numeric {
            precision: 5,
            scale: 2,
        };
        let cases: Vec<(&str, SqlType, Option<&str>)> = vec![
            (
                "VALUES (1), (-2), (NULL)",
                SqlType::Integer,
                Some("Int64: 1 -2 NULL"),
            ),
            (
                "VALUES (-9223372036854775808)",
                SqlType::BigInt,
                Some("Int64: -9223372036854775808"),
            ),
            (
                "VALUES (9223372036854775808)",
                SqlType::BigInt,
                Some("Decimal128(38, 0): 9223372036854775808"),
            ),
            (
                "VALUES (1), (-0.25)",
                numeric.clone(),
                Some("Decimal128(38, 2): 1.00 -0.25"),
            ),
            ("VALUES (.5)", SqlType::Double, Some("Utf8: .5")),
            ("VALUES ('it''s'), ('')", text.clone(), Some("Utf8: it's ")),
            (
                "VALUES ('2026-01-02')",
                SqlType::Date,
                Some("Utf8: 2026-01-02"),
            ),
            (
                "VALUES (true), (NULL)",
                SqlType::Boolean,
                Some("Boolean: true NULL"),
            ),
            ("VALUES (NULL)", text.clone(), Some("Null: NULL")),
            ("VALUES (1)", text, None),
            ("VALUES (true)", SqlType::Integer, None),
            ("VALUES (1 + 1)", SqlType::Integer, None),
            ("VALUES (1), ('2')", SqlType::Integer, None),
            ("VALUES (1e3)", numeric.clone(), None),
            (
                "VALUES (123456789012345678901234567890123456789)",
                numeric,
                None,
            ),
            ("VALUES ($1)", SqlType::Integer, None),
            (
                "VALUES (CAST($1 AS integer)), (CAST($2 AS integer))",
                SqlType::Integer,
                Some("Int32: 7 NULL"),
            ),
            ("VALUES (CAST($3 AS integer))", SqlType::Integer, None),
            ("VALUES (CAST($1 AS integer)), (1)", SqlType::Integer, None),
            ("VALUES ($1::integer)", SqlType::Integer, None),
            ("SELECT 1", SqlType::Integer, None),
            ("VALUES (1) LIMIT 1", SqlType::Integer, None),
        ];
        for (values, data_type, expected) in cases {
            let got = rows(values, &[data_type]).map(|columns| columns.join(", "));
            assert_eq!(got.as_deref(), expected, "{values}");
        }
    }
}
