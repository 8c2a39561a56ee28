//! Dates and times as text, in the ISO forms that drivers send: `2026-01-31 12:34:56.5+02 BC` and its parts.

use rivermark_planner::interval_text::seconds_to_us;

use super::encode_text::MICROS_PER_DAY;
use super::time_zone::{MICROS_PER_SECOND, SessionTimeZone, parse_offset};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

fn syntax(pg_type: &str, text: &str) -> PgError {
    PgError::new(
        SqlState::InvalidDatetimeFormat,
        format!("invalid input syntax for type {pg_type}: \"{text}\""),
    )
}

fn out_of_range(text: &str) -> PgError {
    PgError::new(
        SqlState::DatetimeFieldOverflow,
        format!("date/time field value out of range: \"{text}\""),
    )
}

/// Days since 1970-01-01.
pub fn parse_date(text: &str) -> Result<i32, PgError> {
    let parts = split(text).ok_or_else(|| syntax("date", text))?;
    let days = civil(&parts).ok_or_else(|| syntax("date", text))??;
    i32::try_from(days).map_err(|_| out_of_range(text))
}

/// Microseconds since midnight; a zone is read and ignored.
pub fn parse_time(text: &str) -> Result<i64, PgError> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'))
        .unwrap_or(text.len());
    clock(&text[..end]).ok_or_else(|| syntax("time", text))?
}

/// Microseconds since 1970-01-01 00:00; a zone is read and ignored, as PostgreSQL does.
pub fn parse_timestamp(text: &str) -> Result<i64, PgError> {
    local_us("timestamp", text).map(|(us, _)| us)
}

/// The moment in microseconds since 1970 UTC; without a zone the text is in `session`'s.
pub fn parse_timestamptz(text: &str, session: &SessionTimeZone) -> Result<i64, PgError> {
    let (local, zone) = local_us("timestamp with time zone", text)?;
    if zone.is_empty() {
        return Ok(session.local_to_utc(local));
    }
    if let Some(east_s) = parse_offset(zone).filter(|_| zone.starts_with(['+', '-'])) {
        return Ok(local.saturating_sub(i64::from(east_s) * MICROS_PER_SECOND));
    }
    match SessionTimeZone::parse(zone) {
        Some(zone) => Ok(zone.local_to_utc(local)),
        None => Err(PgError::new(
            SqlState::InvalidParameterValue,
            format!("time zone \"{zone}\" not recognized"),
        )),
    }
}

struct Parts<'a> {
    date: &'a str,
    time: &'a str,
    zone: &'a str,
    is_bc: bool,
}

fn split(text: &str) -> Option<Parts<'_>> {
    let mut rest = text.trim();
    let mut is_bc = false;
    if rest.len() > 3 && rest.is_char_boundary(rest.len() - 3) {
        let (head, era) = rest.split_at(rest.len() - 3);
        if era.eq_ignore_ascii_case(" bc") || era.eq_ignore_ascii_case(" ad") {
            is_bc = era.eq_ignore_ascii_case(" bc");
            rest = head.trim_end();
        }
    }
    let date_end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '-'))
        .unwrap_or(rest.len());
    let (date, rest) = rest.split_at(date_end);
    let rest = match rest.chars().next() {
        None => rest,
        Some(' ' | 'T' | 't') => rest[1..].trim_start(),
        Some(_) => return None,
    };
    let time_end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'))
        .unwrap_or(rest.len());
    let (time, zone) = rest.split_at(time_end);
    Some(Parts {
        date,
        time,
        zone: zone.trim(),
        is_bc,
    })
}

fn local_us<'a>(pg_type: &str, text: &'a str) -> Result<(i64, &'a str), PgError> {
    if text.trim().eq_ignore_ascii_case("epoch") {
        return Ok((0, "UTC"));
    }
    let parts = split(text).ok_or_else(|| syntax(pg_type, text))?;
    let days = civil(&parts).ok_or_else(|| syntax(pg_type, text))??;
    let in_day = if parts.time.is_empty() {
        0
    } else {
        clock(parts.time).ok_or_else(|| syntax(pg_type, text))??
    };
    let us = days
        .checked_mul(MICROS_PER_DAY)
        .and_then(|us| us.checked_add(in_day))
        .ok_or_else(|| out_of_range(text))?;
    Ok((us, parts.zone))
}

/// The day number of `Y-M-D` or `YYYYMMDD`; `None` for what is no date, an error for one that does not exist.
fn civil(parts: &Parts<'_>) -> Option<Result<i64, PgError>> {
    let fields: Vec<&str> = parts.date.split('-').collect();
    let (year, month, day) = match fields.as_slice() {
        [year, month, day] => (*year, *month, *day),
        [digits] if digits.len() == 8 => (&digits[..4], &digits[4..6], &digits[6..]),
        _ => return None,
    };
    if year.is_empty() || year.len() > 6 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let (year, month, day): (i64, u32, u32) =
        (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let year = if parts.is_bc { 1 - year } else { year };
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Some(Err(out_of_range(parts.date)));
    }
    Some(Ok(days_from_civil(year, month, day)))
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`: days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `HH:MM[:SS[.ffffff]]` in microseconds.
fn clock(text: &str) -> Option<Result<i64, PgError>> {
    let fields: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match fields.as_slice() {
        [hour, minute] => (*hour, *minute, "0"),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
    let seconds_us = seconds_to_us(second)?;
    let us = (hour * 3600 + minute * 60) * MICROS_PER_SECOND + seconds_us;
    let is_valid =
        hour <= 24 && minute <= 59 && seconds_us <= 60 * MICROS_PER_SECOND && us <= MICROS_PER_DAY;
    Some(if is_valid {
        Ok(us)
    } else {
        Err(out_of_range(text))
    })
}
