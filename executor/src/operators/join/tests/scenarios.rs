//! Single properties: nothing is said when nothing changes, what is kept, and that a mistake upstream is noticed.

use rivermark_planner::plan::JoinKind;

use super::bench::{Bench, Case, Condition, Piece, Row};

fn case(kind: JoinKind, condition: Condition) -> Case {
    Case {
        kind,
        keys: &[(0, false)],
        condition,
    }
}

fn left(rows: &[(Row, i64)]) -> Piece {
    (0, rows.to_vec())
}

fn right(rows: &[(Row, i64)]) -> Piece {
    (1, rows.to_vec())
}

#[test]
fn what_changes_nothing_says_nothing() {
    let (a, b, c) = (
        Row::of(Some(1), 1),
        Row::of(Some(1), 2),
        Row::of(Some(1), 3),
    );
    for kind in [JoinKind::Semi, JoinKind::Anti, JoinKind::Mark] {
        let mut bench = Bench::new(case(kind, Condition::None));
        bench.epoch(&[left(&[(a.clone(), 1)]), right(&[(b.clone(), 1)])]);
        // a second match, and the first one going
        assert!(
            bench.epoch(&[right(&[(c.clone(), 1)])]).is_empty(),
            "{kind:?}"
        );
        assert!(
            bench.epoch(&[right(&[(b.clone(), -1)])]).is_empty(),
            "{kind:?}"
        );
        assert!(
            !bench.epoch(&[right(&[(c.clone(), -1)])]).is_empty(),
            "{kind:?}"
        );
    }
    let mut bench = Bench::new(case(JoinKind::Left, Condition::Less));
    bench.epoch(&[left(&[(b.clone(), 1)])]);
    assert!(
        bench.epoch(&[right(&[(a.clone(), 1)])]).is_empty(),
        "2 < 1 is false"
    );
    let swap = [right(&[
        (a.clone(), -1),
        (c.clone(), 1),
        (c.clone(), -1),
        (a.clone(), 1),
    ])];
    assert!(bench.epoch(&swap).is_empty());
}

#[test]
fn an_update_of_both_sides_is_said_once() {
    let (old, new) = (Row::of(Some(1), 1), Row::of(Some(1), 2));
    let mut bench = Bench::new(case(JoinKind::Full, Condition::None));
    bench.epoch(&[left(&[(old.clone(), 1)]), right(&[(old.clone(), 1)])]);
    let both = [(old.clone(), -1), (new.clone(), 1)];
    let changes = bench.epoch(&[left(&both), right(&both)]);
    let before = bench.text(Some(&old), Some(&old), None);
    let after = bench.text(Some(&new), Some(&new), None);
    assert_eq!(
        changes.into_iter().collect::<Vec<_>>(),
        [(before, -1), (after, 1)]
    );
}

/// Left rows, right rows, counts.
#[test]
fn only_what_is_needed_is_kept() {
    let rows = [
        (Row::of(Some(1), 1), 1),
        (Row::of(Some(1), 2), 1),
        (Row::of(None, 3), 1),
    ];
    for (kind, condition, expected) in [
        (JoinKind::Inner, Condition::None, [2, 2, 1]),
        (JoinKind::Full, Condition::None, [2, 2, 1]),
        (JoinKind::Semi, Condition::None, [2, 0, 1]),
        (JoinKind::Mark, Condition::Less, [2, 2, 1]),
        // NULLs are kept, and the totals
        (JoinKind::NotIn, Condition::None, [3, 0, 3]),
    ] {
        let mut bench = Bench::new(case(kind, condition));
        bench.epoch(&[left(&rows), right(&rows)]);
        assert_eq!(bench.stored(), expected, "{kind:?}");
    }
}

#[test]
fn one_key_with_many_rows() {
    let many: Vec<(Row, i64)> = (0..300).map(|v| (Row::of(Some(7), v), 1)).collect();
    let mut bench = Bench::new(case(JoinKind::Left, Condition::Less));
    bench.epoch(&[right(&many)]);
    let changes = bench.epoch(&[left(&[(Row::of(Some(7), 99), 2)])]);
    assert_eq!(changes.len(), 200);
    assert!(changes.values().all(|weight| *weight == 2));
    let few: Vec<(Row, i64)> = (100..300).map(|v| (Row::of(Some(7), v), -1)).collect();
    let changes = bench.epoch(&[right(&few)]);
    assert_eq!(changes.len(), 201, "the last match is gone");
}

#[test]
#[should_panic(expected = "retracted than there")]
fn a_retraction_of_nothing_is_an_error() {
    let mut bench = Bench::new(case(JoinKind::Inner, Condition::None));
    bench.epoch(&[left(&[(Row::of(Some(1), 1), -1)])]);
}
