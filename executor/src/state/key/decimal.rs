//! Decimals as order-preserving bytes that do not depend on the scale: 1.5 and 1.50 are the same key.
//!
//! ```text
//! zero:      | 01 |
//! positive:  | 02 | exponent + 8000h, 2 bytes BE | digits in pairs, each pair + 1 | 00 |
//! negative:  | 00 | the bytes after 02 of its absolute value, inverted |
//! ```
//! The value is 0.d1d2d3… × 10^exponent with d1 ≠ 0 and without zeros at the end.

use arrow::datatypes::i256;

use super::super::error::StateError;

/// Digits of a decimal256 at most, and one to make them even.
const MAX_DIGITS: usize = 80;

/// Appends the key bytes of `value` × 10^−`scale`.
pub(super) fn write_decimal128(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut digits = [0u8; MAX_DIGITS];
    let len = push_digits(value.unsigned_abs(), &mut digits, 0);
    write_digits(value < 0, &digits[..len], scale, out);
}

/// Appends the key bytes of `value` × 10^−`scale`.
pub(super) fn write_decimal256(value: i256, scale: i8, out: &mut Vec<u8>) {
    if let Some(small) = value.to_i128() {
        return write_decimal128(small, scale, out);
    }
    let text = value.to_string();
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_digit)
        .map(|digit| digit - b'0')
        .collect();
    write_digits(value.is_negative(), &digits, scale, out);
}

fn push_digits(value: u128, digits: &mut [u8; MAX_DIGITS], from: usize) -> usize {
    const CHUNK: u128 = 10u128.pow(18);
    if value >= CHUNK {
        let middle = push_digits(value / CHUNK, digits, from);
        let mut rest = (value % CHUNK) as u64;
        for digit in digits[middle..middle + 18].iter_mut().rev() {
            *digit = (rest % 10) as u8;
            rest /= 10;
        }
        return middle + 18;
    }
    let mut rest = value as u64;
    let len = rest.checked_ilog10().map_or(0, |log| log as usize + 1);
    for digit in digits[from..from + len].iter_mut().rev() {
        *digit = (rest % 10) as u8;
        rest /= 10;
    }
    from + len
}

/// `digits` are those of the unscaled value, without zeros in front.
fn write_digits(is_negative: bool, digits: &[u8], scale: i8, out: &mut Vec<u8>) {
    let Some(last) = digits.iter().rposition(|&digit| digit != 0) else {
        out.push(1);
        return;
    };
    let exponent = digits.len() as i32 - i32::from(scale);
    out.push(if is_negative { 0 } else { 2 });
    let body = out.len();
    out.extend_from_slice(&((exponent + 0x8000) as u16).to_be_bytes());
    for pair in digits[..=last].chunks(2) {
        out.push(pair[0] * 10 + pair.get(1).copied().unwrap_or(0) + 1);
    }
    out.push(0);
    if is_negative {
        out[body..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// The sign, the digits and the power of ten of the last digit.
struct Parsed {
    is_negative: bool,
    digits: Vec<u8>,
    power: i32,
}

fn damaged() -> StateError {
    StateError::Corrupt(
        "a decimal in a key is damaged or does not fit the declared scale".to_string(),
    )
}

fn parse(cursor: &mut &[u8]) -> Result<Parsed, StateError> {
    let (&sign, mut rest) = cursor.split_first().ok_or_else(damaged)?;
    let mut parsed = Parsed {
        is_negative: sign == 0,
        digits: Vec::new(),
        power: 0,
    };
    if sign == 1 {
        *cursor = rest;
        return Ok(parsed);
    }
    let mask = if parsed.is_negative { 0xFF } else { 0 };
    let (exponent, body) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
    let exponent = i32::from(u16::from_be_bytes([exponent[0] ^ mask, exponent[1] ^ mask])) - 0x8000;
    rest = body;
    loop {
        let (&byte, tail) = rest.split_first().ok_or_else(damaged)?;
        rest = tail;
        match byte ^ mask {
            0 => break,
            pair if pair <= 100 => parsed.digits.extend([(pair - 1) / 10, (pair - 1) % 10]),
            _ => return Err(damaged()),
        }
    }
    parsed.digits.truncate(
        parsed
            .digits
            .iter()
            .rposition(|&digit| digit != 0)
            .map_or(0, |last| last + 1),
    );
    parsed.power = exponent - parsed.digits.len() as i32;
    *cursor = rest;
    Ok(parsed)
}

/// Reads a decimal as the unscaled value of the given scale.
pub(super) fn read_decimal128(cursor: &mut &[u8], scale: i8) -> Result<i128, StateError> {
    let parsed = parse(cursor)?;
    if parsed.digits.is_empty() {
        return Ok(0);
    }
    let power = u32::try_from(parsed.power + i32::from(scale)).map_err(|_| damaged())?;
    let sign = if parsed.is_negative { -1 } else { 1 };
    let mut value = 0i128;
    for &digit in &parsed.digits {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(sign * i128::from(digit)))
            .ok_or_else(damaged)?;
    }
    10i128
        .checked_pow(power)
        .and_then(|factor| value.checked_mul(factor))
        .ok_or_else(damaged)
}

/// Reads a decimal as the unscaled value of the given scale.
pub(super) fn read_decimal256(cursor: &mut &[u8], scale: i8) -> Result<i256, StateError> {
    let parsed = parse(cursor)?;
    if parsed.digits.is_empty() {
        return Ok(i256::ZERO);
    }
    let power = usize::try_from(parsed.power + i32::from(scale)).map_err(|_| damaged())?;
    let mut text = String::with_capacity(MAX_DIGITS);
    if parsed.is_negative {
        text.push('-');
    }
    text.extend(parsed.digits.iter().map(|&digit| char::from(b'0' + digit)));
    text.extend(std::iter::repeat_n('0', power));
    i256::from_string(&text).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: i128, scale: i8) -> Vec<u8> {
        let mut out = Vec::new();
        write_decimal128(value, scale, &mut out);
        out
    }

    #[test]
    fn bytes_are_golden() {
        for (value, scale, bytes) in [
            (0, 2, vec![1]),
            (15, 1, vec![2, 0x80, 1, 16, 0]),
            (1500, 3, vec![2, 0x80, 1, 16, 0]),
            (-15, 1, vec![0, 0x7F, 0xFE, !16, 0xFF]),
            (12345, 0, vec![2, 0x80, 5, 13, 35, 51, 0]),
        ] {
            assert_eq!(key(value, scale), bytes, "{value} scale {scale}");
        }
    }

    #[test]
    fn order_and_round_trip() {
        let mut values = vec![
            0,
            1,
            9,
            10,
            11,
            99,
            100,
            101,
            12345,
            10i128.pow(18) - 1,
            10i128.pow(18),
            i128::MAX,
        ];
        values.extend([
            10i128.pow(18) + 1,
            10i128.pow(37),
            7 * 10i128.pow(36) + 3,
            u64::MAX as i128,
        ]);
        values.extend(values.clone().iter().map(|value| -value));
        values.push(i128::MIN + 1);
        for &a in &values {
            let bytes = key(a, 4);
            assert_eq!(read_decimal128(&mut &bytes[..], 4).unwrap(), a);
            let mut wide = Vec::new();
            write_decimal256(i256::from_i128(a), 4, &mut wide);
            assert_eq!(wide, bytes);
            assert_eq!(
                read_decimal256(&mut &wide[..], 4).unwrap(),
                i256::from_i128(a)
            );
            for &b in &values {
                assert_eq!(bytes.cmp(&key(b, 4)), a.cmp(&b), "{a} {b}");
            }
        }
        for huge in [i256::MAX, i256::MIN] {
            let mut wide = Vec::new();
            write_decimal256(huge, 10, &mut wide);
            assert_eq!(read_decimal256(&mut &wide[..], 10).unwrap(), huge);
        }
    }
}
