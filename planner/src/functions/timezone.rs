//! `timezone(zone, ts)`, which is what PostgreSQL means by `ts AT TIME ZONE zone`.
//!
//! A timestamp is read as local time in the zone and becomes a timestamptz; a timestamptz becomes the zone's local
//! time as a timestamp. A local time that a clock change skips or repeats is read in standard time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::pg_text::datetime_input::zone_of_name;
use crate::pg_text::time_zone::{MICROS_PER_SECOND, SessionTimeZone, parse_offset};

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TimeZone {
    signature: Signature,
}

impl Default for TimeZone {
    fn default() -> Self {
        TimeZone {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for TimeZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
                DataType::Timestamp(_, zone),
            ] => {
                let zone = zone.as_ref().map(|_| "UTC".into());
                Ok(vec![
                    DataType::Utf8,
                    DataType::Timestamp(TimeUnit::Microsecond, zone),
                ])
            }
            [
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
                DataType::Date32,
            ] => Ok(vec![
                DataType::Utf8,
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ]),
            _ => plan_err!("AT TIME ZONE takes a timestamp and the name of a zone"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let zone = match &arguments[1] {
            DataType::Timestamp(_, Some(_)) => None,
            _ => Some("UTC".into()),
        };
        Ok(DataType::Timestamp(TimeUnit::Microsecond, zone))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args
            .args
            .iter()
            .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let zones = args.args[0].to_array(rows)?;
        let times = args.args[1].to_array(rows)?;
        let is_instant = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
        let (zones, times) = (
            zones.as_string::<i32>(),
            times.as_primitive::<TimestampMicrosecondType>(),
        );

        let mut parsed: Option<(String, SessionTimeZone)> = None;
        let mut result = Vec::with_capacity(rows);
        for i in 0..rows {
            if zones.is_null(i) || times.is_null(i) {
                result.push(None);
                continue;
            }
            let name = zones.value(i);
            let zone = match &parsed {
                Some((known, zone)) if known == name => zone.clone(),
                _ => parse_zone(name)?,
            };
            let shifted = if is_instant {
                to_local(times.value(i), &zone)
            } else {
                to_instant(times.value(i), &zone)
            };
            parsed = Some((name.to_string(), zone));
            result.push(Some(
                shifted.ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?,
            ));
        }
        let result = TimestampMicrosecondArray::from(result);
        let result = if is_instant {
            result
        } else {
            result.with_timezone("UTC")
        };
        let result: ArrayRef = Arc::new(result);
        if is_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &result, 0,
            )?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// A zone's name, or an offset, which counts west of Greenwich where it is written `+02`, as POSIX has it.
fn parse_zone(name: &str) -> Result<SessionTimeZone> {
    let found = match name.as_bytes().first() {
        Some(b'+' | b'-') => parse_offset(name).map(|east_s| SessionTimeZone::fixed(-east_s)),
        _ => zone_of_name(name),
    };
    found.ok_or_else(|| exec_datafusion_err!("time zone \"{name}\" not recognized"))
}

/// Local microseconds of an instant.
fn to_local(micros: i64, zone: &SessionTimeZone) -> Option<i64> {
    micros.checked_add(i64::from(zone.offset_at(micros)) * MICROS_PER_SECOND)
}

/// The instant that a zone's clocks show as `micros`.
fn to_instant(micros: i64, zone: &SessionTimeZone) -> Option<i64> {
    Some(zone.local_to_utc(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_changes() {
        let berlin = parse_zone("Europe/Berlin").unwrap();
        let us = |text: &str| {
            chrono::DateTime::parse_from_rfc3339(text)
                .unwrap()
                .timestamp_micros()
        };
        for (local, instant) in [
            ("2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"),
            ("2026-07-01T12:00:00Z", "2026-07-01T10:00:00Z"),
            // 02:30 does not exist: the clock goes from 2 to 3
            ("2026-03-29T02:30:00Z", "2026-03-29T01:30:00Z"),
        ] {
            assert_eq!(to_instant(us(local), &berlin), Some(us(instant)), "{local}");
        }
        assert_eq!(
            to_local(us("2026-07-01T10:00:00Z"), &berlin),
            Some(us("2026-07-01T12:00:00Z"))
        );
    }
}
