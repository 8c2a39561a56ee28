//! `avg` with PostgreSQL's last digit: DataFusion cuts an average of numerics off at the scale of its type.
//!
//! Summing is left to DataFusion. Its intermediate states, a count and a sum, are what is divided here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal256Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DECIMAL256_MAX_PRECISION, DataType, Decimal256Type, DecimalType, FieldRef, UInt64Type, i256,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};

/// `avg`.
pub fn average() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Average { summed: avg_udaf() }))
}

/// `sum / count` with `digits` more digits behind the point than the sum has, rounded half away from zero; `None` if
/// that is too large or there is nothing to divide by.
pub fn rounded_mean(sum: i256, count: i64, digits: u32) -> Option<i256> {
    let scaled = sum.checked_mul(i256::from_i128(10).checked_pow(digits)?)?;
    let divisor = i256::from(count);
    let (quotient, rest) = (scaled.checked_div(divisor)?, scaled.checked_rem(divisor)?);
    let is_up = rest.wrapping_abs().checked_mul(i256::from(2i64))? >= divisor;
    let step = if scaled.is_negative() {
        i256::MINUS_ONE
    } else {
        i256::ONE
    };
    Some(if is_up {
        quotient.wrapping_add(step)
    } else {
        quotient
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    /// DataFusion's function.
    summed: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        self.summed.name()
    }

    fn aliases(&self) -> &[String] {
        self.summed.aliases()
    }

    fn signature(&self) -> &Signature {
        self.summed.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.summed.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type().clone();
        let summed = self.summed.accumulator(args)?;
        if !is_decimal(&data_type) {
            return Ok(summed);
        }
        Ok(Box::new(RoundedAverage { summed, data_type }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.summed.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.summed.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type().clone();
        let summed = self.summed.create_groups_accumulator(args)?;
        if !is_decimal(&data_type) {
            return Ok(summed);
        }
        Ok(Box::new(RoundedAverages { summed, data_type }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    scale_of(data_type).is_some()
}

fn scale_of(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

fn overflow() -> DataFusionError {
    exec_datafusion_err!("value overflows numeric format")
}

/// Decimals with their scale, as wide as they get.
fn widened(values: &ArrayRef) -> Result<(Decimal256Array, i8)> {
    let Some(scale) = scale_of(values.data_type()) else {
        return internal_err!("a sum of numerics has the type {}", values.data_type());
    };
    let wide = cast(
        values,
        &DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale),
    )?;
    Ok((wide.as_primitive::<Decimal256Type>().clone(), scale))
}

/// The averages of groups, of the type of the result; a group without a count has none.
fn averages<'a>(
    groups: impl Iterator<Item = Option<(i256, u64)>> + 'a,
    scale: i8,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let result_scale = scale_of(data_type).unwrap_or(scale);
    let digits = u32::try_from(result_scale - scale).map_err(|_| overflow())?;
    let mean = |(sum, count): (i256, u64)| {
        let count = i64::try_from(count).ok()?;
        rounded_mean(sum, count, digits)
    };
    let means = groups
        .map(|group| match group {
            None | Some((_, 0)) => Ok(None),
            Some(group) => Ok(Some(mean(group).ok_or_else(overflow)?)),
        })
        .collect::<Result<Vec<_>>>()?;
    if let DataType::Decimal128(precision, _) | DataType::Decimal256(precision, _) = data_type {
        let fits = |mean: &i256| {
            Decimal256Type::validate_decimal_precision(*mean, *precision, result_scale).is_ok()
        };
        if !means.iter().flatten().all(fits) {
            return Err(overflow());
        }
    }
    let means = Decimal256Array::from(means)
        .with_precision_and_scale(DECIMAL256_MAX_PRECISION, result_scale)?;
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(&means, data_type, &options)?)
}

/// The average of one group.
#[derive(Debug)]
struct RoundedAverage {
    summed: Box<dyn Accumulator>,
    data_type: DataType,
}

impl Accumulator for RoundedAverage {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.summed.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (sum, count, scale) = match self.summed.state()?.as_slice() {
            [ScalarValue::UInt64(count), sum] => {
                let (sums, scale) = widened(&sum.to_array()?)?;
                let sum = sums.is_valid(0).then(|| sums.value(0));
                (sum, count.unwrap_or(0), scale)
            }
            // DISTINCT: all values
            [ScalarValue::List(list)] => {
                let (values, scale) = widened(list.values())?;
                let sum = values.iter().flatten().fold(i256::ZERO, i256::wrapping_add);
                let count = values.len() - values.null_count();
                (Some(sum), count as u64, scale)
            }
            state => return internal_err!("an average has the state {state:?}"),
        };
        let group = sum.map(|sum| (sum, count));
        let average = averages(std::iter::once(group), scale, &self.data_type)?;
        ScalarValue::try_from_array(&average, 0)
    }

    fn size(&self) -> usize {
        self.summed.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.summed.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.summed.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.summed.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.summed.supports_retract_batch()
    }
}

/// The averages of many groups.
struct RoundedAverages {
    summed: Box<dyn GroupsAccumulator>,
    data_type: DataType,
}

impl GroupsAccumulator for RoundedAverages {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.summed
            .update_batch(values, group_indices, filter, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let state = self.summed.state(emit_to)?;
        let [counts, sums] = state.as_slice() else {
            return internal_err!("averages have {} states", state.len());
        };
        let counts = counts.as_primitive::<UInt64Type>();
        let (sums, scale) = widened(sums)?;
        let groups = sums
            .iter()
            .zip(counts.iter())
            .map(|(sum, count)| sum.zip(count));
        averages(groups, scale, &self.data_type)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.summed.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        self.summed.merge_batch(states, group_indices, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.summed.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.summed.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_rounded_half_away_from_zero() {
        for (sum, count, digits, expected) in [
            (2, 3, 4, 6667),
            (-2, 3, 4, -6667),
            (1, 3, 4, 3333),
            (1, 8, 2, 13),
            (-1, 8, 2, -13),
            (10, 2, 0, 5),
        ] {
            let mean = rounded_mean(i256::from_i128(sum), count, digits);
            assert_eq!(mean, Some(i256::from_i128(expected)), "{sum} / {count}");
        }
        assert_eq!(rounded_mean(i256::ONE, 0, 4), None);
        assert_eq!(rounded_mean(i256::MAX, 1, 4), None);
    }
}
