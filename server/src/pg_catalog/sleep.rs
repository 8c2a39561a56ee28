//! `pg_sleep`: a query that waits. It holds no thread, and ends when it is cancelled.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use async_trait::async_trait;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Nobody waits longer: a year.
const MOST_SECONDS: f64 = 365.0 * 86_400.0;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

/// Waits for so many seconds, once per row, and gives nothing.
pub fn function() -> ScalarUDF {
    let sleep = Sleep {
        signature: Signature::any(1, Volatility::Volatile),
    };
    AsyncScalarUDF::new(Arc::new(sleep)).into_scalar_udf()
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let message = "pg_sleep is not possible here; call it in a SELECT list";
        Err(DataFusionError::Plan(message.to_string()))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds = args.args[0].to_array(args.number_rows)?;
        let seconds = cast(&seconds, &DataType::Float64)?;
        let seconds = seconds.as_primitive::<Float64Type>();
        // NaN and what is below 0 wait for nothing
        let sum: f64 = seconds.iter().flatten().filter(|s| *s > 0.0).sum();
        tokio::time::sleep(Duration::from_secs_f64(sum.min(MOST_SECONDS))).await;
        // PostgreSQL's void, which prints nothing; NULL for NULL
        let nothing = seconds.iter().map(|s| s.map(|_| ""));
        Ok(ColumnarValue::Array(Arc::new(
            nothing.collect::<StringArray>(),
        )))
    }
}
