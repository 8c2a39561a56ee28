//! Joins of each left row with the one right row that is nearest in time (`ASOF JOIN`).
//!
//! Semantics: of the right rows with equal keys the latest whose time is at most (or less than) the left row's, or the
//!   earliest that is at least it; of several with the same time the first in the order of whole rows. If that one
//!   does not fulfil the tolerance, none does. Inner leaves left rows without one out, left shows them with NULLs. A NULL
//!   key or time matches nothing. Weights of the left count, those of the right do not. A row of which a key or time
//!   fails is left out and reported; a pair of which the tolerance fails does not match and is reported.
//! State: `left`, `right`: (key, time, row) → weight, of both alike in the order in which right rows are near: the first
//!   right row at or behind a left row's place is its match. Grows with both inputs; where both times have watermarks,
//!   `due`: (time, row) → nothing says what they pass: then left rows are forgotten, and right rows but for the latest.
//!   Rows without a time are kept.
//! Output: the columns of both; stream key: the left's; not append-only.
//! Watermark: kept on compared keys, the minimum of both sides; on the left's time, if it is the latest right row that is
//!   near, the minimum of both times. Rows that come for what is forgotten are left out and counted.
//! Cost: per changed left row one read and write and one seek on the right; per changed right row one seek for the row
//!   before it, and the left rows between the two, one seek for each match that they have. No other rows of the key. Each
//!   row that is passed is forgotten by one delete, a right one after one seek.

mod output;
mod places;

#[cfg(test)]
mod tests;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::{BoundExpr, JoinKey, NearestTimes, PlanNode};

use self::output::{Matched, Output, Spec};
use self::places::{Finder, Place, affected};
use super::due::{Due, DueRow};
use super::ordered_rows::{Change, GroupChanges, Pushed, RowOrder, changes, scan, write};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::state::StateTable;
use crate::watermark::Watermarks;

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// See the module text.
pub struct Nearest {
    spec: Spec,
    orders: [RowOrder; 2],
    is_strict: bool,
    rows: [StateTable; 2],
    /// What both watermarks pass, and the columns that they are of.
    due: Option<(Due, [usize; 2])>,
    pushed: [Vec<Pushed>; 2],
    /// Stored rows that were read, but for those that changed themselves.
    read: u64,
}

impl Nearest {
    /// `tables`: left, right, and with `forgets`, the times' columns, what is due and up to where it is forgotten.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operator_id: u32,
        (keys, times): (&[JoinKey], &NearestTimes),
        (keeps_unmatched, tolerance): (bool, Option<&BoundExpr>),
        forgets: Option<(usize, usize)>,
        inputs: &[PlanNode],
        schema: SchemaRef,
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let [left, right] = inputs else {
            let message = format!("Nearest was given {} inputs", inputs.len());
            return Err(ExecutorError::Internal(message));
        };
        let mut tables = tables.into_iter();
        let missing = || ExecutorError::Internal("Nearest was given too few tables".into());
        let mut next = || tables.next().ok_or_else(missing);
        let rows = [next()?, next()?];
        let due = match forgets {
            Some((left, right)) => {
                let due = Due::new(times.is_latest, [next()?, next()?]);
                Some((due, [left, right]))
            }
            None => None,
        };
        // What has no time is behind all right rows.
        let options = SortOptions {
            descending: times.is_latest,
            nulls_first: false,
        };
        let order = |keys: Vec<BoundExpr>, time: &BoundExpr, input: &PlanNode| {
            RowOrder::new(
                operator_id,
                &keys,
                &[(time.clone(), options)],
                &input.schema,
            )
        };
        let of_left = keys.iter().map(|key| key.left.clone()).collect();
        let of_right = keys.iter().map(|key| key.right.clone()).collect();
        let sides = [&left.schema, &right.schema];
        Ok(Nearest {
            spec: Spec::new(operator_id, keeps_unmatched, tolerance, sides, schema)?,
            orders: [
                order(of_left, &times.left, left)?,
                order(of_right, &times.right, right)?,
            ],
            is_strict: times.is_strict,
            rows,
            due,
            pushed: [Vec::new(), Vec::new()],
            read: 0,
        })
    }

    /// What the epoch changed of a side.
    fn changes(&mut self, side: usize) -> Result<Vec<GroupChanges>> {
        let pushed = std::mem::take(&mut self.pushed[side]);
        let table = &mut self.rows[side];
        match &mut self.due {
            Some((due, _)) => due.changes(&pushed, table),
            None => changes(&pushed, table, |_, _, _| true),
        }
    }
}

/// What an epoch changed of one key.
struct Touched<'a> {
    key: &'a [u8],
    rows: [&'a [Change]; 2],
}

/// The changes of both sides, key by key.
fn by_key<'a>(changes: [&'a [GroupChanges]; 2]) -> Vec<Touched<'a>> {
    let mut next = [0, 0];
    let mut all = Vec::new();
    loop {
        let group = |side: usize| changes[side].get(next[side]);
        let (left, right) = (group(LEFT), group(RIGHT));
        let Some(key) = left.into_iter().chain(right).map(|g| &g.group).min() else {
            return all;
        };
        let rows = [left, right].map(|group| match group {
            Some(group) if group.group == *key => group.rows.as_slice(),
            _ => &[],
        });
        for (next, rows) in next.iter_mut().zip(rows) {
            *next += usize::from(!rows.is_empty());
        }
        all.push(Touched { key, rows });
    }
}

impl Nearest {
    /// Shows what changes for the left rows of one key; nothing is written yet.
    fn show(
        rows: &[StateTable; 2],
        is_strict: bool,
        touched: &Touched<'_>,
        output: &mut Output<'_, '_, '_>,
    ) -> Result<u64> {
        let [left, right] = touched.rows;
        let mut read = 0;
        let mut finder = Finder::new(&rows[RIGHT], touched.key, right, is_strict);
        for change in left {
            let place = Place::of(&change.key[..change.order_len]);
            let (old, new) = finder.find(place)?;
            output.add(Matched {
                row: &change.key[change.order_len..],
                before: change.before,
                after: change.after,
                old,
                new,
            })?;
        }
        read += finder.read;
        let mut finder = Finder::new(&rows[RIGHT], touched.key, right, is_strict);
        for (from, to) in affected(&rows[RIGHT], touched.key, right, is_strict)? {
            let mut stored = scan(&rows[LEFT], touched.key, &from, Some(&to), false)?;
            let mut changed = left.partition_point(|change| change.key < from);
            while let Some(row) = stored.next()? {
                read += 1;
                while left.get(changed).is_some_and(|change| change.key < row.key) {
                    changed += 1;
                }
                if left
                    .get(changed)
                    .is_some_and(|change| change.key == row.key)
                {
                    continue;
                }
                let (old, new) = finder.find(Place::of(row.order()))?;
                output.add(Matched {
                    row: &row.key[row.order_len..],
                    before: row.weight,
                    after: row.weight,
                    old,
                    new,
                })?;
            }
        }
        Ok(read + finder.read)
    }
}

/// Of a row that both watermarks have passed: a left one itself, since it gets no other match, or the right one that comes
/// behind it in the order, since it is nearer to all that are still to come.
fn forget(rows: &mut [StateTable; 2], row: &DueRow<'_>) -> Result<()> {
    if row.port == LEFT {
        rows[LEFT].delete(&[row.group, row.key].concat());
        return Ok(());
    }
    // Rows come in the order of their times, and each takes away the one before: there is one at most.
    let behind = [row.key, &[0]].concat();
    let mut earlier = scan(&rows[RIGHT], row.group, &behind, None, false)?;
    let gone = earlier
        .next()?
        .map(|stored| [row.group, &stored.key].concat());
    drop(earlier);
    gone.iter().for_each(|key| rows[RIGHT].delete(key));
    Ok(())
}

impl Operator for Nearest {
    fn name(&self) -> &'static str {
        "Nearest"
    }

    fn push(
        &mut self,
        port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        if !delta.is_empty() {
            self.orders[port].push(delta, &mut self.pushed[port], None, context)?;
        }
        Ok(Vec::new())
    }

    fn finish_into(&mut self, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        if self.pushed.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let changes = [self.changes(LEFT)?, self.changes(RIGHT)?];
        let mut output = Output::new(&self.spec, &self.orders, context, emit);
        for touched in by_key([&changes[LEFT], &changes[RIGHT]]) {
            self.read += Self::show(&self.rows, self.is_strict, &touched, &mut output)?;
        }
        output.flush()?;
        for (side, groups) in changes.iter().enumerate() {
            for (group, change) in groups
                .iter()
                .flat_map(|group| group.rows.iter().map(move |change| (group, change)))
            {
                write(&mut self.rows[side], &group.group, change);
                if let Some((due, _)) = &mut self.due {
                    due.note(side, &group.group, change);
                }
            }
        }
        Ok(())
    }

    fn advance(
        &mut self,
        inputs: &[Watermarks],
        _output: &Watermarks,
        _context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        let (Some((due, columns)), [left, right]) = (&mut self.due, inputs) else {
            return Ok(());
        };
        let bounds = left.get(columns[LEFT]).zip(right.get(columns[RIGHT]));
        let bound = bounds.map(|(left, right)| left.min(right));
        let rows = &mut self.rows;
        due.advance(bound, &mut |row| forget(rows, &row))
    }

    fn take_dropped(&mut self) -> u64 {
        let due = self.due.as_mut();
        due.map_or(0, |(due, _)| due.take_dropped())
    }

    fn held_bytes(&self) -> usize {
        self.pushed.iter().flatten().map(Pushed::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let mut tables: Vec<&mut StateTable> = self.rows.iter_mut().collect();
        tables.extend(self.due.iter_mut().flat_map(|(due, _)| due.tables()));
        tables
    }

    fn discard(&mut self) {
        self.pushed = [Vec::new(), Vec::new()];
        self.rows.iter_mut().for_each(StateTable::discard);
        if let Some((due, _)) = &mut self.due {
            due.discard();
        }
    }
}
