//! Arrays and composite values, in text with PostgreSQL's quoting, and in binary.

use bytes::{BufMut, BytesMut};

use super::encode::Column;
use super::pg_types::{MAX_ARRAY_DIMENSIONS, PgType};
use super::time_zone::SessionTimeZone;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// What PostgreSQL's `array_isspace` and `isspace` take for a blank.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// `{1,"b c",NULL}` of the elements `range` of `child`; arrays of arrays nest their braces.
pub fn put_array_text(
    out: &mut BytesMut,
    child: &Column,
    range: std::ops::Range<usize>,
    zone: &SessionTimeZone,
) -> Result<(), PgError> {
    out.put_u8(b'{');
    let first = range.start;
    for i in range {
        if i > first {
            out.put_u8(b',');
        }
        if child.is_null(i) {
            out.put_slice(b"NULL");
            continue;
        }
        let start = out.len();
        child.put_text(i, out, zone)?;
        if !child.is_array() && array_element_needs_quotes(&out[start..]) {
            quote_from(out, start, |byte| {
                matches!(byte, b'"' | b'\\').then_some(b'\\')
            });
        }
    }
    out.put_u8(b'}');
    Ok(())
}

fn array_element_needs_quotes(text: &[u8]) -> bool {
    text.is_empty()
        || text.eq_ignore_ascii_case(b"NULL")
        || text
            .iter()
            .any(|b| matches!(b, b'{' | b'}' | b'"' | b'\\' | b',') || is_blank(*b))
}

/// `(1,"a b",)` of row `row` of `children`.
pub fn put_record_text(
    out: &mut BytesMut,
    children: &[Column],
    row: usize,
    zone: &SessionTimeZone,
) -> Result<(), PgError> {
    out.put_u8(b'(');
    for (i, child) in children.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        if child.is_null(row) {
            continue;
        }
        let start = out.len();
        child.put_text(row, out, zone)?;
        if record_field_needs_quotes(&out[start..]) {
            quote_from(out, start, |byte| {
                matches!(byte, b'"' | b'\\').then_some(byte)
            });
        }
    }
    out.put_u8(b')');
    Ok(())
}

fn record_field_needs_quotes(text: &[u8]) -> bool {
    text.is_empty()
        || text
            .iter()
            .any(|b| matches!(b, b'(' | b')' | b'"' | b'\\' | b',') || is_blank(*b))
}

/// Puts what was written since `start` into double quotes; `escape` gives the byte to put before a byte, if any.
fn quote_from(out: &mut BytesMut, start: usize, escape: impl Fn(u8) -> Option<u8>) {
    let plain = out.split_off(start);
    out.reserve(plain.len() + 2);
    out.put_u8(b'"');
    for byte in plain {
        if let Some(prefix) = escape(byte) {
            out.put_u8(prefix);
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}

/// `array_send`: dimensions, then all elements of the innermost level in order.
pub fn put_array_binary(
    out: &mut BytesMut,
    array: &Column,
    row: usize,
    zone: &SessionTimeZone,
) -> Result<(), PgError> {
    let mut dimensions = Vec::new();
    let (leaf, ranges) = flatten(array, row, &mut dimensions)?;
    let element_oid = leaf.pg_type().oid();
    if ranges.iter().all(|r| r.is_empty()) {
        dimensions.clear();
    }
    out.put_i32(dimensions.len() as i32);
    let has_null = ranges.iter().cloned().flatten().any(|i| leaf.is_null(i));
    out.put_i32(i32::from(has_null));
    out.put_u32(element_oid);
    for length in &dimensions {
        out.put_i32(*length);
        out.put_i32(1);
    }
    for i in ranges.into_iter().flatten() {
        leaf.put_field_binary(i, out, zone)?;
    }
    Ok(())
}

/// The innermost column of an array value with the ranges of its elements, and the length of each dimension.
fn flatten<'a>(
    array: &'a Column,
    row: usize,
    dimensions: &mut Vec<i32>,
) -> Result<(&'a Column, Vec<std::ops::Range<usize>>), PgError> {
    let range = array.elements(row);
    let mut level = array.child();
    dimensions.push(range.len() as i32);
    let mut ranges = vec![range];
    while level.is_array() {
        let rows: Vec<usize> = ranges.into_iter().flatten().collect();
        if dimensions.len() == MAX_ARRAY_DIMENSIONS {
            return Err(PgError::new(
                SqlState::ProgramLimitExceeded,
                format!(
                    "number of array dimensions exceeds the maximum allowed ({MAX_ARRAY_DIMENSIONS})"
                ),
            ));
        }
        if rows.iter().any(|row| level.is_null(*row)) {
            return Err(ragged());
        }
        ranges = rows.iter().map(|row| level.elements(*row)).collect();
        let length = ranges.first().map_or(0, |r| r.len());
        if ranges.iter().any(|r| r.len() != length) {
            return Err(ragged());
        }
        dimensions.push(length as i32);
        level = level.child();
    }
    Ok((level, ranges))
}

fn ragged() -> PgError {
    PgError::new(
        SqlState::ArraySubscriptError,
        "multidimensional arrays must have sub-arrays with matching dimensions",
    )
}

/// `record_send`: each field with the OID of its type.
pub fn put_record_binary(
    out: &mut BytesMut,
    children: &[Column],
    row: usize,
    zone: &SessionTimeZone,
) -> Result<(), PgError> {
    out.put_i32(children.len() as i32);
    for child in children {
        out.put_u32(child.pg_type().oid());
        child.put_field_binary(row, out, zone)?;
    }
    Ok(())
}

/// The numbers in a `List` that holds an `int2vector` or `oidvector`, blank-separated.
pub fn put_vector_text(
    out: &mut BytesMut,
    child: &Column,
    range: std::ops::Range<usize>,
    zone: &SessionTimeZone,
) -> Result<(), PgError> {
    let first = range.start;
    for i in range {
        if i > first {
            out.put_u8(b' ');
        }
        if child.is_null(i) {
            out.put_u8(b'0');
        } else {
            child.put_text(i, out, zone)?;
        }
    }
    Ok(())
}

/// Element type and size of a vector type.
pub fn vector_element(vector: &PgType) -> (u32, i32) {
    match vector {
        PgType::Int2Vector => (PgType::Int2.oid(), 2),
        _ => (PgType::Oid.oid(), 4),
    }
}
