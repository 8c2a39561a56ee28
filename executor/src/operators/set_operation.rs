//! EXCEPT and INTERSECT, with and without ALL.
//!
//! Semantics: of a row that is l times on the left and r times on the right the output has `max(l − r, 0)` (EXCEPT ALL),
//!   `min(l, r)` (INTERSECT ALL), or 1 if `l > 0` and `r = 0` (EXCEPT) or `r > 0` (INTERSECT); the difference of that
//!   before and after the epoch is emitted. NULLs are equal, as are −0.0 and 0.0.
//! State: row → l and r, one entry per distinct row of either side. Grows with their number.
//! Output: the columns of the left, in canonical form; stream key without ALL: all columns; INTERSECT of append-only
//!   inputs is append-only.
//! Watermark: the minimum of both sides, column by column.
//! Cost: per distinct changed row and epoch, one sorted read and write.

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, SchemaRef};
use rivermark_planner::plan::SetOperation as Operation;

use super::conform::conform;
use crate::aggregates::{Reader, put_signed};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{EpochContext, Operator};
use crate::state::{KeyCodec, Keys, StateTable};

/// See the module text.
pub struct SetOperation {
    operation: Operation,
    codec: KeyCodec,
    schema: SchemaRef,
    counts: StateTable,
    pushed: Vec<Pushed>,
}

/// One delta's rows.
struct Pushed {
    keys: Keys,
    weights: Vec<i64>,
    port: usize,
}

/// How often a row is on the left and on the right.
type Counts = [i64; 2];

impl SetOperation {
    /// `tables`: counts. `schema`: of the output, and of both inputs.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operation: Operation,
        schema: SchemaRef,
        mut tables: Vec<StateTable>,
    ) -> Result<Self> {
        let counts = tables
            .pop()
            .ok_or_else(|| ExecutorError::Internal("SetOperation without a table".to_string()))?;
        let types: Vec<DataType> = schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        Ok(SetOperation {
            operation,
            codec: KeyCodec::new(types, None)?,
            schema,
            counts,
            pushed: Vec::new(),
        })
    }

    /// How often the row is in the result.
    fn shown(&self, [left, right]: Counts) -> i64 {
        match self.operation {
            Operation::Except => i64::from(left > 0 && right == 0),
            Operation::ExceptAll => (left - right).max(0),
            Operation::Intersect => i64::from(left > 0 && right > 0),
            Operation::IntersectAll => left.min(right),
        }
    }

    /// The keys that the epoch touched, in order, and by how much their counts change.
    fn take_changes(&mut self) -> (Keys, Vec<Counts>) {
        let pushed = std::mem::take(&mut self.pushed);
        let rows = pushed
            .iter()
            .enumerate()
            .flat_map(|(part, p)| (0..p.keys.len()).map(move |row| (part, row)));
        let mut order: Vec<(usize, usize)> = rows.collect();
        let key = |&(part, row): &(usize, usize)| pushed[part].keys.get(row);
        order.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        let (mut keys, mut changes) = (Keys::new(), Vec::<Counts>::new());
        for at in order {
            let is_new = keys.is_empty() || keys.get(keys.len() - 1) != key(&at);
            if is_new {
                keys.push(key(&at));
                changes.push([0, 0]);
            }
            if let Some(last) = changes.last_mut() {
                last[pushed[at.0].port] += pushed[at.0].weights[at.1];
            }
        }
        (keys, changes)
    }
}

impl Operator for SetOperation {
    fn name(&self) -> &'static str {
        "SetOperation"
    }

    fn push(
        &mut self,
        port: usize,
        delta: Delta,
        _context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        // The right side may have other names, or lists of another item name.
        let batch = conform(&self.schema, delta.columns().to_vec(), delta.num_rows())?;
        self.pushed.push(Pushed {
            keys: self.codec.encode(batch.columns())?,
            weights: (0..delta.num_rows()).map(|row| delta.weight(row)).collect(),
            port,
        });
        Ok(Vec::new())
    }

    fn finish(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        let (keys, changes) = self.take_changes();
        let stored = self.counts.get_many(&keys)?;
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        let mut value = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            let key = keys.get(index);
            let before = match stored.get(index).map(Reader::new) {
                Some(mut reader) => [reader.signed()?, reader.signed()?],
                None => [0, 0],
            };
            let after = [before[0] + change[0], before[1] + change[1]];
            if after.iter().any(|count| *count < 0) {
                let message = "a row was retracted from a set operation that does not have it";
                return Err(ExecutorError::Internal(message.to_string()));
            }
            if after == before {
                continue;
            }
            if after == [0, 0] {
                self.counts.delete(key);
            } else {
                value.clear();
                put_signed(after[0], &mut value);
                put_signed(after[1], &mut value);
                self.counts.put(key, &value);
            }
            let more = self.shown(after) - self.shown(before);
            if more != 0 {
                rows.push(key);
                weights.push(more);
            }
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let count = rows.len();
        let columns = self.codec.decode(rows.into_iter())?;
        let batch = conform(&self.schema, columns, count)?;
        let is_plain = weights.iter().all(|weight| *weight == 1);
        let weights = (!is_plain).then(|| Int64Array::from(weights));
        Ok(vec![Delta::new(batch, weights)])
    }

    fn held_bytes(&self) -> usize {
        let of = |pushed: &Pushed| pushed.keys.data_len() + pushed.weights.len() * 16;
        self.pushed.iter().map(of).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        vec![&mut self.counts]
    }

    fn discard(&mut self) {
        self.pushed.clear();
        self.counts.discard();
    }
}
