//! How the rows of a table or materialized view are laid out; shared between the writer and the snapshots.
//!
//! Three layouts: `Keyed` (key -> row), `Bag` (row -> multiplicity) and `Log` (columnar blocks of an append-only
//! relation without a key).

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use rivermark_planner::TableId;

use crate::error::{ExecutorError, Result};
use crate::state::{Family, KeyCodec, Keys, RowCodec};

/// How a relation's rows are laid out in the state store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowLayout {
    /// Storage key: these columns; value: the whole row.
    Keyed(Vec<usize>),
    /// Storage key: the whole row, behind its time if rows are forgotten by it; value: its multiplicity.
    Bag,
    /// Storage key: first ordinal; value: a block of rows.
    Log,
}

/// The column family that holds rows.
pub const ROWS_FAMILY: Family = Family::Views;

/// Encoded rows and, unless each is there once, the place of each copy's row among them.
type RowsAndCopies<'a> = (Vec<&'a [u8]>, Option<Vec<u32>>);

/// Everything needed to read a relation's rows from a snapshot.
#[derive(Debug)]
pub struct RowFormat {
    pub table: TableId,
    pub schema: SchemaRef,
    pub layout: RowLayout,
    keys: KeyCodec,
    /// Of a relation that forgets old rows: the column of their times, and how it begins storage keys.
    time: Option<(usize, KeyCodec)>,
    pub(crate) rows: RowCodec,
}

impl RowFormat {
    pub fn new(table: TableId, schema: SchemaRef, layout: RowLayout) -> Result<Self> {
        let types: Vec<DataType> = schema
            .fields()
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        let key_types = match &layout {
            RowLayout::Keyed(columns) => columns.iter().map(|&c| types[c].clone()).collect(),
            RowLayout::Bag | RowLayout::Log => Vec::new(),
        };
        Ok(RowFormat {
            table,
            schema,
            layout,
            keys: KeyCodec::new(key_types, None)?,
            time: None,
            rows: RowCodec::new(types)?,
        })
    }

    /// The same rows, in the order of the times in `column` as far as the layout has an order of its own: those of a
    /// time can be deleted as a range.
    pub fn in_order_of(self, column: usize) -> Result<Self> {
        let layout = match self.layout {
            RowLayout::Keyed(key) => {
                let others = key.into_iter().filter(|c| *c != column);
                RowLayout::Keyed(std::iter::once(column).chain(others).collect())
            }
            layout @ (RowLayout::Bag | RowLayout::Log) => layout,
        };
        let times = vec![self.schema.field(column).data_type().clone()];
        Ok(RowFormat {
            time: Some((column, KeyCodec::new(times, None)?)),
            ..RowFormat::new(self.table, self.schema, layout)?
        })
    }

    /// The column of the times by which rows are forgotten, and the codec of the beginnings of storage keys.
    pub fn time(&self) -> Option<(usize, &KeyCodec)> {
        self.time.as_ref().map(|(column, codec)| (*column, codec))
    }

    /// Whether storage keys are the rows and nothing else.
    pub fn is_stored_by_row(&self) -> bool {
        self.layout == RowLayout::Bag && self.time.is_none()
    }

    /// The row in a storage key of a `Bag`.
    pub fn row_in<'a>(&self, key: &'a [u8]) -> Result<&'a [u8]> {
        match &self.time {
            None => Ok(key),
            Some((_, codec)) => Ok(&key[codec.prefix_len(key, 1)?..]),
        }
    }

    /// The codec of storage keys; of no columns unless the layout is `Keyed`.
    pub fn key_codec(&self) -> &KeyCodec {
        &self.keys
    }

    /// Storage keys of whole rows. Not for `Log`, whose rows have ordinals.
    pub fn storage_keys(&self, columns: &[ArrayRef]) -> Result<Keys> {
        match &self.layout {
            // No column says how many rows there are where the key has none: a global aggregate's one row.
            RowLayout::Keyed(key) if key.is_empty() => {
                let rows = columns.first().map_or(0, |column| column.len());
                Ok(std::iter::repeat_n(&[][..], rows).collect())
            }
            RowLayout::Keyed(key) => {
                let columns: Vec<ArrayRef> = key.iter().map(|&c| columns[c].clone()).collect();
                Ok(self.keys.encode(&columns)?)
            }
            RowLayout::Bag | RowLayout::Log => {
                let rows = self.rows.encode(columns)?;
                let Some((time, codec)) = &self.time else {
                    return Ok(rows);
                };
                let times = codec.encode(std::slice::from_ref(&columns[*time]))?;
                let bytes = times.data_len() + rows.data_len();
                let mut keys = Keys::with_capacity(rows.len(), bytes);
                for (time, row) in times.iter().zip(rows.iter()) {
                    keys.push_with(|out| {
                        out.extend_from_slice(time);
                        out.extend_from_slice(row);
                    });
                }
                Ok(keys)
            }
        }
    }

    /// Rows of stored entries, each as often as its multiplicity says.
    pub fn decode<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<RecordBatch> {
        let (rows, copies) = self.stored_rows(entries)?;
        let columns = self.rows.decode(rows.iter().copied())?;
        repeated(batch_of(&self.schema, columns, rows.len())?, copies)
    }

    /// The columns at `wanted` of such rows; `schema` is theirs.
    pub fn decode_some<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        wanted: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let (rows, copies) = self.stored_rows(entries)?;
        let columns = self.rows.decode_some(rows.iter().copied(), wanted)?;
        repeated(batch_of(schema, columns, rows.len())?, copies)
    }

    /// The encoded rows of entries and, unless each is there once, the place of each copy's row among them.
    fn stored_rows<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<RowsAndCopies<'a>> {
        match &self.layout {
            RowLayout::Keyed(_) => Ok((entries.map(|(_, value)| value).collect(), None)),
            RowLayout::Bag => {
                let mut copies = Vec::new();
                let mut rows = Vec::new();
                for (i, (key, value)) in entries.enumerate() {
                    rows.push(self.row_in(key)?);
                    copies.resize(copies.len() + multiplicity(value)? as usize, i as u32);
                }
                let is_repeated = copies.len() != rows.len();
                Ok((rows, is_repeated.then_some(copies)))
            }
            RowLayout::Log => Err(ExecutorError::Internal("blocks are not entries".into())),
        }
    }

    /// The error for a row whose key is taken.
    pub(crate) fn unique_violation(
        &self,
        batch: &RecordBatch,
        row: usize,
        name: &str,
    ) -> ExecutorError {
        let RowLayout::Keyed(key) = &self.layout else {
            return ExecutorError::Conflict;
        };
        let options = arrow::util::display::FormatOptions::default().with_null("null");
        let text = |c: &usize| {
            arrow::util::display::ArrayFormatter::try_new(batch.column(*c), &options)
                .map(|f| f.value(row).to_string())
                .unwrap_or_default()
        };
        let names: Vec<&str> = key
            .iter()
            .map(|&c| self.schema.field(c).name().as_str())
            .collect();
        let values: Vec<String> = key.iter().map(text).collect();
        ExecutorError::UniqueViolation {
            constraint: format!("{name}_pkey"),
            detail: format!(
                "Key ({})=({}) already exists.",
                names.join(", "),
                values.join(", ")
            ),
        }
    }

    pub(crate) fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let rows = columns.first().map_or(0, |column| column.len());
        batch_of(&self.schema, columns, rows)
    }
}

/// A batch of so many rows, also of no columns.
fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    Ok(batch)
}

fn repeated(distinct: RecordBatch, copies: Option<Vec<u32>>) -> Result<RecordBatch> {
    match copies {
        None => Ok(distinct),
        Some(copies) => {
            let (count, copies) = (copies.len(), UInt32Array::from(copies));
            let columns = distinct.columns().iter();
            let columns = columns.map(|column| take(column, &copies, None));
            // There may be no column: `count(*)` wants none.
            let columns = columns.collect::<std::result::Result<_, _>>()?;
            batch_of(distinct.schema_ref(), columns, count)
        }
    }
}

/// A bag entry's value: multiplicity as 8 bytes, big-endian, always positive.
pub(crate) fn multiplicity(value: &[u8]) -> Result<i64> {
    let bytes: [u8; 8] = value
        .try_into()
        .map_err(|_| ExecutorError::Internal("a bag entry's value is not 8 bytes".into()))?;
    Ok(i64::from_be_bytes(bytes))
}
