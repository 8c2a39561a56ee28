//! Order-preserving keys: `memcmp` of two keys is the SQL order of their columns, ascending with NULLs last unless
//! told otherwise. Values that are equal in PostgreSQL have equal keys: −0.0 = 0.0, one NaN (above +∞), '1 month' =
//! '30 days', 1.5 = 1.50. Decoding returns those canonical values. The codec is part of the storage format
//! ([`super::layout::FORMAT_VERSION`]).
//!
//! ```text
//! key:    | cell of column 1 | cell of column 2 | … |        every cell ends by itself, so a prefix of columns is a prefix
//! cell:   | 01 | value |  or NULL: | FF | (NULLS LAST), | 00 | (NULLS FIRST)
//! value:  integers, dates, times: big-endian, sign bit flipped · floats: IEEE order · boolean: 00, 01
//!         intervals: nanoseconds (a month is 30 days), 16 bytes · decimals: key/decimal.rs
//!         strings, binaries: bytes with 00 as 00 FF, then 00 01 · fixed binaries: as they are
//!         lists: cells (NULLS LAST), then 00 · structs: cells (NULLS LAST)
//!         DESC: all bytes of the value inverted
//! ```

mod cell;
mod decimal;
mod interval;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use self::cell::{NULL_FIRST, NULL_LAST, Order, PRESENT};
use super::arena::Keys;
use super::column::{Cells, ColumnBuilder, ColumnView, check_columns};
use super::error::StateError;

/// Encodes and decodes keys of fixed column types and orders.
#[derive(Debug, Clone)]
pub struct KeyCodec {
    types: Vec<DataType>,
    columns: Vec<KeyColumn>,
}

#[derive(Debug, Clone)]
struct KeyColumn {
    order: Order,
    null_marker: u8,
    is_descending: bool,
}

impl KeyCodec {
    /// A codec for keys of these types. Without `options` every column is ascending with NULLs last. An error if a
    /// type cannot be stored.
    pub fn new(
        types: Vec<DataType>,
        options: Option<Vec<SortOptions>>,
    ) -> Result<Self, StateError> {
        let ascending = SortOptions {
            descending: false,
            nulls_first: false,
        };
        let options = options.unwrap_or_else(|| vec![ascending; types.len()]);
        if options.len() != types.len() {
            return Err(StateError::Bug(format!(
                "{} sort options for {} columns",
                options.len(),
                types.len()
            )));
        }
        let columns = types
            .iter()
            .zip(options)
            .map(|(data_type, options)| {
                Ok(KeyColumn {
                    order: Order::of(data_type)?,
                    null_marker: if options.nulls_first {
                        NULL_FIRST
                    } else {
                        NULL_LAST
                    },
                    is_descending: options.descending,
                })
            })
            .collect::<Result<_, StateError>>()?;
        Ok(Self { types, columns })
    }

    /// The column types.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// One key per row of `columns`, which must have exactly the codec's types.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Keys, StateError> {
        let count = check_columns(&self.types, columns)?;
        let views = columns
            .iter()
            .map(|column| ColumnView::new(column))
            .collect::<Result<Vec<_>, _>>()?;
        let mut lengths = vec![0; count];
        let spools: Vec<Option<Keys>> = self
            .columns
            .iter()
            .zip(&views)
            .map(|(column, view)| column.add_lengths(view, &mut lengths))
            .collect();
        let mut keys = Keys::with_lengths(&lengths);
        let mut cursors = keys.starts();
        for ((column, view), spool) in self.columns.iter().zip(&views).zip(&spools) {
            column.write(view, spool.as_ref(), keys.data_mut(), &mut cursors);
        }
        Ok(keys)
    }

    /// Appends the key of `values` to `out`. Fewer values than columns make a prefix, for scans.
    pub fn encode_row_into(
        &self,
        values: &[ScalarValue],
        out: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        let columns = values
            .iter()
            .map(|value| {
                value
                    .to_array()
                    .map_err(|error| StateError::Bug(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.encode_at(&columns, 0, out)
    }

    /// Appends the key of row `row` of `columns` to `out`. Fewer columns than the codec has make a prefix.
    pub fn encode_at(
        &self,
        columns: &[ArrayRef],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        check_columns(
            self.types.get(..columns.len()).unwrap_or(&self.types),
            columns,
        )?;
        for (column, array) in self.columns.iter().zip(columns) {
            column.write_row(&ColumnView::new(array)?, row, out);
        }
        Ok(())
    }

    /// Columns of exactly the codec's types, one row per item of `keys`, with canonical values. Bytes behind the
    /// last column are ignored, so that a codec of the first columns can read longer keys.
    pub fn decode<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, StateError> {
        let mut cursors: Vec<&[u8]> = keys.collect();
        let mut columns = Vec::with_capacity(self.types.len());
        for (column, data_type) in self.columns.iter().zip(&self.types) {
            let mut builder = ColumnBuilder::new(data_type, cursors.len())?;
            column.read(&mut builder, &mut cursors)?;
            columns.push(builder.finish()?);
        }
        Ok(columns)
    }

    /// How many bytes at the start of `key` belong to the first `columns` columns.
    pub fn prefix_len(&self, key: &[u8], columns: usize) -> Result<usize, StateError> {
        let mut cursors = [key];
        for (column, data_type) in self.columns.iter().zip(&self.types).take(columns) {
            column.read(&mut ColumnBuilder::new(data_type, 1)?, &mut cursors)?;
        }
        Ok(key.len() - cursors[0].len())
    }
}

impl KeyColumn {
    /// Adds the bytes that each cell of the column takes. Cells of unforeseeable length are encoded here, once, and
    /// returned.
    fn add_lengths(&self, view: &ColumnView, lengths: &mut [usize]) -> Option<Keys> {
        match (self.order.fixed_len(), &view.cells) {
            (Some(width), _) => {
                for (row, length) in lengths.iter_mut().enumerate() {
                    *length += if view.is_null(row) { 1 } else { 1 + width };
                }
                None
            }
            (None, Cells::Bytes(cells)) => {
                for (row, length) in lengths.iter_mut().enumerate() {
                    *length += if view.is_null(row) {
                        1
                    } else {
                        1 + cell::escaped_len(cells.get(row))
                    };
                }
                None
            }
            (None, _) => {
                let mut spool = Keys::with_capacity(lengths.len(), lengths.len() * 12);
                for (row, length) in lengths.iter_mut().enumerate() {
                    spool.push_with(|out| self.write_row(view, row, out));
                    *length += spool.get(row).len();
                }
                Some(spool)
            }
        }
    }

    fn write_row(&self, view: &ColumnView, row: usize, out: &mut Vec<u8>) {
        let start = out.len() + 1;
        cell::write_cell(&self.order, view, row, self.null_marker, out);
        if self.is_descending {
            invert(&mut out[start..]);
        }
    }

    /// Writes the column's cells at the rows' cursors and moves these.
    fn write(
        &self,
        view: &ColumnView,
        spool: Option<&Keys>,
        data: &mut [u8],
        cursors: &mut [usize],
    ) {
        if let Some(spool) = spool {
            for (cursor, cell) in cursors.iter_mut().zip(spool.iter()) {
                data[*cursor..*cursor + cell.len()].copy_from_slice(cell);
                *cursor += cell.len();
            }
            return;
        }
        match (&self.order, &view.cells) {
            (Order::Signed(8), Cells::Fixed { values, .. }) => {
                self.write_ints::<8, true>(view, values, data, cursors);
            }
            (Order::Signed(4), Cells::Fixed { values, .. }) => {
                self.write_ints::<4, true>(view, values, data, cursors);
            }
            (Order::Unsigned(8), Cells::Fixed { values, .. }) => {
                self.write_ints::<8, false>(view, values, data, cursors);
            }
            (Order::Bytes, Cells::Bytes(cells)) => {
                self.write_each(view, data, cursors, |row, out| {
                    cell::put_escaped(cells.get(row), out)
                });
            }
            _ => {
                let mut scratch = Vec::new();
                for (row, cursor) in cursors.iter_mut().enumerate() {
                    scratch.clear();
                    self.write_row(view, row, &mut scratch);
                    data[*cursor..*cursor + scratch.len()].copy_from_slice(&scratch);
                    *cursor += scratch.len();
                }
            }
        }
    }

    fn write_ints<const W: usize, const SIGNED: bool>(
        &self,
        view: &ColumnView,
        values: &[u8],
        data: &mut [u8],
        cursors: &mut [usize],
    ) {
        let values = values.as_chunks::<W>().0;
        self.write_each(view, data, cursors, |row, out| {
            out[..W].copy_from_slice(&cell::ordered_int::<W, SIGNED>(&values[row]));
            W
        });
    }

    /// Writes markers, and values through `put`, which returns how many bytes it wrote.
    fn write_each(
        &self,
        view: &ColumnView,
        data: &mut [u8],
        cursors: &mut [usize],
        mut put: impl FnMut(usize, &mut [u8]) -> usize,
    ) {
        for (row, cursor) in cursors.iter_mut().enumerate() {
            if view.is_null(row) {
                data[*cursor] = self.null_marker;
                *cursor += 1;
                continue;
            }
            data[*cursor] = PRESENT;
            let start = *cursor + 1;
            let len = put(row, &mut data[start..]);
            if self.is_descending {
                invert(&mut data[start..start + len]);
            }
            *cursor = start + len;
        }
    }

    fn read(&self, builder: &mut ColumnBuilder, cursors: &mut [&[u8]]) -> Result<(), StateError> {
        let mut inverted = Vec::new();
        for cursor in cursors {
            let (&marker, rest) = cursor.split_first().ok_or_else(cell::damaged)?;
            *cursor = rest;
            if marker == self.null_marker {
                builder.push_null();
            } else if marker != PRESENT {
                return Err(cell::damaged());
            } else if self.is_descending {
                let len = self
                    .order
                    .fixed_len()
                    .map_or(rest.len(), |len| len.min(rest.len()));
                inverted.clear();
                inverted.extend(rest[..len].iter().map(|byte| !byte));
                let mut value = &inverted[..];
                cell::read_value(&self.order, builder, &mut value)?;
                *cursor = &rest[len - value.len()..];
            } else {
                cell::read_value(&self.order, builder, cursor)?;
            }
        }
        Ok(())
    }
}

fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

#[cfg(test)]
mod tests;
