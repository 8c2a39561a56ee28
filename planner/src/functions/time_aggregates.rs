//! What aggregates over time compute of a group's values and their times, which are given in the order of time and without
//! NULLs: weighted averages and integrals, and the change of counters. See `rewrite/time_aggregates.rs`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

const MICROS_PER_SECOND: f64 = 1_000_000.0;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    [TimeAggregate::Weight, TimeAggregate::Counter]
        .into_iter()
        .map(|of| {
            let signature = Signature::any(of.texts() + 2, Volatility::Immutable);
            Arc::new(ScalarUDF::from(TimeAggregateFunction { of, signature }))
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeAggregate {
    /// `rm_time_weight(what, method, unit, values, times)`
    Weight,
    /// `rm_counter(what, values, times)`
    Counter,
}

impl TimeAggregate {
    /// How many constant texts come before the arrays.
    fn texts(self) -> usize {
        match self {
            TimeAggregate::Weight => 3,
            TimeAggregate::Counter => 1,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeAggregateFunction {
    of: TimeAggregate,
    signature: Signature,
}

impl ScalarUDFImpl for TimeAggregateFunction {
    fn name(&self) -> &str {
        match self.of {
            TimeAggregate::Weight => "rm_time_weight",
            TimeAggregate::Counter => "rm_counter",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let is_list = |index: usize, is_item: fn(&DataType) -> bool| matches!(arguments.get(index), Some(DataType::List(item)) if is_item(item.data_type()));
        let (values, times) = (self.of.texts(), self.of.texts() + 1);
        if !is_list(values, DataType::is_numeric) {
            return plan_err!("an aggregate over time takes numbers");
        }
        if !is_list(times, |item| matches!(item, DataType::Timestamp(..))) {
            return plan_err!(
                "an aggregate over time takes times of type timestamp or timestamp with time zone"
            );
        }
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut texts = Vec::new();
        for argument in &args.args[..self.of.texts()] {
            let array = cast(&argument.to_array(1)?, &DataType::Utf8)?;
            let array = array.as_string::<i32>();
            match array.is_valid(0) {
                true => texts.push(array.value(0).to_lowercase()),
                false => return exec_err!("an aggregate over time is told NULL to compute"),
            }
        }
        let values = args.args[self.of.texts()].to_array(args.number_rows)?;
        let times = args.args[self.of.texts() + 1].to_array(args.number_rows)?;
        let results = over_groups(values.as_list(), times.as_list(), &|values, times| match (
            self.of,
            texts.as_slice(),
        ) {
            (TimeAggregate::Weight, [what, method, unit]) => {
                time_weight(what, method, unit, values, times)
            }
            (TimeAggregate::Counter, [what]) => counter(what, values, times),
            _ => exec_err!("{} lacks arguments", self.name()),
        })?;
        Ok(ColumnarValue::Array(results))
    }
}

/// A result of values and their times (microseconds).
type Compute<'a> = dyn Fn(&[f64], &[i64]) -> Result<Option<f64>> + 'a;

/// `compute` of the values and times (microseconds) of each row that has some.
fn over_groups(values: &ListArray, times: &ListArray, compute: &Compute<'_>) -> Result<ArrayRef> {
    let numbers = cast(values.values(), &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    let zone = match times.value_type() {
        DataType::Timestamp(_, zone) => zone,
        _ => None,
    };
    let micros = cast(
        times.values(),
        &DataType::Timestamp(TimeUnit::Microsecond, zone),
    )?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    let mut results = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        if values.is_null(row) || times.is_null(row) {
            results.push(None);
            continue;
        }
        let range = |lists: &ListArray| {
            let offsets = lists.value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        };
        let numbers = &numbers.values()[range(values)];
        let micros = &micros.values()[range(times)];
        if numbers.len() != micros.len() {
            return exec_err!("{} values have {} times", numbers.len(), micros.len());
        }
        results.push(compute(numbers, micros)?);
    }
    Ok(Arc::new(Float64Array::from(results)))
}

/// The area below the values, by the unit of time, or their mean over the time between the first and the last one.
fn time_weight(
    what: &str,
    method: &str,
    unit: &str,
    values: &[f64],
    times: &[i64],
) -> Result<Option<f64>> {
    let is_linear = match method {
        "locf" => false,
        "linear" | "trapezoidal" => true,
        other => {
            return exec_err!("unknown weighting method \"{other}\"; write 'LOCF' or 'Linear'");
        }
    };
    let area: f64 = (1..values.len())
        .map(|place| {
            let height = match is_linear {
                true => (values[place - 1] + values[place]) / 2.0,
                false => values[place - 1],
            };
            height * elapsed(times[place - 1], times[place])
        })
        .fold(0.0, |sum, part| sum + part);
    Ok(match what {
        "average" => divided(area, span(times)),
        _ => Some(area / unit_us(unit)?),
    })
}

/// What a counter that starts again from 0 now and then has counted.
fn counter(what: &str, values: &[f64], times: &[i64]) -> Result<Option<f64>> {
    if values.is_empty() {
        return Ok(None);
    }
    let steps = || values.windows(2).map(|pair| (pair[0], pair[1]));
    let delta = || -> f64 {
        steps()
            .map(|(before, after)| {
                if after < before {
                    after
                } else {
                    after - before
                }
            })
            .fold(0.0, |sum, part| sum + part)
    };
    let seconds = span(times) / MICROS_PER_SECOND;
    Ok(match what {
        "delta" => Some(delta()),
        "rate" => divided(delta(), seconds),
        "num_resets" => Some(steps().filter(|(before, after)| after < before).count() as f64),
        _ => Some(seconds),
    })
}

fn span(times: &[i64]) -> f64 {
    match (times.first(), times.last()) {
        (Some(first), Some(last)) => elapsed(*first, *last),
        _ => 0.0,
    }
}

fn elapsed(from: i64, to: i64) -> f64 {
    (i128::from(to) - i128::from(from)) as f64
}

fn divided(by_time: f64, length: f64) -> Option<f64> {
    (length > 0.0).then(|| by_time / length)
}

fn unit_us(unit: &str) -> Result<f64> {
    Ok(match unit.strip_suffix('s').unwrap_or(unit) {
        "microsecond" => 1.0,
        "millisecond" => 1000.0,
        "second" => MICROS_PER_SECOND,
        "minute" => 60.0 * MICROS_PER_SECOND,
        "hour" => 3600.0 * MICROS_PER_SECOND,
        "day" => 86_400.0 * MICROS_PER_SECOND,
        other => {
            return exec_err!(
                "unknown unit \"{other}\"; write microsecond, millisecond, second, minute, hour or day"
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn values_weigh_as_long_as_they_last() {
        let (values, times) = ([10.0, 20.0, 60.0], [0, 10 * S, 40 * S]);
        for (what, method, unit, expected) in [
            (
                "average",
                "locf",
                "second",
                (10.0 * 10.0 + 20.0 * 30.0) / 40.0,
            ),
            (
                "average",
                "linear",
                "second",
                (15.0 * 10.0 + 40.0 * 30.0) / 40.0,
            ),
            ("integral", "locf", "second", 700.0),
            ("integral", "locf", "minutes", 700.0 / 60.0),
        ] {
            let found = time_weight(what, method, unit, &values, &times).unwrap();
            assert_eq!(found, Some(expected), "{what} {method} {unit}");
        }
        assert_eq!(
            time_weight("average", "locf", "second", &[1.0], &[5]).unwrap(),
            None
        );
        assert_eq!(
            time_weight("integral", "locf", "second", &[1.0], &[5]).unwrap(),
            Some(0.0)
        );
        assert!(time_weight("average", "nearest", "second", &values, &times).is_err());
        assert!(time_weight("integral", "locf", "fortnight", &values, &times).is_err());
    }

    #[test]
    fn counters_start_again() {
        let (values, times) = ([5.0, 8.0, 2.0, 2.0, 4.0], [0, S, 2 * S, 3 * S, 10 * S]);
        for (what, expected) in [
            ("delta", 3.0 + 2.0 + 0.0 + 2.0),
            ("rate", 0.7),
            ("num_resets", 1.0),
            ("time_delta", 10.0),
        ] {
            assert_eq!(
                counter(what, &values, &times).unwrap(),
                Some(expected),
                "{what}"
            );
        }
        assert_eq!(counter("delta", &[], &[]).unwrap(), None);
        assert_eq!(counter("rate", &[3.0], &[7]).unwrap(), None);
        assert_eq!(counter("delta", &[3.0], &[7]).unwrap(), Some(0.0));
    }
}
