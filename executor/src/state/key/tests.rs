//! Golden bytes, order and round trip of keys.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray, UInt16Array,
};
use arrow::datatypes::{Int32Type, IntervalMonthDayNano};

use super::super::test_values::{all_types, random_array, rng, sql_compare};
use super::*;

fn keys(column: ArrayRef) -> Vec<Vec<u8>> {
    let codec = KeyCodec::new(vec![column.data_type().clone()], None).unwrap();
    codec
        .encode(&[column])
        .unwrap()
        .iter()
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn bytes_are_golden() {
    let cases: Vec<(ArrayRef, Vec<Vec<u8>>)> = vec![
        (
            Arc::new(Int32Array::from(vec![Some(1), Some(-1), None])),
            vec![
                vec![1, 0x80, 0, 0, 1],
                vec![1, 0x7F, 0xFF, 0xFF, 0xFF],
                vec![0xFF],
            ],
        ),
        (
            Arc::new(Int64Array::from(vec![258])),
            vec![vec![1, 0x80, 0, 0, 0, 0, 0, 1, 2]],
        ),
        (Arc::new(UInt16Array::from(vec![258])), vec![vec![1, 1, 2]]),
        (
            Arc::new(Date32Array::from(vec![0])),
            vec![vec![1, 0x80, 0, 0, 0]],
        ),
        (
            Arc::new(BooleanArray::from(vec![true, false])),
            vec![vec![1, 1], vec![1, 0]],
        ),
        (
            Arc::new(Float64Array::from(vec![-0.0, 1.0, -1.0, f64::NAN])),
            vec![
                vec![1, 0x80, 0, 0, 0, 0, 0, 0, 0],
                vec![1, 0xBF, 0xF0, 0, 0, 0, 0, 0, 0],
                vec![1, 0x40, 0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                vec![1, 0xFF, 0xF8, 0, 0, 0, 0, 0, 0],
            ],
        ),
        (
            Arc::new(StringArray::from(vec!["", "a\0b"])),
            vec![vec![1, 0, 1], vec![1, b'a', 0, 0xFF, b'b', 0, 1]],
        ),
        (
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
                Some(1),
                None,
            ])])),
            vec![vec![1, 1, 0x80, 0, 0, 1, 0xFF, 0]],
        ),
    ];
    for (column, expected) in cases {
        assert_eq!(keys(column.clone()), expected, "{column:?}");
    }
}

#[test]
fn sort_options_change_bytes() {
    let column: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let options = SortOptions {
        descending: true,
        nulls_first: true,
    };
    let codec = KeyCodec::new(vec![DataType::Utf8], Some(vec![options])).unwrap();
    let keys = codec.encode(std::slice::from_ref(&column)).unwrap();
    assert_eq!(keys.get(0), [1, !b'a', 0xFF, 0xFE]);
    assert_eq!(keys.get(1), [0]);
    assert_eq!(&codec.decode(keys.iter()).unwrap()[0], &column);
}

#[test]
fn equal_values_have_one_key() {
    let intervals = IntervalMonthDayNanoArray::from(vec![
        IntervalMonthDayNano::new(1, 0, 0),
        IntervalMonthDayNano::new(0, 30, 0),
        IntervalMonthDayNano::new(0, 29, 86_400_000_000_000),
    ]);
    let cases: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![0.0, -0.0])),
        Arc::new(Float64Array::from(vec![
            f64::NAN,
            -f64::NAN,
            f64::from_bits(0x7FF0_0000_0000_0001),
        ])),
        Arc::new(intervals),
    ];
    for column in cases {
        let mut keys = keys(column);
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }
    let decimal = |value, scale| {
        keys(Arc::new(
            Decimal128Array::from(vec![value])
                .with_precision_and_scale(20, scale)
                .unwrap(),
        ))
    };
    assert_eq!(decimal(15, 1), decimal(1500, 3));
}

#[test]
fn order_is_sql_order() {
    let mut rng = rng();
    for data_type in all_types() {
        for (descending, nulls_first) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let options = SortOptions {
                descending,
                nulls_first,
            };
            let column = random_array(&data_type, 120, 0.1, &mut rng);
            let tie: ArrayRef = Arc::new(Int32Array::from_iter_values((0..120).map(|row| row % 5)));
            let types = vec![data_type.clone(), DataType::Int32];
            let codec =
                KeyCodec::new(types, Some(vec![options, SortOptions::new(false, false)])).unwrap();
            let keys = codec.encode(&[column.clone(), tie]).unwrap();
            for a in 0..120 {
                for b in 0..120 {
                    let expected =
                        sql_compare(&column, a, b, options).then_with(|| (a % 5).cmp(&(b % 5)));
                    assert_eq!(
                        keys.get(a).cmp(keys.get(b)),
                        expected,
                        "{data_type} {options:?} rows {a} {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn decoding_gives_the_declared_type_and_an_equal_value() {
    let mut rng = rng();
    for data_type in all_types() {
        for descending in [false, true] {
            let options = SortOptions {
                descending,
                nulls_first: descending,
            };
            let columns = vec![
                random_array(&data_type, 100, 0.2, &mut rng).slice(10, 80),
                random_array(&DataType::Utf8, 80, 0.2, &mut rng),
            ];
            let types = vec![data_type.clone(), DataType::Utf8];
            let codec = KeyCodec::new(types, Some(vec![options; 2])).unwrap();
            let keys = codec.encode(&columns).unwrap();
            let decoded = codec.decode(keys.iter()).unwrap();
            assert_eq!(decoded[0].data_type(), &data_type);
            assert_eq!(&decoded[1], &columns[1]);
            assert_eq!(codec.encode(&decoded).unwrap(), keys, "{data_type}");
            for row in 0..80 {
                let joined = arrow::compute::concat(&[&columns[0], &decoded[0]]).unwrap();
                assert_eq!(
                    sql_compare(&joined, row, 80 + row, options),
                    Ordering::Equal
                );
            }
        }
    }
}

#[test]
fn prefixes_of_columns_are_prefixes_of_keys() {
    let codec = KeyCodec::new(vec![DataType::Utf8, DataType::Int64], None).unwrap();
    let (mut whole, mut prefix) = (Vec::new(), Vec::new());
    let values = [
        ScalarValue::Utf8(Some("device".to_string())),
        ScalarValue::Int64(Some(7)),
    ];
    codec.encode_row_into(&values, &mut whole).unwrap();
    codec.encode_row_into(&values[..1], &mut prefix).unwrap();
    assert!(whole.starts_with(&prefix));
    assert_eq!(codec.prefix_len(&whole, 1).unwrap(), prefix.len());
    assert!(
        codec
            .encode_row_into(&[ScalarValue::Int64(Some(1))], &mut whole)
            .is_err()
    );
}

#[test]
fn damaged_keys_are_errors() {
    let codec = KeyCodec::new(vec![DataType::Utf8], None).unwrap();
    for key in [
        &[][..],
        &[1],
        &[1, b'a'],
        &[1, b'a', 0],
        &[7, b'a', 0, 1],
        &[1, 0xFF, 0, 1],
    ] {
        assert!(
            matches!(
                codec.decode(std::iter::once(key)),
                Err(StateError::Corrupt(_))
            ),
            "{key:?}"
        );
    }
}
