//! `bool_and`, `bool_or`: counts of true and of false values, so that retraction needs no values.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};

use super::encoding::{Reader, put_signed};
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::Result;

/// Linear. State: how many values were true, and how many false.
pub struct BooleanStates {
    is_and: bool,
    trues: Vec<i64>,
    falses: Vec<i64>,
}

impl BooleanStates {
    /// `bool_and` or `bool_or`.
    pub fn new(is_and: bool) -> Self {
        BooleanStates {
            is_and,
            trues: Vec::new(),
            falses: Vec::new(),
        }
    }
}

impl Accumulate for BooleanStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let values = rows.args[0].as_boolean().values();
        let (trues, falses) = (&mut self.trues, &mut self.falses);
        rows.for_each_valid(|row, group, weight| {
            let counts = if values.value(row) {
                &mut *trues
            } else {
                &mut *falses
            };
            counts[group] += weight;
        });
        Ok(())
    }
}

impl GroupStates for BooleanStates {
    fn resize(&mut self, groups: usize) {
        self.trues.resize(groups, 0);
        self.falses.resize(groups, 0);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            self.trues[group] += reader.signed()?;
            self.falses[group] += reader.signed()?;
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        put_signed(self.trues[group], out);
        put_signed(self.falses[group], out);
    }

    fn output(&self) -> Result<Output> {
        let values: BooleanArray = self
            .trues
            .iter()
            .zip(&self.falses)
            .map(|(&trues, &falses)| match (trues, falses) {
                (0, 0) => None,
                (trues, falses) => Some(if self.is_and { falses == 0 } else { trues != 0 }),
            })
            .collect();
        Ok(Output::of(Arc::new(values)))
    }
}
