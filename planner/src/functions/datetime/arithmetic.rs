//! `+`, `-`, `*`, `/` of dates, times and intervals, comparisons of intervals, `age`, `justify_*` and OVERLAPS.

use std::sync::Arc;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::{DAYS_PER_MONTH, HOUR_US, interval, split_day};
use crate::functions::argument::Kind::{
    Date, Float, Int4, Interval, Text, Time, Timestamp, Timestamptz,
};
use crate::functions::sql_function::{Row, function};
use crate::functions::value::Value;
use crate::pg_text::calendar::{add_months, civil_from_days, days_in_month};
use crate::pg_text::datetime_input::TIMESTAMP_END_US;
use crate::pg_text::output::MICROS_PER_DAY;
use crate::pg_text::time_zone::SessionTimeZone;
use crate::types::SqlType;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = dates();
    all.extend(timestamps());
    all.extend(intervals());
    all.extend(ages());
    all
}

fn dates() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("rm_date_add")
            .strict(&[Date, Int4], SqlType::Date, |a| {
                Ok(a.int(0).saturating_add(a.int(1)).into())
            })
            .udf(),
        function("rm_date_subtract")
            .strict(&[Date, Int4], SqlType::Date, |a| {
                Ok(a.int(0).saturating_sub(a.int(1)).into())
            })
            .strict(&[Date, Date], SqlType::Integer, |a| {
                Ok((a.int(0) - a.int(1)).into())
            })
            .udf(),
        function("rm_date_time")
            .strict(&[Date, Time], SqlType::Timestamp, |a| {
                Ok((a.int(0) * MICROS_PER_DAY + a.int(1)).into())
            })
            .udf(),
        function("rm_time_add")
            .strict(&[Time, Interval], SqlType::Time, |a| {
                let us = a.int(0) + a.interval(1).nanoseconds / 1000;
                Ok(us.rem_euclid(MICROS_PER_DAY).into())
            })
            .udf(),
        function("rm_time_subtract")
            .strict(&[Time, Interval], SqlType::Time, |a| {
                let us = a.int(0) - a.interval(1).nanoseconds / 1000;
                Ok(us.rem_euclid(MICROS_PER_DAY).into())
            })
            .strict(&[Time, Time], SqlType::Interval, |a| {
                Ok(interval(0, 0, a.int(0) - a.int(1))?.into())
            })
            .udf(),
    ]
}

fn timestamps() -> Vec<Arc<ScalarUDF>> {
    fn in_zone(a: &Row, span: IntervalMonthDayNano) -> Result<Value> {
        let zone = zone_of(a.text(2))?;
        let local = a.int(0) + i64::from(zone.offset_at(a.int(0))) * 1_000_000;
        let days = IntervalMonthDayNano {
            nanoseconds: 0,
            ..span
        };
        // months and days are of the local calendar, the rest is of the clock that never changes
        let moved = if days == IntervalMonthDayNano::ZERO {
            a.int(0)
        } else {
            zone.local_to_utc(add_interval(local, days)?)
        };
        let rest = IntervalMonthDayNano {
            nanoseconds: span.nanoseconds,
            ..IntervalMonthDayNano::ZERO
        };
        Ok(add_interval(moved, rest)?.into())
    }
    fn difference(a: &Row) -> Result<Value> {
        let us = a
            .int(0)
            .checked_sub(a.int(1))
            .ok_or_else(|| exec_datafusion_err!("interval out of range"))?;
        // whole days become days
        Ok(interval(0, us / MICROS_PER_DAY, us % MICROS_PER_DAY)?.into())
    }
    vec![
        function("rm_timestamp_add")
            .strict(&[Timestamptz, Interval, Text], SqlType::Timestamptz, |a| {
                in_zone(a, a.interval(1))
            })
            .udf(),
        function("rm_timestamp_subtract")
            .strict(&[Timestamptz, Interval, Text], SqlType::Timestamptz, |a| {
                in_zone(a, negated(a.interval(1))?)
            })
            .udf(),
        function("rm_timestamp_difference")
            .strict(&[Timestamp, Timestamp], SqlType::Interval, difference)
            .strict(&[Timestamptz, Timestamptz], SqlType::Interval, difference)
            .udf(),
        function("rm_overlaps")
            .strict(
                &[Timestamptz, Timestamptz, Timestamptz, Timestamptz],
                SqlType::Boolean,
                |a| {
                    let order = |x: i64, y: i64| (x.min(y), x.max(y));
                    let (s1, e1) = order(a.int(0), a.int(1));
                    let (s2, e2) = order(a.int(2), a.int(3));
                    Ok((s1 == s2 || (s1 < e2 && s2 < e1)).into())
                },
            )
            .udf(),
        function("isfinite")
            .strict(&[Date], SqlType::Boolean, |_| Ok(true.into()))
            .strict(&[Timestamp], SqlType::Boolean, |_| Ok(true.into()))
            .strict(&[Timestamptz], SqlType::Boolean, |_| Ok(true.into()))
            .strict(&[Interval], SqlType::Boolean, |_| Ok(true.into()))
            .udf(),
    ]
}

fn zone_of(name: &str) -> Result<SessionTimeZone> {
    match SessionTimeZone::parse(name) {
        Some(zone) => Ok(zone),
        None => exec_err!("time zone \"{name}\" not recognized"),
    }
}

/// A local time moved by an interval: months first, then days, then the rest.
fn add_interval(us: i64, span: IntervalMonthDayNano) -> Result<i64> {
    let overflow = || exec_datafusion_err!("timestamp out of range");
    let (mut days, in_day) = split_day(us);
    if span.months != 0 {
        days = add_months(days, i64::from(span.months));
    }
    days.checked_add(i64::from(span.days))
        .and_then(|days| days.checked_mul(MICROS_PER_DAY))
        .and_then(|us| us.checked_add(in_day))
        .and_then(|us| us.checked_add(span.nanoseconds / 1000))
        .filter(|us| (-210_866_803_200_000_000..TIMESTAMP_END_US).contains(us))
        .ok_or_else(overflow)
}

fn negated(span: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let overflow = || exec_datafusion_err!("interval out of range");
    Ok(IntervalMonthDayNano {
        months: span.months.checked_neg().ok_or_else(overflow)?,
        days: span.days.checked_neg().ok_or_else(overflow)?,
        nanoseconds: span.nanoseconds.checked_neg().ok_or_else(overflow)?,
    })
}

/// How long an interval is, for comparisons: a month is 30 days, a day 24 hours.
pub fn span_us(span: IntervalMonthDayNano) -> i128 {
    let days = i128::from(span.months) * i128::from(DAYS_PER_MONTH) + i128::from(span.days);
    days * i128::from(MICROS_PER_DAY) + i128::from(span.nanoseconds / 1000)
}

fn intervals() -> Vec<Arc<ScalarUDF>> {
    macro_rules! comparison {
        ($name:literal, $operator:tt) => {
            function($name)
                .strict(&[Interval, Interval], SqlType::Boolean, |a| {
                    Ok((span_us(a.interval(0)) $operator span_us(a.interval(1))).into())
                })
                .udf()
        };
    }
    fn scaled(a: &Row) -> Result<Value> {
        Ok(scale(a.interval(0), a.float(1))?.into())
    }
    vec![
        comparison!("rm_interval_eq", ==),
        comparison!("rm_interval_ne", !=),
        comparison!("rm_interval_lt", <),
        comparison!("rm_interval_le", <=),
        comparison!("rm_interval_gt", >),
        comparison!("rm_interval_ge", >=),
        function("rm_interval_add")
            .strict(&[Interval, Interval], SqlType::Interval, |a| {
                sum(a.interval(0), a.interval(1))
            })
            .udf(),
        function("rm_interval_subtract")
            .strict(&[Interval, Interval], SqlType::Interval, |a| {
                sum(a.interval(0), negated(a.interval(1))?)
            })
            .udf(),
        function("rm_interval_multiply")
            .strict(&[Interval, Float], SqlType::Interval, scaled)
            .udf(),
        function("rm_interval_divide")
            .strict(&[Interval, Float], SqlType::Interval, |a| {
                if a.float(1) == 0.0 {
                    return exec_err!("division by zero");
                }
                Ok(divided(a.interval(0), a.float(1))?.into())
            })
            .udf(),
        function("rm_interval_span")
            .strict(
                &[Interval],
                SqlType::Numeric {
                    precision: 38,
                    scale: 0,
                },
                |a| Ok(Value::Decimal(span_us(a.interval(0)))),
            )
            .udf(),
        function("rm_interval_time")
            .strict(&[Interval], SqlType::Time, |a| {
                let us = a.interval(0).nanoseconds / 1000;
                Ok(us.rem_euclid(MICROS_PER_DAY).into())
            })
            .udf(),
        function("rm_time_interval")
            .strict(&[Time], SqlType::Interval, |a| {
                Ok(interval(0, 0, a.int(0))?.into())
            })
            .udf(),
    ]
}

fn sum(a: IntervalMonthDayNano, b: IntervalMonthDayNano) -> Result<Value> {
    let us = (a.nanoseconds / 1000)
        .checked_add(b.nanoseconds / 1000)
        .ok_or_else(|| exec_datafusion_err!("interval out of range"))?;
    Ok(interval(
        i64::from(a.months) + i64::from(b.months),
        i64::from(a.days) + i64::from(b.days),
        us,
    )?
    .into())
}

/// PostgreSQL's `interval_mul`: fractions of months become days (30 each), those of days become time.
fn scale(span: IntervalMonthDayNano, by: f64) -> Result<IntervalMonthDayNano> {
    spread(
        f64::from(span.months) * by,
        f64::from(span.days) * by,
        (span.nanoseconds / 1000) as f64 * by,
    )
}

fn divided(span: IntervalMonthDayNano, by: f64) -> Result<IntervalMonthDayNano> {
    spread(
        f64::from(span.months) / by,
        f64::from(span.days) / by,
        (span.nanoseconds / 1000) as f64 / by,
    )
}

fn spread(months: f64, days: f64, us: f64) -> Result<IntervalMonthDayNano> {
    const DAY_S: f64 = 86_400.0;
    let round_us = |seconds: f64| (seconds * 1e6).round() / 1e6;
    if !(months.abs() < 3e9 && days.abs() < 3e9 && us.abs() < 9.3e18) {
        return exec_err!("interval out of range");
    }
    let whole_months = months.trunc();
    let month_days = (months - whole_months) * DAYS_PER_MONTH as f64;
    let month_days = (month_days * 1e6).round() / 1e6;
    let mut whole_days = days.trunc();
    let mut seconds = (days - whole_days + month_days - month_days.trunc()) * DAY_S;
    seconds = round_us(seconds);
    // a carry out of the rounding
    if seconds.abs() >= DAY_S {
        let carried = (seconds / DAY_S).trunc();
        whole_days += carried;
        seconds -= carried * DAY_S;
    }
    whole_days += month_days.trunc();
    interval(
        whole_months as i64,
        whole_days as i64,
        (us + seconds * 1e6).round() as i64,
    )
}

fn ages() -> Vec<Arc<ScalarUDF>> {
    fn age_of(a: &Row) -> Result<Value> {
        Ok(age(a.int(0), a.int(1))?.into())
    }
    vec![
        function("age")
            .strict(&[Timestamp, Timestamp], SqlType::Interval, age_of)
            .strict(&[Timestamptz, Timestamptz], SqlType::Interval, age_of)
            .udf(),
        function("justify_days")
            .strict(&[Interval], SqlType::Interval, |a| {
                let span = a.interval(0);
                let months = i64::from(span.days) / DAYS_PER_MONTH;
                let days = i64::from(span.days) % DAYS_PER_MONTH;
                let (months, days) =
                    same_sign(i64::from(span.months) + months, days, DAYS_PER_MONTH);
                Ok(interval(months, days, span.nanoseconds / 1000)?.into())
            })
            .udf(),
        function("justify_hours")
            .strict(&[Interval], SqlType::Interval, |a| {
                let span = a.interval(0);
                let us = span.nanoseconds / 1000;
                let days = i64::from(span.days) + us / MICROS_PER_DAY;
                let (days, us) = same_sign(days, us % MICROS_PER_DAY, MICROS_PER_DAY);
                Ok(interval(i64::from(span.months), days, us)?.into())
            })
            .udf(),
        function("justify_interval")
            .strict(&[Interval], SqlType::Interval, |a| {
                justify(a.interval(0)).map(Value::Interval)
            })
            .udf(),
    ]
}

/// Moves one large unit so that both parts have one sign.
fn same_sign(large: i64, small: i64, ratio: i64) -> (i64, i64) {
    if large > 0 && small < 0 {
        (large - 1, small + ratio)
    } else if large < 0 && small > 0 {
        (large + 1, small - ratio)
    } else {
        (large, small)
    }
}

fn justify(span: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let us = span.nanoseconds / 1000;
    let days = i64::from(span.days) + us / MICROS_PER_DAY;
    let us = us % MICROS_PER_DAY;
    let months = i64::from(span.months) + days / DAYS_PER_MONTH;
    let days = days % DAYS_PER_MONTH;
    let (months, days) = if months > 0 && (days < 0 || (days == 0 && us < 0)) {
        (months - 1, days + DAYS_PER_MONTH)
    } else if months < 0 && (days > 0 || (days == 0 && us > 0)) {
        (months + 1, days - DAYS_PER_MONTH)
    } else {
        (months, days)
    };
    let (days, us) = same_sign(days, us, MICROS_PER_DAY);
    interval(months, days, us)
}

/// Years, months, days and time from `earlier` to `later`, counted on the calendar.
fn age(later: i64, earlier: i64) -> Result<IntervalMonthDayNano> {
    if later < earlier {
        return negated(age(earlier, later)?);
    }
    let ((day1, time1), (day2, time2)) = (split_day(later), split_day(earlier));
    let (year1, month1, mday1) = civil_from_days(day1);
    let (year2, month2, mday2) = civil_from_days(day2);
    let mut months = (year1 - year2) * 12 + i64::from(month1) - i64::from(month2);
    let mut days = i64::from(mday1) - i64::from(mday2);
    let mut us = time1 - time2;
    if us < 0 {
        us += 24 * HOUR_US;
        days -= 1;
    }
    if days < 0 {
        // PostgreSQL borrows the days of the earlier date's month
        days += i64::from(days_in_month(year2, month2));
        months -= 1;
    }
    interval(months, days, us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg_text::datetime_input::parse_timestamp;
    use crate::pg_text::interval_input;
    use crate::pg_text::output::{put_interval, text_of};

    fn shown(span: IntervalMonthDayNano) -> String {
        text_of(|out| put_interval(out, span))
    }

    #[test]
    fn ages_are_counted_on_the_calendar() {
        for (later, earlier, expected) in [
            ("2001-04-10", "1957-06-13", "43 years 9 mons 27 days"),
            ("2024-03-01", "2024-01-31", "1 mon 1 day"),
            ("2024-03-01", "2023-12-15", "2 mons 17 days"),
            (
                "2024-01-01",
                "2024-03-15 12:00",
                "-2 mons -14 days -12:00:00",
            ),
        ] {
            let at = |text: &str| parse_timestamp(text).unwrap();
            assert_eq!(shown(age(at(later), at(earlier)).unwrap()), expected);
        }
    }

    #[test]
    fn intervals_are_scaled_and_justified() {
        let span = |text: &str| interval_input::parse(text).unwrap();
        for (text, by, expected) in [
            ("1 month", 1.5, "1 mon 15 days"),
            ("1 hour", 3.5, "03:30:00"),
            ("1 day", -0.5, "-12:00:00"),
            ("1 mon 1 day", 0.1, "3 days 02:24:00"),
        ] {
            assert_eq!(shown(scale(span(text), by).unwrap()), expected, "{text}");
        }
        for (text, expected) in [
            ("1 mon -1 hour", "29 days 23:00:00"),
            ("35 days 25 hours", "1 mon 6 days 01:00:00"),
        ] {
            assert_eq!(shown(justify(span(text)).unwrap()), expected, "{text}");
        }
    }
}
