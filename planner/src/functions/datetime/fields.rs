//! `extract` (numeric) and `date_part` (double precision): the parts of dates, times and intervals. A numeric has one
//! scale for all rows, so fields without fraction have a function of their own, which the binder chooses.

use std::sync::Arc;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::split_day;
use crate::functions::argument::Kind::{Date, Interval, Text, Time, Timestamp, Timestamptz};
use crate::functions::sql_function::{Body, Row, function};
use crate::functions::value::Value;
use crate::pg_text::calendar::{civil_from_days, day_of_year, iso_week, iso_weekday};
use crate::pg_text::output::MICROS_PER_DAY;
use crate::types::SqlType;

/// The scale of `extract`'s results: microseconds.
const SCALE: i8 = 6;
const RESULT: SqlType = SqlType::Numeric {
    precision: 38,
    scale: SCALE,
};

const WHOLE: SqlType = SqlType::Numeric {
    precision: 38,
    scale: 0,
};

/// Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let both = |name: &'static str, gives: SqlType, bodies: [Body; 5]| {
        let [date, time, timestamp, timestamptz, interval] = bodies;
        function(name)
            .strict(&[Text, Timestamptz], gives.clone(), timestamptz)
            .strict(&[Text, Timestamp], gives.clone(), timestamp)
            .strict(&[Text, Date], gives.clone(), date)
            .strict(&[Text, Time], gives.clone(), time)
            .strict(&[Text, Interval], gives, interval)
            .udf()
    };
    vec![
        both(
            "extract",
            RESULT,
            [
                |a| of_date(a).map(exact),
                |a| of_time(a).map(exact),
                |a| of_timestamp(a, false).map(exact),
                |a| of_timestamp(a, true).map(exact),
                |a| of_interval(a).map(exact),
            ],
        ),
        both(
            "rm_extract_whole",
            WHOLE,
            [
                |a| of_date(a).map(cut),
                |a| of_time(a).map(cut),
                |a| of_timestamp(a, false).map(cut),
                |a| of_timestamp(a, true).map(cut),
                |a| of_interval(a).map(cut),
            ],
        ),
        both(
            "date_part",
            SqlType::Double,
            [
                |a| of_date(a).map(float),
                |a| of_time(a).map(float),
                |a| of_timestamp(a, false).map(float),
                |a| of_timestamp(a, true).map(float),
                |a| of_interval(a).map(float),
            ],
        ),
    ]
}

/// A part in millionths.
fn exact(millionths: i128) -> Value {
    Value::Decimal(millionths)
}

/// A part that has no fraction.
fn cut(millionths: i128) -> Value {
    Value::Decimal(millionths / 1_000_000)
}

fn float(millionths: i128) -> Value {
    Value::Float(millionths as f64 / 1e6)
}

fn whole(number: i64) -> i128 {
    i128::from(number) * 1_000_000
}

/// Whether a field may have a fraction, of any type.
pub fn has_fraction(field: &str) -> bool {
    matches!(
        field_name(field).as_str(),
        "second" | "milliseconds" | "microseconds" | "epoch" | "julian"
    )
}

/// PostgreSQL's names of a field, brought to one.
pub fn field_name(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let name = match lower.as_str() {
        "years" | "yr" | "yrs" | "y" => "year",
        "months" | "mon" | "mons" => "month",
        "days" | "d" => "day",
        "hours" | "hr" | "hrs" | "h" => "hour",
        "minutes" | "min" | "mins" | "m" => "minute",
        "seconds" | "sec" | "secs" | "s" => "second",
        "millisecond" | "msec" | "msecs" | "ms" | "mseconds" => "milliseconds",
        "microsecond" | "usec" | "usecs" | "us" | "useconds" => "microseconds",
        "weeks" | "w" => "week",
        "qtr" => "quarter",
        "decades" | "dec" | "decs" => "decade",
        "centuries" | "cent" | "c" => "century",
        "millennia" | "mil" | "mils" => "millennium",
        "j" | "jd" => "julian",
        other => other,
    };
    name.to_string()
}

fn unknown(field: &str, type_name: &str, is_known: bool) -> Result<i128> {
    if is_known {
        return exec_err!("unit \"{field}\" not supported for type {type_name}");
    }
    exec_err!("unit \"{field}\" not recognized for type {type_name}")
}

const KNOWN: &[&str] = &[
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "milliseconds",
    "microseconds",
    "week",
    "quarter",
    "decade",
    "century",
    "millennium",
    "julian",
    "epoch",
    "dow",
    "isodow",
    "doy",
    "isoyear",
    "timezone",
    "timezone_hour",
    "timezone_minute",
];

/// Fields of the calendar.
fn of_day(field: &str, days: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(days);
    // there is no year 0: 1 BC is -1
    let shown_year = if year > 0 { year } else { year - 1 };
    Some(match field {
        "year" => shown_year,
        "month" => i64::from(month),
        "day" => i64::from(day),
        "quarter" => i64::from(month - 1) / 3 + 1,
        "decade" => year.div_euclid(10),
        "century" => century(year, 100),
        "millennium" => century(year, 1000),
        "dow" => iso_weekday(days) % 7,
        "isodow" => iso_weekday(days),
        "doy" => day_of_year(days),
        "week" => iso_week(days).1,
        "isoyear" => match iso_week(days).0 {
            year if year > 0 => year,
            year => year - 1,
        },
        _ => return None,
    })
}

/// The century (or millennium) of a year; the first began in the year 1.
fn century(year: i64, length: i64) -> i64 {
    if year > 0 {
        (year + length - 1) / length
    } else {
        -((length - 1 - (year - 1)) / length)
    }
}

/// Fields of the clock, in millionths.
fn of_clock(field: &str, us: i64) -> Option<i128> {
    Some(match field {
        "hour" => whole(us / 3_600_000_000),
        "minute" => whole(us / 60_000_000 % 60),
        "second" => i128::from(us % 60_000_000),
        "milliseconds" => i128::from(us % 60_000_000) * 1000,
        "microseconds" => i128::from(us % 60_000_000) * 1_000_000,
        _ => return None,
    })
}

fn of_date(a: &Row) -> Result<i128> {
    let (field, days) = (field_name(a.text(0)), a.int(1));
    if let Some(part) = of_day(&field, days) {
        return Ok(whole(part));
    }
    match field.as_str() {
        "epoch" => Ok(whole(days * 86_400)),
        "julian" => Ok(whole(days + JULIAN_EPOCH)),
        _ => unknown(a.text(0), "date", KNOWN.contains(&field.as_str())),
    }
}

fn of_time(a: &Row) -> Result<i128> {
    let (field, us) = (field_name(a.text(0)), a.int(1));
    match (of_clock(&field, us), field.as_str()) {
        (Some(part), _) => Ok(part),
        (None, "epoch") => Ok(i128::from(us)),
        _ => unknown(
            a.text(0),
            "time without time zone",
            KNOWN.contains(&field.as_str()),
        ),
    }
}

/// A third argument is the session's offset in seconds, which a zone's fields need.
fn of_timestamp(a: &Row, has_zone: bool) -> Result<i128> {
    let (field, us) = (field_name(a.text(0)), a.int(1));
    let (days, in_day) = split_day(us);
    if let Some(part) = of_day(&field, days) {
        return Ok(whole(part));
    }
    if let Some(part) = of_clock(&field, in_day) {
        return Ok(part);
    }
    match field.as_str() {
        "epoch" => Ok(i128::from(us)),
        "julian" => {
            let fraction = i128::from(in_day) * 1_000_000 / i128::from(MICROS_PER_DAY);
            Ok(whole(days + JULIAN_EPOCH) + fraction)
        }
        "timezone" | "timezone_hour" | "timezone_minute" if has_zone => Ok(0),
        _ => unknown(
            a.text(0),
            if has_zone {
                "timestamp with time zone"
            } else {
                "timestamp without time zone"
            },
            KNOWN.contains(&field.as_str()),
        ),
    }
}

fn of_interval(a: &Row) -> Result<i128> {
    let (field, span) = (field_name(a.text(0)), a.interval(1));
    let us = span.nanoseconds / 1000;
    let months = i64::from(span.months);
    if let Some(part) = of_clock(&field, us) {
        return Ok(part);
    }
    Ok(match field.as_str() {
        "day" => whole(i64::from(span.days)),
        "month" => whole(months % 12),
        "quarter" => whole(months % 12 / 3 + 1),
        "year" => whole(months / 12),
        "decade" => whole(months / 120),
        "century" => whole(months / 1200),
        "millennium" => whole(months / 12_000),
        "epoch" => epoch(span),
        _ => return unknown(a.text(0), "interval", KNOWN.contains(&field.as_str())),
    })
}

/// Seconds of an interval in millionths: a year is 365.25 days, a month of the rest 30.
fn epoch(span: IntervalMonthDayNano) -> i128 {
    let (years, months) = (i128::from(span.months / 12), i128::from(span.months % 12));
    let quarter_days = years * 1461 + (months * 30 + i128::from(span.days)) * 4;
    quarter_days * 21_600 * 1_000_000 + i128::from(span.nanoseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg_text::datetime_input::parse_date;

    #[test]
    fn centuries_and_weeks() {
        for (date, field, expected) in [
            ("2000-12-16", "century", 20),
            ("2001-01-01", "century", 21),
            ("2001-02-16", "millennium", 3),
            ("2000-12-31", "millennium", 2),
            ("2006-01-01", "isoyear", 2005),
            ("2001-02-18", "isodow", 7),
            ("2001-02-18", "dow", 0),
            ("2001-02-16", "doy", 47),
            ("0044-03-15 BC", "year", -44),
            ("0044-03-15 BC", "century", -1),
        ] {
            let days = i64::from(parse_date(date).unwrap());
            assert_eq!(of_day(field, days), Some(expected), "{date} {field}");
        }
    }
}
