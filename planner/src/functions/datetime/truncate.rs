//! `date_trunc` and `date_bin`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{IntervalMonthDayNano, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};

use super::fields::field_name;
use super::make::named_zone;
use super::{interval, split_day};
use crate::functions::argument::Kind::{Interval, Text, Timestamp, Timestamptz};
use crate::functions::sql_function::{Row, function};
use crate::functions::value::Value;
use crate::pg_text::calendar::{civil_from_days, days_from_civil, iso_weekday};
use crate::pg_text::output::MICROS_PER_DAY;
use crate::types::SqlType;

const WITH_ZONE: &str = "timestamp with time zone";
const WITHOUT_ZONE: &str = "timestamp without time zone";

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
                trunc(a, WITH_ZONE)
            })
            .at_once(|arguments| trunc_column(arguments, WITH_ZONE))
            .strict(&[Text, Timestamp], SqlType::Timestamp, |a| {
                trunc(a, WITHOUT_ZONE)
            })
            .at_once(|arguments| trunc_column(arguments, WITHOUT_ZONE))
            .strict(&[Text, Interval], SqlType::Interval, |a| {
                Ok(truncated_interval(a.text(0), a.interval(1))?.into())
            })
            .strict(&[Text, Timestamptz, Text], SqlType::Timestamptz, |a| {
                let zone = named_zone(a.text(2))?;
                let local = a.int(1) + i64::from(zone.offset_at(a.int(1))) * 1_000_000;
                let cut = truncated(a.text(0), local, WITH_ZONE)?;
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
    Ok(Unit::parse(field, type_name)?.cut(us))
}

/// A column cut to one unit, as a dashboard does with every row it reads.
fn trunc_column(arguments: &[ColumnarValue], type_name: &str) -> Result<Option<ArrayRef>> {
    let [
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(field))),
        ColumnarValue::Array(times),
    ] = arguments
    else {
        return Ok(None);
    };
    let Some(column) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Ok(None);
    };
    if column.null_count() == column.len() {
        // Only a row that has a time says that the unit is wrong.
        return Ok(Some(times.clone()));
    }
    let cut: TimestampMicrosecondArray = match Unit::parse(field, type_name)? {
        Unit::Span(us) => column.unary(|time| time.wrapping_sub(time.rem_euclid(us))),
        unit => column.iter().map(|time| Some(unit.cut(time?))).collect(),
    };
    Ok(Some(Arc::new(
        cut.with_data_type(times.data_type().clone()),
    )))
}

/// What a time is cut to.
enum Unit {
    /// So many microseconds.
    Span(i64),
    Week,
    /// So many months, within a year.
    Months(u32),
    /// So many years, which begin with the year 0.
    Years(i64),
    /// So many years, which begin with the year 1.
    YearsFromOne(i64),
}

impl Unit {
    fn parse(field: &str, type_name: &str) -> Result<Unit> {
        Ok(match field_name(field).as_str() {
            "microseconds" => Unit::Span(1),
            "milliseconds" => Unit::Span(1000),
            "second" => Unit::Span(1_000_000),
            "minute" => Unit::Span(60_000_000),
            "hour" => Unit::Span(3_600_000_000),
            "day" => Unit::Span(MICROS_PER_DAY),
            "week" => Unit::Week,
            "month" => Unit::Months(1),
            "quarter" => Unit::Months(3),
            "year" => Unit::Years(1),
            "decade" => Unit::Years(10),
            "century" => Unit::YearsFromOne(100),
            "millennium" => Unit::YearsFromOne(1000),
            "dow" | "isodow" | "doy" | "epoch" | "julian" | "isoyear" | "timezone" => {
                return exec_err!("unit \"{field}\" not supported for type {type_name}");
            }
            _ => return exec_err!("unit \"{field}\" not recognized for type {type_name}"),
        })
    }

    fn cut(&self, us: i64) -> i64 {
        let (days, _) = split_day(us);
        let day = match self {
            Unit::Span(span) => return us - us.rem_euclid(*span),
            Unit::Week => days - iso_weekday(days) + 1,
            Unit::Months(length) => {
                let (year, month, _) = civil_from_days(days);
                days_from_civil(year, (month - 1) / length * length + 1, 1)
            }
            Unit::Years(length) => {
                let (year, _, _) = civil_from_days(days);
                days_from_civil(year.div_euclid(*length) * length, 1, 1)
            }
            Unit::YearsFromOne(length) => {
                let (year, _, _) = civil_from_days(days);
                days_from_civil((year - 1).div_euclid(*length) * length + 1, 1, 1)
            }
        };
        day * MICROS_PER_DAY
    }
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
    fn columns_are_cut_as_single_times_are() {
        let at = |text: &str| parse_timestamp(text).unwrap();
        let times = [
            Some(at("2001-02-16 20:38:40.123456")),
            None,
            Some(at("1969-12-31 23:59:59.999999")),
            Some(at("0044-03-15 BC 12:00")),
        ];
        let column: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"));
        for field in [
            "us", "MS", "minute", "day", "week", "quarter", "decade", "century",
        ] {
            let arguments = [
                ColumnarValue::Scalar(ScalarValue::from(field)),
                ColumnarValue::Array(column.clone()),
            ];
            let cut = trunc_column(&arguments, "t").unwrap().unwrap();
            assert_eq!(cut.data_type(), column.data_type());
            let cut: Vec<Option<i64>> = cut
                .as_primitive::<TimestampMicrosecondType>()
                .iter()
                .collect();
            let expected = times.map(|time| time.map(|us| truncated(field, us, "t").unwrap()));
            assert_eq!(cut, expected, "{field}");
        }
        let wrong = [
            ColumnarValue::Scalar(ScalarValue::from("nope")),
            ColumnarValue::Array(column),
        ];
        assert!(trunc_column(&wrong, "t").is_err());
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
