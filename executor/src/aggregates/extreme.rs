//! `min` and `max` of append-only input, and `first_value` and `last_value` with an order: one value per group.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::encoding::{Reader, put_bytes, put_signed};
use super::entry::EntryCodec;
use super::ordered_int;
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::{ExecutorError, Result};

/// Which end of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    First,
    Last,
}

fn retraction() -> ExecutorError {
    ExecutorError::Internal("an extreme of append-only input got a retraction".to_string())
}

/// Mergeable. `min` and `max` of numbers and times. State: whether there is a value, its order.
pub struct NumberExtremeStates {
    end: End,
    data_type: DataType,
    orders: Vec<i64>,
    is_present: Vec<bool>,
}

impl NumberExtremeStates {
    /// For values of a type that [`ordered_int`] supports.
    pub fn new(end: End, data_type: DataType) -> Self {
        NumberExtremeStates {
            end,
            data_type,
            orders: Vec::new(),
            is_present: Vec::new(),
        }
    }

    /// What is worse than every value.
    fn worst(&self) -> i64 {
        match self.end {
            End::First => i64::MAX,
            End::Last => i64::MIN,
        }
    }
}

impl Accumulate for NumberExtremeStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let values = ordered_int::encode(&rows.args[0])?;
        if rows
            .weights
            .is_some_and(|weights| weights.iter().any(|&weight| weight < 0))
        {
            return Err(retraction());
        }
        let (orders, is_present) = (&mut self.orders, &mut self.is_present);
        match self.end {
            End::First => rows.for_each_valid(|row, group, _| {
                orders[group] = orders[group].min(values[row]);
                is_present[group] = true;
            }),
            End::Last => rows.for_each_valid(|row, group, _| {
                orders[group] = orders[group].max(values[row]);
                is_present[group] = true;
            }),
        }
        Ok(())
    }
}

impl GroupStates for NumberExtremeStates {
    fn resize(&mut self, groups: usize) {
        let worst = self.worst();
        self.orders.resize(groups, worst);
        self.is_present.resize(groups, false);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            if reader.byte()? == 0 {
                return Ok(());
            }
            let (order, so_far) = (reader.signed()?, &mut self.orders[group]);
            *so_far = match self.end {
                End::First => order.min(*so_far),
                End::Last => order.max(*so_far),
            };
            self.is_present[group] = true;
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_present[group]));
        if self.is_present[group] {
            put_signed(self.orders[group], out);
        }
    }

    fn output(&self) -> Result<Output> {
        let present = self.orders.iter().zip(&self.is_present);
        let orders = present.map(|(&order, &is_present)| is_present.then_some(order));
        Ok(Output::of(ordered_int::decode(orders, &self.data_type)?))
    }
}

/// Mergeable. The first or last row in the order of an [`EntryCodec`]: `min` and `max` of other types, and
/// `first_value` and `last_value`. State: whether there is a row, its key, its encoded values.
pub struct EntryExtremeStates {
    end: End,
    entries: EntryCodec,
    data_type: DataType,
    best: Vec<Option<Entry>>,
}

#[derive(Clone)]
struct Entry {
    key: Box<[u8]>,
    row: Box<[u8]>,
}

impl EntryExtremeStates {
    /// The output is the first argument, as `data_type`.
    pub fn new(end: End, entries: EntryCodec, data_type: DataType) -> Self {
        EntryExtremeStates {
            end,
            entries,
            data_type,
            best: Vec::new(),
        }
    }

    fn offer(&mut self, group: usize, key: &[u8], row: &[u8]) {
        let is_better = match (&self.best[group], self.end) {
            (None, _) => true,
            (Some(best), End::First) => *key < *best.key,
            (Some(best), End::Last) => *key > *best.key,
        };
        if is_better {
            self.best[group] = Some(Entry {
                key: key.into(),
                row: row.into(),
            });
        }
    }
}

impl Accumulate for EntryExtremeStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let batch = self.entries.encode(rows.args)?;
        for (index, &row) in batch.rows_kept.iter().enumerate() {
            let weight = rows.weight(row as usize);
            if weight < 0 {
                return Err(retraction());
            }
            if weight > 0 {
                self.offer(
                    rows.groups[row as usize],
                    batch.keys.get(index),
                    batch.values.get(index),
                );
            }
        }
        Ok(())
    }
}

impl GroupStates for EntryExtremeStates {
    fn resize(&mut self, groups: usize) {
        self.best.resize(groups, None);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            if reader.byte()? != 0 {
                let (key, row) = (reader.bytes()?, reader.bytes()?);
                self.offer(group, key, row);
            }
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        match &self.best[group] {
            None => out.push(0),
            Some(entry) => {
                out.push(1);
                put_bytes(&entry.key, out);
                put_bytes(&entry.row, out);
            }
        }
    }

    fn output(&self) -> Result<Output> {
        let rows = self
            .best
            .iter()
            .map(|best| best.as_ref().map(|entry| &*entry.row));
        Ok(Output::of(first_column(
            &self.entries,
            rows,
            &self.data_type,
        )?))
    }
}

/// The first value of each row as `data_type`; NULL where there is no row.
pub fn first_column<'a>(
    entries: &EntryCodec,
    rows: impl Iterator<Item = Option<&'a [u8]>>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let nulls = entries.null_row()?;
    let rows: Vec<&[u8]> = rows.map(|row| row.unwrap_or(&nulls)).collect();
    let column = entries.decode(rows.into_iter())?.swap_remove(0);
    Ok(if column.data_type() == data_type {
        column
    } else {
        Arc::new(cast(&column, data_type)?)
    })
}
