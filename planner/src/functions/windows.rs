//! The arithmetic of event-time windows, exact for times before 1970 and shared by batch queries and views.
//!
//! All lengths are microseconds and constant. Windows are half-open, `[start, start + size)`, and aligned so that
//! `start - offset` is a multiple of the slide. A NULL time, or one so extreme that its window leaves the range of
//! timestamps, has no window (NULL).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// The latest aligned instant that is not after `micros`.
pub(crate) fn floor_to(micros: i64, step: i64, offset: i64) -> Option<i64> {
    let shifted = micros.checked_sub(offset)?;
    shifted
        .checked_sub(shifted.rem_euclid(step))?
        .checked_add(offset)
}

/// Starts of all windows that contain `micros`, ascending.
fn starts_of(micros: i64, slide: i64, size: i64, offset: i64, starts: &mut Vec<i64>) -> Option<()> {
    let latest = floor_to(micros, slide, offset)?;
    let first = starts.len();
    let mut start = latest;
    while micros.checked_sub(start)? < size {
        starts.push(start);
        start = start.checked_sub(slide)?;
    }
    starts[first..].reverse();
    Some(())
}

/// Ends of the growing windows that contain `micros`, ascending: every `step` from the time to the window's end.
fn cumulate_ends_of(
    micros: i64,
    step: i64,
    size: i64,
    offset: i64,
    ends: &mut Vec<i64>,
) -> Option<()> {
    let start = floor_to(micros, size, offset)?;
    let last = start.checked_add(size)?;
    let mut end = floor_to(micros, step, start)?.checked_add(step)?;
    while end <= last {
        ends.push(end);
        end = end.checked_add(step)?;
    }
    Some(())
}

fn timestamp_of(arguments: &[DataType], function: &str, lengths: usize) -> Result<Vec<DataType>> {
    let Some((DataType::Timestamp(_, zone), rest)) = arguments.split_first() else {
        return plan_err!(
            "{function} needs a column of type timestamp or timestamp with time zone; cast a date with ::timestamp"
        );
    };
    if rest.len() != lengths {
        return plan_err!("{function} takes a time and {lengths} lengths");
    }
    let zone = zone.as_ref().map(|_| "UTC".into());
    let mut types = vec![DataType::Timestamp(TimeUnit::Microsecond, zone)];
    types.extend(std::iter::repeat_n(DataType::Int64, lengths));
    Ok(types)
}

/// The times and the constant lengths of a call.
fn arguments_of(args: &ScalarFunctionArgs) -> Result<(ArrayRef, Vec<i64>)> {
    let times = args.args[0].to_array(args.number_rows)?;
    let mut lengths = Vec::with_capacity(args.args.len() - 1);
    for argument in &args.args[1..] {
        let array = argument.to_array(1)?;
        lengths.push(array.as_primitive::<Int64Type>().value(0));
    }
    if lengths[..lengths.len() - 1]
        .iter()
        .any(|length| *length <= 0)
    {
        return plan_err!("window lengths must be positive");
    }
    Ok((times, lengths))
}

fn as_scalar_if(is_scalar: bool, result: ArrayRef) -> Result<ColumnarValue> {
    if is_scalar {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
            &result, 0,
        )?));
    }
    Ok(ColumnarValue::Array(result))
}

/// Lists of timestamps, one per row, made by `fill(time, &mut list)`.
fn lists(
    times: &ArrayRef,
    mut fill: impl FnMut(i64, &mut Vec<i64>) -> Option<()>,
) -> Result<ArrayRef> {
    let element = Arc::new(Field::new("item", times.data_type().clone(), true));
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut values = Vec::new();
    let mut lengths = Vec::with_capacity(times.len());
    let mut validity = Vec::with_capacity(times.len());
    for time in times.iter() {
        let before = values.len();
        let is_valid = time.and_then(|time| fill(time, &mut values)).is_some();
        if !is_valid {
            values.truncate(before);
        }
        validity.push(is_valid);
        lengths.push(values.len() - before);
    }
    let values = TimestampMicrosecondArray::from(values).with_timezone_opt(times.timezone());
    Ok(Arc::new(ListArray::try_new(
        element,
        OffsetBuffer::from_lengths(lengths),
        Arc::new(values),
        Some(NullBuffer::from(validity)),
    )?))
}

macro_rules! window_function {
    ($(#[$doc:meta])* $name:ident, $sql_name:literal, $spoken:literal, $lengths:literal) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq, Hash)]
        pub struct $name {
            signature: Signature,
        }

        impl $name {
            /// Its name in plans.
            pub const NAME: &'static str = $sql_name;
        }

        impl Default for $name {
            fn default() -> Self {
                $name { signature: Signature::user_defined(Volatility::Immutable) }
            }
        }

        impl ScalarUDFImpl for $name {
            fn name(&self) -> &str {
                $sql_name
            }

            fn signature(&self) -> &Signature {
                &self.signature
            }

            fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
                timestamp_of(arguments, $spoken, $lengths)
            }

            fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
                Ok(Self::result_type(&arguments[0]))
            }

            fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
                let is_scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
                let (times, lengths) = arguments_of(&args)?;
                as_scalar_if(is_scalar, Self::evaluate(&times, &lengths)?)
            }
        }
    };
}

window_function!(
    /// `rm_window_start(ts, size, offset)`: the start of the one window of TUMBLE.
    WindowStart,
    "rm_window_start",
    "TUMBLE",
    2
);
window_function!(
    /// `rm_window_starts(ts, slide, size, offset)`: the starts of all windows of HOP, as a list.
    WindowStarts,
    "rm_window_starts",
    "HOP",
    3
);
window_function!(
    /// `rm_cumulate_ends(ts, step, size, offset)`: the ends of all windows of CUMULATE, as a list.
    CumulateEnds,
    "rm_cumulate_ends",
    "CUMULATE",
    3
);

impl WindowStart {
    fn result_type(time: &DataType) -> DataType {
        time.clone()
    }

    fn evaluate(times: &ArrayRef, lengths: &[i64]) -> Result<ArrayRef> {
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let starts = times.unary_opt::<_, TimestampMicrosecondType>(|time| {
            floor_to(time, lengths[0], lengths[1])
        });
        Ok(Arc::new(starts.with_timezone_opt(times.timezone())))
    }
}

impl WindowStarts {
    fn result_type(time: &DataType) -> DataType {
        DataType::List(Arc::new(Field::new("item", time.clone(), true)))
    }

    fn evaluate(times: &ArrayRef, lengths: &[i64]) -> Result<ArrayRef> {
        lists(times, |time, starts| {
            starts_of(time, lengths[0], lengths[1], lengths[2], starts)
        })
    }
}

impl CumulateEnds {
    fn result_type(time: &DataType) -> DataType {
        WindowStarts::result_type(time)
    }

    fn evaluate(times: &ArrayRef, lengths: &[i64]) -> Result<ArrayRef> {
        lists(times, |time, ends| {
            cumulate_ends_of(time, lengths[0], lengths[1], lengths[2], ends)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every window over a small range, found by trying all starts.
    fn naive_starts(time: i64, slide: i64, size: i64, offset: i64) -> Vec<i64> {
        (-200..200)
            .map(|k| k * slide + offset)
            .filter(|start| *start <= time && time < start + size)
            .collect()
    }

    #[test]
    fn windows_equal_the_naive_ones() {
        for slide in [1, 3, 5, 10] {
            for size in [1, 4, 10, 12] {
                for offset in [-4, 0, 3] {
                    for time in -40..40 {
                        let mut starts = Vec::new();
                        starts_of(time, slide, size, offset, &mut starts).unwrap();
                        assert_eq!(
                            starts,
                            naive_starts(time, slide, size, offset),
                            "{time} {slide} {size} {offset}"
                        );
                        let tumble = floor_to(time, size, offset).unwrap();
                        assert_eq!(vec![tumble], naive_starts(time, size, size, offset));
                    }
                }
            }
        }
    }

    #[test]
    fn cumulate_grows_to_the_whole_window() {
        for (time, expected) in [
            (0, vec![2, 4, 6]),
            (1, vec![2, 4, 6]),
            (2, vec![4, 6]),
            (5, vec![6]),
            (-1, vec![0]),
            (-6, vec![-4, -2, 0]),
        ] {
            let mut ends = Vec::new();
            cumulate_ends_of(time, 2, 6, 0, &mut ends).unwrap();
            assert_eq!(ends, expected, "{time}");
        }
    }

    #[test]
    fn extremes_have_no_window() {
        assert_eq!(floor_to(i64::MIN, 10, 0), None);
        assert_eq!(starts_of(i64::MIN + 5, 10, 100, 0, &mut Vec::new()), None);
        assert_eq!(
            cumulate_ends_of(i64::MAX, 10, 100, 0, &mut Vec::new()),
            None
        );
    }
}
