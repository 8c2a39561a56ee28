//! What ordered-set aggregates compute of a group's values, which `array_agg(x ORDER BY x)` brings in order:
//! `mode()`, `percentile_disc(…)` and `percentile_cont(array)` are rewritten to these. NULLs do not count.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, ListArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, partition, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        OrderedSet::Mode,
        OrderedSet::PercentileDisc,
        OrderedSet::PercentileCont,
    ];
    let signature = |of: &OrderedSet| match of {
        OrderedSet::Mode => Signature::any(1, Volatility::Immutable),
        _ => Signature::any(2, Volatility::Immutable),
    };
    all.into_iter()
        .map(|of| {
            let signature = signature(&of);
            Arc::new(ScalarUDF::from(OrderedSetFunction { of, signature }))
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum OrderedSet {
    /// `rm_mode(values)`: the most frequent one, of several the first.
    Mode,
    /// `rm_percentile_disc(values, fraction or fractions)`: the first value at or behind that part of the rows.
    PercentileDisc,
    /// `rm_percentile_cont(values, fraction or fractions)`: as above, between two values where it lies there.
    PercentileCont,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSetFunction {
    of: OrderedSet,
    signature: Signature,
}

impl ScalarUDFImpl for OrderedSetFunction {
    fn name(&self) -> &str {
        match self.of {
            OrderedSet::Mode => "rm_mode",
            OrderedSet::PercentileDisc => "rm_percentile_disc",
            OrderedSet::PercentileCont => "rm_percentile_cont",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        plan_err!("{} is typed by its arguments' fields", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let DataType::List(item) = args.arg_fields[0].data_type() else {
            return plan_err!("{} takes an array", self.name());
        };
        let value = match self.of {
            OrderedSet::PercentileCont => Field::new(self.name(), DataType::Float64, true),
            _ => item
                .as_ref()
                .clone()
                .with_name(self.name())
                .with_nullable(true),
        };
        let is_several = args
            .arg_fields
            .get(1)
            .is_some_and(|field| matches!(field.data_type(), DataType::List(_)));
        Ok(Arc::new(match is_several {
            true => {
                let item = Arc::new(value.with_name(Field::LIST_FIELD_DEFAULT_NAME));
                Field::new(self.name(), DataType::List(item), true)
            }
            false => value,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let lists = args.args[0].to_array(rows)?;
        let lists = lists.as_list::<i32>();
        let result: ArrayRef = match args.args.get(1) {
            None => modes(lists)?,
            Some(fractions) => {
                let fractions = fractions.to_array(rows)?;
                match fractions.data_type() {
                    DataType::List(_) => {
                        self.several(lists, fractions.as_list(), &args.return_field)?
                    }
                    _ => {
                        let fractions = cast(&fractions, &DataType::Float64)?;
                        let fractions = fractions.as_primitive::<Float64Type>();
                        let wanted = (0..lists.len()).map(|row| (row, at(fractions, row)));
                        self.percentiles(lists, wanted.collect())?
                    }
                }
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

impl OrderedSetFunction {
    /// For each row as many values as it has fractions.
    fn several(&self, lists: &ListArray, fractions: &ListArray, field: &Field) -> Result<ArrayRef> {
        let values = cast(fractions.values(), &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let mut wanted = Vec::new();
        let mut lengths = Vec::with_capacity(lists.len());
        let mut is_there = Vec::with_capacity(lists.len());
        for row in 0..lists.len() {
            let has_values = !values_of(lists, row).is_empty() && fractions.is_valid(row);
            is_there.push(has_values);
            let range = fractions.value_offsets()[row] as usize
                ..fractions.value_offsets()[row + 1] as usize;
            lengths.push(if has_values { range.len() } else { 0 });
            if has_values {
                wanted.extend(range.map(|index| (row, at(values, index))));
            }
        }
        let items = self.percentiles(lists, wanted)?;
        let DataType::List(item) = field.data_type() else {
            return exec_err!("{} gives an array here", self.name());
        };
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            OffsetBuffer::from_lengths(lengths),
            items,
            Some(NullBuffer::from(is_there)),
        )?))
    }

    /// The percentiles of rows of `lists`.
    fn percentiles(
        &self,
        lists: &ListArray,
        wanted: Vec<(usize, Option<f64>)>,
    ) -> Result<ArrayRef> {
        for fraction in wanted.iter().filter_map(|(_, fraction)| *fraction) {
            if !(0.0..=1.0).contains(&fraction) {
                return exec_err!("percentile value {fraction} is not between 0 and 1");
            }
        }
        let is_continuous = self.of == OrderedSet::PercentileCont;
        if !is_continuous {
            let indices = wanted.into_iter().map(|(row, fraction)| {
                let values = values_of(lists, row);
                let place = (fraction? * values.len() as f64).ceil() as usize;
                values
                    .get(place.saturating_sub(1))
                    .map(|index| *index as u32)
            });
            let indices: UInt32Array = indices.collect();
            return Ok(take(lists.values(), &indices, None)?);
        }
        let numbers = cast(lists.values(), &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let mut found = Float64Builder::with_capacity(wanted.len());
        for (row, fraction) in wanted {
            let values = values_of(lists, row);
            found.append_option(fraction.filter(|_| !values.is_empty()).map(|fraction| {
                let place = fraction * (values.len() - 1) as f64;
                let (low, high) = (place.floor() as usize, place.ceil() as usize);
                let low_value = numbers.value(values[low]);
                let high_value = numbers.value(values[high]);
                low_value + (high_value - low_value) * (place - low as f64)
            }));
        }
        Ok(Arc::new(found.finish()))
    }
}

fn at(numbers: &Float64Array, index: usize) -> Option<f64> {
    numbers.is_valid(index).then(|| numbers.value(index))
}

fn range_of(lists: &ListArray, row: usize) -> Range<usize> {
    let offsets = lists.value_offsets();
    match lists.is_valid(row) {
        true => offsets[row] as usize..offsets[row + 1] as usize,
        false => 0..0,
    }
}

/// Where the values of a row that are not NULL are, in order.
fn values_of(lists: &ListArray, row: usize) -> Vec<usize> {
    let values = lists.values();
    range_of(lists, row)
        .filter(|index| values.is_valid(*index))
        .collect()
}

fn modes(lists: &ListArray) -> Result<ArrayRef> {
    let mut indices: Vec<Option<u32>> = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let range = range_of(lists, row);
        if range.is_empty() {
            indices.push(None);
            continue;
        }
        let values = lists.values().slice(range.start, range.len());
        let runs = partition(&[Arc::clone(&values)])?.ranges();
        let mut longest: Option<Range<usize>> = None;
        for run in runs.into_iter().filter(|run| values.is_valid(run.start)) {
            if longest.as_ref().is_none_or(|most| run.len() > most.len()) {
                longest = Some(run);
            }
        }
        indices.push(longest.map(|run| (range.start + run.start) as u32));
    }
    Ok(take(lists.values(), &UInt32Array::from(indices), None)?)
}
