//! Functions of numerics in exact arithmetic, with as many digits as their result has.
//!
//! Roots, logarithms and exponentials are computed in fixed point with [`GUARD`] digits after the point: logarithms by
//! the series of the inverse hyperbolic tangent, exponentials by Taylor's, both after reduction by powers of two.

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use num_bigint::{BigInt, Sign};

/// Digits after the point of intermediate results.
const GUARD: u32 = 60;
/// The largest result has fewer digits than this.
const PRECISION: u32 = 38;

/// `digits / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    pub digits: i128,
    pub scale: i8,
}

fn overflow() -> datafusion::common::DataFusionError {
    exec_datafusion_err!("value overflows numeric format")
}

fn ten_to(n: u32) -> BigInt {
    BigInt::from(10).pow(n)
}

impl Decimal {
    /// Without zeros at the end of the fraction.
    pub fn trimmed(mut self) -> Decimal {
        while self.scale > 0 && self.digits % 10 == 0 {
            self.digits /= 10;
            self.scale -= 1;
        }
        self
    }

    /// With another scale; lost digits are rounded, half away from zero.
    pub fn rescaled(self, scale: i8) -> Result<Decimal> {
        let wide = BigInt::from(self.digits);
        let by = i32::from(scale) - i32::from(self.scale);
        let digits = if by >= 0 {
            wide * ten_to(by as u32)
        } else {
            divided(&wide, &ten_to(by.unsigned_abs()))
        };
        of_big(&digits, scale)
    }

    fn is_whole(self) -> bool {
        self.trimmed().scale <= 0
    }

    /// In fixed point.
    fn guarded(self) -> BigInt {
        let by = GUARD as i32 - i32::from(self.scale);
        BigInt::from(self.digits) * ten_to(by as u32)
    }
}

/// A quotient, rounded half away from zero.
fn divided(dividend: &BigInt, divisor: &BigInt) -> BigInt {
    let twice = dividend * 2;
    let half = if (dividend.sign() == Sign::Minus) == (divisor.sign() == Sign::Minus) {
        divisor.clone()
    } else {
        -divisor
    };
    (twice + half) / (divisor * 2)
}

fn of_big(digits: &BigInt, scale: i8) -> Result<Decimal> {
    if digits.magnitude() >= ten_to(PRECISION).magnitude() {
        return Err(overflow());
    }
    let digits = i128::try_from(digits.clone()).map_err(|_| overflow())?;
    Ok(Decimal { digits, scale })
}

/// From fixed point.
fn of_guarded(value: &BigInt, scale: i8) -> Result<Decimal> {
    of_big(&divided(value, &ten_to(GUARD - scale as u32)), scale)
}

/// Both with the larger scale of the two.
pub fn align(a: Decimal, b: Decimal) -> Result<(Decimal, Decimal)> {
    let scale = a.scale.max(b.scale);
    Ok((a.rescaled(scale)?, b.rescaled(scale)?))
}

/// The square root.
pub fn sqrt(value: Decimal, scale: i8) -> Result<Decimal> {
    if value.digits < 0 {
        return exec_err!("cannot take square root of a negative number");
    }
    let squared =
        BigInt::from(value.digits) * ten_to((2 * GUARD as i32 - i32::from(value.scale)) as u32);
    of_guarded(&squared.sqrt(), scale)
}

fn one() -> BigInt {
    ten_to(GUARD)
}

/// `2 · artanh(z)`, for |z| of at most a third.
fn twice_artanh(z: &BigInt) -> BigInt {
    let square = z * z / one();
    let mut term = z.clone();
    let mut sum = z.clone();
    let mut n = 3u32;
    while term.sign() != Sign::NoSign {
        term = &term * &square / one();
        sum += &term / n;
        n += 2;
    }
    sum * 2
}

fn ln_two() -> BigInt {
    twice_artanh(&(one() / 3))
}

/// The natural logarithm of a positive number, all in fixed point.
fn ln_guarded(value: &BigInt) -> BigInt {
    let mut reduced = value.clone();
    let mut twos = 0i32;
    while reduced >= one() * 2 {
        reduced /= 2;
        twos += 1;
    }
    // halves are exact only upwards; digits lost above are far behind the result's
    while reduced < one() {
        reduced *= 2;
        twos -= 1;
    }
    let z = (&reduced - one()) * one() / (&reduced + one());
    twice_artanh(&z) + ln_two() * twos
}

fn exp_guarded(value: &BigInt) -> Result<BigInt> {
    let two = ln_two();
    let twos = divided(value, &two);
    let twos = i32::try_from(twos).map_err(|_| overflow())?;
    if twos > 130 {
        return Err(overflow());
    }
    if twos < -(GUARD as i32) * 4 {
        return Ok(BigInt::ZERO);
    }
    let rest = value - two * twos;
    let mut term = one();
    let mut sum = one();
    let mut n = 1u32;
    while term.sign() != Sign::NoSign {
        term = &term * &rest / one() / n;
        sum += &term;
        n += 1;
    }
    Ok(if twos >= 0 {
        sum << twos as usize
    } else {
        sum >> twos.unsigned_abs() as usize
    })
}

/// The exponential.
pub fn exp(value: Decimal, scale: i8) -> Result<Decimal> {
    of_guarded(&exp_guarded(&value.guarded())?, scale)
}

/// The natural logarithm of a positive number.
pub fn ln(value: Decimal, scale: i8) -> Result<Decimal> {
    of_guarded(&ln_guarded(&value.guarded()), scale)
}

/// The logarithm of a positive number to base 10.
pub fn log10(value: Decimal, scale: i8) -> Result<Decimal> {
    let ten = Decimal {
        digits: 10,
        scale: 0,
    };
    log(ten, value, scale)
}

/// The logarithm of a positive number to a positive base.
pub fn log(base: Decimal, value: Decimal, scale: i8) -> Result<Decimal> {
    let divisor = ln_guarded(&base.guarded());
    if divisor.sign() == Sign::NoSign {
        return exec_err!("division by zero");
    }
    let dividend = ln_guarded(&value.guarded()) * one();
    of_guarded(&divided(&dividend, &divisor), scale)
}

/// `base` to the power of `exponent`; exact for whole exponents.
pub fn power(base: Decimal, exponent: Decimal, scale: i8) -> Result<Decimal> {
    if base.digits == 0 {
        return match exponent.digits.signum() {
            -1 => exec_err!("zero raised to a negative power is undefined"),
            0 => Decimal {
                digits: 1,
                scale: 0,
            }
            .rescaled(scale),
            _ => Ok(Decimal { digits: 0, scale }),
        };
    }
    if !exponent.is_whole() {
        if base.digits < 0 {
            return exec_err!(
                "a negative number raised to a non-integer power yields a complex result"
            );
        }
        let product = ln_guarded(&base.guarded()) * exponent.guarded() / one();
        return of_guarded(&exp_guarded(&product)?, scale);
    }
    let whole = exponent.trimmed().digits;
    let base = base.trimmed();
    if base.digits.abs() == 1 && base.scale == 0 {
        let is_negative = base.digits < 0 && whole % 2 != 0;
        let digits = if is_negative { -1 } else { 1 };
        return Decimal { digits, scale: 0 }.rescaled(scale);
    }
    let times = u32::try_from(whole.unsigned_abs())
        .ok()
        .filter(|n| *n <= 10_000);
    let Some(times) = times else {
        // far out of range, or so near to one that many digits are needed
        let magnitude = Decimal {
            digits: base.digits.abs(),
            scale: base.scale,
        };
        let product = ln_guarded(&magnitude.guarded()) * whole;
        let result = exp_guarded(&product)?;
        let is_negative = base.digits < 0 && whole % 2 != 0;
        return of_guarded(&if is_negative { -result } else { result }, scale);
    };
    let powered = BigInt::from(base.digits).pow(times);
    let point = ten_to(base.scale as u32 * times);
    let (numerator, denominator) = if whole >= 0 {
        (powered, point)
    } else {
        (point, powered)
    };
    of_big(
        &divided(&(numerator * ten_to(scale as u32)), &denominator),
        scale,
    )
}

/// `width_bucket` of numerics.
pub fn bucket(operand: Decimal, low: Decimal, high: Decimal, count: i64) -> Result<i128> {
    if count <= 0 {
        return exec_err!("count must be greater than zero");
    }
    let scale = operand.scale.max(low.scale).max(high.scale);
    let wide = |d: Decimal| BigInt::from(d.digits) * ten_to((scale - d.scale) as u32);
    let (operand, low, high) = (wide(operand), wide(low), wide(high));
    if low == high {
        return exec_err!("lower bound cannot equal upper bound");
    }
    let (from, width) = if low < high {
        (&operand - &low, &high - &low)
    } else {
        (&low - &operand, &low - &high)
    };
    if from.sign() == Sign::Minus {
        return Ok(0);
    }
    if from >= width {
        return Ok(i128::from(count) + 1);
    }
    let bucket = from * count / width + 1;
    i128::try_from(bucket).map_err(|_| overflow())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        Decimal {
            digits: format!("{whole}{fraction}").parse().unwrap(),
            scale: fraction.len() as i8,
        }
    }

    #[test]
    fn results_have_all_their_digits() {
        let cases = [
            (sqrt(decimal("2"), 16), "1.4142135623730950"),
            (exp(decimal("1.0"), 16), "2.7182818284590452"),
            (exp(decimal("-1.5"), 16), "0.2231301601484298"),
            (ln(decimal("2.0"), 16), "0.6931471805599453"),
            (ln(decimal("0.001"), 16), "-6.9077552789821371"),
            (log10(decimal("1000"), 16), "3.0000000000000000"),
            (
                log(decimal("2.0"), decimal("64.0"), 16),
                "6.0000000000000000",
            ),
            (
                power(decimal("9.0"), decimal("3.0"), 16),
                "729.0000000000000000",
            ),
            (
                power(decimal("2"), decimal("0.5"), 16),
                "1.4142135623730950",
            ),
            (
                power(decimal("-2"), decimal("-3"), 16),
                "-0.1250000000000000",
            ),
            (
                power(decimal("12345.0"), decimal("5.0"), 16),
                "286718338524635465625.0000000000000000",
            ),
            (decimal("2.345").rescaled(2), "2.35"),
            (decimal("-2.345").rescaled(2), "-2.35"),
        ];
        for (result, expected) in cases {
            assert_eq!(result.unwrap(), decimal_of(expected), "{expected}");
        }
        assert!(exp(decimal("100"), 16).is_err());
        assert!(power(decimal("10"), decimal("30"), 16).is_err());
        assert_eq!(
            bucket(decimal("5.35"), decimal("0.024"), decimal("10.06"), 5).unwrap(),
            3
        );
    }

    /// As [`decimal`], with a sign before a zero.
    fn decimal_of(text: &str) -> Decimal {
        match text.strip_prefix('-') {
            Some(rest) => {
                let positive = decimal(rest);
                Decimal {
                    digits: -positive.digits,
                    ..positive
                }
            }
            None => decimal(text),
        }
    }
}
