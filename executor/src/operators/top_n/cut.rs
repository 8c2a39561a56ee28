//! The place in a group's order behind which rows are beyond a limit, moved along with the group's changes.
//!
//! A cut remembers the last row within the limit and what comes before it. A change before that row shifts it by the
//! change's weight, so that the new cut is as many rows away as the epoch changed, however many rows the group or the
//! limit has.
//!
//! ```text
//! stored:   | 0 | count signed |                 the limit is not reached; so much is there
//!           | 1 | before signed | bytes of order signed | key of the last row as bytes (values: its order) |
//! ```

use std::cmp::Ordering;

use rivermark_planner::plan::Counting;

use crate::aggregates::{Reader, damaged, put_signed};
use crate::error::Result;
use crate::operators::ordered_rows::{Change, GroupChanges, Stored, scan};
use crate::state::{StateTable, prefix_end};

/// A limit of a number of rows, or of distinct values.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub most: i64,
    pub counting: Counting,
}

/// Where the limit lies in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Nowhere: `count`, which is less than the limit, is all there is.
    Beyond { count: i64 },
    /// `before` come before `last`, and `last` reaches the limit.
    At { before: i64, last: Unit },
}

/// What a limit counts: a row, or a value of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    key: Vec<u8>,
    order_len: usize,
}

impl Unit {
    fn order(&self) -> &[u8] {
        &self.key[..self.order_len]
    }
}

impl Cut {
    /// Appends the stored form.
    pub fn store(&self, out: &mut Vec<u8>) {
        match self {
            Cut::Beyond { count } => {
                out.push(0);
                put_signed(*count, out);
            }
            Cut::At { before, last } => {
                out.push(1);
                put_signed(*before, out);
                put_signed(last.order_len as i64, out);
                put_signed(last.key.len() as i64, out);
                out.extend_from_slice(&last.key);
            }
        }
    }

    /// Reads what [`Self::store`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.byte()? {
            0 => Cut::Beyond {
                count: reader.signed()?,
            },
            1 => {
                let (before, order_len) = (reader.signed()?, reader.signed()?);
                let length = reader.signed()?;
                let key = reader.take(length as usize)?.to_vec();
                let order_len = order_len as usize;
                Cut::At {
                    before,
                    last: Unit { key, order_len },
                }
            }
            _ => return Err(damaged()),
        })
    }
}

impl Limit {
    /// The cut of a group without rows.
    pub fn empty(&self) -> Cut {
        Cut::Beyond { count: 0 }
    }

    /// How often a row of weight `weight` lies within the cut.
    pub fn within(&self, cut: &Cut, key: &[u8], order_len: usize, weight: i64) -> i64 {
        let Cut::At { before, last } = cut else {
            return weight;
        };
        match self.counting {
            Counting::Rows => match key.cmp(&last.key) {
                Ordering::Less => weight,
                Ordering::Equal => weight.min(self.most - before),
                Ordering::Greater => 0,
            },
            Counting::Ties | Counting::Values if key[..order_len] <= *last.order() => weight,
            Counting::Ties | Counting::Values => 0,
        }
    }

    /// Whether rows of this key and behind can only be beyond the cut.
    pub fn is_beyond(&self, cut: &Cut, key: &[u8], order_len: usize) -> bool {
        match (cut, self.counting) {
            (Cut::Beyond { .. }, _) => false,
            (Cut::At { last, .. }, Counting::Rows) => key > last.key.as_slice(),
            (Cut::At { last, .. }, Counting::Ties | Counting::Values) => {
                key[..order_len] > *last.order()
            }
        }
    }

    /// The cut after `changes`, which are written to the table; `values` are those of the order that came
    /// (+1) or went (-1), if they are what is counted.
    pub fn moved(
        &self,
        cut: &Cut,
        changes: &GroupChanges,
        values: &[(Vec<u8>, i64)],
        table: &StateTable,
    ) -> Result<Cut> {
        let is_before = |key: &[u8]| match cut {
            Cut::Beyond { .. } => true,
            Cut::At { last, .. } => key < last.key.as_slice(),
        };
        let shift: i64 = match self.counting {
            Counting::Rows | Counting::Ties => changes
                .rows
                .iter()
                .filter(|change| is_before(&change.key))
                .map(|change| change.after - change.before)
                .sum(),
            Counting::Values => values
                .iter()
                .filter(|(value, _)| is_before(value))
                .map(|(_, change)| change)
                .sum(),
        };
        let group = &changes.group;
        match cut {
            Cut::Beyond { count } => {
                let count = count + shift;
                if count < self.most {
                    return Ok(Cut::Beyond { count });
                }
                self.backwards(group, None, count, table)
            }
            Cut::At { before, last } => {
                let before = before + shift;
                if before >= self.most {
                    return self.backwards(group, Some(&last.key), before, table);
                }
                self.forwards(group, &last.key, before, table)
            }
        }
    }

    /// `count` come before `from`, and that is too many.
    fn backwards(
        &self,
        group: &[u8],
        from: Option<&[u8]>,
        count: i64,
        table: &StateTable,
    ) -> Result<Cut> {
        let (mut before, mut end) = (count, from.map(<[u8]>::to_vec));
        let mut rows = scan(table, group, &[], end.as_deref(), true)?;
        while let Some(row) = rows.next()? {
            let (last, weight) = self.unit(row);
            before -= weight;
            if before < self.most {
                return Ok(Cut::At { before, last });
            }
            if self.counting == Counting::Values {
                end = Some(last.key);
                drop(rows);
                rows = scan(table, group, &[], end.as_deref(), true)?;
            }
        }
        Err(damaged())
    }

    /// `before`, which is less than the limit, come before `from`.
    fn forwards(
        &self,
        group: &[u8],
        from: &[u8],
        mut before: i64,
        table: &StateTable,
    ) -> Result<Cut> {
        let mut rows = scan(table, group, from, None, false)?;
        while let Some(row) = rows.next()? {
            let (last, weight) = self.unit(row);
            if before + weight >= self.most {
                return Ok(Cut::At { before, last });
            }
            before += weight;
            if self.counting == Counting::Values {
                let Some(next) = prefix_end(&last.key) else {
                    break;
                };
                drop(rows);
                rows = scan(table, group, &next, None, false)?;
            }
        }
        Ok(Cut::Beyond { count: before })
    }

    /// What is counted of a row, and how much it counts.
    fn unit(&self, mut row: Stored) -> (Unit, i64) {
        let weight = match self.counting {
            Counting::Rows | Counting::Ties => row.weight,
            Counting::Values => {
                row.key.truncate(row.order_len);
                1
            }
        };
        let Stored { key, order_len, .. } = row;
        (Unit { key, order_len }, weight)
    }

    /// The rows that may lie within one of the cuts and not, or not as often, within the other: from, to.
    fn between(&self, old: &Cut, new: &Cut) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let (first, second) = match (old, new) {
            (Cut::Beyond { .. }, Cut::Beyond { .. }) => return None,
            (Cut::At { last, .. }, Cut::Beyond { .. })
            | (Cut::Beyond { .. }, Cut::At { last, .. }) => (last, None),
            (Cut::At { last: old, .. }, Cut::At { last: new, .. }) if old.key <= new.key => {
                (old, Some(new))
            }
            (Cut::At { last: old, .. }, Cut::At { last: new, .. }) => (new, Some(old)),
        };
        match self.counting {
            // The last row itself may lie within the limit in part.
            Counting::Rows => {
                let behind = second.map(|last| [&last.key, &[0][..]].concat());
                Some((first.key.clone(), behind))
            }
            Counting::Ties | Counting::Values => {
                let from = prefix_end(first.order())?;
                let to = match second {
                    Some(last) if last.order() == first.order() => return None,
                    Some(last) => prefix_end(last.order()),
                    None => None,
                };
                Some((from, to))
            }
        }
    }

    /// How often more each row lies within the new cut than within the old one, by key.
    pub fn difference(
        &self,
        old: &Cut,
        new: &Cut,
        changes: &GroupChanges,
        table: &StateTable,
    ) -> Result<Vec<(Stored, i64)>> {
        let mut found = Vec::new();
        for change in &changes.rows {
            let Change { key, order_len, .. } = change;
            let more = self.within(new, key, *order_len, change.after)
                - self.within(old, key, *order_len, change.before);
            if more != 0 {
                found.push((stored(change), more));
            }
        }
        let Some((from, to)) = self.between(old, new) else {
            return Ok(found);
        };
        let mut rows = scan(table, &changes.group, &from, to.as_deref(), false)?;
        while let Some(row) = rows.next()? {
            let is_changed = changes
                .rows
                .binary_search_by(|change| change.key.cmp(&row.key))
                .is_ok();
            let more = self.within(new, &row.key, row.order_len, row.weight)
                - self.within(old, &row.key, row.order_len, row.weight);
            if !is_changed && more != 0 {
                found.push((row, more));
            }
        }
        Ok(found)
    }
}

fn stored(change: &Change) -> Stored {
    Stored {
        key: change.key.clone(),
        order_len: change.order_len,
        weight: change.after,
    }
}
