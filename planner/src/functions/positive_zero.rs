//! Zero without a sign. PostgreSQL holds -0 and 0 equal wherever it compares; arrow, by which DataFusion sorts and finds
//! peers, does not.

use arrow::datatypes::DataType;
use datafusion::common::utils::{normalize_float_zero, normalize_float_zero_scalar};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// `rm_positive_zero(float) -> float`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PositiveZero {
    signature: Signature,
}

impl PositiveZero {
    /// The function's name.
    pub const NAME: &'static str = "rm_positive_zero";
}

impl Default for PositiveZero {
    fn default() -> Self {
        PositiveZero {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for PositiveZero {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [float @ (DataType::Float32 | DataType::Float64)] => Ok(float.clone()),
            _ => plan_err!("{} takes a float, not {arguments:?}", Self::NAME),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) => ColumnarValue::Array(normalize_float_zero(array)),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(normalize_float_zero_scalar(value.clone()))
            }
        })
    }
}
