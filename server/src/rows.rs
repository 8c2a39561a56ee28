//! Small relations built in memory: SHOW results, system views and the live tables of pg_catalog.
//!
//! A relation is written down as its columns and rows of cells; this module turns that into Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int16Builder, Int32Builder,
    Int64Builder, IntervalMonthDayNanoBuilder, ListBuilder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    DataType, Field, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef, TimeUnit,
};
use rivermark_planner::types::PG_TYPE_KEY;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Bool,
    Int2,
    Int4,
    /// An object identifier: an int4 that says so.
    Oid,
    Int8,
    Float8,
    Text,
    Bytea,
    Timestamptz,
    Interval,
    TextArray,
    Int2Array,
    /// An array of smallints whose first element has number 0, printed with blanks.
    Int2Vector,
    /// The same, of oids.
    OidVector,
}

/// A column of such a relation.
pub type Column = (&'static str, ColumnType);

/// One value; its kind must fit the column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// Int2, Int4, Oid, Int8; microseconds since 1970 for Timestamptz, microseconds for Interval.
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Texts(Vec<String>),
    Ints(Vec<i16>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_string())
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}
impl From<bool> for Cell {
    fn from(value: bool) -> Cell {
        Cell::Bool(value)
    }
}
impl From<i32> for Cell {
    fn from(value: i32) -> Cell {
        Cell::Int(value.into())
    }
}
impl From<i64> for Cell {
    fn from(value: i64) -> Cell {
        Cell::Int(value)
    }
}
impl From<u64> for Cell {
    fn from(value: u64) -> Cell {
        Cell::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// Columns and rows.
#[derive(Debug, Clone)]
pub struct Rows {
    pub columns: &'static [Column],
    pub rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub fn new(columns: &'static [Column]) -> Rows {
        Rows {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; it must have one cell per column.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(
            row.len(),
            self.columns.len(),
            "a row has one cell per column"
        );
        self.rows.push(row);
    }

    /// Adds a row by column names; columns not named take the type's zero (0, false, ''), or NULL for arrays.
    pub fn push_named(&mut self, cells: &[(&str, Cell)]) {
        let row = self.columns.iter().map(|(name, column_type)| {
            let given = cells.iter().find(|(n, _)| n == name);
            given.map_or_else(|| zero(*column_type), |(_, cell)| cell.clone())
        });
        let row = row.collect();
        debug_assert!(
            cells
                .iter()
                .all(|(n, _)| self.columns.iter().any(|(c, _)| c == n)),
            "every named cell has its column: {cells:?}"
        );
        self.rows.push(row);
    }

    pub fn schema(&self) -> SchemaRef {
        schema(self.columns)
    }

    pub fn batch(&self) -> RecordBatch {
        let arrays = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, column_type))| {
                array(name, *column_type, self.rows.iter().map(|row| &row[i]))
            });
        RecordBatch::try_new_with_options(
            self.schema(),
            arrays.collect(),
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(self.rows.len())),
        )
        .expect("arrays are built from the schema")
    }
}

/// The schema of a relation with these columns.
pub fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, t)| field(name, *t))
            .collect::<Vec<_>>(),
    ))
}

fn field(name: &str, column_type: ColumnType) -> Field {
    let list = |t| DataType::List(Arc::new(Field::new("item", t, true)));
    let data_type = match column_type {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int2 => DataType::Int16,
        ColumnType::Int4 | ColumnType::Oid => DataType::Int32,
        ColumnType::Int8 => DataType::Int64,
        ColumnType::Float8 => DataType::Float64,
        ColumnType::Text => DataType::Utf8,
        ColumnType::Bytea => DataType::Binary,
        ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        ColumnType::TextArray => list(DataType::Utf8),
        ColumnType::Int2Array | ColumnType::Int2Vector => list(DataType::Int16),
        ColumnType::OidVector => list(DataType::Int32),
    };
    let field = Field::new(name, data_type, true);
    let own_type = match column_type {
        ColumnType::Oid => "oid",
        ColumnType::Int2Vector => "int2vector",
        ColumnType::OidVector => "oidvector",
        _ => return field,
    };
    let metadata = [(PG_TYPE_KEY.to_string(), own_type.to_string())];
    field.with_metadata(HashMap::from(metadata))
}

fn zero(column_type: ColumnType) -> Cell {
    match column_type {
        ColumnType::Bool => Cell::Bool(false),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Oid | ColumnType::Int8 => Cell::Int(0),
        ColumnType::Float8 => Cell::Float(0.0),
        ColumnType::Text => Cell::Text(String::new()),
        ColumnType::Bytea
        | ColumnType::Timestamptz
        | ColumnType::Interval
        | ColumnType::TextArray
        | ColumnType::Int2Array
        | ColumnType::Int2Vector
        | ColumnType::OidVector => Cell::Null,
    }
}

macro_rules! build {
    ($builder:expr, $cells:expr, $name:expr, $($pattern:pat => $value:expr),+) => {{
        let mut builder = $builder;
        for cell in $cells {
            match cell {
                Cell::Null => builder.append_null(),
                $($pattern => builder.append_value($value),)+
                other => panic!("column {} can not hold {other:?}", $name),
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

fn array<'a>(
    name: &str,
    column_type: ColumnType,
    cells: impl Iterator<Item = &'a Cell>,
) -> ArrayRef {
    match column_type {
        ColumnType::Bool => build!(BooleanBuilder::new(), cells, name, Cell::Bool(b) => *b),
        ColumnType::Int2 => build!(Int16Builder::new(), cells, name, Cell::Int(n) => *n as i16),
        ColumnType::Int4 | ColumnType::Oid => {
            build!(Int32Builder::new(), cells, name, Cell::Int(n) => *n as i32)
        }
        ColumnType::Int8 => build!(Int64Builder::new(), cells, name, Cell::Int(n) => *n),
        ColumnType::Float8 => {
            build!(Float64Builder::new(), cells, name, Cell::Float(x) => *x, Cell::Int(n) => *n as f64)
        }
        ColumnType::Text => build!(StringBuilder::new(), cells, name, Cell::Text(s) => s),
        ColumnType::Bytea => build!(BinaryBuilder::new(), cells, name, Cell::Bytes(b) => b),
        ColumnType::Timestamptz => build!(
            TimestampMicrosecondBuilder::new().with_timezone("UTC"), cells, name, Cell::Int(us) => *us
        ),
        ColumnType::Interval => build!(
            IntervalMonthDayNanoBuilder::new(), cells, name,
            Cell::Int(us) => IntervalMonthDayNano::new(0, 0, *us * 1000)
        ),
        ColumnType::TextArray => build!(
            ListBuilder::new(StringBuilder::new()), cells, name,
            Cell::Texts(texts) => texts.iter().map(Some).collect::<Vec<_>>()
        ),
        ColumnType::OidVector => build!(
            ListBuilder::new(Int32Builder::new()), cells, name,
            Cell::Ints(ints) => ints.iter().map(|n| Some(i32::from(*n))).collect::<Vec<_>>()
        ),
        ColumnType::Int2Array | ColumnType::Int2Vector => build!(
            ListBuilder::new(Int16Builder::new()), cells, name,
            Cell::Ints(ints) => ints.iter().copied().map(Some).collect::<Vec<_>>()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_makes_its_array() {
        const COLUMNS: &[Column] = &[
            ("b", ColumnType::Bool),
            ("s", ColumnType::Int2),
            ("o", ColumnType::Oid),
            ("f", ColumnType::Float8),
            ("t", ColumnType::Text),
            ("at", ColumnType::Timestamptz),
            ("ts", ColumnType::TextArray),
            ("is", ColumnType::Int2Array),
        ];
        let mut rows = Rows::new(COLUMNS);
        rows.push(vec![
            true.into(),
            1.into(),
            2.into(),
            Cell::Float(0.5),
            "x".into(),
            Cell::Int(5),
            Cell::Texts(vec!["a".into()]),
            Cell::Ints(vec![1, 2]),
        ]);
        rows.push(vec![Cell::Null; 8]);
        rows.push_named(&[("t", "named".into())]);
        let batch = rows.batch();
        assert_eq!(batch.num_rows(), 3);
        assert_eq!(batch.column(4).null_count(), 1);
        assert_eq!(batch.column(7).null_count(), 2);
    }
}
