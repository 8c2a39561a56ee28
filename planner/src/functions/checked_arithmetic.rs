//! `+`, `-`, `*` on integers that fail on overflow, and `/` on floats that fails by zero and on numerics that rounds, as
//! PostgreSQL's do; DataFusion's operators wrap around, give infinity, or cut digits off.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, Decimal256Array, new_empty_array,
};
use arrow::compute::cast;
use arrow::compute::kernels::numeric::{add, div, mul, sub};
use arrow::datatypes::{
    DECIMAL256_MAX_PRECISION, DataType, Decimal256Type, DecimalType, Float32Type, Float64Type, i256,
};
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

    /// The checked form of `operator`, on integers, or of division on floats and numerics.
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
            [left, right] if self.divides() && is_decimal(left) && is_decimal(right) => {
                let none = div(&new_empty_array(left), &new_empty_array(right))?;
                Ok(none.data_type().clone())
            }
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

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

/// The quotients, unless a number is divided by zero.
fn divide(left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
    if is_decimal(left.get().0.data_type()) {
        return divide_decimals(left, right);
    }
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

/// The quotients, rounded half away from zero to the scale that Arrow gives them.
fn divide_decimals(left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
    let wide = |side: &dyn Datum| -> Result<(ArrayRef, i8, bool), ArrowError> {
        let (values, is_scalar) = side.get();
        let scale = match values.data_type() {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
            other => return Err(ArrowError::CastError(format!("{other} is no numeric"))),
        };
        let wide = DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale);
        Ok((cast(values, &wide)?, scale, is_scalar))
    };
    let empty = |side: &dyn Datum| new_empty_array(side.get().0.data_type());
    let result_type = div(&empty(left), &empty(right))?.data_type().clone();
    let ((dividends, left_scale, left_is_scalar), (divisors, right_scale, right_is_scalar)) =
        (wide(left)?, wide(right)?);
    let (precision, scale) = match &result_type {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            (*precision, *scale)
        }
        other => return Err(ArrowError::CastError(format!("{other} is no numeric"))),
    };
    let (dividends, divisors) = (
        dividends.as_primitive::<Decimal256Type>(),
        divisors.as_primitive::<Decimal256Type>(),
    );
    let shift = i32::from(scale) - i32::from(left_scale) + i32::from(right_scale);
    let factor = i256::from_i128(10)
        .checked_pow(u32::try_from(shift).unwrap_or(0))
        .ok_or_else(overflow)?;
    let rows = match (left_is_scalar, right_is_scalar) {
        (true, true) => 1,
        (true, false) => divisors.len(),
        (false, _) => dividends.len(),
    };
    let mut quotients = Vec::with_capacity(rows);
    for row in 0..rows {
        let (l, r) = (
            if left_is_scalar { 0 } else { row },
            if right_is_scalar { 0 } else { row },
        );
        if dividends.is_null(l) || divisors.is_null(r) {
            quotients.push(None);
            continue;
        }
        let dividend = dividends
            .value(l)
            .checked_mul(factor)
            .ok_or_else(overflow)?;
        quotients.push(Some(rounded_quotient(dividend, divisors.value(r))?));
    }
    let quotients = Decimal256Array::from(quotients)
        .with_precision_and_scale(DECIMAL256_MAX_PRECISION, scale)?;
    let fits =
        |value: i256| Decimal256Type::validate_decimal_precision(value, precision, scale).is_ok();
    if !quotients.iter().flatten().all(fits) {
        return Err(overflow());
    }
    cast(&quotients, &result_type)
}

fn rounded_quotient(dividend: i256, divisor: i256) -> Result<i256, ArrowError> {
    if divisor == i256::ZERO {
        return Err(ArrowError::DivideByZero);
    }
    let quotient = dividend.checked_div(divisor).ok_or_else(overflow)?;
    let rest = dividend.checked_rem(divisor).ok_or_else(overflow)?;
    // rest >= divisor - rest, in magnitudes: half or more is left
    let (rest, whole) = (rest.wrapping_abs(), divisor.wrapping_abs());
    if rest < whole.wrapping_sub(rest) {
        return Ok(quotient);
    }
    let is_negative = dividend.is_negative() != divisor.is_negative();
    quotient
        .checked_add(if is_negative {
            i256::MINUS_ONE
        } else {
            i256::ONE
        })
        .ok_or_else(overflow)
}

fn overflow() -> ArrowError {
    ArrowError::ArithmeticOverflow("numeric field overflow".to_string())
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
