//! Values made of their parts.
#![allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must not pass either")]

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::interval;
use crate::functions::argument::Kind::{Float, Int4, Text};
use crate::functions::sql_function::{Row, function};
use crate::functions::value::Value;
use crate::pg_text::calendar::{days_from_civil, days_in_month};
use crate::pg_text::datetime_input::{TIMESTAMP_END_US, zone_of_name};
use crate::pg_text::output::MICROS_PER_DAY;
use crate::pg_text::time_zone::{SessionTimeZone, parse_offset};
use crate::types::SqlType;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let parts = [Int4, Int4, Int4, Int4, Int4, Float];
    let with_zone = [Int4, Int4, Int4, Int4, Int4, Float, Text];
    let mut all = vec![
        function("make_date")
            .strict(&[Int4, Int4, Int4], SqlType::Date, |a| Ok(date(a)?.into()))
            .udf(),
        function("make_time")
            .strict(&[Int4, Int4, Float], SqlType::Time, |a| {
                Ok(time(a, 0)?.into())
            })
            .udf(),
        function("make_timestamp")
            .strict(&parts, SqlType::Timestamp, |a| Ok(local(a)?.into()))
            .udf(),
        function("make_timestamptz")
            .strict(&parts, SqlType::Timestamptz, |a| Ok(local(a)?.into()))
            .strict(&with_zone, SqlType::Timestamptz, |a| {
                let zone = named_zone(a.text(6))?;
                Ok(zone.local_to_utc(local(a)?).into())
            })
            .udf(),
    ];
    let mut make_interval = function("make_interval");
    for count in 0..=7 {
        let kinds = &[Int4, Int4, Int4, Int4, Int4, Int4, Float][..count];
        make_interval = make_interval.strict(kinds, SqlType::Interval, make);
    }
    all.push(make_interval.udf());
    all
}

fn date(a: &Row) -> Result<i64> {
    let (year, month, day) = (a.int(0), a.int(1), a.int(2));
    let astronomical = if year < 0 { year + 1 } else { year };
    let exists = year != 0
        && year.abs() < 5_874_898
        && (1..=12).contains(&month)
        && day >= 1
        && day <= i64::from(days_in_month(astronomical, month as u32));
    if !exists {
        return exec_err!("date field value out of range: {year}-{month:02}-{day:02}");
    }
    Ok(days_from_civil(astronomical, month as u32, day as u32))
}

fn time(a: &Row, first: usize) -> Result<i64> {
    let (hour, minute, second) = (a.int(first), a.int(first + 1), a.float(first + 2));
    let us = hour * 3_600_000_000 + minute * 60_000_000 + (second * 1e6).round() as i64;
    let is_valid = (0..=24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..=60.0).contains(&second)
        && us <= MICROS_PER_DAY;
    if !is_valid {
        return exec_err!("time field value out of range: {hour}:{minute:02}:{second:02}");
    }
    Ok(us)
}

fn local(a: &Row) -> Result<i64> {
    date(a)?
        .checked_mul(MICROS_PER_DAY)
        .and_then(|us| us.checked_add(time(a, 3).ok()?))
        .filter(|us| *us < TIMESTAMP_END_US)
        .map_or_else(
            || time(a, 3).and_then(|_| exec_err!("timestamp out of range")),
            Ok,
        )
}

/// A zone by name, abbreviation, or offset, which counts east here only as ISO 8601 writes it.
pub fn named_zone(name: &str) -> Result<SessionTimeZone> {
    let found = if name.starts_with(['+', '-']) {
        parse_offset(name).map(SessionTimeZone::fixed)
    } else {
        zone_of_name(name)
    };
    found.ok_or_else(|| exec_datafusion_err!("time zone \"{name}\" not recognized"))
}

/// Years, months, weeks, days, hours, minutes and seconds; those left out are 0.
fn make(a: &Row) -> Result<Value> {
    let part = |index: usize| if index < a.len() { a.int(index) } else { 0 };
    let seconds = if a.len() > 6 { a.float(6) } else { 0.0 };
    if !(seconds.abs() < 9e12) {
        return exec_err!("interval out of range");
    }
    Ok(interval(
        part(0) * 12 + part(1),
        part(2) * 7 + part(3),
        part(4) * 3_600_000_000 + part(5) * 60_000_000 + (seconds * 1e6).round() as i64,
    )?
    .into())
}
