//! Parameters in text form: what PostgreSQL's input functions accept, as scalar values.

use arrow::datatypes::{DataType, i256};
use datafusion::scalar::ScalarValue;
use rivermark_planner::functions::parse_bytea;
use rivermark_planner::interval_text::{NoInterval, parse_interval};
use serde::de::IgnoredAny;

use super::datetime_input as datetime;
use super::encode_binary::parse_uuid;
use super::encode_nested::is_blank;
use super::encode_text::put_uuid;
use super::pg_types::PgType;
use super::time_zone::SessionTimeZone;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// Reads `text` as a value of type `pg_type`.
pub fn parse(pg_type: &PgType, text: &str, zone: &SessionTimeZone) -> Result<ScalarValue, PgError> {
    let invalid = || invalid_input(pg_type, text);
    Ok(match pg_type {
        PgType::Bool => ScalarValue::Boolean(Some(parse_bool(text).ok_or_else(invalid)?)),
        PgType::Int2 => ScalarValue::Int16(Some(parse_integer(pg_type, text)?)),
        PgType::Int4 => ScalarValue::Int32(Some(parse_integer(pg_type, text)?)),
        PgType::Int8 => ScalarValue::Int64(Some(parse_integer(pg_type, text)?)),
        PgType::Oid | PgType::Xid => {
            ScalarValue::Int64(Some(i64::from(parse_integer::<u32>(pg_type, text)?)))
        }
        PgType::Float4 => ScalarValue::Float32(Some(parse_float(text).ok_or_else(invalid)? as f32)),
        PgType::Float8 => ScalarValue::Float64(Some(parse_float(text).ok_or_else(invalid)?)),
        PgType::Numeric { .. } => parse_numeric(text).ok_or_else(invalid)?,
        PgType::Bytea => ScalarValue::Binary(Some(parse_bytea(text).ok_or_else(invalid)?)),
        PgType::Date => ScalarValue::Date32(Some(datetime::parse_date(text)?)),
        PgType::Time => ScalarValue::Time64Microsecond(Some(datetime::parse_time(text)?)),
        PgType::Timestamp => {
            ScalarValue::TimestampMicrosecond(Some(datetime::parse_timestamp(text)?), None)
        }
        PgType::Timestamptz => {
            let us = datetime::parse_timestamptz(text, zone)?;
            ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()))
        }
        PgType::Interval => ScalarValue::IntervalMonthDayNano(Some(parse_interval(text).map_err(
            |error| match error {
                NoInterval::Syntax => PgError::new(
                    SqlState::InvalidDatetimeFormat,
                    format!("invalid input syntax for type interval: \"{text}\""),
                ),
                NoInterval::OutOfRange => PgError::new(
                    SqlState::IntervalFieldOverflow,
                    format!("interval field value out of range: \"{text}\""),
                ),
            },
        )?)),
        PgType::Uuid => ScalarValue::Utf8(Some(uuid_text(&parse_uuid(text)?))),
        PgType::Json | PgType::Jsonb => {
            check_json(text)?;
            ScalarValue::Utf8(Some(text.to_string()))
        }
        PgType::Array(element) => parse_array(element, text, zone)?,
        PgType::Text
        | PgType::Char
        | PgType::Name
        | PgType::Bpchar
        | PgType::Varchar
        | PgType::NodeTree
        | PgType::Regproc
        | PgType::Regprocedure
        | PgType::Regclass
        | PgType::Regtype
        | PgType::Regnamespace => ScalarValue::Utf8(Some(text.to_string())),
        PgType::Int2Vector | PgType::OidVector | PgType::Record(_) => {
            return Err(unsupported_parameter(pg_type));
        }
    })
}

pub fn unsupported_parameter(pg_type: &PgType) -> PgError {
    PgError::new(
        SqlState::FeatureNotSupported,
        format!("parameters of type {} are not supported", pg_type.name()),
    )
}

fn sql_name(pg_type: &PgType) -> String {
    match pg_type {
        PgType::Bool => "boolean".into(),
        PgType::Int2 => "smallint".into(),
        PgType::Int4 => "integer".into(),
        PgType::Int8 => "bigint".into(),
        PgType::Float4 => "real".into(),
        PgType::Float8 => "double precision".into(),
        other => other.name(),
    }
}

fn invalid_input(pg_type: &PgType, text: &str) -> PgError {
    PgError::new(
        SqlState::InvalidTextRepresentation,
        format!(
            "invalid input syntax for type {}: \"{text}\"",
            sql_name(pg_type)
        ),
    )
}

/// The canonical text of a uuid.
pub fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = bytes::BytesMut::with_capacity(36);
    put_uuid(&mut text, bytes);
    String::from_utf8_lossy(&text).into_owned()
}

pub fn check_json(text: &str) -> Result<(), PgError> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(PgError::new(
            SqlState::InvalidTextRepresentation,
            "invalid input syntax for type json",
        )
        .with_detail(error.to_string())),
    }
}

/// Any unambiguous beginning of true, false, yes, no, on, off; 1 and 0.
fn parse_bool(text: &str) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    let is_prefix = |of: &str, shortest: usize| word.len() >= shortest && of.starts_with(&word);
    if is_prefix("true", 1) || is_prefix("yes", 1) || word == "on" || word == "1" {
        Some(true)
    } else if is_prefix("false", 1) || is_prefix("no", 1) || is_prefix("off", 2) || word == "0" {
        Some(false)
    } else {
        None
    }
}

fn parse_integer<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    pg_type: &PgType,
    text: &str,
) -> Result<T, PgError> {
    use std::num::IntErrorKind;
    text.trim()
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => PgError::new(
                SqlState::NumericValueOutOfRange,
                format!(
                    "value \"{text}\" is out of range for type {}",
                    sql_name(pg_type)
                ),
            ),
            _ => invalid_input(pg_type, text),
        })
}

fn parse_float(text: &str) -> Option<f64> {
    // Rust accepts inf, infinity, nan in any case, as PostgreSQL does.
    text.trim().parse().ok()
}

/// Digits with an optional point and exponent. NaN and infinities have no Arrow decimal.
fn parse_numeric(text: &str) -> Option<ScalarValue> {
    let text = text.trim();
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if scale < 0 {
        digits.extend(std::iter::repeat_n(
            '0',
            usize::try_from(-scale).ok().filter(|n| *n <= 76)?,
        ));
        scale = 0;
    }
    decimal(sign, digits.trim_start_matches('0'), scale)
}

/// A decimal of the narrowest type that holds it.
pub fn decimal(sign: &str, digits: &str, scale: i32) -> Option<ScalarValue> {
    let digits = if digits.is_empty() { "0" } else { digits };
    let scale_i8 = i8::try_from(scale).ok()?;
    let precision = digits.len().max(scale as usize).max(1);
    let signed = format!("{sign}{digits}");
    if precision <= 38 {
        Some(ScalarValue::Decimal128(
            Some(signed.parse().ok()?),
            precision as u8,
            scale_i8,
        ))
    } else if precision <= 76 {
        Some(ScalarValue::Decimal256(
            Some(i256::from_string(&signed)?),
            precision as u8,
            scale_i8,
        ))
    } else {
        None
    }
}

/// `{1,"b c",NULL,{...}}`.
fn parse_array(
    element: &PgType,
    text: &str,
    zone: &SessionTimeZone,
) -> Result<ScalarValue, PgError> {
    let malformed = || {
        PgError::new(
            SqlState::InvalidTextRepresentation,
            format!("malformed array literal: \"{text}\""),
        )
    };
    let body = text.trim();
    // Explicit bounds ([1:3]={...}) are accepted and forgotten: Arrow arrays start at 1.
    let body = match body.strip_prefix('[') {
        Some(_) => body.split_once('=').ok_or_else(malformed)?.1.trim_start(),
        None => body,
    };
    let mut reader = ArrayReader {
        bytes: body.as_bytes(),
        at: 0,
        element,
        zone,
    };
    let value = reader.array().and_then(|v| v.ok_or_else(malformed))?;
    reader.skip_blanks();
    if reader.at != reader.bytes.len() {
        return Err(malformed());
    }
    Ok(value)
}

struct ArrayReader<'a> {
    bytes: &'a [u8],
    at: usize,
    element: &'a PgType,
    zone: &'a SessionTimeZone,
}

impl ArrayReader<'_> {
    fn skip_blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| is_blank(*b)) {
            self.at += 1;
        }
    }

    /// One array with its braces; `None` where the syntax is wrong.
    fn array(&mut self) -> Result<Option<ScalarValue>, PgError> {
        self.skip_blanks();
        if self.bytes.get(self.at) != Some(&b'{') {
            return Ok(None);
        }
        self.at += 1;
        let mut values = Vec::new();
        self.skip_blanks();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return list_of(self.element, values).map(Some);
        }
        loop {
            self.skip_blanks();
            let value = match self.bytes.get(self.at) {
                Some(b'{') => self.array()?,
                Some(b'"') => self.quoted()?,
                _ => self.bare()?,
            };
            let Some(value) = value else { return Ok(None) };
            values.push(value);
            self.skip_blanks();
            let separator = self.bytes.get(self.at);
            self.at += 1;
            match separator {
                Some(b',') => {}
                Some(b'}') => return list_of(self.element, values).map(Some),
                _ => return Ok(None),
            }
        }
    }

    fn quoted(&mut self) -> Result<Option<ScalarValue>, PgError> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.bytes.get(self.at) {
                None => return Ok(None),
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    text.extend(self.bytes.get(self.at + 1));
                    self.at += 2;
                }
                Some(byte) => {
                    text.push(*byte);
                    self.at += 1;
                }
            }
        }
        parse(self.element, &String::from_utf8_lossy(&text), self.zone).map(Some)
    }

    fn bare(&mut self) -> Result<Option<ScalarValue>, PgError> {
        let mut text = Vec::new();
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b',' | b'}' => break,
                b'{' | b'"' => return Ok(None),
                b'\\' => {
                    text.extend(self.bytes.get(self.at + 1));
                    self.at += 2;
                }
                byte => {
                    text.push(*byte);
                    self.at += 1;
                }
            }
        }
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_end_matches(|c: char| c.is_ascii() && is_blank(c as u8));
        if text.is_empty() {
            return Ok(None);
        }
        if text.eq_ignore_ascii_case("null") {
            return null_of(self.element).map(Some);
        }
        parse(self.element, text, self.zone).map(Some)
    }
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
    let nested = values
        .iter()
        .map(ScalarValue::data_type)
        .find(|t| matches!(t, DataType::List(_)));
    let item = match nested {
        Some(list) => list,
        None => element
            .parameter_type()
            .ok_or_else(|| unsupported_parameter(element))?,
    };
    let values = values
        .into_iter()
        .map(|v| v.cast_to(&item))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list(
        &values, &item, true,
    )))
}
