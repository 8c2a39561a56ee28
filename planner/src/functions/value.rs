//! Results of functions, value by value, and the array that they make.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{Result, exec_datafusion_err, internal_err};

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// An integer, days since 1970 or microseconds.
    Int(i64),
    Float(f64),
    /// The unscaled value, of the scale that the result has.
    Decimal(i128),
    Text(String),
    Bytes(Vec<u8>),
    Interval(IntervalMonthDayNano),
    List(Vec<Value>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_string())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Value {
        Value::Bytes(value)
    }
}

impl From<IntervalMonthDayNano> for Value {
    fn from(value: IntervalMonthDayNano) -> Value {
        Value::Interval(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value
where
    T: NotAByte,
{
    fn from(values: Vec<T>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }
}

/// Elements of lists, as opposed to the bytes of a bytea.
pub trait NotAByte {}
impl NotAByte for String {}
impl NotAByte for Option<String> {}
impl NotAByte for i64 {}
impl NotAByte for Value {}

/// An array of type `data_type` of these values.
pub fn to_array(data_type: &DataType, values: Vec<Value>) -> Result<ArrayRef> {
    macro_rules! integers {
        ($array:ty) => {{
            let narrowed = values.iter().map(|value| match value {
                Value::Int(value) => Some(value)
                    .map(|v| (*v).try_into().map_err(|_| out_of_range(data_type)))
                    .transpose(),
                _ => Ok(None),
            });
            Arc::new(narrowed.collect::<Result<$array>>()?)
        }};
    }
    macro_rules! of {
        ($array:ty, $pattern:pat => $value:expr) => {{
            let present = values.into_iter().map(|value| match value {
                $pattern => Some($value),
                _ => None,
            });
            present.collect::<$array>()
        }};
    }
    Ok(match data_type {
        DataType::Null => new_null_array(&DataType::Null, values.len()),
        DataType::Boolean => Arc::new(of!(BooleanArray, Value::Bool(v) => v)),
        DataType::Int16 => integers!(Int16Array),
        DataType::Int32 => integers!(Int32Array),
        DataType::Int64 => integers!(Int64Array),
        DataType::Date32 => integers!(Date32Array),
        DataType::Time64(_) => Arc::new(of!(Time64MicrosecondArray, Value::Int(v) => v)),
        DataType::Timestamp(_, zone) => Arc::new(
            of!(TimestampMicrosecondArray, Value::Int(v) => v).with_timezone_opt(zone.clone()),
        ),
        DataType::Float32 => Arc::new(of!(Float32Array, Value::Float(v) => v as f32)),
        DataType::Float64 => Arc::new(of!(Float64Array, Value::Float(v) => v)),
        DataType::Decimal128(precision, scale) => {
            let array = of!(Decimal128Array, Value::Decimal(v) => v)
                .with_precision_and_scale(*precision, *scale)?;
            array
                .validate_decimal_precision(*precision)
                .map_err(|_| exec_datafusion_err!("numeric field overflow"))?;
            Arc::new(array)
        }
        DataType::Utf8 => Arc::new(of!(StringArray, Value::Text(v) => v)),
        DataType::Binary => {
            let bytes: Vec<Option<Vec<u8>>> = values
                .into_iter()
                .map(|value| match value {
                    Value::Bytes(bytes) => Some(bytes),
                    _ => None,
                })
                .collect();
            Arc::new(bytes.iter().map(Option::as_ref).collect::<BinaryArray>())
        }
        DataType::Interval(_) => Arc::new(of!(IntervalMonthDayNanoArray, Value::Interval(v) => v)),
        DataType::List(item) => {
            let mut items = Vec::new();
            let mut lengths = Vec::with_capacity(values.len());
            let mut validity = Vec::with_capacity(values.len());
            for value in values {
                let before = items.len();
                validity.push(matches!(value, Value::List(_)));
                if let Value::List(list) = value {
                    items.extend(list);
                }
                lengths.push(items.len() - before);
            }
            Arc::new(ListArray::try_new(
                item.clone(),
                OffsetBuffer::from_lengths(lengths),
                to_array(item.data_type(), items)?,
                Some(NullBuffer::from(validity)),
            )?)
        }
        other => return internal_err!("functions do not give {other}"),
    })
}

fn out_of_range(data_type: &DataType) -> datafusion::common::DataFusionError {
    let name = match data_type {
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Date32 => "date",
        _ => "bigint",
    };
    exec_datafusion_err!("{name} out of range")
}
