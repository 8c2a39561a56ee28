//! Top-N against sorting the whole group.

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use rivermark_planner::plan::{Counting, PlanOp};

use crate::operators::property_bench::{
    Bag, Bench, Row, Sum, batch_of, by_order, check, column, options, schema, sum_of,
};

#[derive(Debug, Clone, Copy)]
struct Case {
    is_grouped: bool,
    is_ordered: bool,
    skip: u64,
    fetch: Option<u64>,
    counting: Counting,
    is_numbered: bool,
    descending: bool,
    nulls_first: bool,
}

impl Case {
    fn bench(&self, is_append_only: bool) -> Bench {
        let mut fields: Vec<Field> = schema()
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        if self.is_numbered {
            fields.push(Field::new("place", DataType::UInt64, false));
        }
        let order = (column("o"), options(self.descending, self.nulls_first));
        let op = PlanOp::TopN {
            partition_by: self.is_grouped.then(|| column("g")).into_iter().collect(),
            order_by: self.is_ordered.then_some(order).into_iter().collect(),
            skip: self.skip,
            fetch: self.fetch,
            counting: self.counting,
            is_numbered: self.is_numbered,
            window: None,
        };
        Bench::new(op, 1, fields, is_append_only)
    }

    fn reference(&self, bag: &Bag) -> Sum {
        let groups = if self.is_grouped {
            bag.groups()
        } else {
            vec![bag.clone()]
        };
        let compare = by_order(options(self.descending, self.nulls_first));
        let is_equal = |a: &Row, b: &Row| !self.is_ordered || compare(a, b).is_eq();
        let mut shown = Vec::new();
        for group in groups {
            let rows = match self.is_ordered {
                true => group.sorted(&compare),
                false => group.sorted(|_, _| std::cmp::Ordering::Equal),
            };
            let (mut rank, mut dense) = (0, 0);
            for (index, row) in rows.iter().enumerate() {
                let is_new = index == 0 || !is_equal(row, &rows[index - 1]);
                if is_new {
                    (rank, dense) = (index as u64 + 1, dense + 1);
                }
                let place = match self.counting {
                    Counting::Rows => index as u64 + 1,
                    Counting::Ties => rank,
                    Counting::Values => dense,
                };
                let is_within = self.fetch.is_none_or(|fetch| place <= self.skip + fetch);
                if is_within && index as u64 >= self.skip {
                    let mut row = row.clone();
                    if self.is_numbered {
                        row.push(ScalarValue::UInt64(Some(place)));
                    }
                    shown.push(row);
                }
            }
        }
        sum_of(shown)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for counting in [Counting::Rows, Counting::Ties, Counting::Values] {
        for (index, (skip, fetch)) in [
            (0, Some(1)),
            (0, Some(3)),
            (2, Some(3)),
            (0, Some(1000)),
            (3, None),
            (0, Some(0)),
        ]
        .into_iter()
        .enumerate()
        {
            if counting == Counting::Values && skip > 0 {
                continue;
            }
            for is_numbered in [false, true] {
                if is_numbered && (skip > 0 || fetch.is_none()) {
                    continue;
                }
                cases.push(Case {
                    is_grouped: index % 2 == 0 || is_numbered,
                    is_ordered: index != 3,
                    skip,
                    fetch,
                    counting,
                    is_numbered,
                    descending: index % 3 == 1,
                    nulls_first: index % 2 == 1,
                });
            }
        }
    }
    cases
}

#[test]
fn equals_sorting_under_changes() {
    for (index, case) in cases().into_iter().enumerate() {
        for seed in 0..4 {
            let mut bench = case.bench(false);
            println!("{case:?}");
            check(seed * 100 + index as u64, &mut bench, false, |bags| {
                case.reference(&bags[0])
            });
        }
    }
}

#[test]
fn equals_sorting_on_append_only_input_and_forgets() {
    for (index, case) in cases().into_iter().enumerate() {
        for seed in 0..2 {
            let mut bench = case.bench(true);
            println!("{case:?}");
            check(seed * 100 + index as u64, &mut bench, true, |bags| {
                case.reference(&bags[0])
            });
            let groups = if case.is_grouped { 4 } else { 1 };
            if let (Counting::Rows, Some(fetch)) = (case.counting, case.fetch) {
                let most = groups * (case.skip + fetch) as usize;
                assert!(
                    bench.stored(0) <= most,
                    "{case:?} keeps {}",
                    bench.stored(0)
                );
            }
        }
    }
}

/// The reads around a cut follow the change, not the limit.
#[test]
fn one_change_of_many_emits_what_it_moves() {
    let case = Case {
        is_grouped: false,
        is_ordered: true,
        skip: 100,
        fetch: Some(500),
        counting: Counting::Rows,
        is_numbered: false,
        descending: false,
        nulls_first: false,
    };
    let row = |order: i64| -> Row {
        vec![
            ScalarValue::Int64(None),
            ScalarValue::from(order),
            ScalarValue::Float64(None),
            ScalarValue::from(""),
        ]
    };
    let mut bench = case.bench(false);
    let rows: Vec<Row> = (0..2000).map(row).collect();
    bench.epoch(vec![(0, crate::delta::Delta::insertions(batch_of(&rows)))]);
    assert_eq!(bench.emitted, 500);
    bench.epoch(vec![(
        0,
        crate::delta::Delta::insertions(batch_of(&[row(-1)])),
    )]);
    assert_eq!(
        bench.emitted, 2,
        "one comes in at the start, one goes at the end"
    );
    bench.epoch(vec![(
        0,
        crate::delta::Delta::retractions(batch_of(&[row(-1), row(700)])),
    )]);
    assert_eq!(bench.emitted, 2);
    bench.epoch(vec![(
        0,
        crate::delta::Delta::retractions(batch_of(&[row(1500)])),
    )]);
    assert_eq!(bench.emitted, 0);
}
