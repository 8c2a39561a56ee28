//! `to_char`, `to_timestamp`, `to_date` and `to_number`: values as texts of a given form, and back.
#![allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must not pass either")]

mod number;
mod read;
mod template;
mod write;

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{
    Float, Int4, Int8, Interval, Numeric, Real, Text, Time, Timestamp, Timestamptz,
};
use super::datetime::split_day;
use super::decimal::Decimal;
use super::sql_function::{Row, function};
use super::value::Value;
use crate::pg_text::output::MICROS_PER_DAY;
use crate::pg_text::time_zone::SessionTimeZone;
use crate::types::SqlType;
use write::Moment;

const TEXT: SqlType = SqlType::Text { max_length: None };

/// Digits that a numeric has behind the point after `to_number`.
const NUMBER: SqlType = SqlType::PLAIN_NUMERIC;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        to_char(),
        function("to_timestamp")
            .strict(&[Float], SqlType::Timestamptz, |a| {
                let us = a.float(0) * 1e6;
                if !(us.abs() < 9.2e18) {
                    return exec_err!("timestamp out of range: \"{}\"", a.float(0));
                }
                Ok((us.round() as i64).into())
            })
            .strict(&[Text, Text], SqlType::Timestamptz, |a| {
                let parsed = read::read(a.text(0), a.text(1))?;
                Ok(parsed.timestamp(&SessionTimeZone::UTC)?.into())
            })
            .strict(&[Text, Text, Text], SqlType::Timestamptz, |a| {
                let zone = SessionTimeZone::parse(a.text(2)).unwrap_or(SessionTimeZone::UTC);
                Ok(read::read(a.text(0), a.text(1))?.timestamp(&zone)?.into())
            })
            .udf(),
        function("to_date")
            .strict(&[Text, Text], SqlType::Date, |a| {
                Ok(read::read(a.text(0), a.text(1))?.days()?.into())
            })
            .udf(),
        function("to_number")
            .strict(&[Text, Text], NUMBER, |a| {
                let value = number::read(a.text(0), a.text(1))?;
                Ok(Value::Decimal(value.rescaled(10)?.digits))
            })
            .udf(),
    ]
}

fn to_char() -> Arc<ScalarUDF> {
    fn timestamp(a: &Row, zone: Option<SessionTimeZone>) -> Result<Value> {
        let us = a.int(0);
        let east_s = zone.as_ref().map(|zone| zone.offset_at(us));
        let (days, in_day) = split_day(us + i64::from(east_s.unwrap_or(0)) * 1_000_000);
        let moment = Moment {
            days,
            in_day,
            east_s,
            zone: zone.map(|zone| zone.abbreviation_at(us)),
        };
        Ok(write::timestamp(&moment, a.text(1))?.into())
    }
    fn numeric(a: &Row) -> Result<Value> {
        let (digits, scale) = a.decimal(0);
        Ok(number::write(Decimal { digits, scale }, a.text(1))?.into())
    }
    fn whole(a: &Row) -> Result<Value> {
        let value = Decimal {
            digits: i128::from(a.int(0)),
            scale: 0,
        };
        Ok(number::write(value, a.text(1))?.into())
    }
    /// Floats are rounded to as many digits as their type has.
    fn float(a: &Row, digits: usize) -> Result<Value> {
        let value = a.float(0);
        if !value.is_finite() {
            return exec_err!("to_char() of {value} is not supported");
        }
        let shown = format!("{:.*e}", digits - 1, value);
        let parsed = shown.split_once('e').and_then(|(mantissa, exponent)| {
            let exponent: i32 = exponent.parse().ok()?;
            let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len() as i32);
            let digits: i128 = mantissa.replace('.', "").parse().ok()?;
            let scale = fraction - exponent;
            if scale >= 0 {
                // the smallest floats are zero in any format
                let cut = (scale - 30).max(0) as u32;
                let digits = 10i128.checked_pow(cut).map_or(0, |by| digits / by);
                return Some(Decimal {
                    digits,
                    scale: scale.min(30) as i8,
                });
            }
            let factor = 10i128.checked_pow(scale.unsigned_abs())?;
            Some(Decimal {
                digits: digits.checked_mul(factor)?,
                scale: 0,
            })
        });
        let parsed = parsed.ok_or_else(|| exec_datafusion_err!("value out of range: overflow"))?;
        Ok(number::write(parsed.trimmed(), a.text(1))?.into())
    }
    function("to_char")
        .strict(&[Timestamp, Text], TEXT, |a| timestamp(a, None))
        .strict(&[Timestamptz, Text], TEXT, |a| {
            timestamp(a, Some(SessionTimeZone::UTC))
        })
        .strict(&[Timestamptz, Text, Text], TEXT, |a| {
            timestamp(a, SessionTimeZone::parse(a.text(2)))
        })
        .strict(&[Interval, Text], TEXT, |a| {
            Ok(write::interval(a.interval(0), a.text(1))?.into())
        })
        .strict(&[Time, Text], TEXT, |a| {
            let span = super::datetime::interval(0, 0, a.int(0))?;
            Ok(write::interval(span, a.text(1))?.into())
        })
        .strict(&[Int4, Text], TEXT, whole)
        .strict(&[Int8, Text], TEXT, whole)
        .strict(&[Numeric, Text], TEXT, numeric)
        .strict(&[Real, Text], TEXT, |a| float(a, 6))
        .strict(&[Float, Text], TEXT, |a| float(a, 15))
        .udf()
}

/// Days since 1970 in microseconds, checked.
fn days_us(days: i64) -> Result<i64> {
    days.checked_mul(MICROS_PER_DAY)
        .ok_or_else(|| exec_datafusion_err!("timestamp out of range"))
}
