//! Canonical `CREATE ...` text of catalog objects, for SHOW CREATE: reads back as the same definition, but for
//! secrets, which are masked.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::catalog::{
    ColumnDef, DEFAULT_SCHEMA, Encode, Format, Include, MaterializedViewDef, Object, ObjectKind,
    OutputColumn, QualifiedName, SourceDef, TableDef, ViewDef, WatermarkDef,
};
use crate::identifier::{quote_ident, quote_literal};
use crate::types::SqlType;

/// What stands in place of a secret option's value.
pub const MASK: &str = "***";

/// Parts of option keys whose values nobody may see again.
const SECRET_PARTS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "sasl.jaas",
    "token",
    "credential",
    "key.pem",
    "user.info",
];

/// The statement that makes `object`.
pub fn create_statement(object: &Object) -> String {
    let name = quoted_name(&object.name);
    match &object.kind {
        ObjectKind::Source(source) => create_source(&name, source),
        ObjectKind::Table(table) => create_table(&name, table),
        ObjectKind::View(view) => create_view(&name, view),
        ObjectKind::MaterializedView(view) => create_materialized_view(&name, view),
        // Its columns' names are the relation's.
        ObjectKind::Index(_) => object.sql.clone(),
    }
}

/// Whether an option's value is a secret, by its key.
pub fn is_secret_option(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// The name with quotes where it needs them, without the default schema.
pub fn quoted_name(name: &QualifiedName) -> String {
    if name.schema == DEFAULT_SCHEMA {
        quote_ident(&name.name).into_owned()
    } else {
        format!("{}.{}", quote_ident(&name.schema), quote_ident(&name.name))
    }
}

fn create_source(name: &str, source: &SourceDef) -> String {
    let declared = source.columns.iter().filter(|c| c.include.is_none());
    let mut items: Vec<String> = declared.map(column).collect();
    items.extend(source.watermark.as_ref().map(watermark));
    let mut sql = format!("CREATE SOURCE {name}");
    push_items(&mut sql, &items);
    for column in &source.columns {
        if let Some(include) = &column.include {
            let _ = write!(
                sql,
                "\nINCLUDE {} AS {}",
                include_words(include, &column.data_type),
                quote_ident(&column.name)
            );
        }
    }
    push_options_and_secrets(&mut sql, "\nWITH ", &source.options, &source.secrets);
    if source.encode != Encode::Native
        || source.format != Format::Plain
        || !source.encode_options.is_empty()
    {
        let _ = write!(
            sql,
            "\nFORMAT {} ENCODE {}",
            format_word(source.format),
            encode_word(source.encode)
        );
        push_options(&mut sql, " ", &source.encode_options);
    }
    sql
}

fn create_table(name: &str, table: &TableDef) -> String {
    let mut items: Vec<String> = table.columns.iter().map(column).collect();
    if !table.primary_key.is_empty() {
        let key: Vec<_> = table
            .primary_key
            .iter()
            .map(|i| quote_ident(&table.columns[*i].name))
            .collect();
        items.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    for (check, expression) in &table.checks {
        items.push(format!(
            "CONSTRAINT {} CHECK ({expression})",
            quote_ident(check)
        ));
    }
    items.extend(table.watermark.as_ref().map(watermark));
    let mut sql = format!("CREATE TABLE {name}");
    push_items(&mut sql, &items);
    push_options(&mut sql, "\nWITH ", &table.options);
    sql
}

fn create_view(name: &str, view: &ViewDef) -> String {
    format!(
        "CREATE VIEW {name}{} AS\n{}",
        output_names(&view.columns),
        view.query
    )
}

fn create_materialized_view(name: &str, view: &MaterializedViewDef) -> String {
    let mut sql = format!(
        "CREATE MATERIALIZED VIEW {name}{}",
        output_names(&view.columns)
    );
    push_options(&mut sql, "\nWITH ", &view.options);
    let _ = write!(sql, " AS\n{}", view.query);
    if view.emit_on_window_close {
        sql.push_str("\nEMIT ON WINDOW CLOSE");
    }
    sql
}

fn output_names(columns: &[OutputColumn]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let names: Vec<_> = columns.iter().map(|c| quote_ident(&c.name)).collect();
    format!(" ({})", names.join(", "))
}

fn column(column: &ColumnDef) -> String {
    let mut sql = format!("{} {}", quote_ident(&column.name), column.data_type);
    if let Some(expression) = &column.generated {
        let _ = write!(sql, " GENERATED ALWAYS AS ({expression}) STORED");
    }
    if let Some(expression) = &column.default {
        let _ = write!(sql, " DEFAULT {expression}");
    }
    if column.not_null {
        sql.push_str(" NOT NULL");
    }
    sql
}

fn watermark(watermark: &WatermarkDef) -> String {
    let name = quote_ident(&watermark.column);
    match watermark.delay_us {
        0 => format!("WATERMARK FOR {name} AS {name}"),
        us if us % 1_000_000 == 0 => {
            format!(
                "WATERMARK FOR {name} AS {name} - INTERVAL '{} seconds'",
                us / 1_000_000
            )
        }
        us => format!("WATERMARK FOR {name} AS {name} - INTERVAL '{us} microseconds'"),
    }
}

fn include_words(include: &Include, data_type: &SqlType) -> String {
    match include {
        Include::Key if *data_type == SqlType::Bytea => "key BYTEA".to_string(),
        Include::Key => "key".to_string(),
        Include::Partition => "partition".to_string(),
        Include::Offset => "offset".to_string(),
        Include::Timestamp => "timestamp".to_string(),
        Include::Headers => "header".to_string(),
        Include::Header(key) => format!("header {}", quote_literal(key)),
        Include::Payload => "payload".to_string(),
    }
}

fn format_word(format: Format) -> &'static str {
    match format {
        Format::Plain => "PLAIN",
        Format::Upsert => "UPSERT",
        Format::Debezium => "DEBEZIUM",
    }
}

fn encode_word(encode: Encode) -> &'static str {
    match encode {
        Encode::Json => "JSON",
        Encode::Avro => "AVRO",
        Encode::Protobuf => "PROTOBUF",
        Encode::Csv => "CSV",
        Encode::Bytes => "BYTES",
        Encode::Native => "NATIVE",
    }
}

fn push_items(sql: &mut String, items: &[String]) {
    if !items.is_empty() {
        let _ = write!(sql, " (\n  {}\n)", items.join(",\n  "));
    }
}

fn push_options(sql: &mut String, before: &str, options: &BTreeMap<String, String>) {
    push_options_and_secrets(sql, before, options, &BTreeMap::new());
}

fn push_options_and_secrets(
    sql: &mut String,
    before: &str,
    options: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, String>,
) {
    if options.is_empty() && secrets.is_empty() {
        return;
    }
    let options = options.iter().map(|(key, value)| {
        let value = if is_secret_option(key) { MASK } else { value };
        format!("{} = {}", option_key(key), quote_literal(value))
    });
    let secrets = secrets
        .iter()
        .map(|(key, secret)| format!("{} = SECRET {}", option_key(key), quote_ident(secret)));
    let shown: Vec<String> = options.chain(secrets).collect();
    let _ = write!(sql, "{before}({})", shown.join(", "));
}

/// Dotted words as they are, anything else as a quoted text.
fn option_key(key: &str) -> String {
    let is_plain = key.split('.').all(|word| {
        word.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    });
    if is_plain {
        key.to_string()
    } else {
        quote_literal(key)
    }
}
