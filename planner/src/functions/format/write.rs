//! Dates, times and intervals by a template.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_err};

use super::template::{Case, Field, MONTHS, Part, ROMAN_MONTHS, WEEKDAYS, parse};
use crate::pg_text::calendar::{civil_from_days, day_of_year, iso_week, iso_weekday};

/// Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;

/// A local time, with its zone if it has one.
pub struct Moment {
    /// Since 1970.
    pub days: i64,
    /// Microseconds since midnight.
    pub in_day: i64,
    pub east_s: Option<i32>,
    pub zone: Option<String>,
}

/// A timestamp as the template asks.
pub fn timestamp(moment: &Moment, template: &str) -> Result<String> {
    write_parts(template, |field, is_tight| {
        let text = match of_day(moment.days, field, is_tight) {
            Some(text) => Some(text),
            None => of_clock(i128::from(moment.in_day), field, is_tight),
        };
        match text {
            Some(text) => Ok(text),
            None => Ok(of_zone(moment, field)),
        }
    })
}

/// An interval as the template asks; what only a date has is refused.
pub fn interval(span: IntervalMonthDayNano, template: &str) -> Result<String> {
    let us = i128::from(span.nanoseconds / 1000);
    let (years, months) = (i64::from(span.months / 12), i64::from(span.months % 12));
    write_parts(template, |field, is_tight| {
        if let Some(text) = of_clock(us, field, is_tight) {
            return Ok(text);
        }
        Ok(match field {
            Field::Year(digits) => year_text(years, digits, is_tight),
            Field::Month => padded(months, 2, is_tight),
            Field::Day => padded(i64::from(span.days), 2, is_tight),
            Field::Quarter => (months / 3 + 1).to_string(),
            _ => {
                return exec_err!(
                    "invalid format specification for an interval value: \"{template}\""
                );
            }
        })
    })
}

fn write_parts(
    template: &str,
    mut text_of: impl FnMut(Field, bool) -> Result<String>,
) -> Result<String> {
    let mut out = String::with_capacity(template.len() + 8);
    for part in parse(template)? {
        match part {
            Part::Literal(text) | Part::Quoted(text) => out.push_str(&text),
            Part::Field {
                field,
                is_tight,
                ordinal,
            } => {
                let text = text_of(field, is_tight)?;
                out.push_str(&text);
                if let Some(case) = ordinal {
                    out.push_str(&ordinal_of(&text, case));
                }
            }
        }
    }
    Ok(out)
}

/// `st`, `nd`, `rd` or `th`, by the last digits.
pub fn ordinal_of(number: &str, case: Case) -> String {
    let digits: Vec<u8> = number.bytes().filter(u8::is_ascii_digit).collect();
    let suffix = match digits.as_slice() {
        [.., b'1', _] => "th",
        [.., b'1'] => "st",
        [.., b'2'] => "nd",
        [.., b'3'] => "rd",
        _ => "th",
    };
    cased(suffix, case)
}

fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_uppercase(),
        Case::Title => text.to_string(),
        Case::Lower => text.to_lowercase(),
    }
}

fn padded(number: i64, width: usize, is_tight: bool) -> String {
    if is_tight {
        return number.to_string();
    }
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:0width$}", number.unsigned_abs())
}

/// The last `digits` digits of a year, or all of a long one.
fn year_text(year: i64, digits: usize, is_tight: bool) -> String {
    if digits >= 4 {
        return padded(year, 4, is_tight);
    }
    padded(year.abs() % 10i64.pow(digits as u32), digits, is_tight)
}

fn name(name: &str, case: Case, is_short: bool, is_tight: bool) -> String {
    let text = cased(if is_short { &name[..3] } else { name }, case);
    if is_short || is_tight {
        text
    } else {
        format!("{text:<9}")
    }
}

fn of_day(days: i64, field: Field, is_tight: bool) -> Option<String> {
    let (year, month, day) = civil_from_days(days);
    // 1 BC is the year 0 of the calendar
    let shown = if year > 0 { year } else { 1 - year };
    let (iso_year, week) = iso_week(days);
    let weekday = iso_weekday(days);
    Some(match field {
        Field::Year(digits) => year_text(shown, digits, is_tight),
        Field::YearWithComma => format!("{},{:03}", shown / 1000, shown % 1000),
        Field::IsoYear(digits) => year_text(
            if iso_year > 0 { iso_year } else { 1 - iso_year },
            digits,
            is_tight,
        ),
        Field::Century => {
            let century = if year > 0 {
                (year + 99) / 100
            } else {
                -((shown + 99) / 100)
            };
            padded(century, 2, is_tight)
        }
        Field::Era {
            is_lower,
            has_points,
        } => {
            let era = match (year > 0, has_points) {
                (true, false) => "AD",
                (true, true) => "A.D.",
                (false, false) => "BC",
                (false, true) => "B.C.",
            };
            cased(era, if is_lower { Case::Lower } else { Case::Upper })
        }
        Field::Month => padded(i64::from(month), 2, is_tight),
        Field::MonthName { case, is_short } => {
            name(MONTHS[month as usize - 1], case, is_short, is_tight)
        }
        Field::RomanMonth { is_lower } => {
            let case = if is_lower { Case::Lower } else { Case::Upper };
            let roman = cased(ROMAN_MONTHS[month as usize - 1], case);
            if is_tight {
                roman
            } else {
                format!("{roman:<4}")
            }
        }
        Field::Week => padded((day_of_year(days) - 1) / 7 + 1, 2, is_tight),
        Field::IsoWeek => padded(week, 2, is_tight),
        Field::WeekOfMonth => (i64::from(day - 1) / 7 + 1).to_string(),
        Field::Day => padded(i64::from(day), 2, is_tight),
        Field::DayOfYear => padded(day_of_year(days), 3, is_tight),
        Field::IsoDayOfYear => padded((week - 1) * 7 + weekday, 3, is_tight),
        Field::Weekday => (weekday % 7 + 1).to_string(),
        Field::IsoWeekday => weekday.to_string(),
        Field::DayName { case, is_short } => {
            name(WEEKDAYS[(weekday % 7) as usize], case, is_short, is_tight)
        }
        Field::Julian => (days + JULIAN_EPOCH).to_string(),
        Field::Quarter => (i64::from(month - 1) / 3 + 1).to_string(),
        _ => return None,
    })
}

fn of_clock(us: i128, field: Field, is_tight: bool) -> Option<String> {
    let hours = (us / 3_600_000_000) as i64;
    let part = |unit: i128, modulus: i128| (us / unit % modulus) as i64;
    Some(match field {
        Field::Hour24 => padded(hours, 2, is_tight),
        Field::Hour12 => match hours % 12 {
            0 => padded(12, 2, is_tight),
            hour => padded(hour, 2, is_tight),
        },
        Field::Minute => padded(part(60_000_000, 60), 2, is_tight),
        Field::Second => padded(part(1_000_000, 60), 2, is_tight),
        Field::Milliseconds => padded(part(1000, 1000), 3, is_tight),
        Field::Microseconds => padded(part(1, 1_000_000), 6, is_tight),
        Field::Fraction(digits) => {
            let unit = 10i64.pow(6 - digits as u32);
            padded(part(1, 1_000_000) / unit, digits, false)
        }
        Field::SecondsOfDay => (us / 1_000_000).to_string(),
        Field::Meridian {
            is_lower,
            has_points,
        } => {
            let is_pm = hours.rem_euclid(24) >= 12;
            let text = match (is_pm, has_points) {
                (false, false) => "AM",
                (false, true) => "A.M.",
                (true, false) => "PM",
                (true, true) => "P.M.",
            };
            cased(text, if is_lower { Case::Lower } else { Case::Upper })
        }
        _ => return None,
    })
}

fn of_zone(moment: &Moment, field: Field) -> String {
    let east_s = moment.east_s.unwrap_or(0);
    let sign = if east_s < 0 { '-' } else { '+' };
    let minutes = east_s.unsigned_abs() / 60;
    match field {
        Field::Zone { is_lower } => {
            let zone = moment.zone.clone().unwrap_or_default();
            if is_lower { zone.to_lowercase() } else { zone }
        }
        Field::OffsetHours => format!("{sign}{:02}", minutes / 60),
        Field::OffsetMinutes => format!("{:02}", minutes % 60),
        _ if minutes.is_multiple_of(60) => format!("{sign}{:02}", minutes / 60),
        _ => format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::datetime::split_day;
    use crate::pg_text::datetime_input::parse_timestamp;

    #[test]
    fn templates_are_filled_in() {
        let (days, in_day) = split_day(parse_timestamp("2002-04-20 17:31:12.66").unwrap());
        let moment = Moment {
            days,
            in_day,
            east_s: Some(19_800),
            zone: Some("IST".to_string()),
        };
        for (template, expected) in [
            ("YYYY-MM-DD HH24:MI:SS.MS", "2002-04-20 17:31:12.660"),
            ("Day, DD  HH12:MI:SS", "Saturday , 20  05:31:12"),
            ("FMMonth DDth, YYYY", "April 20th, 2002"),
            ("YYYY-\"W\"IW IYYY", "2002-W16 2002"),
            ("Q DDD WW D ID J", "2 110 16 7 6 2452385"),
            ("YY Y,YYY MONTH MON mon", "02 2,002 APRIL     APR apr"),
            ("HH:MI AM am P.M.", "05:31 PM pm P.M."),
            ("US SSSS FF3", "660000 63072 660"),
            ("CC RM rm BC", "21 IV   iv   AD"),
            ("TZ OF TZH", "IST +05:30 +05"),
        ] {
            assert_eq!(
                timestamp(&moment, template).unwrap(),
                expected,
                "{template}"
            );
        }
    }
}
