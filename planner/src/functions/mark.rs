//! Marks in plans: functions of nothing that are true. Where they stand says something that SQL has no words for.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    name: &'static str,
    signature: Signature,
}

impl Mark {
    /// A filter by it marks the right side of a join `FOR SYSTEM_TIME AS OF PROCTIME()`.
    pub const AS_OF_NOW: &'static str = "rm_as_of_now";
    /// In the condition of a join it says that of the right rows that fulfil it only the nearest one is joined
    /// (`rewrite/nearest_join.rs`).
    pub const NEAREST: &'static str = "rm_nearest";

    pub fn new(name: &'static str) -> Self {
        Mark {
            name,
            signature: Signature::nullary(Volatility::Immutable),
        }
    }

    /// Whether `expr` is the mark of this name.
    pub fn is(name: &str, expr: &Expr) -> bool {
        matches!(expr, Expr::ScalarFunction(function) if function.name() == name)
    }
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }
}
