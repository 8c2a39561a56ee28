//! `bit_and`, `bit_or`, `bit_xor` of integers.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, UInt64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};

use super::encoding::{Reader, put_signed};
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::{ExecutorError, Result};

/// Which bits are combined, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitOperation {
    And,
    Or,
    /// Linear: a value and its retraction cancel out.
    Xor,
}

/// Mergeable (`And`, `Or`) or linear (`Xor`). State: the combined bits and how many values there were.
pub struct BitStates {
    operation: BitOperation,
    data_type: DataType,
    bits: Vec<i64>,
    counts: Vec<i64>,
}

impl BitStates {
    /// For values of an integer type, 64 bits at most.
    pub fn new(operation: BitOperation, data_type: DataType) -> Self {
        BitStates {
            operation,
            data_type,
            bits: Vec::new(),
            counts: Vec::new(),
        }
    }

    fn combine(&mut self, group: usize, bits: i64, count: i64) {
        let so_far = &mut self.bits[group];
        match self.operation {
            BitOperation::And => *so_far &= bits,
            BitOperation::Or => *so_far |= bits,
            BitOperation::Xor => *so_far ^= bits,
        }
        self.counts[group] += count;
    }

    fn empty(&self) -> i64 {
        match self.operation {
            BitOperation::And => -1,
            BitOperation::Or | BitOperation::Xor => 0,
        }
    }
}

impl Accumulate for BitStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let values: ScalarBuffer<i64> = match rows.args[0].data_type() {
            DataType::UInt64 => rows.args[0]
                .as_primitive::<UInt64Type>()
                .values()
                .inner()
                .clone()
                .into(),
            _ => cast(&rows.args[0], &DataType::Int64)?
                .as_primitive::<Int64Type>()
                .values()
                .clone(),
        };
        let mut has_retraction = false;
        rows.for_each_valid(|row, group, weight| {
            has_retraction |= weight < 0;
            let bits = match self.operation {
                BitOperation::Xor if weight % 2 == 0 => 0,
                BitOperation::And | BitOperation::Or | BitOperation::Xor => values[row],
            };
            if weight != 0 {
                self.combine(group, bits, weight);
            }
        });
        if has_retraction && self.operation != BitOperation::Xor {
            return Err(ExecutorError::Internal(
                "a bit aggregate of append-only input got a retraction".to_string(),
            ));
        }
        Ok(())
    }
}

impl GroupStates for BitStates {
    fn resize(&mut self, groups: usize) {
        let empty = self.empty();
        self.bits.resize(groups, empty);
        self.counts.resize(groups, 0);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            let (bits, count) = (reader.signed()?, reader.signed()?);
            self.combine(group, bits, count);
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        put_signed(self.bits[group], out);
        put_signed(self.counts[group], out);
    }

    fn output(&self) -> Result<Output> {
        let values = self
            .bits
            .iter()
            .zip(&self.counts)
            .map(|(&bits, &count)| (count != 0).then_some(bits));
        Ok(Output::of(match self.data_type {
            DataType::UInt64 => Arc::new(
                values
                    .map(|bits| bits.map(i64::cast_unsigned))
                    .collect::<UInt64Array>(),
            ),
            _ => cast(&values.collect::<Int64Array>(), &self.data_type)?,
        }))
    }
}
