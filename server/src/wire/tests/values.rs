//! Values against what PostgreSQL 15 printed (`v::text`) and sent (`*_send(v)` in hex) for the same literals.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int16Array, Int32Array,
    Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray, StructArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, IntervalMonthDayNano, i256};
use bytes::BytesMut;
use datafusion::scalar::ScalarValue;
use rivermark_planner::types::PG_TYPE_KEY;

use crate::sqlstate::SqlState;
use crate::wire::encode::Column;
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::SessionTimeZone;
use crate::wire::{decode_binary, decode_text};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn tagged(data_type: DataType, tag: &str) -> Field {
    let field = Field::new("c", data_type, true);
    if tag.is_empty() {
        return field;
    }
    field.with_metadata(HashMap::from([(PG_TYPE_KEY.to_string(), tag.to_string())]))
}

/// Text and binary of the first row.
fn encode(field: &Field, array: &ArrayRef, zone: &SessionTimeZone) -> (String, String) {
    let column = Column::new(field, array).unwrap();
    let mut text = BytesMut::new();
    column.put_text(0, &mut text, zone).unwrap();
    let mut binary = BytesMut::new();
    column.put_field_binary(0, &mut binary, zone).unwrap();
    assert_eq!(binary[..4], (binary.len() as u32 - 4).to_be_bytes());
    (String::from_utf8(text.to_vec()).unwrap(), hex(&binary[4..]))
}

/// The value has this text and this binary; both are read back as a value that has them again.
fn check(scalar: ScalarValue, tag: &str, text: &str, binary: &str) {
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

#[test]
fn numbers() {
    for (value, text, binary) in [
        (1e20, "1e+20", "4415af1d78b58c40"),
        (1e15, "1e+15", "430c6bf526340000"),
        (999999999999999.0, "999999999999999", "430c6bf52633fff8"),
        (
            123456789012345678.0,
            "1.2345678901234568e+17",
            "437b69b4ba630f35",
        ),
        (0.0001, "0.0001", "3f1a36e2eb1c432d"),
        (0.00001, "1e-05", "3ee4f8b588e368f1"),
        (-0.0, "-0", "8000000000000000"),
        (0.0, "0", "0000000000000000"),
        (f64::INFINITY, "Infinity", "7ff0000000000000"),
        (f64::NEG_INFINITY, "-Infinity", "fff0000000000000"),
        (f64::NAN, "NaN", "7ff8000000000000"),
        (1.5, "1.5", "3ff8000000000000"),
        (1e100, "1e+100", "54b249ad2594c37d"),
        (5e-324, "5e-324", "0000000000000001"),
        (f64::MAX, "1.7976931348623157e+308", "7fefffffffffffff"),
        (100000.0, "100000", "40f86a0000000000"),
        (-123.456, "-123.456", "c05edd2f1a9fbe77"),
    ] {
        check(ScalarValue::Float64(Some(value)), "", text, binary);
    }
    for (value, text, binary) in [
        (1e20f32, "1e+20", "60ad78ec"),
        (1e6, "1e+06", "49742400"),
        (999999.0, "999999", "497423f0"),
        (1234567.0, "1.234567e+06", "4996b438"),
        (0.0001, "0.0001", "38d1b717"),
        (0.00001, "1e-05", "3727c5ac"),
        (-0.0, "-0", "80000000"),
        (f32::MAX, "3.4028235e+38", "7f7fffff"),
        (1e-45, "1e-45", "00000001"),
    ] {
        check(ScalarValue::Float32(Some(value)), "", text, binary);
    }
    check(ScalarValue::Boolean(Some(true)), "", "t", "01");
    check(ScalarValue::Boolean(Some(false)), "", "f", "00");
    check(ScalarValue::Int16(Some(-2)), "", "-2", "fffe");
    check(
        ScalarValue::Int32(Some(i32::MIN)),
        "",
        "-2147483648",
        "80000000",
    );
    check(
        ScalarValue::Int64(Some(i64::MIN)),
        "",
        "-9223372036854775808",
        "8000000000000000",
    );
    check(ScalarValue::Int64(Some(26)), "oid", "26", "0000001a");
    check(ScalarValue::Int32(Some(26)), "regclass", "26", "0000001a");
    check(
        ScalarValue::Utf8(Some("26".into())),
        "oid",
        "26",
        "0000001a",
    );
}

#[test]
fn numerics() {
    for (value, scale, text, binary) in [
        (0, 0, "0", "0000000000000000"),
        (0, 2, "0.00", "0000000000000002"),
        (1, 0, "1", "00010000000000000001"),
        (-15, 1, "-1.5", "000200004000000100011388"),
        (
            12345678900,
            6,
            "12345.678900",
            "0003000100000006000109291a85",
        ),
        (1, 4, "0.0001", "0001ffff000000040001"),
        (1, 5, "0.00001", "0001fffe0000000503e8"),
        (10000, 0, "10000", "00010001000000000001"),
        (100000000, 0, "100000000", "00010002000000000001"),
        (
            999999999999,
            4,
            "99999999.9999",
            "0003000100000004270f270f270f",
        ),
        (-5, 1, "-0.5", "0001ffff400000011388"),
        (
            123456789012345678901234567890123,
            3,
            "123456789012345678901234567890.123",
            "0009000700000003000c0d801ed204d2162e23340d801ed204ce",
        ),
        (120, 5, "0.00120", "0001ffff00000005000c"),
    ] {
        check(
            ScalarValue::Decimal128(Some(value), 38, scale),
            "",
            text,
            binary,
        );
        let wide = i256::from_i128(value);
        check(
            ScalarValue::Decimal256(Some(wide), 76, scale),
            "",
            text,
            binary,
        );
    }
    let rounded = encode(
        &tagged(DataType::Decimal128(5, -2), ""),
        &ScalarValue::Decimal128(Some(-12), 5, -2)
            .to_array()
            .unwrap(),
        &SessionTimeZone::UTC,
    );
    assert_eq!(rounded, ("-1200".into(), "000100004000000004b0".into()));
}

#[test]
fn dates_and_times() {
    let us = |text: &str| {
        ScalarValue::TimestampMicrosecond(
            Some(crate::wire::datetime_input::parse_timestamp(text).unwrap()),
            None,
        )
    };
    for (text, binary) in [
        ("2026-01-01 00:00:00", "0002ea470ae86000"),
        ("2026-01-01 12:34:56.5", "0002ea5196ca1d20"),
        ("1999-12-31 23:59:59.999999", "ffffffffffffffff"),
        ("0044-03-15 00:00:00 BC", "ff1af9deec5b2000"),
        ("12345-01-02 03:04:05.000001", "0487ceb9b72b7341"),
        ("0001-01-01 00:00:00", "ff1fe2ffc59c6000"),
        ("1970-01-01 00:00:00", "fffca2fec4c82000"),
        ("294246-12-31 23:59:59", "7ffca2465a941dc0"),
    ] {
        check(us(text), "", text, binary);
    }
    for (days, text, binary) in [
        (20454, "2026-01-01", "00002519"),
        (-735160, "0044-03-15 BC", "fff49d7b"),
        (3789392, "12345-01-02", "0039a783"),
        (0, "1970-01-01", "ffffd533"),
    ] {
        check(ScalarValue::Date32(Some(days)), "", text, binary);
    }
    for (us, text, binary) in [
        (0, "00:00:00", "0000000000000000"),
        (45_296_500_000, "12:34:56.5", "0000000a8be1bd20"),
        (86_399_999_999, "23:59:59.999999", "000000141dd75fff"),
        (86_400_000_000, "24:00:00", "000000141dd76000"),
    ] {
        check(ScalarValue::Time64Microsecond(Some(us)), "", text, binary);
    }
    for (text, binary) in [
        ("2026-01-01 00:00:00+00", "0002ea470ae86000"),
        ("2026-07-01 12:00:00.25+00", "0002f88a331ec090"),
    ] {
        let ScalarValue::TimestampMicrosecond(value, _) = us(text) else {
            unreachable!()
        };
        check(
            ScalarValue::TimestampMicrosecond(value, Some("+02:00".into())),
            "",
            text,
            binary,
        );
    }
}

#[test]
fn moments_are_shown_and_read_in_the_session_zone() {
    for (zone, moment, shown) in [
        (
            "Asia/Kolkata",
            "2026-01-01 00:00:00+00",
            "2026-01-01 05:30:00+05:30",
        ),
        (
            "Asia/Kolkata",
            "1800-01-01 00:00:00Z",
            "1800-01-01 05:53:28+05:53:28",
        ),
        (
            "Asia/Kolkata",
            "0044-03-15 00:00:00+00 BC",
            "0044-03-15 05:53:28+05:53:28 BC",
        ),
        (
            "America/St_Johns",
            "2026-01-01T00:00:00Z",
            "2025-12-31 20:30:00-03:30",
        ),
        (
            "America/St_Johns",
            "2026-07-01 02:00:00+02",
            "2026-06-30 21:30:00-02:30",
        ),
        ("-3", "2026-01-01 00:00:00 UTC", "2025-12-31 21:00:00-03"),
        (
            "Europe/Berlin",
            "2026-07-01 12:00",
            "2026-07-01 12:00:00+02",
        ),
        (
            "Europe/Berlin",
            "2026-07-01 12:00 America/New_York",
            "2026-07-01 18:00:00+02",
        ),
    ] {
        let zone = SessionTimeZone::parse(zone).unwrap();
        let value = decode_text::parse(&PgType::Timestamptz, moment, &zone).unwrap();
        let array = value.to_array().unwrap();
        let field = tagged(array.data_type().clone(), "");
        assert_eq!(encode(&field, &array, &zone).0, shown, "{moment}");
    }
}

#[test]
fn intervals() {
    for (months, days, us, text, binary) in [
        (0, 0, 0, "00:00:00", "00000000000000000000000000000000"),
        (
            14,
            3,
            14_706_500_000,
            "1 year 2 mons 3 days 04:05:06.5",
            "000000036c9361a0000000030000000e",
        ),
        (
            -14,
            3,
            -14_706_500_000,
            "-1 years -2 mons +3 days -04:05:06.5",
            "fffffffc936c9e6000000003fffffff2",
        ),
        (-1, 0, 0, "-1 mons", "000000000000000000000000ffffffff"),
        (
            0,
            1,
            -1_000_000,
            "1 day -00:00:01",
            "fffffffffff0bdc00000000100000000",
        ),
        (
            0,
            -3,
            14_400_000_000,
            "-3 days +04:00:00",
            "000000035a4e9000fffffffd00000000",
        ),
        (
            12,
            -1,
            0,
            "1 year -1 days",
            "0000000000000000ffffffff0000000c",
        ),
        (
            0,
            0,
            360_000_000_000,
            "100:00:00",
            "00000053d1ac10000000000000000000",
        ),
        (
            0,
            0,
            -1,
            "-00:00:00.000001",
            "ffffffffffffffff0000000000000000",
        ),
        (
            -13,
            5,
            0,
            "-1 years -1 mons +5 days",
            "000000000000000000000005fffffff3",
        ),
        (
            0,
            -1,
            -500_000,
            "-1 days -00:00:00.5",
            "fffffffffff85ee0ffffffff00000000",
        ),
    ] {
        let value = IntervalMonthDayNano {
            months,
            days,
            nanoseconds: us * 1000,
        };
        check(
            ScalarValue::IntervalMonthDayNano(Some(value)),
            "",
            text,
            binary,
        );
    }
    for (text, canonical) in [
        ("P1Y2M3DT4H5M6.5S", "1 year 2 mons 3 days 04:05:06.5"),
        ("1.5 days", "1 day 12:00:00"),
        ("@ 1 day 2 hours ago", "-1 days -02:00:00"),
        ("2 weeks, 0:00:01", "14 days 00:00:01"),
        ("90", "00:01:30"),
        ("250ms", "00:00:00.25"),
    ] {
        let value = decode_text::parse(&PgType::Interval, text, &SessionTimeZone::UTC).unwrap();
        let array = value.to_array().unwrap();
        let field = tagged(array.data_type().clone(), "");
        assert_eq!(encode(&field, &array, &SessionTimeZone::UTC).0, canonical);
    }
}

#[test]
fn text_and_its_cousins() {
    let text = |s: &str| ScalarValue::Utf8(Some(s.to_string()));
    check(text("grün"), "", "grün", "6772c3bc6e");
    check(text(""), "", "", "");
    check(ScalarValue::LargeUtf8(Some("a".into())), "name", "a", "61");
    check(ScalarValue::Utf8View(Some("a".into())), "", "a", "61");
    let uuid = "6e47bc22-84ad-4303-8e7b-8ab08ac91cf1";
    check(text(uuid), "uuid", uuid, "6e47bc2284ad43038e7b8ab08ac91cf1");
    check(text("{\"a\": 1}"), "json", "{\"a\": 1}", "7b2261223a20317d");
    check(
        text("{\"a\": 1}"),
        "jsonb",
        "{\"a\": 1}",
        "017b2261223a20317d",
    );
    check(text("r"), "char", "r", "72");
    let vector = "0000000100000000000000150000000200000000000000020001000000020002";
    check(text("1 2"), "int2vector", "1 2", vector);
    check(
        ScalarValue::Binary(Some(vec![0, 255, 16])),
        "",
        "\\x00ff10",
        "00ff10",
    );
    check(ScalarValue::BinaryView(Some(vec![])), "", "\\x", "");
    let bytes = decode_text::parse(&PgType::Bytea, "a\\\\b\\001", &SessionTimeZone::UTC).unwrap();
    assert_eq!(bytes, ScalarValue::Binary(Some(b"a\\b\x01".to_vec())));
    let stored: ArrayRef = Arc::new(
        FixedSizeBinaryArray::try_from_iter([unhex(&uuid.replace('-', ""))].iter()).unwrap(),
    );
    let field = tagged(stored.data_type().clone(), "uuid");
    assert_eq!(encode(&field, &stored, &SessionTimeZone::UTC).0, uuid);
}

fn list(values: Vec<ScalarValue>, item: DataType) -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list(&values, &item, true))
}

#[test]
fn arrays() {
    let words = [
        "a", "b c", "", "null", "NULL", "q\"x", "b\\s", "{c}", "a,b", "t\tb",
    ];
    let mut values: Vec<ScalarValue> = words.iter().map(|w| ScalarValue::from(*w)).collect();
    values.insert(2, ScalarValue::Utf8(None));
    check(
        list(values, DataType::Utf8),
        "",
        "{a,\"b c\",NULL,\"\",\"null\",\"NULL\",\"q\\\"x\",\"b\\\\s\",\"{c}\",\"a,b\",\"t\tb\"}",
        "0000000100000001000000190000000b00000001000000016100000003622063ffffffff00000000000000046e756c6c\
         000000044e554c4c0000000371227800000003625c73000000037b637d00000003612c6200000003740962",
    );
    check(
        list(vec![], DataType::Utf8),
        "",
        "{}",
        "000000000000000000000019",
    );
    let int = |v: i32| ScalarValue::Int32(Some(v));
    check(
        list(
            vec![int(1), ScalarValue::Int32(None), int(-3)],
            DataType::Int32,
        ),
        "",
        "{1,NULL,-3}",
        "00000001000000010000001700000003000000010000000400000001ffffffff00000004fffffffd",
    );
    let rows = vec![
        list(vec![int(1), int(2)], DataType::Int32),
        list(vec![int(3), int(4)], DataType::Int32),
    ];
    let item = rows[0].data_type();
    check(
        list(rows, item),
        "",
        "{{1,2},{3,4}}",
        "000000020000000000000017000000020000000100000002000000010000000400000001000000040000000200000004\
         000000030000000400000004",
    );
    let bytes = list(
        vec![ScalarValue::Binary(Some(vec![1, 255]))],
        DataType::Binary,
    );
    let array = bytes.to_array().unwrap();
    let field = tagged(array.data_type().clone(), "");
    assert_eq!(
        encode(&field, &array, &SessionTimeZone::UTC).0,
        "{\"\\\\x01ff\"}"
    );
}

#[test]
fn composites() {
    let record = |word: Option<&str>| {
        let fields = Fields::from(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Utf8, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1])),
            Arc::new(StringArray::from(vec![word])),
        ];
        StructArray::new(fields, columns, None)
    };
    for (word, text) in [
        (Some("a"), "(1,a)"),
        (None, "(1,)"),
        (Some(""), "(1,\"\")"),
        (Some("a b"), "(1,\"a b\")"),
        (Some("q\"x"), "(1,\"q\"\"x\")"),
        (Some("b\\s"), "(1,\"b\\\\s\")"),
        (Some("(p)"), "(1,\"(p)\")"),
        (Some("x,y"), "(1,\"x,y\")"),
    ] {
        let array: ArrayRef = Arc::new(record(word));
        let field = tagged(array.data_type().clone(), "");
        assert_eq!(encode(&field, &array, &SessionTimeZone::UTC).0, text);
        let in_list = list(
            vec![ScalarValue::try_from_array(&array, 0).unwrap()],
            array.data_type().clone(),
        );
        let in_list = in_list.to_array().unwrap();
        if word == Some("a b") {
            let field = tagged(in_list.data_type().clone(), "");
            assert_eq!(
                encode(&field, &in_list, &SessionTimeZone::UTC).0,
                "{\"(1,\\\"a b\\\")\"}"
            );
        }
    }
    let array: ArrayRef = Arc::new(record(Some("a")));
    let field = tagged(array.data_type().clone(), "");
    // PostgreSQL's own bytes have `unknown` (705) for an untyped literal where ours have `text`.
    assert_eq!(
        encode(&field, &array, &SessionTimeZone::UTC).1,
        "00000002000000170000000400000001000000190000000161"
    );
}

#[test]
fn storage_that_differs_from_the_type_is_cast_or_refused() {
    let zone = SessionTimeZone::UTC;
    let cases: Vec<(ArrayRef, &str, &str)> = vec![
        (Arc::new(UInt64Array::from(vec![7])), "", "7"),
        (
            Arc::new(DictionaryArray::<Int32Type>::from_iter(["x"])),
            "",
            "x",
        ),
        (Arc::new(LargeStringArray::from(vec!["y"])), "", "y"),
        (Arc::new(StringViewArray::from(vec!["z"])), "json", "z"),
        (
            Arc::new(TimestampNanosecondArray::from(vec![1_500])),
            "",
            "1970-01-01 00:00:00.000001",
        ),
        (
            Arc::new(Int16Array::from(vec![i16::from(b'i')])),
            "char",
            "i",
        ),
        (Arc::new(Int64Array::from(vec![3])), "float8", "3"),
        (Arc::new(BooleanArray::from(vec![true])), "text", "t"),
    ];
    for (array, tag, text) in cases {
        let field = tagged(array.data_type().clone(), tag);
        assert_eq!(encode(&field, &array, &zone).0, text);
    }
    let nulls: ArrayRef = Arc::new(NullArray::new(1));
    assert!(
        Column::new(&tagged(DataType::Null, ""), &nulls)
            .unwrap()
            .is_null(0)
    );
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert!(Column::new(&tagged(DataType::UInt64, ""), &large).is_err());
    let ragged = list(
        vec![
            list(vec![ScalarValue::from(1)], DataType::Int32),
            list(vec![], DataType::Int32),
        ],
        list(vec![], DataType::Int32).data_type(),
    );
    let array = ragged.to_array().unwrap();
    let column = Column::new(&tagged(array.data_type().clone(), ""), &array).unwrap();
    let refused = column.put_field_binary(0, &mut BytesMut::new(), &zone);
    assert_eq!(refused.unwrap_err().state, SqlState::ArraySubscriptError);
}

#[test]
fn broken_parameters_are_refused_with_their_state() {
    let array = |element: PgType| PgType::Array(Box::new(element));
    for (pg_type, text, state) in [
        (PgType::Int4, "x", SqlState::InvalidTextRepresentation),
        (PgType::Int4, "2147483648", SqlState::NumericValueOutOfRange),
        (PgType::Bool, "maybe", SqlState::InvalidTextRepresentation),
        (PgType::Bool, "o", SqlState::InvalidTextRepresentation),
        (
            PgType::Numeric { declared: None },
            "1.2.3",
            SqlState::InvalidTextRepresentation,
        ),
        (
            PgType::Numeric { declared: None },
            "1e99999999",
            SqlState::InvalidTextRepresentation,
        ),
        (PgType::Date, "2026-02-30", SqlState::DatetimeFieldOverflow),
        (
            PgType::Timestamp,
            "yesterday-ish",
            SqlState::InvalidDatetimeFormat,
        ),
        (
            PgType::Timestamptz,
            "2026-01-01 00:00 Mars/Olympus",
            SqlState::InvalidParameterValue,
        ),
        (PgType::Time, "25:00", SqlState::DatetimeFieldOverflow),
        (
            PgType::Interval,
            "1 fortnight",
            SqlState::InvalidDatetimeFormat,
        ),
        (
            PgType::Interval,
            "3000000000 months",
            SqlState::IntervalFieldOverflow,
        ),
        (
            PgType::Uuid,
            "6e47bc22",
            SqlState::InvalidTextRepresentation,
        ),
        (PgType::Json, "{", SqlState::InvalidTextRepresentation),
        (PgType::Bytea, "\\x0", SqlState::InvalidTextRepresentation),
        (
            array(PgType::Int4),
            "{1,2",
            SqlState::InvalidTextRepresentation,
        ),
        (
            array(PgType::Int4),
            "{1,}",
            SqlState::InvalidTextRepresentation,
        ),
        (
            array(PgType::Int4),
            "{1}x",
            SqlState::InvalidTextRepresentation,
        ),
    ] {
        let error = decode_text::parse(&pg_type, text, &SessionTimeZone::UTC).unwrap_err();
        assert_eq!(error.state, state, "{text}");
    }
    for (pg_type, binary) in [
        (PgType::Int4, "00000001ff"),
        (PgType::Int8, "00000001"),
        (PgType::Numeric { declared: None }, "00020000000000000001"),
        (PgType::Numeric { declared: None }, "0001000000000000ffff"),
        (PgType::Jsonb, "027b7d"),
        (PgType::Uuid, "6e47"),
        (array(PgType::Int4), "000000010000000000000017"),
        (
            array(PgType::Int4),
            "0000000100000000000000177fffffff00000001",
        ),
        (
            array(PgType::Int4),
            "0000000200000000000000177fffffff000000017fffffff00000001",
        ),
    ] {
        let error = decode_binary::parse(&pg_type, &unhex(binary)).unwrap_err();
        assert_eq!(
            error.state,
            SqlState::InvalidBinaryRepresentation,
            "{binary}"
        );
    }
    let invalid = decode_binary::parse(&PgType::Text, b"a\xff").unwrap_err();
    assert_eq!(invalid.state, SqlState::CharacterNotInRepertoire);
}
