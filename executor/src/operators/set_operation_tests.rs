//! EXCEPT and INTERSECT against counting.

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;
use rivermark_planner::plan::{PlanOp, SetOperation};

use super::property_bench::{Bag, Bench, Row, Sum, check, schema};

/// −0.0 as 0.0.
fn canonical(row: &Row) -> Row {
    row.iter()
        .map(|value| match value {
            ScalarValue::Float64(Some(float)) => ScalarValue::from(float + 0.0),
            other => other.clone(),
        })
        .collect()
}

fn reference(operation: SetOperation, bags: &[Bag]) -> Sum {
    let mut counts: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    for (side, bag) in bags.iter().enumerate() {
        for (row, weight) in &bag.rows {
            counts.entry(format!("{:?}", canonical(row))).or_default()[side] += weight;
        }
    }
    let shown = |[l, r]: [i64; 2]| match operation {
        SetOperation::Except => i64::from(l > 0 && r == 0),
        SetOperation::ExceptAll => (l - r).max(0),
        SetOperation::Intersect => i64::from(l > 0 && r > 0),
        SetOperation::IntersectAll => l.min(r),
    };
    counts
        .into_iter()
        .map(|(row, counts)| (row, shown(counts)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn equal_counting() {
    for operation in [
        SetOperation::Except,
        SetOperation::ExceptAll,
        SetOperation::Intersect,
        SetOperation::IntersectAll,
    ] {
        for seed in 0..6 {
            let fields = schema()
                .fields()
                .iter()
                .map(|f| f.as_ref().clone())
                .collect();
            let op = PlanOp::SetOperation { operation };
            let mut bench = Bench::new(op, 2, fields, false);
            check(seed, &mut bench, false, |bags| reference(operation, bags));
        }
    }
}
