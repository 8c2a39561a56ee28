//! Parameters in binary form: what PostgreSQL's `*_recv` functions accept, as scalar values.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::scalar::ScalarValue;

use super::decode_text::{check_json, decimal, list_of, null_of, unsupported_parameter, uuid_text};
use super::encode_binary::{JSONB_VERSION, PG_EPOCH_DAYS, PG_EPOCH_US};
use super::pg_types::{MAX_ARRAY_DIMENSIONS, PgType};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

fn malformed() -> PgError {
    PgError::new(
        SqlState::InvalidBinaryRepresentation,
        "incorrect binary data format",
    )
}

/// Bytes that are consumed from the front; every read checks that they are there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], PgError> {
        if self.0.len() < n {
            return Err(malformed());
        }
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PgError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| malformed())
    }

    fn i16(&mut self) -> Result<i16, PgError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, PgError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, PgError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, PgError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, PgError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Reads all of `bytes` as a value of type `pg_type`.
pub fn parse(pg_type: &PgType, bytes: &[u8]) -> Result<ScalarValue, PgError> {
    let mut reader = Reader(bytes);
    let value = read(pg_type, &mut reader)?;
    if !reader.0.is_empty() {
        return Err(malformed());
    }
    Ok(value)
}

fn read(pg_type: &PgType, reader: &mut Reader<'_>) -> Result<ScalarValue, PgError> {
    Ok(match pg_type {
        PgType::Bool => ScalarValue::Boolean(Some(reader.array::<1>()? != [0])),
        PgType::Int2 => ScalarValue::Int16(Some(reader.i16()?)),
        PgType::Int4 => ScalarValue::Int32(Some(reader.i32()?)),
        PgType::Int8 => ScalarValue::Int64(Some(reader.i64()?)),
        PgType::Oid | PgType::Xid => ScalarValue::Int64(Some(i64::from(reader.u32()?))),
        PgType::Float4 => ScalarValue::Float32(Some(f32::from_be_bytes(reader.array()?))),
        PgType::Float8 => ScalarValue::Float64(Some(f64::from_be_bytes(reader.array()?))),
        PgType::Numeric { .. } => read_numeric(reader)?,
        PgType::Bytea => ScalarValue::Binary(Some(reader.rest().to_vec())),
        PgType::Date => ScalarValue::Date32(Some(
            reader
                .i32()?
                .checked_add(PG_EPOCH_DAYS)
                .ok_or_else(malformed)?,
        )),
        PgType::Time => ScalarValue::Time64Microsecond(Some(reader.i64()?)),
        PgType::Timestamp => ScalarValue::TimestampMicrosecond(Some(read_moment(reader)?), None),
        PgType::Timestamptz => {
            ScalarValue::TimestampMicrosecond(Some(read_moment(reader)?), Some("UTC".into()))
        }
        PgType::Interval => {
            let us = reader.i64()?;
            let days = reader.i32()?;
            let months = reader.i32()?;
            let nanoseconds = us.checked_mul(1_000).ok_or_else(|| {
                PgError::new(SqlState::IntervalFieldOverflow, "interval out of range")
            })?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano {
                months,
                days,
                nanoseconds,
            }))
        }
        PgType::Uuid => ScalarValue::Utf8(Some(uuid_text(&reader.array()?))),
        PgType::Json => {
            let text = utf8(reader.rest())?;
            check_json(text)?;
            ScalarValue::Utf8(Some(text.to_string()))
        }
        PgType::Jsonb => {
            if reader.array()? != [JSONB_VERSION] {
                return Err(malformed());
            }
            let text = utf8(reader.rest())?;
            ScalarValue::Utf8(Some(rivermark_planner::json::canonical(text)?))
        }
        PgType::Text
        | PgType::Char
        | PgType::Name
        | PgType::Bpchar
        | PgType::Varchar
        | PgType::NodeTree => ScalarValue::Utf8(Some(utf8(reader.rest())?.to_string())),
        PgType::Regproc
        | PgType::Regprocedure
        | PgType::Regclass
        | PgType::Regtype
        | PgType::Regnamespace => ScalarValue::Utf8(Some(reader.u32()?.to_string())),
        PgType::Array(element) => read_array(element, reader)?,
        PgType::Int2Vector | PgType::OidVector | PgType::Record(_) => {
            return Err(unsupported_parameter(pg_type));
        }
    })
}

fn read_moment(reader: &mut Reader<'_>) -> Result<i64, PgError> {
    reader
        .i64()?
        .checked_add(PG_EPOCH_US)
        .ok_or_else(|| PgError::new(SqlState::DatetimeFieldOverflow, "timestamp out of range"))
}

/// Text that is UTF-8 and holds no zero byte.
pub fn utf8(bytes: &[u8]) -> Result<&str, PgError> {
    let invalid = |byte: u8| {
        PgError::new(
            SqlState::CharacterNotInRepertoire,
            format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
        )
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|e| invalid(bytes.get(e.valid_up_to()).copied().unwrap_or(0)))?;
    if text.contains('\0') {
        Err(invalid(0))
    } else {
        Ok(text)
    }
}

fn read_numeric(reader: &mut Reader<'_>) -> Result<ScalarValue, PgError> {
    let count = i32::from(reader.u16()?);
    let weight = i32::from(reader.i16()?);
    let sign = match reader.u16()? {
        0x0000 => "",
        0x4000 => "-",
        0xC000 | 0xD000 | 0xF000 => {
            return Err(PgError::new(
                SqlState::FeatureNotSupported,
                "numeric NaN and infinities are not supported",
            ));
        }
        _ => return Err(malformed()),
    };
    let scale = i32::from(reader.u16()?);
    let mut digits = String::new();
    for _ in 0..count {
        let group = reader.u16()?;
        if group > 9_999 {
            return Err(malformed());
        }
        digits.push_str(&format!("{group:04}"));
    }
    // The digits stand for an integer times 10000^(weight - count + 1): bring it to the declared scale.
    let fraction_digits = 4 * (count - 1 - weight);
    let shift = scale - fraction_digits;
    if shift >= 0 {
        if shift > 200 {
            return Err(malformed());
        }
        digits.extend(std::iter::repeat_n('0', shift as usize));
    } else {
        let kept = digits.len().saturating_sub(shift.unsigned_abs() as usize);
        digits.truncate(kept);
    }
    decimal(sign, digits.trim_start_matches('0'), scale).ok_or_else(|| {
        PgError::new(
            SqlState::NumericValueOutOfRange,
            "numeric has more than 76 digits",
        )
    })
}

fn read_array(element: &PgType, reader: &mut Reader<'_>) -> Result<ScalarValue, PgError> {
    let dimensions = reader.i32()?;
    let _has_null = reader.i32()?;
    // The element type on the wire may be a cousin (varchar for text): a value is read as what it says it is.
    let sent = reader.u32()?;
    let sent_type = PgType::from_oid(sent).unwrap_or_else(|| element.clone());
    if !(0..=MAX_ARRAY_DIMENSIONS as i32).contains(&dimensions) {
        return Err(malformed());
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(reader.i32()?).map_err(|_| malformed())?);
        let _lower_bound = reader.i32()?;
    }
    if lengths.is_empty() || lengths.contains(&0) {
        return list_of(element, Vec::new());
    }
    // Every element takes at least its length field: a count that can not be real is refused before it costs memory.
    let elements = lengths
        .iter()
        .try_fold(1usize, |n, length| n.checked_mul(*length));
    if elements.is_none_or(|n| n > reader.0.len() / 4) {
        return Err(malformed());
    }
    read_level(element, &sent_type, &lengths, reader)
}

fn read_level(
    element: &PgType,
    sent: &PgType,
    lengths: &[usize],
    reader: &mut Reader<'_>,
) -> Result<ScalarValue, PgError> {
    let [length, inner @ ..] = lengths else {
        return Err(malformed());
    };
    let mut values = Vec::new();
    for _ in 0..*length {
        if !inner.is_empty() {
            values.push(read_level(element, sent, inner, reader)?);
            continue;
        }
        let value = match reader.i32()? {
            -1 => null_of(element)?,
            n => parse(
                sent,
                reader.take(usize::try_from(n).map_err(|_| malformed())?)?,
            )?,
        };
        values.push(value);
    }
    list_of(element, values)
}
