//! Reading dates and times by a template.

use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::days_us;
use super::template::{Field, MONTHS, Part, ROMAN_MONTHS, WEEKDAYS, parse};
use crate::pg_text::calendar::{days_from_civil, days_in_month, iso_weekday};
use crate::pg_text::datetime_input::zone_of_name;
use crate::pg_text::output::MICROS_PER_DAY;
use crate::pg_text::time_zone::{SessionTimeZone, parse_offset};

/// Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;

/// What was read.
#[derive(Debug, Default)]
pub struct Parsed {
    year: Option<i64>,
    century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_weekday: Option<i64>,
    julian: Option<i64>,
    hour: Option<i64>,
    is_12_hours: bool,
    is_pm: Option<bool>,
    minute: i64,
    second: i64,
    fraction_us: i64,
    is_bc: bool,
    zone: Option<SessionTimeZone>,
    text: String,
}

impl Parsed {
    fn out_of_range(&self) -> datafusion::common::DataFusionError {
        exec_datafusion_err!("date/time field value out of range: \"{}\"", self.text)
    }

    /// Days since 1970.
    pub fn days(&self) -> Result<i64> {
        if let Some(julian) = self.julian {
            return Ok(julian - JULIAN_EPOCH);
        }
        if let Some(week) = self.iso_week {
            let year = self.iso_year.or(self.year).unwrap_or(1);
            let fourth = days_from_civil(year, 1, 4);
            let monday = fourth - iso_weekday(fourth) + 1;
            return Ok(monday + (week - 1) * 7 + self.iso_weekday.unwrap_or(1) - 1);
        }
        let year = match (self.year, self.century) {
            (Some(year), _) => year,
            (None, Some(century)) => (century - 1) * 100 + 1,
            // PostgreSQL's year 0, which is 1 BC
            (None, None) => 0,
        };
        let year = if self.is_bc { 1 - year } else { year };
        if let Some(day_of_year) = self.day_of_year {
            return Ok(days_from_civil(year, 1, 1) + day_of_year - 1);
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        let exists = (1..=12).contains(&month)
            && day >= 1
            && day <= i64::from(days_in_month(year, month as u32));
        if !exists {
            return Err(self.out_of_range());
        }
        Ok(days_from_civil(year, month as u32, day as u32))
    }

    /// Microseconds since 1970, UTC.
    pub fn timestamp(&self, session: &SessionTimeZone) -> Result<i64> {
        let mut hour = self.hour.unwrap_or(0);
        if self.is_12_hours || self.is_pm.is_some() {
            if !(1..=12).contains(&hour) && self.hour.is_some() {
                return exec_err!("hour \"{hour}\" is invalid for the 12-hour clock");
            }
            match self.is_pm {
                Some(true) if hour < 12 => hour += 12,
                Some(false) | None if hour == 12 => hour = 0,
                _ => {}
            }
        }
        if !(0..=24).contains(&hour) || self.minute > 59 || self.second > 59 {
            return Err(self.out_of_range());
        }
        let in_day = (hour * 3600 + self.minute * 60 + self.second) * 1_000_000 + self.fraction_us;
        if in_day > MICROS_PER_DAY {
            return Err(self.out_of_range());
        }
        let local = days_us(self.days()?)? + in_day;
        Ok(self.zone.as_ref().unwrap_or(session).local_to_utc(local))
    }
}

/// Reads `text` as the template says.
pub fn read(text: &str, template: &str) -> Result<Parsed> {
    let mut reader = Reader {
        rest: text.trim_start(),
        parsed: Parsed {
            text: text.to_string(),
            ..Parsed::default()
        },
    };
    let parts = parse(template)?;
    for (i, part) in parts.iter().enumerate() {
        if reader.rest.is_empty() {
            break;
        }
        match part {
            Part::Quoted(quoted) => reader.skip(quoted.chars().count()),
            Part::Literal(literal) => reader.separator(literal),
            Part::Field { field, ordinal, .. } => {
                let next_is_digits = matches!(parts.get(i + 1), Some(Part::Field { field, .. }) if is_number(*field));
                reader.field(*field, next_is_digits)?;
                if ordinal.is_some() {
                    reader.skip(2);
                }
            }
        }
    }
    Ok(reader.parsed)
}

fn is_number(field: Field) -> bool {
    !matches!(
        field,
        Field::MonthName { .. }
            | Field::DayName { .. }
            | Field::RomanMonth { .. }
            | Field::Era { .. }
            | Field::Meridian { .. }
            | Field::Zone { .. }
            | Field::Offset
    )
}

struct Reader<'a> {
    rest: &'a str,
    parsed: Parsed,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, characters: usize) {
        let at = self.rest.char_indices().nth(characters);
        self.rest = at.map_or("", |(at, _)| &self.rest[at..]);
    }

    /// A separator of the template takes any separator of the text, or none; blanks may surround it. A letter takes
    /// any character.
    fn separator(&mut self, literal: &str) {
        let is_separator = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric();
        if literal.starts_with(is_separator) {
            let trimmed = self.rest.trim_start();
            let is_blank = literal.starts_with(' ');
            let takes = trimmed.starts_with(|c: char| is_separator(c) && c != '+')
                && !(is_blank && trimmed.len() < self.rest.len());
            // a minus in front of digits may be a sign of a zone's offset, which no separator stands before
            self.rest = if takes { &trimmed[1..] } else { trimmed };
        } else {
            self.skip(1);
        }
    }

    fn number(&mut self, field: &str, most: usize) -> Result<(i64, usize)> {
        self.rest = self.rest.trim_start();
        let sign = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self.rest[sign..]
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if digits == 0 {
            let word: String = self.rest.chars().take(most.min(20)).collect();
            return exec_err!("invalid value \"{word}\" for \"{field}\"");
        }
        let (number, rest) = self.rest.split_at(sign + digits);
        self.rest = rest;
        match number.parse() {
            Ok(value) => Ok((value, digits)),
            Err(_) => exec_err!("value for \"{field}\" in source string is out of range"),
        }
    }

    /// A number that takes all digits unless another number follows directly.
    fn free(&mut self, field: &str, width: usize, next_is_digits: bool) -> Result<(i64, usize)> {
        self.number(field, if next_is_digits { width } else { 18 })
    }

    fn named(&mut self, names: &[&str], field: &str) -> Result<usize> {
        self.rest = self.rest.trim_start();
        let lower = self.rest.to_ascii_lowercase();
        // the longest name that fits
        let found = names
            .iter()
            .enumerate()
            .filter(|(_, name)| lower.starts_with(&name.to_ascii_lowercase()))
            .max_by_key(|(_, name)| name.len());
        match found {
            Some((index, name)) => {
                self.rest = &self.rest[name.len()..];
                Ok(index)
            }
            None => {
                let word: String = self
                    .rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric())
                    .collect();
                exec_err!("invalid value \"{word}\" for \"{field}\"")
            }
        }
    }

    fn field(&mut self, field: Field, next_is_digits: bool) -> Result<()> {
        match field {
            Field::Year(digits) => {
                let (year, read) = self.free("YYYY", digits, next_is_digits)?;
                self.parsed.year = Some(if digits < 4 && read < 4 {
                    full_year(year, digits)
                } else {
                    year
                });
            }
            Field::YearWithComma => {
                let (thousands, _) = self.number("Y,YYY", 18)?;
                self.separator(",");
                let (rest, _) = self.number("Y,YYY", 3)?;
                self.parsed.year = Some(thousands * 1000 + rest);
            }
            Field::IsoYear(digits) => {
                self.parsed.iso_year = Some(self.free("IYYY", digits, next_is_digits)?.0);
            }
            Field::Century => self.parsed.century = Some(self.number("CC", 2)?.0),
            Field::Month => self.parsed.month = Some(self.number("MM", 2)?.0),
            Field::Day => self.parsed.day = Some(self.number("DD", 2)?.0),
            Field::DayOfYear | Field::IsoDayOfYear => {
                self.parsed.day_of_year = Some(self.number("DDD", 3)?.0);
            }
            Field::IsoWeek => self.parsed.iso_week = Some(self.number("IW", 2)?.0),
            Field::IsoWeekday => self.parsed.iso_weekday = Some(self.number("ID", 1)?.0),
            Field::Julian => self.parsed.julian = Some(self.number("J", 18)?.0),
            Field::Hour12 => {
                self.parsed.hour = Some(self.number("HH12", 2)?.0);
                self.parsed.is_12_hours = true;
            }
            Field::Hour24 => self.parsed.hour = Some(self.number("HH24", 2)?.0),
            Field::Minute => self.parsed.minute = self.number("MI", 2)?.0,
            Field::Second => self.parsed.second = self.number("SS", 2)?.0,
            Field::Milliseconds => self.fraction("MS", 3)?,
            Field::Microseconds => self.fraction("US", 6)?,
            Field::Fraction(digits) => self.fraction("FF", digits)?,
            Field::SecondsOfDay => {
                let (seconds, _) = self.number("SSSS", 5)?;
                self.parsed.hour = Some(seconds / 3600);
                self.parsed.minute = seconds / 60 % 60;
                self.parsed.second = seconds % 60;
            }
            // read, but of no influence
            Field::Weekday | Field::Week | Field::WeekOfMonth | Field::Quarter => {
                self.number("D", 2)?;
            }
            named => self.name(named)?,
        }
        Ok(())
    }

    /// Digits behind the point, as many as there are.
    fn fraction(&mut self, field: &str, most: usize) -> Result<()> {
        let (value, digits) = self.number(field, most)?;
        self.parsed.fraction_us = value * 10i64.pow(6 - digits as u32);
        Ok(())
    }

    fn name(&mut self, field: Field) -> Result<()> {
        match field {
            Field::MonthName { is_short, .. } => {
                let short: Vec<&str> = MONTHS.iter().map(|m| &m[..3]).collect();
                let index = if is_short {
                    self.named(&short, "MON")?
                } else {
                    self.named(&MONTHS, "MONTH")?
                };
                self.parsed.month = Some(index as i64 + 1);
            }
            Field::RomanMonth { .. } => {
                self.parsed.month = Some(self.named(&ROMAN_MONTHS, "RM")? as i64 + 1);
            }
            Field::DayName { is_short, .. } => {
                let short: Vec<&str> = WEEKDAYS.iter().map(|d| &d[..3]).collect();
                if is_short {
                    self.named(&short, "DY")?;
                } else {
                    self.named(&WEEKDAYS, "DAY")?;
                }
            }
            Field::Meridian { .. } => {
                let index = self.named(&["am", "pm", "a.m.", "p.m."], "AM")?;
                self.parsed.is_pm = Some(index % 2 == 1);
            }
            Field::Era { .. } => {
                let index = self.named(&["ad", "bc", "a.d.", "b.c."], "BC")?;
                self.parsed.is_bc = index % 2 == 1;
            }
            _ => {
                let end = self
                    .rest
                    .find(|c: char| c.is_whitespace())
                    .unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                let zone = if word.starts_with(['+', '-']) {
                    parse_offset(word).map(SessionTimeZone::fixed)
                } else {
                    zone_of_name(word)
                };
                if zone.is_none() {
                    return exec_err!("invalid value \"{word}\" for \"TZ\"");
                }
                self.parsed.zone = zone;
                self.rest = rest;
            }
        }
        Ok(())
    }
}

/// The year nearest to 2020 that ends so.
fn full_year(year: i64, digits: usize) -> i64 {
    match digits {
        1 => 2000 + if year < 10 { year } else { year % 1000 },
        2 if year < 70 => year + 2000,
        2 if year < 100 => year + 1900,
        3 if year < 100 => year + 2000,
        3 if year < 520 => year + 2000,
        3 if year < 1000 => year + 1000,
        _ => year,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg_text::output::{put_timestamp, text_of};

    #[test]
    fn texts_are_read_by_templates() {
        for (text, template, expected) in [
            ("05 Dec 2000", "DD Mon YYYY", "2000-12-05 00:00:00"),
            (
                "2024-01-31 13:14:15",
                "YYYY-MM-DD HH24:MI:SS",
                "2024-01-31 13:14:15",
            ),
            (
                "2024-01-31 01:14 PM",
                "YYYY-MM-DD HH12:MI PM",
                "2024-01-31 13:14:00",
            ),
            ("20240131", "YYYYMMDD", "2024-01-31 00:00:00"),
            ("12:34:56.7", "HH24:MI:SS.MS", "0001-01-01 12:34:56.7 BC"),
            ("2024-031", "YYYY-DDD", "2024-01-31 00:00:00"),
            ("2024/1/5", "YYYY-MM-DD", "2024-01-05 00:00:00"),
            ("Jan  5, 24", "Mon DD, YY", "2024-01-05 00:00:00"),
            (
                "2024-01-31T01:02",
                "YYYY-MM-DD\"T\"HH24:MI",
                "2024-01-31 01:02:00",
            ),
            ("2024 W05 3", "IYYY \"W\"IW ID", "2024-01-31 00:00:00"),
        ] {
            let us = read(text, template)
                .and_then(|parsed| parsed.timestamp(&SessionTimeZone::UTC))
                .unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(text_of(|out| put_timestamp(out, us)), expected, "{text}");
        }
        let wrong = |text: &str, template: &str| {
            read(text, template)
                .and_then(|parsed| parsed.timestamp(&SessionTimeZone::UTC))
                .is_err()
        };
        assert!(wrong("2024-13-01", "YYYY-MM-DD"));
        assert!(wrong("x", "YYYY"));
        assert!(wrong("13:00", "HH12:MI"));
    }
}
