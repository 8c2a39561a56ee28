//! `sum` and `avg`: exact sums with a count of the values, so that the sum of no rows is NULL.
//!
//! Integers are summed in 128 bits, decimals in 256, floats without rounding ([`ExactSum`]). All three wrap around or
//! grow, so a sum that leaves the range of its type and comes back is right again; the *result* is checked: one that
//! does not fit its type is a failure of the group, never a wrapped number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal256Array, Float64Array, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal256Type, Float64Type, Int64Type, UInt64Type, i256};
use rivermark_planner::functions::rounded_mean;

use super::encoding::{Reader, put_signed, put_signed_wide};
use super::exact_sum::ExactSum;
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::Result;

/// The sum or the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumKind {
    Sum,
    Average,
}

/// Linear. `sum` and `avg` of integers. State: sum, count.
pub struct IntegerSumStates {
    kind: SumKind,
    data_type: DataType,
    sums: Vec<i128>,
    counts: Vec<i64>,
}

impl IntegerSumStates {
    /// With results of `data_type` (a 64-bit integer or decimal for sums, a float for means).
    pub fn new(kind: SumKind, data_type: DataType) -> Self {
        IntegerSumStates {
            kind,
            data_type,
            sums: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl Accumulate for IntegerSumStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        let mut add = |group: usize, value: i128, weight: i64| {
            sums[group] = sums[group].wrapping_add(value.wrapping_mul(i128::from(weight)));
            counts[group] += weight;
        };
        if rows.args[0].data_type() == &DataType::UInt64 {
            let values = rows.args[0].as_primitive::<UInt64Type>().values();
            rows.for_each_valid(|row, group, weight| add(group, i128::from(values[row]), weight));
        } else {
            let widened = cast(&rows.args[0], &DataType::Int64)?;
            let values = widened.as_primitive::<Int64Type>().values();
            rows.for_each_valid(|row, group, weight| add(group, i128::from(values[row]), weight));
        }
        Ok(())
    }
}

impl GroupStates for IntegerSumStates {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.counts.resize(groups, 0);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            self.sums[group] = self.sums[group].wrapping_add(reader.signed_wide()?);
            self.counts[group] += reader.signed()?;
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        put_signed_wide(self.sums[group], out);
        put_signed(self.counts[group], out);
    }

    fn output(&self) -> Result<Output> {
        let present = self
            .sums
            .iter()
            .zip(&self.counts)
            .map(|(&sum, &count)| (count != 0).then_some((sum, count)));
        match (self.kind, &self.data_type) {
            (SumKind::Average, data_type) => {
                let means: Float64Array = present
                    .map(|group| {
                        group.map(|(sum, count)| {
                            super::dyadic::divide_small(sum, 0, count.unsigned_abs())
                        })
                    })
                    .collect();
                Ok(Output::of(cast(&means, data_type)?))
            }
            (SumKind::Sum, DataType::Int64) => {
                let mut failures = Vec::new();
                let sums = present.enumerate().map(|(group, sum)| {
                    let fitting = i64::try_from(sum?.0).ok();
                    if fitting.is_none() {
                        failures.push((group, "bigint out of range".to_string()));
                    }
                    fitting
                });
                let values: ArrayRef = Arc::new(sums.collect::<Int64Array>());
                Ok(Output { values, failures })
            }
            (SumKind::Sum, data_type) => {
                let sums = present.map(|sum| sum.map(|(sum, _)| i256::from_i128(sum)));
                let sums = sums
                    .collect::<Decimal256Array>()
                    .with_precision_and_scale(76, 0)?;
                fit(Arc::new(sums), data_type)
            }
        }
    }
}

/// Linear. `sum` and `avg` of decimals. State: sum (unscaled), count.
pub struct DecimalSumStates {
    kind: SumKind,
    /// Digits behind the point of the values.
    scale: i8,
    data_type: DataType,
    sums: Vec<i256>,
    counts: Vec<i64>,
}

impl DecimalSumStates {
    /// For values with `scale` digits behind the point and results of `data_type`, a decimal.
    pub fn new(kind: SumKind, scale: i8, data_type: DataType) -> Self {
        DecimalSumStates {
            kind,
            scale,
            data_type,
            sums: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// The mean, rounded half away from zero as PostgreSQL rounds numerics, at the result's scale.
    fn mean(&self, sum: i256, count: i64) -> Option<i256> {
        let digits = match self.data_type {
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale) => (scale - self.scale).max(0),
            _ => 0,
        };
        rounded_mean(sum, count, digits as u32)
    }
}

impl Accumulate for DecimalSumStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        let mut add = |group: usize, value: i256, weight: i64| {
            let term = if weight == 1 {
                value
            } else {
                value.wrapping_mul(i256::from(weight))
            };
            sums[group] = sums[group].wrapping_add(term);
            counts[group] += weight;
        };
        if let DataType::Decimal128(_, _) = rows.args[0].data_type() {
            let values = rows.args[0]
                .as_primitive::<arrow::datatypes::Decimal128Type>()
                .values();
            rows.for_each_valid(|row, group, weight| {
                add(group, i256::from_i128(values[row]), weight)
            });
        } else {
            let widened = cast(&rows.args[0], &DataType::Decimal256(76, self.scale))?;
            let values = widened.as_primitive::<Decimal256Type>().values();
            rows.for_each_valid(|row, group, weight| add(group, values[row], weight));
        }
        Ok(())
    }
}

impl GroupStates for DecimalSumStates {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, i256::ZERO);
        self.counts.resize(groups, 0);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            // Shortened by its sign bytes; see `store`.
            let bytes = reader.bytes()?;
            let fill = if bytes.last().is_some_and(|&byte| byte & 0x80 != 0) {
                0xff
            } else {
                0
            };
            let mut full = [fill; 32];
            full.get_mut(..bytes.len())
                .ok_or_else(super::encoding::damaged)?
                .copy_from_slice(bytes);
            self.sums[group] = self.sums[group].wrapping_add(i256::from_le_bytes(full));
            self.counts[group] += reader.signed()?;
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        let bytes = self.sums[group].to_le_bytes();
        let fill = if bytes[31] & 0x80 != 0 { 0xff } else { 0 };
        let mut length = bytes
            .iter()
            .rposition(|&byte| byte != fill)
            .map_or(0, |last| last + 1);
        // The last byte kept must show the sign.
        let shows_sign = length > 0 && (bytes[length - 1] & 0x80 != 0) == (fill != 0);
        if !shows_sign && (length > 0 || fill != 0) {
            length += 1;
        }
        super::encoding::put_bytes(&bytes[..length], out);
        put_signed(self.counts[group], out);
    }

    fn output(&self) -> Result<Output> {
        let mut failures = Vec::new();
        let values =
            self.sums
                .iter()
                .zip(&self.counts)
                .enumerate()
                .map(|(group, (&sum, &count))| {
                    let value = match (self.kind, count) {
                        (_, 0) => return None,
                        (SumKind::Sum, _) => Some(sum),
                        (SumKind::Average, _) => self.mean(sum, count),
                    };
                    if value.is_none() {
                        failures.push((group, overflow(&self.data_type)));
                    }
                    value
                });
        let scale = match (self.kind, &self.data_type) {
            (SumKind::Sum, _) => self.scale,
            (
                SumKind::Average,
                DataType::Decimal32(_, scale)
                | DataType::Decimal64(_, scale)
                | DataType::Decimal128(_, scale)
                | DataType::Decimal256(_, scale),
            ) => (*scale).max(self.scale),
            (SumKind::Average, _) => self.scale,
        };
        let values = values
            .collect::<Decimal256Array>()
            .with_precision_and_scale(76, scale)?;
        let mut output = fit(Arc::new(values), &self.data_type)?;
        output.failures.extend(failures);
        Ok(output)
    }
}

/// Linear. `sum` and `avg` of floats. State: exact sum, count.
pub struct FloatSumStates {
    kind: SumKind,
    data_type: DataType,
    sums: Vec<ExactSum<i128>>,
    counts: Vec<i64>,
}

impl FloatSumStates {
    /// With results of `data_type`, a float.
    pub fn new(kind: SumKind, data_type: DataType) -> Self {
        FloatSumStates {
            kind,
            data_type,
            sums: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl Accumulate for FloatSumStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let widened = cast(&rows.args[0], &DataType::Float64)?;
        let values = widened.as_primitive::<Float64Type>().values();
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        rows.for_each_valid(|row, group, weight| {
            sums[group].add(values[row], weight);
            counts[group] += weight;
        });
        Ok(())
    }
}

impl GroupStates for FloatSumStates {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, ExactSum::default());
        self.counts.resize(groups, 0);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            self.sums[group].merge_stored(reader)?;
            self.counts[group] += reader.signed()?;
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        self.sums[group].store(out);
        put_signed(self.counts[group], out);
    }

    fn output(&self) -> Result<Output> {
        let mut failures = Vec::new();
        let values: Float64Array = (self.sums.iter().zip(&self.counts).enumerate())
            .map(|(group, (sum, &count))| {
                let value = match (self.kind, count) {
                    (_, 0) => return None,
                    (SumKind::Sum, _) => sum.to_f64(),
                    (SumKind::Average, _) => sum.mean(count.unsigned_abs()),
                };
                if value.is_infinite() && sum.special().is_none() {
                    failures.push((group, "value out of range: overflow".to_string()));
                }
                Some(value)
            })
            .collect();
        Ok(Output {
            values: cast(&values, &self.data_type)?,
            failures,
        })
    }
}

/// Casts to the type of the result; groups whose value does not fit have failed.
fn fit(values: ArrayRef, data_type: &DataType) -> Result<Output> {
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let fitted = cast_with_options(&values, data_type, &options)?;
    let failures = if fitted.null_count() == values.null_count() {
        Vec::new()
    } else {
        let is_lost = |group: &usize| fitted.is_null(*group) && values.is_valid(*group);
        (0..values.len())
            .filter(is_lost)
            .map(|group| (group, overflow(data_type)))
            .collect()
    };
    Ok(Output {
        values: fitted,
        failures,
    })
}

fn overflow(data_type: &DataType) -> String {
    format!("numeric field overflow: the result does not fit {data_type}")
}
