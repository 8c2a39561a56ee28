//! Mathematical functions that DataFusion lacks, or that answer NaN or infinity where PostgreSQL has an error.
#![allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must not pass either")]

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{Float, Int4, Int8, Numeric};
use super::decimal::{self, Decimal};
use super::sql_function::{Gives, Row, function};
use super::value::Value;
use crate::types::SqlType;

/// The scale of numeric results that have no end: PostgreSQL gives at least 16 significant digits.
const SCALE: i8 = 16;
const ENDLESS: SqlType = SqlType::Numeric {
    precision: 38,
    scale: SCALE,
};
const WHOLE: SqlType = SqlType::Numeric {
    precision: 38,
    scale: 0,
};

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = integers();
    all.extend(endless());
    all.extend(trigonometry());
    all.extend(scales());
    all.extend(buckets());
    all
}

fn integers() -> Vec<Arc<ScalarUDF>> {
    fn modulo(a: &Row) -> Result<Value> {
        match a.int(1) {
            0 => exec_err!("division by zero"),
            divisor => Ok(a.int(0).wrapping_rem(divisor).into()),
        }
    }
    vec![
        function("mod")
            .strict(&[Int4, Int4], SqlType::Integer, modulo)
            .strict(&[Int8, Int8], SqlType::BigInt, modulo)
            .strict(&[Numeric, Numeric], SqlType::PLAIN_NUMERIC, |a| {
                let (dividend, divisor) = decimal::align(of(a, 0), of(a, 1))?;
                if divisor.digits == 0 {
                    return exec_err!("division by zero");
                }
                let rest = Decimal {
                    digits: dividend.digits % divisor.digits,
                    scale: dividend.scale,
                };
                Ok(Value::Decimal(rest.rescaled(10)?.digits))
            })
            .udf(),
        function("div")
            .strict(&[Numeric, Numeric], WHOLE, |a| {
                let (dividend, divisor) = decimal::align(of(a, 0), of(a, 1))?;
                if divisor.digits == 0 {
                    return exec_err!("division by zero");
                }
                Ok(Value::Decimal(dividend.digits / divisor.digits))
            })
            .udf(),
        function("sign")
            .strict(&[Numeric], WHOLE, |a| {
                Ok(Value::Decimal(of(a, 0).digits.signum()))
            })
            .strict(&[Float], SqlType::Double, |a| {
                let value = a.float(0);
                Ok(if value == 0.0 || value.is_nan() {
                    value
                } else {
                    value.signum()
                }
                .into())
            })
            .udf(),
        function("factorial")
            .strict(&[Int8], WHOLE, |a| {
                if a.int(0) < 0 {
                    return exec_err!("factorial of a negative number is undefined");
                }
                (1..=i128::from(a.int(0)))
                    .try_fold(1i128, i128::checked_mul)
                    .filter(|product| *product < 10i128.pow(38))
                    .map(Value::Decimal)
                    .ok_or_else(|| exec_datafusion_err!("value overflows numeric format"))
            })
            .udf(),
    ]
}

fn of(a: &Row, index: usize) -> Decimal {
    let (digits, scale) = a.decimal(index);
    Decimal { digits, scale }
}

/// The two overloads of a logarithm.
macro_rules! logarithm {
    ($name:literal, $float:expr, $numeric:expr) => {
        function($name)
            .strict(&[Float], SqlType::Double, |a| {
                positive(!(a.float(0) < 0.0), a.float(0) == 0.0)?;
                let logarithm: fn(f64) -> f64 = $float;
                Ok(logarithm(a.float(0)).into())
            })
            .strict(&[Numeric], ENDLESS, |a| {
                let value = of(a, 0);
                positive(value.digits > 0, value.digits == 0)?;
                Ok(Value::Decimal($numeric(value, SCALE)?.digits))
            })
            .udf()
    };
}

/// Square roots, powers, exponentials and logarithms: of numerics numeric, else double precision.
fn endless() -> Vec<Arc<ScalarUDF>> {
    let power = |name: &'static str| {
        function(name)
            .strict(&[Float, Float], SqlType::Double, |a| {
                power(a.float(0), a.float(1)).map(Value::Float)
            })
            .strict(&[Numeric, Numeric], ENDLESS, |a| {
                let result = decimal::power(of(a, 0), of(a, 1), SCALE)?;
                Ok(Value::Decimal(result.digits))
            })
            .udf()
    };
    vec![
        power("power"),
        power("pow"),
        function("sqrt")
            .strict(&[Float], SqlType::Double, |a| {
                if a.float(0) < 0.0 {
                    return exec_err!("cannot take square root of a negative number");
                }
                Ok(a.float(0).sqrt().into())
            })
            .strict(&[Numeric], ENDLESS, |a| {
                Ok(Value::Decimal(decimal::sqrt(of(a, 0), SCALE)?.digits))
            })
            .udf(),
        function("exp")
            .strict(&[Float], SqlType::Double, |a| {
                let result = a.float(0).exp();
                if result.is_infinite() && a.float(0).is_finite() {
                    return exec_err!("value out of range: overflow");
                }
                if result == 0.0 && a.float(0).is_finite() {
                    return exec_err!("value out of range: underflow");
                }
                Ok(result.into())
            })
            .strict(&[Numeric], ENDLESS, |a| {
                Ok(Value::Decimal(decimal::exp(of(a, 0), SCALE)?.digits))
            })
            .udf(),
        logarithm!("ln", f64::ln, decimal::ln),
        logarithm!("log10", f64::log10, decimal::log10),
        function("log")
            .strict(&[Float], SqlType::Double, |a| {
                positive(!(a.float(0) < 0.0), a.float(0) == 0.0)?;
                Ok(a.float(0).log10().into())
            })
            .strict(&[Numeric], ENDLESS, |a| {
                let value = of(a, 0);
                positive(value.digits > 0, value.digits == 0)?;
                Ok(Value::Decimal(decimal::log10(value, SCALE)?.digits))
            })
            .strict(&[Numeric, Numeric], ENDLESS, |a| {
                for value in [of(a, 0), of(a, 1)] {
                    positive(value.digits > 0, value.digits == 0)?;
                }
                let result = decimal::log(of(a, 0), of(a, 1), SCALE)?;
                Ok(Value::Decimal(result.digits))
            })
            .udf(),
        function("cbrt")
            .strict(&[Float], SqlType::Double, |a| Ok(a.float(0).cbrt().into()))
            .udf(),
    ]
}

fn positive(is_positive: bool, is_zero: bool) -> Result<()> {
    match (is_positive, is_zero) {
        (_, true) => exec_err!("cannot take logarithm of zero"),
        (false, _) => exec_err!("cannot take logarithm of a negative number"),
        _ => Ok(()),
    }
}

fn power(base: f64, exponent: f64) -> Result<f64> {
    if base == 0.0 && exponent < 0.0 {
        return exec_err!("zero raised to a negative power is undefined");
    }
    if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 {
        return exec_err!(
            "a negative number raised to a non-integer power yields a complex result"
        );
    }
    let result = base.powf(exponent);
    let is_finite = base.is_finite() && exponent.is_finite();
    if result.is_infinite() && is_finite {
        return exec_err!("value out of range: overflow");
    }
    if result == 0.0 && base != 0.0 && is_finite {
        return exec_err!("value out of range: underflow");
    }
    Ok(result)
}

fn trigonometry() -> Vec<Arc<ScalarUDF>> {
    macro_rules! float {
        ($name:literal, $body:expr) => {
            function($name)
                .strict(&[Float], SqlType::Double, |a| {
                    let body: fn(f64) -> Result<f64> = $body;
                    body(a.float(0)).map(Value::Float)
                })
                .udf()
        };
    }
    fn within(is_within: bool) -> Result<()> {
        if is_within {
            Ok(())
        } else {
            exec_err!("input is out of range")
        }
    }
    vec![
        float!("asin", |x| {
            within(!(x.abs() > 1.0))?;
            Ok(x.asin())
        }),
        float!("acos", |x| {
            within(!(x.abs() > 1.0))?;
            Ok(x.acos())
        }),
        float!("acosh", |x| {
            within(!(x < 1.0))?;
            Ok(x.acosh())
        }),
        float!("atanh", |x| {
            within(!(x.abs() > 1.0))?;
            Ok(x.atanh())
        }),
        float!("sin", |x| {
            within(!x.is_infinite())?;
            Ok(x.sin())
        }),
        float!("cos", |x| {
            within(!x.is_infinite())?;
            Ok(x.cos())
        }),
        float!("tan", |x| {
            within(!x.is_infinite())?;
            Ok(x.tan())
        }),
        float!("sind", |x| {
            within(!x.is_infinite())?;
            Ok(sine_of_degrees(x))
        }),
        float!("cosd", |x| {
            within(!x.is_infinite())?;
            Ok(sine_of_degrees(x + 90.0))
        }),
        float!("tand", |x| {
            within(!x.is_infinite())?;
            let x = x % 180.0;
            Ok(match x.abs() {
                45.0 => x.signum(),
                135.0 => -x.signum(),
                _ => sine_of_degrees(x) / sine_of_degrees(x + 90.0),
            })
        }),
        float!("asind", |x| {
            within(!(x.abs() > 1.0))?;
            Ok(exact_degrees(x.asin()))
        }),
        float!("acosd", |x| {
            within(!(x.abs() > 1.0))?;
            Ok(exact_degrees(x.acos()))
        }),
        float!("atand", |x| Ok(exact_degrees(x.atan()))),
    ]
}

/// Exact where the sine is.
fn sine_of_degrees(degrees: f64) -> f64 {
    let degrees = degrees % 360.0;
    match degrees.abs() {
        0.0 | 180.0 => 0.0,
        30.0 | 150.0 => 0.5 * degrees.signum(),
        90.0 => degrees.signum(),
        210.0 | 330.0 => -0.5 * degrees.signum(),
        270.0 => -degrees.signum(),
        _ => degrees.to_radians().sin(),
    }
}

fn exact_degrees(radians: f64) -> f64 {
    let degrees = radians.to_degrees();
    let rounded = degrees.round();
    if (degrees - rounded).abs() < 1e-12 {
        rounded
    } else {
        degrees
    }
}

fn scales() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("scale")
            .strict(&[Numeric], SqlType::Integer, |a| {
                Ok(i64::from(a.decimal(0).1).into())
            })
            .udf(),
        function("min_scale")
            .strict(&[Numeric], SqlType::Integer, |a| {
                Ok(i64::from(of(a, 0).trimmed().scale).into())
            })
            .udf(),
        // a column has one scale, which rows can not change
        function("trim_scale")
            .strict(&[Numeric], Gives::Like(0), |a| {
                Ok(Value::Decimal(a.decimal(0).0))
            })
            .udf(),
    ]
}

fn buckets() -> Vec<Arc<ScalarUDF>> {
    fn bucket(operand: f64, low: f64, high: f64, count: i64) -> Result<Value> {
        if count <= 0 {
            return exec_err!("count must be greater than zero");
        }
        if operand.is_nan() || low.is_nan() || high.is_nan() {
            return exec_err!("operand, lower bound, and upper bound cannot be NaN");
        }
        if low == high {
            return exec_err!("lower bound cannot equal upper bound");
        }
        if low.is_infinite() || high.is_infinite() {
            return exec_err!("lower and upper bounds must be finite");
        }
        let (is_below, is_above) = if low < high {
            (operand < low, operand >= high)
        } else {
            (operand > low, operand <= high)
        };
        Ok(Value::Int(if is_below {
            0
        } else if is_above {
            count + 1
        } else {
            ((operand - low) / (high - low) * count as f64).floor() as i64 + 1
        }))
    }
    vec![
        function("width_bucket")
            .strict(&[Float, Float, Float, Int4], SqlType::Integer, |a| {
                bucket(a.float(0), a.float(1), a.float(2), a.int(3))
            })
            .strict(&[Numeric, Numeric, Numeric, Int4], SqlType::Integer, |a| {
                decimal::bucket(of(a, 0), of(a, 1), of(a, 2), a.int(3))
                    .map(|n| Value::Int(n as i64))
            })
            .udf(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_are_exact() {
        for (degrees, sine) in [(30.0, 0.5), (-30.0, -0.5), (450.0, 1.0), (270.0, -1.0)] {
            assert_eq!(sine_of_degrees(degrees), sine, "{degrees}");
        }
        assert!(power(0.0, -1.0).is_err() && power(-8.0, 0.5).is_err());
        assert_eq!(power(2.0, -1.0).unwrap(), 0.5);
    }
}
