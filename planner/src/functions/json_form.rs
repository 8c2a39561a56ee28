//! Columns of any type as JSON texts: what `to_json` and its like make of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;

use super::text_form::text_column;
use crate::json;
use crate::pg_text::time_zone::SessionTimeZone;
use crate::types::SqlType;

/// The JSON text of each value in `json`'s form (no blanks); NULL stays NULL.
pub fn json_column(array: &ArrayRef, field: &Field) -> Result<StringArray> {
    let sql_type = SqlType::of_field(field);
    match &sql_type {
        SqlType::Array(_) => return json_arrays(array, field),
        SqlType::Struct(_) => return json_objects(array),
        _ => {}
    }
    let texts = text_column(array, field, &SessionTimeZone::UTC)?;
    let is_float = matches!(sql_type, SqlType::Real | SqlType::Double);
    let form = |text: &str| -> String {
        match &sql_type {
            SqlType::Boolean => if text == "t" { "true" } else { "false" }.to_string(),
            SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Numeric { .. } => {
                text.to_string()
            }
            _ if is_float && !text.contains(['N', 'I']) => text.to_string(),
            SqlType::Json | SqlType::Jsonb => text.to_string(),
            SqlType::Timestamp => json::quote(&text.replacen(' ', "T", 1)),
            SqlType::Timestamptz => json::quote(&zoned(text)),
            _ => json::quote(text),
        }
    };
    Ok(texts.iter().map(|text| text.map(form)).collect())
}

/// ISO 8601 wants minutes in the offset.
fn zoned(text: &str) -> String {
    let text = text.replacen(' ', "T", 1);
    match text.rfind(['+', '-']) {
        Some(at) if text.len() - at == 3 => format!("{text}:00"),
        _ => text,
    }
}

fn json_arrays(array: &ArrayRef, field: &Field) -> Result<StringArray> {
    let DataType::List(item) = field.data_type() else {
        return Ok(StringArray::new_null(array.len()));
    };
    let lists = array.as_list::<i32>();
    (0..lists.len())
        .map(|row| {
            if lists.is_null(row) {
                return Ok(None);
            }
            let elements = json_column(&lists.value(row), item)?;
            let shown: Vec<&str> = elements.iter().map(|e| e.unwrap_or("null")).collect();
            Ok(Some(format!("[{}]", shown.join(","))))
        })
        .collect()
}

fn json_objects(array: &ArrayRef) -> Result<StringArray> {
    let record = array.as_struct();
    let columns = record
        .fields()
        .iter()
        .zip(record.columns())
        .map(|(field, column)| Ok((field_name(field), json_column(column, field)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok((0..record.len())
        .map(|row| {
            (!record.is_null(row)).then(|| {
                let members: Vec<String> = columns
                    .iter()
                    .map(|(name, values)| {
                        let value = if values.is_null(row) {
                            "null"
                        } else {
                            values.value(row)
                        };
                        format!("{}:{value}", json::quote(name))
                    })
                    .collect();
                format!("{{{}}}", members.join(","))
            })
        })
        .collect())
}

/// Columns of an anonymous row are `f1`, `f2`, … to PostgreSQL and `c0`, `c1`, … to DataFusion.
fn field_name(field: &Arc<Field>) -> String {
    match field.name().strip_prefix('c').map(str::parse::<usize>) {
        Some(Ok(index)) => format!("f{}", index + 1),
        _ => field.name().clone(),
    }
}
