//! `pg_timezone_names`: the zones that `SET timezone` takes, with what their clocks show now.

use chrono::{Offset, TimeZone, Utc};
use chrono_tz::{OffsetComponents, OffsetName, TZ_VARIANTS};

use crate::rows::ColumnType::{Bool, Interval, Text};
use crate::rows::{Cell, Column, Rows};

const NAMES: &[Column] = &[
    ("name", Text),
    ("abbrev", Text),
    ("utc_offset", Interval),
    ("is_dst", Bool),
];

/// There are none: a zone is named in full.
pub const ABBREVIATIONS: &[Column] =
    &[("abbrev", Text), ("utc_offset", Interval), ("is_dst", Bool)];

pub fn names() -> Rows {
    let now = Utc::now().naive_utc();
    let mut rows = Rows::new(NAMES);
    for zone in TZ_VARIANTS {
        let offset = zone.offset_from_utc_datetime(&now);
        let seconds = offset.fix().local_minus_utc();
        rows.push(vec![
            zone.name().into(),
            offset.abbreviation().map(str::to_string).into(),
            Cell::Int(i64::from(seconds) * 1_000_000),
            (!offset.dst_offset().is_zero()).into(),
        ]);
    }
    rows
}
