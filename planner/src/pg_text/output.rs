//! PostgreSQL 15's text form of scalar values, written straight into an output buffer.

use std::fmt::Write as _;

use arrow::datatypes::{IntervalMonthDayNano, i256};
use bytes::{BufMut, BytesMut};

use super::calendar::civil_from_days;
use super::float_digits;
use super::time_zone::MICROS_PER_SECOND;

pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A small text on the stack: for what the standard library formats better than we would.
struct StackText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> StackText<N> {
    fn new() -> Self {
        StackText {
            bytes: [0; N],
            len: 0,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> std::fmt::Write for StackText<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        if end > N {
            return Err(std::fmt::Error);
        }
        self.bytes[self.len..end].copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

pub fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { b't' } else { b'f' });
}

pub fn put_i64(out: &mut BytesMut, value: i64) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_u64(out, value.unsigned_abs());
}

pub fn put_u64(out: &mut BytesMut, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}

/// `value` with at least `width` digits.
fn put_padded(out: &mut BytesMut, value: u64, width: usize) {
    let digits = value.checked_ilog10().unwrap_or(0) as usize + 1;
    out.put_bytes(b'0', width.saturating_sub(digits));
    put_u64(out, value);
}

pub fn put_f64(out: &mut BytesMut, value: f64) {
    let mut text = StackText::<32>::new();
    // The longest shortest form is 24 bytes (-1.7976931348623157e308).
    let formatted = write!(text, "{value:e}");
    debug_assert!(formatted.is_ok());
    let fraction = value.to_bits() & ((1 << 52) - 1);
    let other = match ((value.to_bits() >> 52) & 0x7ff) as i32 {
        0 => float_digits::postgres_digits(text.as_bytes(), fraction, -1074, false, |n| {
            format!("{value:.n$e}")
        }),
        e => float_digits::postgres_digits(
            text.as_bytes(),
            fraction | (1 << 52),
            e - 1075,
            fraction == 0 && e > 1,
            |n| format!("{value:.n$e}"),
        ),
    };
    let other = other.filter(|other| other.parse() == Ok(value));
    let digits = other.as_deref().map_or(text.as_bytes(), str::as_bytes);
    put_float(out, value.is_nan(), value.is_infinite(), digits, 15);
}

pub fn put_f32(out: &mut BytesMut, value: f32) {
    let mut text = StackText::<32>::new();
    let formatted = write!(text, "{value:e}");
    debug_assert!(formatted.is_ok());
    let fraction = u64::from(value.to_bits() & ((1 << 23) - 1));
    let other = match ((value.to_bits() >> 23) & 0xff) as i32 {
        0 => float_digits::postgres_digits(text.as_bytes(), fraction, -149, false, |n| {
            format!("{value:.n$e}")
        }),
        e => float_digits::postgres_digits(
            text.as_bytes(),
            fraction | (1 << 23),
            e - 150,
            fraction == 0 && e > 1,
            |n| format!("{value:.n$e}"),
        ),
    };
    let other = other.filter(|other| other.parse() == Ok(value));
    let digits = other.as_deref().map_or(text.as_bytes(), str::as_bytes);
    put_float(out, value.is_nan(), value.is_infinite(), digits, 6);
}

/// Lays out the shortest digits (`-1.25e-7`) as PostgreSQL does: plainly for exponents in `-4..plain_below`.
fn put_float(
    out: &mut BytesMut,
    is_nan: bool,
    is_infinite: bool,
    scientific: &[u8],
    plain_below: i32,
) {
    if is_nan {
        out.put_slice(b"NaN");
        return;
    }
    let (is_negative, scientific) = match scientific {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if is_negative {
        out.put_u8(b'-');
    }
    if is_infinite {
        out.put_slice(b"Infinity");
        return;
    }
    let split = scientific
        .iter()
        .position(|b| *b == b'e')
        .unwrap_or(scientific.len());
    let exponent = parse_exponent(&scientific[(split + 1).min(scientific.len())..]);
    let mut digits = [0u8; 24];
    let mut n = 0;
    for b in scientific[..split].iter().filter(|b| **b != b'.') {
        digits[n] = *b;
        n += 1;
    }
    let digits = &digits[..n];
    if (-4..plain_below).contains(&exponent) {
        put_plain(out, digits, exponent);
    } else {
        out.put_u8(digits[0]);
        if n > 1 {
            out.put_u8(b'.');
            out.put_slice(&digits[1..]);
        }
        out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
        put_padded(out, u64::from(exponent.unsigned_abs()), 2);
    }
}

fn parse_exponent(text: &[u8]) -> i32 {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        rest => (1, rest),
    };
    sign * digits.iter().fold(0, |n, b| n * 10 + i32::from(b - b'0'))
}

fn put_plain(out: &mut BytesMut, digits: &[u8], exponent: i32) {
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        out.put_slice(digits);
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.put_slice(digits);
        out.put_bytes(b'0', whole - digits.len());
    } else {
        out.put_slice(&digits[..whole]);
        out.put_u8(b'.');
        out.put_slice(&digits[whole..]);
    }
}

/// The decimal digits of a numeric's unscaled value.
pub struct DecimalDigits {
    pub is_negative: bool,
    text: StackText<80>,
}

impl DecimalDigits {
    pub fn of_i128(value: i128) -> DecimalDigits {
        let mut text = StackText::new();
        let magnitude = value.unsigned_abs();
        let formatted = match u64::try_from(magnitude) {
            Ok(small) => write!(text, "{small}"),
            Err(_) => write!(text, "{magnitude}"),
        };
        debug_assert!(formatted.is_ok());
        DecimalDigits {
            is_negative: value < 0,
            text,
        }
    }

    pub fn of_i256(value: i256) -> DecimalDigits {
        let mut text = StackText::new();
        let is_negative = value < i256::ZERO;
        // 77 digits and a sign at most.
        let formatted = write!(text, "{value}");
        debug_assert!(formatted.is_ok());
        if is_negative {
            text.bytes.copy_within(1..text.len, 0);
            text.len -= 1;
        }
        DecimalDigits { is_negative, text }
    }

    pub fn digits(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

pub fn put_decimal(out: &mut BytesMut, value: &DecimalDigits, scale: i8) {
    let digits = value.digits();
    if value.is_negative {
        out.put_u8(b'-');
    }
    if scale <= 0 {
        out.put_slice(digits);
        if digits != b"0" {
            out.put_bytes(b'0', scale.unsigned_abs() as usize);
        }
        return;
    }
    let scale = scale as usize;
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.put_slice(whole);
        out.put_u8(b'.');
        out.put_slice(fraction);
    } else {
        out.put_slice(b"0.");
        out.put_bytes(b'0', scale - digits.len());
        out.put_slice(digits);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

pub fn put_hex(out: &mut BytesMut, bytes: &[u8]) {
    for b in bytes {
        out.put_u8(HEX[usize::from(b >> 4)]);
        out.put_u8(HEX[usize::from(b & 15)]);
    }
}

pub fn put_bytea(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(2 + 2 * bytes.len());
    out.put_slice(b"\\x");
    put_hex(out, bytes);
}

/// 16 bytes with hyphens; any other length (no uuid) as plain hex.
pub fn put_uuid(out: &mut BytesMut, bytes: &[u8]) {
    if bytes.len() != 16 {
        put_hex(out, bytes);
        return;
    }
    for (i, range) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if i > 0 {
            out.put_u8(b'-');
        }
        put_hex(out, &bytes[range]);
    }
}

/// Writes `YYYY-MM-DD` and says whether the year is before Christ.
fn put_civil(out: &mut BytesMut, days: i64) -> bool {
    let (year, month, day) = civil_from_days(days);
    let is_bc = year <= 0;
    put_padded(out, (if is_bc { 1 - year } else { year }) as u64, 4);
    out.put_u8(b'-');
    put_padded(out, u64::from(month), 2);
    out.put_u8(b'-');
    put_padded(out, u64::from(day), 2);
    is_bc
}

/// Days since 1970-01-01.
pub fn put_date(out: &mut BytesMut, days: i32) {
    if put_civil(out, i64::from(days)) {
        out.put_slice(b" BC");
    }
}

/// Microseconds since midnight, up to and including 24:00:00.
pub fn put_time(out: &mut BytesMut, us: i64) {
    let seconds = us / MICROS_PER_SECOND;
    put_clock(out, (seconds / 3600) as u64, (seconds / 60 % 60) as u64);
    put_seconds(out, (seconds % 60) as u64, (us % MICROS_PER_SECOND) as u64);
}

/// `HH:MM:`
fn put_clock(out: &mut BytesMut, hours: u64, minutes: u64) {
    put_padded(out, hours, 2);
    out.put_u8(b':');
    put_padded(out, minutes, 2);
    out.put_u8(b':');
}

/// Seconds, with the fraction's trailing zeros left out.
fn put_seconds(out: &mut BytesMut, seconds: u64, mut fraction_us: u64) {
    put_padded(out, seconds, 2);
    if fraction_us == 0 {
        return;
    }
    let mut width = 6;
    while fraction_us.is_multiple_of(10) {
        fraction_us /= 10;
        width -= 1;
    }
    out.put_u8(b'.');
    put_padded(out, fraction_us, width);
}

/// Microseconds since 1970-01-01 00:00.
pub fn put_timestamp(out: &mut BytesMut, us: i64) {
    if put_date_and_time(out, us) {
        out.put_slice(b" BC");
    }
}

fn put_date_and_time(out: &mut BytesMut, us: i64) -> bool {
    let is_bc = put_civil(out, us.div_euclid(MICROS_PER_DAY));
    out.put_u8(b' ');
    put_time(out, us.rem_euclid(MICROS_PER_DAY));
    is_bc
}

/// A moment (microseconds since 1970, UTC) as local time with its offset, `east_s` seconds east of Greenwich.
pub fn put_timestamptz(out: &mut BytesMut, utc_us: i64, east_s: i32) {
    let is_bc = put_date_and_time(
        out,
        utc_us.saturating_add(i64::from(east_s) * MICROS_PER_SECOND),
    );
    out.put_u8(if east_s < 0 { b'-' } else { b'+' });
    let offset = u64::from(east_s.unsigned_abs());
    put_padded(out, offset / 3600, 2);
    if offset % 3600 != 0 {
        out.put_u8(b':');
        put_padded(out, offset / 60 % 60, 2);
    }
    if offset % 60 != 0 {
        out.put_u8(b':');
        put_padded(out, offset % 60, 2);
    }
    if is_bc {
        out.put_slice(b" BC");
    }
}

/// IntervalStyle `postgres`: `1 year 2 mons -3 days +04:05:06.5`. After a negative part the next one shows its sign.
pub fn put_interval(out: &mut BytesMut, value: IntervalMonthDayNano) {
    let mut is_empty = true;
    let mut after_negative = false;
    for (number, unit) in [
        (value.months / 12, "year"),
        (value.months % 12, "mon"),
        (value.days, "day"),
    ] {
        if number == 0 {
            continue;
        }
        if !is_empty {
            out.put_u8(b' ');
        }
        if after_negative && number > 0 {
            out.put_u8(b'+');
        }
        put_i64(out, i64::from(number));
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if number != 1 {
            out.put_u8(b's');
        }
        after_negative = number < 0;
        is_empty = false;
    }
    let us = value.nanoseconds / 1_000;
    if us == 0 && !is_empty {
        return;
    }
    if !is_empty {
        out.put_u8(b' ');
    }
    if us < 0 {
        out.put_u8(b'-');
    } else if after_negative {
        out.put_u8(b'+');
    }
    let magnitude = us.unsigned_abs();
    let seconds = magnitude / MICROS_PER_SECOND as u64;
    put_clock(out, seconds / 3600, seconds / 60 % 60);
    put_seconds(out, seconds % 60, magnitude % MICROS_PER_SECOND as u64);
}

/// What a writer above writes, as a text.
pub fn text_of(put: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    put(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
