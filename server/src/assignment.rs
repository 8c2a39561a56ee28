//! Assignment: making the values of an INSERT or UPDATE fit the types of the table's columns, by PostgreSQL's rules.
//!
//! Text (which is what untyped literals are) is read by the type's input function. Numbers are rounded and checked
//! for range, anything may be assigned to text, and the rest must be of kinds that PostgreSQL assigns to one another.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, new_null_array,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::BytesMut;
use datafusion::scalar::ScalarValue;
use rivermark_planner::catalog::ColumnDef;
use rivermark_planner::functions::nearest_floats;
use rivermark_planner::pg_text::column_input::parse_column;
use rivermark_planner::types::SqlType;

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;
use crate::wire::decode_text;
use crate::wire::encode::Column;
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::{MICROS_PER_SECOND, SessionTimeZone};

/// How types convert to one another in assignments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Text,
    Bytes,
    DateTime,
    TimeOfDay,
    Interval,
    List,
    Struct,
}

fn kind(data_type: &DataType) -> Option<Kind> {
    Some(match data_type {
        DataType::Boolean => Kind::Boolean,
        t if t.is_numeric() => Kind::Number,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Kind::Bytes,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => Kind::DateTime,
        DataType::Time32(_) | DataType::Time64(_) => Kind::TimeOfDay,
        DataType::Interval(_) | DataType::Duration(_) => Kind::Interval,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => Kind::List,
        DataType::Struct(_) => Kind::Struct,
        DataType::Dictionary(_, values) => return kind(values),
        _ => return None,
    })
}

/// The schema of a table's stored rows.
pub fn row_schema(columns: &[ColumnDef]) -> SchemaRef {
    let field = |c: &ColumnDef| c.data_type.field(&c.name, !c.not_null);
    Arc::new(Schema::new(
        columns.iter().map(field).collect::<Vec<Field>>(),
    ))
}

/// Values of an expression, made to fit `column`.
pub fn assign(
    values: &ArrayRef,
    column: &ColumnDef,
    zone: &SessionTimeZone,
) -> Result<ArrayRef, PgError> {
    let target = column.data_type.arrow();
    let source = values.data_type().clone();
    if source == DataType::Null {
        return Ok(new_null_array(&target, values.len()));
    }
    let fits = match (kind(&source), kind(&target)) {
        (Some(from), Some(to)) => from == to || from == Kind::Text || to == Kind::Text,
        _ => false,
    };
    if !fits {
        return Err(mismatch(column, &source));
    }
    let has_input_function = matches!(
        column.data_type,
        SqlType::Uuid | SqlType::Json | SqlType::Jsonb
    );
    let is_parsed = kind(&source) == Some(Kind::Text) && kind(&target) != Some(Kind::Text);
    let assigned = if is_parsed || has_input_function {
        read_text(values, column, zone)?
    } else if kind(&target) == Some(Kind::Text) {
        written_text(values, zone)?
    } else {
        converted(values, &target, column, zone)?
    };
    check_length(&assigned, column)?;
    Ok(assigned)
}

fn mismatch(column: &ColumnDef, source: &DataType) -> PgError {
    let found = SqlType::of_field(&Field::new("", source.clone(), true));
    PgError::new(
        SqlState::DatatypeMismatch,
        format!(
            "column \"{}\" is of type {} but expression is of type {found}",
            column.name, column.data_type
        ),
    )
    .with_hint("You will need to rewrite or cast the expression.")
}

/// Reads each text by the column type's input function.
fn read_text(
    values: &ArrayRef,
    column: &ColumnDef,
    zone: &SessionTimeZone,
) -> Result<ArrayRef, PgError> {
    let field = column.data_type.field("", true);
    let pg_type = PgType::of_field(&field);
    let texts = cast(values, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    if let Some(read) = parse_column(&column.data_type, texts, zone) {
        return Ok(read?);
    }
    let null = ScalarValue::try_from(field.data_type())?;
    if texts.is_empty() {
        return Ok(new_null_array(field.data_type(), 0));
    }
    let scalars = texts.iter().map(|text| match text {
        None => Ok(null.clone()),
        Some(text) => {
            let value = decode_text::parse(&pg_type, text, zone)?;
            match value.data_type() == *field.data_type() {
                true => Ok(value),
                false => value
                    .cast_to(field.data_type())
                    .map_err(|_| out_of_range(column, text)),
            }
        }
    });
    let scalars = scalars.collect::<Result<Vec<_>, PgError>>()?;
    Ok(ScalarValue::iter_to_array(scalars)?)
}

fn written_text(values: &ArrayRef, zone: &SessionTimeZone) -> Result<ArrayRef, PgError> {
    match values.data_type() {
        DataType::Utf8 => Ok(values.clone()),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
            Ok(cast(values, &DataType::Utf8)?)
        }
        DataType::Boolean => {
            let text = values
                .as_boolean()
                .iter()
                .map(|b| b.map(|b| if b { "true" } else { "false" }));
            Ok(Arc::new(text.collect::<StringArray>()))
        }
        _ => {
            let field = Field::new("", values.data_type().clone(), true);
            let column = Column::new(&field, values)?;
            let mut text = StringBuilder::new();
            let mut buffer = BytesMut::new();
            for row in 0..values.len() {
                if values.is_null(row) {
                    text.append_null();
                    continue;
                }
                buffer.clear();
                column.put_text(row, &mut buffer, zone)?;
                text.append_value(String::from_utf8_lossy(&buffer));
            }
            Ok(Arc::new(text.finish()))
        }
    }
}

/// The zone as Arrow spells it.
pub fn arrow_zone(zone: &SessionTimeZone) -> String {
    match zone {
        SessionTimeZone::Named(zone) => zone.name().to_string(),
        SessionTimeZone::Fixed { east_s, .. } => {
            let sign = if *east_s < 0 { '-' } else { '+' };
            let minutes = east_s.unsigned_abs() / 60;
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    }
}

/// Timestamps shifted between UTC and local time.
fn shifted(values: &ArrayRef, shift: impl Fn(i64) -> i64) -> Result<ArrayRef, ArrowError> {
    let naive = DataType::Timestamp(TimeUnit::Microsecond, None);
    let us = cast_with_options(
        values,
        &naive,
        &CastOptions {
            safe: false,
            ..CastOptions::default()
        },
    )?;
    let us = us.as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(us.unary::<_, TimestampMicrosecondType>(shift)))
}

fn converted(
    values: &ArrayRef,
    target: &DataType,
    column: &ColumnDef,
    zone: &SessionTimeZone,
) -> Result<ArrayRef, PgError> {
    if values.data_type() == target {
        return Ok(values.clone());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let has_zone = |t: &DataType| matches!(t, DataType::Timestamp(_, Some(_)));
    let source = match values.data_type() {
        DataType::Float64 if target.is_integer() => Arc::new(
            values
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(f64::round_ties_even),
        ) as ArrayRef,
        DataType::Float32 if target.is_integer() => Arc::new(
            values
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(f32::round_ties_even),
        ),
        decimal if decimal.is_decimal() && target.is_integer() => whole(values)?,
        decimal if decimal.is_decimal() && target.is_floating() => nearest_floats(values, target)?,
        from if has_zone(from) && !has_zone(target) => shifted(values, |us| {
            us + i64::from(zone.offset_at(us)) * MICROS_PER_SECOND
        })?,
        from if !has_zone(from) && has_zone(target) => {
            let utc = shifted(values, |us| zone.local_to_utc(us))?;
            Arc::new(
                utc.as_primitive::<TimestampMicrosecondType>()
                    .clone()
                    .with_timezone("UTC"),
            )
        }
        _ => values.clone(),
    };
    cast_with_options(&source, target, &options).map_err(|error| match kind(target) {
        Some(Kind::Number) => out_of_range(column, &error.to_string()),
        _ => PgError::from(error),
    })
}

/// Decimals rounded to scale 0, half away from zero.
fn whole(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match values.data_type() {
        DataType::Decimal256(precision, _) => cast(values, &DataType::Decimal256(*precision, 0)),
        DataType::Decimal32(precision, _)
        | DataType::Decimal64(precision, _)
        | DataType::Decimal128(precision, _) => cast(values, &DataType::Decimal128(*precision, 0)),
        _ => Ok(values.clone()),
    }
}

fn out_of_range(column: &ColumnDef, what: &str) -> PgError {
    match &column.data_type {
        SqlType::Numeric { precision, scale } => {
            let limit = i32::from(*precision) - i32::from(*scale);
            PgError::new(SqlState::NumericValueOutOfRange, "numeric field overflow").with_detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{limit}."
            ))
        }
        SqlType::SmallInt | SqlType::Integer | SqlType::BigInt => PgError::new(
            SqlState::NumericValueOutOfRange,
            format!("{} out of range", column.data_type),
        ),
        other => PgError::new(
            SqlState::NumericValueOutOfRange,
            format!("value out of range for type {other}: {what}"),
        ),
    }
}

/// `VARCHAR(n)`: more characters are an error, unless they are blanks, which are cut off.
fn check_length(values: &ArrayRef, column: &ColumnDef) -> Result<(), PgError> {
    let SqlType::Text {
        max_length: Some(limit),
    } = &column.data_type
    else {
        return Ok(());
    };
    let is_too_long = |text: &str| text.chars().count() > *limit as usize;
    match values.as_string::<i32>().iter().flatten().any(is_too_long) {
        false => Ok(()),
        true => Err(PgError::new(
            SqlState::StringDataRightTruncation,
            format!("value too long for type {}", column.data_type),
        )),
    }
}

/// NOT NULL of every column.
pub fn check_not_null(
    rows: &RecordBatch,
    columns: &[ColumnDef],
    table: &str,
    zone: &SessionTimeZone,
) -> Result<(), PgError> {
    for (i, column) in columns.iter().enumerate().filter(|(_, c)| c.not_null) {
        let values = rows.column(i);
        if values.null_count() == 0 {
            continue;
        }
        let row = (0..values.len())
            .find(|row| values.is_null(*row))
            .unwrap_or_default();
        let message = format!(
            "null value in column \"{}\" of relation \"{table}\" violates not-null constraint",
            column.name
        );
        return Err(PgError::new(SqlState::NotNullViolation, message)
            .with_detail(failing_row(rows, row, zone)));
    }
    Ok(())
}

/// Longer values in the detail of an error are cut here, as PostgreSQL does.
const SHOWN_BYTES: usize = 64;

/// PostgreSQL's detail of a constraint's violation.
pub fn failing_row(rows: &RecordBatch, row: usize, zone: &SessionTimeZone) -> String {
    let schema = rows.schema();
    let shown = rows
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(values, field)| {
            if values.is_null(row) {
                return "null".to_string();
            }
            let mut buffer = BytesMut::new();
            let written = Column::new(field, values)
                .and_then(|column| column.put_text(row, &mut buffer, zone));
            let text = String::from_utf8_lossy(&buffer);
            match written {
                Ok(()) if text.len() <= SHOWN_BYTES => text.into_owned(),
                Ok(()) => format!("{}...", &text[..text.floor_char_boundary(SHOWN_BYTES)]),
                Err(_) => "?".to_string(),
            }
        });
    format!(
        "Failing row contains ({}).",
        shown.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Decimal128Array, Float64Array, Int64Array, TimestampMicrosecondArray,
    };

    use arrow::util::display::{ArrayFormatter, FormatOptions};

    use super::*;

    fn column(data_type: SqlType) -> ColumnDef {
        ColumnDef {
            name: "c".into(),
            data_type,
            not_null: false,
            default: None,
            generated: None,
            include: None,
            comment: None,
        }
    }

    fn assigned(values: ArrayRef, data_type: SqlType) -> Result<Vec<String>, String> {
        let array = assign(&values, &column(data_type.clone()), &SessionTimeZone::UTC)
            .map_err(|e| format!("{}: {}", e.state.code(), e.message))?;
        assert_eq!(array.data_type(), &data_type.arrow());
        let formatter = ArrayFormatter::try_new(&array, &FormatOptions::default()).unwrap();
        Ok((0..array.len())
            .map(|i| formatter.value(i).to_string())
            .collect())
    }

    #[test]
    fn values_are_assigned_as_postgres_does() {
        let text = |t: &str| Arc::new(StringArray::from(vec![t])) as ArrayRef;
        let float = |x: f64| Arc::new(Float64Array::from(vec![x])) as ArrayRef;
        let int = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
        let decimal = |n: i128| {
            Arc::new(
                Decimal128Array::from(vec![n])
                    .with_precision_and_scale(10, 1)
                    .unwrap(),
            ) as ArrayRef
        };
        let numeric = SqlType::Numeric {
            precision: 5,
            scale: 2,
        };
        let varchar = SqlType::Text {
            max_length: Some(3),
        };
        let plain = SqlType::Text { max_length: None };
        let cases: Vec<(ArrayRef, SqlType, Result<&str, &str>)> = vec![
            (text("42"), SqlType::Integer, Ok("42")),
            (
                text("x"),
                SqlType::Integer,
                Err("22P02: invalid input syntax for type integer: \"x\""),
            ),
            (float(2.5), SqlType::Integer, Ok("2")),
            (float(3.5), SqlType::BigInt, Ok("4")),
            (decimal(25), SqlType::Integer, Ok("3")),
            (
                int(3_000_000_000),
                SqlType::Integer,
                Err("22003: integer out of range"),
            ),
            (int(123), numeric.clone(), Ok("123.00")),
            (
                int(1234),
                numeric.clone(),
                Err("22003: numeric field overflow"),
            ),
            (
                text("12345.6"),
                numeric,
                Err("22003: numeric field overflow"),
            ),
            (int(7), plain.clone(), Ok("7")),
            (float(0.1), plain.clone(), Ok("0.1")),
            (Arc::new(BooleanArray::from(vec![true])), plain, Ok("true")),
            (text("abc"), varchar.clone(), Ok("abc")),
            (
                text("abcd"),
                varchar,
                Err("22001: value too long for type character varying(3)"),
            ),
            (
                text("2026-01-02 03:04:05"),
                SqlType::Timestamptz,
                Ok("2026-01-02T03:04:05Z"),
            ),
            (
                Arc::new(BooleanArray::from(vec![true])),
                SqlType::Integer,
                Err("42804: column \"c\" is of type integer but expression is of type boolean"),
            ),
        ];
        for (values, data_type, expected) in cases {
            let got = assigned(values, data_type.clone()).map(|v| v[0].clone());
            assert_eq!(
                got,
                expected.map(str::to_string).map_err(str::to_string),
                "{data_type}"
            );
        }
    }

    #[test]
    fn local_times_are_read_in_the_sessions_zone() {
        let zone = SessionTimeZone::parse("Europe/Berlin").unwrap();
        let noon: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![43_200_000_000]));
        let assigned = assign(&noon, &column(SqlType::Timestamptz), &zone).unwrap();
        assert_eq!(
            assigned.as_primitive::<TimestampMicrosecondType>().value(0),
            39_600_000_000
        );
        let back = assign(&assigned, &column(SqlType::Timestamp), &zone).unwrap();
        assert_eq!(&back, &noon);
    }
}
