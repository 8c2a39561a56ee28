//! A session's time zone: its offset at any moment, and the moment of any local time.

use std::str::FromStr;

use chrono::{DateTime, LocalResult, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// Beyond this many microseconds from 1970 (about 250,000 years) a zone's rules are no longer looked up.
const LOOKUP_LIMIT_US: i64 = 250_000 * 366 * 86_400 * MICROS_PER_SECOND;

/// The value of the setting `TimeZone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionTimeZone {
    Named(Tz),
    /// A constant offset in seconds east of Greenwich, with the text that `SHOW TimeZone` prints.
    Fixed {
        east_s: i32,
        name: String,
    },
}

impl SessionTimeZone {
    pub const UTC: SessionTimeZone = SessionTimeZone::Named(Tz::UTC);

    /// Reads what `SET TimeZone` takes: a zone's name (case does not matter), a number of hours east (`-3`, `5.5`), or
    /// a POSIX abbreviation with an offset, which counts west (`UTC+3`, `<+05:30>-05:30`, `+05:30`). `None` if there
    /// is no such zone.
    pub fn parse(text: &str) -> Option<SessionTimeZone> {
        let text = text.trim();
        if let Ok(zone) = Tz::from_str(text) {
            return Some(SessionTimeZone::Named(zone));
        }
        if let Some(zone) = TZ_VARIANTS
            .iter()
            .find(|z| z.name().eq_ignore_ascii_case(text))
        {
            return Some(SessionTimeZone::Named(*zone));
        }
        if text.eq_ignore_ascii_case("z") {
            return Some(SessionTimeZone::UTC);
        }
        if let Ok(hours) = text.parse::<f64>() {
            if !(-15.99..=15.99).contains(&hours) {
                return None;
            }
            return Some(SessionTimeZone::fixed((hours * 3600.0).round() as i32));
        }
        let offset = match text.strip_prefix('<') {
            Some(quoted) => quoted.split_once('>')?.1,
            None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
        };
        let east_s = -parse_offset(offset)?;
        Some(SessionTimeZone::Fixed {
            east_s,
            name: text.to_string(),
        })
    }

    /// A zone that is always so many seconds east of Greenwich.
    pub fn fixed(east_s: i32) -> SessionTimeZone {
        SessionTimeZone::Fixed {
            east_s,
            name: fixed_name(east_s),
        }
    }

    /// The zone's name, as `SHOW TimeZone` prints it.
    pub fn name(&self) -> &str {
        match self {
            SessionTimeZone::Named(zone) => zone.name(),
            SessionTimeZone::Fixed { name, .. } => name,
        }
    }

    /// Seconds east of Greenwich at a moment (microseconds since 1970, UTC).
    pub fn offset_at(&self, utc_us: i64) -> i32 {
        match self {
            SessionTimeZone::Named(Tz::UTC) => 0,
            SessionTimeZone::Fixed { east_s, .. } => *east_s,
            SessionTimeZone::Named(zone) => match naive(utc_us) {
                Some(utc) => zone.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// What the zone calls itself at a moment: `CEST`, `+02`.
    pub fn abbreviation_at(&self, utc_us: i64) -> String {
        match self {
            SessionTimeZone::Fixed { east_s, .. } => {
                let sign = if *east_s < 0 { '-' } else { '+' };
                let minutes = east_s.unsigned_abs() / 60;
                match minutes % 60 {
                    0 => format!("{sign}{:02}", minutes / 60),
                    rest => format!("{sign}{:02}:{rest:02}", minutes / 60),
                }
            }
            SessionTimeZone::Named(zone) => match naive(utc_us) {
                Some(utc) => zone.offset_from_utc_datetime(&utc).to_string(),
                None => String::new(),
            },
        }
    }

    /// The moment of a local time, both in microseconds since 1970. A local time that a change of clocks skips or
    /// repeats is read in standard time, as PostgreSQL does.
    pub fn local_to_utc(&self, local_us: i64) -> i64 {
        let east_s = match self {
            SessionTimeZone::Fixed { east_s, .. } => *east_s,
            SessionTimeZone::Named(zone) => match naive(local_us) {
                Some(local) => local_offset(zone, &local),
                None => 0,
            },
        };
        local_us.saturating_sub(i64::from(east_s) * MICROS_PER_SECOND)
    }
}

fn naive(us: i64) -> Option<NaiveDateTime> {
    let us = us.clamp(-LOOKUP_LIMIT_US, LOOKUP_LIMIT_US);
    DateTime::from_timestamp_micros(us).map(|t| t.naive_utc())
}

fn local_offset(zone: &Tz, local: &NaiveDateTime) -> i32 {
    let found: MappedLocalTime<_> = zone.offset_from_local_datetime(local);
    match found {
        LocalResult::Single(offset) => offset.fix().local_minus_utc(),
        LocalResult::Ambiguous(a, b) => {
            // The later moment, after clocks have gone back.
            a.fix().local_minus_utc().min(b.fix().local_minus_utc())
        }
        LocalResult::None => {
            let before = *local - chrono::Duration::hours(24);
            match zone.offset_from_local_datetime(&before) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
                    offset.fix().local_minus_utc()
                }
                LocalResult::None => 0,
            }
        }
    }
}

/// `+05:30`, `-0330`, `+5`, `05:30:15`: seconds east.
pub fn parse_offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => (1, text),
    };
    let parts: Vec<&str> = if digits.contains(':') {
        digits.split(':').collect()
    } else if digits.len() > 2 && digits.is_ascii() {
        let hours = digits.len() - 2;
        vec![&digits[..hours], &digits[hours..]]
    } else {
        vec![digits]
    };
    if parts.len() > 3 {
        return None;
    }
    let mut total = 0;
    for (i, part) in parts.iter().enumerate() {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let value: i32 = part.parse().ok()?;
        let (limit, unit) = [(15, 3600), (59, 60), (59, 1)][i];
        if value > limit {
            return None;
        }
        total += value * unit;
    }
    Some(sign * total)
}

/// PostgreSQL names a constant offset in POSIX style, whose sign is the other way round.
fn fixed_name(east_s: i32) -> String {
    let sign = |negative: bool| if negative { '-' } else { '+' };
    let clock = |seconds: i32| {
        let seconds = seconds.abs();
        match (seconds / 3600, seconds / 60 % 60) {
            (h, 0) => format!("{h:02}"),
            (h, m) => format!("{h:02}:{m:02}"),
        }
    };
    format!(
        "<{}{}>{}{}",
        sign(east_s < 0),
        clock(east_s),
        sign(east_s > 0),
        clock(east_s)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_name_and_offset() {
        let cases = [
            ("utc", Some("UTC")),
            ("europe/BERLIN", Some("Europe/Berlin")),
            ("5.5", Some("<+05:30>-05:30")),
            ("-3", Some("<-03>+03")),
            ("GMT-05:30", Some("GMT-05:30")),
            ("Mars/Olympus", None),
            ("+25:00", None),
            ("", None),
        ];
        for (text, name) in cases {
            let zone = SessionTimeZone::parse(text);
            assert_eq!(zone.as_ref().map(SessionTimeZone::name), name, "{text}");
        }
        for (text, east_s) in [
            ("5.5", 19_800),
            ("+05:30", -19_800),
            ("<+05:30>-05:30", 19_800),
            ("UTC+3", -10_800),
        ] {
            assert_eq!(
                SessionTimeZone::parse(text).map(|z| z.offset_at(0)),
                Some(east_s),
                "{text}"
            );
        }
    }

    #[test]
    fn local_times_at_clock_changes_follow_postgres() {
        let zone = SessionTimeZone::parse("America/New_York").unwrap();
        let hour = 3600 * MICROS_PER_SECOND;
        // 2026-03-08 02:30 does not exist: read as EST. 2026-11-01 01:30 occurs twice: read as EST.
        for local_s in [1_772_937_000i64, 1_793_496_600] {
            let local = local_s * MICROS_PER_SECOND;
            assert_eq!(zone.local_to_utc(local), local + 5 * hour);
        }
        // 2026-07-01 12:00 UTC is summer time.
        assert_eq!(zone.offset_at(1_782_907_200 * MICROS_PER_SECOND), -4 * 3600);
    }
}
