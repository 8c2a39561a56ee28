//! Which rows are late: those below the highest time of the earlier rows of their own partition, less the delay.
//!
//! The decision follows from a partition's rows in their order and from nothing else, so it is the same for every view,
//! every replay and every rebuild, wherever epochs end. The one exception is a partition that comes back after it was
//! left out of the source's watermark for its silence: from that offset on the watermark of then is its bound, too (a
//! *floor*), and since floors are stored by offset, whoever reads the partition again meets them at the same place.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use rivermark_planner::PlanError;
use rivermark_planner::catalog::{SourceDef, TableDef};
use rivermark_planner::watermark::WatermarkOptions;

use crate::error::{ExecutorError, Result};
use crate::evaluate::row_as_json;
use crate::source::{MalformedMessage, SourceBatch};

/// A relation's declared time.
#[derive(Debug, Clone)]
pub struct EventTime {
    /// Of the (physical) columns.
    pub column: usize,
    pub delay_us: i64,
    pub options: WatermarkOptions,
}

/// A row that came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// In its batch.
    pub row: usize,
    pub time_us: i64,
    /// What its time is below.
    pub bound_us: i64,
}

/// From an offset on a partition's bound is at least this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    pub offset: i64,
    pub bound_us: i64,
}

/// A batch of which every row has been looked at.
pub struct Judged {
    /// What views see of it.
    pub batch: SourceBatch,
    /// Offset, time and bound of late rows.
    pub late: Vec<(i64, Late)>,
    /// Rows too far in the future.
    pub future: Vec<MalformedMessage>,
}

impl EventTime {
    /// Of a source with a watermark.
    pub fn of_source(def: &SourceDef) -> Result<Option<EventTime>> {
        let Some(watermark) = &def.watermark else {
            return Ok(None);
        };
        let column = def
            .physical_columns()
            .position(|c| c.name == watermark.column);
        Self::new(column, watermark.delay_us, &def.options)
    }

    /// Of a table with a watermark.
    pub fn of_table(def: &TableDef) -> Result<Option<EventTime>> {
        let Some(watermark) = &def.watermark else {
            return Ok(None);
        };
        let column = def.columns.iter().position(|c| c.name == watermark.column);
        Self::new(column, watermark.delay_us, &def.options)
    }

    fn new(
        column: Option<usize>,
        delay_us: i64,
        options: &BTreeMap<String, String>,
    ) -> Result<Option<EventTime>> {
        let internal = |error: PlanError| ExecutorError::Internal(error.to_string());
        let Some(column) = column else {
            return Ok(None);
        };
        Ok(Some(EventTime {
            column,
            delay_us,
            options: WatermarkOptions::of(options).map_err(internal)?,
        }))
    }

    /// Goes through rows in their order. NULL is never late.
    pub fn late_rows(
        &self,
        times: impl Iterator<Item = Option<i64>>,
        bound: &mut Option<i64>,
    ) -> Vec<Late> {
        let mut late = Vec::new();
        for (row, time) in times.enumerate() {
            if let Some(time_us) = time {
                self.pass(row, time_us, bound, &mut late);
            }
        }
        late
    }

    fn pass(&self, row: usize, time_us: i64, bound: &mut Option<i64>, late: &mut Vec<Late>) {
        match *bound {
            Some(bound_us) if time_us < bound_us => late.push(Late {
                row,
                time_us,
                bound_us,
            }),
            _ => *bound = (*bound).max(Some(time_us.saturating_sub(self.delay_us))),
        }
    }

    /// Looks at a batch of a partition, of which the physical columns `columns` are decoded. `bound` is the partition's,
    /// `floors` are those within the batch, in order.
    pub fn judge(
        &self,
        batch: SourceBatch,
        columns: &[usize],
        bound: &mut Option<i64>,
        floors: &[Floor],
    ) -> Result<Judged> {
        let at = columns.iter().position(|c| *c == self.column);
        let times = at.and_then(|at| {
            let column = batch.rows.column(at);
            column.as_primitive_opt::<TimestampMicrosecondType>()
        });
        let Some(times) = times else {
            return Err(ExecutorError::Internal(
                "the column of the watermark was not read".into(),
            ));
        };
        let mut floors = floors.iter().peekable();
        let (mut late, mut future) = (Vec::new(), Vec::new());
        for row in 0..times.len() {
            let offset = batch.offsets.value(row);
            while let Some(floor) = floors.next_if(|f| f.offset <= offset) {
                *bound = (*bound).max(Some(floor.bound_us));
            }
            if times.is_null(row) {
                continue;
            }
            let (time_us, sent_ms) = (times.value(row), batch.timestamps_ms.value(row));
            let ahead = time_us.saturating_sub(sent_ms.saturating_mul(1000));
            match sent_ms >= 0 && ahead > self.options.max_future_us {
                true => future.push((row, ahead)),
                false => self.pass(row, time_us, bound, &mut late),
            }
        }
        for floor in floors {
            *bound = (*bound).max(Some(floor.bound_us));
        }
        let letters = future
            .iter()
            .map(|&(row, ahead)| letter(&batch, row, ahead))
            .collect::<Result<_>>()?;
        let late_offsets = late
            .iter()
            .map(|late| (batch.offsets.value(late.row), *late))
            .collect();
        let mut hidden: Vec<usize> = future.into_iter().map(|(row, _)| row).collect();
        if !self.options.includes_late {
            hidden.extend(late.iter().map(|late| late.row));
        }
        Ok(Judged {
            batch: without(batch, &hidden)?,
            late: late_offsets,
            future: letters,
        })
    }
}

fn letter(batch: &SourceBatch, row: usize, ahead_us: i64) -> Result<MalformedMessage> {
    let fields = batch.rows.schema();
    let payload = row_as_json(fields.fields(), batch.rows.columns(), row)?;
    Ok(MalformedMessage {
        offset: batch.offsets.value(row),
        timestamp_ms: batch.timestamps_ms.value(row),
        key: None,
        payload: payload.into_bytes(),
        error: format!(
            "the row's time is {} s ahead of its message's timestamp, further than max_future allows",
            ahead_us / 1_000_000
        ),
    })
}

/// The batch without some of its rows; its position stays.
fn without(batch: SourceBatch, hidden: &[usize]) -> Result<SourceBatch> {
    if hidden.is_empty() {
        return Ok(batch);
    }
    let mut keep = vec![true; batch.rows.num_rows()];
    hidden.iter().for_each(|row| keep[*row] = false);
    let mut places = Vec::with_capacity(keep.len());
    let mut next = 0;
    for kept in &keep {
        places.push(next);
        next += usize::from(*kept);
    }
    let mut column_errors = batch.column_errors;
    column_errors.retain(|error| keep[error.row]);
    column_errors
        .iter_mut()
        .for_each(|error| error.row = places[error.row]);
    let keep = BooleanArray::from(keep);
    let numbers =
        |array| -> Result<_> { Ok(filter(array, &keep)?.as_primitive::<Int64Type>().clone()) };
    Ok(SourceBatch {
        rows: filter_record_batch(&batch.rows, &keep)?,
        offsets: numbers(&batch.offsets)?,
        timestamps_ms: numbers(&batch.timestamps_ms)?,
        column_errors,
        ..batch
    })
}
