//! Templates of dates and times: `YYYY-MM-DD "at" FMHH24:MI`.

use datafusion::common::{Result, exec_err};

/// What a part of a template stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Year(usize),
    YearWithComma,
    IsoYear(usize),
    Century,
    Era {
        is_lower: bool,
        has_points: bool,
    },
    Month,
    MonthName {
        case: Case,
        is_short: bool,
    },
    RomanMonth {
        is_lower: bool,
    },
    Week,
    IsoWeek,
    WeekOfMonth,
    Day,
    DayOfYear,
    IsoDayOfYear,
    Weekday,
    IsoWeekday,
    DayName {
        case: Case,
        is_short: bool,
    },
    Julian,
    Quarter,
    Hour12,
    Hour24,
    Minute,
    Second,
    /// Decimals of a second.
    Fraction(usize),
    Milliseconds,
    Microseconds,
    SecondsOfDay,
    Meridian {
        is_lower: bool,
        has_points: bool,
    },
    Zone {
        is_lower: bool,
    },
    Offset,
    OffsetHours,
    OffsetMinutes,
}

/// How a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Upper,
    Title,
    Lower,
}

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Field {
        field: Field,
        /// FM: without blanks and zeros in front.
        is_tight: bool,
        /// `TH` or `th`.
        ordinal: Option<Case>,
    },
    /// What stands there.
    Literal(String),
    /// What stood in quotes: skipped blindly when reading.
    Quoted(String),
}

/// Longest first, so that the first that fits is right.
const KEYWORDS: &[(&str, Field)] = {
    use Case::{Lower, Title, Upper};
    use Field::*;
    &[
        ("Y,YYY", YearWithComma),
        ("y,yyy", YearWithComma),
        ("SSSSS", SecondsOfDay),
        ("sssss", SecondsOfDay),
        (
            "MONTH",
            MonthName {
                case: Upper,
                is_short: false,
            },
        ),
        (
            "Month",
            MonthName {
                case: Title,
                is_short: false,
            },
        ),
        (
            "month",
            MonthName {
                case: Lower,
                is_short: false,
            },
        ),
        (
            "A.D.",
            Era {
                is_lower: false,
                has_points: true,
            },
        ),
        (
            "a.d.",
            Era {
                is_lower: true,
                has_points: true,
            },
        ),
        (
            "B.C.",
            Era {
                is_lower: false,
                has_points: true,
            },
        ),
        (
            "b.c.",
            Era {
                is_lower: true,
                has_points: true,
            },
        ),
        (
            "A.M.",
            Meridian {
                is_lower: false,
                has_points: true,
            },
        ),
        (
            "a.m.",
            Meridian {
                is_lower: true,
                has_points: true,
            },
        ),
        (
            "P.M.",
            Meridian {
                is_lower: false,
                has_points: true,
            },
        ),
        (
            "p.m.",
            Meridian {
                is_lower: true,
                has_points: true,
            },
        ),
        ("HH12", Hour12),
        ("hh12", Hour12),
        ("HH24", Hour24),
        ("hh24", Hour24),
        ("SSSS", SecondsOfDay),
        ("ssss", SecondsOfDay),
        ("YYYY", Year(4)),
        ("yyyy", Year(4)),
        ("IYYY", IsoYear(4)),
        ("iyyy", IsoYear(4)),
        ("IDDD", IsoDayOfYear),
        ("iddd", IsoDayOfYear),
        (
            "DAY",
            DayName {
                case: Upper,
                is_short: false,
            },
        ),
        (
            "Day",
            DayName {
                case: Title,
                is_short: false,
            },
        ),
        (
            "day",
            DayName {
                case: Lower,
                is_short: false,
            },
        ),
        ("DDD", DayOfYear),
        ("ddd", DayOfYear),
        ("FF1", Fraction(1)),
        ("FF2", Fraction(2)),
        ("FF3", Fraction(3)),
        ("FF4", Fraction(4)),
        ("FF5", Fraction(5)),
        ("FF6", Fraction(6)),
        ("ff1", Fraction(1)),
        ("ff2", Fraction(2)),
        ("ff3", Fraction(3)),
        ("ff4", Fraction(4)),
        ("ff5", Fraction(5)),
        ("ff6", Fraction(6)),
        (
            "MON",
            MonthName {
                case: Upper,
                is_short: true,
            },
        ),
        (
            "Mon",
            MonthName {
                case: Title,
                is_short: true,
            },
        ),
        (
            "mon",
            MonthName {
                case: Lower,
                is_short: true,
            },
        ),
        ("TZH", OffsetHours),
        ("tzh", OffsetHours),
        ("TZM", OffsetMinutes),
        ("tzm", OffsetMinutes),
        ("YYY", Year(3)),
        ("yyy", Year(3)),
        ("IYY", IsoYear(3)),
        ("iyy", IsoYear(3)),
        (
            "AD",
            Era {
                is_lower: false,
                has_points: false,
            },
        ),
        (
            "ad",
            Era {
                is_lower: true,
                has_points: false,
            },
        ),
        (
            "BC",
            Era {
                is_lower: false,
                has_points: false,
            },
        ),
        (
            "bc",
            Era {
                is_lower: true,
                has_points: false,
            },
        ),
        (
            "AM",
            Meridian {
                is_lower: false,
                has_points: false,
            },
        ),
        (
            "am",
            Meridian {
                is_lower: true,
                has_points: false,
            },
        ),
        (
            "PM",
            Meridian {
                is_lower: false,
                has_points: false,
            },
        ),
        (
            "pm",
            Meridian {
                is_lower: true,
                has_points: false,
            },
        ),
        ("CC", Century),
        ("cc", Century),
        ("DD", Day),
        ("dd", Day),
        (
            "DY",
            DayName {
                case: Upper,
                is_short: true,
            },
        ),
        (
            "Dy",
            DayName {
                case: Title,
                is_short: true,
            },
        ),
        (
            "dy",
            DayName {
                case: Lower,
                is_short: true,
            },
        ),
        ("HH", Hour12),
        ("hh", Hour12),
        ("ID", IsoWeekday),
        ("id", IsoWeekday),
        ("IW", IsoWeek),
        ("iw", IsoWeek),
        ("IY", IsoYear(2)),
        ("iy", IsoYear(2)),
        ("MI", Minute),
        ("mi", Minute),
        ("MM", Month),
        ("mm", Month),
        ("MS", Milliseconds),
        ("ms", Milliseconds),
        ("OF", Offset),
        ("of", Offset),
        ("RM", RomanMonth { is_lower: false }),
        ("rm", RomanMonth { is_lower: true }),
        ("SS", Second),
        ("ss", Second),
        ("TZ", Zone { is_lower: false }),
        ("tz", Zone { is_lower: true }),
        ("US", Microseconds),
        ("us", Microseconds),
        ("WW", Week),
        ("ww", Week),
        ("YY", Year(2)),
        ("yy", Year(2)),
        ("D", Weekday),
        ("d", Weekday),
        ("I", IsoYear(1)),
        ("i", IsoYear(1)),
        ("J", Julian),
        ("j", Julian),
        ("Q", Quarter),
        ("q", Quarter),
        ("W", WeekOfMonth),
        ("w", WeekOfMonth),
        ("Y", Year(1)),
        ("y", Year(1)),
    ]
};

/// The parts of a template; adjacent characters that mean nothing are one literal each.
pub fn parse(template: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let (quoted, after) = quoted(&rest[1..]);
            parts.push(Part::Quoted(quoted));
            rest = after;
            continue;
        }
        let mut is_tight = false;
        let mut body = rest;
        loop {
            if body.starts_with("FM") || body.starts_with("fm") {
                is_tight = true;
                body = &body[2..];
            } else if body.starts_with("FX") || body.starts_with("TM") {
                return exec_err!("template prefix \"{}\" is not supported", &body[..2]);
            } else {
                break;
            }
        }
        if let Some((keyword, field)) = KEYWORDS.iter().find(|(k, _)| body.starts_with(k)) {
            body = &body[keyword.len()..];
            let ordinal = if body.starts_with("TH") {
                Some(Case::Upper)
            } else if body.starts_with("th") {
                Some(Case::Lower)
            } else {
                None
            };
            if ordinal.is_some() {
                body = &body[2..];
            }
            parts.push(Part::Field {
                field: *field,
                is_tight,
                ordinal,
            });
            rest = body;
            continue;
        }
        if is_tight {
            // a prefix of nothing
            rest = body;
            continue;
        }
        let (c, width) = match (c, rest[1..].chars().next()) {
            ('\\', Some(escaped @ '"')) => (escaped, 2),
            _ => (c, c.len_utf8()),
        };
        parts.push(Part::Literal(c.to_string()));
        rest = &rest[width..];
    }
    Ok(parts)
}

/// What a quoted text says, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut said = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (said, &text[at + 1..]),
            '\\' => {
                if let Some((_, c)) = characters.next() {
                    said.push(c);
                }
            }
            c => said.push(c),
        }
    }
    (said, "")
}

pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// From Sunday.
pub const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

pub const ROMAN_MONTHS: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
