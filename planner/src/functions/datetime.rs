//! Dates, times and intervals: arithmetic, parts, and values made of parts.

mod arithmetic;
mod fields;
mod make;
mod truncate;

use std::sync::Arc;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;

use crate::pg_text::output::MICROS_PER_DAY;

pub use arithmetic::span_us;
pub use fields::has_fraction;

/// Microseconds of an hour.
const HOUR_US: i64 = 3_600_000_000;
/// Days that PostgreSQL takes for a month where it must.
const DAYS_PER_MONTH: i64 = 30;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = arithmetic::functions();
    all.extend(fields::functions());
    all.extend(make::functions());
    all.extend(truncate::functions());
    all
}

/// An interval of months, days and microseconds.
pub fn interval(months: i64, days: i64, us: i64) -> Result<IntervalMonthDayNano> {
    let overflow = || exec_datafusion_err!("interval out of range");
    Ok(IntervalMonthDayNano {
        months: i32::try_from(months).map_err(|_| overflow())?,
        days: i32::try_from(days).map_err(|_| overflow())?,
        nanoseconds: us.checked_mul(1000).ok_or_else(overflow)?,
    })
}

/// Day and time of day of microseconds since 1970.
pub fn split_day(us: i64) -> (i64, i64) {
    (us.div_euclid(MICROS_PER_DAY), us.rem_euclid(MICROS_PER_DAY))
}
