//! Joins `FOR SYSTEM_TIME AS OF PROCTIME()` against a plain computation in the order in which epochs come: for random rows of
//! the left and random changes of the right, any split of an epoch's work, and restarts, each row of the left has met, once,
//! what the right was at the end of its epoch, and nothing of that changes later.

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::Watermarks;
use super::cleaning_tests::{Bench, Row, Running, catalog_with, delta, planned};
use crate::dataflow::{InputPart, ScanInput, ViewInputs};
use crate::delta::Delta;

const STREAMS: usize = 60;
const EPOCHS: usize = 14;

/// Rows, as often as they are there.
type Bag = BTreeMap<Row, i64>;
/// Rows of the view, as often as they are there.
type Counted = BTreeMap<Vec<Option<i64>>, i64>;

#[derive(Debug, Clone, Copy)]
struct Join {
    keeps_left: bool,
    has_condition: bool,
}

impl Join {
    fn sql(&self) -> String {
        let left = if self.keeps_left { "LEFT" } else { "" };
        let condition = if self.has_condition {
            "AND b.v <> a.v"
        } else {
            ""
        };
        format!(
            "SELECT a.k, a.v, b.k AS bk, b.v AS bv FROM t AS a \
             {left} JOIN u FOR SYSTEM_TIME AS OF PROCTIME() AS b ON a.k = b.k {condition}"
        )
    }

    /// Adds what a row of the left gets.
    fn meet(&self, row: Row, right: &Bag, expected: &mut Counted) {
        let matches = right
            .iter()
            .filter(|(b, _)| b.0 == row.0 && (!self.has_condition || b.2 != row.2));
        let mut is_matched = false;
        for (other, weight) in matches {
            is_matched = true;
            let values = [row.0, row.2, other.0, other.2].map(Some).to_vec();
            *expected.entry(values).or_default() += weight;
        }
        if self.keeps_left && !is_matched {
            let values = vec![Some(row.0), Some(row.2), None, None];
            *expected.entry(values).or_default() += 1;
        }
    }
}

fn shown(view: &Running) -> Counted {
    let number = |value: &ScalarValue| match value {
        ScalarValue::Int64(value) => *value,
        other => panic!("{other:?}"),
    };
    let rows = view.sum.values();
    rows.map(|(values, weight)| (values.iter().map(number).collect(), *weight))
        .collect()
}

fn random_row(rng: &mut StdRng) -> Row {
    (rng.random_range(0..4), Some(0), rng.random_range(0..3))
}

/// Changes, in parts. `comes_only`: nothing goes.
fn changes(bag: &mut Bag, comes_only: bool, rng: &mut StdRng) -> Vec<Vec<(Row, i64)>> {
    let mut parts = vec![Vec::new(); rng.random_range(1..4)];
    // What comes does not go in the same epoch, in which it might go first.
    let mut stored = bag.clone();
    for _ in 0..rng.random_range(0..6) {
        let goes = !comes_only && rng.random_bool(0.5);
        let gone = goes.then(|| stored.keys().copied().choose(rng)).flatten();
        let (row, weight) = match gone {
            Some(row) => (row, -1),
            None => (random_row(rng), 1),
        };
        if weight < 0 {
            *stored.entry(row).or_default() -= 1;
            stored.retain(|_, weight| *weight != 0);
        }
        *bag.entry(row).or_default() += weight;
        bag.retain(|_, weight| *weight != 0);
        let part = rng.random_range(0..parts.len());
        parts[part].push((row, weight));
    }
    parts
}

#[test]
fn a_row_meets_what_is_there_when_it_comes() {
    let (catalog, tables) = catalog_with([true, false]);
    let mut bench = Bench::new();
    let mut rng = StdRng::seed_from_u64(20_261_127);
    let mut seen = 0;
    for (keeps_left, has_condition) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let join = Join {
            keeps_left,
            has_condition,
        };
        let plan = planned(&catalog, &join.sql(), false);
        for stream in 0..STREAMS {
            let mut view = bench.view(plan.clone());
            let mut right = Bag::new();
            let mut expected = Counted::new();
            for epoch in 0..EPOCHS {
                // Work is done at the end of an epoch's input, or as soon as something comes.
                bench.held_limit = if rng.random_bool(0.5) { 0 } else { usize::MAX };
                let mut came = Bag::new();
                let parts = [
                    changes(&mut came, true, &mut rng),
                    changes(&mut right, false, &mut rng),
                ];
                let mut inputs = ViewInputs::new();
                for (table, parts) in tables.iter().zip(parts) {
                    let columns = view.dataflow.scan_columns()[table].clone();
                    let part = |rows: Vec<(Row, i64)>| {
                        let (rows, weights): (Vec<Row>, Vec<i64>) = rows.into_iter().unzip();
                        let rows = delta(&rows, &columns);
                        InputPart::Delta(Delta::new(rows.batch().clone(), Some(weights.into())))
                    };
                    let input = ScanInput {
                        parts: parts.into_iter().map(part).collect(),
                        is_live: false,
                        watermarks: Watermarks::default(),
                    };
                    inputs.insert(*table, input);
                }
                bench.run_inputs(&mut view, &inputs);
                for (row, weight) in came {
                    (0..weight).for_each(|_| join.meet(row, &right, &mut expected));
                }
                let label = format!("{join:?}, stream {stream}, epoch {epoch}");
                assert_eq!(shown(&view), expected, "{label}");
                if rng.random_bool(0.2) {
                    bench.restart(&mut view);
                }
            }
            seen += expected.len();
        }
    }
    assert!(seen > 2000, "too little was joined: {seen}");
}
