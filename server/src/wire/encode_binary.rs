//! PostgreSQL's binary form of scalar values, the bytes that its `*_send` functions give.

use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};

use super::encode_text::{DecimalDigits, MICROS_PER_DAY};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's zero.
pub const PG_EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub const PG_EPOCH_US: i64 = PG_EPOCH_DAYS as i64 * MICROS_PER_DAY;

const NUMERIC_NEGATIVE: u16 = 0x4000;

/// The version byte before `jsonb` text.
pub const JSONB_VERSION: u8 = 1;

pub fn put_date(out: &mut BytesMut, days: i32) {
    out.put_i32(days.saturating_sub(PG_EPOCH_DAYS));
}

pub fn put_timestamp(out: &mut BytesMut, us: i64) {
    out.put_i64(us.saturating_sub(PG_EPOCH_US));
}

pub fn put_interval(out: &mut BytesMut, value: IntervalMonthDayNano) {
    out.put_i64(value.nanoseconds / 1_000);
    out.put_i32(value.days);
    out.put_i32(value.months);
}

/// Base-10000 digits, most significant first; `weight` is the power of 10000 of the first one.
pub fn put_decimal(out: &mut BytesMut, value: &DecimalDigits, scale: i8) {
    let mut digits = [b'0'; 256];
    let source = value.digits();
    // A negative scale means zeros before the point that the unscaled value lacks.
    let zeros = if scale < 0 {
        scale.unsigned_abs() as usize
    } else {
        0
    };
    let fraction = scale.max(0) as usize;
    let whole = (source.len() + zeros).saturating_sub(fraction);
    // Pad both sides of the point to multiples of four digits.
    let whole_groups = whole.div_ceil(4);
    let groups = whole_groups + fraction.div_ceil(4);
    let start = if source.len() + zeros >= fraction {
        whole_groups * 4 - whole
    } else {
        fraction - source.len()
    };
    digits[start..start + source.len()].copy_from_slice(source);

    let group = |i: usize| {
        digits[i * 4..i * 4 + 4]
            .iter()
            .fold(0u16, |n, b| n * 10 + u16::from(b - b'0'))
    };
    let first = (0..groups).find(|i| group(*i) != 0);
    let last = (0..groups).rev().find(|i| group(*i) != 0);
    let (Some(first), Some(last)) = (first, last) else {
        out.put_slice(&[0; 6]);
        out.put_u16(fraction as u16);
        return;
    };
    out.put_u16((last - first + 1) as u16);
    out.put_i16(whole_groups as i16 - 1 - first as i16);
    out.put_u16(if value.is_negative {
        NUMERIC_NEGATIVE
    } else {
        0
    });
    out.put_u16(fraction as u16);
    for i in first..=last {
        out.put_u16(group(i));
    }
}

/// The 16 bytes of a uuid's text; hyphens and braces may be anywhere.
pub fn parse_uuid(text: &str) -> Result<[u8; 16], PgError> {
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    for c in text.chars().filter(|c| !matches!(c, '-' | '{' | '}')) {
        match c.to_digit(16) {
            Some(value) if digits < 32 => {
                bytes[digits / 2] = bytes[digits / 2] << 4 | value as u8;
                digits += 1;
            }
            _ => {
                digits = 0;
                break;
            }
        }
    }
    if digits != 32 {
        return Err(PgError::new(
            SqlState::InvalidTextRepresentation,
            format!("invalid input syntax for type uuid: \"{text}\""),
        ));
    }
    Ok(bytes)
}

/// A 4-byte unsigned number (`oid` and its kin).
pub fn put_oid(out: &mut BytesMut, value: i64) -> Result<(), PgError> {
    let oid = u32::try_from(value).map_err(|_| {
        PgError::new(
            SqlState::NumericValueOutOfRange,
            format!("OID out of range: {value}"),
        )
    })?;
    out.put_u32(oid);
    Ok(())
}

/// The text of an oid-like value, as its number. Names (`regclass` of a relation) have no number here.
pub fn put_oid_text(out: &mut BytesMut, text: &str) -> Result<(), PgError> {
    if text == "-" {
        out.put_u32(0);
        return Ok(());
    }
    let oid: u32 = text.trim().parse().map_err(|_| {
        PgError::new(
            SqlState::FeatureNotSupported,
            format!("\"{text}\" has no binary form, only a text form"),
        )
    })?;
    out.put_u32(oid);
    Ok(())
}

/// `int2vector` and `oidvector` from their text (`1 2 3`): an array that starts at index 0.
pub fn put_vector_text(
    out: &mut BytesMut,
    text: &str,
    element_oid: u32,
    element_size: i32,
) -> Result<(), PgError> {
    let values: Vec<i64> = text
        .split_ascii_whitespace()
        .map(|word| {
            word.parse().map_err(|_| {
                PgError::new(
                    SqlState::InvalidTextRepresentation,
                    format!("invalid number \"{word}\" in a vector"),
                )
            })
        })
        .collect::<Result<_, _>>()?;
    put_vector(out, &values, element_oid, element_size);
    Ok(())
}

fn put_vector(out: &mut BytesMut, values: &[i64], element_oid: u32, element_size: i32) {
    out.put_i32(1);
    out.put_i32(0);
    out.put_u32(element_oid);
    out.put_i32(values.len() as i32);
    out.put_i32(0);
    for value in values {
        out.put_i32(element_size);
        out.put_slice(&value.to_be_bytes()[8 - element_size as usize..]);
    }
}
