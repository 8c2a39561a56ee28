//! Dates and times in the form that nearly all data have, `2026-01-31 12:34:56.5+02`, read without a look at any other.
//! What is of another form, or no time that exists, is left to `datetime_input.rs`.

use super::calendar::{days_from_civil, days_in_month};
use super::output::MICROS_PER_DAY;
use super::time_zone::MICROS_PER_SECOND;

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub fn days(text: &str) -> Option<i64> {
    date(text.as_bytes().try_into().ok()?)
}

/// Local microseconds since 1970-01-01 of `YYYY-MM-DD[( |T)HH:MM:SS[.ffffff][Z|(+|-)HH[:MM]]]`, and the zone's seconds
/// east of Greenwich.
pub fn moment(text: &str) -> Option<(i64, Option<i64>)> {
    let (first, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let us = date(first)? * MICROS_PER_DAY;
    let Some((first, rest)) = rest.split_first_chunk::<9>() else {
        return rest.is_empty().then_some((us, None));
    };
    let [b' ' | b'T', h1, h2, b':', m1, m2, b':', s1, s2] = *first else {
        return None;
    };
    let seconds =
        number(&[h1, h2], 23)? * 3600 + number(&[m1, m2], 59)? * 60 + number(&[s1, s2], 59)?;
    let (fraction_us, rest) = fraction(rest)?;
    let east_s = match *rest {
        [] => None,
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2] => Some(east(sign, number(&[h1, h2], 15)?, 0)),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            Some(east(sign, number(&[h1, h2], 15)?, number(&[m1, m2], 59)?))
        }
        _ => return None,
    };
    Some((us + seconds * MICROS_PER_SECOND + fraction_us, east_s))
}

fn date(text: &[u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4], 9999)?;
    let (month, day) = (number(&[m1, m2], 12)? as u32, number(&[d1, d2], 31)? as u32);
    let exists = year > 0 && month > 0 && day > 0 && day <= days_in_month(year, month);
    exists.then(|| days_from_civil(year, month, day))
}

/// Microseconds of `.ffffff`, if it is there, and what is behind it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = text.split_first() else {
        return Some((0, text));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 6 {
        return None;
    }
    let scale = 10_i64.pow(6 - digits as u32);
    Some((number(&rest[..digits], i64::MAX)? * scale, &rest[digits..]))
}

fn east(sign: u8, hours: i64, minutes: i64) -> i64 {
    let seconds = hours * 3600 + minutes * 60;
    if sign == b'-' { -seconds } else { seconds }
}

/// Digits of a number up to `most`.
fn number(digits: &[u8], most: i64) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        value = value * 10 + i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    (value <= most).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_form_is_read_and_no_other() {
        let day = 20_484 * MICROS_PER_DAY;
        for (text, expected) in [
            ("2026-01-31", Some((day, None))),
            ("2026-01-31 00:00:01", Some((day + 1_000_000, None))),
            ("2026-01-31T00:01:00.5Z", Some((day + 60_500_000, Some(0)))),
            (
                "2026-01-31 01:00:00.000001-02:30",
                Some((day + 3_600_000_001, Some(-9000))),
            ),
            ("2026-01-31 00:00:00+15", Some((day, Some(54_000)))),
            ("2026-01-31 00:00:00.", Some((day, None))),
            ("2026-02-29", None),
            ("0000-01-01", None),
            ("2026-13-01", None),
            ("2026-01-31 24:00:00", None),
            ("2026-01-31 00:00:60", None),
            ("2026-01-31 00:00", None),
            ("2026-01-31 00:00:00 +02", None),
            ("2026-01-31 00:00:00+16", None),
            ("2026-01-31 00:00:00.1234567", None),
            (" 2026-01-31", None),
            ("26-01-31", None),
        ] {
            assert_eq!(moment(text), expected, "{text:?}");
        }
        assert_eq!(days("2024-02-29"), Some(19_782));
        assert_eq!(days("2024-02-29 00:00:00"), None);
    }
}
