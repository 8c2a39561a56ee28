//! Golden plans, errors, and what is stored of views.

use crate::error::{PlanError, UndefinedKind};
use crate::explain::explain;
use crate::fixture::{catalog, explained, parse, plan};
use crate::lower::{ViewQuery, bind_view, plan_view};

const WINDOWED: &str = "SELECT device_id, window_start, count(*), avg(temperature), max(temperature) \
                        FROM TUMBLE(readings, ts, INTERVAL '10 seconds') GROUP BY device_id, window_start";

/// Queries with the plans they have.
const PLANS: &[(&str, &str)] = &[
    (
        WINDOWED,
        "Materialize key=(device_id, window_start)
  Project device_id, window_start, count(*) AS count, avg(temperature) AS avg, max(temperature) AS max watermark=(window_start)
    Aggregate by=(device_id, window_start) count(*):linear avg(temperature):linear max(temperature):mergeable watermark=(window_start) state=#0..#2
      Project device_id, temperature, rm_window_start(ts, 10000000, 0) AS window_start append-only watermark=(window_start)
        Scan readings columns=(device_id, temperature, ts) append-only watermark=(ts)",
    ),
    (
        "SELECT * FROM t",
        "Materialize key=(id)
  Scan t columns=(id, a, b, name)",
    ),
    (
        "SELECT lag_ms, unnest(tags) FROM readings",
        "Materialize key=whole row append-only
  Project lag_ms, unnest(tags) AS unnest append-only
    Unnest (unnest(tags)) append-only
      Project lag_ms, tags AS unnest(tags) append-only
        Project (extract('epoch', rm_timestamp_difference(kafka_ts, ts)) * 1000)::numeric(38,0)::bigint AS lag_ms, tags append-only
          Scan readings columns=(ts, tags, kafka_ts) append-only watermark=(ts)",
    ),
    (
        "SELECT device_id, count(*) FROM readings GROUP BY device_id ORDER BY 2",
        "Materialize key=(device_id)
  Project device_id, count(*) AS count
    Aggregate by=(device_id) count(*):linear state=#0..#1 grows
      Scan readings columns=(device_id) append-only watermark=()",
    ),
    (
        "SELECT count(*) FROM readings",
        "Materialize key=()
  Project count(*) AS count
    Aggregate count(*):linear state=#0..#1
      Project 0 AS row append-only
        Scan readings columns=() append-only",
    ),
    (
        "SELECT sum(a), min(a), count(DISTINCT name) AS names FROM t",
        "Materialize key=()
  Project sum(a::bigint) AS sum, min(a) AS min, count(DISTINCT name) AS names
    Aggregate sum(a::bigint):linear min(a):multiset count(DISTINCT name):multiset state=#0..#1
      Scan t columns=(a, name)",
    ),
    (
        "SELECT k, sum(v), avg(x) FROM log GROUP BY k HAVING count(*) > 1",
        "Materialize key=(k)
  Project k, sum(v::numeric(20,0)) AS sum, avg(x) AS avg
    Filter count(*) > 1
      Aggregate by=(k) sum(v::numeric(20,0)):linear avg(x):linear count(*):linear state=#0..#1
        Scan log columns=(k, v, x)",
    ),
    (
        "SELECT window_start, window_end, count(*) \
         FROM HOP(readings, ts, INTERVAL '5 s', INTERVAL '1 minute') GROUP BY 1, 2",
        "Materialize key=(window_start, window_end)
  Project window_start, window_end, count(*) AS count watermark=(window_start, window_end)
    Aggregate by=(window_start, window_end) count(*):linear watermark=(window_start, window_end) state=#0..#2
      Project window_start, window_start + INTERVAL '60 s' AS window_end append-only watermark=(window_start, window_end)
        Project unnest(rm_window_starts(ts, 5000000, 60000000, 0)) AS window_start append-only watermark=(window_start)
          Unnest (unnest(rm_window_starts(ts, 5000000, 60000000, 0))) append-only watermark=(unnest(rm_window_starts(ts, 5000000, 60000000, 0)))
            Project rm_window_starts(ts, 5000000, 60000000, 0) AS unnest(rm_window_starts(ts, 5000000, 60000000, 0)) append-only watermark=(unnest(rm_window_starts(ts, 5000000, 60000000, 0)))
              Scan readings columns=(ts) append-only watermark=(ts)",
    ),
    (
        "SELECT DISTINCT name FROM t UNION SELECT k FROM log",
        "Materialize key=(name)
  Aggregate by=(name) state=#0..#1
    UnionAll
      Scan t columns=(name)
      Project k AS name
        Scan log columns=(k)",
    ),
    (
        "SELECT total FROM busy WHERE id <> 0 AND total / id > 2",
        "Materialize key=whole row
  Project total
    Filter (total / id) > 2
      Filter id <> 0
        Project id, a + b AS total
          Filter a > 0
            Scan t columns=(id, a, b)",
    ),
    (
        "SELECT id, b <> 0 AND 1 / b > 0 AS up FROM t",
        "Materialize key=(id)
  Project id, CASE WHEN (b <> 0) IS FALSE THEN false ELSE (b <> 0) AND ((1 / b) > 0) END AS up
    Scan t columns=(id, b)",
    ),
    (
        "SELECT 1 AS one, 'x' AS two, NULL AS three",
        "Materialize key=() append-only
  Project 1 AS one, 'x' AS two, NULL AS three append-only
    Values rows=1 append-only",
    ),
    (
        "SELECT count(*) FROM (SELECT name FROM t UNION ALL SELECT k FROM log) u",
        "Materialize key=()
  Project count(*) AS count
    Aggregate count(*):linear state=#0..#1
      UnionAll
        Project 0 AS row
          Scan t columns=(id)
        Project 0 AS row
          Scan log columns=(k)",
    ),
    (
        "SELECT name FROM t ORDER BY a DESC, id LIMIT 3 OFFSET 1",
        "Materialize key=whole row
  Project name
    TopN order=(a DESC, id) limit=3 offset=1 state=#0..#1
      Project name, a, id
        Scan t columns=(id, a, name)",
    ),
    (
        "SELECT k, v FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM log) AS q WHERE n <= 2",
        "Materialize key=whole row
  TopN by=(k) order=(v) limit=2 state=#0..#1
    Scan log columns=(k, v)",
    ),
    (
        "SELECT k, n FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM log) AS q WHERE n = 2",
        "Materialize key=(k, n)
  Project k, row_number() AS n
    Filter row_number() = 2
      TopN by=(k) order=(v) limit=2 numbered state=#0..#1
        Scan log columns=(k, v)",
    ),
    (
        "SELECT DISTINCT ON (k) k, v FROM log ORDER BY k, at DESC NULLS LAST",
        "Materialize key=(k)
  Project k, v
    TopN by=(k) order=(at DESC NULLS LAST) limit=1 state=#0..#1
      Scan log columns=(k, v, at)",
    ),
    (
        "SELECT id FROM t ORDER BY a FETCH FIRST 2 ROWS WITH TIES",
        "Materialize key=(id)
  Project id
    TopN order=(a) limit=2 with ties state=#0..#1
      Scan t columns=(id, a)",
    ),
    (
        "SELECT a FROM t EXCEPT ALL SELECT b FROM t",
        "Materialize key=whole row
  SetOperation EXCEPT ALL state=#0..#0
    Scan t columns=(a)
    Scan t columns=(b)",
    ),
    (
        "SELECT a FROM t INTERSECT SELECT b FROM t",
        "Materialize key=(a)
  SetOperation INTERSECT state=#0..#0
    Scan t columns=(a)
    Scan t columns=(b)",
    ),
    (
        "SELECT a, name, grouping(a) AS g, count(*) FROM t GROUP BY ROLLUP (a, name)",
        "Materialize key=whole row
  Project a, name, ((grouping & 2) >> 1)::integer AS g, count(*) AS count
    Aggregate by=(a, name, grouping) count(*):linear state=#0..#1
      GroupingSets () (a) (a, name)
        Scan t columns=(a, name)",
    ),
    (
        "SELECT id, lag(a) OVER (PARTITION BY name ORDER BY id) AS before, rank() OVER (ORDER BY b) AS r, \
         sum(a) OVER (PARTITION BY name ORDER BY id ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) AS near FROM t",
        "Materialize key=(id)
  Project id, lag(a) AS before, rank() AS r, sum(a::bigint) ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING AS near
    Over by=(name) order=(id) lag(a):-1..+0 rows sum(a::bigint) ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING:-1..+2 rows state=#1..#1
      Project id, a, name, rank()
        Over order=(b) rank():rows before state=#0..#0
          Scan t columns=(id, a, b, name)",
    ),
    (
        "SELECT device_id, temperature FROM readings ORDER BY temperature DESC LIMIT 5",
        "Materialize key=whole row
  TopN order=(temperature DESC) limit=5 state=#0..#1
    Scan readings columns=(device_id, temperature) append-only",
    ),
];

#[test]
fn plans() {
    let mut wrong = Vec::new();
    for (sql, expected) in PLANS {
        let found = explained(sql);
        if found != expected.replace(" watermark=()", "") {
            wrong.push(format!("{sql}\n{found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bound_sql_gives_the_same_plan() {
    let named = "WITH c AS (SELECT *, id AS again FROM t) SELECT c.*, \"c\".id + 1 FROM c";
    let queries = PLANS
        .iter()
        .map(|(sql, _)| *sql)
        .chain([named, "SELECT public.t.id FROM public.t"]);
    for sql in queries {
        let first = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let second = plan(&first.view.bound_sql)
            .unwrap_or_else(|error| panic!("{}: {error}", first.view.bound_sql));
        assert_eq!(explain(&first.plan), explain(&second.plan), "{sql}");
        assert_eq!(first.view.bound_sql, second.view.bound_sql, "{sql}");
        assert_eq!(first.view.columns, second.view.columns, "{sql}");
        assert_eq!(first.view.depends_on, second.view.depends_on, "{sql}");
    }
}

#[test]
fn bound_sql_is_qualified() {
    for (sql, expected) in [
        (
            "SELECT * FROM t",
            "SELECT t.id, t.a, t.b, t.name FROM public.t AS t",
        ),
        (
            "SELECT window_start, count(*) FROM tumble(readings, ts, '1 min') GROUP BY 1",
            "SELECT window_start, count(*) AS count FROM tumble(public.readings, ts, '1 min') AS readings GROUP BY 1",
        ),
        (
            "SELECT s.* FROM (SELECT avg(v) FROM log) s",
            "SELECT s.avg FROM (SELECT avg(v) AS avg FROM public.log AS log) s",
        ),
    ] {
        assert_eq!(plan(sql).unwrap().view.bound_sql, expected);
    }
}

/// State on disk depends on this value: a change of it makes every user rebuild views.
#[test]
fn fingerprint_is_stable() {
    assert_eq!(
        format!("{:016x}", plan(WINDOWED).unwrap().plan.fingerprint),
        "7d266a34445c370c"
    );
}

#[test]
fn fingerprint_tells_layouts_apart() {
    let of = |sql: &str| plan(sql).unwrap().plan.fingerprint;
    let base = of("SELECT a, count(*) FROM t GROUP BY a");
    assert_eq!(
        base,
        of("SELECT a, count(*) FROM t WHERE b > 1 GROUP BY a"),
        "a filter keeps no state"
    );
    for other in [
        "SELECT b, count(*) FROM t GROUP BY b",
        "SELECT a, count(b) FROM t GROUP BY a",
        "SELECT a, sum(b) FROM t GROUP BY a",
        "SELECT a, b, count(*) FROM t GROUP BY a, b",
    ] {
        assert_ne!(base, of(other), "{other}");
    }
}

#[test]
fn notices() {
    for (sql, expected) in [
        (WINDOWED, vec![]),
        ("SELECT id FROM t ORDER BY id", vec!["ORDER BY is ignored"]),
        (
            "SELECT device_id, count(DISTINCT temperature) FROM readings GROUP BY device_id",
            vec![
                "the state of GROUP BY device_id grows",
                "count(DISTINCT temperature) keeps every distinct value",
            ],
        ),
        (
            "SELECT date_trunc('hour', ts), count(*) FROM readings GROUP BY 1",
            vec![],
        ),
        (
            "SELECT date_trunc('hour', kafka_ts), count(*) FROM readings GROUP BY 1",
            vec![
                "the state of GROUP BY date_trunc('hour', kafka_ts) keeps every window of source readings",
            ],
        ),
        (
            "SELECT device_id, window_start, count(*) FROM SESSION(readings, ts, INTERVAL '1 minute' PARTITION BY device_id) \
             GROUP BY device_id, window_start",
            vec!["SESSION keeps every row of source readings"],
        ),
        ("SELECT a, count(*) FROM t GROUP BY a", vec![]),
        ("SELECT ts FROM readings ORDER BY ts LIMIT 1", vec![]),
        (
            "SELECT DISTINCT ON (device_id) device_id, ts FROM readings ORDER BY device_id, ts",
            vec!["the first rows of every device_id of source"],
        ),
        (
            "SELECT ts FROM readings ORDER BY ts OFFSET 1",
            vec!["LIMIT, DISTINCT ON or a rank keeps every row"],
        ),
        (
            "SELECT lag(ts) OVER (PARTITION BY device_id ORDER BY ts) FROM readings",
            vec!["the last rows of every device_id of source"],
        ),
        ("SELECT lag(ts) OVER (ORDER BY ts) FROM readings", vec![]),
        (
            "SELECT sum(temperature) OVER (PARTITION BY device_id ORDER BY ts) FROM readings",
            vec!["OVER (PARTITION BY"],
        ),
        (
            "SELECT a.ts FROM readings AS a ASOF JOIN readings AS b ON a.device_id = b.device_id AND b.ts <= a.ts",
            vec!["ASOF JOIN keeps the latest row of every key of source readings"],
        ),
        (
            "SELECT a.ts FROM readings AS a ASOF JOIN readings AS b ON a.device_id = b.device_id AND b.ts >= a.ts",
            vec!["ASOF JOIN keeps all that it has read of source readings"],
        ),
        (
            "SELECT t.id FROM t, log",
            vec!["CROSS JOIN pairs all rows: each changed row"],
        ),
        (
            "SELECT t.id FROM t LEFT JOIN log ON t.a < log.v",
            vec!["JOIN without an equality compares all rows"],
        ),
        (
            "SELECT id FROM t WHERE a > ALL (SELECT v FROM log)",
            vec!["a subquery that depends on the row without an equality"],
        ),
        (
            "SELECT device_id FROM readings EXCEPT SELECT name FROM t",
            vec!["EXCEPT and INTERSECT count every distinct row"],
        ),
    ] {
        let notices = plan(sql).unwrap().plan.notices;
        assert_eq!(notices.len(), expected.len(), "{sql}: {notices:?}");
        for (notice, start) in notices.iter().zip(expected) {
            assert!(notice.starts_with(start), "{notice}");
        }
    }
}

#[test]
fn refusals() {
    for (sql, expected) in [
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
            "WITH RECURSIVE",
        ),
        (
            "SELECT device_id, now() AS seen FROM readings",
            "now() in a materialized view",
        ),
        (
            "SELECT id, random() FROM t",
            "random() in a materialized view",
        ),
        (
            "SELECT 1 AS one FROM TUMBLE(readings, ts, INTERVAL '1 month')",
            "a TUMBLE of months or years",
        ),
    ] {
        match plan(sql) {
            Err(PlanError::Unsupported { feature, .. }) => {
                assert!(feature.starts_with(expected), "{sql}: {feature}")
            }
            other => panic!("{sql}: {:?}", other.map(|p| explain(&p.plan))),
        }
    }
}

#[test]
fn errors() {
    use UndefinedKind::{Column, Function, Relation};
    let undefined = |kind, message: &str, position| (Some(kind), message.to_string(), position);
    for (sql, (kind, message, at)) in [
        (
            "SELECT nope FROM t",
            undefined(Column, "column \"nope\" does not exist", Some(8)),
        ),
        (
            "SELECT t.nope FROM t",
            undefined(Column, "column t.nope does not exist", Some(8)),
        ),
        (
            "SELECT x.* FROM t",
            undefined(Relation, "missing FROM-clause entry for table \"x\"", None),
        ),
        (
            "SELECT *\nFROM nope",
            undefined(Relation, "relation \"nope\" does not exist", Some(15)),
        ),
        (
            "SELECT nofunc(id) FROM t",
            undefined(Function, "function nofunc does not exist", Some(8)),
        ),
        (
            "SELECT a, count(*) FROM t GROUP BY b",
            (
                None,
                "column \"t.a\" must appear in the GROUP BY".to_string(),
                None,
            ),
        ),
        (
            "SELECT a, a FROM t",
            (
                None,
                "column \"a\" specified more than once".to_string(),
                None,
            ),
        ),
        (
            "SELECT 1, 2",
            (
                None,
                "column \"?column?\" specified more than once".to_string(),
                None,
            ),
        ),
        ("SELECT sum(name) FROM t", (None, String::new(), None)),
        (
            "SELECT window_start FROM TUMBLE((SELECT at::date AS d FROM log), d, INTERVAL '1 day')",
            (None, String::new(), None),
        ),
    ] {
        let Err(error) = plan(sql) else {
            panic!("{sql} was planned")
        };
        assert!(error.to_string().starts_with(&message), "{sql}: {error}");
        match (&error, kind) {
            (
                PlanError::Undefined {
                    kind: found,
                    position,
                    ..
                },
                Some(kind),
            ) => {
                assert_eq!((*found, *position), (kind, at), "{sql}");
            }
            (
                PlanError::Grouping { .. }
                | PlanError::Duplicate { .. }
                | PlanError::TypeMismatch { .. },
                None,
            ) => {}
            (other, _) => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn column_lists_name_the_first_columns() {
    let catalog = catalog();
    let query = parse("SELECT a, a, b FROM t");
    let columns = ["x".to_string(), "y".to_string()];
    let view = ViewQuery {
        query: &query,
        columns: &columns,
        time_zone: "UTC",
        text: None,
        emit_on_window_close: false,
    };
    let bound = bind_view(&catalog, view).unwrap();
    assert_eq!(
        bound
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .collect::<Vec<_>>(),
        ["x", "y", "b"]
    );
    assert_eq!(
        plan_view(&catalog, view).unwrap().view.bound_sql,
        bound.bound_sql
    );
}

#[test]
fn time_zone_is_fixed_in_the_bound_sql() {
    let catalog = catalog();
    let query = parse("SELECT date_trunc('day', ts) AS day, count(*) FROM readings GROUP BY 1");
    let plan_in = |query: &sqlparser::ast::Query, time_zone: &str| {
        plan_view(
            &catalog,
            ViewQuery {
                query,
                columns: &[],
                time_zone,
                text: None,
                emit_on_window_close: false,
            },
        )
        .unwrap()
    };
    let berlin = plan_in(&query, "Europe/Berlin");
    let again = plan_in(&parse(&berlin.view.bound_sql), "UTC");
    assert_eq!(explain(&berlin.plan), explain(&again.plan));
    assert_eq!(berlin.view.bound_sql, again.view.bound_sql);
    assert!(explain(&berlin.plan).join(" ").contains("'Europe/Berlin'"));
    assert_ne!(explain(&berlin.plan), explain(&plan_in(&query, "UTC").plan));
}
