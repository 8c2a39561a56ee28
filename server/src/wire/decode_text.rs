//! Parameters in text form: what PostgreSQL's input functions accept, as scalar values.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
pub use rivermark_planner::pg_text::input::decimal;
use rivermark_planner::pg_text::input::{parse_integer, parse_numeric};
use rivermark_planner::pg_text::output::put_uuid;
use rivermark_planner::pg_text::{ValueError, array_input, input};
use rivermark_planner::types::SqlType;

use super::pg_types::PgType;
use super::time_zone::SessionTimeZone;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// Reads `text` as a value of type `pg_type`.
pub fn parse(pg_type: &PgType, text: &str, zone: &SessionTimeZone) -> Result<ScalarValue, PgError> {
    Ok(read(pg_type, text, zone)??)
}

/// The outer error: parameters can not have the type; the inner one: the text is no value of it.
fn read(
    pg_type: &PgType,
    text: &str,
    zone: &SessionTimeZone,
) -> Result<Result<ScalarValue, ValueError>, PgError> {
    if let Some(sql_type) = sql_type(pg_type) {
        return Ok(input::parse(&sql_type, text, zone));
    }
    Ok(match pg_type {
        PgType::Oid | PgType::Xid => parse_integer::<u32>(&pg_type.name(), text)
            .map(|oid| ScalarValue::Int64(Some(i64::from(oid)))),
        PgType::Numeric { .. } => {
            parse_numeric(text).ok_or_else(|| ValueError::syntax("numeric", text))
        }
        PgType::Array(element) => {
            let leaf = element
                .parameter_type()
                .ok_or_else(|| unsupported_parameter(element))?;
            let read = |text: &str| match read(element, text, zone) {
                Ok(value) => value,
                Err(error) => Err(ValueError(error.message)),
            };
            array_input::read_array(text, &leaf, &read)
        }
        PgType::Int2Vector | PgType::OidVector | PgType::Record(_) => {
            return Err(unsupported_parameter(pg_type));
        }
        _ => Ok(ScalarValue::Utf8(Some(text.to_string()))),
    })
}

/// The type whose input function reads texts of `pg_type`.
fn sql_type(pg_type: &PgType) -> Option<SqlType> {
    Some(match pg_type {
        PgType::Bool => SqlType::Boolean,
        PgType::Int2 => SqlType::SmallInt,
        PgType::Int4 => SqlType::Integer,
        PgType::Int8 => SqlType::BigInt,
        PgType::Float4 => SqlType::Real,
        PgType::Float8 => SqlType::Double,
        PgType::Bytea => SqlType::Bytea,
        PgType::Date => SqlType::Date,
        PgType::Time => SqlType::Time,
        PgType::Timestamp => SqlType::Timestamp,
        PgType::Timestamptz => SqlType::Timestamptz,
        PgType::Interval => SqlType::Interval,
        PgType::Uuid => SqlType::Uuid,
        PgType::Json => SqlType::Json,
        PgType::Jsonb => SqlType::Jsonb,
        _ => return None,
    })
}

pub fn unsupported_parameter(pg_type: &PgType) -> PgError {
    PgError::new(
        SqlState::FeatureNotSupported,
        format!("parameters of type {} are not supported", pg_type.name()),
    )
}

/// The canonical text of a uuid.
pub fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = bytes::BytesMut::with_capacity(36);
    put_uuid(&mut text, bytes);
    String::from_utf8_lossy(&text).into_owned()
}

/// A json that comes in binary: its text.
pub fn check_json(text: &str) -> Result<(), PgError> {
    Ok(rivermark_planner::json::check(text)?)
}

/// A NULL of an element type.
pub fn null_of(pg_type: &PgType) -> Result<ScalarValue, PgError> {
    let data_type = pg_type
        .parameter_type()
        .ok_or_else(|| unsupported_parameter(pg_type))?;
    Ok(ScalarValue::try_from(&data_type)?)
}

/// A list of `values`; what is no list among them has the element's type.
pub fn list_of(element: &PgType, values: Vec<ScalarValue>) -> Result<ScalarValue, PgError> {
    let leaf: DataType = element
        .parameter_type()
        .ok_or_else(|| unsupported_parameter(element))?;
    Ok(array_input::list_of(&leaf, values)?)
}
