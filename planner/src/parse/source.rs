//! CREATE SOURCE.

use std::collections::BTreeMap;

use sqlparser::tokenizer::Token;

use super::columns::{Owner, column_list, duplicate_column};
use super::input::Input;
use super::options::{options, with_options_and_secrets};
use super::watermark::check_watermark;
use crate::catalog::{ColumnDef, Encode, Format, Include, Positions, SourceDef};
use crate::error::{PlanError, Result};
use crate::statement::Statement;
use crate::types::SqlType;
use crate::watermark::NAMES;

/// What stands behind CREATE SOURCE.
pub(super) fn create_source(input: &mut Input) -> Result<Statement> {
    let if_not_exists = input.if_not_exists();
    let name = input.object_name("a source name")?;
    let list = if input.is_at_token(&Token::LParen) {
        column_list(input, Owner::Source)?
    } else {
        Default::default()
    };
    let mut columns = list.columns;
    while input.accept(&["INCLUDE"]) {
        let column = include(input)?;
        if columns.iter().any(|c| c.name == column.name) {
            return Err(duplicate_column(&column.name));
        }
        columns.push(column);
    }
    let (source_options, secrets) = with_options_and_secrets(input)?;
    if let Some(option) = NAMES.iter().find(|name| secrets.contains_key(**name)) {
        return Err(PlanError::invalid_option(format!(
            "option \"{option}\" takes no SECRET: everybody who reads the source sees what it does; write the value in quotes"
        )));
    }
    let (format, encode, encode_options) = format_encode(input)?;
    if format != Format::Plain {
        return Err(PlanError::unsupported(
            "FORMAT UPSERT or DEBEZIUM on a source",
            "a source is append-only; such topics need the rows that they change, which CREATE TABLE ... WITH \
             (connector = ...) FORMAT UPSERT | DEBEZIUM will keep",
        ));
    }
    let has_own_columns = columns
        .iter()
        .any(|c| c.include.is_none() && c.generated.is_none());
    if !has_own_columns && !matches!(encode, Encode::Avro | Encode::Protobuf) {
        return Err(PlanError::InvalidDefinition {
            message: "the source has no columns".to_string(),
            hint: Some("only AVRO and PROTOBUF have a schema to take columns from; declare them: (name type, ...)".into()),
        });
    }
    if let Some(watermark) = &list.watermark {
        check_watermark(watermark, &columns)?;
    }
    let def = SourceDef {
        columns,
        watermark: list.watermark,
        options: source_options,
        secrets,
        format,
        encode,
        encode_options,
        start: Positions::new(),
    };
    Ok(Statement::CreateSource {
        name,
        if_not_exists,
        def,
    })
}

/// What stands behind INCLUDE: `what [type] [AS name]`.
fn include(input: &mut Input) -> Result<ColumnDef> {
    let (include, data_type, default_name) = if input.accept(&["KEY"]) {
        let is_bytes = input.accept(&["BYTEA"]);
        if !is_bytes && !input.accept(&["VARCHAR"]) {
            input.accept(&["TEXT"]);
        }
        let data_type = if is_bytes {
            SqlType::Bytea
        } else {
            SqlType::Text { max_length: None }
        };
        (Include::Key, data_type, "_key".to_string())
    } else if input.accept(&["PARTITION"]) {
        (
            Include::Partition,
            SqlType::Integer,
            "_partition".to_string(),
        )
    } else if input.accept(&["OFFSET"]) {
        (Include::Offset, SqlType::BigInt, "_offset".to_string())
    } else if input.accept(&["TIMESTAMP"]) {
        (
            Include::Timestamp,
            SqlType::Timestamptz,
            "_timestamp".to_string(),
        )
    } else if input.accept(&["PAYLOAD"]) {
        (
            Include::Payload,
            SqlType::Text { max_length: None },
            "_payload".to_string(),
        )
    } else if input.accept(&["HEADERS"]) {
        (Include::Headers, headers_type(), "_headers".to_string())
    } else if input.accept(&["HEADER"]) {
        if input.is_at(&["AS"]) || !matches!(input.token(0), Token::SingleQuotedString(_)) {
            (Include::Headers, headers_type(), "_headers".to_string())
        } else {
            let key = input.string("a header's name")?;
            let default_name = format!("_header_{key}");
            (Include::Header(key), SqlType::Bytea, default_name)
        }
    } else {
        return Err(input.expected("KEY, PARTITION, OFFSET, TIMESTAMP, HEADER or PAYLOAD"));
    };
    let name = if input.accept(&["AS"]) {
        input.name("a column name")?
    } else {
        default_name
    };
    Ok(ColumnDef {
        name,
        data_type,
        not_null: false,
        default: None,
        generated: None,
        include: Some(include),
        comment: None,
    })
}

fn headers_type() -> SqlType {
    SqlType::Array(Box::new(SqlType::Struct(vec![
        ("key".to_string(), SqlType::Text { max_length: None }),
        ("value".to_string(), SqlType::Bytea),
    ])))
}

/// `FORMAT x ENCODE y [(...)]`; without it the connector makes rows itself.
fn format_encode(input: &mut Input) -> Result<(Format, Encode, BTreeMap<String, String>)> {
    if !input.accept(&["FORMAT"]) {
        return Ok((Format::Plain, Encode::Native, BTreeMap::new()));
    }
    let format = match input.word("PLAIN, UPSERT or DEBEZIUM")?.as_str() {
        "plain" | "append_only" => Format::Plain,
        "upsert" => Format::Upsert,
        "debezium" => Format::Debezium,
        other => return Err(unknown("FORMAT", other, "PLAIN, UPSERT, DEBEZIUM")),
    };
    input.expect(&["ENCODE"])?;
    let encode = match input.word("JSON, AVRO, PROTOBUF, CSV or BYTES")?.as_str() {
        "json" => Encode::Json,
        "avro" => Encode::Avro,
        "protobuf" => Encode::Protobuf,
        "csv" => Encode::Csv,
        "bytes" => Encode::Bytes,
        "native" => Encode::Native,
        other => return Err(unknown("ENCODE", other, "JSON, AVRO, PROTOBUF, CSV, BYTES")),
    };
    let is_open = input.is_at_token(&Token::LParen);
    let encode_options = if is_open {
        options(input)?
    } else {
        BTreeMap::new()
    };
    Ok((format, encode, encode_options))
}

fn unknown(clause: &str, word: &str, allowed: &str) -> PlanError {
    PlanError::invalid_option(format!(
        "unknown {clause} {}: allowed are {allowed}",
        word.to_uppercase()
    ))
}
