//! Queries mean the same after what they read was altered.

use super::*;
use crate::fixture::{catalog, parse};
use crate::lower::plan_view;

/// A catalog with a materialized view `m` of `query`, the object called `on`, and the plan's fingerprint.
fn with_view(query: &str, on: &str) -> (Catalog, ObjectId, u64) {
    let mut catalog = catalog();
    let parsed = parse(query);
    let view = ViewQuery {
        query: &parsed,
        columns: &[],
        time_zone: "UTC",
        text: None,
        emit_on_window_close: false,
    };
    let planned = plan_view(&catalog, view).unwrap_or_else(|error| panic!("{query}: {error}"));
    let id = catalog.allocate_object();
    let fingerprint = planned.plan.fingerprint;
    let kind = ObjectKind::MaterializedView(crate::catalog::MaterializedViewDef {
        columns: planned.view.columns,
        query: planned.view.bound_sql,
        emit_on_window_close: false,
        options: Default::default(),
        stream_key: None,
        append_only: false,
        watermark_columns: Vec::new(),
        retention: None,
        rows: crate::TableId(90),
        first_state_table: crate::TableId(91),
        state_tables: planned.plan.root.state_tables(),
        fingerprint,
    });
    catalog.put(Object {
        id,
        name: qualified("m"),
        sql: String::new(),
        comment: None,
        depends_on: planned.view.depends_on,
        kind,
    });
    let on = catalog.find(&qualified(on)).unwrap().id;
    (catalog, on, fingerprint)
}

fn qualified(name: &str) -> QualifiedName {
    QualifiedName {
        schema: "public".to_string(),
        name: name.to_string(),
    }
}

fn stored(catalog: &Catalog) -> String {
    match &catalog.find(&qualified("m")).unwrap().kind {
        ObjectKind::MaterializedView(view) => view.query.clone(),
        other => panic!("{other:?}"),
    }
}

fn replanned(catalog: &Catalog) -> crate::plan::StreamPlan {
    match &catalog.find(&qualified("m")).unwrap().kind {
        ObjectKind::MaterializedView(view) => replan(catalog, view).unwrap(),
        other => panic!("{other:?}"),
    }
}

const QUERIES: &[&str] = &[
    "SELECT * FROM t",
    "SELECT a, count(*) FROM t GROUP BY a",
    "SELECT t.a + t.b AS x FROM t AS t WHERE a > 1",
    "SELECT x.a, y.b FROM t AS x JOIN t AS y ON x.id = y.a",
    "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM log WHERE v = a)",
    "SELECT DISTINCT ON (b) a, b FROM t ORDER BY b, a",
    "SELECT a, row_number() OVER (PARTITION BY b ORDER BY a) AS n FROM t",
    "WITH c AS (SELECT a, b FROM t) SELECT max(a), b FROM c GROUP BY b",
    "SELECT a FROM public.t UNION SELECT v FROM log",
    "SELECT q, sum(b) FROM t AS s (p, q) GROUP BY q",
];

#[test]
fn renamed_relations_keep_their_readers() {
    for query in QUERIES {
        let (before, t, fingerprint) = with_view(query, "t");
        let mut after = before.clone();
        rename(&mut after, t, qualified("Other T")).unwrap();
        check_dependents(&before, &after, t).unwrap_or_else(|e| panic!("{query}: {e:?}"));
        let text = stored(&after);
        assert!(text.contains("public.\"Other T\""), "{text}");
        assert_eq!(replanned(&after).fingerprint, fingerprint);
    }
}

#[test]
fn renamed_columns_keep_their_readers() {
    for query in QUERIES {
        let (before, t, fingerprint) = with_view(query, "t");
        let mut after = before.clone();
        rename_column(&mut after, t, "a", "z").unwrap();
        rename_column(&mut after, t, "b", "a").unwrap();
        check_dependents(&before, &after, t).unwrap_or_else(|e| panic!("{query}: {e:?}"));
        let text = stored(&after);
        assert_eq!(replanned(&after).fingerprint, fingerprint, "{text}");
    }
}

#[test]
fn added_columns_are_not_taken_for_others() {
    let query = "SELECT k FROM log WHERE EXISTS (SELECT 1 FROM t WHERE id = v)";
    let (before, t, fingerprint) = with_view(query, "t");
    let mut after = before.clone();
    let mut column = match &before.get(t).unwrap().kind {
        ObjectKind::Table(table) => table.columns[1].clone(),
        other => panic!("{other:?}"),
    };
    column.name = "v".to_string();
    add_column(&mut after, t, column.clone()).unwrap();
    assert_eq!(
        stored(&after),
        "SELECT k FROM public.log AS log WHERE EXISTS (SELECT 1 AS \"?column?\" FROM (SELECT id, a, b, name FROM public.t) AS t WHERE id = v)"
    );
    check_dependents(&before, &after, t).unwrap();
    assert_eq!(replanned(&after).fingerprint, fingerprint);
    // a name that is not mentioned leaves the text alone
    column.name = "w".to_string();
    let text = stored(&after);
    add_column(&mut after, t, column).unwrap();
    assert_eq!(stored(&after), text);
}

#[test]
fn windows_follow() {
    let query = "SELECT window_start, count(device_id) FROM TUMBLE(readings, ts, INTERVAL '1 minute') GROUP BY window_start";
    let (before, readings, _) = with_view(query, "readings");
    let mut after = before.clone();
    rename(&mut after, readings, qualified("messages")).unwrap();
    check_dependents(&before, &after, readings).unwrap();
    assert!(
        stored(&after).contains("tumble(public.messages, "),
        "{}",
        stored(&after)
    );
    rename_column(&mut after, readings, "kafka_ts", "at").unwrap();
    check_dependents(&before, &after, readings).unwrap();
    let refused = rename_column(&mut after, readings, "ts", "time").unwrap_err();
    assert!(
        matches!(refused, PlanError::Unsupported { .. }),
        "{refused}"
    );
    let generated = match &after.get(readings).unwrap().kind {
        ObjectKind::Source(source) => source.columns[3].generated.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(generated, "EXTRACT(EPOCH FROM at - ts) * 1000");
}

#[test]
fn columns_that_are_taken_or_missing_are_told() {
    let (mut catalog, t, _) = with_view("SELECT a FROM t", "t");
    assert!(matches!(
        rename_column(&mut catalog, t, "nowhere", "x"),
        Err(PlanError::Undefined { .. })
    ));
    assert!(matches!(
        rename_column(&mut catalog, t, "a", "b"),
        Err(PlanError::Duplicate { .. })
    ));
}
