//! The last result of an aggregate over a collection, kept with the group so that it can be retracted exactly.
//!
//! ```text
//! stored:   | 0 |                      the result over no elements
//!           | 1 | bytes: RowCodec |    a value
//!           | 2 | bytes: UTF-8 |       the group fails with this text
//! ```

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::encoding::{Reader, damaged, put_bytes};
use super::states::{GroupStates, Output, merge_each};
use crate::error::Result;
use crate::state::RowCodec;

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// RowCodec bytes of one column.
    Value(Vec<u8>),
    /// Why there is none.
    Failed(String),
}

/// Encodes results of one type.
#[derive(Debug, Clone)]
pub struct OutcomeCodec {
    row: RowCodec,
}

impl OutcomeCodec {
    /// For results of `data_type`.
    pub fn new(data_type: DataType) -> Result<Self> {
        Ok(OutcomeCodec {
            row: RowCodec::new(vec![data_type])?,
        })
    }

    /// The type of the results.
    pub fn data_type(&self) -> &DataType {
        &self.row.types()[0]
    }

    /// The first value of `column`, which must have the results' type.
    pub fn value(&self, column: ArrayRef) -> Result<Outcome> {
        let mut bytes = Vec::new();
        self.row.encode_row_into(&[column], 0, &mut bytes)?;
        Ok(Outcome::Value(bytes))
    }
}

/// Results of all groups. What is set for this epoch prevails over what was stored.
pub struct OutcomeStates {
    codec: OutcomeCodec,
    empty: Outcome,
    outcomes: Vec<Option<Outcome>>,
}

impl OutcomeStates {
    /// `empty` is the result over no elements.
    pub fn new(codec: OutcomeCodec, empty: Outcome) -> Self {
        OutcomeStates {
            codec,
            empty,
            outcomes: Vec::new(),
        }
    }

    /// Sets a group's result.
    pub fn set(&mut self, group: usize, outcome: Outcome) {
        self.outcomes[group] = Some(outcome);
    }

    fn get(&self, group: usize) -> &Outcome {
        self.outcomes[group].as_ref().unwrap_or(&self.empty)
    }
}

impl GroupStates for OutcomeStates {
    fn resize(&mut self, groups: usize) {
        self.outcomes.resize(groups, None);
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        merge_each(readers, |group, reader| {
            let stored = match reader.byte()? {
                0 => None,
                1 => Some(Outcome::Value(reader.bytes()?.to_vec())),
                2 => {
                    let text = std::str::from_utf8(reader.bytes()?).map_err(|_| damaged())?;
                    Some(Outcome::Failed(text.to_string()))
                }
                _ => return Err(damaged()),
            };
            if self.outcomes[group].is_none() {
                self.outcomes[group] = stored;
            }
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        match self.get(group) {
            outcome if *outcome == self.empty => out.push(0),
            Outcome::Value(bytes) => {
                out.push(1);
                put_bytes(bytes, out);
            }
            Outcome::Failed(text) => {
                out.push(2);
                put_bytes(text.as_bytes(), out);
            }
        }
    }

    fn output(&self) -> Result<Output> {
        let nulls = match &self.empty {
            Outcome::Value(bytes) => bytes.clone(),
            Outcome::Failed(_) => {
                let null = arrow::array::new_null_array(self.codec.data_type(), 1);
                let mut bytes = Vec::new();
                self.codec.row.encode_row_into(&[null], 0, &mut bytes)?;
                bytes
            }
        };
        let mut failures = Vec::new();
        let rows: Vec<&[u8]> = (0..self.outcomes.len())
            .map(|group| match self.get(group) {
                Outcome::Value(bytes) => bytes.as_slice(),
                Outcome::Failed(text) => {
                    failures.push((group, text.clone()));
                    nulls.as_slice()
                }
            })
            .collect();
        let values = self.codec.row.decode(rows.into_iter())?.swap_remove(0);
        Ok(Output { values, failures })
    }
}
