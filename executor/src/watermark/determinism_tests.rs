//! What `EMIT ON WINDOW CLOSE` gives of sessions, window functions, interval joins and first rows, against plain computations:
//! for random streams that are out of order and partly late, any split into epochs and deltas, and restarts, it has given, after
//! each epoch, what the watermark makes final of the rows that were not late, each once; and in the end what a query over all of
//! them gives. (Aggregates of windows: `tests.rs`.)

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cleaning_tests::{Bench, Input, Row, Running, catalog, planned};

/// Each kind of view is tried with so many definitions, and each definition with so many streams.
const PLANS: usize = 40;
const STREAMS: usize = 25;

/// Later than everything.
const END: i64 = 1_000_000;

/// A row of an input that has a time: key, time, value.
type Timed = (i64, i64, i64);

/// A row of a view, and from which watermark on it is final.
type Final = (Vec<Option<i64>>, i64);

#[derive(Debug, Clone, Copy)]
enum View {
    Sessions {
        gap: i64,
    },
    Over {
        size: i64,
    },
    Near {
        keeps_left: bool,
        keeps_right: bool,
        before: i64,
        after: i64,
    },
    First {
        size: i64,
    },
}

impl View {
    fn random(kind: usize, rng: &mut StdRng) -> View {
        match kind {
            0 => View::Sessions {
                gap: rng.random_range(1..8),
            },
            1 => View::Over {
                size: rng.random_range(1..12),
            },
            2 => View::Near {
                keeps_left: rng.random(),
                keeps_right: rng.random(),
                before: rng.random_range(0..6),
                after: rng.random_range(0..6),
            },
            _ => View::First {
                size: rng.random_range(1..12),
            },
        }
    }

    fn sql(&self) -> String {
        let us = |us: i64| format!("INTERVAL '{us} microseconds'");
        match *self {
            View::Sessions { gap } => format!(
                "SELECT k, window_start, window_end, count(*) AS n, sum(v)::BIGINT AS s \
                 FROM SESSION(t, ts, {} PARTITION BY k) GROUP BY 1, 2, 3",
                us(gap)
            ),
            View::Over { size } => format!(
                "SELECT k, ts, v, window_start, \
                 (sum(v) OVER (PARTITION BY k, window_start ORDER BY ts, v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW))::BIGINT \
                 AS x FROM TUMBLE(t, ts, {})",
                us(size)
            ),
            View::Near {
                keeps_left,
                keeps_right,
                before,
                after,
            } => format!(
                "SELECT {} AS time, a.k, a.ts, a.v, b.ts AS bts, b.v AS bv, b.k AS bk FROM t AS a {} JOIN u AS b \
                 ON a.k = b.k AND b.ts BETWEEN a.ts - {} AND a.ts + {}",
                match (keeps_left, keeps_right) {
                    (_, false) => "a.ts",
                    (false, true) => "b.ts",
                    (true, true) => "coalesce(a.ts, b.ts)",
                },
                match (keeps_left, keeps_right) {
                    (false, false) => "INNER",
                    (true, false) => "LEFT",
                    (false, true) => "RIGHT",
                    (true, true) => "FULL",
                },
                us(before),
                us(after)
            ),
            View::First { size } => format!(
                "SELECT DISTINCT ON (k, window_start) k, window_start, ts, v FROM TUMBLE(t, ts, {}) \
                 ORDER BY k, window_start, ts, v",
                us(size)
            ),
        }
    }

    /// The watermark that counts.
    fn bound(&self, [of_t, of_u]: [Option<i64>; 2]) -> Option<i64> {
        match *self {
            View::Near {
                keeps_left,
                keeps_right,
                before,
                after,
            } => {
                let of_left = of_t?.min(of_u? - after);
                let of_right = of_u?.min(of_t? - before);
                Some(match (keeps_left, keeps_right) {
                    (_, false) => of_left,
                    (false, true) => of_right,
                    (true, true) => of_left.min(of_right),
                })
            }
            _ => of_t,
        }
    }

    /// What a query over all rows gives.
    fn rows(&self, t: &[Row], u: &[Row]) -> Vec<Final> {
        let timed = |rows: &[Row]| -> Vec<Timed> {
            let mut timed: Vec<_> = rows
                .iter()
                .filter_map(|(k, ts, v)| Some((*k, (*ts)?, *v)))
                .collect();
            timed.sort_unstable();
            timed
        };
        let (t, u) = (timed(t), timed(u));
        match *self {
            View::Sessions { gap } => t
                .chunk_by(|a, b| a.0 == b.0 && b.1 - a.1 < gap)
                .map(|rows| {
                    let end = rows[rows.len() - 1].1 + gap;
                    let sum: i64 = rows.iter().map(|row| row.2).sum();
                    let row = [rows[0].0, rows[0].1, end, rows.len() as i64, sum];
                    (row.map(Some).to_vec(), end)
                })
                .collect(),
            View::Over { size } => t
                .iter()
                .enumerate()
                .map(|(at, &(k, ts, v))| {
                    let start = ts.div_euclid(size) * size;
                    let before = at.checked_sub(1).map(|at| t[at]);
                    let before = before.filter(|row| row.0 == k && row.1 >= start);
                    let sum = v + before.map_or(0, |row| row.2);
                    ([k, ts, v, start, sum].map(Some).to_vec(), start + size)
                })
                .collect(),
            View::Near {
                keeps_left,
                keeps_right,
                before,
                after,
            } => {
                let matches = |a: &Timed, b: &Timed| {
                    a.0 == b.0 && (a.1 - before..=a.1 + after).contains(&b.1)
                };
                let mut rows = Vec::new();
                let mut push = |a: Option<&Timed>, b: Option<&Timed>| {
                    let time = match keeps_left || !keeps_right {
                        true => a.or(b),
                        false => b,
                    };
                    let time = time.map(|row| row.1);
                    let [k, ts, v] = [a.map(|a| a.0), a.map(|a| a.1), a.map(|a| a.2)];
                    let [bk, bts, bv] = [b.map(|b| b.0), b.map(|b| b.1), b.map(|b| b.2)];
                    rows.extend(time.map(|at| (vec![time, k, ts, v, bts, bv, bk], at + 1)));
                };
                for a in &t {
                    u.iter()
                        .filter(|b| matches(a, b))
                        .for_each(|b| push(Some(a), Some(b)));
                    if keeps_left && !u.iter().any(|b| matches(a, b)) {
                        push(Some(a), None);
                    }
                }
                for b in u.iter().filter(|b| !t.iter().any(|a| matches(a, b))) {
                    if keeps_right {
                        push(None, Some(b));
                    }
                }
                rows
            }
            View::First { size } => {
                let start = |ts: i64| ts.div_euclid(size) * size;
                t.chunk_by(|a, b| a.0 == b.0 && start(a.1) == start(b.1))
                    .map(|rows| {
                        let (k, ts, v) = rows[0];
                        ([k, start(ts), ts, v].map(Some).to_vec(), start(ts) + size)
                    })
                    .collect()
            }
        }
    }
}

/// Rows as often as they are there.
type Counted = BTreeMap<Vec<Option<i64>>, i64>;

fn shown(view: &Running) -> Counted {
    let number = |value: &ScalarValue| match value {
        ScalarValue::Int64(value) | ScalarValue::TimestampMicrosecond(value, _) => *value,
        other => panic!("{other:?}"),
    };
    let rows = view.sum.values();
    rows.map(|(values, weight)| (values.iter().map(number).collect(), *weight))
        .collect()
}

/// A random partition: out of order, and now and then late.
struct Stream {
    clock: i64,
    delay: i64,
    bound: Option<i64>,
    kept: Vec<Row>,
}

impl Stream {
    /// The rows of an epoch that are not late, in parts, and how many were.
    fn rows(&mut self, rng: &mut StdRng) -> (Vec<Vec<Row>>, usize) {
        let mut parts = vec![Vec::new(); rng.random_range(1..4)];
        let mut late = 0;
        for _ in 0..rng.random_range(0..9) {
            self.clock += rng.random_range(0..4);
            let time = self.clock - rng.random_range(0..=self.delay + 2);
            let time = (!rng.random_bool(0.03)).then_some(time);
            if time.is_some() && time < self.bound {
                late += 1;
                continue;
            }
            self.bound = self.bound.max(time.map(|time| time - self.delay));
            let row = (rng.random_range(0..3), time, rng.random_range(-2..3));
            self.kept.push(row);
            let part = rng.random_range(0..parts.len());
            parts[part].push(row);
        }
        (parts, late)
    }
}

#[test]
fn what_closes_is_what_is_computed_plainly() {
    let seed = std::env::var("RIVERMARK_SEED").ok();
    let seed = seed
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_127);
    println!("RIVERMARK_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (catalog, tables) = catalog();
    let mut bench = Bench::new();
    for kind in 0..4 {
        let mut seen = [0; 3];
        for _ in 0..PLANS {
            let view = View::random(kind, &mut rng);
            let plan = planned(&catalog, &view.sql(), true);
            for stream in 0..STREAMS {
                let mut running = bench.view(plan.clone());
                let mut streams = [0, 1].map(|_| Stream {
                    clock: rng.random_range(-30..30),
                    delay: rng.random_range(0..8),
                    bound: None,
                    kept: Vec::new(),
                });
                let epochs = rng.random_range(3..9);
                for epoch in 0..=epochs {
                    let is_end = epoch == epochs;
                    let mut input: Vec<Input> = Vec::new();
                    for (table, stream) in tables.iter().zip(&mut streams) {
                        let (parts, late) = match is_end {
                            true => (Vec::new(), 0),
                            false => stream.rows(&mut rng),
                        };
                        seen[0] += late;
                        let mark = if is_end { Some(END) } else { stream.bound };
                        input.push((*table, parts, mark));
                    }
                    let bound = view.bound([input[0].2, input[1].2]);
                    bench.run(&mut running, &input);
                    let mut expected = Counted::new();
                    let rows = view.rows(&streams[0].kept, &streams[1].kept);
                    for (row, _) in rows.into_iter().filter(|(_, due)| Some(*due) <= bound) {
                        *expected.entry(row).or_default() += 1;
                        seen[1] += 1;
                    }
                    let label = format!("{view:?}, stream {stream}, epoch {epoch} of {epochs}");
                    assert_eq!(shown(&running), expected, "{label}, bound {bound:?}");
                    if rng.random_bool(0.2) {
                        bench.restart(&mut running);
                        seen[2] += 1;
                    }
                }
            }
        }
        println!("kind {kind}: late rows, final rows, restarts: {seen:?}");
        assert!(seen.iter().all(|n| *n >= 500), "came too seldom: {seen:?}");
    }
}
