//! `date_trunc` and `date_bin`.

use std::sync::Arc;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::fields::field_name;
use super::make::named_zone;
use super::{interval, split_day};
use crate::functions::argument::Kind::{Interval, Text, Timestamp, Timestamptz};
use crate::functions::sql_function::{Row, function};
use crate::functions::value::Value;
use crate::pg_text::calendar::{civil_from_days, days_from_civil, iso_weekday};
use crate::pg_text::output::MICROS_PER_DAY;
use crate::types::SqlType;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    fn trunc(a: &Row, type_name: &str) -> Result<Value> {
        Ok(truncated(a.text(0), a.int(1), type_name)?.into())
    }
    fn bin(a: &Row) -> Result<Value> {
        Ok(binned(a.interval(0), a.int(1), a.int(2))?.into())
    }
    vec![
        function("date_trunc")
            .strict(&[Text, Timestamptz], SqlType::Timestamptz, |a| {
                trunc(a, "timestamp with time zone")
            })
            .strict(&[Text, Timestamp], SqlType::Timestamp, |a| {
                trunc(a, "timestamp without time zone")
            })
            .strict(&[Text, Interval], SqlType::Interval, |a| {
                Ok(truncated_interval(a.text(0), a.interval(1))?.into())
            })
            .strict(&[Text, Timestamptz, Text], SqlType::Timestamptz, |a| {
                let zone = named_zone(a.text(2))?;
                let local = a.int(1) + i64::from(zone.offset_at(a.int(1))) * 1_000_000;
                let cut = truncated(a.text(0), local, "timestamp with time zone")?;
                Ok(zone.local_to_utc(cut).into())
            })
            .udf(),
        function("date_bin")
            .strict(&[Interval, Timestamp, Timestamp], SqlType::Timestamp, bin)
            .strict(
                &[Interval, Timestamptz, Timestamptz],
                SqlType::Timestamptz,
                bin,
            )
            // bins of `time_bucket`, aligned to Monday, 2000-01-03
            .strict(&[Interval, Timestamp], SqlType::Timestamp, from_a_monday)
            .strict(
                &[Interval, Timestamptz],
                SqlType::Timestamptz,
                from_a_monday,
            )
            .udf(),
    ]
}

fn from_a_monday(a: &Row) -> Result<Value> {
    let origin = days_from_civil(2000, 1, 3) * MICROS_PER_DAY;
    Ok(binned(a.interval(0), a.int(1), origin)?.into())
}

fn truncated(field: &str, us: i64, type_name: &str) -> Result<i64> {
    let (days, _) = split_day(us);
    let (year, month, _) = civil_from_days(days);
    let cut_to = |unit: i64| Ok(us - us.rem_euclid(unit));
    let first_of_year = |year: i64| days_from_civil(year, 1, 1);
    // centuries and millennia begin with the year 1
    let start = |length: i64| (year - 1).div_euclid(length) * length + 1;
    let day = match field_name(field).as_str() {
        "microseconds" => return Ok(us),
        "milliseconds" => return cut_to(1000),
        "second" => return cut_to(1_000_000),
        "minute" => return cut_to(60_000_000),
        "hour" => return cut_to(3_600_000_000),
        "day" => days,
        "week" => days - iso_weekday(days) + 1,
        "month" => days_from_civil(year, month, 1),
        "quarter" => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        "year" => first_of_year(year),
        "decade" => first_of_year(year.div_euclid(10) * 10),
        "century" => first_of_year(start(100)),
        "millennium" => first_of_year(start(1000)),
        "dow" | "isodow" | "doy" | "epoch" | "julian" | "isoyear" | "timezone" => {
            return exec_err!("unit \"{field}\" not supported for type {type_name}");
        }
        _ => return exec_err!("unit \"{field}\" not recognized for type {type_name}"),
    };
    Ok(day * MICROS_PER_DAY)
}

fn truncated_interval(field: &str, span: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let (months, days, us) = (
        i64::from(span.months),
        i64::from(span.days),
        span.nanoseconds / 1000,
    );
    let cut = |value: i64, unit: i64| value - value % unit;
    match field_name(field).as_str() {
        "microseconds" => interval(months, days, us),
        "milliseconds" => interval(months, days, cut(us, 1000)),
        "second" => interval(months, days, cut(us, 1_000_000)),
        "minute" => interval(months, days, cut(us, 60_000_000)),
        "hour" => interval(months, days, cut(us, 3_600_000_000)),
        "day" => interval(months, days, 0),
        "month" => interval(months, 0, 0),
        "quarter" => interval(cut(months, 3), 0, 0),
        "year" => interval(cut(months, 12), 0, 0),
        "decade" => interval(cut(months, 120), 0, 0),
        "century" => interval(cut(months, 1200), 0, 0),
        "millennium" => interval(cut(months, 12_000), 0, 0),
        "week" => exec_err!("unit \"{field}\" not supported for type interval"),
        _ => exec_err!("unit \"{field}\" not recognized for type interval"),
    }
}

fn binned(stride: IntervalMonthDayNano, us: i64, origin: i64) -> Result<i64> {
    if stride.months != 0 {
        return exec_err!("timestamps cannot be binned into intervals containing months or years");
    }
    let overflow = || exec_datafusion_err!("interval out of range");
    let stride = i64::from(stride.days)
        .checked_mul(MICROS_PER_DAY)
        .and_then(|days| days.checked_add(stride.nanoseconds / 1000))
        .ok_or_else(overflow)?;
    if stride <= 0 {
        return exec_err!("stride must be greater than zero");
    }
    let since = us.checked_sub(origin).ok_or_else(overflow)?;
    Ok(us - since.rem_euclid(stride))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg_text::datetime_input::parse_timestamp;

    #[test]
    fn everything_is_cut() {
        let at = |text: &str| parse_timestamp(text).unwrap();
        for (field, expected) in [
            ("hour", "2001-02-16 20:00"),
            ("week", "2001-02-12"),
            ("quarter", "2001-01-01"),
            ("decade", "2000-01-01"),
            ("century", "2001-01-01"),
            ("millennium", "2001-01-01"),
        ] {
            let cut = truncated(field, at("2001-02-16 20:38:40"), "t").unwrap();
            assert_eq!(cut, at(expected), "{field}");
        }
        assert!(truncated("nope", 0, "t").is_err());
    }

    #[test]
    fn bins_before_the_origin() {
        let quarter = interval(0, 0, 900_000_000).unwrap();
        let at = |text: &str| parse_timestamp(text).unwrap();
        let bin = binned(quarter, at("2000-12-31 23:50"), at("2001-01-01")).unwrap();
        assert_eq!(bin, at("2000-12-31 23:45"));
        let month = interval(1, 0, 0).unwrap();
        assert!(binned(month, 0, 0).is_err());
    }
}
