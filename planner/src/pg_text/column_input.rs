//! PostgreSQL's input functions for whole columns: the types that COPY mostly meets, without a value of its own for each text.
//! Each text is read as by `input.rs`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal128Array, PrimitiveArray,
    PrimitiveBuilder, StringArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};

use super::input::{parse_bool, parse_double, parse_integer, parse_real};
use super::time_zone::SessionTimeZone;
use super::{ValueError, datetime_input as datetime};
use crate::types::SqlType;

/// Reads texts as values of a type. `None`: they have to be read one by one.
pub fn parse_column(
    sql_type: &SqlType,
    texts: &StringArray,
    zone: &SessionTimeZone,
) -> Option<Result<ArrayRef, ValueError>> {
    let name = sql_type.to_string();
    let column = match sql_type {
        SqlType::SmallInt => numbers::<Int16Type>(texts, |text| parse_integer(&name, text)),
        SqlType::Integer => numbers::<Int32Type>(texts, |text| parse_integer(&name, text)),
        SqlType::BigInt => numbers::<Int64Type>(texts, |text| parse_integer(&name, text)),
        SqlType::Real => numbers::<Float32Type>(texts, parse_real),
        SqlType::Double => numbers::<Float64Type>(texts, parse_double),
        SqlType::Date => numbers::<Date32Type>(texts, datetime::parse_date),
        SqlType::Timestamp => numbers::<TimestampMicrosecondType>(texts, datetime::parse_timestamp),
        SqlType::Timestamptz => {
            let read = |text: &str| datetime::parse_timestamptz(text, zone);
            primitive::<TimestampMicrosecondType>(texts, read)
                .map(|times| Arc::new(times.with_timezone("UTC")) as ArrayRef)
        }
        SqlType::Boolean => {
            let read = |text: &str| parse_bool(text).ok_or_else(|| ValueError::syntax(&name, text));
            let values = texts.iter().map(|text| text.map(read).transpose());
            let values: Result<BooleanArray, _> = values.collect();
            values.map(|values| Arc::new(values) as ArrayRef)
        }
        SqlType::Numeric { precision, scale } => {
            return decimals(texts, *precision, *scale).map(|values| Ok(Arc::new(values) as _));
        }
        _ => return None,
    };
    Some(column)
}

fn primitive<T: ArrowPrimitiveType>(
    texts: &StringArray,
    read: impl Fn(&str) -> Result<T::Native, ValueError>,
) -> Result<PrimitiveArray<T>, ValueError> {
    let mut values = PrimitiveBuilder::with_capacity(texts.len());
    for text in texts {
        values.append_option(text.map(&read).transpose()?);
    }
    Ok(values.finish())
}

fn numbers<T: ArrowPrimitiveType>(
    texts: &StringArray,
    read: impl Fn(&str) -> Result<T::Native, ValueError>,
) -> Result<ArrayRef, ValueError> {
    Ok(Arc::new(primitive::<T>(texts, read)?))
}

/// Numbers that are written without an exponent, and with no more digits than the type has; `None` if one is not.
fn decimals(texts: &StringArray, precision: u8, scale: i8) -> Option<Decimal128Array> {
    let scale_digits = usize::try_from(scale).ok()?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    let mut values = PrimitiveBuilder::<Decimal128Type>::with_capacity(texts.len());
    for text in texts {
        let value = match text {
            None => None,
            Some(text) => Some(plain_decimal(text, scale_digits).filter(|v| v.abs() < limit)?),
        };
        values.append_option(value);
    }
    values
        .finish()
        .with_precision_and_scale(precision, scale)
        .ok()
}

/// A decimal number in units of its last place.
fn plain_decimal(text: &str, scale: usize) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = scale.checked_sub(fraction.len())?;
    // so many digits fit into an i128
    if !(1..=38).contains(&(whole.len() + fraction.len())) || whole.len() + scale > 38 {
        return None;
    }
    let mut value = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value * 10 + i128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    value *= 10_i128.pow(missing as u32);
    Some(if digits.len() < text.len() {
        -value
    } else {
        value
    })
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::super::input;
    use super::*;

    #[test]
    fn columns_are_read_as_single_values_are() {
        let numeric = |precision, scale| SqlType::Numeric { precision, scale };
        let zone = SessionTimeZone::UTC;
        let cases: [(SqlType, &[&str]); 10] = [
            (SqlType::SmallInt, &["1", " -32768 ", "32768", "x"]),
            (SqlType::BigInt, &["+7", "9223372036854775807", ""]),
            (SqlType::Double, &["1e3", "-0", "nan", "1e400", "x"]),
            (SqlType::Real, &["1.5", "infinity", "1e39"]),
            (SqlType::Boolean, &["t", "off", "maybe"]),
            (SqlType::Date, &["2024-02-29", "Jan 31, 2026", "2024-02-30"]),
            (
                SqlType::Timestamp,
                &["2024-02-29 01:02:03.5+02", "2024-02-29", "soon"],
            ),
            (
                SqlType::Timestamptz,
                &["2024-02-29 01:02:03-02:30", "2024-02-29T00:00:00Z", "epoch"],
            ),
            (numeric(6, 2), &["1.5", "-1234.56", "0", ".5", "5.", "-.25"]),
            (
                numeric(38, 10),
                &["9999999999999999999999999999.9999999999", "-1"],
            ),
        ];
        for (sql_type, texts) in cases {
            for text in texts {
                let single = input::parse(&sql_type, text, &zone);
                let column = StringArray::from(vec![Some(*text), None]);
                let read = parse_column(&sql_type, &column, &zone).expect("a type for columns");
                let read = read.map(|values| {
                    assert!(values.is_null(1));
                    assert_eq!(values.data_type(), &sql_type.arrow());
                    ScalarValue::try_from_array(&values, 0).expect("a value")
                });
                assert_eq!(read, single, "{text:?} as {sql_type}");
            }
        }
        // what is left to others
        for text in ["1e2", "1.005", "12345", "x", "", ".", "NaN", " 1"] {
            let column = StringArray::from(vec![text]);
            assert!(
                parse_column(&numeric(6, 2), &column, &zone).is_none(),
                "{text:?}"
            );
        }
    }
}
