//! `x NOT IN (S)`: a NULL in S, or S being empty, decides about all rows at once.

use arrow::array::new_null_array;
use rivermark_planner::plan::JoinKind;

use super::changes::{Changes, Touched};
use super::output::Singles;
use super::pass::{Pass, is_changed, max_rows};
use super::spec::Spec;
use super::stored::{Stored, read_counts, write_counts};
use super::{LEFT, RIGHT};
use crate::error::{ExecutorError, Result};
use crate::state::{KeyRange, Keys, Rows, StateTable};

/// The key of `counts` that no row has: how many rows S has, and how many of them are NULL.
const TOTALS: &[u8] = &[];

/// What S as a whole says about any row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// S is empty.
    All,
    /// S has a NULL.
    None,
    /// It depends on the row.
    Each,
}

impl Verdict {
    fn of([rows, nulls]: [i64; 2]) -> Self {
        match (rows, nulls) {
            (0, _) => Verdict::All,
            (_, 0) => Verdict::Each,
            _ => Verdict::None,
        }
    }

    /// Whether a row does not pass; `is_found`: its value is in S, or is NULL.
    fn blocks(self, is_found: bool) -> bool {
        match self {
            Verdict::All => false,
            Verdict::None => true,
            Verdict::Each => is_found,
        }
    }
}

/// S before and after the epoch.
pub struct Regime {
    null_key: Vec<u8>,
    totals: [[i64; 2]; 2],
}

impl Regime {
    /// Reads the totals and decides about the touched keys. `None` for other kinds of joins.
    pub fn read(
        spec: &Spec,
        counts: &mut StateTable,
        changes: &[Changes; 2],
        touched: &mut [Touched],
    ) -> Result<Option<Self>> {
        if spec.kind != JoinKind::NotIn {
            return Ok(None);
        }
        let nulls: Vec<_> = spec
            .key_codec
            .types()
            .iter()
            .map(|data_type| new_null_array(data_type, 1))
            .collect();
        let null_key = spec.key_codec.encode(&nulls)?.get(0).to_vec();
        let before = read_counts(counts.get(TOTALS)?.as_deref())?;
        let mut after = before;
        for touched in touched.iter() {
            let gained = touched.count_after[RIGHT] - touched.count_before[RIGHT];
            after[0] += gained;
            if touched.key(changes) == null_key {
                after[1] += gained;
            }
        }
        if after.iter().any(|total| *total < 0) {
            let message = "more rows of NOT IN were retracted than there are".to_string();
            return Err(ExecutorError::Internal(message));
        }
        let regime = Regime {
            null_key,
            totals: [before, after],
        };
        for touched in touched {
            let (key, counts) = (
                touched.key(changes),
                [touched.count_before, touched.count_after],
            );
            touched.matched[LEFT] = regime.blocked(key, counts.map(|counts| counts[RIGHT]));
        }
        Ok(Some(regime))
    }

    /// Whether what S says about all rows has changed.
    pub fn has_changed(&self) -> bool {
        Verdict::of(self.totals[0]) != Verdict::of(self.totals[1])
    }

    /// Whether rows of a key that is so many times in S did not and do not pass.
    fn blocked(&self, key: &[u8], [before, after]: [i64; 2]) -> (bool, bool) {
        let is_null = key == self.null_key;
        (
            Verdict::of(self.totals[0]).blocks(is_null || before > 0),
            Verdict::of(self.totals[1]).blocks(is_null || after > 0),
        )
    }

    /// Shows and hides all rows of the left, which are in `left`, but those that the epoch changes themselves.
    pub fn scan_all(
        &self,
        pass: &mut Pass<'_, '_, '_>,
        left: &StateTable,
        counts: &mut StateTable,
    ) -> Result<()> {
        let mut changed = 0..pass.changes[LEFT].len();
        let (mut keys, mut rows, mut stored) = (Keys::new(), Rows::new(), Vec::new());
        let mut scan = left.scan(&KeyRange::all())?;
        loop {
            let is_there = scan.advance()?;
            if is_there && !is_changed(&pass.changes[LEFT], &mut changed, scan.key()) {
                let key_len = pass.spec.key_codec.prefix_len(scan.key(), 1)?;
                keys.push(&scan.key()[..key_len]);
                rows.push(&scan.key()[key_len..]);
                stored.push(Stored::decode(scan.value())?);
            }
            if stored.len() >= max_rows() || !is_there {
                self.show(pass, counts, (&keys, &rows, &stored))?;
                keys.clear();
                rows.clear();
                stored.clear();
            }
            if !is_there {
                return Ok(());
            }
        }
    }

    fn show(
        &self,
        pass: &mut Pass<'_, '_, '_>,
        counts: &mut StateTable,
        (keys, rows, stored): (&Keys, &Rows, &[Stored]),
    ) -> Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        let columns = pass.spec.row_codecs[LEFT].decode(rows.iter())?;
        let found = counts.get_many(keys)?;
        let mut singles = Singles::default();
        for (row, (key, found)) in keys.iter().zip(found.iter()).enumerate() {
            let touched = pass
                .touched
                .binary_search_by(|t| t.key(pass.changes).cmp(key));
            let (was_blocked, is_blocked) = match touched {
                Ok(index) => pass.touched[index].matched[LEFT],
                Err(_) => {
                    let [_, right] = read_counts(found)?;
                    self.blocked(key, [right, right])
                }
            };
            let weight = stored[row].weight;
            let (before, after) = ((weight, was_blocked), (weight, is_blocked));
            singles.change(pass.spec.kind, row, before, after);
        }
        pass.output.singles(pass.spec, LEFT, singles, &columns)
    }

    /// Stores the totals.
    pub fn store(&self, counts: &mut StateTable) {
        if self.totals[0] != self.totals[1] {
            write_counts(counts, TOTALS, self.totals[1]);
        }
    }
}
