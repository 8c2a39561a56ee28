//! What becomes of payloads, as tables: payload, and per column the value as Arrow prints it.

use arrow::array::{Array, ArrayRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_planner::types::SqlType;
use serde_json::{Map, Value, json};

use super::*;

fn text() -> SqlType {
    SqlType::Text { max_length: None }
}

fn decoder(columns: &[(&str, SqlType)], unit: Option<EpochUnit>) -> JsonDecoder {
    let field = |(name, data_type): &(&str, SqlType)| JsonField {
        name: name.trim_end_matches('!').to_string(),
        data_type: data_type.clone(),
        not_null: name.ends_with('!'),
        is_requested: true,
    };
    JsonDecoder::new(columns.iter().map(field).collect(), unit)
}

fn print(array: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default().with_null("NULL");
    ArrayFormatter::try_new(array, &options)
        .expect("printable")
        .value(row)
        .to_string()
}

/// One row: its values, then its errors; or why it is malformed.
fn decode_one(decoder: &mut JsonDecoder, payload: &[u8]) -> String {
    if let Err(error) = decoder.decode(payload) {
        return format!("malformed: {error}");
    }
    let errors: Vec<_> = decoder
        .errors()
        .iter()
        .map(|(i, e)| format!(" !{i} {e}"))
        .collect();
    let columns = decoder.finish();
    assert!(columns.iter().all(|c| c.len() == 1));
    let values: Vec<_> = columns.iter().map(|c| print(c, 0)).collect();
    values.join("|") + &errors.concat()
}

fn check(columns: &[(&str, SqlType)], cases: &[(&str, &str)]) {
    let mut decoder = decoder(columns, None);
    for (payload, expected) in cases {
        assert_eq!(
            decode_one(&mut decoder, payload.as_bytes()),
            *expected,
            "{payload}"
        );
    }
}

#[test]
fn objects() {
    check(
        &[("a", SqlType::Integer), ("b", text())],
        &[
            (r#"{"a":1,"b":"x"}"#, "1|x"),
            (r#"{"b":"x","a":1}"#, "1|x"),
            (r#" { "z" : [1,{"a":2}] , "a" : 3 } "#, "3|NULL"),
            ("{}", "NULL|NULL"),
            (r#"{"a":null,"b":null}"#, "NULL|NULL"),
            (r#"{"a":1,"a":2,"b":"x","b":"y"}"#, "2|y"),
            (r#"{"a":"x","a":2}"#, "2|NULL"),
            (
                r#"{"a":2,"a":"x"}"#,
                "NULL|NULL !0 invalid input syntax for type integer: \"x\"",
            ),
            (r#"{"a":2,"a":null}"#, "NULL|NULL"),
            (r#"{"\u0061":7}"#, "7|NULL"),
            (r#"{"a": 7, "b": "x"}"#, "7|x"),
            (r#"{"a": 8, "b": "y"}"#, "8|y"),
            (r#"{"a":  8 , "b": "y"}"#, "8|y"),
            (r#"{"a": 9}"#, "9|NULL"),
            (r#"{"a": 9, "b": "x", "a": 10}"#, "10|x"),
        ],
    );
}

#[test]
fn malformed_messages() {
    let columns = [("a", SqlType::Integer), ("n!", text())];
    let mut decoder = decoder(&columns, None);
    for payload in [
        "",
        "{",
        r#"{"a":1"#,
        r#"{"a":1,"n":"x"}}"#,
        r#"{"a":1,"n":"x"} x"#,
        "[1]",
        "1",
        "null",
        r#""x""#,
        r#"{"a":01,"n":"x"}"#,
        r#"{"a":1,}"#,
        r#"{a:1}"#,
        r#"{"a":tru}"#,
        r#"{"a":NaN}"#,
        r#"{"n":"\q"}"#,
        r#"{"n":"\ud800"}"#,
        "{\"n\":\"a\nb\"}",
        r#"{"a":1}"#,
        r#"{"a":1,"n":null}"#,
        r#"{"other":{"x":},"n":"x"}"#,
    ] {
        assert!(decoder.decode(payload.as_bytes()).is_err(), "{payload}");
    }
    assert!(
        decoder
            .decode(b"{\"n\":\"\xff\"}")
            .is_err_and(|e| e.contains("invalid UTF-8 at byte 6"))
    );
    let deep = format!(
        "{{\"z\":{}{},\"n\":\"x\"}}",
        "[".repeat(1000),
        "]".repeat(1000)
    );
    assert!(decoder.decode(deep.as_bytes()).is_err());
    // Nothing of them is left behind.
    assert_eq!(decode_one(&mut decoder, br#"{"n":"x","a":5}"#), "5|x");
    let null = decode_one(&mut decoder, br#"{"a":5}"#);
    assert_eq!(
        null,
        "malformed: null value in column \"n\" violates not-null constraint"
    );
    let place = decode_one(&mut decoder, br#"{"n":"x","a":x}"#);
    assert_eq!(
        place,
        "malformed: malformed JSON: expected value at byte 13"
    );
    let array = decode_one(&mut decoder, b"[]");
    assert_eq!(
        array,
        "malformed: a message must be a JSON object, not an array"
    );
}

#[test]
fn a_not_null_column_is_checked_even_if_nobody_asks_for_it() {
    let field = |name: &str, not_null: bool, is_requested: bool| JsonField {
        name: name.to_string(),
        data_type: SqlType::Integer,
        not_null,
        is_requested,
    };
    let mut decoder =
        JsonDecoder::new(vec![field("a", true, false), field("b", false, true)], None);
    assert!(decoder.decode(br#"{"b":1}"#).is_err());
    assert!(decoder.decode(br#"{"a":null,"b":1}"#).is_err());
    assert_eq!(
        decode_one(&mut decoder, br#"{"a":"no integer","b":1}"#),
        "1"
    );
}

fn bad_input(type_name: &str, value: &str) -> String {
    format!("NULL !0 invalid input syntax for type {type_name}: \"{value}\"")
}

fn check_value(data_type: SqlType, value: &str, expected: &str) {
    let mut decoder = decoder(&[("v", data_type.clone())], None);
    let payload = format!("{{\"v\":{value}}}");
    let decoded = decode_one(&mut decoder, payload.as_bytes());
    assert_eq!(decoded, expected, "{data_type}: {value}");
}

#[test]
fn numbers_and_booleans() {
    check_value(SqlType::Boolean, "true", "true");
    check_value(SqlType::Boolean, r#""off""#, "false");
    check_value(SqlType::Boolean, "1", "true");
    check_value(SqlType::Boolean, "2", &bad_input("boolean", "2"));
    check_value(
        SqlType::SmallInt,
        "32768",
        "NULL !0 value \"32768\" is out of range for type smallint",
    );
    check_value(SqlType::Integer, "-5", "-5");
    check_value(SqlType::Integer, r#"" 42 ""#, "42");
    check_value(SqlType::Integer, "1.0", "1");
    check_value(SqlType::Integer, "1.5", &bad_input("integer", "1.5"));
    check_value(SqlType::Integer, r#""1.5""#, &bad_input("integer", "1.5"));
    check_value(SqlType::Integer, "true", &bad_input("integer", "true"));
    check_value(SqlType::Integer, "[1, 2]", &bad_input("integer", "[1, 2]"));
    check_value(
        SqlType::BigInt,
        "9223372036854775807",
        "9223372036854775807",
    );
    check_value(
        SqlType::BigInt,
        "9223372036854775808",
        "NULL !0 value \"9223372036854775808\" is out of range for type bigint",
    );
    check_value(SqlType::Double, "1.5", "1.5");
    check_value(SqlType::Double, "-3", "-3.0");
    check_value(SqlType::Double, r#""NaN""#, "NaN");
    check_value(SqlType::Double, r#""-Infinity""#, "-inf");
    check_value(
        SqlType::Double,
        "1e400",
        "NULL !0 value \"1e400\" is out of range for type double precision",
    );
    check_value(
        SqlType::Double,
        "1e-400",
        "NULL !0 value \"1e-400\" is out of range for type double precision",
    );
    check_value(SqlType::Double, "0.0e-400", "0.0");
    check_value(SqlType::Real, "0.1", "0.1");
    check_value(
        SqlType::Numeric {
            precision: 10,
            scale: 3,
        },
        "0.1005",
        "0.101",
    );
    check_value(
        SqlType::Numeric {
            precision: 60,
            scale: 2,
        },
        "12345678901234567890123456789012345678901.5",
        "12345678901234567890123456789012345678901.50",
    );
}

#[test]
fn texts() {
    check_value(text(), r#""a\"b\u00e4\n""#, "a\"bä\n");
    check_value(text(), "1.50", "1.50");
    check_value(text(), "false", "false");
    check_value(text(), r#"{"a": [1]}"#, r#"{"a": [1]}"#);
    check_value(
        text(),
        r#""a\u0000b""#,
        "NULL !0 invalid byte sequence for encoding \"UTF8\": 0x00",
    );
    let short = SqlType::Text {
        max_length: Some(3),
    };
    check_value(short.clone(), r#""äöü""#, "äöü");
    check_value(
        short,
        r#""abcd""#,
        "NULL !0 value too long for type character varying(3)",
    );
    check_value(SqlType::Bytea, r#""\\x0aFF""#, "0aff");
    check_value(SqlType::Bytea, r#""abc""#, &bad_input("bytea", "abc"));
}

#[test]
fn times_and_the_rest() {
    check_value(SqlType::Date, r#""2024-02-29""#, "2024-02-29");
    check_value(SqlType::Time, r#""01:02:03""#, "01:02:03");
    check_value(
        SqlType::Timestamp,
        r#""2024-02-29 01:02:03+05""#,
        "2024-02-29T01:02:03",
    );
    check_value(
        SqlType::Timestamptz,
        r#""2024-02-29T01:02:03+05""#,
        "2024-02-28T20:02:03Z",
    );
    check_value(
        SqlType::Timestamptz,
        r#""yesterday""#,
        &bad_input("timestamp with time zone", "yesterday"),
    );
    check_value(
        SqlType::Uuid,
        r#""A0EEBC999C0B4EF8BB6D6BB9BD380A11""#,
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    );
    check_value(
        SqlType::Json,
        r#"{"b": 1,  "a": 1.0}"#,
        r#"{"b": 1,  "a": 1.0}"#,
    );
    check_value(
        SqlType::Jsonb,
        r#"{"b":1,"a":[1.0,"x"]}"#,
        r#"{"a": [1.0, "x"], "b": 1}"#,
    );
    check_value(SqlType::Jsonb, r#""x""#, "\"x\"");
}

#[test]
fn nested_values() {
    let person = SqlType::Struct(vec![
        ("name".to_string(), text()),
        ("tags".to_string(), SqlType::Array(Box::new(text()))),
    ]);
    let columns = [
        ("p", person),
        ("v", SqlType::Array(Box::new(SqlType::Integer))),
    ];
    check(
        &columns,
        &[
            (
                r#"{"p":{"tags":["x",null],"name":"A","z":1},"v":[1,null,3]}"#,
                "{name: A, tags: [x, NULL]}|[1, NULL, 3]",
            ),
            (r#"{"p":{},"v":[]}"#, "{name: NULL, tags: NULL}|[]"),
            (r#"{"p":null,"v":null}"#, "NULL|NULL"),
            (
                r#"{"v":[1,"x",3]}"#,
                "NULL|NULL !1 invalid input syntax for type integer: \"x\"",
            ),
            (
                r#"{"p":{"name":"A","name":"B"},"v":[7]}"#,
                "{name: B, tags: NULL}|[7]",
            ),
            (
                r#"{"p":[1],"v":[7]}"#,
                "NULL|[7] !0 invalid input syntax for type struct: \"[1]\"",
            ),
            (
                r#"{"p":{"tags":["x",1],"name":"A"},"p":{"name":"C"}}"#,
                "{name: C, tags: NULL}|NULL",
            ),
        ],
    );
}

#[test]
fn numbers_are_timestamps_if_the_source_says_of_what_unit() {
    let columns = [("t", SqlType::Timestamptz)];
    let payload = br#"{"t":1700000000123}"#;
    assert_eq!(
        decode_one(&mut decoder(&columns, Some(EpochUnit::Millis)), payload),
        "2023-11-14T22:13:20.123Z"
    );
    assert!(decode_one(&mut decoder(&columns, None), payload).contains("timestamp.unit"));
}

/// A random value that fits the column, and what the column then holds.
fn random_value(rng: &mut StdRng, data_type: &SqlType) -> (Value, String) {
    match data_type {
        _ if rng.random_bool(0.1) => (Value::Null, "NULL".to_string()),
        SqlType::BigInt => {
            let n: i64 = rng.random();
            (json!(n), n.to_string())
        }
        SqlType::Boolean => {
            let b: bool = rng.random();
            (json!(b), b.to_string())
        }
        SqlType::Array(element) => {
            let (values, texts): (Vec<_>, Vec<_>) = (0..rng.random_range(0..4))
                .map(|_| random_value(rng, element))
                .unzip();
            (Value::Array(values), format!("[{}]", texts.join(", ")))
        }
        SqlType::Struct(fields) => {
            let mut object = Map::new();
            let mut texts = Vec::new();
            for (name, data_type) in fields {
                let (value, text) = random_value(rng, data_type);
                if !value.is_null() || rng.random() {
                    object.insert(name.clone(), value);
                }
                texts.push(format!("{name}: {text}"));
            }
            (Value::Object(object), format!("{{{}}}", texts.join(", ")))
        }
        _ => {
            let alphabet = ['a', '"', '\\', '\n', '\u{1}', 'ä', '𝄞', '/', ' '];
            let s: String = (0..rng.random_range(0..12))
                .map(|_| alphabet[rng.random_range(0..alphabet.len())])
                .collect();
            (json!(s.clone()), s)
        }
    }
}

#[test]
fn random_objects_in_any_key_order_among_malformed_ones() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let inner = vec![
        ("x".to_string(), SqlType::BigInt),
        ("y".to_string(), SqlType::Array(Box::new(text()))),
    ];
    let columns = [
        ("i", SqlType::BigInt),
        ("b", SqlType::Boolean),
        ("t", text()),
        (
            "l",
            SqlType::Array(Box::new(SqlType::Struct(inner.clone()))),
        ),
        ("s", SqlType::Struct(inner)),
    ];
    let mut decoder = decoder(&columns, None);
    let mut expected = Vec::new();
    for _ in 0..500 {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut row = Vec::new();
        for (name, data_type) in &columns {
            let (value, text) = random_value(&mut rng, data_type);
            members.push((name.to_string(), value));
            row.push(text);
        }
        members.push(("ignored".to_string(), json!({"i": [1, {"t": null}]})));
        for i in (1..members.len()).rev() {
            members.swap(i, rng.random_range(0..=i));
        }
        let body: Vec<_> = members
            .iter()
            .map(|(k, v)| format!("{}:{v}", json!(k)))
            .collect();
        let payload = format!("{{{}}}", body.join(","));
        if rng.random_bool(0.3) {
            let mut end = rng.random_range(1..payload.len());
            while !payload.is_char_boundary(end) {
                end -= 1;
            }
            assert!(decoder.decode(&payload.as_bytes()[..end]).is_err());
        }
        assert_eq!(decoder.decode(payload.as_bytes()), Ok(()), "{payload}");
        assert!(decoder.errors().is_empty());
        expected.push(row);
    }
    let arrays = decoder.finish();
    for (row, expected) in expected.iter().enumerate() {
        let got: Vec<_> = arrays.iter().map(|a| print(a, row)).collect();
        assert_eq!(got, *expected, "row {row}");
    }
}
