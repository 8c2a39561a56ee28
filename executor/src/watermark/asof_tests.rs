//! `ASOF [LEFT] JOIN` against a plain computation: for random rows that come and go on both sides, in any order and split, and
//! restarts, each row of the left has, after each epoch, one of the rows of the right that are nearest to it. With watermarks
//! the same holds, whatever is forgotten, and `EMIT ON WINDOW CLOSE` gives what is final, once.

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rivermark_planner::plan::PlanNode;

use super::Watermarks;
use super::cleaning_tests::{
    Bench, Input, Row, Running, assert_same, catalog, catalog_of, delta, planned,
};
use crate::dataflow::{InputPart, ScanInput, ViewInputs};
use crate::delta::Delta;

const STREAMS: usize = 25;
const EPOCHS: usize = 12;

/// Rows, as often as they are there.
type Bag = BTreeMap<Row, i64>;

#[derive(Debug, Clone, Copy)]
struct Asof {
    keeps_left: bool,
    /// Of the right's time and the left's.
    comparison: &'static str,
    tolerance: Option<i64>,
}

impl Asof {
    fn all() -> Vec<Asof> {
        let mut all = Vec::new();
        for keeps_left in [false, true] {
            for comparison in ["<=", "<", ">=", ">"] {
                for tolerance in [None, Some(4)] {
                    all.push(Asof {
                        keeps_left,
                        comparison,
                        tolerance,
                    });
                }
            }
        }
        all
    }

    fn is_earlier(&self) -> bool {
        self.comparison.starts_with('<')
    }

    fn sql(&self) -> String {
        let left = if self.keeps_left { "LEFT" } else { "" };
        let tolerance = self.tolerance.map(|us| match self.is_earlier() {
            true => format!("AND b.ts > a.ts - INTERVAL '{us} microseconds'"),
            false => format!("AND b.ts < a.ts + INTERVAL '{us} microseconds'"),
        });
        format!(
            "SELECT a.k, a.ts, a.v, b.ts AS bts, b.v AS bv FROM t AS a ASOF {left} JOIN u AS b \
             ON a.k = b.k AND b.ts {} a.ts {}",
            self.comparison,
            tolerance.unwrap_or_default()
        )
    }

    /// The values of the nearest rows for a row of the left, and their time.
    fn nearest(&self, (k, ts, _): Row, right: &Bag) -> (Option<i64>, Vec<i64>) {
        let Some(ts) = ts else {
            return (None, Vec::new());
        };
        let fits = |time: i64| {
            let is_beyond = match self.comparison {
                "<=" => time <= ts,
                "<" => time < ts,
                ">=" => time >= ts,
                _ => time > ts,
            };
            is_beyond && self.tolerance.is_none_or(|most| (time - ts).abs() < most)
        };
        let rows = right
            .keys()
            .filter(|row| row.0 == k && row.1.is_some_and(fits));
        let times = rows.clone().filter_map(|row| row.1);
        let best = match self.is_earlier() {
            true => times.max(),
            false => times.min(),
        };
        let values = rows.filter(|row| row.1 == best).map(|row| row.2);
        (best, values.collect())
    }

    fn check(&self, view: &Running, [left, right]: &[Bag; 2], label: &str) {
        let number = |value: &ScalarValue| match value {
            ScalarValue::Int64(value) | ScalarValue::TimestampMicrosecond(value, _) => *value,
            other => panic!("{other:?}"),
        };
        let mut found = Bag::new();
        for (values, weight) in view.sum.values() {
            let values: Vec<Option<i64>> = values.iter().map(number).collect();
            let row = (values[0].unwrap(), values[1], values[2].unwrap());
            let (best, nearest) = self.nearest(row, right);
            let is_nearest = match values[4] {
                Some(value) => nearest.contains(&value) && values[3] == best,
                None => self.keeps_left && nearest.is_empty() && values[3].is_none(),
            };
            assert!(
                is_nearest,
                "{label}: {values:?}, nearest {best:?} {nearest:?}"
            );
            *found.entry(row).or_default() += weight;
        }
        let mut expected = left.clone();
        expected.retain(|row, _| self.keeps_left || !self.nearest(*row, right).1.is_empty());
        assert_eq!(found, expected, "{label}");
    }
}

/// Random changes of a side, in parts; a row of the left may have no time.
fn changes(bag: &mut Bag, rng: &mut StdRng) -> Vec<Vec<(Row, i64)>> {
    let mut parts = vec![Vec::new(); rng.random_range(1..4)];
    for _ in 0..rng.random_range(0..6) {
        let gone = match rng.random_bool(0.4) {
            true => bag.keys().copied().choose(rng),
            false => None,
        };
        let (row, weight) = match gone {
            Some(row) => (row, -1),
            None => {
                let time = (!rng.random_bool(0.05)).then(|| rng.random_range(0..20));
                ((rng.random_range(0..3), time, rng.random_range(0..4)), 1)
            }
        };
        *bag.entry(row).or_default() += weight;
        bag.retain(|_, weight| *weight != 0);
        let part = rng.random_range(0..parts.len());
        parts[part].push((row, weight));
    }
    parts
}

#[test]
fn the_nearest_row_is_joined() {
    let (catalog, tables) = catalog_of(false);
    let mut bench = Bench::new();
    let mut rng = StdRng::seed_from_u64(20_261_127);
    let mut matched = 0;
    for asof in Asof::all() {
        let plan = planned(&catalog, &asof.sql(), false);
        for stream in 0..STREAMS {
            let mut view = bench.view(plan.clone());
            let mut bags = [Bag::new(), Bag::new()];
            for epoch in 0..EPOCHS {
                let mut inputs = ViewInputs::new();
                for (table, bag) in tables.iter().zip(&mut bags) {
                    let columns = view.dataflow.scan_columns()[table].clone();
                    let part = |rows: Vec<(Row, i64)>| {
                        let (rows, weights): (Vec<Row>, Vec<i64>) = rows.into_iter().unzip();
                        let rows = delta(&rows, &columns);
                        let rows = Delta::new(rows.batch().clone(), Some(weights.into()));
                        InputPart::Delta(rows)
                    };
                    let parts = changes(bag, &mut rng).into_iter().map(part).collect();
                    let input = ScanInput {
                        parts,
                        is_live: false,
                        watermarks: Watermarks::default(),
                    };
                    inputs.insert(*table, input);
                }
                bench.run_inputs(&mut view, &inputs);
                let label = format!("{asof:?}, stream {stream}, epoch {epoch}");
                asof.check(&view, &bags, &label);
                matched += view.sum.len();
                if rng.random_bool(0.2) {
                    bench.restart(&mut view);
                }
            }
        }
    }
    assert!(matched > 10_000, "too little matched: {matched}");
}

/// Operators of a plan, by name.
fn has_operator(node: &PlanNode, name: &str) -> bool {
    node.op.name() == name || node.inputs.iter().any(|input| has_operator(input, name))
}

#[test]
fn other_rows_of_the_key_are_not_compared() {
    let (catalog, _) = catalog_of(false);
    for asof in Asof::all() {
        let plan = planned(&catalog, &asof.sql(), false);
        assert!(has_operator(&plan, "Nearest"), "{asof:?}");
    }
    let by_hand = "SELECT a.v, b.w FROM t AS a LEFT JOIN LATERAL \
        (SELECT u.v + 1 AS w FROM u WHERE a.ts >= u.ts AND a.k = u.k AND u.v > 0 ORDER BY u.ts DESC LIMIT 1) AS b ON true";
    assert!(has_operator(&planned(&catalog, by_hand, false), "Nearest"));
    // A condition that a nearer row may fail and one that is farther fulfil.
    let other = "SELECT a.v, b.v AS w FROM t AS a ASOF JOIN u AS b ON a.k = b.k AND b.ts <= a.ts AND b.v <> a.v";
    assert!(!has_operator(&planned(&catalog, other, false), "Nearest"));
}

/// Rows of one side that are out of order, but never late.
#[derive(Default)]
struct Partition {
    clock: i64,
    bound: Option<i64>,
    rows: Bag,
}

impl Partition {
    fn rows(&mut self, rng: &mut StdRng) -> Vec<Vec<Row>> {
        let mut parts = vec![Vec::new(); rng.random_range(1..4)];
        for _ in 0..rng.random_range(0..6) {
            self.clock += rng.random_range(0..4);
            let time = self.clock - rng.random_range(0..4);
            let time = time.max(self.bound.unwrap_or(time));
            self.bound = self.bound.max(Some(time - 3));
            let time = (!rng.random_bool(0.03)).then_some(time);
            let row = (rng.random_range(0..3), time, rng.random_range(0..4));
            *self.rows.entry(row).or_default() += 1;
            let part = rng.random_range(0..parts.len());
            parts[part].push(row);
        }
        parts
    }
}

#[test]
fn what_is_forgotten_is_not_nearest_to_anything() {
    let (catalog, tables) = catalog();
    let mut bench = Bench::new();
    let mut rng = StdRng::seed_from_u64(20_261_128);
    let (mut closed, mut most, mut left) = (0, 0, 0);
    for asof in Asof::all().into_iter().filter(Asof::is_earlier) {
        let plans = [false, true].map(|closes| planned(&catalog, &asof.sql(), closes));
        for stream in 0..STREAMS {
            let [mut view, mut closing] = plans.clone().map(|plan| bench.view(plan));
            let mut sides = [Partition::default(), Partition::default()];
            for epoch in 0..3 * EPOCHS {
                let mut input: Vec<Input> = Vec::new();
                for (table, side) in tables.iter().zip(&mut sides) {
                    input.push((*table, side.rows(&mut rng), side.bound));
                }
                bench.run(&mut view, &input);
                bench.run(&mut closing, &input);
                let label = format!("{asof:?}, stream {stream}, epoch {epoch}");
                let bags = [sides[0].rows.clone(), sides[1].rows.clone()];
                asof.check(&view, &bags, &label);
                let bound = sides[0].bound.zip(sides[1].bound);
                let bound = bound.map(|(of_left, of_right)| of_left.min(of_right));
                let mut expected = view.sum.clone();
                expected.retain(|_, (values, _)| {
                    let ScalarValue::TimestampMicrosecond(time, _) = values[1] else {
                        panic!("{:?}", values[1]);
                    };
                    time.is_some() && time < bound
                });
                assert_same(&closing.sum, &expected, &format!("closing {label}"));
                for view in [&mut view, &mut closing] {
                    if rng.random_bool(0.1) {
                        bench.restart(view);
                    }
                }
            }
            closed += closing.sum.len();
            most += sides.iter().map(|side| side.rows.len()).sum::<usize>();
            left += bench.stored(&view);
        }
    }
    assert!(closed > 5000, "too little closes: {closed}");
    // Rows without a time are kept, and what is not over yet, twice.
    assert!(left < most / 3, "{left} keys are left of {most} rows");
}
