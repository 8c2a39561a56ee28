//! Comparing a value's two forms with PostgreSQL 15's: what it printed (`v::text`) and sent (`*_send(v)` in hex).

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use bytes::BytesMut;
use datafusion::scalar::ScalarValue;
use rivermark_planner::types::PG_TYPE_KEY;

use crate::wire::encode::Column;
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::SessionTimeZone;
use crate::wire::{decode_binary, decode_text};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

pub fn tagged(data_type: DataType, tag: &str) -> Field {
    let field = Field::new("c", data_type, true);
    if tag.is_empty() {
        return field;
    }
    field.with_metadata(HashMap::from([(PG_TYPE_KEY.to_string(), tag.to_string())]))
}

/// Text and binary of the first row.
pub fn encode(field: &Field, array: &ArrayRef, zone: &SessionTimeZone) -> (String, String) {
    let column = Column::new(field, array).unwrap();
    let mut text = BytesMut::new();
    column.put_text(0, &mut text, zone).unwrap();
    let mut binary = BytesMut::new();
    column.put_field_binary(0, &mut binary, zone).unwrap();
    assert_eq!(binary[..4], (binary.len() as u32 - 4).to_be_bytes());
    (String::from_utf8(text.to_vec()).unwrap(), hex(&binary[4..]))
}

/// The value has this text and this binary; both are read back as a value that has them again.
pub fn check(scalar: ScalarValue, tag: &str, text: &str, binary: &str) {
    let array = scalar.to_array().unwrap();
    let field = tagged(array.data_type().clone(), tag);
    let zone = SessionTimeZone::UTC;
    assert_eq!(
        encode(&field, &array, &zone),
        (text.to_string(), binary.to_string())
    );

    let pg_type = PgType::of_field(&field);
    if pg_type.parameter_type().is_none() || pg_type == PgType::Char {
        return;
    }
    for decoded in [
        decode_text::parse(&pg_type, text, &zone).unwrap(),
        decode_binary::parse(&pg_type, &unhex(binary)).unwrap(),
    ] {
        let decoded = decoded
            .cast_to(field.data_type())
            .unwrap()
            .to_array()
            .unwrap();
        assert_eq!(encode(&field, &decoded, &zone).0, text);
    }
}

/// A list of `values`.
pub fn list(values: Vec<ScalarValue>, item: DataType) -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list(&values, &item, true))
}
