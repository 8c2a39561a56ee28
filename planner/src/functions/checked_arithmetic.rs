//! `+`, `-`, `*` on integers that fail on overflow, as PostgreSQL's do; DataFusion's operators wrap around.

use std::sync::Arc;

use arrow::array::{ArrayRef, Datum};
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// One checked operator. Both arguments have the same integer type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CheckedArithmetic {
    operator: Operator,
    name: &'static str,
    signature: Signature,
}

impl CheckedArithmetic {
    /// All operators that can overflow; division has DataFusion's own, which fails.
    pub fn all() -> Vec<Arc<ScalarUDF>> {
        [Operator::Plus, Operator::Minus, Operator::Multiply]
            .into_iter()
            .filter_map(Self::of)
            .collect()
    }

    /// The checked form of `operator`, if it can overflow.
    pub fn of(operator: Operator) -> Option<Arc<ScalarUDF>> {
        let name = match operator {
            Operator::Plus => "rm_add",
            Operator::Minus => "rm_subtract",
            Operator::Multiply => "rm_multiply",
            _ => return None,
        };
        let signature = Signature::any(2, Volatility::Immutable);
        Some(Arc::new(ScalarUDF::from(CheckedArithmetic {
            operator,
            name,
            signature,
        })))
    }

    /// The operator that function `name` stands for, to print it as it was written.
    pub fn symbol(name: &str) -> Option<&'static str> {
        match name {
            "rm_add" => Some("+"),
            "rm_subtract" => Some("-"),
            "rm_multiply" => Some("*"),
            _ => None,
        }
    }
}

impl ScalarUDFImpl for CheckedArithmetic {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [left, right] if left == right && left.is_integer() => Ok(left.clone()),
            _ => plan_err!(
                "{} takes two integers of one type, not {arguments:?}",
                self.name
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let kernel: fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> = match self.operator
        {
            Operator::Plus => add,
            Operator::Minus => sub,
            _ => mul,
        };
        apply(&args.args[0], &args.args[1], kernel)
    }
}
