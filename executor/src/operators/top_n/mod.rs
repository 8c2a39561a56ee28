//! The first rows of each group in an order: LIMIT, OFFSET, DISTINCT ON, WITH TIES, filters on a row's place.
//!
//! Semantics: `out[g] = rows of g behind the first skip and within the first skip + fetch`, in an order that ends with
//!   the whole row; a row of weight n counts as n rows. With ties a row also counts as within the limit if it equals
//!   the last one in the ORDER BY columns; or the limit counts distinct values of these. NULLs group together, and −0.0
//!   with 0.0. A row of which a key expression fails is left out and reported.
//! State: `rows`: (group, order, row) → weight, every row of the input, since a retraction may bring it in; of
//!   append-only input only those within the limit. `cuts`: group → where skip and limit lie in it (`cut.rs`). If a
//!   group column has a watermark, of groups that it has not passed.
//! Output: the input's columns, and the place if it is asked for; stream key: the group columns if one row is kept of
//!   each, with the place if that is unique, or else the input's; not append-only.
//! Watermark: kept on group columns. Where one has one, state keys begin with it, and groups that it has passed are
//!   forgotten, a range at a time; their output rows stay. Rows that come for them all the same are left out and counted.
//! Cost: per changed row one read and write, and as many reads around the cuts as rows changed, in key order, however
//!   large group and limit are. With places the first rows of each touched group are read, before and after.

mod cut;
mod numbered;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::{BoundExpr, Counting};

use self::cut::{Cut, Limit};
use super::conform::conform;
use super::ordered_rows::{GroupChanges, Pushed, RowOrder, Stored, changes, scan, write};
use super::windows::{Windows, passed_of, windows_of};
use crate::aggregates::{Reader, damaged};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::state::{Keys, StateTable, prefix_end};
use crate::watermark::Watermarks;

/// First byte of every entry of `cuts`.
const VERSION: u8 = 1;

/// See the module text.
pub struct TopN {
    order: RowOrder,
    /// Rows that are left out at the start.
    skip: Option<Limit>,
    /// Rows that are left out at the end; skipped ones count.
    limit: Option<Limit>,
    is_numbered: bool,
    /// Rows beyond the limit never come back.
    is_append_only: bool,
    schema: SchemaRef,
    rows: StateTable,
    cuts: StateTable,
    /// Of the first group column, with its place in the output.
    windows: Option<(Windows, usize)>,
    pushed: Vec<Pushed>,
    dropped: u64,
}

/// What of the order is shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    pub skip: u64,
    pub fetch: Option<u64>,
    pub counting: Counting,
    pub is_numbered: bool,
}

/// The cuts of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cuts {
    skip: Option<Cut>,
    limit: Option<Cut>,
}

/// Rows of the output, as bytes.
#[derive(Default)]
struct Changed {
    rows: Keys,
    places: Vec<i64>,
    weights: Vec<i64>,
}

impl TopN {
    /// `window`: the place in input and output of the first group column, if it has a watermark. `tables`: rows, cuts, and
    /// with a window one for what is forgotten. `input`: the schema and whether it is append-only.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operator_id: u32,
        (partition_by, window): (&[BoundExpr], Option<usize>),
        order_by: &[(BoundExpr, SortOptions)],
        shown: Shown,
        (input, is_append_only): (&SchemaRef, bool),
        schema: SchemaRef,
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let mut tables = tables.into_iter();
        let missing = || ExecutorError::Internal("TopN was given too few tables".to_string());
        let rows = tables.next().ok_or_else(missing)?;
        let cuts = tables.next().ok_or_else(missing)?;
        let windows = windows_of(partition_by, window, tables.next())?;
        let most = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        let limit = shown.fetch.map(|fetch| Limit {
            most: most(shown.skip.saturating_add(fetch)),
            counting: shown.counting,
        });
        let skip = (shown.skip > 0).then(|| Limit {
            most: most(shown.skip),
            counting: Counting::Rows,
        });
        if shown.is_numbered && (skip.is_some() || limit.is_none()) {
            let message = "a numbered TopN has a limit and no offset";
            return Err(ExecutorError::Internal(message.to_string()));
        }
        Ok(TopN {
            order: RowOrder::new(operator_id, partition_by, order_by, input)?,
            skip,
            limit,
            is_numbered: shown.is_numbered,
            is_append_only: is_append_only && limit.is_some(),
            schema,
            rows,
            cuts,
            windows,
            dropped: 0,
            pushed: Vec::new(),
        })
    }

    fn shows_nothing(&self) -> bool {
        self.limit
            .is_some_and(|limit| limit.most <= self.skip.map_or(0, |skip| skip.most))
    }

    /// The cuts of each group that the epoch touched.
    fn read_cuts(&mut self) -> Result<BTreeMap<Vec<u8>, Cuts>> {
        let mut groups: Vec<&[u8]> = self.pushed.iter().flat_map(Pushed::groups).collect();
        groups.sort_unstable();
        groups.dedup();
        let keys: Keys = groups.into_iter().collect();
        let stored = self.cuts.get_many(&keys)?;
        let mut found = BTreeMap::new();
        for (group, value) in keys.iter().zip(stored.iter()) {
            let cuts = match value {
                None => Cuts {
                    skip: self.skip.map(|skip| skip.empty()),
                    limit: self.limit.map(|limit| limit.empty()),
                },
                Some(value) => self.cuts_of(value)?,
            };
            found.insert(group.to_vec(), cuts);
        }
        Ok(found)
    }

    fn cuts_of(&self, value: &[u8]) -> Result<Cuts> {
        let mut reader = Reader::new(value);
        if reader.byte()? != VERSION {
            return Err(damaged());
        }
        let mut read =
            |limit: &Option<Limit>| limit.as_ref().map(|_| Cut::read(&mut reader)).transpose();
        Ok(Cuts {
            skip: read(&self.skip)?,
            limit: read(&self.limit)?,
        })
    }

    fn write_cuts(&mut self, group: &[u8], old: &Cuts, new: &Cuts) {
        if old == new {
            return;
        }
        let empty = Cut::Beyond { count: 0 };
        if [&new.skip, &new.limit]
            .into_iter()
            .flatten()
            .all(|cut| *cut == empty)
        {
            self.cuts.delete(group);
            return;
        }
        let mut value = vec![VERSION];
        for cut in [&new.skip, &new.limit].into_iter().flatten() {
            cut.store(&mut value);
        }
        self.cuts.put(group, &value);
    }

    /// Applies the changes of one group. `old`: its cuts.
    fn group(&mut self, changes: &GroupChanges, old: &Cuts, output: &mut Changed) -> Result<()> {
        let counts_values = self
            .limit
            .is_some_and(|limit| limit.counting == Counting::Values);
        let mut values: Vec<(Vec<u8>, i64)> = Vec::new();
        if counts_values {
            values = orders_of(changes);
            for (value, change) in &mut values {
                *change -= i64::from(has_value(&self.rows, &changes.group, value)?);
            }
        }
        let numbered = self.limit.filter(|_| self.is_numbered);
        let before = match numbered {
            Some(Limit { most, counting }) => {
                numbered::first_rows(&changes.group, most, counting, &self.rows)?
            }
            None => Vec::new(),
        };
        for change in &changes.rows {
            write(&mut self.rows, &changes.group, change);
        }
        for (value, change) in &mut values {
            *change += i64::from(has_value(&self.rows, &changes.group, value)?);
        }
        let moved = |limit: &Option<Limit>, cut: &Option<Cut>, table: &StateTable| {
            let both = limit.as_ref().zip(cut.as_ref());
            both.map(|(limit, cut)| limit.moved(cut, changes, &values, table))
                .transpose()
        };
        let new = Cuts {
            skip: moved(&self.skip, &old.skip, &self.rows)?,
            limit: moved(&self.limit, &old.limit, &self.rows)?,
        };
        let shifted = self.shifted(changes, old, &new)?;
        if self.is_append_only {
            self.forget(&changes.group, &shifted, changes, &new);
        }
        match numbered {
            Some(Limit { most, counting }) => {
                let after = numbered::first_rows(&changes.group, most, counting, &self.rows)?;
                for (row, place, weight) in numbered::difference(&before, &after, most, counting) {
                    output.add(&row, place, weight);
                }
            }
            None => {
                for (row, weight) in shifted.values().filter(|(_, weight)| *weight != 0) {
                    output.add(row, 0, *weight);
                }
            }
        }
        self.write_cuts(&changes.group, old, &new);
        Ok(())
    }

    /// The rows that are shown more or less often than before, and those that left both cuts.
    fn shifted(
        &self,
        changes: &GroupChanges,
        old: &Cuts,
        new: &Cuts,
    ) -> Result<BTreeMap<Vec<u8>, (Stored, i64)>> {
        let mut sums: BTreeMap<Vec<u8>, (Stored, i64)> = BTreeMap::new();
        let mut add = |rows: Vec<(Stored, i64)>, sign: i64| {
            for (row, more) in rows {
                let sum = sums.entry(row.key.clone()).or_insert((row, 0));
                sum.1 += sign * more;
            }
        };
        match (&self.limit, &old.limit, &new.limit) {
            (Some(limit), Some(old), Some(new)) => {
                add(limit.difference(old, new, changes, &self.rows)?, 1);
            }
            _ => {
                let all = changes.rows.iter().map(|change| {
                    let row = Stored {
                        key: change.key.clone(),
                        order_len: change.order_len,
                        weight: change.after,
                    };
                    (row, change.after - change.before)
                });
                add(all.collect(), 1);
            }
        }
        if let (Some(skip), Some(old), Some(new)) = (&self.skip, &old.skip, &new.skip) {
            add(skip.difference(old, new, changes, &self.rows)?, -1);
        }
        Ok(sums)
    }

    /// Deletes what is beyond the limit for good.
    fn forget(
        &mut self,
        group: &[u8],
        shifted: &BTreeMap<Vec<u8>, (Stored, i64)>,
        changes: &GroupChanges,
        new: &Cuts,
    ) {
        let (Some(limit), Some(cut)) = (self.limit, &new.limit) else {
            return;
        };
        let left = shifted.values().map(|(row, _)| (&row.key, row.order_len));
        let changed = changes.rows.iter().map(|row| (&row.key, row.order_len));
        for (key, order_len) in left.chain(changed) {
            if limit.is_beyond(cut, key, order_len) {
                self.rows.delete(&[group, key].concat());
            }
        }
    }
}

/// The values of the order that changed rows have, each with 0.
fn orders_of(changes: &GroupChanges) -> Vec<(Vec<u8>, i64)> {
    let mut values: Vec<(Vec<u8>, i64)> = changes
        .rows
        .iter()
        .map(|change| (change.key[..change.order_len].to_vec(), 0))
        .collect();
    values.dedup();
    values
}

fn has_value(table: &StateTable, group: &[u8], value: &[u8]) -> Result<bool> {
    let end = prefix_end(value);
    Ok(scan(table, group, value, end.as_deref(), false)?
        .next()?
        .is_some())
}

impl Changed {
    fn add(&mut self, row: &Stored, place: i64, weight: i64) {
        self.rows.push(&row.key[row.order_len..]);
        self.places.push(place);
        self.weights.push(weight);
    }

    fn into_delta(self, operator: &TopN) -> Result<Option<Delta>> {
        if self.weights.is_empty() {
            return Ok(None);
        }
        let count = self.weights.len();
        let mut columns: Vec<ArrayRef> = operator.order.decode(self.rows.iter())?;
        if operator.is_numbered {
            columns.push(std::sync::Arc::new(Int64Array::from(self.places)));
        }
        let batch = conform(&operator.schema, columns, count)?;
        Ok(Some(Delta::new(batch, Some(self.weights.into()))))
    }
}

impl Operator for TopN {
    fn name(&self) -> &'static str {
        "TopN"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        if !delta.is_empty() && !self.shows_nothing() {
            let passed = passed_of(&mut self.windows)?;
            self.dropped += self.order.push(delta, &mut self.pushed, passed, context)?;
        }
        Ok(Vec::new())
    }

    fn finish(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        let cuts = self.read_cuts()?;
        let pushed = std::mem::take(&mut self.pushed);
        let (limit, is_append_only) = (self.limit, self.is_append_only);
        let groups = changes(&pushed, &mut self.rows, |group, key, order_len| {
            let cut = cuts.get(group).and_then(|cuts| cuts.limit.as_ref());
            match (limit, cut) {
                (Some(limit), Some(cut)) if is_append_only => !limit.is_beyond(cut, key, order_len),
                _ => true,
            }
        })?;
        let mut output = Changed::default();
        for changes in &groups {
            let old = cuts
                .get(&changes.group)
                .ok_or_else(|| ExecutorError::Internal("a group without cuts".to_string()))?;
            self.group(changes, old, &mut output)?;
        }
        Ok(output.into_delta(self)?.into_iter().collect())
    }

    fn advance(
        &mut self,
        _inputs: &[Watermarks],
        output: &Watermarks,
        context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        let Some((windows, column)) = &mut self.windows else {
            return Ok(());
        };
        let tables = &mut [&mut self.rows, &mut self.cuts];
        windows.clean(output.get(*column), context, tables)
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn held_bytes(&self) -> usize {
        self.pushed.iter().map(Pushed::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let mut tables = vec![&mut self.rows, &mut self.cuts];
        tables.extend(self.windows.as_mut().map(|(windows, _)| windows.table()));
        tables
    }

    fn discard(&mut self) {
        self.pushed.clear();
        self.rows.discard();
        self.cuts.discard();
        if let Some((windows, _)) = &mut self.windows {
            windows.discard();
        }
    }
}
