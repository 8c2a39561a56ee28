//! SQL type names: from what a person wrote to a `SqlType`.

use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, TimezoneInfo};

use crate::error::{PlanError, Result, UndefinedKind};
use crate::identifier::fold;
use crate::types::SqlType;

/// Nesting of arrays and structs that a type may have.
const MAX_TYPE_DEPTH: usize = 32;

impl SqlType {
    /// Plain `NUMERIC`, without precision and scale (see docs/limits.md).
    pub const PLAIN_NUMERIC: SqlType = SqlType::Numeric {
        precision: 38,
        scale: 10,
    };

    /// The type that PostgreSQL means by this name.
    ///
    /// Precisions of times and intervals are accepted and not applied: values keep their microseconds. `char(n)` is a
    /// text of at most n characters, not padded.
    pub fn from_ast(data_type: &DataType) -> Result<SqlType> {
        from_ast(data_type, 0)
    }
}

fn from_ast(data_type: &DataType, depth: usize) -> Result<SqlType> {
    if depth > MAX_TYPE_DEPTH {
        return Err(PlanError::invalid_definition("a type is nested too deeply"));
    }
    match data_type {
        DataType::Bool | DataType::Boolean => Ok(SqlType::Boolean),
        DataType::SmallInt(None) | DataType::Int2(None) => Ok(SqlType::SmallInt),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => {
            Ok(SqlType::Integer)
        }
        DataType::BigInt(None) | DataType::Int8(None) => Ok(SqlType::BigInt),
        DataType::Real | DataType::Float4 => Ok(SqlType::Real),
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(ExactNumberInfo::None) => {
            Ok(SqlType::Double)
        }
        DataType::Float(info) => float(info),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info),
        DataType::Text | DataType::String(None) => Ok(SqlType::Text { max_length: None }),
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => Ok(SqlType::Text {
            max_length: text_length(length.as_ref())?,
        }),
        DataType::Char(length) | DataType::Character(length) => Ok(SqlType::Text {
            max_length: Some(text_length(length.as_ref())?.unwrap_or(1)),
        }),
        DataType::Bytea => Ok(SqlType::Bytea),
        DataType::Date => Ok(SqlType::Date),
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Ok(SqlType::Time),
        DataType::Time(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Err(
            PlanError::unsupported("type time with time zone", "use time or timestamptz"),
        ),
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Ok(SqlType::Timestamp)
        }
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            Ok(SqlType::Timestamptz)
        }
        DataType::Interval { .. } => Ok(SqlType::Interval),
        DataType::Uuid => Ok(SqlType::Uuid),
        DataType::JSON => Ok(SqlType::Json),
        DataType::JSONB => Ok(SqlType::Jsonb),
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => Ok(SqlType::Array(Box::new(from_ast(element, depth + 1)?))),
        DataType::Struct(fields, _) => structure(fields, depth),
        DataType::Custom(name, modifiers) => custom(&name.to_string(), modifiers),
        other => Err(unknown_type(&other.to_string())),
    }
}

fn float(info: &ExactNumberInfo) -> Result<SqlType> {
    match info {
        ExactNumberInfo::None => Ok(SqlType::Double),
        ExactNumberInfo::Precision(1..=24) => Ok(SqlType::Real),
        ExactNumberInfo::Precision(25..=53) => Ok(SqlType::Double),
        ExactNumberInfo::Precision(_) | ExactNumberInfo::PrecisionAndScale(_, _) => Err(
            PlanError::invalid_definition("precision of type float must be between 1 and 53 bits"),
        ),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(SqlType::PLAIN_NUMERIC),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let digits = u8::try_from(precision)
        .ok()
        .filter(|p| (1..=76).contains(p))
        .ok_or_else(|| {
            PlanError::invalid_definition(format!(
                "NUMERIC precision {precision} must be between 1 and 76"
            ))
        })?;
    let scale = i8::try_from(scale)
        .ok()
        .filter(|s| (0..=digits as i8).contains(s))
        .ok_or_else(|| {
            PlanError::invalid_definition(format!(
                "NUMERIC scale {scale} must be between 0 and precision {digits}"
            ))
        })?;
    Ok(SqlType::Numeric {
        precision: digits,
        scale,
    })
}

fn text_length(length: Option<&CharacterLength>) -> Result<Option<u32>> {
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
            Ok(n) if (1..=10_485_760).contains(&n) => Ok(Some(n)),
            _ => Err(PlanError::invalid_definition(
                "length for type varchar must be between 1 and 10485760",
            )),
        },
        Some(CharacterLength::Max) => Err(unknown_type("varchar(max)")),
    }
}

fn structure(fields: &[sqlparser::ast::StructField], depth: usize) -> Result<SqlType> {
    let mut named: Vec<(String, SqlType)> = Vec::with_capacity(fields.len());
    for field in fields {
        let Some(ident) = &field.field_name else {
            return Err(PlanError::InvalidDefinition {
                message: "a STRUCT field has no name".to_string(),
                hint: Some("write STRUCT<name type, ...>".to_string()),
            });
        };
        let name = if ident.quote_style.is_some() {
            ident.value.clone()
        } else {
            fold(&ident.value)
        };
        if named.iter().any(|(other, _)| *other == name) {
            return Err(PlanError::Duplicate {
                kind: UndefinedKind::Column,
                message: format!("STRUCT field \"{name}\" specified more than once"),
            });
        }
        named.push((name, from_ast(&field.field_type, depth + 1)?));
    }
    if named.is_empty() {
        return Err(PlanError::InvalidDefinition {
            message: "a STRUCT type has no fields".to_string(),
            hint: Some("write STRUCT<name type, ...>".to_string()),
        });
    }
    Ok(SqlType::Struct(named))
}

/// Names that sqlparser does not know: PostgreSQL's internal ones and those that Rivermark refuses.
fn custom(name: &str, modifiers: &[String]) -> Result<SqlType> {
    let folded = fold(name).replace('"', "");
    let base = folded.strip_prefix("pg_catalog.").unwrap_or(&folded);
    let length = || {
        let [only] = modifiers else { return Ok(None) };
        only.parse::<u32>()
            .map(Some)
            .map_err(|_| unknown_type(&format!("{name}({only})")))
    };
    match base {
        "serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2" => {
            Err(PlanError::unsupported(
                format!("type {base}"),
                "there are no sequences; use bigint, or uuid with keys that the client makes",
            ))
        }
        "money" => Err(PlanError::unsupported("type money", "use numeric(18, 2)")),
        "xml" | "hstore" | "citext" | "inet" | "cidr" | "macaddr" | "oid" => {
            Err(PlanError::unsupported(format!("type {base}"), "use text"))
        }
        "bool" => Ok(SqlType::Boolean),
        "int2" => Ok(SqlType::SmallInt),
        "int4" => Ok(SqlType::Integer),
        "int8" => Ok(SqlType::BigInt),
        "float4" => Ok(SqlType::Real),
        "float8" => Ok(SqlType::Double),
        "numeric" if modifiers.is_empty() => Ok(SqlType::PLAIN_NUMERIC),
        "text" if modifiers.is_empty() => Ok(SqlType::Text { max_length: None }),
        "name" => Ok(SqlType::Text { max_length: None }),
        "varchar" | "bpchar" => Ok(SqlType::Text {
            max_length: length()?,
        }),
        "bytea" => Ok(SqlType::Bytea),
        "date" => Ok(SqlType::Date),
        "time" => Ok(SqlType::Time),
        "timestamp" => Ok(SqlType::Timestamp),
        "timestamptz" => Ok(SqlType::Timestamptz),
        "interval" => Ok(SqlType::Interval),
        "uuid" => Ok(SqlType::Uuid),
        "json" => Ok(SqlType::Json),
        "jsonb" => Ok(SqlType::Jsonb),
        _ => Err(unknown_type(name)),
    }
}

fn unknown_type(name: &str) -> PlanError {
    PlanError::Undefined {
        kind: UndefinedKind::Type,
        message: format!("type \"{}\" does not exist", fold(name)),
        position: None,
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::parser::Parser;

    use super::*;
    use crate::dialect::RivermarkDialect;

    fn named(text: &str) -> Result<SqlType> {
        let dialect = RivermarkDialect::default();
        let mut parser = Parser::new(&dialect).try_with_sql(text).expect("tokenizes");
        SqlType::from_ast(&parser.parse_data_type().expect("parses"))
    }

    #[test]
    fn postgres_spellings() {
        let cases = [
            ("int2", "smallint"),
            ("INT", "integer"),
            ("int4", "integer"),
            ("int8", "bigint"),
            ("bool", "boolean"),
            ("float", "double precision"),
            ("float(24)", "real"),
            ("float(25)", "double precision"),
            ("float4", "real"),
            ("double precision", "double precision"),
            ("numeric", "numeric"),
            ("decimal(12)", "numeric(12,0)"),
            ("numeric(76, 20)", "numeric(76,20)"),
            ("varchar", "text"),
            ("varchar(10)", "character varying(10)"),
            ("character varying(3)", "character varying(3)"),
            ("char", "character varying(1)"),
            ("char(7)", "character varying(7)"),
            ("string", "text"),
            ("timestamptz", "timestamp with time zone"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("timestamp(3)", "timestamp without time zone"),
            ("time", "time without time zone"),
            ("interval", "interval"),
            ("jsonb", "jsonb"),
            ("uuid", "uuid"),
            ("bytea", "bytea"),
            ("int[]", "integer[]"),
            ("int[][]", "integer[][]"),
            ("pg_catalog.int4", "integer"),
            ("bpchar(4)", "character varying(4)"),
            ("STRUCT<a INT, B VARCHAR[]>", "struct<a integer, b text[]>"),
            (
                "STRUCT<\"A b\" INT, s STRUCT<x DOUBLE PRECISION> >[]",
                "struct<\"A b\" integer, s struct<x double precision>>[]",
            ),
        ];
        for (written, canonical) in cases {
            let parsed = named(written).unwrap_or_else(|e| panic!("{written}: {e}"));
            assert_eq!(parsed.to_string(), canonical, "{written}");
        }
    }

    #[test]
    fn refused_types() {
        let cases = [
            ("serial", "type serial is not supported"),
            (
                "numeric(77)",
                "NUMERIC precision 77 must be between 1 and 76",
            ),
            (
                "numeric(5,6)",
                "NUMERIC scale 6 must be between 0 and precision 5",
            ),
            (
                "varchar(0)",
                "length for type varchar must be between 1 and 10485760",
            ),
            ("timetz", "type time with time zone is not supported"),
            ("nonsense", "type \"nonsense\" does not exist"),
            ("int unsigned", "type \"int unsigned\" does not exist"),
            (
                "STRUCT<a INT, a TEXT>",
                "STRUCT field \"a\" specified more than once",
            ),
            ("STRUCT<INT>", "a STRUCT field has no name"),
        ];
        for (written, message) in cases {
            let error = named(written).expect_err(written).to_string();
            assert!(error.starts_with(message), "{written}: {error}");
        }
    }
}
