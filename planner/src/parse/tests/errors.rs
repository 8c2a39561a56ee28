//! What is refused: with which words, and where.

use super::error;
use crate::error::PlanError;

#[test]
fn syntax_errors_have_positions() {
    let cases = [
        ("SELECT 1 FROM", 14, "found end of input"),
        ("SELEC 1", 1, "expected a statement, found \"SELEC\""),
        ("SELECT 1; SELECT FROM WHERE )", 29, "found \")\""),
        ("SELECT 'é'; CREATE TABL x", 20, "found \"TABL\""),
        (
            "CREATE TABLE t (a INT,\n  b)",
            27,
            "expected a type for column \"b\"",
        ),
        (
            "CREATE TABLE t (a INT b INT)",
            23,
            "expected a column constraint",
        ),
        (
            "CREATE TABLE select (a INT)",
            14,
            "\"select\" is a reserved word",
        ),
        ("CREATE TABLE t (a INT) x", 24, "expected end of statement"),
        (
            "CREATE SOURCE s (a INT) WITH (a.b 'x')",
            35,
            "expected \"=\"",
        ),
        ("DROP TABLE", 11, "expected a name, found end of input"),
        ("DROP TABLE ; SELECT 1", 12, "expected a name, found \";\""),
        ("SET x", 6, "expected TO or \"=\""),
        ("EXPLAIN FLUSH", 9, "expected SELECT"),
        ("SELECT \"\" FROM t WHERE x = ", 27, "found end of input"),
        ("SELECT 1 2", 10, "expected end of statement, found \"2\""),
        ("SELECT $x$abc", 14, "unterminated"),
        ("1", 1, "expected a statement"),
    ];
    for (sql, position, words) in cases {
        let e = error(sql);
        assert!(matches!(e, PlanError::Syntax { .. }), "{sql}: {e:?}");
        assert_eq!(e.position(), Some(position), "{sql}: {e}");
        assert!(
            e.to_string().to_lowercase().contains(&words.to_lowercase()),
            "{sql}: {e}"
        );
    }
}

/// Statement, start of the feature that is refused.
const REFUSED: &[(&str, &str)] = &[
    (
        "CREATE SINK s FROM mv WITH (connector = 'kafka')",
        "CREATE SINK",
    ),
    (
        "CREATE INDEX i ON t (a) WHERE a > 1",
        "CREATE INDEX ... WHERE",
    ),
    (
        "CREATE INDEX i ON t (lower(a))",
        "an index on an expression",
    ),
    (
        "CREATE INDEX i ON t USING hash (a)",
        "the access method \"hash\"",
    ),
    ("ALTER TABLE t DROP COLUMN b", "ALTER ... DROP COLUMN"),
    ("SUBSCRIBE TO (SELECT 1)", "SUBSCRIBE to a query"),
    ("COPY t FROM '/tmp/x'", "COPY from a file"),
    ("COPY t TO '/tmp/x'", "COPY to a file"),
    (
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "MERGE",
    ),
    ("GRANT SELECT (a) ON t TO x", "privileges on columns"),
    ("GRANT SELECT ON t TO x WITH GRANT OPTION", "GRANT OPTION"),
    ("GRANT admin TO x", "membership in another role"),
    ("CREATE ROLE r CREATEDB", "a role that may do some"),
    ("CREATE ROLE r IN ROLE s", "membership in another role"),
    ("GRANT a, b TO x", "membership in another role"),
    (
        "REVOKE SELECT ON FUNCTION f FROM x",
        "privileges on anything but",
    ),
    ("ALTER ROLE r RENAME TO s", "ALTER ROLE with RENAME"),
    (
        "SELECT * FROM a JOIN d FOR SYSTEM_TIME AS OF a.ts ON a.k = d.k",
        "FOR SYSTEM_TIME with anything but AS OF PROCTIME()",
    ),
    ("SELECT 1 EMIT ON WINDOW CLOSE", "EMIT ON WINDOW CLOSE here"),
    ("SELECT * INTO x FROM t", "SELECT INTO"),
    ("SELECT * FROM t FOR UPDATE", "SELECT ... FOR UPDATE"),
    (
        "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
        "INSERT, UPDATE, DELETE or MERGE",
    ),
    ("CREATE TABLE t AS SELECT 1", "CREATE TABLE ... AS"),
    ("CREATE TEMP TABLE t (a INT)", "a temporary table"),
    ("CREATE TABLE t (a SERIAL)", "type serial"),
    ("CREATE TABLE t (a INT UNIQUE)", "UNIQUE"),
    ("CREATE TABLE t (a INT REFERENCES u)", "FOREIGN KEY"),
    (
        "CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY)",
        "an identity column",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'kafka') FORMAT UPSERT ENCODE JSON",
        "CREATE TABLE with a connector",
    ),
    (
        "CREATE SOURCE s (a INT PRIMARY KEY) WITH (connector = 'kafka') FORMAT PLAIN ENCODE JSON",
        "PRIMARY KEY on a source",
    ),
    (
        "CREATE SOURCE s (a INT) WITH (connector = 'kafka') FORMAT DEBEZIUM ENCODE JSON",
        "FORMAT UPSERT or DEBEZIUM",
    ),
    (
        "CREATE SOURCE s (a INT DEFAULT 1) WITH (connector = 'kafka')",
        "DEFAULT on a source",
    ),
    ("FETCH PRIOR FROM c", "a FETCH that does not go forward"),
    ("SHOW TABLES FROM s", "a filter in SHOW"),
    (
        "SELECT * FROM other.public.t.x; DROP TABLE a.b.c",
        "a name in another database",
    ),
];

#[test]
fn refused_statements_say_what_to_do() {
    for (sql, feature) in REFUSED {
        match error(sql) {
            PlanError::Unsupported {
                feature: refused,
                hint,
            } => {
                assert!(refused.starts_with(feature), "{sql}: {refused}");
                assert!(!hint.is_empty(), "{sql}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

/// Definition, part of the message.
const CONTRADICTING: &[(&str, &str)] = &[
    (
        "CREATE TABLE t (a INT, A TEXT)",
        "column \"a\" specified more than once",
    ),
    (
        "CREATE TABLE t (a INT, PRIMARY KEY (b))",
        "column \"b\" named in key does not exist",
    ),
    (
        "CREATE TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)",
        "multiple primary keys",
    ),
    (
        "CREATE TABLE t (a INT, PRIMARY KEY (a, a))",
        "column \"a\" appears twice",
    ),
    (
        "CREATE TABLE t (a INT NULL NOT NULL)",
        "conflicting NULL and NOT NULL",
    ),
    (
        "CREATE TABLE t (a INT DEFAULT 1 DEFAULT 2)",
        "multiple default values",
    ),
    (
        "CREATE TABLE t (a INT DEFAULT 1 AS (b))",
        "both a default and a generation expression",
    ),
    (
        "CREATE TABLE t (a nonsense)",
        "type \"nonsense\" does not exist",
    ),
    (
        "CREATE TABLE t (a INT) WITH (foo = 1)",
        "unknown option \"foo\"",
    ),
    (
        "CREATE TABLE t (a INT) WITH (append_only = 'maybe')",
        "option \"append_only\" must be 'true' or 'false'",
    ),
    (
        "CREATE TABLE t (a INT) WITH (a = 1, A = 2)",
        "option \"a\" is given twice",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts)",
        "WATERMARK FOR needs an append-only table",
    ),
    (
        "CREATE SOURCE s (a INT, WATERMARK FOR ts AS ts) FORMAT PLAIN ENCODE JSON",
        "column \"ts\" named in WATERMARK FOR does not exist",
    ),
    (
        "CREATE SOURCE s (ts TEXT, WATERMARK FOR ts AS ts) FORMAT PLAIN ENCODE JSON",
        "a watermark needs a timestamp column, but \"ts\" is of type text",
    ),
    (
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 month') FORMAT PLAIN ENCODE JSON",
        "a watermark's delay has no fixed length",
    ),
    (
        "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts + INTERVAL '1 s') FORMAT PLAIN ENCODE JSON",
        "a watermark must be its column",
    ),
    (
        "CREATE SOURCE s WITH (connector = 'kafka') FORMAT PLAIN ENCODE JSON",
        "the source has no columns",
    ),
    (
        "CREATE SOURCE s (a INT) FORMAT PLAIN ENCODE XML",
        "unknown ENCODE XML",
    ),
    (
        "CREATE SOURCE s (p INT) INCLUDE partition AS p FORMAT PLAIN ENCODE JSON",
        "column \"p\" specified more than once",
    ),
    (
        "CREATE VIEW v (a, a) AS SELECT 1, 2",
        "column \"a\" specified more than once",
    ),
    (
        "SELECT * FROM TUMBLE(DATA => TABLE r, SIZE => '1 s')",
        "tumble is not given its argument \"timecol\"",
    ),
    (
        "SELECT * FROM TUMBLE(r, ts, WIDTH => '1 s')",
        "tumble has no argument \"WIDTH\"",
    ),
];

#[test]
fn contradicting_definitions() {
    for (sql, message) in CONTRADICTING {
        let e = error(sql);
        assert!(e.to_string().contains(message), "{sql}: {e}");
    }
}

#[test]
fn unknown_types_have_positions() {
    assert_eq!(
        error("SELECT 1; CREATE TABLE t (a INT, b blub)").position(),
        Some(36)
    );
}
