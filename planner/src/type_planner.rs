//! SQL type names to Arrow types, for casts and typed literals: PostgreSQL's types with times in microseconds.
//!
//! DataFusion's own mapping plans `TIMESTAMP` as nanoseconds (years 1677 to 2262) and knows neither `JSONB` nor
//! `UUID`; this one is asked first.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType as SqlDataType, ExactNumberInfo, TimezoneInfo,
};

use crate::types::SqlType;

/// Hooks [`sql_type`] into DataFusion's planner.
#[derive(Debug, Default)]
pub struct PostgresTypes;

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, data_type: &SqlDataType) -> Result<Option<FieldRef>> {
        match sql_type(data_type)? {
            // The target of a cast that has no name inherits what the source is, so that a uuid's text would be a uuid.
            Some(sql_type) => Ok(Some(Arc::new(sql_type.field("cast", true)))),
            None => Ok(None),
        }
    }
}

/// The type that `data_type` names; `None` if it is not one of Rivermark's.
pub fn sql_type(data_type: &SqlDataType) -> Result<Option<SqlType>> {
    let found = match data_type {
        SqlDataType::Boolean | SqlDataType::Bool => SqlType::Boolean,
        SqlDataType::SmallInt(_) | SqlDataType::Int2(_) => SqlType::SmallInt,
        SqlDataType::Int(_) | SqlDataType::Integer(_) | SqlDataType::Int4(_) => SqlType::Integer,
        SqlDataType::BigInt(_) | SqlDataType::Int8(_) => SqlType::BigInt,
        SqlDataType::Real | SqlDataType::Float4 => SqlType::Real,
        SqlDataType::Float(ExactNumberInfo::Precision(bits)) if *bits <= 24 => SqlType::Real,
        SqlDataType::Float(_)
        | SqlDataType::Double(_)
        | SqlDataType::DoublePrecision
        | SqlDataType::Float8 => SqlType::Double,
        SqlDataType::Numeric(info) | SqlDataType::Decimal(info) | SqlDataType::Dec(info) => {
            numeric(info)?
        }
        SqlDataType::Varchar(length)
        | SqlDataType::Nvarchar(length)
        | SqlDataType::CharacterVarying(length)
        | SqlDataType::CharVarying(length)
        | SqlDataType::Char(length)
        | SqlDataType::Character(length) => SqlType::Text {
            max_length: max_length(length.as_ref()),
        },
        SqlDataType::Text | SqlDataType::String(_) => SqlType::Text { max_length: None },
        SqlDataType::Bytea => SqlType::Bytea,
        SqlDataType::Date => SqlType::Date,
        SqlDataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        SqlDataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            SqlType::Timestamp
        }
        SqlDataType::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            SqlType::Timestamptz
        }
        SqlDataType::Interval { .. } => SqlType::Interval,
        SqlDataType::Uuid => SqlType::Uuid,
        SqlDataType::JSON => SqlType::Json,
        SqlDataType::JSONB => SqlType::Jsonb,
        SqlDataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => match sql_type(element)? {
            Some(element) => SqlType::Array(Box::new(element)),
            None => return Ok(None),
        },
        SqlDataType::Struct(fields, _) => {
            let mut members = Vec::with_capacity(fields.len());
            for (i, field) in fields.iter().enumerate() {
                let name = field
                    .field_name
                    .as_ref()
                    .map_or_else(|| format!("f{}", i + 1), crate::names::fold);
                match sql_type(&field.field_type)? {
                    Some(member) => members.push((name, member)),
                    None => return Ok(None),
                }
            }
            SqlType::Struct(members)
        }
        _ => return Ok(None),
    };
    Ok(Some(found))
}

fn numeric(info: &ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let out_of_range = |what: &str, most: u64| -> DataFusionError {
        plan_datafusion_err!("NUMERIC {what} must be between 0 and {most}")
    };
    if precision == 0 || precision > 76 {
        return Err(out_of_range("precision", 76));
    }
    if scale < 0 || scale > precision as i64 {
        return Err(out_of_range("scale", precision));
    }
    Ok(SqlType::Numeric {
        precision: precision as u8,
        scale: scale as i8,
    })
}

fn max_length(length: Option<&CharacterLength>) -> Option<u32> {
    match length {
        Some(CharacterLength::IntegerLength { length, .. }) => u32::try_from(*length).ok(),
        Some(CharacterLength::Max) | None => None,
    }
}
