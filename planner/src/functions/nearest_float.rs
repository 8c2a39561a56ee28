//! Numerics as floats: always the nearest one, as PostgreSQL casts them. Arrow's cast divides the digits, rounded to a float,
//! by a power of ten, and is off by one in the last place for about every tenth number of 17 digits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::types::SqlType;

/// The largest power of ten that is a double without rounding.
const EXACT_SCALE: i8 = 22;
/// Integers up to here are doubles without rounding.
const EXACT_INTEGER: u128 = 1 << 53;
/// Numerics of so many digits are below it.
const EXACT_DIGITS: u8 = 15;

/// `rm_float8(numeric)` and `rm_float4(numeric)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NearestFloat {
    target: DataType,
    signature: Signature,
}

impl NearestFloat {
    /// `target` is a float.
    pub fn new(target: DataType) -> Self {
        NearestFloat {
            target,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    /// What the function of this name casts to; `None` if it is another one.
    pub fn target_of(name: &str) -> Option<SqlType> {
        match name {
            FLOAT4 => Some(SqlType::Real),
            FLOAT8 => Some(SqlType::Double),
            _ => None,
        }
    }

    /// The function that stands for a cast; `None` if arrow's is exact.
    pub fn instead_of_cast(source: &DataType, target: &DataType) -> Option<Arc<ScalarUDF>> {
        let is_exact = match source {
            DataType::Decimal128(digits, scale) => {
                *target == DataType::Float64
                    && *digits <= EXACT_DIGITS
                    && (0..=EXACT_SCALE).contains(scale)
            }
            _ => false,
        };
        let is_needed = source.is_decimal() && target.is_floating() && !is_exact;
        is_needed.then(|| Arc::new(ScalarUDF::from(Self::new(target.clone()))))
    }
}

const FLOAT4: &str = "rm_float4";
const FLOAT8: &str = "rm_float8";

impl ScalarUDFImpl for NearestFloat {
    fn name(&self) -> &str {
        match self.target {
            DataType::Float32 => FLOAT4,
            _ => FLOAT8,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.target.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(value) => {
                Ok(ColumnarValue::Scalar(nearest_float(value, &self.target)?))
            }
            ColumnarValue::Array(values) => {
                Ok(ColumnarValue::Array(nearest_floats(values, &self.target)?))
            }
        }
    }
}

/// The float that is nearest to a decimal.
pub fn nearest_float(value: &ScalarValue, target: &DataType) -> Result<ScalarValue> {
    let values = nearest_floats(&value.to_array()?, target)?;
    ScalarValue::try_from_array(&values, 0)
}

/// The floats that are nearest to decimals.
pub fn nearest_floats(values: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    if let (DataType::Decimal128(precision, scale @ 0..=EXACT_SCALE), DataType::Float64) =
        (values.data_type(), target)
    {
        let divisor = 10f64.powi(i32::from(*scale));
        let nearest = |value: i128| match value.unsigned_abs() <= EXACT_INTEGER {
            true => Ok(value as f64 / divisor),
            false => {
                let text = Decimal128Type::format_decimal(value, *precision, *scale);
                let float = text.parse();
                float.map_err(|_| ArrowError::ParseError(format!("{text} is not a float")))
            }
        };
        let values = values.as_primitive::<Decimal128Type>();
        return Ok(Arc::new(
            values.try_unary::<_, Float64Type, ArrowError>(nearest)?,
        ));
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(&cast(values, &DataType::Utf8)?, target, &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Decimal256Array};
    use arrow::datatypes::{Float32Type, i256};

    use super::*;

    #[test]
    fn the_nearest_float_is_found() {
        let digits = [
            9_500_000_000_000_001,
            -9_500_000_000_000_001,
            12_345_678_901_234_567,
            1,
            0,
            i128::from(i64::MAX),
        ];
        let exact = |n: i128| format!("{n}e-16").parse::<f64>().unwrap();
        let expected: Vec<f64> = digits.iter().map(|n| exact(*n)).collect();
        let narrow = Decimal128Array::from(digits.to_vec());
        let narrow: ArrayRef = Arc::new(narrow.with_precision_and_scale(38, 16).unwrap());
        let wide = Decimal256Array::from_iter_values(digits.map(i256::from_i128));
        let wide: ArrayRef = Arc::new(wide.with_precision_and_scale(76, 16).unwrap());
        for values in [&narrow, &wide] {
            let floats = nearest_floats(values, &DataType::Float64).unwrap();
            assert_eq!(floats.as_primitive::<Float64Type>().values(), &expected);
        }
        let floats = nearest_floats(&narrow.slice(0, 1), &DataType::Float32).unwrap();
        assert_eq!(floats.as_primitive::<Float32Type>().value(0), 0.95f32);
    }

    #[test]
    fn few_digits_need_no_text() {
        let values = Decimal128Array::from(vec![Some(123), None, Some(-7)]);
        let values: ArrayRef = Arc::new(values.with_precision_and_scale(38, 2).unwrap());
        let floats = nearest_floats(&values, &DataType::Float64).unwrap();
        let floats: Vec<Option<f64>> = floats.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(floats, [Some(1.23), None, Some(-0.07)]);
        let cast = |digits, scale, target| {
            NearestFloat::instead_of_cast(&DataType::Decimal128(digits, scale), &target).is_some()
        };
        assert!(!cast(15, 2, DataType::Float64) && cast(16, 2, DataType::Float64));
        assert!(cast(5, 2, DataType::Float32) && !cast(5, 2, DataType::Int64));
    }
}
