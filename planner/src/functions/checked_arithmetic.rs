//! `+`, `-`, `*` on integers that fail on overflow, and `/` on floats that fails by zero, as PostgreSQL's do;
//! DataFusion's operators wrap around, or give infinity.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum};
use arrow::compute::kernels::numeric::{add, div, mul, sub};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// One checked operator. Both arguments have the same type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CheckedArithmetic {
    operator: Operator,
    name: &'static str,
    signature: Signature,
}

impl CheckedArithmetic {
    /// All of them. Division of integers has DataFusion's own, which fails.
    pub fn all() -> Vec<Arc<ScalarUDF>> {
        [
            Operator::Plus,
            Operator::Minus,
            Operator::Multiply,
            Operator::Divide,
        ]
        .into_iter()
        .filter_map(Self::of)
        .collect()
    }

    /// The checked form of `operator`, on integers, or of division on floats.
    pub fn of(operator: Operator) -> Option<Arc<ScalarUDF>> {
        let name = match operator {
            Operator::Plus => "rm_add",
            Operator::Minus => "rm_subtract",
            Operator::Multiply => "rm_multiply",
            Operator::Divide => "rm_divide",
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
            "rm_divide" => Some("/"),
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
            [left, right] if left == right && left.is_integer() != self.divides() => {
                Ok(left.clone())
            }
            _ => plan_err!(
                "{} takes two numbers of one type, not {arguments:?}",
                self.name
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let kernel: fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> = match self.operator
        {
            Operator::Plus => add,
            Operator::Minus => sub,
            Operator::Divide => divide,
            _ => mul,
        };
        apply(&args.args[0], &args.args[1], kernel)
    }
}

impl CheckedArithmetic {
    fn divides(&self) -> bool {
        self.operator == Operator::Divide
    }
}

/// The quotients, unless a number is divided by zero.
fn divide(left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
    let quotients = div(left, right)?;
    let fails = match quotients.data_type() {
        DataType::Float32 => divides_by_zero::<Float32Type>(left, right, &quotients),
        _ => divides_by_zero::<Float64Type>(left, right, &quotients),
    };
    match fails {
        true => Err(ArrowError::DivideByZero),
        false => Ok(quotients),
    }
}

/// NaN by zero is NaN; anything else by zero, which shows in the quotient, has no value.
fn divides_by_zero<T>(left: &dyn Datum, right: &dyn Datum, quotients: &ArrayRef) -> bool
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64>,
{
    let at = |(values, is_scalar): (&dyn Array, bool), row: usize| -> f64 {
        let row = if is_scalar { 0 } else { row };
        values.as_primitive::<T>().value(row).into()
    };
    let quotients = quotients.as_primitive::<T>();
    (0..quotients.len()).any(|row| {
        quotients.is_valid(row)
            && !quotients.value(row).into().is_finite()
            && at(right.get(), row) == 0.0
            && !at(left.get(), row).is_nan()
    })
}
