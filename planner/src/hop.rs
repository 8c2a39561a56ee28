//! The arithmetic of HOP's windows and of the panes that they are put together from.
//!
//! Windows begin every slide and last for a size. Where one begins or ends there is an edge; a pane is what lies between two
//! edges, so each time is in one pane, and a pane is wholly in a window or wholly outside. A size that is a multiple of
//! the slide has one pane per slide; any other has two, since windows end in the midst of slides:
//!
//! ```text
//! slide 3, size 7     |--a--|     |--a--|     |--a--|          panes begin with a slide, and size mod slide after it
//! edges               0  1     3  4     6  7     9  10
//! windows             [0 ............... 7)
//!                              [3 ............... 10)
//! ```
//! A slide that is longer than the size leaves gaps, which are in no pane. (Li, Maier, Tufte, Papadimos, Tucker: No pane, no
//! gain, 2005; the two panes per slide are Krishnamurthy, Wu, Franklin: On-the-fly sharing for streamed aggregation, 2006.)

use std::fmt;

use crate::functions::floor_to;
use crate::plan::BoundExpr;

/// Windows that begin `offset_us` after 1970 and every `slide_us` before and after that. Both lengths are positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HopWindows {
    pub slide_us: i64,
    pub size_us: i64,
    pub offset_us: i64,
}

/// A column by which an aggregate over windows groups.
#[derive(Debug, Clone)]
pub enum PaneKey {
    /// The window's start, and so much more.
    Window { shift_us: i64 },
    /// An expression over the input's columns.
    Column(BoundExpr),
}

impl HopWindows {
    /// The start of the pane that holds `time`; `None` in a gap, or where its windows leave the range of timestamps.
    pub fn pane_of(&self, time: i64) -> Option<i64> {
        let latest = self.latest_start(time)?;
        latest.checked_add(self.size_us)?;
        latest
            .checked_sub(self.size_us)?
            .checked_sub(self.slide_us)?;
        let (within, rest) = (time - latest, self.size_us % self.slide_us);
        match within < rest || rest == 0 {
            true => Some(latest),
            false if self.size_us < self.slide_us => None,
            false => Some(latest + rest),
        }
    }

    /// The start of the earliest window that ends after `time`.
    pub fn first_after(&self, time: i64) -> Option<i64> {
        let start = self.latest_start(time.checked_sub(self.size_us)?)?;
        start.checked_add(self.slide_us)
    }

    /// How many of the windows that hold `time` begin before `start`, which is a window's.
    pub fn count_before(&self, time: i64, start: i64) -> u64 {
        let (Some(first), Some(latest)) = (self.first_after(time), self.latest_start(time)) else {
            return 0;
        };
        let end = latest.saturating_add(self.slide_us).min(start);
        let windows = end.saturating_sub(first) / self.slide_us;
        u64::try_from(windows).unwrap_or(0)
    }

    /// Where the latest window begins that begins at `time` or before.
    fn latest_start(&self, time: i64) -> Option<i64> {
        floor_to(time, self.slide_us, self.offset_us)
    }
}

/// For EXPLAIN.
impl fmt::Display for HopWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HopWindows {
            slide_us,
            size_us,
            offset_us,
        } = self;
        write!(f, "slide={slide_us} us size={size_us} us")?;
        match offset_us {
            0 => Ok(()),
            _ => write!(f, " offset={offset_us} us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts of the windows that hold `time`, found by trying.
    fn starts(windows: HopWindows, time: i64) -> Vec<i64> {
        let all = (-100..100).map(|n| n * windows.slide_us + windows.offset_us);
        all.filter(|start| (*start..start + windows.size_us).contains(&time))
            .collect()
    }

    #[test]
    fn times_of_a_pane_are_in_the_same_windows() {
        for (slide_us, size_us, offset_us) in [
            (1, 1, 0),
            (3, 7, 0),
            (3, 6, 1),
            (5, 3, -2),
            (4, 4, 9),
            (7, 20, 3),
        ] {
            let windows = HopWindows {
                slide_us,
                size_us,
                offset_us,
            };
            for time in -30..30 {
                let expected = starts(windows, time);
                let label = format!("{windows} at {time}");
                let Some(pane) = windows.pane_of(time) else {
                    assert_eq!(expected, Vec::<i64>::new(), "{label}");
                    continue;
                };
                assert_eq!(starts(windows, pane), expected, "{label}");
                assert_eq!(
                    windows.first_after(time),
                    expected.first().copied(),
                    "{label}"
                );
                assert!(
                    (pane..=time).all(|t| windows.pane_of(t) == Some(pane)),
                    "{label}"
                );
                for start in (-12..12).map(|n| n * slide_us + offset_us) {
                    let before = expected.iter().filter(|s| **s < start).count() as u64;
                    assert_eq!(
                        windows.count_before(time, start),
                        before,
                        "{label}, {start}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_over_ends_at_the_time_or_before() {
        let windows = HopWindows {
            slide_us: 5,
            size_us: 3,
            offset_us: 0,
        };
        for (time, first) in [(2, 0), (3, 5), (4, 5), (7, 5), (8, 10), (-3, -5), (-2, 0)] {
            assert_eq!(windows.first_after(time), Some(first), "{time}");
        }
    }

    #[test]
    fn extremes_have_no_pane() {
        let windows = HopWindows {
            slide_us: 10,
            size_us: 100,
            offset_us: 0,
        };
        for time in [i64::MIN, i64::MIN + 50, i64::MAX, i64::MAX - 50] {
            assert_eq!(windows.pane_of(time), None, "{time}");
        }
    }
}
