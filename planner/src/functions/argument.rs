//! Arguments of functions: what kinds there are, what converts to them, and columns of them.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::json_form::json_column;
use super::text_form::text_column;
use crate::json;
use crate::operators::is_integer;
use crate::pg_text::time_zone::SessionTimeZone;
use crate::types::SqlType;

/// What an overload asks of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// `integer`, also smaller.
    Int4,
    Int8,
    Float,
    Real,
    Numeric,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Json,
    Jsonb,
    TextArray,
    AnyArray,
    /// A value of any type, as its text.
    AnyText,
    /// A value of any type, as JSON.
    AnyJson,
}

/// A conversion that only untyped literals are meant to take.
const FROM_LITERAL: u32 = 100;

impl Kind {
    /// How far a value of `field` is from this kind; `None`: it does not convert by itself.
    pub fn cost(self, field: &FieldRef) -> Option<u32> {
        let sql_type = SqlType::of_field(field);
        if field.data_type() == &DataType::Null {
            return Some(1);
        }
        let is_integer = is_integer(&sql_type);
        let numbers = |rank: u32| {
            number_rank(&sql_type)
                .filter(|r| *r <= rank)
                .map(|r| rank - r)
        };
        let found = match self {
            Kind::AnyText | Kind::AnyJson => Some(50),
            Kind::Bool => (sql_type == SqlType::Boolean).then_some(0),
            // literals are bigint until types are known
            Kind::Int4 if sql_type == SqlType::BigInt => Some(40),
            Kind::Int4 => numbers(2),
            Kind::Int8 => numbers(3),
            Kind::Numeric if is_integer => Some(5),
            Kind::Numeric => numbers(4),
            Kind::Real => numbers(5),
            // PostgreSQL's preferred type among numbers
            Kind::Float if is_integer => Some(4),
            Kind::Float => numbers(6),
            Kind::Text => match sql_type {
                SqlType::Text { .. } => Some(0),
                // tags are not known everywhere
                SqlType::Uuid | SqlType::Json | SqlType::Jsonb => Some(30),
                _ => None,
            },
            Kind::Bytes => (sql_type == SqlType::Bytea).then_some(0),
            Kind::Date => (sql_type == SqlType::Date).then_some(0),
            Kind::Time => (sql_type == SqlType::Time).then_some(0),
            Kind::Timestamp => match sql_type {
                SqlType::Timestamp => Some(0),
                SqlType::Date => Some(2),
                _ => None,
            },
            Kind::Timestamptz => match sql_type {
                SqlType::Timestamptz => Some(0),
                SqlType::Timestamp | SqlType::Date => Some(1),
                _ => None,
            },
            Kind::Interval => match sql_type {
                SqlType::Interval => Some(0),
                SqlType::Time => Some(2),
                _ => None,
            },
            Kind::Json => (sql_type == SqlType::Json).then_some(0),
            Kind::Jsonb => (sql_type == SqlType::Jsonb).then_some(0),
            Kind::TextArray => match &sql_type {
                SqlType::Array(element) if matches!(**element, SqlType::Text { .. }) => Some(0),
                SqlType::Array(_) => Some(60),
                _ => None,
            },
            Kind::AnyArray => matches!(sql_type, SqlType::Array(_)).then_some(10),
        };
        found.or_else(|| matches!(sql_type, SqlType::Text { .. }).then_some(self.literal_cost()))
    }

    /// A literal is rather read as what PostgreSQL prefers in its category.
    fn literal_cost(self) -> u32 {
        FROM_LITERAL
            + match self {
                Kind::Float | Kind::Timestamptz | Kind::Interval | Kind::Jsonb => 0,
                _ => 1,
            }
    }

    /// The Arrow type that an argument of type `data_type` is brought to.
    pub fn coerced(self, data_type: &DataType) -> DataType {
        match self {
            Kind::Bool => DataType::Boolean,
            Kind::Int4 => DataType::Int32,
            Kind::Int8 => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Real => DataType::Float32,
            Kind::Numeric => match data_type {
                DataType::Decimal128(..) => data_type.clone(),
                DataType::Decimal256(_, scale) => DataType::Decimal128(38, (*scale).min(38)),
                DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Decimal128(10, 0),
                t if t.is_integer() => DataType::Decimal128(20, 0),
                _ => SqlType::PLAIN_NUMERIC.arrow(),
            },
            Kind::Text | Kind::Json | Kind::Jsonb => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Date => DataType::Date32,
            Kind::Time => DataType::Time64(TimeUnit::Microsecond),
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Kind::TextArray => DataType::List(std::sync::Arc::new(Field::new(
                "item",
                DataType::Utf8,
                true,
            ))),
            Kind::AnyArray => match data_type {
                DataType::List(_) => data_type.clone(),
                DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    DataType::List(item.clone())
                }
                _ => Kind::TextArray.coerced(data_type),
            },
            Kind::AnyText | Kind::AnyJson => data_type.clone(),
        }
    }
}

/// smallint, integer, bigint, numeric, real, double precision: each converts to those behind it.
fn number_rank(sql_type: &SqlType) -> Option<u32> {
    Some(match sql_type {
        SqlType::SmallInt => 1,
        SqlType::Integer => 2,
        SqlType::BigInt => 3,
        SqlType::Numeric { .. } => 4,
        SqlType::Real => 5,
        SqlType::Double => 6,
        _ => return None,
    })
}

/// The values of an argument, ready to be read row by row.
pub struct Column {
    values: Values,
    /// One value for all rows.
    is_constant: bool,
    array: ArrayRef,
}

enum Values {
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Decimal(Decimal128Array, i8),
    Text(StringArray),
    Bytes(BinaryArray),
    Interval(IntervalMonthDayNanoArray),
    List(ListArray),
    /// All NULL.
    Null,
}

impl Column {
    /// Prepares an argument that was coerced to `kind`.
    pub fn new(argument: &ColumnarValue, field: &FieldRef, kind: Kind) -> Result<Column> {
        let (array, is_constant) = match argument {
            ColumnarValue::Array(array) => (array.clone(), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        let values = match kind {
            _ if array.data_type() == &DataType::Null => Values::Null,
            Kind::AnyText => {
                let text = text_column(&array, field, &SessionTimeZone::UTC)?;
                Values::Text(text)
            }
            Kind::AnyJson => Values::Text(json_column(&array, field)?),
            _ => {
                let wanted = match kind {
                    Kind::Int4 | Kind::Int8 | Kind::Time => DataType::Int64,
                    Kind::Timestamp | Kind::Timestamptz => DataType::Int64,
                    Kind::Real => DataType::Float64,
                    Kind::Date => DataType::Int64,
                    other => other.coerced(array.data_type()),
                };
                let array = convert(&array, &wanted)?;
                match kind {
                    Kind::Bool => Values::Bool(array.as_boolean().clone()),
                    Kind::Int4
                    | Kind::Int8
                    | Kind::Date
                    | Kind::Time
                    | Kind::Timestamp
                    | Kind::Timestamptz => Values::Int(array.as_primitive().clone()),
                    Kind::Float | Kind::Real => Values::Float(array.as_primitive().clone()),
                    Kind::Numeric => {
                        let array: &Decimal128Array = array.as_primitive();
                        Values::Decimal(array.clone(), array.scale())
                    }
                    Kind::Jsonb => Values::Text(canonical(array.as_string(), field)?),
                    Kind::Json => Values::Text(checked(array.as_string(), field)?),
                    Kind::Text => Values::Text(array.as_string().clone()),
                    Kind::Bytes => Values::Bytes(array.as_binary().clone()),
                    Kind::Interval => Values::Interval(array.as_primitive().clone()),
                    Kind::TextArray | Kind::AnyArray => Values::List(array.as_list().clone()),
                    Kind::AnyText | Kind::AnyJson => Values::Null,
                }
            }
        };
        Ok(Column {
            values,
            is_constant,
            array,
        })
    }

    fn at(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }

    pub fn is_null(&self, row: usize) -> bool {
        let row = self.at(row);
        match &self.values {
            Values::Null => true,
            Values::Text(text) => text.is_null(row),
            _ => self.array.is_null(row),
        }
    }

    pub fn bool(&self, row: usize) -> bool {
        match &self.values {
            Values::Bool(array) => array.value(self.at(row)),
            _ => false,
        }
    }

    pub fn int(&self, row: usize) -> i64 {
        match &self.values {
            Values::Int(array) => array.value(self.at(row)),
            _ => 0,
        }
    }

    pub fn float(&self, row: usize) -> f64 {
        match &self.values {
            Values::Float(array) => array.value(self.at(row)),
            _ => 0.0,
        }
    }

    pub fn decimal(&self, row: usize) -> (i128, i8) {
        match &self.values {
            Values::Decimal(array, scale) => (array.value(self.at(row)), *scale),
            _ => (0, 0),
        }
    }

    pub fn text(&self, row: usize) -> &str {
        match &self.values {
            Values::Text(array) => array.value(self.at(row)),
            _ => "",
        }
    }

    pub fn bytes(&self, row: usize) -> &[u8] {
        match &self.values {
            Values::Bytes(array) => array.value(self.at(row)),
            _ => &[],
        }
    }

    pub fn interval(&self, row: usize) -> IntervalMonthDayNano {
        match &self.values {
            Values::Interval(array) => array.value(self.at(row)),
            _ => IntervalMonthDayNano::ZERO,
        }
    }

    pub fn array(&self, row: usize) -> ArrayRef {
        match &self.values {
            Values::List(array) => array.value(self.at(row)),
            _ => arrow::array::new_null_array(&DataType::Null, 0),
        }
    }

    pub fn texts(&self, row: usize) -> Vec<Option<String>> {
        let array = self.array(row);
        match array.as_string_opt::<i32>() {
            Some(texts) => texts.iter().map(|t| t.map(str::to_string)).collect(),
            None => vec![None; array.len()],
        }
    }
}

fn convert(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(array, wanted, &options)?)
}

/// A literal's text in the form that `jsonb` has; what is known to be one is not read again.
fn canonical(texts: &StringArray, field: &FieldRef) -> Result<StringArray> {
    if SqlType::of_field(field) == SqlType::Jsonb {
        return Ok(texts.clone());
    }
    texts
        .iter()
        .map(|text| Ok(text.map(json::canonical).transpose()?))
        .collect()
}

/// A literal's text, which must be JSON.
fn checked(texts: &StringArray, field: &FieldRef) -> Result<StringArray> {
    let is_json = matches!(SqlType::of_field(field), SqlType::Json | SqlType::Jsonb);
    if !is_json {
        for text in texts.iter().flatten() {
            json::check(text)?;
        }
    }
    Ok(texts.clone())
}
