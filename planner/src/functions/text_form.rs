//! Columns of any type as texts: what PostgreSQL's output functions write.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::Result;

use crate::pg_text::output::{
    DecimalDigits, put_bytea, put_date, put_decimal, put_f32, put_f64, put_interval, put_time,
    put_timestamp, put_timestamptz, text_of,
};
use crate::pg_text::time_zone::SessionTimeZone;

/// The text of each value; a boolean is `t` or `f`.
pub fn text_column(array: &ArrayRef, field: &Field, zone: &SessionTimeZone) -> Result<StringArray> {
    let array = plain(array)?;
    (0..array.len())
        .map(|row| {
            (!array.is_null(row))
                .then(|| text_of_row(&array, field, row, zone))
                .transpose()
        })
        .collect()
}

/// The array in one of the types that [`text_of_row`] reads.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = match array.data_type() {
        t if t.is_integer() => DataType::Int64,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(item.clone())
        }
        other => other.clone(),
    };
    if *array.data_type() == wanted {
        return Ok(array.clone());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(array, &wanted, &options)?)
}

fn text_of_row(
    array: &ArrayRef,
    field: &Field,
    row: usize,
    zone: &SessionTimeZone,
) -> Result<String> {
    Ok(match array.data_type() {
        DataType::Boolean => if array.as_boolean().value(row) {
            "t"
        } else {
            "f"
        }
        .to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            text_of(|out| put_f32(out, value))
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            text_of(|out| put_f64(out, value))
        }
        DataType::Decimal128(_, scale) => {
            let digits = DecimalDigits::of_i128(array.as_primitive::<Decimal128Type>().value(row));
            text_of(|out| put_decimal(out, &digits, *scale))
        }
        DataType::Decimal256(_, scale) => {
            let digits = DecimalDigits::of_i256(array.as_primitive::<Decimal256Type>().value(row));
            text_of(|out| put_decimal(out, &digits, *scale))
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
        DataType::Binary => text_of(|out| put_bytea(out, array.as_binary::<i32>().value(row))),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            text_of(|out| put_date(out, days))
        }
        DataType::Time64(_) => {
            let us = array.as_primitive::<Time64MicrosecondType>().value(row);
            text_of(|out| put_time(out, us))
        }
        DataType::Timestamp(_, has_zone) => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match has_zone {
                None => text_of(|out| put_timestamp(out, us)),
                Some(_) => text_of(|out| put_timestamptz(out, us, zone.offset_at(us))),
            }
        }
        DataType::Interval(_) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            text_of(|out| put_interval(out, value))
        }
        DataType::List(item) => array_text(&array.as_list::<i32>().value(row), item, zone)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut members = Vec::with_capacity(columns.len());
            for (column, member) in columns.iter().zip(fields) {
                let text = text_column(&column.slice(row, 1), member, zone)?;
                members.push((!text.is_null(0)).then(|| text.value(0).to_string()));
            }
            record_text(&members)
        }
        other => {
            let _ = (field, other);
            let mut text = String::new();
            let shown = arrow::util::display::array_value_to_string(array, row)?;
            let _ = write!(text, "{shown}");
            text
        }
    })
}

fn array_text(elements: &ArrayRef, item: &Field, zone: &SessionTimeZone) -> Result<String> {
    let texts = text_column(elements, item, zone)?;
    let is_nested = matches!(item.data_type(), DataType::List(_));
    let shown: Vec<String> = texts
        .iter()
        .map(|text| match text {
            None => "NULL".to_string(),
            Some(text) if is_nested || !array_element_needs_quotes(text) => text.to_string(),
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        })
        .collect();
    Ok(format!("{{{}}}", shown.join(",")))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn array_element_needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text.eq_ignore_ascii_case("NULL")
        || text.contains(|c: char| matches!(c, '{' | '}' | '"' | '\\' | ',') || is_blank(c))
}

fn record_text(members: &[Option<String>]) -> String {
    let shown: Vec<String> = members
        .iter()
        .map(|member| match member {
            None => String::new(),
            Some(text) => {
                let needs_quotes = text.is_empty()
                    || text.contains(|c: char| {
                        matches!(c, '(' | ')' | '"' | '\\' | ',') || is_blank(c)
                    });
                if needs_quotes {
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
                } else {
                    text.clone()
                }
            }
        })
        .collect();
    format!("({})", shown.join(","))
}
