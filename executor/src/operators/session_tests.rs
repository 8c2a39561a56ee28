//! Sessions against sorting and cutting the whole input.

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{cast, col};
use rivermark_planner::plan::{BoundExpr, PlanOp, SessionBound};

use super::property_bench::{
    Bag, Bench, Row, Sum, by_order, check, column, options, schema, sum_of,
};

const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// `o` as a time.
fn time() -> BoundExpr {
    let schema = schema();
    BoundExpr {
        physical: cast(col("o", &schema).unwrap(), &schema, TIME).unwrap(),
        data_type: TIME,
        ..column("o")
    }
}

fn time_of(row: &Row) -> Option<i64> {
    match row[1] {
        ScalarValue::Int64(time) => time,
        ref other => panic!("{other:?}"),
    }
}

fn sessions(bag: &Bag, gap: i64) -> Vec<Row> {
    let mut rows = bag.sorted(by_order(options(false, false)));
    rows.retain(|row| time_of(row).is_some());
    let times: Vec<i64> = rows.iter().filter_map(time_of).collect();
    let mut output = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let is_cut = |at: &usize| times[*at] - times[*at - 1] >= gap;
        let first = (1..=place).rev().find(is_cut).unwrap_or(0);
        let last = (place + 1..times.len()).find(is_cut).unwrap_or(times.len()) - 1;
        let bounds = [times[first], times[last] + gap];
        let bounds = bounds.map(|us| ScalarValue::TimestampMicrosecond(Some(us), None));
        output.push(row.iter().cloned().chain(bounds).collect());
    }
    output
}

#[test]
fn equal_cutting_the_whole_input() {
    for gap in [1, 2, 3, 100] {
        for is_partitioned in [false, true] {
            for seed in 0..5 {
                let schema = schema();
                let fields = schema.fields().iter().map(|f| f.as_ref().clone());
                let bounds = ["window_start", "window_end"].map(|n| Field::new(n, TIME, true));
                let op = PlanOp::Session {
                    partition_by: is_partitioned.then(|| column("g")).into_iter().collect(),
                    time: time(),
                    gap_us: gap,
                    bounds: vec![SessionBound::Start, SessionBound::End],
                    is_final: false,
                    forgets: false,
                };
                let mut bench = Bench::new(op, 1, fields.chain(bounds).collect(), false);
                let reference = |bags: &[Bag]| -> Sum {
                    match is_partitioned {
                        true => sum_of(bags[0].groups().iter().flat_map(|bag| sessions(bag, gap))),
                        false => sum_of(sessions(&bags[0], gap)),
                    }
                };
                check(seed, &mut bench, seed % 3 == 0, reference);
            }
        }
    }
}
