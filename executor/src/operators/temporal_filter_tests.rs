//! Temporal filters against looking at every row again at every time.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as Binary;
use datafusion::physical_expr::expressions::{binary, cast, col, lit};
use rivermark_planner::plan::{BoundExpr, NowComparison, PlanOp, TimeBound};

use super::property_bench::{Bag, Bench, Row, Sum, check_in_time, column, schema};

/// `now() <comparison> o + by`.
fn bound(comparison: NowComparison, by: i64) -> TimeBound {
    let schema = schema();
    let sum = binary(col("o", &schema).unwrap(), Binary::Plus, lit(by), &schema).unwrap();
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, None);
    let time = BoundExpr {
        physical: cast(sum, &schema, data_type.clone()).unwrap(),
        data_type,
        ..column("o")
    };
    TimeBound { comparison, time }
}

fn holds(row: &Row, (comparison, by): (NowComparison, i64), now: i64) -> bool {
    let ScalarValue::Int64(Some(time)) = row[1] else {
        return false;
    };
    match comparison {
        NowComparison::Before => now < time + by,
        NowComparison::Until => now <= time + by,
        NowComparison::After => now > time + by,
        NowComparison::From => now >= time + by,
    }
}

fn reference(bounds: &[(NowComparison, i64)], bag: &Bag, now: i64) -> Sum {
    let mut sum = Sum::new();
    for (row, weight) in &bag.rows {
        if bounds.iter().all(|bound| holds(row, *bound, now)) {
            *sum.entry(format!("{row:?}")).or_default() += weight;
        }
    }
    sum
}

#[test]
fn equal_looking_at_every_row_again() {
    use NowComparison::{After, Before, From, Until};
    let cases: [&[(NowComparison, i64)]; 7] = [
        &[(Before, 4)],
        &[(Until, 4)],
        &[(After, 6)],
        &[(From, 6)],
        &[(From, 3), (Before, 9)],
        &[(After, 2), (Until, 5), (Before, 8)],
        // never
        &[(From, 5), (Before, 5)],
    ];
    for bounds in cases {
        for seed in 0..8 {
            let schema = schema();
            let fields = schema.fields().iter().map(|f| f.as_ref().clone());
            let op = PlanOp::TemporalFilter {
                bounds: bounds.iter().map(|(c, by)| bound(*c, *by)).collect(),
            };
            let mut bench = Bench::new(op, 1, fields.collect(), false);
            check_in_time(seed, &mut bench, seed % 2 == 0, |bags, now| {
                reference(bounds, &bags[0], now)
            });
            // all have entered or left: nothing is kept
            bench.now_us = 1000;
            bench.epoch(Vec::new());
            assert_eq!(bench.stored(0), 0, "{bounds:?}, seed {seed}");
        }
    }
}
