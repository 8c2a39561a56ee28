//! Intervals as keys: the span they are equal to in PostgreSQL, where a month is 30 days and a day is 24 hours.

use arrow::datatypes::IntervalUnit;

use super::super::error::StateError;

const DAY_NANOS: i128 = 86_400_000_000_000;
const MONTH_NANOS: i128 = 30 * DAY_NANOS;
const MILLI_NANOS: i128 = 1_000_000;

fn int<const W: usize>(bytes: &[u8], at: usize) -> [u8; W] {
    bytes[at..at + W]
        .try_into()
        .expect("an interval has the width of its unit")
}

/// The span in nanoseconds of an interval in Arrow's memory layout.
pub(super) fn span(unit: IntervalUnit, bytes: &[u8]) -> i128 {
    match unit {
        IntervalUnit::YearMonth => i128::from(i32::from_le_bytes(int(bytes, 0))) * MONTH_NANOS,
        IntervalUnit::DayTime => {
            i128::from(i32::from_le_bytes(int(bytes, 0))) * DAY_NANOS
                + i128::from(i32::from_le_bytes(int(bytes, 4))) * MILLI_NANOS
        }
        IntervalUnit::MonthDayNano => {
            i128::from(i32::from_le_bytes(int(bytes, 0))) * MONTH_NANOS
                + i128::from(i32::from_le_bytes(int(bytes, 4))) * DAY_NANOS
                + i128::from(i64::from_le_bytes(int(bytes, 8)))
        }
    }
}

/// The canonical interval of a span in Arrow's memory layout: as many months as fit, then days, then the rest.
pub(super) fn from_span(unit: IntervalUnit, span: i128) -> Result<Vec<u8>, StateError> {
    fn whole(rest: &mut i128, unit: i128) -> i32 {
        let count = (*rest / unit).clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        *rest -= count * unit;
        count as i32
    }
    let damaged = || StateError::Corrupt("an interval in a key is out of range".to_string());
    let mut rest = span;
    Ok(match unit {
        IntervalUnit::YearMonth => {
            let months = whole(&mut rest, MONTH_NANOS);
            months.to_le_bytes().to_vec()
        }
        IntervalUnit::DayTime => {
            let days = whole(&mut rest, DAY_NANOS);
            let millis = i32::try_from(rest / MILLI_NANOS).map_err(|_| damaged())?;
            [days.to_le_bytes(), millis.to_le_bytes()].concat()
        }
        IntervalUnit::MonthDayNano => {
            let months = whole(&mut rest, MONTH_NANOS);
            let days = whole(&mut rest, DAY_NANOS);
            let nanos = i64::try_from(rest).map_err(|_| damaged())?;
            [
                &months.to_le_bytes()[..],
                &days.to_le_bytes(),
                &nanos.to_le_bytes(),
            ]
            .concat()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(months: i32, days: i32, nanos: i64) -> Vec<u8> {
        [
            &months.to_le_bytes()[..],
            &days.to_le_bytes(),
            &nanos.to_le_bytes(),
        ]
        .concat()
    }

    #[test]
    fn equal_spans_are_one() {
        let unit = IntervalUnit::MonthDayNano;
        let month = span(unit, &bytes(1, 0, 0));
        assert_eq!(month, span(unit, &bytes(0, 30, 0)));
        assert_eq!(month, span(unit, &bytes(0, 29, DAY_NANOS as i64)));
        assert_eq!(from_span(unit, month).unwrap(), bytes(1, 0, 0));
    }

    #[test]
    fn extreme_spans_survive() {
        let unit = IntervalUnit::MonthDayNano;
        for interval in [
            bytes(i32::MAX, i32::MAX, i64::MAX),
            bytes(i32::MIN, i32::MIN, i64::MIN),
            bytes(-1, 40, 5),
        ] {
            let total = span(unit, &interval);
            assert_eq!(span(unit, &from_span(unit, total).unwrap()), total);
        }
    }
}
