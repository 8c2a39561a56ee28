//! SQL types and the Arrow types that carry them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// Field metadata key that tells types apart which share an Arrow type (`json`, `jsonb`, `uuid`, ...).
pub const PG_TYPE_KEY: &str = "pg_type";

/// A PostgreSQL column type as Rivermark knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SqlType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    /// `precision` 1..=76, `scale` 0..=precision. Plain `NUMERIC` is `NUMERIC(38, 10)` (see docs/limits.md).
    Numeric {
        precision: u8,
        scale: i8,
    },
    /// `VARCHAR(n)`, `VARCHAR` and `TEXT`. A length limit is checked when rows are written.
    Text {
        max_length: Option<u32>,
    },
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    Array(Box<SqlType>),
    Struct(Vec<(String, SqlType)>),
}

impl SqlType {
    /// The Arrow type of this type's values. Times are microseconds, as in PostgreSQL.
    pub fn arrow(&self) -> DataType {
        match self {
            SqlType::Boolean => DataType::Boolean,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Integer => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Real => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Numeric { precision, scale } if *precision <= 38 => {
                DataType::Decimal128(*precision, *scale)
            }
            SqlType::Numeric { precision, scale } => DataType::Decimal256(*precision, *scale),
            SqlType::Text { .. } | SqlType::Uuid | SqlType::Json | SqlType::Jsonb => DataType::Utf8,
            SqlType::Bytea => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Array(element) => DataType::List(Arc::new(element.field("item", true))),
            SqlType::Struct(fields) => DataType::Struct(
                fields
                    .iter()
                    .map(|(name, t)| t.field(name, true))
                    .collect::<Fields>(),
            ),
        }
    }

    /// An Arrow field of this type, with the metadata that keeps `uuid`, `json` and `jsonb` apart from text.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        match self.metadata() {
            Some(tag) => {
                field.with_metadata(HashMap::from([(PG_TYPE_KEY.to_string(), tag.to_string())]))
            }
            None => field,
        }
    }

    /// The type's name without precision, scale or length, as `pg_typeof` says it.
    pub fn base_name(&self) -> String {
        match self {
            SqlType::Numeric { .. } => "numeric".to_string(),
            SqlType::Text {
                max_length: Some(_),
            } => "character varying".to_string(),
            SqlType::Array(element) => format!("{}[]", element.base_name().trim_end_matches("[]")),
            SqlType::Struct(_) => "record".to_string(),
            other => other.to_string(),
        }
    }

    fn metadata(&self) -> Option<&'static str> {
        match self {
            SqlType::Uuid => Some("uuid"),
            SqlType::Json => Some("json"),
            SqlType::Jsonb => Some("jsonb"),
            _ => None,
        }
    }

    /// The SQL type that a field of a query's result has.
    pub fn of_field(field: &Field) -> SqlType {
        match (
            field.metadata().get(PG_TYPE_KEY).map(String::as_str),
            field.data_type(),
        ) {
            (Some("uuid"), DataType::Utf8) => SqlType::Uuid,
            (Some("json"), DataType::Utf8) => SqlType::Json,
            (Some("jsonb"), DataType::Utf8) => SqlType::Jsonb,
            (_, data_type) => SqlType::of_arrow(data_type),
        }
    }

    fn of_arrow(data_type: &DataType) -> SqlType {
        match data_type {
            DataType::Boolean => SqlType::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => SqlType::SmallInt,
            DataType::Int32 | DataType::UInt16 => SqlType::Integer,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => SqlType::BigInt,
            DataType::Float16 | DataType::Float32 => SqlType::Real,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => SqlType::Numeric {
                precision: *precision,
                scale: *scale,
            },
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => SqlType::Bytea,
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::FixedSizeList(element, _)
            | DataType::ListView(element)
            | DataType::LargeListView(element) => {
                SqlType::Array(Box::new(SqlType::of_field(element)))
            }
            DataType::Struct(fields) => SqlType::Struct(
                fields
                    .iter()
                    .map(|f| (f.name().clone(), SqlType::of_field(f)))
                    .collect(),
            ),
            DataType::Dictionary(_, values) => SqlType::of_arrow(values),
            DataType::RunEndEncoded(_, values) => SqlType::of_field(values),
            DataType::Null
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Map(_, _)
            | DataType::Union(_, _) => SqlType::Text { max_length: None },
        }
    }
}

impl fmt::Display for SqlType {
    /// PostgreSQL's `format_type` spelling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Boolean => f.write_str("boolean"),
            SqlType::SmallInt => f.write_str("smallint"),
            SqlType::Integer => f.write_str("integer"),
            SqlType::BigInt => f.write_str("bigint"),
            SqlType::Real => f.write_str("real"),
            SqlType::Double => f.write_str("double precision"),
            SqlType::Numeric {
                precision: 38,
                scale: 10,
            } => f.write_str("numeric"),
            SqlType::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            SqlType::Text {
                max_length: Some(n),
            } => write!(f, "character varying({n})"),
            SqlType::Text { max_length: None } => f.write_str("text"),
            SqlType::Bytea => f.write_str("bytea"),
            SqlType::Date => f.write_str("date"),
            SqlType::Time => f.write_str("time without time zone"),
            SqlType::Timestamp => f.write_str("timestamp without time zone"),
            SqlType::Timestamptz => f.write_str("timestamp with time zone"),
            SqlType::Interval => f.write_str("interval"),
            SqlType::Uuid => f.write_str("uuid"),
            SqlType::Json => f.write_str("json"),
            SqlType::Jsonb => f.write_str("jsonb"),
            SqlType::Array(element) => write!(f, "{element}[]"),
            SqlType::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, (name, t)) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{} {t}", crate::identifier::quote_ident(name))?;
                }
                f.write_str(">")
            }
        }
    }
}
