//! Aggregates of panes against the same aggregates of rows that are copied into each of their windows: for random streams
//! that are out of order, any split into epochs and deltas, and restarts, both give the same rows in the same epoch, drop as
//! many late rows, and what they have given is what a view says that is never told a watermark.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_planner::plan::{PlanNode, PlanOp};

use super::cleaning_tests::{Bench, Row, Running, SECOND, Sum, assert_same, catalog, planned};

const STREAMS: u64 = 6;
const EPOCHS: usize = 24;

/// Slide, size and offset of windows, in seconds.
const WINDOWS: [(i64, i64, i64); 6] = [
    (2, 6, 0),
    (2, 7, 1),
    (3, 3, 0),
    (5, 2, 0),
    (1, 10, 0),
    (4, 13, 3),
];

/// Calls whose states can be merged, of all kinds of states.
const CALLS: &str = "count(*) AS c1, count(v) AS c2, sum(v)::BIGINT AS c3, min(v) AS c4, max(x) AS c5, avg(x) AS c6, \
    stddev(x) AS c7, var_pop(v) AS c8, bool_and(v > 0) AS c9, bool_or(v > 1) AS c10, bit_and(v) AS c11, bit_or(v) AS c12, \
    bit_xor(v) AS c13, corr(x, v) AS c14, sum(x) FILTER (WHERE v <> 1) AS c15, count(*) FILTER (WHERE v IS NULL) AS c16, \
    max(CASE WHEN v = 0 THEN 'zero' ELSE 'more' END) AS c17, first_value(v ORDER BY ts, v) AS c18, \
    approx_distinct(v) AS c19, sum(v::numeric(10, 2)) AS c20";

fn query(windows: (i64, i64, i64), keys: &str, calls: &str) -> String {
    let (slide, size, offset) = windows;
    let seconds = |n: i64| format!("INTERVAL '{n} seconds'");
    let from =
        "(SELECT k, ts, v, v::DOUBLE PRECISION / 8 + 0.1 AS x FROM t WHERE v IS NOT NULL OR k > 0)";
    format!(
        "SELECT {keys}, {calls} FROM HOP({from}, ts, {}, {}, {}) GROUP BY {keys}",
        seconds(slide),
        seconds(size),
        seconds(offset)
    )
}

fn has_panes(node: &PlanNode) -> bool {
    matches!(node.op, PlanOp::Panes { .. }) || node.inputs.iter().any(has_panes)
}

/// The rows without their last column.
fn without_last(sum: &Sum) -> Sum {
    let rows = sum.values().map(|(values, weight)| {
        let values = values[..values.len() - 1].to_vec();
        (format!("{values:?}"), (values, *weight))
    });
    rows.collect()
}

fn dropped(view: &mut Running) -> u64 {
    let reports = view.dataflow.report();
    reports.iter().map(|report| report.stats.dropped).sum()
}

/// Rows of an epoch in parts, late ones among them, and the watermark after it.
fn rows(rng: &mut StdRng, clock: &mut i64, lateness: i64) -> (Vec<Vec<Row>>, i64) {
    let mut parts = vec![Vec::new(); rng.random_range(1..4)];
    let jump = rng.random_bool(0.05);
    *clock += if jump { 500 * SECOND } else { 0 };
    for _ in 0..rng.random_range(0..9) {
        *clock += rng.random_range(0..SECOND);
        let time = *clock - rng.random_range(0..=lateness);
        let time = match rng.random_bool(0.5) {
            true => time.div_euclid(SECOND) * SECOND,
            false => time,
        };
        let part = rng.random_range(0..parts.len());
        let time = (!rng.random_bool(0.03)).then_some(time);
        parts[part].push((rng.random_range(0..6), time, rng.random_range(0..3)));
    }
    (parts, *clock - 2 * SECOND)
}

#[test]
fn panes_are_the_rows_in_all_their_windows() {
    let (catalog, [table, _]) = catalog();
    let mut bench = Bench::new();
    let (mut given, mut late) = (0, 0);
    for (number, windows) in WINDOWS.into_iter().enumerate() {
        for keys in [
            "k, window_start",
            "window_end",
            "window_end, k % 4, window_start",
        ] {
            let panes = planned(&catalog, &query(windows, keys, CALLS), true);
            assert!(has_panes(&panes), "{windows:?} {keys}");
            // What has no state that can be merged keeps all from being panes.
            let calls = format!("{CALLS}, count(DISTINCT v) AS d");
            let copies = planned(&catalog, &query(windows, keys, &calls), true);
            assert!(!has_panes(&copies), "{windows:?} {keys}");
            let plain = planned(&catalog, &query(windows, keys, CALLS), false);
            for seed in 0..STREAMS {
                let mut rng = StdRng::seed_from_u64(100 * number as u64 + seed);
                // With little lateness no row is late.
                let lateness = if seed % 2 == 0 { SECOND } else { 9 * SECOND };
                let mut clock = rng.random_range(-20 * SECOND..20 * SECOND);
                let mut views = [&panes, &copies, &plain].map(|plan| bench.view(plan.clone()));
                let mut counts = [0; 2];
                for epoch in 0..EPOCHS {
                    let (parts, mut mark) = rows(&mut rng, &mut clock, lateness);
                    let parts = if epoch + 2 < EPOCHS {
                        parts
                    } else {
                        Vec::new()
                    };
                    if epoch + 2 >= EPOCHS {
                        mark = 1_000_000 * SECOND + epoch as i64;
                    }
                    let [panes, copies, plain] = &mut views;
                    bench.run(panes, &[(table, parts.clone(), Some(mark))]);
                    bench.run(copies, &[(table, parts.clone(), Some(mark))]);
                    bench.run(plain, &[(table, parts, None)]);
                    let label = format!("{windows:?} by {keys}, seed {seed}, epoch {epoch}");
                    assert_same(&panes.sum, &without_last(&copies.sum), &label);
                    let now = [dropped(panes), dropped(copies)];
                    assert_eq!(now[0] - counts[0], now[1] - counts[1], "dropped: {label}");
                    late += now[0] - counts[0];
                    counts = now;
                    if rng.random_bool(0.2) {
                        bench.restart(panes);
                        bench.restart(copies);
                        counts = [0; 2];
                    }
                }
                let [panes, _, plain] = &mut views;
                if lateness == SECOND {
                    assert_same(&panes.sum, &plain.sum, "in the end");
                }
                assert!(
                    bench.stored(panes) <= 4,
                    "{} keys are left",
                    bench.stored(panes)
                );
                given += panes.sum.len();
            }
        }
    }
    assert!(given > 5_000 && late > 500, "given {given}, late {late}");
}

/// One row costs one entry, whatever the number of its windows.
#[test]
fn a_row_is_kept_once() {
    let (catalog, [table, _]) = catalog();
    let mut bench = Bench::new();
    let mut stored = BTreeMap::new();
    for calls in ["count(*) AS n", "count(DISTINCT v) AS n"] {
        let plan = planned(&catalog, &query((1, 60, 0), "window_start", calls), true);
        let mut view = bench.view(plan);
        bench.run(&mut view, &[(table, vec![vec![(1, Some(0), 1)]], None)]);
        stored.insert(calls, bench.stored(&view));
    }
    assert_eq!(stored["count(*) AS n"], 1);
    assert!(stored["count(DISTINCT v) AS n"] >= 120);
}
