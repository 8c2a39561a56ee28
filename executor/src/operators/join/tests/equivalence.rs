//! The property of engine.md §2: for random input with retractions, in any split into epochs and deltas, with restarts
//! and failed epochs in between, the accumulated output equals a nested loop over the rows that are left.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rivermark_planner::plan::JoinKind;

use super::bench::{Bench, Case, Condition, Piece, Row};

const KINDS: [JoinKind; 8] = [
    JoinKind::Inner,
    JoinKind::Left,
    JoinKind::Right,
    JoinKind::Full,
    JoinKind::Semi,
    JoinKind::Anti,
    JoinKind::NotIn,
    JoinKind::Mark,
];

const KEYS: [&[(usize, bool)]; 5] = [
    &[(0, false)],
    &[(0, false), (1, false)],
    &[(0, true)],
    &[(0, false), (1, true)],
    &[],
];

fn random_row(rng: &mut StdRng) -> Row {
    let pick = |rng: &mut StdRng, nulls: f64| !rng.random_bool(nulls);
    let floats = [0.0, -0.0, 1.5, f64::NAN];
    let texts = ["", "a", "a\0b"];
    Row {
        k: pick(rng, 0.1).then(|| rng.random_range(0..4)),
        f: pick(rng, 0.1).then(|| floats[rng.random_range(0..4)]),
        v: pick(rng, 0.2).then(|| rng.random_range(0..5)),
        s: pick(rng, 0.5).then(|| texts[rng.random_range(0..3)]),
    }
}

/// The rows that are left on one side.
#[derive(Default)]
struct Bag {
    rows: Vec<(Row, i64)>,
}

impl Bag {
    fn change(&mut self, rng: &mut StdRng) -> Vec<(Row, i64)> {
        let mut changes = Vec::new();
        for _ in 0..rng.random_range(0..12) {
            let row = random_row(rng);
            let weight = if rng.random_bool(0.8) { 1 } else { 3 };
            match self
                .rows
                .iter_mut()
                .find(|(known, _)| known.text() == row.text())
            {
                Some((_, known)) => *known += weight,
                None => self.rows.push((row.clone(), weight)),
            }
            changes.push((row, weight));
        }
        let is_purge = rng.random_bool(0.15);
        for (row, weight) in &mut self.rows {
            if rng.random_bool(if is_purge { 0.97 } else { 0.25 }) {
                let taken = if is_purge {
                    *weight
                } else {
                    rng.random_range(1..=*weight)
                };
                *weight -= taken;
                changes.push((row.clone(), -taken));
            }
        }
        self.rows.retain(|(_, weight)| *weight > 0);
        // what comes and goes within the epoch, in either order
        for _ in 0..rng.random_range(0..3) {
            let row = random_row(rng);
            changes.push((row.clone(), 2));
            changes.push((row.clone(), -1));
            changes.push((row, -1));
        }
        changes.shuffle(rng);
        changes
    }
}

fn keys_match(case: &Case, left: &Row, right: &Row) -> bool {
    case.keys.iter().all(|(index, matches_null)| {
        let same = |l: Option<f64>, r: Option<f64>| match (l, r) {
            (Some(l), Some(r)) => l == r || (l.is_nan() && r.is_nan()),
            (None, None) => *matches_null,
            _ => false,
        };
        match index {
            0 => same(left.k.map(|k| k as f64), right.k.map(|k| k as f64)),
            _ => same(left.f, right.f),
        }
    })
}

/// `None`: the condition fails.
fn condition(case: &Case, left: &Row, right: &Row) -> Option<bool> {
    let both = left.v.zip(right.v);
    match case.condition {
        Condition::None => Some(true),
        Condition::Less => Some(both.is_some_and(|(l, r)| l < r)),
        Condition::Quotient => match both {
            Some((l, r)) if l == r => None,
            Some((l, r)) => Some(100 / (l - r) > 20),
            None => Some(false),
        },
    }
}

/// The output over these rows, and how many pairs fail.
fn reference(bench: &Bench, case: &Case, bags: &[Bag; 2]) -> (BTreeMap<String, i64>, i64) {
    let mut output: BTreeMap<String, i64> = BTreeMap::new();
    let mut failed = 0;
    let mut add = |text: String, weight: i64| *output.entry(text).or_default() += weight;
    let matches = |left: &Row, right: &Row| {
        keys_match(case, left, right) && condition(case, left, right) == Some(true)
    };
    for (left, left_weight) in &bags[0].rows {
        for (right, right_weight) in &bags[1].rows {
            if keys_match(case, left, right) && condition(case, left, right).is_none() {
                failed += left_weight * right_weight;
            }
            if case.kind.is_pairing() && matches(left, right) {
                add(
                    bench.text(Some(left), Some(right), None),
                    left_weight * right_weight,
                );
            }
        }
        let is_matched = bags[1].rows.iter().any(|(right, _)| matches(left, right));
        let has_null = bags[1].rows.iter().any(|(right, _)| right.k.is_none());
        let shown = match case.kind {
            JoinKind::Inner | JoinKind::Right => None,
            JoinKind::Left | JoinKind::Full => {
                (!is_matched).then(|| bench.text(Some(left), None, None))
            }
            JoinKind::Semi => is_matched.then(|| bench.text(Some(left), None, None)),
            JoinKind::Anti => (!is_matched).then(|| bench.text(Some(left), None, None)),
            JoinKind::Mark => Some(bench.text(Some(left), None, Some(is_matched))),
            JoinKind::NotIn => {
                let passes =
                    bags[1].rows.is_empty() || !(is_matched || has_null || left.k.is_none());
                passes.then(|| bench.text(Some(left), None, None))
            }
        };
        if let Some(text) = shown {
            add(text, *left_weight);
        }
    }
    if matches!(case.kind, JoinKind::Right | JoinKind::Full) {
        for (right, weight) in &bags[1].rows {
            if !bags[0].rows.iter().any(|(left, _)| matches(left, right)) {
                add(bench.text(None, Some(right), None), *weight);
            }
        }
    }
    (output, failed)
}

/// The changes of both sides in pieces, in any order.
fn split(changes: [Vec<(Row, i64)>; 2], rng: &mut StdRng) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (side, mut rest) in changes.into_iter().enumerate() {
        while !rest.is_empty() {
            let size = rng.random_range(1..=rest.len());
            let later = rest.split_off(size);
            pieces.push((side, rest));
            rest = later;
        }
    }
    pieces.shuffle(rng);
    pieces
}

fn run(case: Case, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bench = Bench::new(case);
    let mut bags = [Bag::default(), Bag::default()];
    for epoch in 0..12 {
        let mut changes = [Vec::new(), Vec::new()];
        for side in [0, 1] {
            if rng.random_bool(0.7) {
                changes[side] = bags[side].change(&mut rng);
            }
        }
        if rng.random_bool(0.2) {
            let other = [
                vec![(random_row(&mut rng), 1)],
                vec![(random_row(&mut rng), 1)],
            ];
            bench.failed_epoch(&split(other, &mut rng));
        }
        if rng.random_bool(0.2) {
            bench.restart();
        }
        bench.epoch(&split(changes, &mut rng));
        let (expected, failed) = reference(&bench, &case, &bags);
        assert_eq!(bench.rows, expected, "{case:?}, seed {seed}, epoch {epoch}");
        let failures: i64 = bench.failures.values().sum();
        assert_eq!(failures, failed, "{case:?}, seed {seed}, epoch {epoch}");
    }
    // Everything goes: nothing may stay behind.
    let last = [0, 1].map(|side: usize| {
        let rows = std::mem::take(&mut bags[side].rows);
        rows.into_iter()
            .map(|(row, weight)| (row, -weight))
            .collect()
    });
    bench.epoch(&split(last, &mut rng));
    assert!(
        bench.rows.is_empty() && bench.failures.is_empty(),
        "{case:?}, seed {seed}"
    );
    assert_eq!(bench.stored(), [0, 0, 0], "{case:?}, seed {seed}");
}

#[test]
fn incremental_is_batch() {
    for kind in KINDS {
        for keys in KEYS {
            for condition in [Condition::None, Condition::Less, Condition::Quotient] {
                let is_membership = keys.len() == 1 && !keys[0].1 && condition == Condition::None;
                if kind == JoinKind::NotIn && !is_membership {
                    continue;
                }
                let case = Case {
                    kind,
                    keys,
                    condition,
                };
                let runs = if kind == JoinKind::NotIn { 16 } else { 2 };
                for seed in 0..runs {
                    run(case, seed);
                }
            }
        }
    }
}
