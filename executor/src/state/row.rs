//! Compact rows: what tables store as values. A row keeps every value exactly in its own form (−0.0, NaN bits,
//! '30 days' and '1 month', trailing zeros); [`super::KeyCodec`] is for keys.
//!
//! ```text
//! row:    | version 1 byte = 1 | tuple of the columns |
//! tuple:  | null bitmap, 1 bit per cell, set = NULL, lowest bit first | cells that are not NULL, in order |
//! cell:   boolean: 1 byte; numbers, times, fixed binaries: their width, little-endian;
//!         strings, binaries: length LEB128, bytes; list: number of items LEB128, tuple of the items; struct: tuple
//! ```
//! Columns are encoded and decoded one after the other over the whole batch, so that the type is looked at once per
//! batch and not once per cell.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::arena::{Keys, Rows};
use super::column::{BuilderValues, Cells, ColumnBuilder, ColumnView, Shape, check_columns, shape};
use super::error::StateError;

/// First byte of every row.
pub const ROW_VERSION: u8 = 1;

/// Of each row: its null bitmap, and the cells behind it.
type BitmapsAndCells<'a> = (Vec<&'a [u8]>, Vec<&'a [u8]>);

/// Encodes and decodes rows of fixed column types.
#[derive(Debug, Clone)]
pub struct RowCodec {
    types: Vec<DataType>,
}

impl RowCodec {
    /// A codec for rows of these types; an error if one of them cannot be stored.
    pub fn new(types: Vec<DataType>) -> Result<Self, StateError> {
        types
            .iter()
            .try_for_each(|data_type| shape(data_type).map(|_| ()))?;
        Ok(Self { types })
    }

    /// The column types.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// One row per row of `columns`, which must have exactly the codec's types.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Rows, StateError> {
        self.encode_with_header(columns, 0, |_, _| {})
    }

    /// As [`Self::encode`], each row behind `header_len` bytes that `write` fills in. Decoding wants the row without
    /// its header.
    pub fn encode_with_header(
        &self,
        columns: &[ArrayRef],
        header_len: usize,
        mut write: impl FnMut(usize, &mut [u8]),
    ) -> Result<Rows, StateError> {
        let count = check_columns(&self.types, columns)?;
        let views = columns
            .iter()
            .map(|column| ColumnView::new(column))
            .collect::<Result<Vec<_>, _>>()?;
        let bitmap_len = self.types.len().div_ceil(8);
        let mut lengths = vec![header_len + 1 + bitmap_len; count];
        let spools: Vec<Option<Keys>> = views
            .iter()
            .map(|view| add_lengths(view, &mut lengths))
            .collect();
        let mut rows = Rows::with_lengths(&lengths);
        let starts = rows.starts();
        let data = rows.data_mut();
        let mut cursors = lengths;
        for (row, &start) in starts.iter().enumerate() {
            data[start + header_len] = ROW_VERSION;
            cursors[row] = start + header_len + 1 + bitmap_len;
        }
        for (index, (view, spool)) in views.iter().zip(&spools).enumerate() {
            write_column(view, spool.as_ref(), data, &mut cursors);
            let (byte, bit) = (header_len + 1 + index / 8, 1 << (index % 8));
            for (row, &start) in starts.iter().enumerate() {
                if view.is_null(row) {
                    data[start + byte] |= bit;
                }
            }
        }
        if header_len > 0 {
            for (row, &start) in starts.iter().enumerate() {
                write(row, &mut data[start..start + header_len]);
            }
        }
        Ok(rows)
    }

    /// Appends row `row` of `columns` to `out`.
    pub fn encode_row_into(
        &self,
        columns: &[ArrayRef],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), StateError> {
        check_columns(&self.types, columns)?;
        let views = columns
            .iter()
            .map(|column| ColumnView::new(column))
            .collect::<Result<Vec<_>, _>>()?;
        out.push(ROW_VERSION);
        write_tuple(views.iter().map(|view| (view, row)), out);
        Ok(())
    }

    /// Columns of exactly the codec's types, one row per item of `rows`.
    pub fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, StateError> {
        let (bitmaps, mut cursors) = self.open(rows)?;
        let mut columns = Vec::with_capacity(self.types.len());
        for (index, data_type) in self.types.iter().enumerate() {
            let mut builder = ColumnBuilder::new(data_type, cursors.len())?;
            read_column(&mut builder, index, &bitmaps, &mut cursors)?;
            columns.push(builder.finish()?);
        }
        match cursors.iter().find(|rest| !rest.is_empty()) {
            Some(rest) => Err(StateError::Corrupt(format!(
                "{} bytes are left behind a row",
                rest.len()
            ))),
            None => Ok(columns),
        }
    }

    /// The columns at `wanted`, in that order, of rows as for [`Self::decode`]; the others are stepped over.
    pub fn decode_some<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
        wanted: &[usize],
    ) -> Result<Vec<ArrayRef>, StateError> {
        let (bitmaps, mut cursors) = self.open(rows)?;
        let end = wanted.iter().max().map_or(0, |last| last + 1);
        let mut columns: Vec<Option<ArrayRef>> = Vec::with_capacity(end);
        for (index, data_type) in self.types.iter().take(end).enumerate() {
            columns.push(if wanted.contains(&index) {
                let mut builder = ColumnBuilder::new(data_type, cursors.len())?;
                read_column(&mut builder, index, &bitmaps, &mut cursors)?;
                Some(builder.finish()?)
            } else {
                skip_column(data_type, index, &bitmaps, &mut cursors)?;
                None
            });
        }
        let column = |at: &usize| columns.get(*at).cloned().flatten();
        let columns: Option<_> = wanted.iter().map(column).collect();
        columns.ok_or_else(|| StateError::Bug("a column that rows do not have".to_string()))
    }

    /// The rows' bitmaps, and what is behind these.
    fn open<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<BitmapsAndCells<'a>, StateError> {
        let bitmap_len = self.types.len().div_ceil(8);
        let mut bitmaps: Vec<&[u8]> = Vec::with_capacity(rows.size_hint().0);
        let mut cursors: Vec<&[u8]> = Vec::with_capacity(rows.size_hint().0);
        for row in rows {
            match row.split_first() {
                Some((&ROW_VERSION, rest)) if rest.len() >= bitmap_len => {
                    let (bitmap, cells) = rest.split_at(bitmap_len);
                    bitmaps.push(bitmap);
                    cursors.push(cells);
                }
                _ => {
                    return Err(StateError::Corrupt(format!(
                        "a row of {} bytes has no valid header",
                        row.len()
                    )));
                }
            }
        }
        Ok((bitmaps, cursors))
    }
}

/// Adds the bytes that each cell of the column takes. Nested cells are encoded here, once, and returned.
fn add_lengths(view: &ColumnView, lengths: &mut [usize]) -> Option<Keys> {
    match &view.cells {
        Cells::Null => {}
        Cells::Boolean(_) => add_fixed(view, 1, lengths),
        Cells::Fixed { width, .. } => add_fixed(view, *width, lengths),
        Cells::Bytes(cells) => {
            for (row, length) in lengths.iter_mut().enumerate() {
                if !view.is_null(row) {
                    let bytes = cells.get(row).len();
                    *length += varint_len(bytes) + bytes;
                }
            }
        }
        Cells::List { .. } | Cells::Struct(_) => {
            let mut spool = Keys::with_capacity(lengths.len(), lengths.len() * 8);
            for (row, length) in lengths.iter_mut().enumerate() {
                spool.push_with(|out| {
                    if !view.is_null(row) {
                        write_cell(view, row, out);
                    }
                });
                *length += spool.get(row).len();
            }
            return Some(spool);
        }
    }
    None
}

fn add_fixed(view: &ColumnView, width: usize, lengths: &mut [usize]) {
    match &view.nulls {
        None => lengths.iter_mut().for_each(|length| *length += width),
        Some(nulls) => {
            for (length, valid) in lengths.iter_mut().zip(nulls.iter()) {
                *length += if valid { width } else { 0 };
            }
        }
    }
}

/// Writes the cells of one column at the rows' cursors and moves these.
fn write_column(view: &ColumnView, spool: Option<&Keys>, data: &mut [u8], cursors: &mut [usize]) {
    fn put(data: &mut [u8], cursor: &mut usize, bytes: &[u8]) {
        data[*cursor..*cursor + bytes.len()].copy_from_slice(bytes);
        *cursor += bytes.len();
    }
    fn fixed<const W: usize>(
        view: &ColumnView,
        values: &[u8],
        data: &mut [u8],
        cursors: &mut [usize],
    ) {
        for (row, (cursor, value)) in cursors
            .iter_mut()
            .zip(values.as_chunks::<W>().0)
            .enumerate()
        {
            if !view.is_null(row) {
                put(data, cursor, value);
            }
        }
    }
    if let Some(spool) = spool {
        cursors
            .iter_mut()
            .zip(spool.iter())
            .for_each(|(cursor, cell)| put(data, cursor, cell));
        return;
    }
    match &view.cells {
        Cells::Fixed { width: 4, values } => fixed::<4>(view, values, data, cursors),
        Cells::Fixed { width: 8, values } => fixed::<8>(view, values, data, cursors),
        Cells::Fixed { width: 16, values } => fixed::<16>(view, values, data, cursors),
        Cells::Bytes(cells) => {
            for (row, cursor) in cursors.iter_mut().enumerate() {
                if !view.is_null(row) {
                    let bytes = cells.get(row);
                    *cursor += put_varint(bytes.len(), &mut data[*cursor..]);
                    put(data, cursor, bytes);
                }
            }
        }
        Cells::Null => {}
        Cells::Boolean(_) | Cells::Fixed { .. } | Cells::List { .. } | Cells::Struct(_) => {
            let mut cell = Vec::new();
            for (row, cursor) in cursors.iter_mut().enumerate() {
                if !view.is_null(row) {
                    cell.clear();
                    write_cell(view, row, &mut cell);
                    put(data, cursor, &cell);
                }
            }
        }
    }
}

/// Appends one cell that is not NULL.
fn write_cell(view: &ColumnView, row: usize, out: &mut Vec<u8>) {
    match &view.cells {
        Cells::Null => {}
        Cells::Boolean(values) => out.push(u8::from(values.value(row))),
        Cells::Fixed { width, values } => {
            out.extend_from_slice(&values[row * width..(row + 1) * width])
        }
        Cells::Bytes(cells) => {
            push_varint(cells.get(row).len(), out);
            out.extend_from_slice(cells.get(row));
        }
        Cells::List { offsets, child } => {
            let range = offsets.range(row);
            push_varint(range.len(), out);
            write_tuple(range.map(|item| (child.as_ref(), item)), out);
        }
        Cells::Struct(fields) => write_tuple(fields.iter().map(|field| (field, row)), out),
    }
}

fn write_tuple<'a>(
    cells: impl ExactSizeIterator<Item = (&'a ColumnView, usize)>,
    out: &mut Vec<u8>,
) {
    let bitmap = out.len();
    out.resize(bitmap + cells.len().div_ceil(8), 0);
    for (index, (view, row)) in cells.enumerate() {
        if view.is_null(row) {
            out[bitmap + index / 8] |= 1 << (index % 8);
        } else {
            write_cell(view, row, out);
        }
    }
}

fn read_column(
    builder: &mut ColumnBuilder,
    index: usize,
    bitmaps: &[&[u8]],
    cursors: &mut [&[u8]],
) -> Result<(), StateError> {
    let is_null = |row: usize| bitmaps[row][index / 8] & (1 << (index % 8)) != 0;
    for (row, cursor) in cursors.iter_mut().enumerate() {
        if is_null(row) {
            builder.push_null();
        } else {
            read_cell(builder, cursor)?;
        }
    }
    Ok(())
}

/// Appends one cell that is not NULL to `builder`.
#[inline]
fn read_cell(builder: &mut ColumnBuilder, cursor: &mut &[u8]) -> Result<(), StateError> {
    match &mut builder.values {
        BuilderValues::Null => {
            return Err(StateError::Corrupt(
                "a cell of type null has a value".to_string(),
            ));
        }
        BuilderValues::Boolean(values) => values.append(take(cursor, 1)?[0] != 0),
        BuilderValues::Fixed { width: 8, values } => {
            values.extend_from_slice(take_array::<8>(cursor)?)
        }
        BuilderValues::Fixed { width, values } => values.extend_from_slice(take(cursor, *width)?),
        BuilderValues::Bytes { ends, values } => {
            let len = take_varint(cursor)?;
            values.extend_from_slice(take(cursor, len)?);
            ends.push(values.len());
        }
        BuilderValues::List { ends, child } => {
            let count = take_varint(cursor)?;
            let bitmap = take(cursor, count.div_ceil(8))?;
            for item in 0..count {
                read_nullable(child, bitmap, item, cursor)?;
            }
            ends.push(child.len());
        }
        BuilderValues::Struct(fields) => {
            let bitmap = take(cursor, fields.len().div_ceil(8))?;
            for (index, field) in fields.iter_mut().enumerate() {
                read_nullable(field, bitmap, index, cursor)?;
            }
        }
    }
    builder.present();
    Ok(())
}

fn read_nullable(
    builder: &mut ColumnBuilder,
    bitmap: &[u8],
    index: usize,
    cursor: &mut &[u8],
) -> Result<(), StateError> {
    if bitmap[index / 8] & (1 << (index % 8)) != 0 {
        builder.push_null();
        return Ok(());
    }
    read_cell(builder, cursor)
}

/// Moves all rows' cursors behind a column.
fn skip_column(
    data_type: &DataType,
    index: usize,
    bitmaps: &[&[u8]],
    cursors: &mut [&[u8]],
) -> Result<(), StateError> {
    let shape = shape(data_type)?;
    for (bitmap, cursor) in bitmaps.iter().zip(cursors) {
        if bitmap[index / 8] & (1 << (index % 8)) == 0 {
            skip_cell(&shape, cursor)?;
        }
    }
    Ok(())
}

/// Moves a cursor behind a cell that is not NULL.
#[inline]
fn skip_cell(cell: &Shape, cursor: &mut &[u8]) -> Result<(), StateError> {
    match cell {
        Shape::Null => {}
        Shape::Boolean => *cursor = behind(cursor, 1)?,
        Shape::Fixed(width) => *cursor = behind(cursor, *width)?,
        Shape::Bytes => {
            let len = take_varint(cursor)?;
            *cursor = behind(cursor, len)?;
        }
        Shape::List(item) => {
            let count = take_varint(cursor)?;
            skip_tuple(std::iter::repeat_n(&**item, count), cursor)?;
        }
        Shape::Struct(fields) => skip_tuple(fields.iter(), cursor)?,
    }
    Ok(())
}

fn skip_tuple<'a>(
    types: impl ExactSizeIterator<Item = &'a DataType>,
    cursor: &mut &[u8],
) -> Result<(), StateError> {
    let bitmap = take(cursor, types.len().div_ceil(8))?;
    for (index, data_type) in types.enumerate() {
        if bitmap[index / 8] & (1 << (index % 8)) == 0 {
            skip_cell(&shape(data_type)?, cursor)?;
        }
    }
    Ok(())
}

fn truncated() -> StateError {
    StateError::Corrupt("a row ends in the middle of a cell".to_string())
}

fn behind<'a>(cursor: &&'a [u8], len: usize) -> Result<&'a [u8], StateError> {
    cursor.get(len..).ok_or_else(truncated)
}

fn take<'a>(cursor: &mut &'a [u8], len: usize) -> Result<&'a [u8], StateError> {
    let (cell, rest) = cursor.split_at_checked(len).ok_or_else(truncated)?;
    *cursor = rest;
    Ok(cell)
}

fn take_array<'a, const W: usize>(cursor: &mut &'a [u8]) -> Result<&'a [u8; W], StateError> {
    let (cell, rest) = cursor.split_first_chunk::<W>().ok_or_else(truncated)?;
    *cursor = rest;
    Ok(cell)
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint(mut value: usize, out: &mut [u8]) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        out[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    out[len] = value as u8;
    len + 1
}

fn push_varint(value: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + varint_len(value), 0);
    put_varint(value, &mut out[start..]);
}

fn take_varint(cursor: &mut &[u8]) -> Result<usize, StateError> {
    let mut value = 0usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = take(cursor, 1)?[0];
        value |= ((byte & 0x7F) as usize) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(StateError::Corrupt(
        "a length has more than 10 bytes".to_string(),
    ))
}

#[cfg(test)]
mod tests;
