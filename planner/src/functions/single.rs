//! The value of a scalar subquery, which must not have more than one row.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// `rm_single({value, rows}) -> value`; fails where there are several rows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Single {
    signature: Signature,
}

impl Default for Single {
    fn default() -> Self {
        Single {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Single {
    fn name(&self) -> &str {
        "rm_single"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Struct(fields)] if fields.len() == 2 => Ok(fields[0].data_type().clone()),
            _ => plan_err!("rm_single takes a value and a number of rows, not {arguments:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let both = args.args[0].to_array(1)?;
        let both = both.as_struct();
        let rows = both.column(1).as_primitive::<Int64Type>();
        let is_many = |row: usize| both.is_valid(row) && rows.is_valid(row) && rows.value(row) > 1;
        if (0..both.len()).any(is_many) {
            return exec_err!("more than one row returned by a subquery used as an expression");
        }
        // where the struct is NULL its value is too
        let value = arrow::compute::nullif(
            both.column(0),
            &arrow::compute::is_null(&args.args[0].to_array(1)?)?,
        )?;
        if is_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &value, 0,
            )?));
        }
        Ok(ColumnarValue::Array(value))
    }
}
