//! Groups above a condition on `now()`, against a plain computation: rows that come by time in the very epoch in which they
//! are taken back or replaced, with the groups computed at the end of an epoch's input or as soon as something comes.

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::Watermarks;
use super::cleaning_tests::{Bench, Row, Running, catalog_with, delta, planned};
use crate::dataflow::{InputPart, ScanInput, ViewInputs};
use crate::delta::Delta;

const STREAMS: usize = 40;
const EPOCHS: i64 = 20;
/// Between two epochs.
const STEP_US: i64 = 10;
/// Rows are shown for so long.
const LENGTH_US: i64 = 40;

/// By key: count, sum, least.
type Groups = BTreeMap<i64, [i64; 3]>;

fn shown(view: &Running) -> Groups {
    let number = |value: &ScalarValue| match value {
        ScalarValue::Int64(Some(value)) => *value,
        ScalarValue::Decimal128(Some(value), _, 0) => *value as i64,
        other => panic!("{other:?}"),
    };
    let group = |(values, weight): &(Vec<ScalarValue>, i64)| {
        assert_eq!(*weight, 1);
        let values: Vec<i64> = values.iter().map(number).collect();
        (values[0], [values[1], values[2], values[3]])
    };
    view.sum.values().map(group).collect()
}

fn expected(stored: &BTreeMap<Row, i64>, now: i64) -> Groups {
    let mut groups = Groups::new();
    let is_shown = |ts: i64| ts <= now && ts > now - LENGTH_US;
    for ((k, ts, v), weight) in stored {
        if !ts.is_some_and(is_shown) {
            continue;
        }
        let group = groups.entry(*k).or_insert([0, 0, i64::MAX]);
        *group = [group[0] + weight, group[1] + weight * v, group[2].min(*v)];
    }
    groups
}

#[test]
fn rows_come_by_time_before_they_are_taken_back() {
    let (catalog, [_, table]) = catalog_with([true, false]);
    let sql = format!(
        "SELECT k, count(*) AS n, sum(v) AS s, min(v) AS least FROM u \
         WHERE ts <= now() AND ts > now() - INTERVAL '{LENGTH_US} microseconds' GROUP BY k"
    );
    let plan = planned(&catalog, &sql, false);
    let mut bench = Bench::new();
    let mut rng = StdRng::seed_from_u64(20_261_128);
    let mut seen = 0;
    for stream in 0..STREAMS {
        let mut view = bench.view(plan.clone());
        let mut stored: BTreeMap<Row, i64> = BTreeMap::new();
        for epoch in 0..EPOCHS {
            bench.held_limit = if rng.random_bool(0.5) { 0 } else { usize::MAX };
            bench.now_us = epoch * STEP_US;
            let mut rows: Vec<(Row, i64)> = Vec::new();
            for _ in 0..rng.random_range(0..4) {
                // Of what is there already: what comes in an epoch does not go in it.
                if let Some(row) = stored.keys().copied().choose(&mut rng) {
                    *stored.entry(row).or_default() -= 1;
                    stored.retain(|_, weight| *weight != 0);
                    rows.push((row, -1));
                }
            }
            for _ in 0..rng.random_range(0..6) {
                let ts = bench.now_us + rng.random_range(-60..60);
                let row = (rng.random_range(0..3), Some(ts), rng.random_range(-5..5));
                rows.push((row, 1));
            }
            for (row, weight) in rows.iter().filter(|(_, weight)| *weight > 0) {
                *stored.entry(*row).or_default() += weight;
            }
            let columns = view.dataflow.scan_columns()[&table].clone();
            // Deletions first, as a statement's come.
            let parts = rows.chunks(rng.random_range(1..4)).map(|rows| {
                let (rows, weights): (Vec<Row>, Vec<i64>) = rows.iter().copied().unzip();
                let rows = delta(&rows, &columns);
                InputPart::Delta(Delta::new(rows.batch().clone(), Some(weights.into())))
            });
            let input = ScanInput {
                parts: parts.collect(),
                is_live: false,
                watermarks: Watermarks::default(),
            };
            bench.run_inputs(&mut view, &ViewInputs::from([(table, input)]));
            let expected = expected(&stored, bench.now_us);
            assert_eq!(shown(&view), expected, "stream {stream}, epoch {epoch}");
            seen += expected.len();
            if rng.random_bool(0.2) {
                bench.restart(&mut view);
            }
        }
    }
    assert!(seen > 1000, "too little was shown: {seen}");
}
