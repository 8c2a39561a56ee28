//! A column under construction: like an Arrow builder, but any number of rows can be taken back, which is needed when
//! a message turns out to be malformed at its end, or names a key twice.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array,
    Decimal256Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, IntervalMonthDayNano, i256};
use rivermark_planner::types::SqlType;

use super::json::keys::KeyGuess;

/// Values of one type with their nulls.
#[derive(Debug)]
pub struct Column {
    data_type: DataType,
    nulls: NullBufferBuilder,
    pub(super) values: Values,
}

/// One variant per SQL type; a null has a placeholder value.
#[derive(Debug)]
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    SmallInt(Vec<i16>),
    Integer(Vec<i32>),
    BigInt(Vec<i64>),
    Real(Vec<f32>),
    Double(Vec<f64>),
    /// Up to 38 digits.
    Numeric {
        precision: u8,
        scale: i8,
        values: Vec<i128>,
    },
    /// Up to 76 digits.
    WideNumeric {
        precision: u8,
        scale: i8,
        values: Vec<i256>,
    },
    Text {
        max_length: Option<u32>,
        bytes: Bytes,
    },
    Bytea(Bytes),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Timestamptz(Vec<i64>),
    Interval(Vec<IntervalMonthDayNano>),
    Uuid(Bytes),
    Json(Bytes),
    Jsonb(Bytes),
    Array {
        offsets: Vec<i32>,
        element: Box<Column>,
    },
    Struct {
        keys: KeyGuess,
        fields: Vec<Column>,
    },
}

/// Values of varying length: value `i` is `data[offsets[i] .. offsets[i + 1]]`.
#[derive(Debug)]
pub(super) struct Bytes {
    pub data: Vec<u8>,
    offsets: Vec<i32>,
}

impl Bytes {
    fn new() -> Self {
        Bytes {
            data: Vec::new(),
            offsets: vec![0],
        }
    }

    /// Appends a value.
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end_value();
    }

    /// Makes a value of what was added to `data` since the last one.
    pub fn end_value(&mut self) {
        self.offsets.push(self.data.len() as i32);
    }

    /// Takes back what was added to `data` since the last value.
    pub fn abandon_value(&mut self) {
        let end = self.offsets[self.offsets.len() - 1];
        self.data.truncate(end as usize);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.abandon_value();
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let capacity = (self.data.len(), self.offsets.len());
        let data = std::mem::replace(&mut self.data, Vec::with_capacity(capacity.0));
        let mut next_offsets = Vec::with_capacity(capacity.1);
        next_offsets.push(0);
        let offsets = std::mem::replace(&mut self.offsets, next_offsets);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(data),
        )
    }
}

impl Column {
    pub fn new(sql_type: &SqlType) -> Self {
        Column {
            data_type: sql_type.arrow(),
            nulls: NullBufferBuilder::new(0),
            values: Values::new(sql_type),
        }
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks the value that was just added to `values` as not null.
    pub(super) fn set_valid(&mut self) {
        self.nulls.append_non_null();
    }

    /// Appends a NULL.
    pub fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Boolean(v) => v.append(false),
            Values::SmallInt(v) => v.push(0),
            Values::Integer(v) | Values::Date(v) => v.push(0),
            Values::BigInt(v) | Values::Time(v) | Values::Timestamp(v) | Values::Timestamptz(v) => {
                v.push(0)
            }
            Values::Real(v) => v.push(0.0),
            Values::Double(v) => v.push(0.0),
            Values::Numeric { values, .. } => values.push(0),
            Values::WideNumeric { values, .. } => values.push(i256::ZERO),
            Values::Text { bytes, .. }
            | Values::Bytea(bytes)
            | Values::Uuid(bytes)
            | Values::Json(bytes)
            | Values::Jsonb(bytes) => bytes.end_value(),
            Values::Interval(v) => v.push(IntervalMonthDayNano::ZERO),
            Values::Array { offsets, element } => offsets.push(element.len() as i32),
            Values::Struct { fields, .. } => fields.iter_mut().for_each(Column::push_null),
        }
    }

    /// Takes back every row from `rows` on, finished or not.
    pub fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Boolean(v) => v.truncate(rows),
            Values::SmallInt(v) => v.truncate(rows),
            Values::Integer(v) | Values::Date(v) => v.truncate(rows),
            Values::BigInt(v) | Values::Time(v) | Values::Timestamp(v) | Values::Timestamptz(v) => {
                v.truncate(rows);
            }
            Values::Real(v) => v.truncate(rows),
            Values::Double(v) => v.truncate(rows),
            Values::Numeric { values, .. } => values.truncate(rows),
            Values::WideNumeric { values, .. } => values.truncate(rows),
            Values::Text { bytes, .. }
            | Values::Bytea(bytes)
            | Values::Uuid(bytes)
            | Values::Json(bytes)
            | Values::Jsonb(bytes) => bytes.truncate(rows),
            Values::Interval(v) => v.truncate(rows),
            Values::Array { offsets, element } => {
                offsets.truncate(rows + 1);
                element.truncate(offsets[offsets.len() - 1] as usize);
            }
            Values::Struct { fields, .. } => fields.iter_mut().for_each(|f| f.truncate(rows)),
        }
    }

    /// The rows as an array; the column is empty afterwards and expects as many again.
    pub fn finish(&mut self) -> ArrayRef {
        let rows = self.len();
        let nulls = self.nulls.finish();
        self.nulls = NullBufferBuilder::new(rows);
        match &mut self.values {
            Values::Boolean(v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Values::SmallInt(v) => Arc::new(Int16Array::new(fixed(v), nulls)),
            Values::Integer(v) => Arc::new(Int32Array::new(fixed(v), nulls)),
            Values::BigInt(v) => Arc::new(Int64Array::new(fixed(v), nulls)),
            Values::Real(v) => Arc::new(Float32Array::new(fixed(v), nulls)),
            Values::Double(v) => Arc::new(Float64Array::new(fixed(v), nulls)),
            Values::Numeric { values, .. } => Arc::new(
                Decimal128Array::new(fixed(values), nulls).with_data_type(self.data_type.clone()),
            ),
            Values::WideNumeric { values, .. } => Arc::new(
                Decimal256Array::new(fixed(values), nulls).with_data_type(self.data_type.clone()),
            ),
            Values::Text { bytes, .. }
            | Values::Uuid(bytes)
            | Values::Json(bytes)
            | Values::Jsonb(bytes) => text_array(bytes, nulls),
            Values::Bytea(bytes) => {
                let (offsets, data) = bytes.finish();
                Arc::new(BinaryArray::new(offsets, data, nulls))
            }
            Values::Date(v) => Arc::new(Date32Array::new(fixed(v), nulls)),
            Values::Time(v) => Arc::new(Time64MicrosecondArray::new(fixed(v), nulls)),
            Values::Timestamp(v) | Values::Timestamptz(v) => Arc::new(
                TimestampMicrosecondArray::new(fixed(v), nulls)
                    .with_data_type(self.data_type.clone()),
            ),
            Values::Interval(v) => Arc::new(IntervalMonthDayNanoArray::new(fixed(v), nulls)),
            Values::Array { offsets, element } => {
                let DataType::List(field) = &self.data_type else {
                    unreachable!("an array's Arrow type is a list")
                };
                let offsets =
                    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])));
                Arc::new(ListArray::new(
                    field.clone(),
                    offsets,
                    element.finish(),
                    nulls,
                ))
            }
            Values::Struct { fields, .. } => {
                let DataType::Struct(arrow_fields) = &self.data_type else {
                    unreachable!("a struct's Arrow type is a struct")
                };
                let arrays = fields.iter_mut().map(Column::finish).collect();
                Arc::new(StructArray::new(arrow_fields.clone(), arrays, nulls))
            }
        }
    }

    /// Appends text to a column of text or bytea; invalid UTF-8 is replaced in the former.
    pub fn push_bytes(&mut self, value: &[u8]) {
        match &mut self.values {
            Values::Text { bytes, .. } => bytes.push(String::from_utf8_lossy(value).as_bytes()),
            Values::Bytea(bytes) => bytes.push(value),
            other => unreachable!("bytes for a column of {other:?}"),
        }
        self.set_valid();
    }

    /// Appends an integer, which fits, to a column of numbers or of times in microseconds.
    pub fn push_integer(&mut self, value: i64) {
        match &mut self.values {
            Values::SmallInt(v) => v.push(value as i16),
            Values::Integer(v) => v.push(value as i32),
            Values::Real(v) => v.push(value as f32),
            Values::Double(v) => v.push(value as f64),
            Values::BigInt(v) | Values::Timestamp(v) | Values::Timestamptz(v) => v.push(value),
            other => unreachable!("an integer for a column of {other:?}"),
        }
        self.set_valid();
    }
}

impl Column {
    /// Appends a number to a column of real or double precision.
    pub fn push_float(&mut self, value: f64) {
        match &mut self.values {
            Values::Real(v) => v.push(value as f32),
            Values::Double(v) => v.push(value),
            other => unreachable!("a float for a column of {other:?}"),
        }
        self.set_valid();
    }

    /// Appends to a column of booleans.
    pub fn push_boolean(&mut self, value: bool) {
        match &mut self.values {
            Values::Boolean(v) => v.append(value),
            other => unreachable!("a boolean for a column of {other:?}"),
        }
        self.set_valid();
    }
}

impl Values {
    fn new(sql_type: &SqlType) -> Self {
        match sql_type {
            SqlType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            SqlType::SmallInt => Values::SmallInt(Vec::new()),
            SqlType::Integer => Values::Integer(Vec::new()),
            SqlType::BigInt => Values::BigInt(Vec::new()),
            SqlType::Real => Values::Real(Vec::new()),
            SqlType::Double => Values::Double(Vec::new()),
            SqlType::Numeric { precision, scale } if *precision <= 38 => Values::Numeric {
                precision: *precision,
                scale: *scale,
                values: Vec::new(),
            },
            SqlType::Numeric { precision, scale } => Values::WideNumeric {
                precision: *precision,
                scale: *scale,
                values: Vec::new(),
            },
            SqlType::Text { max_length } => Values::Text {
                max_length: *max_length,
                bytes: Bytes::new(),
            },
            SqlType::Bytea => Values::Bytea(Bytes::new()),
            SqlType::Date => Values::Date(Vec::new()),
            SqlType::Time => Values::Time(Vec::new()),
            SqlType::Timestamp => Values::Timestamp(Vec::new()),
            SqlType::Timestamptz => Values::Timestamptz(Vec::new()),
            SqlType::Interval => Values::Interval(Vec::new()),
            SqlType::Uuid => Values::Uuid(Bytes::new()),
            SqlType::Json => Values::Json(Bytes::new()),
            SqlType::Jsonb => Values::Jsonb(Bytes::new()),
            SqlType::Array(element) => Values::Array {
                offsets: vec![0],
                element: Box::new(Column::new(element)),
            },
            SqlType::Struct(fields) => Values::Struct {
                keys: KeyGuess::new(fields.iter().map(|(name, _)| name.as_str())),
                fields: fields.iter().map(|(_, t)| Column::new(t)).collect(),
            },
        }
    }
}

fn fixed<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(capacity)))
}

fn text_array(bytes: &mut Bytes, nulls: Option<NullBuffer>) -> ArrayRef {
    let (offsets, data) = bytes.finish();
    // SAFETY: only `&str`s, ASCII and parts of a payload that was checked as a whole are pushed into text columns,
    // a value at a time, so every offset lies between two characters.
    Arc::new(unsafe { StringArray::new_unchecked(offsets, data, nulls) })
}
