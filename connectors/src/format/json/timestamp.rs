//! Dates and times: ISO 8601 text, or numbers since 1970 where the source says of what unit.

use super::number::{NumberError, parse_scaled};

/// Unit of timestamps given as numbers (`timestamp.unit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    Seconds,
    Millis,
    Micros,
}

/// What a zone in the text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// `TIMESTAMPTZ`: converted to UTC; without a zone it is UTC.
    Applied,
    /// `TIMESTAMP`: allowed and without effect, as in PostgreSQL.
    Ignored,
}

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

type Result<T> = std::result::Result<T, NumberError>;

/// Microseconds since 1970.
#[inline]
pub fn parse_timestamp(
    text: &str,
    is_number: bool,
    unit: Option<EpochUnit>,
    zone: Zone,
) -> Result<i64> {
    if is_number {
        return parse_epoch(text, unit);
    }
    let mut scanner = Scanner {
        rest: text.trim_ascii().as_bytes(),
    };
    let days = scanner.date()?;
    let mut time_us = 0;
    let mut offset_us = 0;
    if scanner.eat(b'T') || scanner.eat(b' ') || scanner.eat(b't') {
        time_us = scanner.time()?;
        offset_us = scanner.zone()?;
    }
    if !scanner.rest.is_empty() {
        return Err(NumberError::Syntax);
    }
    if zone == Zone::Ignored {
        offset_us = 0;
    }
    Ok(days * US_PER_DAY + time_us - offset_us)
}

fn parse_epoch(text: &str, unit: Option<EpochUnit>) -> Result<i64> {
    match unit {
        Some(EpochUnit::Seconds) => parse_scaled(text, 6),
        Some(EpochUnit::Millis) => parse_scaled(text, 3),
        Some(EpochUnit::Micros) => parse_scaled(text, 0),
        None => Err(NumberError::Other(format!(
            "a number is no timestamp unless the source says of which unit: \"{text}\" \
             (ENCODE JSON (timestamp.unit = 's', 'ms' or 'us'))"
        ))),
    }
}

/// Days since 1970. A time after the date is allowed and has no effect, as in PostgreSQL.
pub fn parse_date(text: &str) -> Result<i32> {
    let us = parse_timestamp(text, false, None, Zone::Ignored)?;
    i32::try_from(us.div_euclid(US_PER_DAY)).map_err(|_| NumberError::OutOfRange)
}

/// Microseconds since midnight; a zone is allowed and has no effect.
pub fn parse_time(text: &str) -> Result<i64> {
    let mut scanner = Scanner {
        rest: text.trim_ascii().as_bytes(),
    };
    let time_us = scanner.time()?;
    scanner.zone()?;
    if !scanner.rest.is_empty() {
        return Err(NumberError::Syntax);
    }
    if time_us > US_PER_DAY {
        Err(NumberError::OutOfRange)
    } else {
        Ok(time_us)
    }
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(NumberError::Syntax)
        }
    }

    #[inline]
    fn two_digits(&mut self) -> Result<i64> {
        match self.rest {
            [a, b, rest @ ..] if a.is_ascii_digit() && b.is_ascii_digit() => {
                self.rest = rest;
                Ok(i64::from(a - b'0') * 10 + i64::from(b - b'0'))
            }
            _ => Err(NumberError::Syntax),
        }
    }

    /// Up to `max` digits, at least one.
    fn digits(&mut self, max: usize) -> Result<(i64, usize)> {
        let count = self
            .rest
            .iter()
            .take(max)
            .take_while(|b| b.is_ascii_digit())
            .count();
        if count == 0 {
            return Err(NumberError::Syntax);
        }
        let value = self.rest[..count]
            .iter()
            .fold(0, |n, b| n * 10 + i64::from(b - b'0'));
        self.rest = &self.rest[count..];
        Ok((value, count))
    }

    /// Days since 1970.
    #[inline]
    fn date(&mut self) -> Result<i64> {
        let (year, digits) = self.digits(6)?;
        if digits < 4 {
            return Err(NumberError::Syntax);
        }
        self.expect(b'-')?;
        let month = self.two_digits()?;
        self.expect(b'-')?;
        let day = self.two_digits()?;
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || year < 1 {
            return Err(NumberError::Other(format!(
                "date/time field value out of range: \"{year:04}-{month:02}-{day:02}\""
            )));
        }
        if year > 294_275 {
            return Err(NumberError::OutOfRange);
        }
        Ok(days_from_civil(year, month, day))
    }

    /// `hh:mm[:ss[.fraction]]` in microseconds; `24:00` and a leap second count over.
    #[inline]
    fn time(&mut self) -> Result<i64> {
        let hour = self.two_digits()?;
        self.expect(b':')?;
        let minute = self.two_digits()?;
        let mut second = 0;
        let mut fraction_us = 0;
        if self.eat(b':') {
            second = self.two_digits()?;
            if self.eat(b'.') || self.eat(b',') {
                fraction_us = self.fraction_us()?;
            }
        }
        let time_us = ((hour * 60 + minute) * 60 + second) * US_PER_SECOND + fraction_us;
        if hour > 24 || minute > 59 || second > 60 || (hour == 24 && time_us > US_PER_DAY) {
            return Err(NumberError::Other(format!(
                "date/time field value out of range: \"{hour:02}:{minute:02}:{second:02}\""
            )));
        }
        Ok(time_us)
    }

    /// Digits after the point, rounded to microseconds.
    #[inline]
    fn fraction_us(&mut self) -> Result<i64> {
        let (mut us, digits) = self.digits(6)?;
        for _ in digits..6 {
            us *= 10;
        }
        if let Some(next) = self.rest.first().filter(|b| b.is_ascii_digit()) {
            us += i64::from(*next >= b'5');
            let end = self
                .rest
                .iter()
                .position(|b| !b.is_ascii_digit())
                .unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
        Ok(us)
    }

    /// `Z`, `UTC`, `±hh`, `±hhmm`, `±hh:mm[:ss]` or nothing: microseconds east of UTC.
    #[inline]
    fn zone(&mut self) -> Result<i64> {
        if self.rest.is_empty() || self.eat(b'Z') || self.eat(b'z') {
            return Ok(0);
        }
        while self.eat(b' ') {}
        if self.rest.eq_ignore_ascii_case(b"utc") || self.rest.eq_ignore_ascii_case(b"gmt") {
            self.rest = &[];
            return Ok(0);
        }
        let sign = match self.rest.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(NumberError::Syntax),
        };
        self.rest = &self.rest[1..];
        let hour = self.two_digits()?;
        let minute = if self.eat(b':') || !self.rest.is_empty() {
            self.two_digits()?
        } else {
            0
        };
        let second = if self.eat(b':') {
            self.two_digits()?
        } else {
            0
        };
        if hour > 15 || minute > 59 || second > 59 {
            return Err(NumberError::Other(
                "time zone displacement out of range".to_string(),
            ));
        }
        Ok(sign * ((hour * 60 + minute) * 60 + second) * US_PER_SECOND)
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970 of a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let base = 1_700_000_000_000_000; // 2023-11-14 22:13:20 UTC
        let check = |text: &str, expected: Option<i64>| {
            let parsed = parse_timestamp(text, false, None, Zone::Applied).ok();
            assert_eq!(parsed, expected, "{text}");
        };
        check("2023-11-14T22:13:20Z", Some(base));
        check("2023-11-14 22:13:20", Some(base));
        check(" 2023-11-14T22:13:20.5Z ", Some(base + 500_000));
        check("2023-11-14T22:13:20.123456Z", Some(base + 123_456));
        check("2023-11-14T22:13:20.1234565Z", Some(base + 123_457));
        check("2023-11-14T22:13:20.123456400Z", Some(base + 123_456));
        check("2023-11-15T00:13:20+02", Some(base));
        check("2023-11-15T00:13:20+02:00", Some(base));
        check("2023-11-15T00:13:20+0200", Some(base));
        check("2023-11-14 16:43:20-05:30", Some(base));
        check("2023-11-14 22:13:20 UTC", Some(base));
        check("2023-11-14 22:13", Some(base - 20_000_000));
        check("1970-01-01", Some(0));
        check("1969-12-31T23:59:59.999999Z", Some(-1));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000_000));
        check("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000));
        check("1969-12-31T24:00:00Z", Some(0));
        for bad in [
            "",
            "x",
            "2023",
            "2023-11",
            "2023-13-01",
            "2023-02-29",
            "2023-11-14T",
            "2023-11-14T25:00:00",
            "2023-11-14T22:60:00",
            "2023-11-14T22:13:20+",
            "2023-11-14T22:13:20Zx",
            "2023-11-14T22:13:20.",
            "2023-11-14T24:00:01",
            "23-11-14",
            "2023-11-14T22:13:20+16",
            "999999-01-01",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn numbers_need_a_unit() {
        let check = |text: &str, unit: Option<EpochUnit>, expected: Option<i64>| {
            let parsed = parse_timestamp(text, true, unit, Zone::Applied).ok();
            assert_eq!(parsed, expected, "{text} {unit:?}");
        };
        check(
            "1700000000",
            Some(EpochUnit::Seconds),
            Some(1_700_000_000_000_000),
        );
        check(
            "1700000000.123456",
            Some(EpochUnit::Seconds),
            Some(1_700_000_000_123_456),
        );
        check(
            "1700000000123",
            Some(EpochUnit::Millis),
            Some(1_700_000_000_123_000),
        );
        check("-1", Some(EpochUnit::Micros), Some(-1));
        check("1e30", Some(EpochUnit::Micros), None);
        check("1700000000", None, None);
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(parse_date("2023-11-14"), Ok(19_675));
        assert_eq!(parse_date("2023-11-14T23:59:59Z"), Ok(19_675));
        assert!(parse_date("14.11.2023").is_err());
        assert_eq!(parse_time("01:02:03.5"), Ok(3_723_500_000));
        assert_eq!(parse_time("24:00"), Ok(US_PER_DAY));
        assert!(parse_time("25:00").is_err());
    }

    #[test]
    fn calendar_agrees_with_chrono() {
        use chrono::{Datelike, NaiveDate};
        for days in (-700_000..2_000_000).step_by(997) {
            let date = NaiveDate::from_epoch_days(days).expect("in chrono's range");
            let (y, m, d) = (
                i64::from(date.year()),
                i64::from(date.month()),
                i64::from(date.day()),
            );
            assert_eq!(days_from_civil(y, m, d), i64::from(days), "{date}");
        }
    }
}
