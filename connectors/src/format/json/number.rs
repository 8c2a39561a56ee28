//! Numbers from their text, exactly: no detour through floating point for integers and numerics.

use arrow::datatypes::i256;

/// Digits that are kept; more can only be dropped by rounding or be an overflow.
const MAX_DIGITS: usize = 80;

/// Why a text is no number of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberError {
    Syntax,
    OutOfRange,
    Other(String),
}

/// A decimal number: `±0.d1 d2 ... dn × 10^exponent`, without leading zeros.
struct Decimal {
    is_negative: bool,
    digits: [u8; MAX_DIGITS],
    /// May exceed what `digits` holds.
    count: usize,
    exponent: i64,
    /// Whether a digit beyond `digits` is not zero.
    has_more: bool,
}

/// The digits of a number in units of its type's last decimal place.
pub struct ScaledDigits {
    is_negative: bool,
    digits: [u8; MAX_DIGITS],
    count: usize,
}

impl ScaledDigits {
    /// At most 38 digits.
    pub fn to_i128(&self) -> i128 {
        let magnitude = self.digits[..self.count]
            .iter()
            .fold(0i128, |n, d| n * 10 + i128::from(*d));
        if self.is_negative {
            -magnitude
        } else {
            magnitude
        }
    }

    /// At most 76 digits.
    pub fn to_i256(&self) -> i256 {
        let ten = i256::from_i128(10);
        let magnitude = self.digits[..self.count].iter().fold(i256::ZERO, |n, d| {
            n.wrapping_mul(ten)
                .wrapping_add(i256::from_i128(i128::from(*d)))
        });
        if self.is_negative {
            magnitude.wrapping_neg()
        } else {
            magnitude
        }
    }
}

impl Decimal {
    /// Sign, digits with an optional point, optional exponent; spaces around.
    fn parse(text: &str) -> Option<Decimal> {
        let bytes = text.trim_ascii().as_bytes();
        let (is_negative, mut rest) = match bytes.first()? {
            b'-' => (true, &bytes[1..]),
            b'+' => (false, &bytes[1..]),
            _ => (false, bytes),
        };
        let mut decimal = Decimal {
            is_negative,
            digits: [0; MAX_DIGITS],
            count: 0,
            exponent: 0,
            has_more: false,
        };
        let whole = take_digits(&mut rest);
        let fraction = match rest.first() {
            Some(b'.') => {
                rest = &rest[1..];
                take_digits(&mut rest)
            }
            _ => &[][..],
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        if let Some(b'e' | b'E') = rest.first() {
            decimal.exponent = parse_exponent(&rest[1..])?;
        } else if !rest.is_empty() {
            return None;
        }
        whole.iter().for_each(|d| decimal.push(d - b'0', 1));
        fraction.iter().for_each(|d| decimal.push(d - b'0', 0));
        Some(decimal)
    }

    /// Adds a digit; `shift` is how far it moves the point to the right.
    fn push(&mut self, digit: u8, shift: i64) {
        if self.count == 0 && digit == 0 {
            self.exponent -= 1 - shift;
            return;
        }
        self.exponent += shift;
        match self.digits.get_mut(self.count) {
            Some(place) => *place = digit,
            None => self.has_more |= digit != 0,
        }
        self.count += 1;
    }

    /// The number times 10^`scale`, rounded half away from zero, and whether nothing was lost.
    fn scaled(&self, scale: i64) -> Result<(ScaledDigits, bool), NumberError> {
        let mut scaled = ScaledDigits {
            is_negative: self.is_negative,
            digits: [0; MAX_DIGITS],
            count: 0,
        };
        if self.count == 0 {
            return Ok((scaled, true));
        }
        let kept = self.exponent.saturating_add(scale);
        if kept < 0 {
            return Ok((scaled, false));
        }
        if kept > 76 {
            return Err(NumberError::OutOfRange);
        }
        let kept = kept as usize;
        let stored = self.count.min(MAX_DIGITS);
        let copied = kept.min(stored);
        scaled.digits[..copied].copy_from_slice(&self.digits[..copied]);
        scaled.count = kept;
        let dropped = &self.digits[copied..stored];
        let is_exact = !self.has_more && dropped.iter().all(|d| *d == 0);
        if dropped.first().is_some_and(|d| *d >= 5) {
            scaled.increment();
        }
        Ok((scaled, is_exact))
    }
}

impl ScaledDigits {
    fn increment(&mut self) {
        for digit in self.digits[..self.count].iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.digits.copy_within(0..self.count, 1);
        self.digits[0] = 1;
        self.count += 1;
    }

    fn significant(&self) -> usize {
        let leading = self.digits[..self.count]
            .iter()
            .take_while(|d| **d == 0)
            .count();
        self.count - leading
    }
}

fn take_digits<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits
}

/// Clamped to ±100,000: beyond, all numbers are zero or out of range.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, mut rest) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = take_digits(&mut rest);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let magnitude = digits
        .iter()
        .fold(0i64, |n, d| (n * 10 + i64::from(d - b'0')).min(100_000));
    Some(if is_negative { -magnitude } else { magnitude })
}

/// `NUMERIC(precision, scale)`: rounded to `scale` places.
pub fn parse_numeric(text: &str, precision: u8, scale: i8) -> Result<ScaledDigits, NumberError> {
    let overflow = || {
        NumberError::Other(format!(
            "numeric field overflow: a field with precision {precision}, scale {scale} must round to an \
             absolute value less than 10^{}",
            i16::from(precision) - i16::from(scale)
        ))
    };
    let decimal = Decimal::parse(text).ok_or(NumberError::Syntax)?;
    let (digits, _) = decimal.scaled(i64::from(scale)).map_err(|_| overflow())?;
    if digits.significant() > usize::from(precision) {
        Err(overflow())
    } else {
        Ok(digits)
    }
}

/// The number times 10^`scale` as an integer, rounded half away from zero.
pub fn parse_scaled(text: &str, scale: i64) -> Result<i64, NumberError> {
    let decimal = Decimal::parse(text).ok_or(NumberError::Syntax)?;
    let (digits, _) = decimal.scaled(scale)?;
    to_i64(&digits)
}

fn to_i64(digits: &ScaledDigits) -> Result<i64, NumberError> {
    if digits.significant() > 19 {
        return Err(NumberError::OutOfRange);
    }
    i64::try_from(digits.to_i128()).map_err(|_| NumberError::OutOfRange)
}

/// A JSON number that is an integer by value: `7`, `7.0`, `7e2`; not `7.5`.
#[inline]
pub fn parse_json_integer(digits: &[u8]) -> Result<i64, NumberError> {
    let (is_negative, magnitude) = match digits.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, digits),
    };
    if magnitude.len() > 18 || !magnitude.iter().all(u8::is_ascii_digit) {
        return parse_json_integer_slowly(digits);
    }
    let value = magnitude
        .iter()
        .fold(0i64, |n, d| n * 10 + i64::from(d - b'0'));
    Ok(if is_negative { -value } else { value })
}

#[cold]
fn parse_json_integer_slowly(digits: &[u8]) -> Result<i64, NumberError> {
    let text = std::str::from_utf8(digits).map_err(|_| NumberError::Syntax)?;
    let decimal = Decimal::parse(text).ok_or(NumberError::Syntax)?;
    match decimal.scaled(0)? {
        (value, true) => to_i64(&value),
        (_, false) => Err(NumberError::Syntax),
    }
}

/// PostgreSQL's integer input: digits with a sign, spaces around.
pub fn parse_integer(text: &str) -> Result<i64, NumberError> {
    use std::num::IntErrorKind;
    text.trim_ascii()
        .parse::<i64>()
        .map_err(|e| match e.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => NumberError::OutOfRange,
            _ => NumberError::Syntax,
        })
}

/// Whether a number's text has a digit other than 0 before its exponent.
pub fn is_nonzero(digits: &[u8]) -> bool {
    digits
        .iter()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .any(|b| matches!(b, b'1'..=b'9'))
}

/// PostgreSQL's input of double precision, `NaN` and `Infinity` included.
pub fn parse_double(text: &str) -> Result<f64, NumberError> {
    let value: f64 = text.trim_ascii().parse().map_err(|_| NumberError::Syntax)?;
    check_range(text, value.is_infinite(), value == 0.0).map(|()| value)
}

/// PostgreSQL's input of real.
pub fn parse_real(text: &str) -> Result<f32, NumberError> {
    let value: f32 = text.trim_ascii().parse().map_err(|_| NumberError::Syntax)?;
    check_range(text, value.is_infinite(), value == 0.0).map(|()| value)
}

/// Neither infinite without saying so nor zero without being so.
fn check_range(text: &str, is_infinite: bool, is_zero: bool) -> Result<(), NumberError> {
    let says_infinite = is_infinite && text.bytes().any(|b| b.eq_ignore_ascii_case(&b'i'));
    if (is_infinite && !says_infinite) || (is_zero && is_nonzero(text.as_bytes())) {
        return Err(NumberError::OutOfRange);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_are_exact() {
        let check = |text: &str, precision: u8, scale: i8, expected: Option<i128>| {
            let parsed = parse_numeric(text, precision, scale)
                .ok()
                .map(|d| d.to_i128());
            assert_eq!(parsed, expected, "{text} as numeric({precision},{scale})");
        };
        check("0.1", 38, 10, Some(1_000_000_000));
        check("-12.345", 10, 2, Some(-1235));
        check(
            "12.344999999999999999999999999999999999999999",
            10,
            2,
            Some(1234),
        );
        check("9.995", 3, 2, None);
        check("9.994", 3, 2, Some(999));
        check(
            "99999999999999999999999999999999999999",
            38,
            0,
            Some(10i128.pow(38) - 1),
        );
        check("1e5", 10, 2, Some(10_000_000));
        check("1.5e-3", 10, 4, Some(15));
        check("0.004", 10, 2, Some(0));
        check("0.005", 10, 2, Some(1));
        check("0.0005", 10, 2, Some(0));
        check("-0", 10, 2, Some(0));
        check("000012", 2, 0, Some(12));
        check(".5", 3, 1, Some(5));
        check("5.", 3, 1, Some(50));
        check("1e99999999999", 38, 10, None);
        check("0e99999999999", 38, 10, Some(0));
        for bad in ["", "-", ".", "1x", "1e", "1e+", "NaN", "0x10", "1 2"] {
            check(bad, 10, 2, None);
        }
        let wide = parse_numeric(&"9".repeat(76), 76, 0).map(|d| d.to_i256().to_string());
        assert_eq!(wide, Ok("9".repeat(76)));
    }

    #[test]
    fn integers() {
        let check = |text: &str, expected: Result<i64, NumberError>| {
            assert_eq!(parse_json_integer(text.as_bytes()), expected, "{text}");
        };
        check("0", Ok(0));
        check("-42", Ok(-42));
        check("9223372036854775807", Ok(i64::MAX));
        check("-9223372036854775808", Ok(i64::MIN));
        check("9223372036854775808", Err(NumberError::OutOfRange));
        check("1e30", Err(NumberError::OutOfRange));
        check("1.5", Err(NumberError::Syntax));
        check("20.0", Ok(20));
        check("2e3", Ok(2000));
        assert_eq!(parse_integer(" +7 "), Ok(7));
        assert_eq!(parse_integer("1.5"), Err(NumberError::Syntax));
    }

    #[test]
    fn floats() {
        assert_eq!(parse_double(" 1.5 "), Ok(1.5));
        assert_eq!(parse_double("-Infinity"), Ok(f64::NEG_INFINITY));
        assert!(parse_double("NaN").is_ok_and(f64::is_nan));
        assert_eq!(parse_double("1e400"), Err(NumberError::OutOfRange));
        assert_eq!(parse_double("1e-400"), Err(NumberError::OutOfRange));
        assert_eq!(parse_double("0e-400"), Ok(0.0));
        assert_eq!(parse_double("abc"), Err(NumberError::Syntax));
        assert_eq!(parse_real("1e39"), Err(NumberError::OutOfRange));
    }
}
