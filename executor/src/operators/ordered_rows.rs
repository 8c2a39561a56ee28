//! Rows of groups in a total order, as top-N and window functions keep them: how a row becomes a key, and an epoch's
//! changes of them.
//!
//! ```text
//! key:      | group (KeyCodec) | order (KeyCodec) | row (RowCodec) |
//! value:    | weight signed | bytes of order signed |
//! ```
//! The row at the end makes the order total, whatever is equal before it; a weight counts as that many rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;
use rayon::prelude::*;
use rivermark_planner::plan::BoundExpr;

use super::chunks;
use super::net::net;
use super::windows::without_passed;
use crate::aggregates::{Reader, put_signed};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::{Evaluator, evaluate_all};
use crate::operator::{EpochContext, Failure};
use crate::state::{KeyCodec, KeyRange, Keys, RowCodec, StateTable, TableReader, TableScan};

/// How a key's cell begins that is not NULL.
pub const PRESENT: u8 = 1;

/// How rows become keys.
pub struct RowOrder {
    evaluator: Evaluator,
    /// The groups' expressions, then the order's, then those that only must not fail.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    groups: usize,
    orders: usize,
    group_codec: KeyCodec,
    order_codec: KeyCodec,
    row_codec: RowCodec,
}

/// Rows with weights, as keys.
#[derive(Default)]
pub struct Pushed {
    keys: Keys,
    /// Bytes of the group, and of the order behind it.
    parts: Vec<(u32, u32)>,
    weights: Vec<i64>,
}

/// One row whose weight an epoch changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// Without the group.
    pub key: Vec<u8>,
    /// How much of the key is the order.
    pub order_len: usize,
    pub before: i64,
    pub after: i64,
}

/// What an epoch changed in one group, in key order. Nothing is written yet.
pub struct GroupChanges {
    pub group: Vec<u8>,
    pub rows: Vec<Change>,
}

impl Pushed {
    /// Bytes in memory, about.
    pub fn memory(&self) -> usize {
        self.keys.data_len() + self.weights.len() * 24
    }

    /// The group of each row.
    pub fn groups(&self) -> impl Iterator<Item = &[u8]> {
        let keys = self.keys.iter().zip(&self.parts);
        keys.map(|(key, (group_len, _))| &key[..*group_len as usize])
    }
}

impl RowOrder {
    /// `input`: the rows' schema.
    pub fn new(
        operator_id: u32,
        partition_by: &[BoundExpr],
        order_by: &[(BoundExpr, SortOptions)],
        input: &SchemaRef,
    ) -> Result<Self> {
        let types = |exprs: &[BoundExpr]| exprs.iter().map(|e| e.data_type.clone()).collect();
        let (order, options): (Vec<BoundExpr>, Vec<SortOptions>) = order_by.iter().cloned().unzip();
        let row: Vec<DataType> = input
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        Ok(RowOrder {
            evaluator: Evaluator::new(operator_id),
            exprs: partition_by
                .iter()
                .chain(&order)
                .map(|expr| expr.physical.clone())
                .collect(),
            groups: partition_by.len(),
            orders: order_by.len(),
            group_codec: KeyCodec::new(types(partition_by), None)?,
            order_codec: KeyCodec::new(types(&order), Some(options))?,
            row_codec: RowCodec::new(row)?,
        })
    }

    /// Leaves out rows of which one of `exprs` fails, too.
    pub fn checking(mut self, exprs: &[BoundExpr]) -> Self {
        self.exprs
            .extend(exprs.iter().map(|expr| expr.physical.clone()));
        self
    }

    /// Adds the rows of `delta` to `pushed`, on several threads if there are many. Rows of which an expression fails
    /// are left out and reported; those whose first group column is a window before `passed` are left out, and how many
    /// they are is returned.
    pub fn push(
        &self,
        delta: Delta,
        pushed: &mut Vec<Pushed>,
        passed: Option<i64>,
        context: &mut EpochContext,
    ) -> Result<u64> {
        let before = delta.num_rows();
        let mut parts = chunks::split(delta, context.shards);
        let encode = |part: Delta| {
            let mut failures = Vec::new();
            self.encode(part, passed, &mut failures)
                .map(|pushed| (pushed, failures))
        };
        let results: Vec<Result<(Pushed, Vec<Failure>)>> = if parts.len() == 1 {
            parts.drain(..).map(encode).collect()
        } else {
            parts.into_par_iter().map(encode).collect()
        };
        let mut left_out = before;
        for result in results {
            let (part, failures) = result?;
            left_out -= part.weights.len() + failures.len();
            context.failures.extend(failures);
            if !part.weights.is_empty() {
                pushed.push(part);
            }
        }
        Ok(left_out as u64)
    }

    fn encode(
        &self,
        delta: Delta,
        passed: Option<i64>,
        failures: &mut Vec<Failure>,
    ) -> Result<Pushed> {
        let compute = |batch: &RecordBatch| evaluate_all(&self.exprs, batch);
        let (delta, columns) = self.evaluator.evaluate_with(&compute, delta, failures)?;
        let (delta, columns) = match passed {
            Some(passed) => without_passed(delta, columns, 0, passed)?,
            None => (delta, columns),
        };
        let count = delta.num_rows();
        let (groups, order) = columns.split_at(self.groups);
        let groups = encoded(&self.group_codec, groups, count)?;
        let order = encoded(&self.order_codec, &order[..self.orders], count)?;
        let rows = match delta.columns() {
            [] => (0..count).map(|_| &[][..]).collect(),
            columns => self.row_codec.encode(columns)?,
        };
        let bytes = groups.data_len() + order.data_len() + rows.data_len();
        let mut keys = Keys::with_capacity(count, bytes);
        let mut parts = Vec::with_capacity(count);
        for row in 0..count {
            keys.push_with(|out| {
                out.extend_from_slice(groups.get(row));
                out.extend_from_slice(order.get(row));
                out.extend_from_slice(rows.get(row));
            });
            parts.push((groups.get(row).len() as u32, order.get(row).len() as u32));
        }
        let weights = (0..count).map(|row| delta.weight(row)).collect();
        Ok(Pushed {
            keys,
            parts,
            weights,
        })
    }

    /// The columns of rows, of which `keys` hold the ends.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        Ok(self.row_codec.decode(rows)?)
    }
}

/// The time that an order of one ascending time is; `None`: it is NULL.
pub fn time_of_order(order: &[u8]) -> Option<i64> {
    match order {
        [PRESENT, time @ ..] => {
            let bytes = <[u8; 8]>::try_from(time).ok()?;
            Some(time_of_bytes(bytes))
        }
        _ => None,
    }
}

/// The order of a time, as [`time_of_order`] reads it.
pub fn order_of_time(time_us: i64) -> [u8; 9] {
    let mut order = [PRESENT; 9];
    order[1..].copy_from_slice(&time_bytes(time_us));
    order
}

/// Eight bytes in the order of the times.
pub fn time_bytes(time_us: i64) -> [u8; 8] {
    ((time_us as u64) ^ (1 << 63)).to_be_bytes()
}

/// The time that [`time_bytes`] wrote.
pub fn time_of_bytes(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

fn encoded(codec: &KeyCodec, columns: &[ArrayRef], count: usize) -> Result<Keys> {
    match columns {
        [] => Ok((0..count).map(|_| &[][..]).collect()),
        columns => Ok(codec.encode(columns)?),
    }
}

/// What an epoch changed, by group. `is_wanted` (of group and rest of the key) leaves out rows that are of no
/// consequence. A row that would be there less than no times is a mistake of the input.
pub fn changes(
    pushed: &[Pushed],
    table: &mut StateTable,
    mut is_wanted: impl FnMut(&[u8], &[u8], usize) -> bool,
) -> Result<Vec<GroupChanges>> {
    let key = |(part, row): (usize, usize)| pushed[part].keys.get(row);
    let rows = pushed
        .iter()
        .enumerate()
        .flat_map(|(part, p)| (0..p.weights.len()).map(move |row| (part, row)));
    let wanted = rows.filter(|at| {
        let (group_len, order_len) = pushed[at.0].parts[at.1];
        let (group, rest) = key(*at).split_at(group_len as usize);
        is_wanted(group, rest, order_len as usize)
    });
    let net = net(wanted.collect(), key, |(part, row)| {
        pushed[part].weights[row]
    });
    let keys: Keys = net.iter().map(|(at, _)| key(*at)).collect();
    let stored = table.get_many(&keys)?;
    let mut groups: Vec<GroupChanges> = Vec::new();
    for (index, (at, sum)) in net.iter().enumerate() {
        let (group_len, order_len) = pushed[at.0].parts[at.1];
        let (group, rest) = key(*at).split_at(group_len as usize);
        let before = match stored.get(index) {
            Some(value) => Reader::new(value).signed()?,
            None => 0,
        };
        let change = Change {
            key: rest.to_vec(),
            order_len: order_len as usize,
            before,
            after: before + sum,
        };
        if change.after < 0 {
            let message = "a row was retracted that is not there";
            return Err(ExecutorError::Internal(message.to_string()));
        }
        match groups.last_mut() {
            Some(last) if last.group == group => last.rows.push(change),
            _ => groups.push(GroupChanges {
                group: group.to_vec(),
                rows: vec![change],
            }),
        }
    }
    Ok(groups)
}

/// Writes the new weight of a row.
pub fn write(table: &mut StateTable, group: &[u8], change: &Change) {
    let key = [group, &change.key].concat();
    if change.after == 0 {
        table.delete(&key);
        return;
    }
    let mut value = Vec::with_capacity(4);
    put_signed(change.after, &mut value);
    put_signed(change.order_len as i64, &mut value);
    table.put(&key, &value);
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Without the group.
    pub key: Vec<u8>,
    pub order_len: usize,
    pub weight: i64,
}

impl Stored {
    pub fn order(&self) -> &[u8] {
        &self.key[..self.order_len]
    }
}

/// Reads the rows of one group.
pub struct GroupScan<'a> {
    scan: TableScan<'a>,
    group_len: usize,
}

/// A table that rows are read from: with the writer's iterators, or with a thread's own.
pub trait Ranges {
    fn range(&self, range: &KeyRange, is_reverse: bool) -> Result<TableScan<'_>>;
}

impl Ranges for StateTable {
    fn range(&self, range: &KeyRange, is_reverse: bool) -> Result<TableScan<'_>> {
        Ok(match is_reverse {
            true => self.scan_reverse(range)?,
            false => self.scan(range)?,
        })
    }
}

impl Ranges for TableReader<'_> {
    fn range(&self, range: &KeyRange, is_reverse: bool) -> Result<TableScan<'_>> {
        Ok(self.scan(range, is_reverse)?)
    }
}

/// The rows of `group` whose keys, without the group, are at or above `from` and below `to`.
pub fn scan<'a>(
    table: &'a impl Ranges,
    group: &[u8],
    from: &[u8],
    to: Option<&[u8]>,
    is_reverse: bool,
) -> Result<GroupScan<'a>> {
    let to = match to {
        Some(to) => Some([group, to].concat()),
        None => KeyRange::prefix(group).to,
    };
    let range = KeyRange::new([group, from].concat(), to);
    Ok(GroupScan {
        scan: table.range(&range, is_reverse)?,
        group_len: group.len(),
    })
}

impl GroupScan<'_> {
    /// The next row.
    pub fn next(&mut self) -> Result<Option<Stored>> {
        if !self.scan.advance()? {
            return Ok(None);
        }
        let mut value = Reader::new(self.scan.value());
        let (weight, order_len) = (value.signed()?, value.signed()?);
        Ok(Some(Stored {
            key: self.scan.key()[self.group_len..].to_vec(),
            order_len: order_len as usize,
            weight,
        }))
    }
}
