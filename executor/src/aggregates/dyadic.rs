//! Exact arithmetic on dyadic rationals (`mantissa * 2^exponent`) and their correctly rounded conversion to `f64`.
//!
//! Every finite `f64` is a dyadic rational, and so are sums and products of them. Aggregates compute with these and
//! round once, at the end, to the nearest `f64` (ties to even). The last step of a variance or a correlation is a
//! quotient of two dyadic rationals, which is rounded just as exactly.

use num_bigint::{BigInt, Sign};

/// `mantissa * 2^exponent`, exactly.
#[derive(Debug, Clone)]
pub struct Dyadic {
    pub mantissa: BigInt,
    pub exponent: i32,
}

impl Dyadic {
    /// A whole number.
    pub fn integer(value: i64) -> Self {
        Dyadic {
            mantissa: BigInt::from(value),
            exponent: 0,
        }
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa.sign() == Sign::NoSign
    }

    pub fn multiply(&self, other: &Self) -> Self {
        Dyadic {
            mantissa: &self.mantissa * &other.mantissa,
            exponent: self.exponent + other.exponent,
        }
    }

    pub fn subtract(&self, other: &Self) -> Self {
        let negated = Dyadic {
            mantissa: -&other.mantissa,
            exponent: other.exponent,
        };
        self.add(&negated)
    }

    pub fn add(&self, other: &Self) -> Self {
        if self.is_zero() {
            return other.clone();
        }
        if other.is_zero() {
            return self.clone();
        }
        let exponent = self.exponent.min(other.exponent);
        let align = |d: &Self| &d.mantissa << (d.exponent - exponent) as usize;
        Dyadic {
            mantissa: align(self) + align(other),
            exponent,
        }
    }

    /// The nearest `f64` to `self / divisor`, which must not be zero. Infinite if it is too large for an `f64`.
    pub fn divide(&self, divisor: &Self) -> f64 {
        let is_negative =
            (self.mantissa.sign() == Sign::Minus) != (divisor.mantissa.sign() == Sign::Minus);
        let (numerator, denominator) = (self.mantissa.magnitude(), divisor.mantissa.magnitude());
        // A quotient of 66 or 67 bits, and whether anything was left: more than enough to round from.
        let shift = 66 - (numerator.bits() as i64 - denominator.bits() as i64);
        let (scaled, by) = if shift >= 0 {
            (numerator << shift as usize, denominator.clone())
        } else {
            (numerator.clone(), denominator << (-shift) as usize)
        };
        let quotient = &scaled / &by;
        let is_inexact = quotient.clone() * by != scaled;
        let bits = u128::try_from(quotient).unwrap_or(u128::MAX);
        let exponent = i64::from(self.exponent) - i64::from(divisor.exponent) - shift;
        round(is_negative, bits, exponent as i32, is_inexact)
    }

    /// `self / sqrt(square)`, within one unit in the last place; `square` must be positive.
    pub fn divide_by_root(&self, square: &Self) -> f64 {
        // Bring the square to 200 bits or more with an even exponent: its root then has 100 bits.
        let mut shift = (200 - square.mantissa.bits() as i64).max(0);
        if (i64::from(square.exponent) - shift) % 2 != 0 {
            shift += 1;
        }
        let root = (&square.mantissa << shift as usize).sqrt();
        let exponent = ((i64::from(square.exponent) - shift) / 2) as i32;
        self.divide(&Dyadic {
            mantissa: root,
            exponent,
        })
    }

    /// The nearest `f64`. Infinite if the number is too large for one.
    pub fn to_f64(&self) -> f64 {
        match u128::try_from(self.mantissa.magnitude()) {
            Ok(magnitude) => round(
                self.mantissa.sign() == Sign::Minus,
                magnitude,
                self.exponent,
                false,
            ),
            Err(_) => self.divide(&Dyadic::integer(1)),
        }
    }
}

/// The nearest `f64` to `mantissa * 2^exponent / divisor`.
pub fn divide_small(mantissa: i128, exponent: i32, divisor: u64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // With the highest bit set, the quotient has at least 65 bits.
    let shift = mantissa.unsigned_abs().leading_zeros();
    let scaled = mantissa.unsigned_abs() << shift;
    let divisor = u128::from(divisor);
    let quotient = scaled / divisor;
    round(
        mantissa < 0,
        quotient,
        exponent - shift as i32,
        quotient * divisor != scaled,
    )
}

/// The nearest `f64` (ties to even) to `±(mantissa + ε) * 2^exponent`, where ε is 0 or, if `is_inexact`, anything
/// between 0 and 1. An inexact mantissa needs at least 55 bits.
pub fn round(is_negative: bool, mantissa: u128, exponent: i32, is_inexact: bool) -> f64 {
    const LOWEST: i32 = -1074;
    if mantissa == 0 {
        return 0.0;
    }
    let top = exponent + (127 - mantissa.leading_zeros() as i32);
    if top > 1023 {
        return if is_negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        };
    }
    let unit = (top - 52).max(LOWEST);
    let shift = unit - exponent;
    let kept = if shift <= 0 {
        mantissa << -shift
    } else if shift > 128 {
        0
    } else {
        let kept = mantissa.checked_shr(shift as u32).unwrap_or(0);
        let rest = mantissa - kept.checked_shl(shift as u32).unwrap_or(0);
        let half = 1u128 << (shift - 1);
        let is_above = rest > half || (rest == half && (is_inexact || kept % 2 == 1));
        kept + u128::from(is_above)
    };
    // `kept` is at most 2^53 and the product representable (or infinite), so nothing is rounded again here.
    let magnitude = kept as f64 * power_of_two(unit);
    if is_negative { -magnitude } else { magnitude }
}

/// `2^exponent` for exponents from -1074 to 1023.
fn power_of_two(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1 << (exponent + 1074))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        for (mantissa, exponent, is_inexact, expected) in [
            (1u128, 0, false, 1.0),
            ((1 << 53) + 1, 0, false, 9007199254740992.0),
            ((1 << 53) + 3, 0, false, 9007199254740996.0),
            ((1 << 54) + 2, 0, true, 18014398509481988.0),
            (1, -1074, false, 5e-324),
            (1, -1075, false, 0.0),
            (3, -1075, false, 1e-323),
            (u128::MAX, 896, false, f64::INFINITY),
            ((1 << 53) - 1, 971, false, f64::MAX),
            (1, -2000, false, 0.0),
        ] {
            assert_eq!(
                round(false, mantissa, exponent, is_inexact),
                expected,
                "{mantissa} {exponent}"
            );
            assert_eq!(round(true, mantissa, exponent, is_inexact), -expected);
        }
    }

    #[test]
    fn quotients_are_those_of_the_processor() {
        for (a, b) in [
            (1i64, 3i64),
            (2, 3),
            (-10, 7),
            (1, i64::MAX),
            (i64::MAX, 3),
            (7, 7),
            (0, 5),
        ] {
            let expected = if a.abs() < 1 << 53 && b.abs() < 1 << 53 {
                a as f64 / b as f64
            } else {
                f64::NAN
            };
            let exact = Dyadic::integer(a).divide(&Dyadic::integer(b));
            assert_eq!(divide_small(a as i128, 0, b as u64), exact);
            assert!(expected.is_nan() || expected == exact, "{a}/{b}");
        }
    }

    #[test]
    fn roots() {
        for (a, square) in [(1i64, 2i64), (3, 9), (-5, 1_000_003), (1 << 40, 7)] {
            let found = Dyadic::integer(a).divide_by_root(&Dyadic::integer(square));
            let expected = a as f64 / (square as f64).sqrt();
            assert!(
                (found - expected).abs() <= expected.abs() * 4e-16,
                "{a}/sqrt({square}): {found}"
            );
        }
    }
}
