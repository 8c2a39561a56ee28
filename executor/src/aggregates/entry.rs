//! The elements of an ordered or distinct collection: how the arguments of one row become a sortable key and a row.
//!
//! ```text
//! key:      | ORDER BY columns, as KeyCodec orders them | argument columns, ascending, NULLs last | exact row |
//! value:    RowCodec of the argument columns
//! ```
//! Every order is total: it ends with the arguments, and, where equal keys can stand for unlike values (−0.0 and 0.0),
//! with their exact bytes. Distinct collections and extremes have no exact part: their values are made canonical, so
//! that which of two equal values is kept does not depend on which came first.

use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::DataType;

use super::states::valid_rows;
use crate::error::Result;
use crate::state::{KeyCodec, Keys, RowCodec, Rows};

/// Encodes the elements of one call's collections.
#[derive(Debug, Clone)]
pub struct EntryCodec {
    /// Argument columns come first in the input of [`Self::encode`], then the ORDER BY columns.
    arguments: usize,
    key: KeyCodec,
    row: RowCodec,
    /// Of the arguments alone, to make them canonical.
    canonical: Option<KeyCodec>,
    has_exact_part: bool,
    skips_nulls: bool,
}

/// Which rows become elements, and how equal ones are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRules {
    /// Equal values are one: keys without the exact part, canonical values.
    pub is_canonical: bool,
    /// Rows with a NULL argument are left out.
    pub skips_nulls: bool,
}

/// The encoded elements of a batch.
pub struct EntryBatch {
    /// The row of each element.
    pub rows_kept: Vec<u32>,
    pub keys: Keys,
    pub values: Rows,
}

impl EntryCodec {
    /// For arguments and ORDER BY columns of these types.
    pub fn new(
        arguments: Vec<DataType>,
        order: Vec<(DataType, SortOptions)>,
        rules: EntryRules,
    ) -> Result<Self> {
        let ascending = SortOptions {
            descending: false,
            nulls_first: false,
        };
        let (types, options): (Vec<_>, Vec<_>) = order
            .into_iter()
            .chain(
                arguments
                    .iter()
                    .map(|argument| (argument.clone(), ascending)),
            )
            .unzip();
        let is_exact = arguments.iter().all(has_one_form);
        let canonical =
            (rules.is_canonical && !is_exact).then(|| KeyCodec::new(arguments.clone(), None));
        Ok(EntryCodec {
            arguments: arguments.len(),
            key: KeyCodec::new(types, Some(options))?,
            row: RowCodec::new(arguments)?,
            canonical: canonical.transpose()?,
            has_exact_part: !rules.is_canonical && !is_exact,
            skips_nulls: rules.skips_nulls,
        })
    }

    /// The elements of a batch: the argument columns, then the ORDER BY columns.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<EntryBatch> {
        let count = columns.first().map_or(0, |column| column.len());
        let nulls = if self.skips_nulls {
            valid_rows(&columns[..self.arguments])
        } else {
            None
        };
        let (rows_kept, columns) = match nulls.filter(|nulls| nulls.null_count() > 0) {
            None => ((0..count as u32).collect(), columns.to_vec()),
            Some(nulls) => {
                let kept: Vec<u32> = nulls.valid_indices().map(|row| row as u32).collect();
                let indices = UInt32Array::from(kept.clone());
                let columns = columns.iter().map(|column| take(column, &indices, None));
                (kept, columns.collect::<Result<Vec<_>, _>>()?)
            }
        };
        let (arguments, order) = columns.split_at(self.arguments);
        let arguments = match &self.canonical {
            None => arguments.to_vec(),
            Some(codec) => codec.decode(codec.encode(arguments)?.iter())?,
        };
        let values = self.row.encode(&arguments)?;
        let columns: Vec<ArrayRef> = order.iter().chain(&arguments).cloned().collect();
        let mut keys = self.key.encode(&columns)?;
        if self.has_exact_part {
            let mut exact = Keys::with_capacity(keys.len(), keys.data_len() + values.data_len());
            for (key, value) in keys.iter().zip(values.iter()) {
                exact.push_with(|out| {
                    out.extend_from_slice(key);
                    out.extend_from_slice(value);
                });
            }
            keys = exact;
        }
        Ok(EntryBatch {
            rows_kept,
            keys,
            values,
        })
    }

    /// The argument columns of encoded values.
    pub fn decode<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        Ok(self.row.decode(values)?)
    }

    /// The encoded value of a row of NULLs.
    pub fn null_row(&self) -> Result<Vec<u8>> {
        let nulls: Vec<ArrayRef> = self
            .row
            .types()
            .iter()
            .map(|data_type| new_null_array(data_type, 1))
            .collect();
        let mut row = Vec::new();
        self.row.encode_row_into(&nulls, 0, &mut row)?;
        Ok(row)
    }
}

/// Whether values that are equal are also identical.
pub fn has_one_form(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Interval(_) => false,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_one_form(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|field| has_one_form(field.data_type())),
        _ => true,
    }
}
