//! Where a constant lies among the values of a column: exactly on one, between two, or beyond all.
//!
//! A comparison may have cast the column to the constant's type. Only casts that keep every value apart and in order
//! are followed back; for all others there is no answer, and the rows are not narrowed down.

use arrow::datatypes::{DataType, TimeUnit, i256};
use datafusion::common::ScalarValue;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// See the module. All values are of the column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// Equal to it.
    At(ScalarValue),
    /// Greater than the first and smaller than the second, of which no other value lies between.
    Between(ScalarValue, ScalarValue),
    /// Smaller than every value.
    Below,
    /// Greater than every value.
    Above,
}

/// Whether the order of a column's stored keys is that of its comparisons. JSON is text to Arrow and compares otherwise,
/// as do intervals.
pub fn is_ordered(data_type: &DataType, is_json: bool) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Decimal256(..)
        | DataType::Binary
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, _) => true,
        DataType::Utf8 => !is_json,
        _ => false,
    }
}

/// Whether a comparison of the column cast to `to` says something of the column itself.
pub fn is_followed(column: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Float32, Float64, Int16, Int32, Timestamp};
    let scale = |t: &DataType| match t {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        t if t.is_signed_integer() => Some(0),
        _ => None,
    };
    match (column, to) {
        (column, to) if column == to => true,
        (Int16, Float32 | Float64) | (Int32 | Float32, Float64) => true,
        (Timestamp(_, None) | Date32, Timestamp(_, None)) => true,
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => true,
        // A cast to fewer digits behind the point rounds.
        (column, to) => match (scale(column), scale(to)) {
            (Some(own), Some(cast)) => cast >= own,
            _ => false,
        },
    }
}

/// The place of a constant that is not NULL among the values of a column.
pub fn place(value: &ScalarValue, column: &DataType) -> Option<Place> {
    if value.data_type() == *column {
        return Some(Place::At(value.clone()));
    }
    match column {
        DataType::Utf8 => match value {
            ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
                Some(Place::At(ScalarValue::Utf8(Some(text.clone()))))
            }
            _ => None,
        },
        DataType::Float32 => match value {
            ScalarValue::Float64(Some(double)) => Some(single(*double)),
            _ => None,
        },
        DataType::Date32 => {
            let at = microseconds(value)?;
            let day = at.0.div_euclid(DAY_US);
            let is_whole = at.1 && at.0.rem_euclid(DAY_US) == 0;
            let date = |day: i64| Some(ScalarValue::Date32(Some(i32::try_from(day).ok()?)));
            match is_whole {
                true => Some(Place::At(date(day)?)),
                false => Some(Place::Between(date(day)?, date(day + 1)?)),
            }
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let (us, is_whole) = microseconds(value)?;
            let timestamp = |us| ScalarValue::TimestampMicrosecond(Some(us), zone.clone());
            Some(match is_whole {
                true => Place::At(timestamp(us)),
                false => Place::Between(timestamp(us), timestamp(us + 1)),
            })
        }
        _ => number(value, column),
    }
}

/// Microseconds since 1970, rounded down, and whether nothing was lost.
fn microseconds(value: &ScalarValue) -> Option<(i64, bool)> {
    match value {
        ScalarValue::TimestampMicrosecond(Some(us), _) => Some((*us, true)),
        ScalarValue::TimestampNanosecond(Some(ns), _) => {
            Some((ns.div_euclid(1000), ns.rem_euclid(1000) == 0))
        }
        ScalarValue::TimestampMillisecond(Some(ms), _) => Some((ms.checked_mul(1000)?, true)),
        ScalarValue::TimestampSecond(Some(s), _) => Some((s.checked_mul(1_000_000)?, true)),
        _ => None,
    }
}

/// A double among single-precision values.
fn single(value: f64) -> Place {
    let nearest = value as f32;
    let scalar = |v: f32| ScalarValue::Float32(Some(v));
    if value.is_nan() || f64::from(nearest) == value {
        return Place::At(scalar(nearest));
    }
    Place::Between(scalar(nearest.next_down()), scalar(nearest.next_up()))
}

/// An exact number as digits and how many of them are behind the point.
fn digits(value: &ScalarValue) -> Option<(i256, i8)> {
    let int = |v: i64| (i256::from(v), 0);
    Some(match value {
        ScalarValue::Int8(Some(v)) => int(i64::from(*v)),
        ScalarValue::Int16(Some(v)) => int(i64::from(*v)),
        ScalarValue::Int32(Some(v)) => int(i64::from(*v)),
        ScalarValue::Int64(Some(v)) => int(*v),
        ScalarValue::Decimal128(Some(v), _, scale) => (i256::from_i128(*v), *scale),
        ScalarValue::Decimal256(Some(v), _, scale) => (*v, *scale),
        // Of the doubles only those that are whole, and small enough to be exact, have digits here.
        ScalarValue::Float32(Some(v)) => int(whole(f64::from(*v))?),
        ScalarValue::Float64(Some(v)) => int(whole(*v)?),
        _ => return None,
    })
}

fn whole(value: f64) -> Option<i64> {
    let is_exact = value.fract() == 0.0 && value.abs() < 9.0e15;
    is_exact.then_some(value as i64)
}

/// An exact number among the values of an integer or decimal column.
fn number(value: &ScalarValue, column: &DataType) -> Option<Place> {
    let (digits, scale) = digits(value)?;
    let (smallest, largest, column_scale) = bounds(column)?;
    let (at, is_exact) = rescaled(digits, scale, column_scale)?;
    let scalar = |v: i256| scalar_of(v, column);
    if at > largest || (at == largest && !is_exact) {
        return Some(Place::Above);
    }
    if at < smallest {
        return Some(Place::Below);
    }
    Some(match is_exact {
        true => Place::At(scalar(at)?),
        false => Place::Between(scalar(at)?, scalar(at.wrapping_add(i256::ONE))?),
    })
}

/// The digits with another number of them behind the point, rounded down; whether nothing was lost.
fn rescaled(digits: i256, from: i8, to: i8) -> Option<(i256, bool)> {
    let power = |n: i8| i256::from(10).checked_pow(u32::try_from(n).ok()?);
    let by = to.checked_sub(from)?;
    if by >= 0 {
        return Some((digits.checked_mul(power(by)?)?, true));
    }
    let divisor = power(by.checked_neg()?)?;
    let quotient = digits.checked_div(divisor)?;
    let rest = digits.wrapping_sub(quotient.wrapping_mul(divisor));
    let is_below = rest < i256::ZERO;
    let floor = if is_below {
        quotient.wrapping_sub(i256::ONE)
    } else {
        quotient
    };
    Some((floor, rest == i256::ZERO))
}

/// The smallest and largest digits of a column's values, and their scale.
fn bounds(column: &DataType) -> Option<(i256, i256, i8)> {
    let int = |min: i64, max: i64| Some((i256::from(min), i256::from(max), 0));
    match column {
        DataType::Int8 => int(i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => int(i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => int(i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Int64 => int(i64::MIN, i64::MAX),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            let power = i256::from(10).checked_pow(u32::from(*precision))?;
            let largest = power.wrapping_sub(i256::ONE);
            Some((largest.wrapping_neg(), largest, *scale))
        }
        _ => None,
    }
}

fn scalar_of(digits: i256, column: &DataType) -> Option<ScalarValue> {
    let int = || digits.to_i128().and_then(|v| i64::try_from(v).ok());
    Some(match column {
        DataType::Int8 => ScalarValue::Int8(Some(i8::try_from(int()?).ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(i16::try_from(int()?).ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(i32::try_from(int()?).ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(int()?)),
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(digits.to_i128()?), *precision, *scale)
        }
        DataType::Decimal256(precision, scale) => {
            ScalarValue::Decimal256(Some(digits), *precision, *scale)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(digits: i128, scale: i8) -> ScalarValue {
        ScalarValue::Decimal128(Some(digits), 20, scale)
    }

    #[test]
    fn constants_are_rounded_outwards() {
        let int = |v| ScalarValue::Int32(Some(v));
        let cases = [
            (
                decimal(250, 2),
                DataType::Int32,
                Place::Between(int(2), int(3)),
            ),
            (
                decimal(-250, 2),
                DataType::Int32,
                Place::Between(int(-3), int(-2)),
            ),
            (decimal(300, 2), DataType::Int32, Place::At(int(3))),
            (
                ScalarValue::Int64(Some(1 << 40)),
                DataType::Int32,
                Place::Above,
            ),
            (
                ScalarValue::Int64(Some(-(1 << 40))),
                DataType::Int32,
                Place::Below,
            ),
            (
                decimal(1005, 3),
                DataType::Decimal128(10, 2),
                Place::Between(
                    ScalarValue::Decimal128(Some(100), 10, 2),
                    ScalarValue::Decimal128(Some(101), 10, 2),
                ),
            ),
            (
                ScalarValue::Int32(Some(7)),
                DataType::Decimal128(10, 2),
                Place::At(ScalarValue::Decimal128(Some(700), 10, 2)),
            ),
            (
                ScalarValue::TimestampNanosecond(Some(1500), None),
                DataType::Timestamp(TimeUnit::Microsecond, None),
                Place::Between(
                    ScalarValue::TimestampMicrosecond(Some(1), None),
                    ScalarValue::TimestampMicrosecond(Some(2), None),
                ),
            ),
            (
                ScalarValue::TimestampMicrosecond(Some(DAY_US), None),
                DataType::Date32,
                Place::At(ScalarValue::Date32(Some(1))),
            ),
        ];
        for (value, column, expected) in cases {
            assert_eq!(
                place(&value, &column),
                Some(expected),
                "{value:?} in {column}"
            );
        }
        let double = ScalarValue::Float64(Some(0.1));
        assert!(matches!(
            place(&double, &DataType::Float32),
            Some(Place::Between(..))
        ));
        assert_eq!(place(&double, &DataType::Int32), None);
    }
}
