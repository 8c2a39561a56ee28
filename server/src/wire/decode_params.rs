//! Bind's parameters as scalar values of the types that the statement was planned with.

use bytes::Bytes;
use datafusion::scalar::ScalarValue;

use super::encode::Format;
use super::pg_types::PgType;
use super::time_zone::SessionTimeZone;
use super::{decode_binary, decode_text};
use crate::pg_error::PgError;
use arrow::datatypes::Field;

/// The wire type of a parameter: what the client declared, else what the planner inferred.
pub fn parameter_type(declared: Option<u32>, field: &Field) -> PgType {
    declared
        .and_then(PgType::from_oid)
        .unwrap_or_else(|| PgType::of_field(field))
}

/// Decodes one parameter. `number` is its `$n`, for errors.
pub fn decode(
    number: usize,
    value: Option<&Bytes>,
    format: Format,
    pg_type: &PgType,
    field: &Field,
    zone: &SessionTimeZone,
) -> Result<ScalarValue, PgError> {
    let target = field.data_type();
    let Some(bytes) = value else {
        return Ok(ScalarValue::try_from(target)?);
    };
    let decoded = match format {
        Format::Text => {
            decode_binary::utf8(bytes).and_then(|text| decode_text::parse(pg_type, text, zone))
        }
        Format::Binary => decode_binary::parse(pg_type, bytes),
    };
    let scalar = decoded.map_err(|error| match error.detail {
        None => error.with_detail(format!("parameter ${number}")),
        Some(_) => error,
    })?;
    if scalar.data_type() == *target {
        Ok(scalar)
    } else {
        Ok(scalar.cast_to(target)?)
    }
}
