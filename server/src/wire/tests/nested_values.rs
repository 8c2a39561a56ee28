//! Arrays and composites against PostgreSQL 15's own, and columns that are stored otherwise than they are typed.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Int16Array, Int32Array, Int64Array,
    LargeStringArray, NullArray, StringArray, StringViewArray, StructArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use bytes::BytesMut;
use datafusion::scalar::ScalarValue;

use super::value_check::{check, encode, list, tagged};
use crate::sqlstate::SqlState;
use crate::wire::encode::Column;
use crate::wire::time_zone::SessionTimeZone;

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
