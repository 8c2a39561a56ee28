//! EMIT ON WINDOW CLOSE: gives each row once, when nothing can change it any more.
//!
//! Semantics: with c the row's value in the column of time and w its watermark, `out = { r·n : r·n ∈ in, c(r) < w }`, each
//!   row in the epoch in which w passes it. What comes for a time that has been passed is left out and counted, as is
//!   a row whose time is NULL, which no watermark passes.
//! State: `rows`: (time, row) → weight, one entry per distinct row that is held back; those of a time are deleted when it
//!   is passed. `closed`: the watermark up to which rows were given, one entry.
//! Output: the input's columns and stream key, in the order of time; append-only.
//! Watermark: kept on all columns.
//! Cost: per distinct changed row and epoch, one sorted read and write; per row given, one scan step; per advance, one
//!   range delete.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};

use super::conform::conform;
use super::net::net;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::pieces::most_rows;
use crate::state::{KeyCodec, KeyRange, Keys, RowCodec, StateTable};
use crate::watermark::{Watermarks, key_of};

/// Rows put out at once.
const OUTPUT_ROWS: usize = 65_536;
/// So many entries are cheaper deleted one by one: every later read pays for a deleted range.
const FEW: usize = 64;
/// The key of the one entry of `closed`.
const CLOSED: &[u8] = b"";

/// See the module text.
pub struct WindowClose {
    column: usize,
    times: KeyCodec,
    codec: RowCodec,
    schema: SchemaRef,
    rows: StateTable,
    closed_table: StateTable,
    closed: Closed,
    /// This epoch's changes.
    keys: Keys,
    weights: Vec<i64>,
    bytes: usize,
    dropped: u64,
}

/// Up to where rows were given.
#[derive(Clone, Copy)]
enum Closed {
    Unread,
    To(Option<i64>),
}

impl WindowClose {
    /// `column`: of the time. `schema`: of input and output. `tables`: rows, closed.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(column: usize, schema: SchemaRef, tables: Vec<StateTable>) -> Result<Self> {
        let [rows, closed_table] = <[StateTable; 2]>::try_from(tables).map_err(|tables| {
            ExecutorError::Internal(format!("WindowClose was given {} tables", tables.len()))
        })?;
        let types: Vec<DataType> = schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        Ok(WindowClose {
            column,
            times: KeyCodec::new(vec![types[column].clone()], None)?,
            codec: RowCodec::new(types)?,
            schema,
            rows,
            closed_table,
            closed: Closed::Unread,
            keys: Keys::new(),
            weights: Vec::new(),
            bytes: 0,
            dropped: 0,
        })
    }

    fn closed(&mut self) -> Result<Option<i64>> {
        if let Closed::To(closed) = self.closed {
            return Ok(closed);
        }
        let stored = self.closed_table.get(CLOSED)?;
        let closed = stored.map(|bytes| number(&bytes)).transpose()?;
        self.closed = Closed::To(closed);
        Ok(closed)
    }

    /// The first key of a time.
    fn start_of(&self, time: i64) -> Result<Vec<u8>> {
        key_of(
            time,
            self.schema.field(self.column).data_type(),
            &self.times,
        )
    }

    /// The rows of stored entries, each as often as it is there.
    fn given(&self, rows: &Keys, weights: &[i64]) -> Result<Delta> {
        let mut columns = self.codec.decode(rows.iter())?;
        let mut row_count = weights.len();
        if weights.iter().any(|weight| *weight != 1) {
            let copies = weights.iter().enumerate();
            let copies = copies.flat_map(|(row, n)| std::iter::repeat_n(row as u32, *n as usize));
            let indices = UInt32Array::from_iter_values(copies);
            row_count = indices.len();
            let copied = columns.iter().map(|column| take(column, &indices, None));
            columns = copied.collect::<Result<Vec<ArrayRef>, _>>()?;
        }
        Ok(Delta::insertions(conform(
            &self.schema,
            columns,
            row_count,
        )?))
    }

    /// Gives all rows of times from `from` to before `to`, and forgets them.
    fn close(
        &mut self,
        range: &KeyRange,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let limit = most_rows(OUTPUT_ROWS);
        let (mut rows, mut weights) = (Keys::new(), Vec::new());
        let (mut count, mut few) = (0, Keys::new());
        let mut scan = self.rows.scan(range)?;
        while scan.advance()? {
            let weight = number(scan.value())?;
            if weight < 0 {
                return Err(ExecutorError::Internal(
                    "a row was retracted that WindowClose does not hold".into(),
                ));
            }
            let time = self.times.prefix_len(scan.key(), 1)?;
            rows.push(&scan.key()[time..]);
            weights.push(weight);
            count += 1;
            if count <= FEW {
                few.push(scan.key());
            }
            if weights.len() == limit {
                emit(self.given(&rows, &weights)?, context)?;
                rows.clear();
                weights.clear();
            }
        }
        drop(scan);
        if !weights.is_empty() {
            emit(self.given(&rows, &weights)?, context)?;
        }
        if count <= FEW {
            few.iter().for_each(|key| self.rows.delete(key));
            return Ok(());
        }
        Ok(self.rows.delete_range(range)?)
    }
}

impl Operator for WindowClose {
    fn name(&self) -> &'static str {
        "WindowClose"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        _context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let closed = match self.closed()? {
            Some(closed) => self.start_of(closed)?,
            None => Vec::new(),
        };
        let time = &delta.columns()[self.column];
        let times = self.times.encode(std::slice::from_ref(time))?;
        let rows = self.codec.encode(delta.columns())?;
        for row in 0..delta.num_rows() {
            if time.is_null(row) || times.get(row) < closed.as_slice() {
                self.dropped += 1;
                continue;
            }
            self.keys.push_with(|out| {
                out.extend_from_slice(times.get(row));
                out.extend_from_slice(rows.get(row));
            });
            self.weights.push(delta.weight(row));
            self.bytes += times.get(row).len() + rows.get(row).len() + 16;
        }
        Ok(Vec::new())
    }

    fn finish(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        let keys = std::mem::take(&mut self.keys);
        let weights = std::mem::take(&mut self.weights);
        self.bytes = 0;
        let net = net(
            (0..keys.len()).collect(),
            |at| keys.get(at),
            |at| weights[at],
        );
        let touched: Keys = net.iter().map(|(at, _)| keys.get(*at)).collect();
        let stored = self.rows.get_many(&touched)?;
        for (index, (_, change)) in net.iter().enumerate() {
            let before = stored.get(index).map_or(Ok(0), number)?;
            match before + change {
                0 => self.rows.delete(touched.get(index)),
                // Less than 0 in the middle of an epoch.
                after => self.rows.put(touched.get(index), &after.to_be_bytes()),
            }
        }
        Ok(Vec::new())
    }

    fn advance(
        &mut self,
        inputs: &[Watermarks],
        _output: &Watermarks,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let closed = self.closed()?;
        let bound = inputs.first().and_then(|input| input.get(self.column));
        let Some(bound) = bound.filter(|bound| Some(*bound) > closed) else {
            return Ok(());
        };
        let from = closed.map_or(Ok(Vec::new()), |closed| self.start_of(closed))?;
        let range = KeyRange::new(from, Some(self.start_of(bound)?));
        self.close(&range, context, emit)?;
        self.closed_table.put(CLOSED, &bound.to_be_bytes());
        self.closed = Closed::To(Some(bound));
        Ok(())
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn held_bytes(&self) -> usize {
        self.bytes
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        vec![&mut self.rows, &mut self.closed_table]
    }

    fn discard(&mut self) {
        self.keys = Keys::new();
        self.weights.clear();
        self.bytes = 0;
        self.closed = Closed::Unread;
        self.rows.discard();
        self.closed_table.discard();
    }
}

fn number(bytes: &[u8]) -> Result<i64> {
    let bytes = <[u8; 8]>::try_from(bytes);
    let damaged = |_| ExecutorError::Storage("an entry of WindowClose is damaged".into());
    Ok(i64::from_be_bytes(bytes.map_err(damaged)?))
}
