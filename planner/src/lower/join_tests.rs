//! Plans of joins and subqueries.

use crate::explain::explain;
use crate::fixture::plan;
use crate::plan::{JoinKind, PlanNode, PlanOp};

fn joins(node: &PlanNode, found: &mut Vec<String>) {
    if let PlanOp::Join {
        kind,
        keys,
        residual,
        ..
    } = &node.op
    {
        let residual = if residual.is_some() { " where" } else { "" };
        found.push(format!("{} {}{residual}", kind.name(), keys.len()));
    }
    for input in &node.inputs {
        joins(input, found);
    }
}

/// The kinds of joins of a query, outermost first, each with its number of keys.
#[test]
fn kinds() {
    for (sql, expected) in [
        ("SELECT t.id FROM t JOIN log ON name = k", vec!["inner 1"]),
        (
            "SELECT t.id FROM t, log WHERE name = k AND a < v",
            vec!["inner 1 where"],
        ),
        (
            "SELECT t.id, v FROM t LEFT JOIN log ON name = k AND a > 1",
            vec!["left 1 where"],
        ),
        (
            "SELECT t.id, v FROM t RIGHT JOIN log ON name = k",
            vec!["right 1"],
        ),
        (
            "SELECT t.id, v FROM t FULL JOIN log ON name = k",
            vec!["full 1"],
        ),
        // a condition that no padded row fulfils
        (
            "SELECT t.id, v FROM t LEFT JOIN log ON name = k WHERE v > 1",
            vec!["inner 1"],
        ),
        (
            "SELECT id FROM t WHERE name IN (SELECT k FROM log)",
            vec!["semi 1"],
        ),
        (
            "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM log WHERE k = name)",
            vec!["anti 1"],
        ),
        (
            "SELECT id FROM t WHERE name NOT IN (SELECT k FROM log)",
            vec!["not in 1"],
        ),
        (
            "SELECT id FROM t WHERE 'x' NOT IN (SELECT k FROM log)",
            vec!["not in 1"],
        ),
        // neither side can be NULL
        (
            "SELECT id FROM t WHERE id NOT IN (SELECT id FROM t)",
            vec!["anti 1"],
        ),
        (
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM log)",
            vec!["semi 0"],
        ),
        (
            "SELECT id FROM t WHERE name IN (SELECT k FROM log) OR a = 1",
            vec!["mark 1"],
        ),
        (
            "SELECT id, name IN (SELECT k FROM log) AS found FROM t",
            vec!["mark 0", "mark 0", "mark 1"],
        ),
        (
            "SELECT id, EXISTS (SELECT 1 FROM log WHERE k = name) AS e FROM t",
            vec!["mark 1"],
        ),
        (
            "SELECT id FROM t WHERE a > (SELECT avg(v) FROM log)",
            vec!["inner 0 where"],
        ),
        (
            "SELECT id, (SELECT max(v) FROM log WHERE k = name) AS m FROM t",
            vec!["left 1"],
        ),
        (
            "SELECT id, (SELECT v FROM log WHERE k = name) AS m FROM t",
            vec!["left 1"],
        ),
        (
            "SELECT x.id FROM t AS x JOIN t AS y ON x.a IS NOT DISTINCT FROM y.b",
            vec!["inner 1"],
        ),
        (
            "SELECT x.id FROM t AS x JOIN t AS y ON x.a IS NOT DISTINCT FROM y.b AND x.b = y.a",
            vec!["inner 2"],
        ),
        (
            "SELECT x.id FROM t AS x, log, t AS y WHERE x.name = k AND y.name = k",
            vec!["inner 1", "inner 1"],
        ),
        (
            "SELECT id, m FROM t CROSS JOIN (SELECT max(v) AS m FROM log) AS x",
            vec!["inner 0"],
        ),
        (
            "SELECT id FROM t CROSS JOIN (SELECT max(v) AS m FROM log) AS x",
            vec!["inner 0"],
        ),
        (
            "SELECT count(*) AS n FROM t CROSS JOIN (VALUES (1)) AS x",
            vec!["inner 0"],
        ),
    ] {
        let planned = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut found = Vec::new();
        joins(&planned.plan.root, &mut found);
        assert_eq!(
            found,
            expected,
            "{sql}\n{}",
            explain(&planned.plan).join("\n")
        );
    }
}

#[test]
fn nulls_match_by_key() {
    let sql = "SELECT x.id FROM t AS x JOIN t AS y ON x.a IS NOT DISTINCT FROM y.b AND x.b = y.a";
    let planned = plan(sql).unwrap();
    let mut node = &planned.plan.root;
    while !matches!(node.op, PlanOp::Join { .. }) {
        node = &node.inputs[0];
    }
    let PlanOp::Join { kind, keys, .. } = &node.op else {
        unreachable!("the loop ends at a join");
    };
    assert_eq!(*kind, JoinKind::Inner);
    let mut matches_null: Vec<bool> = keys.iter().map(|key| key.matches_null).collect();
    matches_null.sort_unstable();
    assert_eq!(matches_null, [false, true]);
}

/// Stream keys (as column names), whether append-only.
#[test]
fn properties() {
    for (sql, expected, append_only) in [
        ("SELECT t.id, k, v FROM t JOIN log ON name = k", None, false),
        (
            "SELECT x.id, y.id AS other FROM t AS x JOIN t AS y ON x.a = y.a",
            Some("id other"),
            false,
        ),
        // the right row follows from the left one
        (
            "SELECT x.id, y.id AS other FROM t AS x JOIN t AS y ON x.a = y.id",
            Some("id"),
            false,
        ),
        (
            "SELECT x.id, y.id AS other FROM t AS x LEFT JOIN t AS y ON x.a = y.id",
            Some("id"),
            false,
        ),
        (
            "SELECT x.id, y.id AS other FROM t AS x RIGHT JOIN t AS y ON x.a = y.id",
            Some("id other"),
            false,
        ),
        (
            "SELECT id FROM t WHERE name IN (SELECT k FROM log)",
            Some("id"),
            false,
        ),
        (
            "SELECT x.device_id FROM readings AS x JOIN readings AS y ON x.device_id = y.device_id",
            None,
            true,
        ),
        (
            "SELECT device_id FROM readings WHERE device_id NOT IN (SELECT device_id FROM readings)",
            None,
            false,
        ),
    ] {
        let root = plan(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .plan
            .root;
        let key = root.properties.stream_key.as_ref().map(|key| {
            let names: Vec<&str> = key
                .iter()
                .map(|c| root.schema.field(*c).name().as_str())
                .collect();
            names.join(" ")
        });
        assert_eq!(key.as_deref(), expected, "{sql}");
        assert_eq!(root.properties.append_only, append_only, "{sql}");
    }
}

#[test]
fn growing_state_is_announced() {
    let of = |sql: &str| plan(sql).unwrap().plan.notices;
    let both = "SELECT x.ts FROM readings AS x JOIN readings AS y ON x.device_id = y.device_id";
    let notices = of(both);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].starts_with("the join keeps all that it has read of source readings"));
    assert!(of("SELECT t.id FROM t JOIN log ON name = k").is_empty());
    let windowed = "SELECT x.window_start, x.n, y.n AS m \
         FROM (SELECT window_start, count(*) AS n FROM TUMBLE(readings, ts, INTERVAL '1 s') GROUP BY 1) AS x \
         JOIN (SELECT window_start, count(*) AS n FROM TUMBLE(readings, ts, INTERVAL '1 s') GROUP BY 1) AS y \
         ON x.window_start = y.window_start";
    assert!(of(windowed).is_empty());
}

#[test]
fn fingerprint_covers_the_state() {
    let of = |sql: &str| plan(sql).unwrap().plan.fingerprint;
    let base = of("SELECT id, v FROM t JOIN log ON name = k");
    assert_eq!(base, of("SELECT id, v FROM t JOIN log ON name = k"));
    for other in [
        "SELECT id, v FROM t LEFT JOIN log ON name = k",
        "SELECT id, v FROM t JOIN log ON name = k AND a < v",
        "SELECT id, v FROM t JOIN log ON name IS NOT DISTINCT FROM k",
        "SELECT id, v FROM t JOIN log ON a = v",
    ] {
        assert_ne!(base, of(other), "{other}");
    }
}

/// The joins of a plan as nested pairs of what is scanned.
fn shape(node: &PlanNode) -> String {
    match &node.op {
        PlanOp::Scan { name, .. } => name.to_string(),
        PlanOp::Join { .. } => {
            format!("({} {})", shape(&node.inputs[0]), shape(&node.inputs[1]))
        }
        _ => shape(&node.inputs[0]),
    }
}

/// What a row leads to by a key is joined first; `readings` leads to `t`, none leads to it.
#[test]
fn order() {
    for (sql, expected) in [
        // a chain of keys, written from the end and from the start
        (
            "SELECT r.ts, x.a, y.b FROM t AS y, t AS x, readings AS r
             WHERE y.id = x.a AND x.id = r.temperature::int",
            "((t t) readings)",
        ),
        (
            "SELECT r.ts, x.a, y.b FROM readings AS r JOIN t AS x ON x.id = r.temperature::int JOIN t AS y ON y.id = x.a",
            "(readings (t t))",
        ),
        // two dimensions of one fact, and their dimension with one of them first
        (
            "SELECT l.k, x.a, y.b, z.b AS c FROM t AS z, t AS y, t AS x, log AS l
             WHERE l.v = x.id AND l.v = y.id AND y.a = z.id",
            "(((t t) log) t)",
        ),
        // already in order, mirrored or not
        (
            "SELECT x.id FROM t AS x JOIN t AS y ON x.a = y.id JOIN log ON x.name = k",
            "((t t) log)",
        ),
        // nothing is a key
        (
            "SELECT x.id FROM t AS x, log, t AS y WHERE x.name = k AND y.name = k",
            "((t log) t)",
        ),
        // two facts meet in a dimension that one of them has joined
        (
            "SELECT r.ts, l.v FROM readings AS r, t AS x, log AS l WHERE r.temperature::int = x.id AND l.v::int = x.id",
            "((readings t) log)",
        ),
        // an aggregate's groups are a key
        (
            "SELECT r.ts, g.n, x.b FROM readings AS r, (SELECT a, count(*) AS n FROM t GROUP BY a) AS g, t AS x
             WHERE r.temperature::int = g.a AND g.n::int = x.id",
            "(readings (t t))",
        ),
    ] {
        let planned = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(
            shape(&planned.plan.root),
            expected,
            "{sql}\n{}",
            explain(&planned.plan).join("\n")
        );
    }
}

/// Conditions on the left side alone bound what a join with the nearest row keeps.
#[test]
fn filters_go_below_the_nearest_row() {
    for (condition, expected) in [
        ("t.a > 1", true),
        ("t.a > 1 AND log.v > 2", true),
        ("log.v > 2", false),
        ("10 / t.a > 1", false),
    ] {
        let sql = format!(
            "SELECT t.id, log.v FROM t ASOF JOIN log ON t.name = log.k AND log.v <= t.b WHERE {condition}"
        );
        let root = plan(&sql).unwrap().plan.root;
        let mut node = &root;
        while !matches!(node.op, PlanOp::Nearest { .. }) {
            node = node.inputs.first().expect("a join with the nearest row");
        }
        let left = node.inputs.first().expect("a left side");
        let is_below = matches!(left.op, PlanOp::Filter { .. })
            || left
                .inputs
                .iter()
                .any(|i| matches!(i.op, PlanOp::Filter { .. }));
        assert_eq!(is_below, expected, "{condition}");
    }
}
