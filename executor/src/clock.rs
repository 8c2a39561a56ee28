//! When watermarks move: at the end of an epoch's input, and when a silence has lasted long enough.
//!
//! A source's watermark is the lowest bound of its partitions. A partition that has been read to its end and has
//! brought nothing for `idle_timeout` is left out; one that lies behind is not silent, however long ago its rows came, so
//! a backlog is read as if it came live. A partition that has never brought a row holds the watermark back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use rivermark_planner::catalog::ObjectId;
use serde::{Deserialize, Serialize};

use crate::epoch::EpochWork;
use crate::error::{ExecutorError, Result};
use crate::lateness::{EventTime, Late};
use crate::wall_clock;
use crate::watermark::Watermarks;
use crate::writer::Writer;

/// How often a watermark that follows the clock is moved.
const TICK: Duration = Duration::from_secs(1);

/// Since when each partition has been silent; in memory only: after a restart all of them were active just now.
pub struct Silence {
    since: BTreeMap<i32, Instant>,
    /// When to look again, if nothing comes.
    pub next_check: Option<Instant>,
}

/// What is known of one partition.
pub struct PartitionTime {
    pub partition: i32,
    pub bound: Option<i64>,
    pub is_at_end: bool,
}

impl Silence {
    pub fn new() -> Self {
        Silence {
            since: BTreeMap::new(),
            next_check: None,
        }
    }

    /// The partition has brought something.
    pub fn end(&mut self, partition: i32, now: Instant) {
        self.since.insert(partition, now);
    }

    /// The watermark that follows, which may lie below the one there is; `None`: there is none yet.
    pub fn watermark(
        &mut self,
        time: &EventTime,
        partitions: &[PartitionTime],
        now: Instant,
        now_us: i64,
    ) -> Option<i64> {
        let timeout = time.options.idle_timeout_us;
        let timeout = timeout.map(|us| Duration::from_micros(us.unsigned_abs()));
        self.next_check = None;
        let mut bounds = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let since = self.since.entry(partition.partition).or_insert(now);
            if !partition.is_at_end {
                *since = now;
            }
            let Some(timeout) = timeout else {
                bounds.push(partition.bound);
                continue;
            };
            let due = *since + timeout;
            if due <= now {
                continue;
            }
            bounds.push(partition.bound);
            self.next_check = Some(self.next_check.map_or(due, |next| next.min(due)));
        }
        if bounds.is_empty() && time.options.follows_clock && !partitions.is_empty() {
            self.next_check = Some(now + TICK);
            return Some(now_us.saturating_sub(time.delay_us));
        }
        // One without a bound is less than any.
        bounds.into_iter().min().flatten()
    }
}

/// What is committed of a table's time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableMark {
    /// The highest time of its rows less the delay.
    pub bound_us: Option<i64>,
    pub watermark_us: Option<i64>,
    pub rows: u64,
    pub late_rows: u64,
}

/// The time of an append-only table: one partition, whose rows are judged as they are inserted.
pub struct TableTime {
    pub time: EventTime,
    pub mark: TableMark,
    pub silence: Silence,
}

impl TableTime {
    pub fn new(time: EventTime, mark: TableMark) -> Self {
        TableTime {
            time,
            mark,
            silence: Silence::new(),
        }
    }

    /// The rows that go into the table, and those that are late, which with `late = 'drop'` are not among them.
    pub fn judge(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<Late>)> {
        let column = rows.column(self.time.column);
        let times = column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| ExecutorError::Internal("a table's time is no timestamp".into()))?;
        // A clock that was followed through a silence went on.
        self.mark.bound_us = self.mark.bound_us.max(self.mark.watermark_us);
        let late = self.time.late_rows(times.iter(), &mut self.mark.bound_us);
        self.mark.rows += rows.num_rows() as u64;
        self.mark.late_rows += late.len() as u64;
        self.silence.end(0, wall_clock::instant());
        if late.is_empty() || self.time.options.includes_late {
            return Ok((rows.clone(), late));
        }
        let mut keep = vec![true; times.len()];
        late.iter().for_each(|late| keep[late.row] = false);
        Ok((filter_record_batch(rows, &BooleanArray::from(keep))?, late))
    }

    /// Moves the watermark; whether it has moved.
    fn advance(&mut self, now: Instant, now_us: i64) -> bool {
        let only = PartitionTime {
            partition: 0,
            bound: self.mark.bound_us,
            is_at_end: true,
        };
        let found = self.silence.watermark(&self.time, &[only], now, now_us);
        // There is only one partition: its own silence never leaves a gap to the others.
        let found = found.max(self.mark.bound_us);
        let is_new = found > self.mark.watermark_us;
        self.mark.watermark_us = self.mark.watermark_us.max(found);
        is_new
    }

    /// The bounds of the table's columns.
    pub fn watermarks(&self) -> Watermarks {
        Watermarks::of_column(self.time.column, self.mark.watermark_us)
    }
}

impl Writer {
    /// Moves the watermarks of what was read in this epoch or has been silent; who reads it has to know.
    pub fn advance_watermarks(&mut self, work: &mut EpochWork) {
        let (now, now_us) = (wall_clock::instant(), self.now_us);
        for source in self.sources.values_mut().filter(|s| s.is_read()) {
            if source.advance_watermark(now, now_us) {
                work.dirty.extend(source.live_views().keys().copied());
            }
        }
        for (id, table) in &mut self.tables {
            let Some(time) = &mut table.time else {
                continue;
            };
            if time.advance(now, now_us) {
                table.is_dirty = true;
                work.dirty
                    .extend(self.scanned_by.get(id).into_iter().flatten().copied());
            }
        }
    }

    /// When a silence ends that a watermark waits for.
    pub fn next_watermark_check(&self) -> Option<Instant> {
        let sources = self.sources.values().filter(|s| s.is_read());
        let sources = sources.filter_map(|s| s.silence.next_check);
        let tables = self.tables.values().filter_map(|t| t.time.as_ref());
        sources
            .chain(tables.filter_map(|t| t.silence.next_check))
            .min()
    }

    /// The bounds of a relation's columns, as of this epoch.
    pub fn watermarks_of(&self, object: ObjectId) -> Watermarks {
        if let Some(source) = self.sources.get(&object) {
            return source.watermarks();
        }
        if let Some(table) = self.tables.get(&object) {
            let time = table.time.as_ref();
            return time.map(TableTime::watermarks).unwrap_or_default();
        }
        let view = self.views.get(&object);
        view.map(|view| view.watermarks.clone()).unwrap_or_default()
    }
}
