//! Small stories with known endings.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{Literal, binary};
use rivermark_planner::plan::AggregateStrategy::{self, Linear, Mergeable, Multiset};

use super::bench::{Bench, Case, input_schema};
use crate::delta::Delta;

/// Rows of which only the columns named are not NULL.
fn rows(columns: &[(&str, Vec<ScalarValue>)], weights: Option<Vec<i64>>) -> Delta {
    let schema: SchemaRef = input_schema();
    let count = columns[0].1.len();
    let arrays = schema.fields().iter().map(|field| {
        match columns.iter().find(|(name, _)| name == field.name()) {
            Some((_, values)) => ScalarValue::iter_to_array(values.clone()).unwrap(),
            None => arrow::array::new_null_array(field.data_type(), count),
        }
    });
    let batch = RecordBatch::try_new(schema.clone(), arrays.collect()).unwrap();
    Delta::new(batch, weights.map(Int64Array::from))
}

fn ints(values: &[i64]) -> Vec<ScalarValue> {
    values
        .iter()
        .map(|&value| ScalarValue::from(value))
        .collect()
}

fn floats(values: &[f64]) -> Vec<ScalarValue> {
    values
        .iter()
        .map(|&value| ScalarValue::from(value))
        .collect()
}

fn bench(group_by: &[&str], cases: &[(Case, AggregateStrategy)]) -> Bench {
    let schema = input_schema();
    let calls = cases
        .iter()
        .map(|(case, strategy)| case.call(&schema, *strategy))
        .collect();
    Bench::new(&schema, group_by, calls)
}

fn shown(bench: &Bench) -> Vec<Vec<String>> {
    bench
        .rows
        .values()
        .map(|row| row.iter().map(ToString::to_string).collect())
        .collect()
}

#[test]
fn a_global_aggregate_has_its_row_from_the_start() {
    let count = Case::new("count", &["1"]);
    let mut bench = bench(
        &[],
        &[
            (count, Linear),
            (Case::new("sum", &["i"]), Linear),
            (Case::new("max", &["i"]), Multiset),
        ],
    );
    assert_eq!(shown(&bench), [["0", "NULL", "NULL"]]);
    bench.epoch(vec![rows(&[("i", ints(&[3, 4]))], None)]);
    assert_eq!(shown(&bench), [["2", "7", "4"]]);
    bench.epoch(vec![rows(&[("i", ints(&[4, 3]))], Some(vec![-1, -1]))]);
    assert_eq!(shown(&bench), [["0", "NULL", "NULL"]]);
    assert_eq!((bench.stored(0), bench.stored(1)), (vec![], vec![]));
}

#[test]
fn distinct_shows_a_row_while_it_is_there() {
    let mut bench = bench(&["g"], &[]);
    bench.epoch(vec![rows(&[("g", ints(&[1, 1, 2]))], None)]);
    assert_eq!(shown(&bench), [["1"], ["2"]]);
    let output = bench.epoch(vec![rows(&[("g", ints(&[1, 2]))], Some(vec![-1, -1]))]);
    assert_eq!(output[0].num_rows(), 1);
    assert_eq!(shown(&bench), [["1"]]);
}

#[test]
fn what_changes_nothing_says_nothing() {
    let mut bench = bench(&["g"], &[(Case::new("max", &["i"]), Multiset)]);
    bench.epoch(vec![rows(&[("g", ints(&[1])), ("i", ints(&[10]))], None)]);
    assert!(
        bench
            .epoch(vec![rows(&[("g", ints(&[1])), ("i", ints(&[5]))], None)])
            .is_empty()
    );
    let there_and_back = rows(
        &[("g", ints(&[7, 7])), ("i", ints(&[5, 5]))],
        Some(vec![-2, 2]),
    );
    assert!(bench.epoch(vec![there_and_back]).is_empty());
    assert_eq!(shown(&bench), [["1", "10"]]);
}

#[test]
fn equal_keys_are_one_group() {
    let mut bench = bench(&["k"], &[(Case::new("count", &["1"]), Linear)]);
    let keys = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 1),
    ];
    bench.epoch(
        keys.map(|key| rows(&[("k", floats(&[key]))], None))
            .to_vec(),
    );
    bench.epoch(vec![rows(&[("g", ints(&[1, 2]))], None)]);
    assert_eq!(shown(&bench), [["0", "2"], ["NULL", "2"], ["NaN", "2"]]);
}

#[test]
fn nan_leaves_when_it_is_retracted() {
    let mut bench = bench(
        &[],
        &[
            (Case::new("sum", &["w"]), Linear),
            (Case::new("var_pop", &["w"]), Linear),
        ],
    );
    bench.epoch(vec![rows(
        &[("w", floats(&[0.1, f64::NAN, 0.2, 1e300]))],
        None,
    )]);
    assert_eq!(shown(&bench), [["NaN", "NaN"]]);
    bench.epoch(vec![rows(
        &[("w", floats(&[f64::NAN, 1e300, 0.2]))],
        Some(vec![-1, -1, -1]),
    )]);
    assert_eq!(shown(&bench), [["0.1", "0"]]);
}

#[test]
fn a_sum_out_of_range_takes_its_row_away_while_it_lasts() {
    let mut bench = bench(&["g"], &[(Case::new("sum", &["i"]), Linear)]);
    let large = || rows(&[("g", ints(&[1, 2])), ("i", ints(&[i64::MAX, 5]))], None);
    bench.epoch(vec![large(), large()]);
    assert_eq!(shown(&bench), [["2", "10"]]);
    assert_eq!(bench.failures.len(), 1);
    assert_eq!(
        (bench.failures[0].weight, bench.failures[0].error.as_str()),
        (1, "bigint out of range")
    );
    assert_eq!(bench.failures[0].payload, r#"{"c0":1}"#);
    bench.epoch(vec![rows(&[("g", ints(&[1])), ("i", ints(&[-1]))], None)]);
    assert_eq!(bench.failures.len(), 1);
    bench.epoch(vec![rows(
        &[("g", ints(&[1])), ("i", ints(&[i64::MAX]))],
        Some(vec![-1]),
    )]);
    assert_eq!(
        shown(&bench),
        [
            ["1".to_string(), (i64::MAX - 1).to_string()],
            ["2".into(), "10".into()]
        ]
    );
    assert_eq!(bench.failures[1].weight, -1);
    assert_eq!(bench.failures[1].key, bench.failures[0].key);
}

#[test]
fn retracting_what_is_not_there_is_an_error() {
    for case in [Case::new("count", &["1"]), Case::new("max", &["i"])] {
        let mut bench = bench(&["g"], &[(case, Multiset)]);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            bench.epoch(vec![rows(
                &[("g", ints(&[1])), ("i", ints(&[1]))],
                Some(vec![-1]),
            )]);
        }));
        assert!(outcome.is_err(), "{case:?}");
    }
}

#[test]
fn rows_that_the_filter_rejects_do_not_fail() {
    let schema = input_schema();
    let mut call = Case::new("sum", &["i"]).filter("b").call(&schema, Linear);
    let hundred = Arc::new(Literal::new(ScalarValue::from(100i64)));
    call.args[0].physical = binary(
        hundred,
        Operator::Divide,
        call.args[0].physical.clone(),
        &schema,
    )
    .unwrap();
    call.args[0].is_fallible = true;
    let mut bench = Bench::new(&schema, &["g"], vec![call]);
    let flags = |flags: &[bool]| {
        flags
            .iter()
            .map(|&flag| ScalarValue::from(flag))
            .collect::<Vec<_>>()
    };
    let columns = |i: &[i64], b: &[bool]| {
        [
            ("g", ints(&vec![1; i.len()])),
            ("i", ints(i)),
            ("b", flags(b)),
        ]
    };
    bench.epoch(vec![rows(
        &columns(&[0, 5, 0, 20], &[false, true, true, true]),
        None,
    )]);
    assert_eq!(shown(&bench), [["1", "25"]]);
    assert_eq!((bench.failures.len(), bench.failures[0].weight), (1, 1));
    bench.epoch(vec![rows(
        &columns(&[0, 0], &[true, false]),
        Some(vec![-1, -1]),
    )]);
    assert_eq!(shown(&bench), [["1", "25"]]);
    assert_eq!(bench.failures[1].weight, -1);
}

#[test]
fn stored_rows_are_golden() {
    let mut bench = bench(
        &["g"],
        &[
            (Case::new("count", &["1"]), Linear),
            (Case::new("sum", &["i"]), Linear),
            (Case::new("avg", &["f"]), Linear),
            (Case::new("max", &["i"]), Mergeable),
            (Case::new("min", &["i"]), Multiset),
            (Case::new("count", &["i"]).distinct(), Linear),
        ],
    );
    let input = rows(
        &[
            ("g", ints(&[1, 1])),
            ("i", ints(&[3, 3])),
            ("f", floats(&[1.5, 0.25])),
        ],
        None,
    );
    bench.epoch(vec![input]);
    let key = [&[1, 0x80][..], &[0; 6], &[1]].concat();
    let min = [&[1, 10, 1, 0][..], &3i64.to_le_bytes()].concat();
    let row = [
        &[1, 4][..],    // version, two rows
        &[4],           // count
        &[12, 4],       // sum 6 of two values
        &[1, 3, 14, 4], // 7 * 2^-2 of two values
        &[1, 6],        // present, 3
        min.as_slice(), // a value of 10 bytes: RowCodec of 3
        &[2],           // one distinct value
    ]
    .concat();
    assert_eq!(bench.stored(0), [(key.clone(), row)]);
    let element = |call: u8| [&key[..], &[0, call, 1, 0x80, 0, 0, 0, 0, 0, 0, 3]].concat();
    let value = [&[4, 1, 0][..], &3i64.to_le_bytes()].concat();
    assert_eq!(
        bench.stored(1),
        [(element(4), value.clone()), (element(5), value)]
    );
}
