//! Numbers and times as `i64` in their own order, and back: one loop then serves all of their types.
//!
//! Floats are ordered as PostgreSQL orders them: −0.0 equals 0.0, NaN equals itself and is above +∞.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};

use crate::error::Result;

/// Whether values of this type can be told apart and ordered as `i64`.
pub fn is_supported(data_type: &DataType) -> bool {
    carrier(data_type).is_some()
}

/// The type through which values are cast on their way: its 64 bits are then put in order.
fn carrier(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            Some(DataType::Int64)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(DataType::Int64),
        DataType::UInt64 => Some(DataType::UInt64),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Date32 | DataType::Time32(TimeUnit::Second | TimeUnit::Millisecond) => {
            Some(DataType::Int32)
        }
        DataType::Date64
        | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_) => Some(DataType::Int64),
        _ => None,
    }
}

/// The order of a float among all floats.
#[inline]
pub fn of_float(value: f64) -> i64 {
    // Adding 0.0 turns −0.0 into 0.0.
    let bits = if value.is_nan() {
        f64::NAN.to_bits() & (i64::MAX as u64)
    } else {
        (value + 0.0).to_bits()
    } as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The float with that order.
#[inline]
pub fn to_float(order: i64) -> f64 {
    f64::from_bits((order ^ (((order >> 63) as u64) >> 1) as i64) as u64)
}

const SIGN: u64 = 1 << 63;

/// The order of each value; anything where a value is NULL. The type must be supported.
pub fn encode(array: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let carried = match carrier(array.data_type()) {
        Some(carrier) => cast(array, &carrier)?,
        None => array.clone(),
    };
    Ok(match carried.data_type() {
        DataType::Float64 => carried
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .map(|&value| of_float(value))
            .collect(),
        DataType::UInt64 => {
            let values = carried.as_primitive::<UInt64Type>().values();
            values.iter().map(|&value| (value ^ SIGN) as i64).collect()
        }
        _ => cast(&carried, &DataType::Int64)?
            .as_primitive::<Int64Type>()
            .values()
            .clone(),
    })
}

/// The values with these orders, as `data_type`.
pub fn decode(orders: impl Iterator<Item = Option<i64>>, data_type: &DataType) -> Result<ArrayRef> {
    let carrier = carrier(data_type).unwrap_or(DataType::Int64);
    let values: ArrayRef = match carrier {
        DataType::Float64 => Arc::new(
            orders
                .map(|order| order.map(to_float))
                .collect::<Float64Array>(),
        ),
        DataType::UInt64 => Arc::new(
            orders
                .map(|order| order.map(|order| order as u64 ^ SIGN))
                .collect::<UInt64Array>(),
        ),
        _ => Arc::new(orders.collect::<Int64Array>()),
    };
    Ok(match carrier {
        DataType::Int32 => cast(&cast(&values, &DataType::Int32)?, data_type)?,
        _ => cast(&values, data_type)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_ordered() {
        let ascending = [
            f64::NEG_INFINITY,
            -1e300,
            -1.0,
            -5e-324,
            0.0,
            5e-324,
            1.0,
            f64::INFINITY,
            f64::NAN,
        ];
        for pair in ascending.windows(2) {
            assert!(of_float(pair[0]) < of_float(pair[1]), "{pair:?}");
        }
        for value in ascending {
            assert_eq!(
                to_float(of_float(value)).to_bits() & !SIGN,
                value.to_bits() & !SIGN
            );
        }
        assert_eq!(of_float(-0.0), of_float(0.0));
        assert_eq!(of_float(-f64::NAN), of_float(f64::NAN));
    }

    #[test]
    fn values_come_back() {
        let days: ArrayRef = Arc::new(Int64Array::from(vec![Some(-3), None, Some(70)]));
        for data_type in [
            DataType::Int8,
            DataType::Int64,
            DataType::Float32,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Millisecond),
        ] {
            let array = match data_type {
                DataType::Date32 => {
                    cast(&cast(&days, &DataType::Int32).unwrap(), &data_type).unwrap()
                }
                _ => cast(&days, &data_type).unwrap(),
            };
            let orders = encode(&array).unwrap();
            let valid = [Some(orders[0]), None, Some(orders[2])];
            assert_eq!(
                &decode(valid.into_iter(), &data_type).unwrap(),
                &array,
                "{data_type}"
            );
        }
    }
}
