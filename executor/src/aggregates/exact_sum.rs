//! Sums of floating-point numbers without rounding, so that they do not depend on order and retraction leaves nothing.
//!
//! A sum is a fixed-width mantissa with a base exponent as long as the terms fit (128 bits for values, 256 for
//! products: nearly always); what does not fit is moved to an arbitrary-precision part, bounded by the range of `f64`
//! to about 4,300 bits. NaN and infinities are counted beside it, so that they leave when they are retracted.
//! Superaccumulators are the known alternative (Kulisch; Neal 2015); they are faster when exponents differ wildly and
//! take 34 words for every group.
//!
//! ```text
//! stored:   | kind | mantissa | NaN, +Inf, -Inf: signed (only with 0x10) |
//! kind:     low bits 0: zero, 1: exponent signed, mantissa signed, 2: exponent signed, bytes (two's complement, LE)
//! ```
//! The mantissa is stored odd, in the smallest form it fits: equal sums have equal bytes.

use arrow::datatypes::i256;
use num_bigint::BigInt;

use super::dyadic::{Dyadic, divide_small, round};
use super::encoding::{Reader, damaged, put_bytes, put_signed, put_signed_wide};
use crate::error::Result;

/// A two's complement number of fixed width.
pub trait Mantissa: Copy + Default {
    fn is_zero(self) -> bool;
    /// `None` on overflow.
    fn plus(self, other: Self) -> Option<Self>;
    /// `None` if a significant bit would be lost.
    fn shifted(self, bits: u32) -> Option<Self>;
    fn to_big(self) -> BigInt;
    /// The number as an `i128`, if it fits.
    fn to_i128(self) -> Option<i128>;
}

impl Mantissa for i128 {
    #[inline]
    fn is_zero(self) -> bool {
        self == 0
    }

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    #[inline]
    fn shifted(self, bits: u32) -> Option<Self> {
        if bits >= 127 {
            return None;
        }
        let shifted = self << bits;
        (shifted >> bits == self).then_some(shifted)
    }

    fn to_big(self) -> BigInt {
        BigInt::from(self)
    }

    #[inline]
    fn to_i128(self) -> Option<i128> {
        Some(self)
    }
}

impl Mantissa for i256 {
    #[inline]
    fn is_zero(self) -> bool {
        self == i256::ZERO
    }

    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    #[inline]
    fn shifted(self, bits: u32) -> Option<Self> {
        if bits >= 255 {
            return None;
        }
        let shifted = self << bits as u8;
        (shifted >> bits as u8 == self).then_some(shifted)
    }

    fn to_big(self) -> BigInt {
        BigInt::from_signed_bytes_le(&self.to_le_bytes())
    }

    fn to_i128(self) -> Option<i128> {
        i256::to_i128(self)
    }
}

/// A sum of values or products; see the module text.
#[derive(Debug, Clone, Default)]
pub struct ExactSum<M> {
    mantissa: M,
    exponent: i32,
    rare: Option<Box<Rare>>,
}

/// What most sums do not have.
#[derive(Debug, Clone, Default)]
struct Rare {
    /// Added to the fixed-width part.
    wide: BigInt,
    wide_exponent: i32,
    nan: i64,
    positive_infinity: i64,
    negative_infinity: i64,
}

/// Sign and 53 bits of a finite `f64` with its exponent; `None` for NaN and infinities.
#[inline]
pub fn split(value: f64) -> Option<(i64, i32)> {
    let bits = value.to_bits();
    let biased = ((bits >> 52) & 0x7ff) as i32;
    if biased == 0x7ff {
        return None;
    }
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let magnitude = if biased == 0 {
        fraction
    } else {
        fraction | 1 << 52
    };
    Some((
        if bits >> 63 == 1 {
            -magnitude
        } else {
            magnitude
        },
        biased.max(1) - 1075,
    ))
}

impl ExactSum<i128> {
    /// Adds `value`, `weight` times.
    #[inline]
    pub fn add(&mut self, value: f64, weight: i64) {
        match split(value) {
            // At most 53 + 63 bits.
            Some((mantissa, exponent)) => {
                self.add_term(i128::from(mantissa) * i128::from(weight), exponent)
            }
            None => self.add_special(value, weight),
        }
    }

    /// The nearest `f64` to the sum divided by `count`; NaN and infinities follow IEEE 754.
    pub fn mean(&self, count: u64) -> f64 {
        match &self.rare {
            None => divide_small(self.mantissa, self.exponent, count),
            Some(_) => self.special().unwrap_or_else(|| {
                let divisor = Dyadic {
                    mantissa: BigInt::from(count),
                    exponent: 0,
                };
                self.exact().divide(&divisor)
            }),
        }
    }

    /// The nearest `f64`; infinite too if the sum is beyond its range.
    pub fn to_f64(&self) -> f64 {
        match &self.rare {
            None => round(
                self.mantissa < 0,
                self.mantissa.unsigned_abs(),
                self.exponent,
                false,
            ),
            Some(_) => self.special().unwrap_or_else(|| self.exact().to_f64()),
        }
    }
}

impl ExactSum<i256> {
    /// Adds `a * b`, `weight` times. Both must be finite.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64, weight: i64) {
        if let (Some((a, a_exponent)), Some((b, b_exponent))) = (split(a), split(b)) {
            let product = i256::from_i128(i128::from(a) * i128::from(b));
            let term = match weight {
                1 => product,
                weight => product.wrapping_mul(i256::from(weight)),
            };
            self.add_term(term, a_exponent + b_exponent);
        }
    }
}

impl<M: Mantissa> ExactSum<M> {
    #[inline]
    fn add_term(&mut self, term: M, exponent: i32) {
        if term.is_zero() {
            return;
        }
        if self.exponent == exponent
            && let Some(sum) = self.mantissa.plus(term)
        {
            self.mantissa = sum;
            return;
        }
        if self.mantissa.is_zero() {
            (self.mantissa, self.exponent) = (term, exponent);
            return;
        }
        let base = self.exponent.min(exponent);
        let sum = self
            .mantissa
            .shifted((self.exponent - base) as u32)
            .zip(term.shifted((exponent - base) as u32))
            .and_then(|(a, b)| a.plus(b));
        match sum {
            Some(sum) => (self.mantissa, self.exponent) = (sum, base),
            None => self.spill(term, exponent),
        }
    }

    /// Moves the fixed-width part to the wide one and starts it anew with the term that did not fit.
    #[cold]
    fn spill(&mut self, term: M, exponent: i32) {
        let fixed = Dyadic {
            mantissa: self.mantissa.to_big(),
            exponent: self.exponent,
        };
        self.add_wide(&fixed);
        (self.mantissa, self.exponent) = (term, exponent);
    }

    #[cold]
    fn add_wide(&mut self, addend: &Dyadic) {
        let rare = self.rare.get_or_insert_default();
        let wide = Dyadic {
            mantissa: std::mem::take(&mut rare.wide),
            exponent: rare.wide_exponent,
        };
        let sum = wide.add(addend);
        (rare.wide, rare.wide_exponent) = (sum.mantissa, sum.exponent);
    }

    #[cold]
    fn add_special(&mut self, value: f64, weight: i64) {
        let rare = self.rare.get_or_insert_default();
        if value.is_nan() {
            rare.nan += weight;
        } else if value > 0.0 {
            rare.positive_infinity += weight;
        } else {
            rare.negative_infinity += weight;
        }
    }

    /// The sum of the non-finite terms, if there are any.
    pub fn special(&self) -> Option<f64> {
        let rare = self.rare.as_deref()?;
        match (
            rare.nan != 0,
            rare.positive_infinity != 0,
            rare.negative_infinity != 0,
        ) {
            (true, _, _) | (_, true, true) => Some(f64::NAN),
            (_, true, false) => Some(f64::INFINITY),
            (_, false, true) => Some(f64::NEG_INFINITY),
            (false, false, false) => None,
        }
    }

    /// The sum of the finite terms.
    pub fn exact(&self) -> Dyadic {
        let fixed = Dyadic {
            mantissa: self.mantissa.to_big(),
            exponent: self.exponent,
        };
        match self.rare.as_deref() {
            None => fixed,
            Some(rare) => {
                let wide = Dyadic {
                    mantissa: rare.wide.clone(),
                    exponent: rare.wide_exponent,
                };
                fixed.add(&wide)
            }
        }
    }

    /// Appends the stored form.
    pub fn store(&self, out: &mut Vec<u8>) {
        let specials = self
            .rare
            .as_deref()
            .map(|r| [r.nan, r.positive_infinity, r.negative_infinity]);
        let specials = specials.filter(|counts| counts.iter().any(|&count| count != 0));
        let flag = if specials.is_some() { 0x10 } else { 0 };
        match self.mantissa.to_i128() {
            Some(mantissa) if self.rare.is_none() => {
                store_small(mantissa, self.exponent, flag, out)
            }
            _ => {
                let exact = self.exact();
                let zeros = exact.mantissa.trailing_zeros().unwrap_or(0);
                let mantissa = exact.mantissa >> zeros;
                let exponent = exact.exponent + zeros as i32;
                match i128::try_from(&mantissa) {
                    Ok(small) => store_small(small, exponent, flag, out),
                    Err(_) => {
                        out.push(2 | flag);
                        put_signed(i64::from(exponent), out);
                        put_bytes(&mantissa.to_signed_bytes_le(), out);
                    }
                }
            }
        }
        for count in specials.into_iter().flatten() {
            put_signed(count, out);
        }
    }

    /// Adds a sum that [`Self::store`] wrote.
    pub fn merge_stored(&mut self, stored: &mut Reader<'_>) -> Result<()>
    where
        M: From<i128>,
    {
        let kind = stored.byte()?;
        match kind & 0x0f {
            0 => {}
            1 => {
                let exponent = stored.signed()? as i32;
                self.add_term(M::from(stored.signed_wide()?), exponent);
            }
            2 => {
                let exponent = stored.signed()? as i32;
                let mantissa = BigInt::from_signed_bytes_le(stored.bytes()?);
                self.add_wide(&Dyadic { mantissa, exponent });
            }
            _ => return Err(damaged()),
        }
        if kind & 0x10 != 0 {
            let rare = self.rare.get_or_insert_default();
            rare.nan += stored.signed()?;
            rare.positive_infinity += stored.signed()?;
            rare.negative_infinity += stored.signed()?;
        }
        Ok(())
    }
}

fn store_small(mantissa: i128, exponent: i32, flag: u8, out: &mut Vec<u8>) {
    if mantissa == 0 {
        out.push(flag);
        return;
    }
    let zeros = mantissa.trailing_zeros();
    out.push(1 | flag);
    put_signed(i64::from(exponent) + i64::from(zeros), out);
    put_signed_wide(mantissa >> zeros, out);
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn bytes<M: Mantissa>(sum: &ExactSum<M>) -> Vec<u8> {
        let mut out = Vec::new();
        sum.store(&mut out);
        out
    }

    fn sum_of(values: &[(f64, i64)]) -> ExactSum<i128> {
        let mut sum = ExactSum::default();
        values
            .iter()
            .for_each(|&(value, weight)| sum.add(value, weight));
        sum
    }

    fn random_value(rng: &mut StdRng) -> f64 {
        match rng.random_range(0..4) {
            0 => rng.random_range(-100.0..100.0),
            1 => f64::from(rng.random_range(-1000..1000)),
            2 => f64::from_bits(rng.random()),
            _ => [
                1e308,
                -1e308,
                5e-324,
                f64::MIN_POSITIVE,
                0.1,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
            ][rng.random_range(0..8)],
        }
    }

    #[test]
    fn sums_are_correctly_rounded() {
        for (values, expected) in [
            (vec![(0.1, 10)], 1.0),
            (
                vec![(1e308, 1), (1e308, 1), (-1e308, 1), (1.0, 1), (-1e308, 1)],
                1.0,
            ),
            (vec![(1e16, 1), (1.0, 1), (-1e16, 1)], 1.0),
            (vec![(5e-324, 3), (1e300, 1), (1e300, -1)], 1.5e-323),
            (vec![(1e308, 1), (1e308, 1)], f64::INFINITY),
            (vec![(f64::NAN, 1), (2.0, 1), (f64::NAN, -1)], 2.0),
            (vec![(f64::INFINITY, 1), (2.0, 1)], f64::INFINITY),
        ] {
            assert_eq!(sum_of(&values).to_f64(), expected, "{values:?}");
        }
        assert!(
            sum_of(&[(f64::INFINITY, 1), (f64::NEG_INFINITY, 2)])
                .to_f64()
                .is_nan()
        );
        assert_eq!(sum_of(&[(1.0, 1), (2.0, 1), (2.0, 1)]).mean(3), 5.0 / 3.0);
    }

    #[test]
    fn order_split_and_retraction_leave_no_trace() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..200 {
            let count = rng.random_range(1..40);
            let mut values: Vec<(f64, i64)> = (0..count)
                .map(|_| (random_value(&mut rng), rng.random_range(-3..9)))
                .collect();
            let expected = bytes(&sum_of(&values));
            let noise = random_value(&mut rng);
            values.extend([(noise, 5), (noise, -5)]);
            values.shuffle(&mut rng);
            let (left, right) = values.split_at(rng.random_range(0..values.len()));
            let mut merged = sum_of(left);
            let stored = bytes(&sum_of(right));
            merged.merge_stored(&mut Reader::new(&stored)).unwrap();
            assert_eq!(bytes(&merged), expected);
        }
    }

    #[test]
    fn products_are_exact() {
        let mut sum = ExactSum::<i256>::default();
        for (a, b, weight) in [
            (0.1, 0.1, 1),
            (1e300, 1e300, 2),
            (1e-300, 1e-300, 1),
            (1e300, 1e300, -2),
        ] {
            sum.add_product(a, b, weight);
        }
        sum.add_product(1e-300, 1e-300, -1);
        let mut expected = ExactSum::<i256>::default();
        expected.add_product(0.1, 0.1, 1);
        assert_eq!(bytes(&sum), bytes(&expected));
        assert_eq!(sum.exact().to_f64(), 0.1 * 0.1);
    }

    #[test]
    fn bytes_are_golden() {
        assert_eq!(bytes(&sum_of(&[])), [0]);
        assert_eq!(bytes(&sum_of(&[(1.5, 1)])), [1, 1, 6]);
        assert_eq!(
            bytes(&sum_of(&[(1.5, 1), (f64::NAN, 1)])),
            [0x11, 1, 6, 2, 0, 0]
        );
        assert_eq!(
            bytes(&sum_of(&[(1e300, 1), (5e-324, 1)]))[..3],
            [2, 0xe3, 0x10]
        );
    }
}
