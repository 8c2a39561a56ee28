//! Arrow batches to DataRow messages. Each column is brought into one of a few canonical array types once per batch
//! (a vectorised cast for the rare ones); rows are then written from the arrays straight into the output buffer.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array,
    Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, RecordBatch, StringArray, StringViewArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};

use super::pg_types::PgType;
use super::time_zone::SessionTimeZone;
use super::{encode_binary as binary, encode_nested as nested, encode_text as text};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// The two forms in which a value may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

/// The arrays that values are read from.
enum Values {
    Null,
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal128(Decimal128Array, i8),
    Decimal256(Decimal256Array, i8),
    Text(StringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    BytesView(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List(ListArray, Box<Column>),
    Struct(Vec<Column>),
}

/// A column of one batch, ready to be written value by value.
pub struct Column {
    pg_type: PgType,
    array: ArrayRef,
    values: Values,
}

/// The storage that a column's values are read from.
fn canonical_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        // Views hold any amount of text; 32-bit offsets might not.
        DataType::LargeUtf8 => DataType::Utf8View,
        DataType::LargeBinary => DataType::BinaryView,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::ListView(field)
        | DataType::LargeListView(field) => DataType::List(field.clone()),
        DataType::Dictionary(_, values) => canonical_type(values),
        DataType::RunEndEncoded(_, values) => canonical_type(values.data_type()),
        other => other.clone(),
    }
}

impl Column {
    /// Prepares a column; `field` tells its PostgreSQL type.
    pub fn new(field: &Field, array: &ArrayRef) -> Result<Column, PgError> {
        let wanted = canonical_type(array.data_type());
        let array = if *array.data_type() == wanted {
            array.clone()
        } else {
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(array, &wanted, &options)?
        };
        let values = Column::values(&array)?;
        Ok(Column {
            pg_type: PgType::of_field(field),
            array,
            values,
        })
    }

    fn values(array: &ArrayRef) -> Result<Values, PgError> {
        Ok(match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean().clone()),
            DataType::Int16 => Values::Int16(array.as_primitive().clone()),
            DataType::Int32 => Values::Int32(array.as_primitive().clone()),
            DataType::Int64 => Values::Int64(array.as_primitive().clone()),
            DataType::Float32 => Values::Float32(array.as_primitive().clone()),
            DataType::Float64 => Values::Float64(array.as_primitive().clone()),
            DataType::Decimal128(_, scale) => {
                Values::Decimal128(array.as_primitive().clone(), *scale)
            }
            DataType::Decimal256(_, scale) => {
                Values::Decimal256(array.as_primitive().clone(), *scale)
            }
            DataType::Utf8 => Values::Text(array.as_string().clone()),
            DataType::Utf8View => Values::TextView(array.as_string_view().clone()),
            DataType::Binary => Values::Bytes(array.as_binary().clone()),
            DataType::BinaryView => Values::BytesView(array.as_binary_view().clone()),
            DataType::Date32 => Values::Date(array.as_primitive().clone()),
            DataType::Time64(_) => Values::Time(array.as_primitive().clone()),
            DataType::Timestamp(_, _) => Values::Timestamp(array.as_primitive().clone()),
            DataType::Interval(_) => Values::Interval(array.as_primitive().clone()),
            DataType::List(field) => {
                let list = array.as_list::<i32>();
                Values::List(list.clone(), Box::new(Column::new(field, list.values())?))
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let children = fields.iter().zip(columns).map(|(f, c)| Column::new(f, c));
                Values::Struct(children.collect::<Result<_, _>>()?)
            }
            _ => Values::Text(display_text(array)?),
        })
    }

    pub fn pg_type(&self) -> &PgType {
        &self.pg_type
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.array.is_null(row)
    }

    /// Whether values are arrays; `elements` and `child` may be asked of such a column only.
    pub fn is_array(&self) -> bool {
        matches!(self.values, Values::List(..))
    }

    /// The range of `child`'s rows that are the elements of the array in `row`.
    pub fn elements(&self, row: usize) -> std::ops::Range<usize> {
        match &self.values {
            Values::List(list, _) => {
                let offsets = list.value_offsets();
                offsets[row] as usize..offsets[row + 1] as usize
            }
            _ => 0..0,
        }
    }

    /// The column of all elements; the column itself if it is not one of arrays.
    pub fn child(&self) -> &Column {
        match &self.values {
            Values::List(_, child) => child,
            _ => self,
        }
    }

    /// Writes a value that is not NULL as text.
    pub fn put_text(
        &self,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        match &self.values {
            Values::Null => {}
            Values::Bool(a) => text::put_bool(out, a.value(row)),
            Values::Int16(a) if self.pg_type == PgType::Char => put_char(out, a.value(row)),
            Values::Int16(a) => text::put_i64(out, i64::from(a.value(row))),
            Values::Int32(a) => text::put_i64(out, i64::from(a.value(row))),
            Values::Int64(a) => text::put_i64(out, a.value(row)),
            Values::Float32(a) => text::put_f32(out, a.value(row)),
            Values::Float64(a) => text::put_f64(out, a.value(row)),
            Values::Decimal128(a, scale) => {
                text::put_decimal(out, &text::DecimalDigits::of_i128(a.value(row)), *scale);
            }
            Values::Decimal256(a, scale) => {
                text::put_decimal(out, &text::DecimalDigits::of_i256(a.value(row)), *scale);
            }
            Values::Text(a) => out.put_slice(a.value(row).as_bytes()),
            Values::TextView(a) => out.put_slice(a.value(row).as_bytes()),
            Values::Bytes(a) => self.put_bytes_text(a.value(row), out),
            Values::BytesView(a) => self.put_bytes_text(a.value(row), out),
            Values::Date(a) => text::put_date(out, a.value(row)),
            Values::Time(a) => text::put_time(out, a.value(row)),
            Values::Timestamp(a) if self.pg_type == PgType::Timestamptz => {
                let us = a.value(row);
                text::put_timestamptz(out, us, zone.offset_at(us));
            }
            Values::Timestamp(a) => text::put_timestamp(out, a.value(row)),
            Values::Interval(a) => text::put_interval(out, a.value(row)),
            Values::List(_, child) if self.is_vector() => {
                nested::put_vector_text(out, child, self.elements(row), zone)?;
            }
            Values::List(_, child) => nested::put_array_text(out, child, self.elements(row), zone)?,
            Values::Struct(children) => nested::put_record_text(out, children, row, zone)?,
        }
        Ok(())
    }

    fn put_bytes_text(&self, bytes: &[u8], out: &mut BytesMut) {
        if self.pg_type == PgType::Uuid {
            text::put_uuid(out, bytes);
        } else {
            text::put_bytea(out, bytes);
        }
    }

    fn is_vector(&self) -> bool {
        matches!(self.pg_type, PgType::Int2Vector | PgType::OidVector)
    }

    /// Writes a value that is not NULL in binary, without its length.
    fn put_binary(
        &self,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        match &self.values {
            Values::Null => {}
            Values::Bool(a) => out.put_u8(u8::from(a.value(row))),
            Values::Int16(a) if self.pg_type == PgType::Char => out.put_i8(a.value(row) as i8),
            Values::Int16(a) => self.put_integer(i64::from(a.value(row)), 2, out)?,
            Values::Int32(a) => self.put_integer(i64::from(a.value(row)), 4, out)?,
            Values::Int64(a) => self.put_integer(a.value(row), 8, out)?,
            Values::Float32(a) => out.put_f32(a.value(row)),
            Values::Float64(a) => out.put_f64(a.value(row)),
            Values::Decimal128(a, scale) => {
                binary::put_decimal(out, &text::DecimalDigits::of_i128(a.value(row)), *scale);
            }
            Values::Decimal256(a, scale) => {
                binary::put_decimal(out, &text::DecimalDigits::of_i256(a.value(row)), *scale);
            }
            Values::Text(a) => self.put_text_binary(a.value(row), out)?,
            Values::TextView(a) => self.put_text_binary(a.value(row), out)?,
            Values::Bytes(a) => out.put_slice(a.value(row)),
            Values::BytesView(a) => out.put_slice(a.value(row)),
            Values::Date(a) => binary::put_date(out, a.value(row)),
            Values::Time(a) => out.put_i64(a.value(row)),
            Values::Timestamp(a) => binary::put_timestamp(out, a.value(row)),
            Values::Interval(a) => binary::put_interval(out, a.value(row)),
            Values::List(..) if self.is_vector() => self.put_vector_binary(row, out, zone)?,
            Values::List(..) => nested::put_array_binary(out, self, row, zone)?,
            Values::Struct(children) => nested::put_record_binary(out, children, row, zone)?,
        }
        Ok(())
    }

    fn put_integer(&self, value: i64, size: usize, out: &mut BytesMut) -> Result<(), PgError> {
        if self.pg_type.is_oid_like() {
            return binary::put_oid(out, value);
        }
        out.put_slice(&value.to_be_bytes()[8 - size..]);
        Ok(())
    }

    /// The binary form of a type that is stored as text.
    fn put_text_binary(&self, value: &str, out: &mut BytesMut) -> Result<(), PgError> {
        match &self.pg_type {
            PgType::Uuid => out.put_slice(&binary::parse_uuid(value)?),
            PgType::Jsonb => {
                out.put_u8(binary::JSONB_VERSION);
                out.put_slice(value.as_bytes());
            }
            PgType::Char => out.put_u8(value.bytes().next().unwrap_or(0)),
            PgType::Int2Vector | PgType::OidVector => {
                let (oid, size) = nested::vector_element(&self.pg_type);
                binary::put_vector_text(out, value, oid, size)?;
            }
            other if other.is_oid_like() => binary::put_oid_text(out, value)?,
            _ => out.put_slice(value.as_bytes()),
        }
        Ok(())
    }

    fn put_vector_binary(
        &self,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        let mut words = BytesMut::new();
        nested::put_vector_text(&mut words, self.child(), self.elements(row), zone)?;
        let (oid, size) = nested::vector_element(&self.pg_type);
        binary::put_vector_text(out, &String::from_utf8_lossy(&words), oid, size)
    }

    /// Writes length and value in binary, -1 for NULL.
    pub fn put_field_binary(
        &self,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        self.put_field(row, Format::Binary, out, zone)
    }

    fn put_field(
        &self,
        row: usize,
        format: Format,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let start = out.len();
        out.put_i32(0);
        match format {
            Format::Text => self.put_text(row, out, zone)?,
            Format::Binary => self.put_binary(row, out, zone)?,
        }
        patch_length(out, start, out.len() - start - 4)
    }
}

fn put_char(out: &mut BytesMut, value: i16) {
    let byte = value as u8;
    if byte != 0 {
        out.put_u8(byte);
    }
}

/// Types without a PostgreSQL counterpart (maps, unions) as the text that Arrow displays.
fn display_text(array: &ArrayRef) -> Result<StringArray, PgError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    Ok((0..array.len())
        .map(|row| {
            array
                .is_valid(row)
                .then(|| formatter.value(row).to_string())
        })
        .collect())
}

/// Writes `length` into the four bytes at `start`.
pub fn patch_length(out: &mut BytesMut, start: usize, length: usize) -> Result<(), PgError> {
    let length = i32::try_from(length).map_err(|_| {
        PgError::new(
            SqlState::ProgramLimitExceeded,
            "a row exceeds the protocol's limit of 2 GB",
        )
    })?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The columns of a batch with the format that each is sent in.
pub struct BatchEncoder {
    columns: Vec<(Column, Format)>,
}

impl BatchEncoder {
    /// `formats` has one entry per column of `schema`.
    pub fn new(schema: &Schema, batch: &RecordBatch, formats: &[Format]) -> Result<Self, PgError> {
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .zip(formats)
            .map(|((field, array), format)| Ok((Column::new(field, array)?, *format)))
            .collect::<Result<_, PgError>>()?;
        Ok(BatchEncoder { columns })
    }

    /// Appends one DataRow message. On an error nothing is left of it in `out`.
    pub fn put_row(
        &self,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        let start = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        out.put_u16(self.columns.len() as u16);
        let written = self
            .columns
            .iter()
            .try_for_each(|(column, format)| column.put_field(row, *format, out, zone))
            .and_then(|()| patch_length(out, start + 1, out.len() - start - 1));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Appends the fields of a row as `COPY BINARY` has them: the count, then each length and value.
    pub fn put_copy_binary(
        &self,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        out.put_u16(self.columns.len() as u16);
        self.columns
            .iter()
            .try_for_each(|(column, _)| column.put_field_binary(row, out, zone))
    }

    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().map(|(column, _)| column)
    }
}
