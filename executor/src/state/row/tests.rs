//! Rows: golden bytes, every type there and back, damage.

use std::sync::Arc;

use arrow::array::{
    Array, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
};
use arrow::datatypes::Int32Type;

use super::*;
use crate::state::test_values::{all_types, random_array, rng};

#[test]
fn bytes_are_golden() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), None])),
        Arc::new(StringArray::from(vec![Some("ab"), Some("")])),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Float64Array::from(vec![-0.0, 1.5])),
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some([Some(7), None]),
            None,
        ])),
    ];
    let codec = RowCodec::new(columns.iter().map(|c| c.data_type().clone()).collect()).unwrap();
    let rows = codec.encode(&columns).unwrap();
    let first: Vec<u8> = [
        &[1, 0][..],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[2, b'a', b'b'],
        &[1],
        &[0, 0, 0, 0, 0, 0, 0, 0x80],
        &[2, 0b10, 7, 0, 0, 0],
    ]
    .concat();
    assert_eq!(rows.get(0), first);
    assert_eq!(
        rows.get(1),
        [&[1, 0b10101, 0][..], &1.5f64.to_le_bytes()].concat()
    );
    let mut single = Vec::new();
    codec.encode_row_into(&columns, 0, &mut single).unwrap();
    assert_eq!(single, first);
}

#[test]
fn every_type_comes_back_exactly() {
    let mut rng = rng();
    for data_type in all_types() {
        for nulls in [0.0, 0.3, 1.0] {
            let column = random_array(&data_type, 200, nulls, &mut rng);
            let sliced = column.slice(3, 150);
            let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..150));
            let columns = vec![ids, sliced];
            let codec = RowCodec::new(vec![DataType::Int32, data_type.clone()]).unwrap();
            let rows = codec.encode(&columns).unwrap();
            let decoded = codec.decode(rows.iter()).unwrap();
            assert_eq!(decoded[1].data_type(), &data_type);
            assert_eq!(decoded[1].to_data(), columns[1].to_data(), "{data_type}");
            let mut single = Vec::new();
            codec.encode_row_into(&columns, 77, &mut single).unwrap();
            assert_eq!(single, rows.get(77));
        }
    }
}

#[test]
fn header_is_the_callers() {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![5, 6]))];
    let codec = RowCodec::new(vec![DataType::Int32]).unwrap();
    let rows = codec
        .encode_with_header(&columns, 2, |row, header| header[1] = row as u8 + 1)
        .unwrap();
    assert_eq!(rows.get(1), [0, 2, 1, 0, 6, 0, 0, 0]);
    let decoded = codec.decode(rows.iter().map(|row| &row[2..])).unwrap();
    assert_eq!(&decoded[0], &columns[0]);
}

#[test]
fn damaged_rows_are_errors() {
    let codec = RowCodec::new(vec![DataType::Utf8]).unwrap();
    for row in [
        &[][..],
        &[2, 0, 0],
        &[1],
        &[1, 0, 5, b'a'],
        &[1, 0, 0, 9],
        &[1, 0, 1, 0xFF],
    ] {
        assert!(
            matches!(
                codec.decode(std::iter::once(row)),
                Err(StateError::Corrupt(_))
            ),
            "{row:?}"
        );
    }
}

#[test]
fn some_columns_are_those_of_whole_rows() {
    let mut rng = rng();
    let types: Vec<DataType> = all_types();
    let columns: Vec<ArrayRef> = types
        .iter()
        .map(|data_type| random_array(data_type, 50, 0.3, &mut rng))
        .collect();
    let codec = RowCodec::new(types).unwrap();
    let rows = codec.encode(&columns).unwrap();
    let last = columns.len() - 1;
    for at in 0..columns.len() {
        // What stands before it is stepped over, whatever its type.
        let wanted = [at, last, at];
        let some = codec.decode_some(rows.iter(), &wanted).unwrap();
        for (column, from) in some.iter().zip(wanted) {
            assert_eq!(column.to_data(), columns[from].to_data());
        }
    }
    assert!(codec.decode_some(rows.iter(), &[]).unwrap().is_empty());
    assert!(codec.decode_some(rows.iter(), &[last + 1]).is_err());
    let cut = &rows.get(0)[..rows.get(0).len() / 2];
    assert!(codec.decode_some(std::iter::once(cut), &[last]).is_err());
}
