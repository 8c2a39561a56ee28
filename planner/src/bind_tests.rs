//! Bound queries and expressions, run: PostgreSQL's names, types and evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};

use crate::bind::bind_scalar;
use crate::fixture::{Rows, catalog, run};
use crate::session::session_state;
use crate::types::SqlType;

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let names = ["1", "2", "3", "4", "5"];
    RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap()
}

fn rows() -> BTreeMap<&'static str, RecordBatch> {
    let t = batch(vec![
        Arc::new(Int32Array::from(vec![1, 2, 3, 4])),
        Arc::new(Int32Array::from(vec![Some(1), Some(5), None, Some(-7)])),
        Arc::new(Int32Array::from(vec![0, 2, 3, 2])),
        Arc::new(StringArray::from(vec![
            Some("x"),
            Some("y"),
            None,
            Some("x"),
        ])),
    ]);
    let numeric = Decimal128Array::from(vec![Some(125), Some(250), None])
        .with_precision_and_scale(10, 2)
        .unwrap();
    let log = batch(vec![
        Arc::new(StringArray::from(vec!["a", "a", "b"])),
        Arc::new(Int64Array::from(vec![1, 2, i64::MAX])),
        Arc::new(Float64Array::from(vec![Some(1.5), None, Some(2.5)])),
        Arc::new(TimestampMicrosecondArray::from(vec![
            5_000_000, -2_000_000, 12_000_000,
        ])),
        Arc::new(numeric),
    ]);
    BTreeMap::from([("t", t), ("log", log)])
}

const QUERIES: &[(&str, &str)] = &[
    // guarded evaluation
    (
        "SELECT id FROM t WHERE b <> 0 AND 10 / b > 3 ORDER BY id",
        "id\n2\n4",
    ),
    (
        "SELECT id FROM t WHERE 10 / b > 3",
        "error: Arrow error: Divide by zero error",
    ),
    (
        "SELECT id, CASE WHEN b <> 0 AND a / b > 1 THEN 'big' ELSE 'small' END FROM t ORDER BY id",
        "id|case\n1|small\n2|big\n3|small\n4|small",
    ),
    (
        "SELECT b = 0 OR 1 / b >= 0 FROM t WHERE id < 3 ORDER BY id",
        "?column?\ntrue\ntrue",
    ),
    (
        "SELECT s.id FROM (SELECT id, b FROM t WHERE b <> 0) s WHERE 10 / s.b = 5 ORDER BY 1",
        "id\n2\n4",
    ),
    (
        "SELECT b = 0 OR 1 / b = 1 OR 4 / b = 2 FROM t WHERE id < 4 ORDER BY id",
        "?column?\ntrue\ntrue\nfalse",
    ),
    (
        "SELECT b IN (0, 1 / b) FROM t WHERE id < 3 ORDER BY id",
        "?column?\ntrue\nfalse",
    ),
    (
        "SELECT id FROM t WHERE b IN (9, CASE WHEN name = 'x' THEN 9 ELSE b END) ORDER BY 1",
        "id\n2\n3",
    ),
    // arithmetic
    (
        "SELECT a % b, a / b FROM t WHERE id = 4",
        "?column?|?column?\n-1|-3",
    ),
    (
        "SELECT v + 1 FROM log WHERE k = 'b'",
        "error: Arrow error: Arithmetic overflow: Overflow happened on: 9223372036854775807 + 1",
    ),
    (
        "SELECT 2147483647 + 1",
        "error: Arrow error: Arithmetic overflow: Overflow happened on: 2147483647 + 1",
    ),
    (
        "SELECT 1 + 1, 7 / 2, 1.0 / 3, 1e3, 1",
        "?column?|?column?|?column?|?column?|?column?\n2|3|0.3333333333333333|1000|1",
    ),
    (
        "SELECT 2.5::float8::int, 3.5::float8::int, 2.5::int, '7'::int",
        "int4|int4|int4|int4\n2|4|3|7",
    ),
    (
        "SELECT x * 1.5, x > 2.4 FROM log WHERE k = 'b'",
        "?column?|?column?\n3.75|true",
    ),
    (
        "SELECT sum(v), avg(v), sum(a), avg(a) FROM log, t WHERE k = 'a' AND id = 2",
        "sum|avg|sum|avg\n3|1.5000000000000000|10|5.0000000000000000",
    ),
    (
        "SELECT sum(v), avg(n), avg(x) FROM log",
        "sum|avg|avg\n9223372036854775810|1.8750000000000000|2.0",
    ),
    (
        "SELECT round(2.567, 2), round(2.5::float8), power(2, 0.5), abs(-5), floor(1.5)",
        "round|round|power|abs|floor\n2.57|2.0|1.4142135623730950|5|1",
    ),
    (
        "SELECT x FROM log WHERE x BETWEEN 1.4 AND 1.6 AND x IN (1.5, 7)",
        "x\n1.5",
    ),
    (
        "SELECT coalesce(x, 0.25), coalesce(a, 0) FROM log, t WHERE v = 2 AND id = 3",
        "coalesce|coalesce\n0.25|0",
    ),
    (
        "SELECT n + 1, n * v, n / 2, v / 2 FROM log WHERE v = 2",
        "?column?|?column?|?column?|?column?\n3.50|5.00|1.2500000000000000|1",
    ),
    (
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x), approx_percentile_cont(x, 0.5) FROM log",
        "percentile_cont|approx_percentile_cont\n2.0|2.0",
    ),
    (
        "SELECT string_agg(k, ',' ORDER BY v DESC), array_agg(v ORDER BY v DESC) FROM log WHERE v < 10",
        "string_agg|array_agg\na,a|[2, 1]",
    ),
    // windows
    (
        "SELECT window_start, window_end, count(*) FROM TUMBLE(log, at, INTERVAL '10 s') GROUP BY 1, 2 ORDER BY 1",
        "window_start|window_end|count\n1969-12-31T23:59:50|1970-01-01T00:00:00|1\n\
         1970-01-01T00:00:00|1970-01-01T00:00:10|1\n1970-01-01T00:00:10|1970-01-01T00:00:20|1",
    ),
    (
        "SELECT k, window_start FROM HOP(log, at, INTERVAL '5 s', INTERVAL '10 s') w WHERE w.k = 'b' ORDER BY 2",
        "k|window_start\nb|1970-01-01T00:00:05\nb|1970-01-01T00:00:10",
    ),
    (
        "SELECT window_start, window_end FROM CUMULATE((SELECT at FROM log WHERE k = 'b'), at, '5 s', '20 s') ORDER BY 2",
        "window_start|window_end\n1970-01-01T00:00:00|1970-01-01T00:00:15\n1970-01-01T00:00:00|1970-01-01T00:00:20",
    ),
    // names and stars
    (
        "SELECT * FROM (SELECT count(*), max(k) FROM log) s",
        "count|max\n3|b",
    ),
    ("SELECT count FROM (SELECT count(*) FROM log) s", "count\n3"),
    (
        "SELECT * FROM t JOIN t u USING (id) WHERE id = 2",
        "id|a|b|name|a|b|name\n2|5|2|y|5|2|y",
    ),
    ("SELECT id, u.id FROM t u WHERE u.id = 1", "id|id\n1|1"),
    (
        "WITH c AS (SELECT id FROM t) SELECT * FROM c WHERE id = (SELECT max(id) FROM public.t)",
        "id\n4",
    ),
    ("SELECT public.t.id FROM public.t WHERE t.id = 1", "id\n1"),
    ("SELECT * FROM busy ORDER BY total", "id|total\n1|1\n2|7"),
    (
        "SELECT x AS \"X\" FROM log AS l(a, b) WHERE b = 1",
        "X\n1.5",
    ),
    (
        "SELECT k, count(*) FROM log GROUP BY k HAVING count(*) > 1",
        "k|count\na|2",
    ),
    (
        "SELECT b, b::text, sum(id), sum(id::float8) FROM t GROUP BY b, b::text ORDER BY b",
        "b|b|sum|sum\n0|0|1|1.0\n2|2|6|6.0\n3|3|3|3.0",
    ),
    ("SELECT g FROM generate_series(1, 2) g", "g\n1\n2"),
    ("SELECT * FROM unnest(ARRAY[1, 2]) u", "u\n1\n2"),
    ("TABLE busy", "id|total\n1|1\n2|7"),
    (
        "SELECT id FROM t, t u",
        "error: column reference \"id\" is ambiguous",
    ),
    (
        "SELECT name FROM t EXCEPT ALL SELECT 'x' ORDER BY 1",
        "name\nx\ny\nNULL",
    ),
    (
        "SELECT name FROM t INTERSECT ALL VALUES ('x'), ('x'), ('x'), (NULL) ORDER BY 1",
        "name\nx\nx\nNULL",
    ),
    (
        "SELECT id FROM t WHERE a NOT IN (SELECT b FROM t WHERE b > 3) ORDER BY 1",
        "id\n1\n2\n3\n4",
    ),
    (
        "SELECT id FROM t WHERE a NOT IN (SELECT b FROM t) OR id = 1 ORDER BY 1",
        "id\n1\n2\n4",
    ),
    (
        "SELECT id FROM t WHERE NOT (a IN (SELECT b FROM t) OR id = 1) ORDER BY 1",
        "id\n2\n4",
    ),
    (
        "SELECT id, a IN (SELECT b FROM t) AS i FROM t ORDER BY 1",
        "id|i\n1|false\n2|false\n3|NULL\n4|false",
    ),
    ("SELECT id FROM t WHERE 9 NOT IN (SELECT a FROM t)", "id"),
    (
        "SELECT id FROM t WHERE a NOT IN (SELECT b FROM t u WHERE u.id > t.id + 5) ORDER BY 1",
        "id\n1\n2\n3\n4",
    ),
    (
        "SELECT id FROM t WHERE 0 IN (SELECT count(*) FROM t u WHERE u.id = t.a) ORDER BY 1",
        "id\n2\n3\n4",
    ),
    (
        "SELECT id FROM t WHERE NOT EXISTS (SELECT max(b) FROM t u WHERE u.id = t.a)",
        "id",
    ),
    (
        "SELECT x.id FROM t x JOIN t y ON x.name IS NOT DISTINCT FROM y.name WHERE x.a = y.a ORDER BY 1",
        "id\n1\n2\n4",
    ),
    (
        "SELECT id, (SELECT u.b FROM t u WHERE u.id = t.a) AS s FROM t ORDER BY 1",
        "id|s\n1|0\n2|NULL\n3|NULL\n4|NULL",
    ),
    (
        "SELECT id, (SELECT u.id FROM t u WHERE u.b = t.b) AS s FROM t ORDER BY 1",
        "error: Execution error: more than one row returned by a subquery used as an expression",
    ),
    (
        "SELECT id FROM t WHERE (SELECT max(c) FROM (SELECT count(*) AS c FROM log WHERE k = name) q) = 0 ORDER BY id",
        "id\n1\n2\n3\n4",
    ),
    (
        "SELECT id FROM t WHERE (a IN (SELECT b FROM t)) IS NULL",
        "id\n3",
    ),
    (
        "SELECT id FROM t WHERE NOT (id = 1 AND a IN (SELECT b FROM t))",
        "id\n1\n2\n3\n4",
    ),
    (
        "SELECT id FROM t WHERE a NOT IN ((SELECT b FROM t)) OR id = 1",
        "id\n1\n2\n4",
    ),
    (
        "SELECT 1 = ANY (ARRAY[2, NULL]) AS a, 1 = ANY (ARRAY[2, NULL]::int[]) AS b, 3 > ANY (ARRAY[2, NULL]::int[]) AS c",
        "a|b|c\nNULL|NULL|true",
    ),
    (
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM log OFFSET 9)",
        "id",
    ),
    // times
    (
        "SELECT at AT TIME ZONE 'Europe/Berlin' FROM log WHERE v = 1",
        "timezone\n1969-12-31T23:00:05Z",
    ),
    (
        "SELECT TIMESTAMP '2500-01-01 00:00:00'",
        "timestamp\n2500-01-01T00:00:00",
    ),
    (
        "SELECT at - TIMESTAMP '1970-01-01' FROM log WHERE v = 1",
        "?column?\n5.000000000 secs",
    ),
];

#[test]
fn queries() {
    let catalog = catalog();
    let relations = Rows {
        catalog: &catalog,
        rows: rows(),
    };
    let mut wrong = Vec::new();
    for (sql, expected) in QUERIES {
        let found = run(sql, &relations);
        if found != *expected {
            wrong.push(format!("{sql}\n{found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scalars() {
    let schema = Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("s", DataType::Utf8, true),
    ]);
    let a: ArrayRef = Arc::new(Int32Array::from(vec![i32::MAX]));
    let s: ArrayRef = Arc::new(StringArray::from(vec!["12"]));
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![a, s]).unwrap();
    let state = session_state("UTC");
    for (sql, target, expected, is_fallible) in [
        ("a - 1", None, Ok("2147483646"), true),
        ("a + 1", None, Err("Arithmetic overflow"), true),
        ("a > 5", Some(SqlType::Boolean), Ok("true"), false),
        ("a", Some(SqlType::SmallInt), Err("Can't cast value"), true),
        ("s", Some(SqlType::BigInt), Ok("12"), true),
        ("upper(s || 'x')", None, Ok("12X"), false),
        ("now() IS NOT NULL", None, Ok("true"), false),
        ("nope", None, Err("column \"nope\" does not exist"), false),
    ] {
        let found = bind_scalar(sql, &schema, &state, target.as_ref())
            .map_err(|e| e.to_string())
            .and_then(|bound| {
                assert_eq!(bound.is_fallible, is_fallible, "{sql}");
                let value = bound
                    .physical
                    .evaluate(&batch)
                    .and_then(|v| v.into_array(1));
                let value = value.map_err(|e| e.strip_backtrace())?;
                assert_eq!(*value.data_type(), bound.data_type, "{sql}");
                arrow::util::display::array_value_to_string(&value, 0).map_err(|e| e.to_string())
            });
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{sql}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{sql}: {found}"),
            _ => panic!("{sql}: {found:?}"),
        }
    }
}

#[test]
fn session_zone() {
    let schema = Schema::new(vec![SqlType::Timestamptz.field("ts", true)]);
    let noon = TimestampMicrosecondArray::from(vec![1_782_907_200_000_000]).with_timezone("UTC");
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(noon)]).unwrap();
    let state = session_state("Europe/Berlin");
    for (sql, expected) in [
        ("ts", "2026-07-01T12:00:00Z"),
        ("ts = '2026-07-01 14:00:00'", "true"),
        ("ts = '2026-07-01 12:00:00+00'", "true"),
        ("ts::timestamp", "2026-07-01T14:00:00"),
        (
            "'2026-07-01 14:00:00'::timestamp::timestamptz",
            "2026-07-01T12:00:00Z",
        ),
        ("date_trunc('day', ts)", "2026-06-30T22:00:00Z"),
        ("extract(hour from ts)", "14"),
        ("extract(epoch from ts)", "1782907200.000000"),
    ] {
        let bound = bind_scalar(sql, &schema, &state, None)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let value = bound
            .physical
            .evaluate(&batch)
            .and_then(|v| v.into_array(1))
            .unwrap();
        assert_eq!(
            arrow::util::display::array_value_to_string(&value, 0).unwrap(),
            expected,
            "{sql}"
        );
    }
}
