//! One cell of a key: how a value of each type becomes bytes that compare as SQL does, and back.

use arrow::datatypes::{DataType, IntervalUnit, i256};

use super::super::column::{BuilderValues, Cells, ColumnBuilder, ColumnView, Shape, shape};
use super::super::error::StateError;
use super::{decimal, interval};

/// A cell that is not NULL.
pub(super) const PRESENT: u8 = 0x01;
/// A NULL that sorts first; also the end of a list.
pub(super) const NULL_FIRST: u8 = 0x00;
/// A NULL that sorts last, as inside lists and structs.
pub(super) const NULL_LAST: u8 = 0xFF;

/// How values of a type compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Null,
    Boolean,
    Signed(usize),
    Unsigned(usize),
    Float32,
    Float64,
    /// Bytes of a fixed number.
    Raw(usize),
    Decimal128(i8),
    Decimal256(i8),
    Interval(IntervalUnit),
    Bytes,
    List(Box<Order>),
    Struct(Vec<Order>),
}

impl Order {
    pub(super) fn of(data_type: &DataType) -> Result<Self, StateError> {
        Ok(match (data_type, shape(data_type)?) {
            (
                DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64,
                Shape::Fixed(width),
            ) => Self::Unsigned(width),
            (DataType::Float32, _) => Self::Float32,
            (DataType::Float64, _) => Self::Float64,
            (DataType::FixedSizeBinary(_), Shape::Fixed(width)) => Self::Raw(width),
            (DataType::Decimal128(_, scale), _) => Self::Decimal128(*scale),
            (DataType::Decimal256(_, scale), _) => Self::Decimal256(*scale),
            (DataType::Interval(unit), _) => Self::Interval(*unit),
            (_, Shape::Null) => Self::Null,
            (_, Shape::Boolean) => Self::Boolean,
            (_, Shape::Bytes) => Self::Bytes,
            (_, Shape::List(item)) => Self::List(Box::new(Self::of(&item)?)),
            (_, Shape::Struct(fields)) => {
                Self::Struct(fields.iter().map(Self::of).collect::<Result<_, _>>()?)
            }
            (_, Shape::Fixed(width)) => Self::Signed(width),
        })
    }

    /// Bytes of every cell behind its marker, if they are always as many.
    pub(super) fn fixed_len(&self) -> Option<usize> {
        match self {
            Self::Null => Some(0),
            Self::Boolean => Some(1),
            Self::Signed(width) | Self::Unsigned(width) | Self::Raw(width) => Some(*width),
            Self::Float32 => Some(4),
            Self::Float64 => Some(8),
            Self::Interval(_) => Some(16),
            Self::Decimal128(_)
            | Self::Decimal256(_)
            | Self::Bytes
            | Self::List(_)
            | Self::Struct(_) => None,
        }
    }
}

/// Order-preserving bits of a float: −0.0 is 0.0, all NaN are one and above +∞.
#[inline]
pub(super) fn float64_bits(value: f64) -> u64 {
    let bits = if value.is_nan() {
        f64::NAN.to_bits() & !(1 << 63)
    } else {
        (value + 0.0).to_bits()
    };
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// As [`float64_bits`].
#[inline]
pub(super) fn float32_bits(value: f32) -> u32 {
    let bits = if value.is_nan() {
        f32::NAN.to_bits() & !(1 << 31)
    } else {
        (value + 0.0).to_bits()
    };
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

/// Big-endian bytes of a little-endian integer, sign flipped if `SIGNED`.
#[inline]
pub(super) fn ordered_int<const W: usize, const SIGNED: bool>(value: &[u8; W]) -> [u8; W] {
    let mut bytes = *value;
    bytes.reverse();
    if SIGNED {
        bytes[0] ^= 0x80;
    }
    bytes
}

/// Bytes that `text` takes once escaped.
#[inline]
pub(super) fn escaped_len(text: &[u8]) -> usize {
    let zeros = if text.contains(&0) {
        text.iter().filter(|&&byte| byte == 0).count()
    } else {
        0
    };
    text.len() + zeros + 2
}

/// Writes `text` with each 00 as 00 FF and 00 01 behind; returns the number of bytes.
#[inline]
pub(super) fn put_escaped(text: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    if text.contains(&0) {
        for &byte in text {
            out[at] = byte;
            at += 1;
            if byte == 0 {
                out[at] = 0xFF;
                at += 1;
            }
        }
    } else {
        out[..text.len()].copy_from_slice(text);
        at = text.len();
    }
    out[at] = 0;
    out[at + 1] = 1;
    at + 2
}

/// Appends marker and value of a cell, ascending, with NULL as `null_marker`.
pub(super) fn write_cell(
    order: &Order,
    view: &ColumnView,
    row: usize,
    null_marker: u8,
    out: &mut Vec<u8>,
) {
    if view.is_null(row) {
        out.push(null_marker);
        return;
    }
    out.push(PRESENT);
    match (order, &view.cells) {
        (Order::Boolean, Cells::Boolean(values)) => out.push(u8::from(values.value(row))),
        (_, Cells::Fixed { width, values }) => {
            write_fixed(order, &values[row * width..(row + 1) * width], out)
        }
        (Order::Bytes, Cells::Bytes(cells)) => {
            let text = cells.get(row);
            let start = out.len();
            out.resize(start + escaped_len(text), 0);
            put_escaped(text, &mut out[start..]);
        }
        (Order::List(item_order), Cells::List { offsets, child }) => {
            for item in offsets.range(row) {
                write_cell(item_order, child, item, NULL_LAST, out);
            }
            out.push(0);
        }
        (Order::Struct(orders), Cells::Struct(fields)) => {
            for (order, field) in orders.iter().zip(fields) {
                write_cell(order, field, row, NULL_LAST, out);
            }
        }
        _ => unreachable!("order and view are made from the same type"),
    }
}

fn array<const W: usize>(value: &[u8]) -> [u8; W] {
    value
        .try_into()
        .expect("a fixed cell has the width of its type")
}

/// Appends a value in Arrow's memory layout as key bytes.
pub(super) fn write_fixed(order: &Order, value: &[u8], out: &mut Vec<u8>) {
    match order {
        Order::Signed(_) | Order::Unsigned(_) => {
            let start = out.len();
            out.extend(value.iter().rev());
            if matches!(order, Order::Signed(_)) {
                out[start] ^= 0x80;
            }
        }
        Order::Float32 => out.extend(float32_bits(f32::from_le_bytes(array(value))).to_be_bytes()),
        Order::Float64 => out.extend(float64_bits(f64::from_le_bytes(array(value))).to_be_bytes()),
        Order::Raw(_) => out.extend_from_slice(value),
        Order::Decimal128(scale) => {
            decimal::write_decimal128(i128::from_le_bytes(array(value)), *scale, out)
        }
        Order::Decimal256(scale) => {
            decimal::write_decimal256(i256::from_le_bytes(array(value)), *scale, out)
        }
        Order::Interval(unit) => {
            let span = interval::span(*unit, value);
            out.extend(ordered_int::<16, true>(&span.to_le_bytes()));
        }
        Order::Null | Order::Boolean | Order::Bytes | Order::List(_) | Order::Struct(_) => {
            unreachable!("{order:?} is not a fixed cell")
        }
    }
}

pub(super) fn damaged() -> StateError {
    StateError::Corrupt("a key ends in the middle of a cell or has an unknown marker".to_string())
}

fn take<'a>(cursor: &mut &'a [u8], len: usize) -> Result<&'a [u8], StateError> {
    let (cell, rest) = cursor.split_at_checked(len).ok_or_else(damaged)?;
    *cursor = rest;
    Ok(cell)
}

/// Reads the value of a cell, ascending, behind its marker.
pub(super) fn read_value(
    order: &Order,
    builder: &mut ColumnBuilder,
    cursor: &mut &[u8],
) -> Result<(), StateError> {
    match (order, &mut builder.values) {
        (Order::Boolean, BuilderValues::Boolean(values)) => values.append(take(cursor, 1)?[0] != 0),
        (_, BuilderValues::Fixed { values, .. }) => match order {
            Order::Signed(width) | Order::Unsigned(width) => {
                let bytes = take(cursor, *width)?;
                let flip = if matches!(order, Order::Signed(_)) {
                    0x80
                } else {
                    0
                };
                let mut value = [0u8; 16];
                value
                    .iter_mut()
                    .zip(bytes.iter().rev())
                    .for_each(|(to, from)| *to = *from);
                value[width - 1] ^= flip;
                values.extend_from_slice(&value[..*width]);
            }
            Order::Raw(width) => values.extend_from_slice(take(cursor, *width)?),
            _ => read_number(order, values, cursor)?,
        },
        (Order::Bytes, BuilderValues::Bytes { ends, values }) => {
            read_escaped(cursor, values)?;
            ends.push(values.len());
        }
        (Order::List(item_order), BuilderValues::List { ends, child }) => {
            while *cursor.first().ok_or_else(damaged)? != 0 {
                read_cell(item_order, child, cursor)?;
            }
            take(cursor, 1)?;
            ends.push(child.len());
        }
        (Order::Struct(orders), BuilderValues::Struct(fields)) => {
            for (order, field) in orders.iter().zip(fields) {
                read_cell(order, field, cursor)?;
            }
        }
        _ => return Err(damaged()),
    }
    builder.present();
    Ok(())
}

fn read_number(
    order: &Order,
    values: &mut arrow::buffer::MutableBuffer,
    cursor: &mut &[u8],
) -> Result<(), StateError> {
    match order {
        Order::Float32 => {
            let bits = u32::from_be_bytes(array(take(cursor, 4)?));
            let bits = if bits >> 31 == 1 {
                bits & !(1 << 31)
            } else {
                !bits
            };
            values.extend_from_slice(&bits.to_le_bytes());
        }
        Order::Float64 => {
            let bits = u64::from_be_bytes(array(take(cursor, 8)?));
            let bits = if bits >> 63 == 1 {
                bits & !(1 << 63)
            } else {
                !bits
            };
            values.extend_from_slice(&bits.to_le_bytes());
        }
        Order::Decimal128(scale) => {
            values.extend_from_slice(&decimal::read_decimal128(cursor, *scale)?.to_le_bytes());
        }
        Order::Decimal256(scale) => {
            values.extend_from_slice(&decimal::read_decimal256(cursor, *scale)?.to_le_bytes());
        }
        Order::Interval(unit) => {
            let mut bytes: [u8; 16] = array(take(cursor, 16)?);
            bytes[0] ^= 0x80;
            values.extend_from_slice(&interval::from_span(*unit, i128::from_be_bytes(bytes))?);
        }
        _ => return Err(damaged()),
    }
    Ok(())
}

/// Reads a nested cell: marker and value.
fn read_cell(
    order: &Order,
    builder: &mut ColumnBuilder,
    cursor: &mut &[u8],
) -> Result<(), StateError> {
    match take(cursor, 1)?[0] {
        NULL_LAST => {
            builder.push_null();
            Ok(())
        }
        PRESENT => read_value(order, builder, cursor),
        _ => Err(damaged()),
    }
}

fn read_escaped(cursor: &mut &[u8], values: &mut Vec<u8>) -> Result<(), StateError> {
    loop {
        let zero = cursor
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(damaged)?;
        values.extend_from_slice(&cursor[..zero]);
        match cursor.get(zero + 1) {
            Some(0xFF) => values.push(0),
            Some(0x01) => {
                *cursor = &cursor[zero + 2..];
                return Ok(());
            }
            _ => return Err(damaged()),
        }
        *cursor = &cursor[zero + 2..];
    }
}
