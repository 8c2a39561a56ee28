//! The states of one aggregate call for all groups of an epoch, side by side in columns.
//!
//! An epoch's rows go into fresh states ([`Accumulate::update`]); at its end the stored states of the touched groups
//! are merged in ([`GroupStates::merge_stored`]), which must give the same as if all rows had gone into one. Groups
//! are dense numbers from 0.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;

use super::encoding::Reader;
use crate::error::Result;

/// Rows of one batch with the group of each. Filters and NULL rules of the call itself are applied by the states.
pub struct GroupedRows<'a> {
    /// The group of each row.
    pub groups: &'a [usize],
    /// The call's argument columns.
    pub args: &'a [ArrayRef],
    /// The weight of each row; `None`: all +1.
    pub weights: Option<&'a [i64]>,
}

impl GroupedRows<'_> {
    /// The weight of row `row`.
    #[inline]
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.map_or(1, |weights| weights[row])
    }

    /// Calls `visit(row, group, weight)` for every row in which no argument is NULL.
    #[inline]
    pub fn for_each_valid(&self, mut visit: impl FnMut(usize, usize, i64)) {
        let nulls = valid_rows(self.args);
        match (&nulls, self.weights) {
            (None, None) => {
                for (row, &group) in self.groups.iter().enumerate() {
                    visit(row, group, 1);
                }
            }
            (None, Some(weights)) => {
                for (row, (&group, &weight)) in self.groups.iter().zip(weights).enumerate() {
                    visit(row, group, weight);
                }
            }
            (Some(nulls), _) => {
                for row in nulls.valid_indices() {
                    visit(row, self.groups[row], self.weight(row));
                }
            }
        }
    }
}

/// Rows in which no column is NULL; `None`: all of them.
pub fn valid_rows(columns: &[ArrayRef]) -> Option<NullBuffer> {
    columns.iter().fold(None, |nulls, column| {
        NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
    })
}

/// What the states say for all groups.
pub struct Output {
    /// One value per group; anything where the group failed.
    pub values: ArrayRef,
    /// Groups whose value can not be computed, and why.
    pub failures: Vec<(usize, String)>,
}

impl Output {
    /// Values without failures.
    pub fn of(values: ArrayRef) -> Self {
        Output {
            values,
            failures: Vec::new(),
        }
    }
}

/// States that are stored with their group.
pub trait GroupStates: Send {
    /// Makes room for groups `0..groups`; new ones are empty.
    fn resize(&mut self, groups: usize);

    /// Adds a stored state to each group; an exhausted reader stands for a group without one.
    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()>;

    /// Appends the stored form of a group's state. Equal contents give equal bytes.
    fn store(&self, group: usize, out: &mut Vec<u8>);

    /// The aggregate of each group.
    fn output(&self) -> Result<Output>;
}

/// States that take rows one by one.
pub trait Accumulate: GroupStates {
    /// Adds rows; every group is below the size.
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()>;
}

/// Calls `merge(group, reader)` for every group that has a stored state.
pub fn merge_each<'a>(
    readers: &mut [Option<Reader<'a>>],
    mut merge: impl FnMut(usize, &mut Reader<'a>) -> Result<()>,
) -> Result<()> {
    for (group, reader) in readers.iter_mut().enumerate() {
        if let Some(reader) = reader {
            merge(group, reader)?;
        }
    }
    Ok(())
}
