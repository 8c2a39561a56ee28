//! Dates and times as text: ISO 8601 (`2026-01-31 12:34:56.5+02 BC` and its parts) and the other unambiguous forms that
//! PostgreSQL takes with DateStyle `ISO, MDY`: `Jan 31, 2026`, `31-Jan-2026`, `01/31/2026`, `12:34 PM`, zone names.

use super::ValueError;
use super::calendar::{days_from_civil, days_in_month};
use super::iso_datetime;
use super::output::MICROS_PER_DAY;
use super::time_zone::{MICROS_PER_SECOND, SessionTimeZone, parse_offset};

/// The end of what microseconds since 1970 can count, in the year 294247; PostgreSQL counts from 2000 and goes 30 years
/// further.
pub const TIMESTAMP_END_US: i64 = i64::MAX;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Abbreviations of zones with their hours east of Greenwich, from PostgreSQL's default set.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("z", 0),
    ("zulu", 0),
    ("utc", 0),
    ("gmt", 0),
    ("ut", 0),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("cet", 1),
    ("cest", 2),
    ("eet", 2),
    ("eest", 3),
    ("wet", 0),
    ("west", 1),
    ("bst", 1),
    ("msk", 3),
    ("jst", 9),
    ("hst", -10),
    ("akst", -9),
    ("akdt", -8),
];

fn field_overflow(text: &str) -> ValueError {
    ValueError(format!("date/time field value out of range: \"{text}\""))
}

/// Days since 1970-01-01.
pub fn parse_date(text: &str) -> Result<i32, ValueError> {
    let days = match iso_datetime::days(text) {
        Some(days) => days,
        None => {
            let parts = Parts::read("date", text)?;
            parts.days.ok_or_else(|| ValueError::syntax("date", text))?
        }
    };
    i32::try_from(days).map_err(|_| ValueError(format!("date out of range: \"{text}\"")))
}

/// Microseconds since midnight; a date and a zone are read and ignored.
pub fn parse_time(text: &str) -> Result<i64, ValueError> {
    let parts = Parts::read("time", text)?;
    parts
        .time_us
        .ok_or_else(|| ValueError::syntax("time", text))
}

/// Microseconds since 1970-01-01 00:00; a zone is read and ignored, as PostgreSQL does.
pub fn parse_timestamp(text: &str) -> Result<i64, ValueError> {
    if let Some((us, _)) = iso_datetime::moment(text) {
        return Ok(us);
    }
    local_us("timestamp", text).map(|(us, _)| us)
}

/// The moment in microseconds since 1970 UTC; without a zone the text is in `session`'s.
pub fn parse_timestamptz(text: &str, session: &SessionTimeZone) -> Result<i64, ValueError> {
    match iso_datetime::moment(text) {
        Some((local, Some(east_s))) => return Ok(local - east_s * MICROS_PER_SECOND),
        Some((local, None)) => return Ok(session.local_to_utc(local)),
        None => {}
    }
    let (local, zone) = local_us("timestamp with time zone", text)?;
    match zone {
        None => Ok(session.local_to_utc(local)),
        Some(zone) => Ok(zone.local_to_utc(local)),
    }
}

fn local_us(type_name: &str, text: &str) -> Result<(i64, Option<SessionTimeZone>), ValueError> {
    if text.trim().eq_ignore_ascii_case("epoch") {
        return Ok((0, Some(SessionTimeZone::UTC)));
    }
    let parts = Parts::read(type_name, text)?;
    let days = parts
        .days
        .ok_or_else(|| ValueError::syntax(type_name, text))?;
    let us = days
        .checked_mul(MICROS_PER_DAY)
        .and_then(|us| us.checked_add(parts.time_us.unwrap_or(0)))
        .filter(|us| *us < TIMESTAMP_END_US)
        .ok_or_else(|| ValueError(format!("timestamp out of range: \"{text}\"")))?;
    Ok((us, parts.zone))
}

/// What a text says.
#[derive(Default)]
struct Parts {
    days: Option<i64>,
    time_us: Option<i64>,
    zone: Option<SessionTimeZone>,
}

/// The words of a text, as they are understood one after the other.
#[derive(Default)]
struct Words {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    time_us: Option<i64>,
    zone: Option<SessionTimeZone>,
    is_bc: bool,
    is_pm: Option<bool>,
}

impl Parts {
    fn read(type_name: &str, text: &str) -> Result<Parts, ValueError> {
        let special = text.trim().to_ascii_lowercase();
        if ["infinity", "+infinity", "-infinity"].contains(&special.as_str()) {
            return Err(ValueError(format!(
                "{type_name} \"{special}\" is not supported"
            )));
        }
        if ["now", "today", "tomorrow", "yesterday"].contains(&special.as_str()) {
            return Err(ValueError(format!(
                "{type_name} \"{special}\" is not supported; use current_date or now()"
            )));
        }
        let mut words = Words::default();
        for word in text.split([' ', '\t', '\n', '\r', ',']) {
            if !word.is_empty() {
                words
                    .add(word)
                    .ok_or_else(|| ValueError::syntax(type_name, text))?
                    .map_err(|error| error.unwrap_or_else(|| field_overflow(text)))?;
            }
        }
        words
            .finish()
            .ok_or_else(|| ValueError::syntax(type_name, text))?
            .map_err(|_| field_overflow(text))
    }
}

/// A field beyond its range, with its own message if it has one.
type Overflow = Option<ValueError>;

impl Words {
    /// Understands one word; `None`: it can not be.
    fn add(&mut self, word: &str) -> Option<Result<(), Overflow>> {
        let lower = word.to_ascii_lowercase();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return self.add_number(&lower);
        }
        match lower.as_str() {
            "bc" => self.is_bc = true,
            "ad" | "t" | "at" => {}
            "am" => self.is_pm = Some(false),
            "pm" => self.is_pm = Some(true),
            _ if lower.starts_with(['+', '-']) && self.time_us.is_some() => {
                return self.add_zone(word);
            }
            _ => {
                let letters: String = lower
                    .chars()
                    .take_while(char::is_ascii_alphabetic)
                    .collect();
                if let Some(month) = named(&MONTHS, &letters)
                    && self.month.is_none()
                {
                    self.month = Some(month as u32 + 1);
                    let rest = &lower[letters.len()..];
                    return match rest.trim_start_matches('-') {
                        "" => Some(Ok(())),
                        // `Jan-31-2026`
                        rest => rest
                            .split('-')
                            .try_for_each(|n| self.add_day_or_year(n))
                            .map(Ok),
                    };
                }
                if named(&WEEKDAYS, &letters).is_some() && letters.len() == lower.len() {
                    return Some(Ok(()));
                }
                return self.add_zone(word);
            }
        }
        Some(Ok(()))
    }

    /// A word that begins with a digit: a date, a time, both joined by T, or a part of a date.
    fn add_number(&mut self, word: &str) -> Option<Result<(), Overflow>> {
        if let Some((date, time)) = word.split_once('t')
            && date.ends_with(|c: char| c.is_ascii_digit())
            && time.starts_with(|c: char| c.is_ascii_digit())
        {
            return match self.add_number(date)? {
                Ok(()) => self.add_number(time),
                wrong => Some(wrong),
            };
        }
        if word.contains(':') {
            return self.add_clock(word);
        }
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        if digits == word.len() {
            return self.add_digits(word);
        }
        let separator = word[digits..].chars().next()?;
        if matches!(separator, '-' | '/' | '.') {
            let fields: Vec<&str> = word.split(separator).collect();
            return self.add_date(&fields, separator);
        }
        // `12am`, `31st` is no form of PostgreSQL's
        if let Some(meridian) = ["am", "pm"].iter().find(|m| word[digits..] == ***m) {
            self.is_pm = Some(*meridian == "pm");
            return self.add_clock(&format!("{}:00", &word[..digits]));
        }
        None
    }

    fn add_digits(&mut self, word: &str) -> Option<Result<(), Overflow>> {
        match (word.len(), self.has_date()) {
            (8, false) if self.month.is_none() => {
                self.year = word[..4].parse().ok();
                self.month = word[4..6].parse().ok();
                self.day = word[6..].parse().ok();
            }
            (6 | 4, true) if self.time_us.is_none() => {
                let seconds = word.get(4..).filter(|s| !s.is_empty()).unwrap_or("00");
                return self.add_clock(&format!("{}:{}:{seconds}", &word[..2], &word[2..4]));
            }
            _ => self.add_day_or_year(word)?,
        }
        Some(Ok(()))
    }

    fn has_date(&self) -> bool {
        self.year.is_some() && self.month.is_some() && self.day.is_some()
    }

    /// A number beside a month's name.
    fn add_day_or_year(&mut self, word: &str) -> Option<()> {
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if self.day.is_none() && word.len() <= 2 {
            self.day = Some(word.parse().ok()?);
        } else if self.year.is_none() {
            self.year = Some(year_of(word)?);
        } else if self.day.is_none() {
            self.day = Some(word.parse().ok()?);
        } else {
            return None;
        }
        Some(())
    }

    fn add_date(&mut self, fields: &[&str], separator: char) -> Option<Result<(), Overflow>> {
        let [first, second, third] = *fields else {
            return None;
        };
        if self.has_date() {
            return None;
        }
        if let Some(month) = named(&MONTHS, second) {
            self.month = Some(month as u32 + 1);
            self.add_day_or_year(first)?;
            self.add_day_or_year(third)?;
            return Some(Ok(()));
        }
        if !fields
            .iter()
            .all(|f| !f.is_empty() && f.len() <= 7 && f.bytes().all(|b| b.is_ascii_digit()))
        {
            return None;
        }
        let (year, month, day) = if first.len() >= 3 {
            (first.parse().ok()?, second, third)
        } else if separator == '.' {
            return None;
        } else {
            (year_of(third)?, first, second)
        };
        self.year = Some(year);
        self.month = Some(month.parse().ok()?);
        self.day = Some(day.parse().ok()?);
        Some(Ok(()))
    }

    /// `HH:MM[:SS[.ffffff]]`, with AM or PM or a zone attached.
    fn add_clock(&mut self, word: &str) -> Option<Result<(), Overflow>> {
        if self.time_us.is_some() {
            return None;
        }
        let end = word
            .find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'))
            .unwrap_or(word.len());
        let (clock_text, rest) = word.split_at(end);
        match clock(clock_text)? {
            Some(us) => self.time_us = Some(us),
            None => return Some(Err(None)),
        }
        match rest {
            "" => Some(Ok(())),
            "am" | "pm" => self.add(rest),
            zone => self.add_zone(zone),
        }
    }

    fn add_zone(&mut self, word: &str) -> Option<Result<(), Overflow>> {
        if self.zone.is_some() {
            return None;
        }
        if word.starts_with(['+', '-']) {
            let east_s = parse_offset(word)?;
            self.zone = Some(SessionTimeZone::fixed(east_s));
            return Some(Ok(()));
        }
        match zone_of_name(word) {
            Some(zone) => {
                self.zone = Some(zone);
                Some(Ok(()))
            }
            None if word.contains('/') => Some(Err(Some(ValueError(format!(
                "time zone \"{}\" not recognized",
                word.to_ascii_lowercase()
            ))))),
            None => None,
        }
    }

    /// `None`: parts are missing; an error: the day does not exist.
    fn finish(self) -> Option<Result<Parts, ()>> {
        let mut time_us = self.time_us;
        if let Some(is_pm) = self.is_pm {
            let us = time_us?;
            let hour = us / (3600 * MICROS_PER_SECOND);
            if hour > 12 {
                return Some(Err(()));
            }
            let hours = hour % 12 + if is_pm { 12 } else { 0 } - hour;
            time_us = Some(us + hours * 3600 * MICROS_PER_SECOND);
        }
        let days = match (self.year, self.month, self.day) {
            (Some(year), Some(month), Some(day)) => {
                if year == 0 {
                    return Some(Err(()));
                }
                let year = if self.is_bc { 1 - year } else { year };
                let exists =
                    (1..=12).contains(&month) && day > 0 && day <= days_in_month(year, month);
                if !exists {
                    return Some(Err(()));
                }
                Some(days_from_civil(year, month, day))
            }
            (None, None, None) => None,
            _ => return None,
        };
        Some(Ok(Parts {
            days,
            time_us,
            zone: self.zone,
        }))
    }
}

/// The zone that a name or an abbreviation means.
pub fn zone_of_name(name: &str) -> Option<SessionTimeZone> {
    if let Some((_, hours)) = ABBREVIATIONS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
    {
        return Some(match hours {
            0 => SessionTimeZone::UTC,
            hours => SessionTimeZone::fixed(hours * 3600),
        });
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    SessionTimeZone::parse(name)
}

/// The place in `names` of a name, or of its first three letters (or more).
fn named(names: &[&str], word: &str) -> Option<usize> {
    (word.len() >= 3)
        .then(|| names.iter().position(|name| name.starts_with(word)))
        .flatten()
}

/// Two digits are of 1970 to 2069.
fn year_of(text: &str) -> Option<i64> {
    let year: i64 = text.parse().ok()?;
    Some(match (text.len(), year) {
        (1 | 2, 0..=69) => year + 2000,
        (1 | 2, _) => year + 1900,
        _ => year,
    })
}

/// `HH:MM[:SS[.ffffff]]` in microseconds; the inner `None`: a field is out of range.
fn clock(text: &str) -> Option<Option<i64>> {
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
    Some(is_valid.then_some(us))
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
    use super::super::output::{put_timestamp, text_of};
    use super::*;

    #[test]
    fn many_forms_are_one_moment() {
        for text in [
            "2024-01-31 12:34:56",
            "2024-01-31T12:34:56Z",
            "20240131 12:34:56",
            "20240131T123456",
            "Jan 31, 2024 12:34:56",
            "31 January 2024 12:34:56",
            "31-Jan-2024 12:34:56",
            "Jan-31-2024 12:34:56",
            "01/31/2024 12:34:56 PM",
            "Wed Jan 31 12:34:56 2024",
            "1/31/24 12:34:56",
            "2024-01-31 12:34:56 Europe/Berlin",
            "2024-01-31 12:34:56.0000001+02:30",
        ] {
            let us = parse_timestamp(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                text_of(|out| put_timestamp(out, us)),
                "2024-01-31 12:34:56",
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_date() {
        for (text, message) in [
            (
                "2024-02-30",
                "date/time field value out of range: \"2024-02-30\"",
            ),
            ("x", "invalid input syntax for type date: \"x\""),
            ("", "invalid input syntax for type date: \"\""),
            ("12:00", "invalid input syntax for type date: \"12:00\""),
            ("2024-01", "invalid input syntax for type date: \"2024-01\""),
            (
                "31/01/2024",
                "date/time field value out of range: \"31/01/2024\"",
            ),
        ] {
            assert_eq!(parse_date(text).unwrap_err().0, message, "{text}");
        }
        let day = parse_timestamptz("2024-01-31 00:00 PST", &SessionTimeZone::UTC).unwrap();
        assert_eq!(day, parse_timestamp("2024-01-31 08:00").unwrap());
        assert_eq!(parse_time("04:05 PM").unwrap(), 57_900_000_000);
    }
}
