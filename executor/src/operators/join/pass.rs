//! One pass over what the epoch touches: changed rows against changed rows, and changed rows of one side against the
//! stored rows of the other. Each pair is met once, with its weight before and after.

use std::ops::Range;

use arrow::array::ArrayRef;

use super::changes::{Changes, Touched};
use super::output::{Output, Singles};
use super::pairs::Pairs;
use super::spec::Spec;
use super::stored::Stored;
use super::{LEFT, RIGHT};
use crate::error::Result;
use crate::pieces::most_rows;
use crate::state::{KeyRange, Keys, Rows, StateTable};

/// Most stored rows that are decoded together.
pub fn max_rows() -> usize {
    most_rows(if cfg!(test) { 5 } else { 4096 })
}

/// See the module.
pub struct Pass<'a, 'o, 'e> {
    pub spec: &'a Spec,
    pub touched: &'a [Touched],
    pub changes: &'a mut [Changes; 2],
    pub output: Output<'o, 'e>,
}

/// Stored rows of one side that the epoch does not change themselves.
#[derive(Default)]
pub struct Chunk {
    rows: Rows,
    /// Join key and row, where the number of matches may have to be written.
    keys: Keys,
    stored: Vec<Stored>,
    /// Per row: its key among the touched ones.
    touched: Vec<usize>,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.stored.len() >= max_rows()
    }
}

impl Pass<'_, '_, '_> {
    /// Changed left rows with changed right rows.
    pub fn pair_changes(&mut self) -> Result<()> {
        if !self.spec.looks_at_pairs() {
            return Ok(());
        }
        let touched = self.touched;
        let mut pairs = Pairs::default();
        for touched in touched {
            for left in touched.rows[LEFT].clone() {
                for right in touched.rows[RIGHT].clone() {
                    let [of_left, of_right] = &*self.changes;
                    let before = of_left.weight_before(left) * of_right.weight_before(right);
                    let after = of_left.weight_after(left) * of_right.weight_after(right);
                    pairs.push(left, right, after - before);
                    if pairs.is_full() {
                        self.changed_pairs(std::mem::take(&mut pairs))?;
                    }
                }
            }
        }
        self.changed_pairs(pairs)
    }

    fn changed_pairs(&mut self, mut pairs: Pairs) -> Result<()> {
        let columns = [LEFT, RIGHT].map(|side| self.changes[side].columns.clone());
        self.keep_matching(&mut pairs, [&columns[LEFT], &columns[RIGHT]])?;
        for side in [LEFT, RIGHT] {
            if !self.spec.counts_matches(side) {
                continue;
            }
            for (row, other) in pairs.rows[side].iter().zip(&pairs.rows[1 - side]) {
                let weight = self.changes[1 - side].weight_after(*other as usize);
                self.changes[side].matches[*row as usize] += weight;
            }
        }
        self.show(pairs, [&columns[LEFT], &columns[RIGHT]])
    }

    /// Drops the pairs for which the residual is not true.
    fn keep_matching(&mut self, pairs: &mut Pairs, columns: [&[ArrayRef]; 2]) -> Result<()> {
        if let (Some(residual), true) = (&self.spec.residual, pairs.len() > 0) {
            let found = residual.matches(pairs, columns, &mut self.output.context.failures)?;
            if found.contains(&false) {
                pairs.retain(&found);
            }
        }
        Ok(())
    }

    fn show(&mut self, pairs: Pairs, columns: [&[ArrayRef]; 2]) -> Result<()> {
        if self.spec.kind.is_pairing() {
            self.output.pairs(self.spec, pairs, columns)?;
        }
        Ok(())
    }

    /// Changed rows of `side` with the stored rows of the other side, which are in `table`.
    pub fn scan(&mut self, side: usize, table: &mut StateTable) -> Result<()> {
        let other = 1 - side;
        if !self.spec.keeps_rows(other) || self.changes[side].is_empty() {
            return Ok(());
        }
        let mut writes = Writes::default();
        let mut chunk = Chunk::default();
        for index in 0..self.touched.len() {
            let touched = &self.touched[index];
            if touched.count_before[other] == 0 || !self.needs_scan(side, touched) {
                continue;
            }
            let key = touched.key(self.changes);
            let (key_len, mut skip) = (key.len(), touched.rows[other].clone());
            let mut stored = table.scan(&KeyRange::prefix(key))?;
            while stored.advance()? {
                if is_changed(&self.changes[other], &mut skip, stored.key()) {
                    continue;
                }
                chunk.rows.push(&stored.key()[key_len..]);
                if self.spec.counts_matches(other) {
                    chunk.keys.push(stored.key());
                }
                chunk.stored.push(Stored::decode(stored.value())?);
                chunk.touched.push(index);
                if chunk.is_full() {
                    self.scanned(side, std::mem::take(&mut chunk), &mut writes)?;
                }
            }
        }
        self.scanned(side, chunk, &mut writes)?;
        writes.apply(table);
        Ok(())
    }

    /// Whether the changed rows of `side` concern the other side's stored rows of their key, or the other way round.
    fn needs_scan(&self, side: usize, touched: &Touched) -> bool {
        let rows = &touched.rows[side];
        if rows.is_empty() {
            return false;
        }
        if self.spec.kind.is_pairing() {
            return true;
        }
        match (&self.spec.residual, side) {
            (None, LEFT) => false,
            (None, _) => touched.matched[LEFT].0 != touched.matched[LEFT].1,
            // a row that goes has its matches in the state; but what failed with it must be taken back
            (Some(residual), LEFT) => {
                let is_left = |row: usize| self.changes[LEFT].weight_after(row) > 0;
                residual.is_fallible || rows.clone().any(is_left)
            }
            (Some(_), _) => true,
        }
    }

    /// Changed rows of `side` with a chunk of unchanged rows of the other side.
    fn scanned(&mut self, side: usize, chunk: Chunk, writes: &mut Writes) -> Result<()> {
        if chunk.stored.is_empty() {
            return Ok(());
        }
        let other = 1 - side;
        let columns = self.spec.row_codecs[other].decode(chunk.rows.iter())?;
        let mut gained = vec![0i64; chunk.stored.len()];
        if self.spec.looks_at_pairs() {
            self.pair_with(side, &chunk, &columns, &mut gained)?;
        }
        if !self.spec.is_tracked(other) {
            return Ok(());
        }
        let mut singles = Singles::default();
        for (row, stored) in chunk.stored.iter().enumerate() {
            let (was_matched, is_matched) = match self.spec.residual {
                None => self.touched[chunk.touched[row]].matched[other],
                Some(_) => {
                    let matches = stored.matches + gained[row];
                    if gained[row] != 0 {
                        let weight = stored.weight;
                        writes.push(chunk.keys.get(row), Stored { weight, matches });
                    }
                    (stored.matches > 0, matches > 0)
                }
            };
            let (before, after) = ((stored.weight, was_matched), (stored.weight, is_matched));
            singles.change(self.spec.kind, row, before, after);
        }
        self.output.singles(self.spec, other, singles, &columns)
    }

    /// Pairs of changed rows of `side` with a chunk; `gained` is what each of the chunk's rows gains in matches.
    fn pair_with(
        &mut self,
        side: usize,
        chunk: &Chunk,
        columns: &[ArrayRef],
        gained: &mut [i64],
    ) -> Result<()> {
        let own = self.changes[side].columns.clone();
        let mut pairs = Pairs::default();
        for (row, stored) in chunk.stored.iter().enumerate() {
            for changed in self.touched[chunk.touched[row]].rows[side].clone() {
                let weight = self.changes[side].delta[changed] * stored.weight;
                match side {
                    LEFT => pairs.push(changed, row, weight),
                    _ => pairs.push(row, changed, weight),
                }
                if pairs.is_full() {
                    let pairs = std::mem::take(&mut pairs);
                    self.pairs_with(side, pairs, (&own, columns), chunk, gained)?;
                }
            }
        }
        self.pairs_with(side, pairs, (&own, columns), chunk, gained)
    }

    fn pairs_with(
        &mut self,
        side: usize,
        mut pairs: Pairs,
        (own, columns): (&[ArrayRef], &[ArrayRef]),
        chunk: &Chunk,
        gained: &mut [i64],
    ) -> Result<()> {
        let both = match side {
            LEFT => [own, columns],
            _ => [columns, own],
        };
        self.keep_matching(&mut pairs, both)?;
        let matched = pairs.rows[side].iter().zip(&pairs.rows[1 - side]);
        for (changed, row) in matched.map(|(changed, row)| (*changed as usize, *row as usize)) {
            self.changes[side].matches[changed] += chunk.stored[row].weight;
            gained[row] += self.changes[side].delta[changed];
        }
        self.show(pairs, both)
    }

    /// The changed rows themselves, where they are shown by whether they have a match.
    pub fn changed_rows(&mut self) -> Result<()> {
        for side in [LEFT, RIGHT] {
            if !self.spec.is_tracked(side) {
                continue;
            }
            let changes = &self.changes[side];
            let mut singles = Singles::default();
            for touched in self.touched {
                for row in touched.rows[side].clone() {
                    let (was_matched, is_matched) = match self.spec.residual {
                        None => touched.matched[side],
                        Some(_) => (changes.before[row].matches > 0, changes.matches[row] > 0),
                    };
                    let before = (changes.weight_before(row), was_matched);
                    let after = (changes.weight_after(row), is_matched);
                    singles.change(self.spec.kind, row, before, after);
                }
            }
            self.output
                .singles(self.spec, side, singles, &changes.columns)?;
        }
        Ok(())
    }
}

/// Whether the stored row at `key` is one that the epoch changes; `rows` are the changed ones that may still come.
pub fn is_changed(changes: &Changes, rows: &mut Range<usize>, key: &[u8]) -> bool {
    while rows.start < rows.end && changes.keys.get(rows.start) < key {
        rows.start += 1;
    }
    rows.start < rows.end && changes.keys.get(rows.start) == key
}

/// Numbers of matches that have changed, to be written when the table is no longer read.
#[derive(Default)]
struct Writes {
    keys: Keys,
    stored: Vec<Stored>,
}

impl Writes {
    fn push(&mut self, key: &[u8], stored: Stored) {
        self.keys.push(key);
        self.stored.push(stored);
    }

    fn apply(self, table: &mut StateTable) {
        let mut value = Vec::new();
        for (key, stored) in self.keys.iter().zip(&self.stored) {
            value.clear();
            stored.encode(true, &mut value);
            table.put(key, &value);
        }
    }
}
