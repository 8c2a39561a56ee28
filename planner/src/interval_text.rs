//! Intervals as text: `1 year 2 mons -3 days +04:05:06.5`, `1.5 hours ago`, `P1Y2M3DT4H5M6.5S`.

use arrow::datatypes::IntervalMonthDayNano;

const MICROS_PER_SECOND: i64 = 1_000_000;
const DAYS_PER_MONTH: f64 = 30.0;
const US_PER_DAY: f64 = 86_400e6;

/// The three parts while they are summed up.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    us: i64,
}

/// Why a text is no interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoInterval {
    /// It is not written like one.
    Syntax,
    /// A part does not fit.
    OutOfRange,
}

/// Reads an interval.
pub fn parse_interval(text: &str) -> Result<IntervalMonthDayNano, NoInterval> {
    let trimmed = text.trim();
    let sum = match trimmed.strip_prefix('P') {
        Some(iso) => parse_iso(iso),
        None => parse_words(trimmed),
    };
    let sum = sum.ok_or(NoInterval::Syntax)?;
    let overflow = |_| NoInterval::OutOfRange;
    Ok(IntervalMonthDayNano {
        months: i32::try_from(sum.months).map_err(overflow)?,
        days: i32::try_from(sum.days).map_err(overflow)?,
        nanoseconds: sum.us.checked_mul(1_000).ok_or(NoInterval::OutOfRange)?,
    })
}

/// `text` with a time of day (`3 days 04:00:00`) in words, which DataFusion reads too; `None`: it has none.
pub fn without_clock(text: &str) -> Option<String> {
    if !text.contains(':') {
        return None;
    }
    let IntervalMonthDayNano {
        months,
        days,
        nanoseconds,
    } = parse_interval(text).ok()?;
    let us = nanoseconds / 1_000;
    Some(format!("{months} months {days} days {us} microseconds"))
}

impl Sum {
    /// Adds `number` units; a fraction of a month or day flows into the smaller parts.
    fn add(&mut self, number: f64, unit: &str) -> Option<()> {
        match unit {
            "us" | "usec" | "usecs" | "microsecond" | "microseconds" => self.add_us(number),
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => self.add_us(number * 1e3),
            "s" | "sec" | "secs" | "second" | "seconds" => self.add_us(number * 1e6),
            "m" | "min" | "mins" | "minute" | "minutes" => self.add_us(number * 60e6),
            "h" | "hr" | "hrs" | "hour" | "hours" => self.add_us(number * 3600e6),
            "d" | "day" | "days" => self.add_days(number),
            "w" | "week" | "weeks" => self.add_days(number * 7.0),
            "mon" | "mons" | "month" | "months" => {
                self.months = self.months.checked_add(number.trunc() as i64)?;
                self.add_days(number.fract() * DAYS_PER_MONTH)
            }
            "y" | "yr" | "yrs" | "year" | "years" => self.add_years(number),
            "dec" | "decs" | "decade" | "decades" => self.add_years(number * 10.0),
            "c" | "cent" | "century" | "centuries" => self.add_years(number * 100.0),
            "mil" | "mils" | "millennium" | "millennia" => self.add_years(number * 1000.0),
            _ => None,
        }
    }

    fn add_years(&mut self, years: f64) -> Option<()> {
        self.months = self.months.checked_add((years * 12.0).round() as i64)?;
        Some(())
    }

    fn add_days(&mut self, days: f64) -> Option<()> {
        self.days = self.days.checked_add(days.trunc() as i64)?;
        self.add_us(days.fract() * US_PER_DAY)
    }

    fn add_us(&mut self, us: f64) -> Option<()> {
        self.us = self.us.checked_add(us.round() as i64)?;
        Some(())
    }

    fn negate(&mut self) {
        self.months = -self.months;
        self.days = -self.days;
        self.us = -self.us;
    }
}

fn parse_words(text: &str) -> Option<Sum> {
    let lower = text.to_ascii_lowercase();
    let mut sum = Sum::default();
    let mut rest = lower.trim_start_matches('@').trim_start();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if rest == "ago" {
            sum.negate();
            break;
        }
        let number_end = rest
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | ':')))
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        if number.contains(':') {
            sum.us = sum.us.checked_add(clock(number)?)?;
            rest = skip_separators(after);
            continue;
        }
        let value: f64 = number.parse().ok()?;
        let after = after.trim_start();
        let unit_end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        // A number without a unit counts seconds.
        sum.add(value, if unit.is_empty() { "s" } else { unit })?;
        rest = skip_separators(after);
    }
    Some(sum)
}

fn skip_separators(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',')
}

/// `[+-]HH:MM[:SS[.ffffff]]` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let fields: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match fields.as_slice() {
        [hours, minutes] => (*hours, *minutes, "0"),
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let hours: i64 = hours.parse().ok()?;
    let minutes: i64 = minutes.parse().ok()?;
    let clock_s = hours
        .checked_mul(3600)?
        .checked_add(minutes.checked_mul(60)?)?;
    let us = clock_s
        .checked_mul(MICROS_PER_SECOND)?
        .checked_add(seconds_to_us(seconds)?)?;
    Some(sign * us)
}

fn parse_iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut in_time = false;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            in_time = true;
            rest = time;
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let value: f64 = rest[..end].parse().ok()?;
        let unit = match (&rest[end..end + 1], in_time) {
            ("Y", false) => "years",
            ("M", false) => "months",
            ("W", false) => "weeks",
            ("D", false) => "days",
            ("H", true) => "hours",
            ("M", true) => "minutes",
            ("S", true) => "seconds",
            _ => return None,
        };
        sum.add(value, unit)?;
        rest = &rest[end + 1..];
    }
    Some(sum)
}

/// Decimal seconds without a sign, rounded to microseconds.
pub fn seconds_to_us(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut us = 0;
    for i in 0..6 {
        us = us * 10 + i64::from(fraction.as_bytes().get(i).map_or(0, |b| b - b'0'));
    }
    if fraction.as_bytes().get(6).is_some_and(|b| *b >= b'5') {
        us += 1;
    }
    whole.checked_mul(MICROS_PER_SECOND)?.checked_add(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, expected) in [
            ("3 days 04:00:00", Ok((0, 3, 14_400_000_000))),
            (
                "1 year 2 mons -3 days +04:05:06.5",
                Ok((14, -3, 14_706_500_000)),
            ),
            ("04:05", Ok((0, 0, 14_700_000_000))),
            ("1.5 hours ago", Ok((0, 0, -5_400_000_000))),
            ("P1Y2M3DT4H5M6.5S", Ok((14, 3, 14_706_500_000))),
            ("soon", Err(NoInterval::Syntax)),
            ("3000000000 months", Err(NoInterval::OutOfRange)),
        ] {
            let found = parse_interval(text).map(|i| (i.months, i.days, i.nanoseconds / 1000));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn clocks_become_words() {
        let words = Some("0 months 3 days 14400000000 microseconds".to_string());
        assert_eq!(without_clock("3 days 04:00:00"), words);
        assert_eq!(without_clock("3 days"), None);
        assert_eq!(without_clock("x:y"), None);
    }
}
