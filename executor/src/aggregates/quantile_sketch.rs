//! `approx_percentile_cont` and `approx_median`: a histogram of logarithmic buckets, each with its exact mean.
//!
//! A value's bucket is its sign, exponent and first seven bits of fraction, so that all values of a bucket are within
//! 0.8 % of each other. A bucket keeps its count and the exact sum of what its values have beyond the bucket's start.
//! Unlike a t-digest this is linear: it does not depend on order or on how the input was split, and values can be
//! retracted. The quantile is interpolated between the means of neighbouring buckets, as `percentile_cont` does
//! between neighbouring values; with at most one value per bucket the answer is exact. State is bounded by the number
//! of buckets, some hundreds for values of the same magnitude.
//!
//! ```text
//! stored:   | number of buckets | (gap to the previous bucket, count signed, sum signed wide) ... |  NULL rows excluded
//! ```

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use std::collections::BTreeMap;

use super::encoding::{Reader, damaged, put_signed, put_signed_wide, put_unsigned};
use super::ordered_int::{of_float, to_float};
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::Result;

/// Bits of a value's order that all values of a bucket may differ in.
const LOW_BITS: u32 = 45;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    count: i64,
    /// Of the values' orders above the bucket's start.
    offset_sum: i128,
}

/// Buckets by `order >> LOW_BITS`; none has a count of 0.
#[derive(Debug, Clone, Default, PartialEq)]
struct Histogram {
    buckets: BTreeMap<i64, Bucket>,
}

impl Histogram {
    fn add(&mut self, bucket: i64, count: i64, offset_sum: i128) {
        let entry = self.buckets.entry(bucket).or_default();
        entry.count += count;
        entry.offset_sum += offset_sum;
        if *entry == Bucket::default() {
            self.buckets.remove(&bucket);
        }
    }

    fn add_value(&mut self, value: f64, weight: i64) {
        let order = of_float(value);
        let offset = i128::from(order & ((1 << LOW_BITS) - 1));
        self.add(order >> LOW_BITS, weight, offset * i128::from(weight));
    }

    /// The interpolated value below which a fraction `quantile` of the values lies.
    fn quantile(&self, quantile: f64) -> Option<f64> {
        let count: i64 = self.buckets.values().map(|bucket| bucket.count).sum();
        if count <= 0 {
            return None;
        }
        let position = quantile.clamp(0.0, 1.0) * (count - 1) as f64;
        let (lower, fraction) = (position.floor(), position.fract());
        let low = self.value_at(lower as i64)?;
        if fraction == 0.0 {
            return Some(low);
        }
        let high = self.value_at(lower as i64 + 1)?;
        Some(if low == high {
            low
        } else {
            low + (high - low) * fraction
        })
    }

    /// The mean of the bucket that holds the value with `rank` values before it.
    fn value_at(&self, rank: i64) -> Option<f64> {
        let mut before = 0;
        for (start, bucket) in &self.buckets {
            before += bucket.count;
            if before > rank {
                let offset = bucket.offset_sum / i128::from(bucket.count);
                return Some(to_float((start << LOW_BITS) + offset as i64));
            }
        }
        None
    }
}

/// Linear. State: the histogram.
pub struct QuantileSketchStates {
    quantile: f64,
    data_type: DataType,
    histograms: Vec<Histogram>,
}

impl QuantileSketchStates {
    /// For a quantile from 0 to 1 and results of `data_type`, a numeric type.
    pub fn new(quantile: f64, data_type: DataType) -> Self {
        QuantileSketchStates {
            quantile,
            data_type,
            histograms: Vec::new(),
        }
    }
}

impl Accumulate for QuantileSketchStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let values = cast(&rows.args[0], &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>().values();
        let histograms = &mut self.histograms;
        let first = GroupedRows {
            args: &rows.args[..1],
            ..*rows
        };
        first.for_each_valid(|row, group, weight| histograms[group].add_value(values[row], weight));
        Ok(())
    }
}

impl GroupStates for QuantileSketchStates {
    fn resize(&mut self, groups: usize) {
        self.histograms.resize(groups, Histogram::default());
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            let mut bucket = 0i64;
            for index in 0..reader.unsigned()? {
                bucket = match index {
                    0 => reader.signed()?,
                    _ => bucket.checked_add(reader.signed()?).ok_or_else(damaged)?,
                };
                let count = reader.signed()?;
                self.histograms[group].add(bucket, count, reader.signed_wide()?);
            }
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        let buckets = &self.histograms[group].buckets;
        put_unsigned(buckets.len() as u128, out);
        let mut previous = 0;
        for (&start, bucket) in buckets {
            put_signed(start - previous, out);
            put_signed(bucket.count, out);
            put_signed_wide(bucket.offset_sum, out);
            previous = start;
        }
    }

    fn output(&self) -> Result<Output> {
        let values: Float64Array = self
            .histograms
            .iter()
            .map(|histogram| histogram.quantile(self.quantile))
            .collect();
        Ok(Output::of(cast(&values, &self.data_type)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        values
            .iter()
            .for_each(|&value| histogram.add_value(value, 1));
        histogram
    }

    #[test]
    fn few_values_are_exact() {
        for (values, quantile, expected) in [
            (vec![1.0, 2.0, 3.0, 4.0], 0.5, Some(2.5)),
            (vec![-5.0, 7.0, 100.0], 0.5, Some(7.0)),
            (vec![-5.0, 7.0, 100.0], 1.0, Some(100.0)),
            (vec![-5.0, 7.0, 100.0], 0.0, Some(-5.0)),
            (vec![3.25; 9], 0.37, Some(3.25)),
            (vec![], 0.5, None),
        ] {
            assert_eq!(
                histogram(&values).quantile(quantile),
                expected,
                "{values:?} {quantile}"
            );
        }
    }

    #[test]
    fn many_values_are_close() {
        let values: Vec<f64> = (0..100_000).map(|i| f64::from(i) / 10.0 - 3000.0).collect();
        let sketch = histogram(&values);
        for quantile in [0.001, 0.1, 0.5, 0.9, 0.999] {
            let exact = quantile * 99_999.0 / 10.0 - 3000.0;
            let found = sketch.quantile(quantile).unwrap();
            assert!(
                (found - exact).abs() <= exact.abs() * 0.01,
                "{quantile}: {found} for {exact}"
            );
        }
    }

    #[test]
    fn retraction_leaves_nothing() {
        let mut sketch = histogram(&[1.0, 2.0]);
        for weight in [3, -3] {
            sketch.add_value(f64::NAN, weight);
            sketch.add_value(1.001, weight);
        }
        assert_eq!(sketch, histogram(&[2.0, 1.0]));
    }
}
