//! `connector = 'datagen'`: rows made up at a steady rate.
//!
//! A row is a pure function of the definition and its offset, so every replay agrees. There is one partition, 0, whose
//! offsets count rows since 1970 at the source's rate: row `n` happens at second `n / rows_per_second`, and that is its
//! timestamp. Reading starts at the offset of the moment of CREATE SOURCE (or of `start_time`), which is kept with the
//! definition; sequences count from there. Rows that were due while nobody read are made up later.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rivermark_executor::source::{ReadRequest, Source, SourceError, SourceReader};
use rivermark_planner::catalog::{Encode, Format, Positions, SourceDef};

use crate::format::json::parse_timestamptz;
use crate::options::{OptionSet, OptionSpec, OptionType, integer, invalid};
use field::Generator;
use reader::DatagenReader;

mod field;
mod reader;

/// What `WITH` takes for `connector = 'datagen'`.
pub const WITH_OPTIONS: OptionSet = OptionSet {
    place: "WITH (connector = 'datagen')",
    specs: &[
        OptionSpec::required("connector", OptionType::Text),
        OptionSpec::optional(
            "rows_per_second",
            OptionType::Integer {
                min: 1,
                max: 10_000_000,
            },
        ),
        OptionSpec::optional(
            "rows",
            OptionType::Integer {
                min: 0,
                max: i64::MAX,
            },
        ),
        OptionSpec::optional("start_time", OptionType::Text),
        OptionSpec::optional(
            "seed",
            OptionType::Integer {
                min: 0,
                max: i64::MAX,
            },
        ),
        OptionSpec::optional("idle_timeout", OptionType::Interval),
        OptionSpec::optional("late", OptionType::Choice(&["drop", "include"])),
        OptionSpec::optional("max_future", OptionType::Interval),
        OptionSpec::optional(
            "watermark_on_idle",
            OptionType::Choice(&["hold", "processing_time"]),
        ),
    ],
    prefixes: &["fields."],
};

/// The only partition.
const PARTITION: i32 = 0;

/// When which row is due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    rows_per_second: i64,
    /// Offset of the first row; set once the source is created.
    first: i64,
    /// Offset after the last row.
    last: Option<i64>,
}

impl Schedule {
    /// Microseconds since 1970 at which the row at `offset` happens.
    fn time_us(&self, offset: i64) -> i64 {
        (i128::from(offset) * 1_000_000 / i128::from(self.rows_per_second)) as i64
    }

    /// The offset of the first row at or after a moment.
    fn offset_at(&self, time_us: i64) -> i64 {
        let rows = i128::from(time_us) * i128::from(self.rows_per_second);
        rows.div_euclid(1_000_000) as i64 + i64::from(rows.rem_euclid(1_000_000) != 0)
    }

    /// The next offset that is not yet due.
    fn end(&self, now_us: i64) -> i64 {
        let due = self.offset_at(now_us.saturating_add(1)).max(self.first);
        self.last.map_or(due, |last| due.min(last))
    }
}

fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as i64)
}

struct DatagenSource {
    def: SourceDef,
    schedule: Schedule,
    start_time_us: Option<i64>,
}

/// Checks the definition's options and makes the source.
pub fn build(_name: &str, def: &SourceDef) -> Result<Arc<dyn Source>, SourceError> {
    if def.format != Format::Plain || def.encode != Encode::Native {
        return Err(invalid(
            "connector = 'datagen' takes no FORMAT and no ENCODE",
        ));
    }
    if let Some(name) = def.encode_options.keys().next() {
        return Err(invalid(format!(
            "unknown option \"{name}\" in ENCODE; allowed are: none"
        )));
    }
    let start_time_us = match def.options.get("start_time") {
        Some(text) => Some(parse_timestamptz(text).ok_or_else(|| {
            invalid(format!(
                "option \"start_time\" takes a timestamp, not '{text}'"
            ))
        })?),
        None => None,
    };
    let first = def.start.get(&PARTITION).copied().unwrap_or(0);
    let schedule = Schedule {
        rows_per_second: integer(&def.options, "rows_per_second").unwrap_or(10),
        first,
        last: integer(&def.options, "rows").map(|rows| first.saturating_add(rows)),
    };
    field::check_names(def)?;
    Generator::all(def)?;
    Ok(Arc::new(DatagenSource {
        def: def.clone(),
        schedule,
        start_time_us,
    }))
}

impl Source for DatagenSource {
    fn resolve_start(&self, _timeout_ms: u64) -> Result<Positions, SourceError> {
        let start_us = self.start_time_us.unwrap_or_else(now_us);
        Ok(Positions::from([(
            PARTITION,
            self.schedule.offset_at(start_us),
        )]))
    }

    fn end_offsets(&self, _timeout_ms: u64) -> Result<Positions, SourceError> {
        Ok(Positions::from([(PARTITION, self.schedule.end(now_us()))]))
    }

    fn reader(&self, request: ReadRequest) -> Result<Box<dyn SourceReader>, SourceError> {
        Ok(Box::new(DatagenReader::start(
            &self.def,
            self.schedule,
            &request,
        )?))
    }
}

#[cfg(test)]
mod tests;
