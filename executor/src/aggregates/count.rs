//! `count`: the weights of the rows in which no argument is NULL.

use std::sync::Arc;

use arrow::array::Int64Array;

use super::encoding::{Reader, put_signed};
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::Result;

/// Linear. State: the count.
#[derive(Default)]
pub struct CountStates {
    counts: Vec<i64>,
}

impl Accumulate for CountStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let counts = &mut self.counts;
        rows.for_each_valid(|_, group, weight| counts[group] += weight);
        Ok(())
    }
}

impl GroupStates for CountStates {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            self.counts[group] += reader.signed()?;
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        put_signed(self.counts[group], out);
    }

    fn output(&self) -> Result<Output> {
        Ok(Output::of(Arc::new(Int64Array::from(self.counts.clone()))))
    }
}
