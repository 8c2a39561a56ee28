//! The options that go with a `WATERMARK`: which rows are late, what becomes of them, and what a silent partition means.

use std::collections::BTreeMap;

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;

use crate::error::{PlanError, Result};

/// A row may lie so far ahead of the time at which Kafka got it, if nothing else is said: an hour.
const MAX_FUTURE_US: i64 = 3_600_000_000;

/// The options' names.
pub const NAMES: [&str; 4] = ["late", "idle_timeout", "watermark_on_idle", "max_future"];

/// See the module text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkOptions {
    /// `late = 'include'`: late rows are counted, but go on to the views.
    pub includes_late: bool,
    /// A partition that has been silent for so long does not hold the watermark back.
    pub idle_timeout_us: Option<i64>,
    /// `watermark_on_idle = 'processing_time'`: while all partitions are silent, the watermark follows the clock.
    pub follows_clock: bool,
    /// A row further ahead of its message's own timestamp is a dead letter.
    pub max_future_us: i64,
}

impl WatermarkOptions {
    /// The options among those of `WITH (…)`.
    pub fn of(options: &BTreeMap<String, String>) -> Result<WatermarkOptions> {
        let choice = |name: &str, plain: &str, special: &str| match options.get(name) {
            None => Ok(false),
            Some(value) if value == plain => Ok(false),
            Some(value) if value == special => Ok(true),
            Some(value) => Err(PlanError::invalid_option(format!(
                "option \"{name}\" takes '{plain}' or '{special}', not '{value}'"
            ))),
        };
        let interval = |name: &str| {
            let value = options.get(name);
            let parsed =
                value.map(|text| interval_us(text).ok_or_else(|| wrong_interval(name, text)));
            parsed.transpose()
        };
        let found = WatermarkOptions {
            includes_late: choice("late", "drop", "include")?,
            idle_timeout_us: interval("idle_timeout")?,
            follows_clock: choice("watermark_on_idle", "hold", "processing_time")?,
            max_future_us: interval("max_future")?.unwrap_or(MAX_FUTURE_US),
        };
        if found.follows_clock && found.idle_timeout_us.is_none() {
            return Err(PlanError::invalid_option(
                "option \"watermark_on_idle\" = 'processing_time' needs idle_timeout, which says when a partition is idle",
            ));
        }
        Ok(found)
    }
}

fn wrong_interval(name: &str, text: &str) -> PlanError {
    PlanError::invalid_option(format!(
        "option \"{name}\" takes an interval such as '30 seconds', not '{text}'"
    ))
}

/// Microseconds of an interval of at least 0 without months; a day is 24 hours.
pub fn interval_us(text: &str) -> Option<i64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let interval = parse_interval_month_day_nano(text).ok()?;
    if interval.months != 0 {
        return None;
    }
    let days_us = i64::from(interval.days).checked_mul(86_400_000_000)?;
    let us = days_us.checked_add(interval.nanoseconds / 1000)?;
    (us >= 0).then_some(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> std::result::Result<WatermarkOptions, String> {
        let options = options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        WatermarkOptions::of(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_lose_nothing_and_guess_nothing() {
        let expected = WatermarkOptions {
            includes_late: false,
            idle_timeout_us: None,
            follows_clock: false,
            max_future_us: 3_600_000_000,
        };
        assert_eq!(of(&[("topic", "t")]), Ok(expected));
    }

    #[test]
    fn values_are_checked() {
        for (options, expected) in [
            (
                vec![("late", "never")],
                "option \"late\" takes 'drop' or 'include', not 'never'",
            ),
            (
                vec![("idle_timeout", "soon")],
                "option \"idle_timeout\" takes an interval such as '30 seconds', not 'soon'",
            ),
            (
                vec![("watermark_on_idle", "processing_time")],
                "option \"watermark_on_idle\" = 'processing_time' needs idle_timeout",
            ),
        ] {
            let error = of(&options).expect_err("it is wrong");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn intervals() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(interval_us(text), expected, "{text}");
        };
        check("30 seconds", Some(30_000_000));
        check("1 hour", Some(3_600_000_000));
        check("500 ms", Some(500_000));
        check("1 day 1 second", Some(86_401_000_000));
        check("1 month", None);
        check("-1 second", None);
        check("", None);
        check("x", None);
    }
}
