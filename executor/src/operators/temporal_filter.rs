//! Keeps the rows whose bounds on the current time hold: they enter and leave as time passes, without input.
//!
//! Semantics: each bound compares `now()` with a time of the row, so a row is shown in one span `[enter, leave)`. At the
//!   epoch's time t the output is `{ r·w ∈ in : enter(r) ≤ t < leave(r) }`. A bound that is NULL never holds. A row of
//!   which a bound fails is left out and reported. The epoch's time never goes back, so a row that has left is forgotten.
//! State: (next change of the row, row) → weight: rows that are to enter, and rows that are to leave. A row that never
//!   leaves is kept only until it enters; one that came too late is not kept. Bound: the rows within their spans.
//! Output: the input's columns and stream key; append-only if the input is and no row leaves.
//! Watermark: none: a row may enter long after its time, and what leaves is old.
//! Cost: per row one sorted read and write as it comes, and one deletion as it leaves; nothing while nothing is due.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{NowComparison, TimeBound};

use super::conform::conform;
use super::net::net;
use super::ordered_rows::{time_bytes, time_of_bytes};
use crate::aggregates::{Reader, put_signed};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::{Evaluator, evaluate_all};
use crate::operator::{Emit, EpochContext, Operator};
use crate::pieces::most_rows;
use crate::state::{KeyRange, Keys, RowCodec, StateTable};

/// Rows that enter or leave are handed on in pieces of so many.
const PIECE_ROWS: usize = 8192;

/// Of a key, before the row: the time, order-preserving, and what happens then.
const HEADER_LEN: usize = 9;
const ENTERS: u8 = 0;
const LEAVES: u8 = 1;

/// See the module text.
pub struct TemporalFilter {
    evaluator: Evaluator,
    comparisons: Vec<NowComparison>,
    times: Vec<Arc<dyn PhysicalExpr>>,
    codec: RowCodec,
    schema: SchemaRef,
    table: StateTable,
    pushed: Pushed,
    /// There are no entries before it. `None`: not known.
    swept_to_us: Option<i64>,
    due: Due,
}

/// When the next entry is due, or an earlier time.
#[derive(Clone, Copy)]
enum Due {
    Unknown,
    At(Option<i64>),
}

/// Changes of entries that are not yet applied.
#[derive(Default)]
struct Pushed {
    keys: Keys,
    weights: Vec<i64>,
    /// Of rows that are to enter: when they leave again. `i64::MAX`: never.
    leaves: Vec<i64>,
}

impl Pushed {
    fn add(&mut self, key: &[u8], weight: i64, leave: i64) {
        self.keys.push(key);
        self.weights.push(weight);
        self.leaves.push(leave);
    }
}

/// What is to be done with a row at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Gone,
    Waiting { enter: i64, leave: i64 },
    Shown { leave: i64 },
}

impl TemporalFilter {
    /// `tables`: entries. `schema`: of input and output.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operator_id: u32,
        bounds: &[TimeBound],
        schema: SchemaRef,
        mut tables: Vec<StateTable>,
    ) -> Result<Self> {
        let table = tables
            .pop()
            .ok_or_else(|| ExecutorError::Internal("TemporalFilter without a table".to_string()))?;
        let types = schema.fields().iter().map(|f| f.data_type().clone());
        Ok(TemporalFilter {
            evaluator: Evaluator::new(operator_id),
            comparisons: bounds.iter().map(|bound| bound.comparison).collect(),
            times: bounds
                .iter()
                .map(|bound| bound.time.physical.clone())
                .collect(),
            codec: RowCodec::new(types.collect())?,
            schema,
            table,
            pushed: Pushed::default(),
            swept_to_us: None,
            due: Due::Unknown,
        })
    }

    /// Where the row belongs at `now`, by its times.
    fn place(&self, times: &[ArrayRef], row: usize, now: i64) -> Place {
        let (mut enter, mut leave) = (i64::MIN, i64::MAX);
        for (comparison, times) in self.comparisons.iter().zip(times) {
            let times = times.as_primitive::<TimestampMicrosecondType>();
            if times.is_null(row) {
                return Place::Gone;
            }
            let time = times.value(row);
            match comparison {
                NowComparison::From => enter = enter.max(time),
                NowComparison::After => enter = enter.max(time.saturating_add(1)),
                NowComparison::Before => leave = leave.min(time),
                NowComparison::Until => leave = leave.min(time.saturating_add(1)),
            }
        }
        if leave <= now || enter >= leave {
            Place::Gone
        } else if enter > now {
            Place::Waiting { enter, leave }
        } else {
            Place::Shown { leave }
        }
    }

    /// Adds what was pushed to the entries.
    fn apply_pushed(&mut self) -> Result<()> {
        let Pushed {
            keys,
            weights,
            leaves,
        } = std::mem::take(&mut self.pushed);
        let net = net(
            (0..keys.len()).collect(),
            |at| keys.get(at),
            |at| weights[at],
        );
        let touched: Keys = net.iter().map(|(at, _)| keys.get(*at)).collect();
        let stored = self.table.get_many(&touched)?;
        let mut value = Vec::new();
        for (index, (at, sum)) in net.iter().enumerate() {
            let key = keys.get(*at);
            let before = match stored.get(index) {
                Some(value) => Reader::new(value).signed()?,
                None => 0,
            };
            // Within an epoch a retraction may come before what it retracts.
            if before + sum == 0 {
                self.table.delete(key);
                continue;
            }
            value.clear();
            put_signed(before + sum, &mut value);
            if key[HEADER_LEN - 1] == ENTERS {
                put_signed(leaves[*at], &mut value);
            }
            self.table.put(key, &value);
            if let Due::At(due) = &mut self.due {
                let time = time_of(key);
                *due = Some(due.map_or(time, |due| due.min(time)));
            }
        }
        Ok(())
    }

    /// Lets rows enter and leave whose time has come.
    fn advance(&mut self, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        let end = context.now_us.saturating_add(1);
        let mut from = self.swept_to_us.map_or(Vec::new(), time_key);
        loop {
            let (mut keys, mut values) = (Keys::new(), Keys::new());
            let mut scan = self.table.scan(&KeyRange::new(from, Some(time_key(end))))?;
            while keys.len() < most_rows(PIECE_ROWS) && scan.advance()? {
                keys.push(scan.key());
                values.push(scan.value());
            }
            drop(scan);
            if keys.is_empty() {
                break;
            }
            from = [keys.get(keys.len() - 1), &[0]].concat();
            if let Some(delta) = self.passed(&keys, &values, context.now_us)? {
                emit(delta, context)?;
            }
            self.apply_pushed()?;
        }
        self.swept_to_us = Some(end);
        self.due = Due::At(self.first_time()?);
        Ok(())
    }

    /// Removes entries whose time has come: what that changes in the output. Rows that leave later are pushed.
    fn passed(&mut self, keys: &Keys, values: &Keys, now: i64) -> Result<Option<Delta>> {
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        for (key, value) in keys.iter().zip(values.iter()) {
            self.table.delete(key);
            let (header, row) = key.split_at(HEADER_LEN);
            let mut value = Reader::new(value);
            let weight = value.signed()?;
            if header[HEADER_LEN - 1] == LEAVES {
                rows.push(row);
                weights.push(-weight);
                continue;
            }
            let leave = value.signed()?;
            if leave <= now {
                continue;
            }
            rows.push(row);
            weights.push(weight);
            if leave < i64::MAX {
                let key = [&time_key(leave)[..], &[LEAVES], row].concat();
                self.pushed.add(&key, weight, leave);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let count = rows.len();
        let columns = self.codec.decode(rows.into_iter())?;
        let batch = conform(&self.schema, columns, count)?;
        Ok(Some(Delta::new(batch, Some(Int64Array::from(weights)))))
    }

    /// When the first entry is due.
    fn first_time(&self) -> Result<Option<i64>> {
        let from = self.swept_to_us.map_or(Vec::new(), time_key);
        let mut scan = self.table.scan(&KeyRange::new(from, None))?;
        Ok(match scan.advance()? {
            true => Some(time_of(scan.key())),
            false => None,
        })
    }
}

fn time_key(time_us: i64) -> Vec<u8> {
    time_bytes(time_us).to_vec()
}

fn time_of(key: &[u8]) -> i64 {
    let bytes = key
        .first_chunk::<8>()
        .expect("every key starts with a header, see HEADER_LEN");
    time_of_bytes(*bytes)
}

impl Operator for TemporalFilter {
    fn name(&self) -> &'static str {
        "TemporalFilter"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let compute = |batch: &RecordBatch| evaluate_all(&self.times, batch);
        let (delta, times) =
            self.evaluator
                .evaluate_with(&compute, delta, &mut context.failures)?;
        let count = delta.num_rows();
        let places: Vec<Place> = (0..count)
            .map(|row| self.place(&times, row, context.now_us))
            .collect();
        let is_kept = |place: &Place| match place {
            Place::Gone | Place::Shown { leave: i64::MAX } => false,
            Place::Waiting { .. } | Place::Shown { .. } => true,
        };
        if places.iter().any(is_kept) {
            let header = |row: usize, header: &mut [u8]| {
                let (time, what) = match places[row] {
                    Place::Gone => (i64::MIN, LEAVES),
                    Place::Waiting { enter, .. } => (enter, ENTERS),
                    Place::Shown { leave } => (leave, LEAVES),
                };
                header[..HEADER_LEN - 1].copy_from_slice(&time_key(time));
                header[HEADER_LEN - 1] = what;
            };
            let keys = self
                .codec
                .encode_with_header(delta.columns(), HEADER_LEN, header)?;
            for (row, place) in places.iter().enumerate().filter(|(_, p)| is_kept(p)) {
                let leave = match place {
                    Place::Gone => i64::MAX,
                    Place::Waiting { leave, .. } | Place::Shown { leave } => *leave,
                };
                self.pushed.add(keys.get(row), delta.weight(row), leave);
            }
        }
        let mask: BooleanArray = places
            .iter()
            .map(|place| Some(matches!(place, Place::Shown { .. })))
            .collect();
        let shown = match mask.true_count() {
            0 => return Ok(Vec::new()),
            all if all == count => delta,
            _ => delta.filter(&mask)?,
        };
        let batch = conform(&self.schema, shown.columns().to_vec(), shown.num_rows())?;
        Ok(vec![shown.with_batch(batch)])
    }

    fn finish_into(&mut self, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        if self.due_us()?.is_some_and(|due| due <= context.now_us) {
            self.advance(context, emit)?;
        }
        self.apply_pushed()
    }

    fn due_us(&mut self) -> Result<Option<i64>> {
        if let Due::At(due) = self.due {
            return Ok(due);
        }
        let due = self.first_time()?;
        if self.table.overlay_bytes() == 0 {
            // Nothing of it is going to be committed soon.
            self.table.release();
        }
        self.due = Due::At(due);
        Ok(due)
    }

    fn held_bytes(&self) -> usize {
        self.pushed.keys.data_len() + self.pushed.weights.len() * 24
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        vec![&mut self.table]
    }

    fn discard(&mut self) {
        self.pushed = Pushed::default();
        self.swept_to_us = None;
        self.due = Due::Unknown;
        self.table.discard();
    }
}
