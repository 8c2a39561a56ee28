//! The net change of an epoch: each changed row of a side once, in the order of its key in the state.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, filter, not, take};

use super::spec::Spec;
use super::stored::Stored;
use super::{LEFT, RIGHT};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::Keys;

/// Changed rows of one side.
#[derive(Default)]
pub struct Changes {
    pub columns: Vec<ArrayRef>,
    /// Join key and row, ascending.
    pub keys: Keys,
    /// How many bytes of each are the join key.
    key_lens: Vec<usize>,
    pub delta: Vec<i64>,
    pub before: Vec<Stored>,
    /// The matches of each row after the epoch, where rows count their own.
    pub matches: Vec<i64>,
}

/// Rows with their keys' values, as they were pushed.
type Pushed = Vec<(Delta, Vec<ArrayRef>)>;

impl Changes {
    /// What all pushed rows add up to, and the rows that can not have a match.
    pub fn collect(spec: &Spec, side: usize, pushed: Pushed) -> Result<(Self, Option<Delta>)> {
        if pushed.is_empty() {
            return Ok((Changes::default(), None));
        }
        let (deltas, keys): (Vec<Delta>, Vec<Vec<ArrayRef>>) = pushed.into_iter().unzip();
        let width = keys.first().map_or(0, Vec::len);
        let mut keys = (0..width)
            .map(|index| {
                let parts: Vec<&dyn Array> = keys.iter().map(|k| k[index].as_ref()).collect();
                Ok(concat(&parts)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut delta = Delta::concat(spec.input_schemas[side].clone(), &deltas)?;
        let mut loose = None;
        if let Some(mask) = spec.can_match(&keys) {
            loose = Some(delta.filter(&not(&mask)?)?);
            delta = delta.filter(&mask)?;
            for key in &mut keys {
                *key = filter(key, &mask)?;
            }
        }
        Ok((Self::net(spec, side, &delta, &keys)?, loose))
    }

    fn net(spec: &Spec, side: usize, delta: &Delta, keys: &[ArrayRef]) -> Result<Self> {
        let count = delta.num_rows();
        let joined = spec.encode_keys(keys, count)?;
        let rows = spec.row_codecs[side].encode(delta.columns())?;
        let bytes = joined.data_len() + rows.data_len();
        let mut state_keys = Keys::with_capacity(count, bytes);
        for row in 0..count {
            state_keys.push_with(|out| {
                out.extend_from_slice(joined.get(row));
                out.extend_from_slice(rows.get(row));
            });
        }
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_unstable_by(|&a, &b| state_keys.get(a as usize).cmp(state_keys.get(b as usize)));

        let mut changes = Changes::default();
        let mut kept: Vec<u32> = Vec::with_capacity(count);
        for same in
            order.chunk_by(|&a, &b| state_keys.get(a as usize) == state_keys.get(b as usize))
        {
            let sum: i64 = same.iter().map(|&row| delta.weight(row as usize)).sum();
            if sum != 0 {
                let row = same[0] as usize;
                kept.push(same[0]);
                changes.keys.push(state_keys.get(row));
                changes.key_lens.push(joined.get(row).len());
                changes.delta.push(sum);
            }
        }
        changes.before = vec![Stored::default(); kept.len()];
        changes.matches = vec![0; kept.len()];
        let kept = UInt32Array::from(kept);
        changes.columns = delta
            .columns()
            .iter()
            .map(|column| Ok(take(column, &kept, None)?))
            .collect::<Result<_>>()?;
        Ok(changes)
    }

    pub fn len(&self) -> usize {
        self.delta.len()
    }

    pub fn is_empty(&self) -> bool {
        self.delta.is_empty()
    }

    /// The join key of a row.
    pub fn join_key(&self, row: usize) -> &[u8] {
        &self.keys.get(row)[..self.key_lens[row]]
    }

    pub fn weight_before(&self, row: usize) -> i64 {
        self.before[row].weight
    }

    pub fn weight_after(&self, row: usize) -> i64 {
        self.before[row].weight + self.delta[row]
    }

    /// What is to be stored of a row, once its matches are counted.
    pub fn after(&self, row: usize) -> Stored {
        Stored {
            weight: self.weight_after(row),
            matches: self.matches[row],
        }
    }
}

/// A join key with changes.
pub struct Touched {
    /// Its rows in the changes of either side.
    pub rows: [Range<usize>; 2],
    pub count_before: [i64; 2],
    pub count_after: [i64; 2],
    /// Per side: whether its rows had and have a match. Without a residual that is the same for all of them.
    pub matched: [(bool, bool); 2],
}

impl Touched {
    pub fn key<'a>(&self, changes: &'a [Changes; 2]) -> &'a [u8] {
        let side = if self.rows[LEFT].is_empty() {
            RIGHT
        } else {
            LEFT
        };
        changes[side].join_key(self.rows[side].start)
    }

    /// By the other side's counts; NOT IN knows more.
    pub fn set_matched(&mut self, spec: &Spec) {
        if spec.residual.is_none() {
            for side in [LEFT, RIGHT] {
                let other = 1 - side;
                self.matched[side] = (self.count_before[other] > 0, self.count_after[other] > 0);
            }
        }
    }
}

/// The keys of both sides' changes, ascending.
pub fn touched_keys(changes: &[Changes; 2]) -> Vec<Touched> {
    let run = |side: usize, start: usize| {
        let changes = &changes[side];
        let key = changes.join_key(start);
        let same = (start..changes.len()).take_while(|row| changes.join_key(*row) == key);
        start..start + same.count()
    };
    let mut touched = Vec::new();
    let mut next = [0, 0];
    while next[LEFT] < changes[LEFT].len() || next[RIGHT] < changes[RIGHT].len() {
        let key_of = |side: usize| {
            let is_there = next[side] < changes[side].len();
            is_there.then(|| changes[side].join_key(next[side]))
        };
        let (left, right) = (key_of(LEFT), key_of(RIGHT));
        let takes_left = left.is_some() && right.is_none_or(|right| left <= Some(right));
        let takes_right = right.is_some() && left.is_none_or(|left| right <= Some(left));
        let mut rows = [next[LEFT]..next[LEFT], next[RIGHT]..next[RIGHT]];
        if takes_left {
            rows[LEFT] = run(LEFT, next[LEFT]);
        }
        if takes_right {
            rows[RIGHT] = run(RIGHT, next[RIGHT]);
        }
        next = [rows[LEFT].end, rows[RIGHT].end];
        touched.push(Touched {
            rows,
            count_before: [0, 0],
            count_after: [0, 0],
            matched: [(false, false); 2],
        });
    }
    touched
}
