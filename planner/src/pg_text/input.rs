//! PostgreSQL's input functions: a text as a value of a type.

use arrow::datatypes::{DataType, i256};
use datafusion::common::ScalarValue;

use super::output::{put_uuid, text_of};
use super::time_zone::SessionTimeZone;
use super::{ValueError, datetime_input as datetime, interval_input};
use crate::json;
use crate::types::SqlType;

/// Reads `text` as a value of type `sql_type`, of the Arrow type that carries it.
pub fn parse(
    sql_type: &SqlType,
    text: &str,
    zone: &SessionTimeZone,
) -> Result<ScalarValue, ValueError> {
    let name = sql_type.to_string();
    let invalid = || ValueError::syntax(&name, text);
    Ok(match sql_type {
        SqlType::Boolean => ScalarValue::Boolean(Some(parse_bool(text).ok_or_else(invalid)?)),
        SqlType::SmallInt => ScalarValue::Int16(Some(parse_integer(&name, text)?)),
        SqlType::Integer => ScalarValue::Int32(Some(parse_integer(&name, text)?)),
        SqlType::BigInt => ScalarValue::Int64(Some(parse_integer(&name, text)?)),
        SqlType::Real => ScalarValue::Float32(Some(parse_real(text)?)),
        SqlType::Double => ScalarValue::Float64(Some(parse_double(text)?)),
        SqlType::Numeric { precision, scale } => numeric(text, *precision, *scale)?,
        SqlType::Text { .. } => ScalarValue::Utf8(Some(text.to_string())),
        SqlType::Bytea => ScalarValue::Binary(Some(parse_bytea(text)?)),
        SqlType::Date => ScalarValue::Date32(Some(datetime::parse_date(text)?)),
        SqlType::Time => ScalarValue::Time64Microsecond(Some(datetime::parse_time(text)?)),
        SqlType::Timestamp => {
            ScalarValue::TimestampMicrosecond(Some(datetime::parse_timestamp(text)?), None)
        }
        SqlType::Timestamptz => {
            let us = datetime::parse_timestamptz(text, zone)?;
            ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()))
        }
        SqlType::Interval => ScalarValue::IntervalMonthDayNano(Some(interval_input::parse(text)?)),
        SqlType::Uuid => ScalarValue::Utf8(Some(parse_uuid(text).ok_or_else(invalid)?)),
        SqlType::Json => {
            json::check(text)?;
            ScalarValue::Utf8(Some(text.to_string()))
        }
        SqlType::Jsonb => ScalarValue::Utf8(Some(json::canonical(text)?)),
        SqlType::Array(element) => {
            let (leaf, _) = leaf_of(element);
            let read = |text: &str| parse(leaf, text, zone);
            let value = super::array_input::read_array(text, &leaf.arrow(), &read)?;
            value
                .cast_to(&sql_type.arrow())
                .map_err(|_| ValueError(format!("malformed array literal: \"{text}\"")))?
        }
        SqlType::Struct(_) => {
            return Err(ValueError(format!("cannot read a text as type {sql_type}")));
        }
    })
}

/// The elements' type below all dimensions, and how many there are.
fn leaf_of(sql_type: &SqlType) -> (&SqlType, usize) {
    match sql_type {
        SqlType::Array(element) => {
            let (leaf, dimensions) = leaf_of(element);
            (leaf, dimensions + 1)
        }
        leaf => (leaf, 0),
    }
}

/// Any unambiguous beginning of true, false, yes, no, on, off; 1 and 0.
pub fn parse_bool(text: &str) -> Option<bool> {
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

/// Decimal digits with an optional sign.
pub fn parse_integer<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    type_name: &str,
    text: &str,
) -> Result<T, ValueError> {
    use std::num::IntErrorKind;
    text.trim()
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                ValueError::out_of_range(type_name, text)
            }
            _ => ValueError::syntax(type_name, text),
        })
}

/// Rust accepts inf, infinity and nan in any case, as PostgreSQL does; what is no number of the text is an error.
pub fn parse_double(text: &str) -> Result<f64, ValueError> {
    let trimmed = text.trim();
    let value: f64 = trimmed
        .parse()
        .map_err(|_| ValueError::syntax("double precision", text))?;
    check_float(
        value.is_infinite(),
        value == 0.0,
        trimmed,
        "double precision",
    )?;
    Ok(value)
}

/// See [`parse_double`].
pub fn parse_real(text: &str) -> Result<f32, ValueError> {
    let trimmed = text.trim();
    let value: f32 = trimmed
        .parse()
        .map_err(|_| ValueError::syntax("real", text))?;
    check_float(value.is_infinite(), value == 0.0, trimmed, "real")?;
    Ok(value)
}

/// Digits that overflowed to infinity or vanished to zero.
fn check_float(
    is_infinite: bool,
    is_zero: bool,
    text: &str,
    type_name: &str,
) -> Result<(), ValueError> {
    if !is_infinite && !is_zero {
        return Ok(());
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let lost = is_infinite && text.bytes().any(|b| b.is_ascii_digit())
        || is_zero && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
    if lost {
        return Err(ValueError(format!(
            "\"{text}\" is out of range for type {type_name}"
        )));
    }
    Ok(())
}

/// A numeric of exactly this precision and scale; more digits after the point are rounded, half away from zero.
fn numeric(text: &str, precision: u8, scale: i8) -> Result<ScalarValue, ValueError> {
    let is_special = ["nan", "inf", "infinity"].iter().any(|special| {
        text.trim()
            .trim_start_matches(['+', '-'])
            .eq_ignore_ascii_case(special)
    });
    if is_special {
        return Err(ValueError(format!(
            "numeric \"{}\" is not supported; use double precision",
            text.trim()
        )));
    }
    let value = parse_numeric(text).ok_or_else(|| ValueError::syntax("numeric", text))?;
    let target = if precision <= 38 {
        DataType::Decimal128(precision, scale)
    } else {
        DataType::Decimal256(precision, scale)
    };
    let options = datafusion::common::format::DEFAULT_CAST_OPTIONS;
    value
        .cast_to_with_options(&target, &options)
        .map_err(|_| ValueError("numeric field overflow".to_string()))
}

/// Digits with an optional point and exponent, with as many digits after the point as are written.
pub fn parse_numeric(text: &str) -> Option<ScalarValue> {
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
        let zeros = usize::try_from(-scale).ok().filter(|n| *n <= 76)?;
        digits.extend(std::iter::repeat_n('0', zeros));
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

/// Hex (`\x00ff`) or the old escape format (`a\\b\001`).
pub fn parse_bytea(text: &str) -> Result<Vec<u8>, ValueError> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return parse_hex(hex);
    }
    parse_escaped(text.as_bytes())
        .ok_or_else(|| ValueError("invalid input syntax for type bytea".to_string()))
}

/// Pairs of hexadecimal digits, with blanks between them.
pub fn parse_hex(hex: &str) -> Result<Vec<u8>, ValueError> {
    let mut digits = Vec::with_capacity(hex.len());
    for c in hex.chars().filter(|c| !c.is_ascii_whitespace()) {
        match c.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None => {
                return Err(ValueError(format!("invalid hexadecimal digit: \"{c}\"")));
            }
        }
    }
    if !digits.len().is_multiple_of(2) {
        return Err(ValueError(
            "invalid hexadecimal data: odd number of digits".to_string(),
        ));
    }
    Ok(digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

/// Bytes as they are, `\\` and `\ooo`.
pub fn parse_escaped(source: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(source.len());
    let mut i = 0;
    while i < source.len() {
        if source[i] != b'\\' {
            bytes.push(source[i]);
            i += 1;
        } else if source.get(i + 1) == Some(&b'\\') {
            bytes.push(b'\\');
            i += 2;
        } else {
            let octal = std::str::from_utf8(source.get(i + 1..i + 4)?).ok()?;
            bytes.push(u8::from_str_radix(octal, 8).ok()?);
            i += 4;
        }
    }
    Some(bytes)
}

/// The canonical text of a uuid: hex digits, with hyphens after any group of four and braces around them if wanted.
pub fn parse_uuid(text: &str) -> Option<String> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    let mut may_hyphen = false;
    for c in inner.chars() {
        if c == '-' && may_hyphen {
            may_hyphen = false;
            continue;
        }
        let digit = c.to_digit(16)? as u8;
        let byte = bytes.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
        may_hyphen = digits % 4 == 0 && digits < 32;
    }
    (digits == 32 && !inner.ends_with('-')).then(|| text_of(|out| put_uuid(out, &bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_postgres_does() {
        let numeric = SqlType::Numeric {
            precision: 6,
            scale: 2,
        };
        let cases = [
            (SqlType::Integer, " 42 ", Ok("42")),
            (
                SqlType::Integer,
                "x",
                Err("invalid input syntax for type integer: \"x\""),
            ),
            (
                SqlType::SmallInt,
                "99999",
                Err("value \"99999\" is out of range for type smallint"),
            ),
            (SqlType::Boolean, "of", Ok("false")),
            (
                SqlType::Boolean,
                "o",
                Err("invalid input syntax for type boolean: \"o\""),
            ),
            (
                SqlType::Double,
                "1e400",
                Err("\"1e400\" is out of range for type double precision"),
            ),
            (numeric.clone(), "1e3", Ok("1000.00")),
            (numeric.clone(), "1.005", Ok("1.01")),
            (numeric, "12345", Err("numeric field overflow")),
            (
                SqlType::Uuid,
                "{A0EEBC999C0B4ef8-bb6d6bb9bd380a11}",
                Ok("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ),
            (
                SqlType::Uuid,
                "nope",
                Err("invalid input syntax for type uuid: \"nope\""),
            ),
        ];
        for (sql_type, text, expected) in cases {
            let read = parse(&sql_type, text, &SessionTimeZone::UTC);
            let shown = read.map(|value| value.to_string()).map_err(|e| e.0);
            assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
