//! Arrow columns as both codecs see them: [`ColumnView`] to read cells from, [`ColumnBuilder`] to append cells to.
//!
//! Arrow's many types fall into few physical shapes: all numbers, times and fixed binaries are `Fixed`, all strings
//! and binaries are `Bytes`. A codec therefore has one loop per shape, not one per type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryViewArray, BooleanArray, BooleanBufferBuilder,
    GenericBinaryArray, GenericStringArray, NullArray, NullBufferBuilder, StringViewArray,
    StructArray, make_array,
};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, IntervalUnit};

use super::error::StateError;

#[cfg(target_endian = "big")]
compile_error!("the codecs copy Arrow's in-memory values, which are little-endian on disk");

/// The physical shape of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Boolean,
    /// Little-endian values of so many bytes.
    Fixed(usize),
    Bytes,
    /// All list types; fixed-size lists too.
    List(Box<DataType>),
    Struct(Vec<DataType>),
}

/// The shape of `data_type`, or an error if it cannot be stored.
pub(super) fn shape(data_type: &DataType) -> Result<Shape, StateError> {
    Ok(match data_type {
        DataType::Null => Shape::Null,
        DataType::Boolean => Shape::Boolean,
        DataType::Int8 | DataType::UInt8 => Shape::Fixed(1),
        DataType::Int16 | DataType::UInt16 => Shape::Fixed(2),
        DataType::Int32
        | DataType::UInt32
        | DataType::Float32
        | DataType::Date32
        | DataType::Time32(_) => Shape::Fixed(4),
        DataType::Int64 | DataType::UInt64 | DataType::Float64 | DataType::Date64 => {
            Shape::Fixed(8)
        }
        DataType::Time64(_) | DataType::Timestamp(_, _) | DataType::Duration(_) => Shape::Fixed(8),
        DataType::Interval(IntervalUnit::YearMonth) => Shape::Fixed(4),
        DataType::Interval(IntervalUnit::DayTime) => Shape::Fixed(8),
        DataType::Interval(IntervalUnit::MonthDayNano) | DataType::Decimal128(_, _) => {
            Shape::Fixed(16)
        }
        DataType::Decimal256(_, _) => Shape::Fixed(32),
        DataType::FixedSizeBinary(width) => Shape::Fixed(*width as usize),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Shape::Bytes,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Shape::Bytes,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            shape(field.data_type())?;
            Shape::List(Box::new(field.data_type().clone()))
        }
        DataType::Struct(fields) => {
            let types: Vec<DataType> = fields
                .iter()
                .map(|field| field.data_type().clone())
                .collect();
            types
                .iter()
                .try_for_each(|data_type| shape(data_type).map(|_| ()))?;
            Shape::Struct(types)
        }
        other => return Err(StateError::Unsupported(other.to_string())),
    })
}

/// Cells of one column, without the type's names.
pub(super) struct ColumnView {
    pub(super) nulls: Option<NullBuffer>,
    pub(super) cells: Cells,
}

/// See [`ColumnView`].
pub(super) enum Cells {
    Null,
    Boolean(BooleanArray),
    Fixed {
        width: usize,
        values: Buffer,
    },
    Bytes(BytesCells),
    List {
        offsets: ListOffsets,
        child: Box<ColumnView>,
    },
    Struct(Vec<ColumnView>),
}

/// A column of strings or binaries.
pub(super) enum BytesCells {
    Small {
        offsets: OffsetBuffer<i32>,
        values: Buffer,
    },
    Large {
        offsets: OffsetBuffer<i64>,
        values: Buffer,
    },
    TextView(StringViewArray),
    BinaryView(BinaryViewArray),
}

impl BytesCells {
    pub(super) fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Small { offsets, values } => {
                &values[offsets[row] as usize..offsets[row + 1] as usize]
            }
            Self::Large { offsets, values } => {
                &values[offsets[row] as usize..offsets[row + 1] as usize]
            }
            Self::TextView(array) => array.value(row).as_bytes(),
            Self::BinaryView(array) => array.value(row),
        }
    }
}

/// Where each list of a list column lies in its child.
pub(super) enum ListOffsets {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
    Every(usize),
}

impl ListOffsets {
    pub(super) fn range(&self, row: usize) -> std::ops::Range<usize> {
        match self {
            Self::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Every(size) => row * size..(row + 1) * size,
        }
    }
}

impl ColumnView {
    pub(super) fn new(array: &dyn Array) -> Result<Self, StateError> {
        let cells = match shape(array.data_type())? {
            Shape::Null => Cells::Null,
            Shape::Boolean => Cells::Boolean(array.as_boolean().clone()),
            Shape::Fixed(width) => {
                let data = array.to_data();
                let values =
                    data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                Cells::Fixed { width, values }
            }
            Shape::Bytes => Cells::Bytes(bytes_cells(array)),
            Shape::List(_) => list_cells(array)?,
            Shape::Struct(_) => {
                let columns = array.as_struct().columns();
                Cells::Struct(
                    columns
                        .iter()
                        .map(|column| Self::new(column))
                        .collect::<Result<_, _>>()?,
                )
            }
        };
        Ok(Self {
            nulls: array.nulls().cloned(),
            cells,
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match &self.cells {
            Cells::Null => true,
            _ => self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
        }
    }
}

fn bytes_cells(array: &dyn Array) -> BytesCells {
    fn small(offsets: &OffsetBuffer<i32>, values: &Buffer) -> BytesCells {
        BytesCells::Small {
            offsets: offsets.clone(),
            values: values.clone(),
        }
    }
    fn large(offsets: &OffsetBuffer<i64>, values: &Buffer) -> BytesCells {
        BytesCells::Large {
            offsets: offsets.clone(),
            values: values.clone(),
        }
    }
    match array.data_type() {
        DataType::Utf8 => small(
            array.as_string::<i32>().offsets(),
            array.as_string::<i32>().values(),
        ),
        DataType::Binary => small(
            array.as_binary::<i32>().offsets(),
            array.as_binary::<i32>().values(),
        ),
        DataType::LargeUtf8 => large(
            array.as_string::<i64>().offsets(),
            array.as_string::<i64>().values(),
        ),
        DataType::LargeBinary => large(
            array.as_binary::<i64>().offsets(),
            array.as_binary::<i64>().values(),
        ),
        DataType::Utf8View => BytesCells::TextView(array.as_string_view().clone()),
        DataType::BinaryView => BytesCells::BinaryView(array.as_binary_view().clone()),
        other => unreachable!("{other} does not have the shape Bytes"),
    }
}

fn list_cells(array: &dyn Array) -> Result<Cells, StateError> {
    let (offsets, child) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (ListOffsets::Small(list.offsets().clone()), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (ListOffsets::Large(list.offsets().clone()), list.values())
        }
        DataType::FixedSizeList(_, size) => (
            ListOffsets::Every(*size as usize),
            array.as_fixed_size_list().values(),
        ),
        other => unreachable!("{other} does not have the shape List"),
    };
    Ok(Cells::List {
        offsets,
        child: Box::new(ColumnView::new(child)?),
    })
}

/// Checks that `columns` are what a codec was made for.
pub(super) fn check_columns(types: &[DataType], columns: &[ArrayRef]) -> Result<usize, StateError> {
    let matches = types.len() == columns.len()
        && types
            .iter()
            .zip(columns)
            .all(|(data_type, column)| data_type == column.data_type());
    let rows = columns.first().map_or(0, |column| column.len());
    if matches && columns.iter().all(|column| column.len() == rows) {
        return Ok(rows);
    }
    let got: Vec<String> = columns
        .iter()
        .map(|column| format!("{}[{}]", column.data_type(), column.len()))
        .collect();
    Err(StateError::Bug(format!(
        "codec for {types:?} was given columns {got:?}"
    )))
}

/// Appends cells of one type and becomes an array of exactly that type.
pub(super) struct ColumnBuilder {
    data_type: DataType,
    nulls: NullBufferBuilder,
    pub(super) values: BuilderValues,
}

/// See [`ColumnBuilder`].
pub(super) enum BuilderValues {
    Null,
    Boolean(BooleanBufferBuilder),
    Fixed {
        width: usize,
        values: MutableBuffer,
    },
    Bytes {
        ends: Vec<usize>,
        values: Vec<u8>,
    },
    List {
        ends: Vec<usize>,
        child: Box<ColumnBuilder>,
    },
    Struct(Vec<ColumnBuilder>),
}

impl ColumnBuilder {
    pub(super) fn new(data_type: &DataType, capacity: usize) -> Result<Self, StateError> {
        let values = match shape(data_type)? {
            Shape::Null => BuilderValues::Null,
            Shape::Boolean => BuilderValues::Boolean(BooleanBufferBuilder::new(capacity)),
            Shape::Fixed(width) => BuilderValues::Fixed {
                width,
                values: MutableBuffer::new(capacity * width),
            },
            Shape::Bytes => BuilderValues::Bytes {
                ends: Vec::with_capacity(capacity),
                values: Vec::new(),
            },
            Shape::List(item) => {
                let child = Box::new(Self::new(&item, capacity)?);
                BuilderValues::List {
                    ends: Vec::with_capacity(capacity),
                    child,
                }
            }
            Shape::Struct(types) => {
                let fields = types
                    .iter()
                    .map(|field| Self::new(field, capacity))
                    .collect::<Result<_, _>>()?;
                BuilderValues::Struct(fields)
            }
        };
        Ok(Self {
            data_type: data_type.clone(),
            nulls: NullBufferBuilder::new(capacity),
            values,
        })
    }

    /// Marks the cell whose value was just appended as present.
    pub(super) fn present(&mut self) {
        self.nulls.append_non_null();
    }

    /// Appends NULL, with whatever filler the shape needs.
    pub(super) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            BuilderValues::Null => {}
            BuilderValues::Boolean(values) => values.append(false),
            BuilderValues::Fixed { width, values } => values.extend_zeros(*width),
            BuilderValues::Bytes { ends, values } => ends.push(values.len()),
            BuilderValues::List { ends, child } => {
                if let DataType::FixedSizeList(_, size) = &self.data_type {
                    (0..*size).for_each(|_| child.push_null());
                }
                ends.push(child.nulls.len());
            }
            BuilderValues::Struct(fields) => fields.iter_mut().for_each(Self::push_null),
        }
    }

    /// Number of cells so far.
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    pub(super) fn finish(self) -> Result<ArrayRef, StateError> {
        let Self {
            data_type,
            mut nulls,
            values,
        } = self;
        let len = nulls.len();
        let nulls = nulls.finish();
        Ok(match values {
            BuilderValues::Null => Arc::new(NullArray::new(len)),
            BuilderValues::Boolean(mut values) => {
                Arc::new(BooleanArray::new(values.finish(), nulls))
            }
            BuilderValues::Fixed { values, .. } => make_array(
                ArrayData::builder(data_type)
                    .len(len)
                    .add_buffer(values.into())
                    .nulls(nulls)
                    .build()?,
            ),
            BuilderValues::Bytes { ends, values } => finish_bytes(&data_type, ends, values, nulls)?,
            BuilderValues::List { ends, child } => finish_list(data_type, ends, *child, nulls)?,
            BuilderValues::Struct(fields) => {
                let DataType::Struct(names) = data_type else {
                    unreachable!("the shape Struct comes from a struct")
                };
                let columns = fields
                    .into_iter()
                    .map(Self::finish)
                    .collect::<Result<Vec<_>, _>>()?;
                if columns.is_empty() {
                    Arc::new(StructArray::new_empty_fields(len, nulls))
                } else {
                    Arc::new(StructArray::try_new(names, columns, nulls)?)
                }
            }
        })
    }
}

fn small_offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, StateError> {
    if ends.last().is_some_and(|&end| end > i32::MAX as usize) {
        return Err(StateError::Unsupported(
            "a batch with more than 2 GiB in one column".to_string(),
        ));
    }
    let offsets: Vec<i32> = std::iter::once(0)
        .chain(ends.iter().map(|&end| end as i32))
        .collect();
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

fn large_offsets(ends: &[usize]) -> OffsetBuffer<i64> {
    let offsets: Vec<i64> = std::iter::once(0)
        .chain(ends.iter().map(|&end| end as i64))
        .collect();
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn finish_bytes(
    data_type: &DataType,
    ends: Vec<usize>,
    values: Vec<u8>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, StateError> {
    let values = Buffer::from_vec(values);
    Ok(match data_type {
        DataType::Utf8 => Arc::new(GenericStringArray::try_new(
            small_offsets(&ends)?,
            values,
            nulls,
        )?),
        DataType::LargeUtf8 => Arc::new(GenericStringArray::try_new(
            large_offsets(&ends),
            values,
            nulls,
        )?),
        DataType::Binary => Arc::new(GenericBinaryArray::try_new(
            small_offsets(&ends)?,
            values,
            nulls,
        )?),
        DataType::LargeBinary => Arc::new(GenericBinaryArray::try_new(
            large_offsets(&ends),
            values,
            nulls,
        )?),
        DataType::Utf8View => {
            let text = GenericStringArray::try_new(small_offsets(&ends)?, values, nulls)?;
            Arc::new(StringViewArray::from(&text))
        }
        DataType::BinaryView => {
            let binary = GenericBinaryArray::try_new(small_offsets(&ends)?, values, nulls)?;
            Arc::new(BinaryViewArray::from(&binary))
        }
        other => unreachable!("{other} does not have the shape Bytes"),
    })
}

fn finish_list(
    data_type: DataType,
    ends: Vec<usize>,
    child: ColumnBuilder,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, StateError> {
    use arrow::array::{FixedSizeListArray, GenericListArray};
    let child = child.finish()?;
    Ok(match data_type {
        DataType::List(field) => Arc::new(GenericListArray::try_new(
            field,
            small_offsets(&ends)?,
            child,
            nulls,
        )?),
        DataType::LargeList(field) => Arc::new(GenericListArray::try_new(
            field,
            large_offsets(&ends),
            child,
            nulls,
        )?),
        DataType::FixedSizeList(field, size) => Arc::new(FixedSizeListArray::try_new_with_length(
            field,
            size,
            child,
            nulls,
            ends.len(),
        )?),
        other => unreachable!("{other} does not have the shape List"),
    })
}
