//! Every statement kind, summarised in one line.

use super::one;
use crate::definition::quoted_name;
use crate::parse::parse;
use crate::statement::{ObjectName, Statement};

fn check(sql: &str, expected: &str) {
    assert_eq!(summary(&one(sql)), expected, "{sql}");
}

fn check_all(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        check(sql, expected);
    }
}

fn name(name: &ObjectName) -> String {
    quoted_name(&name.resolve("public"))
}

fn summary(statement: &Statement) -> String {
    match statement {
        Statement::CreateSource {
            name: n,
            if_not_exists,
            def,
        } => {
            format!(
                "source {} ine={if_not_exists} {} columns",
                name(n),
                def.columns.len()
            )
        }
        Statement::CreateTable {
            name: n,
            if_not_exists,
            def,
        } => format!(
            "table {} ine={if_not_exists} {} key={:?} append_only={}",
            name(n),
            def.columns
                .iter()
                .map(|c| format!("{}:{}", c.name, c.data_type))
                .collect::<Vec<_>>()
                .join(","),
            def.primary_key,
            def.append_only
        ),
        Statement::CreateView {
            name: n,
            or_replace,
            columns,
            query,
        } => {
            format!("view {} or={or_replace} {columns:?} {query}", name(n))
        }
        Statement::CreateMaterializedView {
            name: n,
            or_replace,
            if_not_exists,
            columns,
            options,
            query,
            emit_on_window_close,
        } => format!(
            "mv {} or={or_replace} ine={if_not_exists} {columns:?} {options:?} eowc={emit_on_window_close} {query}",
            name(n)
        ),
        other => summary_of_use(other),
    }
}

/// A change of rows, with its WITH.
fn changed(with: &Option<sqlparser::ast::With>, body: &impl std::fmt::Display) -> String {
    match with {
        Some(with) => format!("{with} {body}"),
        None => body.to_string(),
    }
}

/// Statements that define nothing.
fn summary_of_use(statement: &Statement) -> String {
    match statement {
        Statement::Query(query) => query.to_string(),
        Statement::Insert(insert) => changed(&insert.with, &insert.body),
        Statement::Update(update) => changed(&update.with, &update.body),
        Statement::Delete(delete) => changed(&delete.with, &delete.body),
        Statement::Truncate { names } => {
            let names: Vec<String> = names.iter().map(name).collect();
            format!("truncate {}", names.join(", "))
        }
        Statement::Explain {
            analyze,
            verbose,
            statement,
        } => {
            format!("explain a={analyze} v={verbose} {}", summary(statement))
        }
        Statement::ExplainRunning { name: n } => format!("explain running {}", name(n)),
        Statement::CopyOut { query, options } => format!("copy {query} {options:?}"),
        Statement::CopyIn(copy) => format!("{copy:?}"),
        Statement::Prepare {
            name,
            parameter_types,
            statement,
        } => {
            format!("prepare {name} {parameter_types:?} {}", summary(statement))
        }
        Statement::Execute { name, parameters } => {
            format!(
                "execute {name} {}",
                parameters
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            )
        }
        Statement::DeclareCursor { name, query } => format!("declare {name} {query}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn queries() {
    check_all(&[
        ("select 1", "SELECT 1"),
        (
            "(SELECT 1) UNION ALL (SELECT 2)",
            "(SELECT 1) UNION ALL (SELECT 2)",
        ),
        ("VALUES (1, 'a'), (2, 'b')", "VALUES (1, 'a'), (2, 'b')"),
        (
            "WITH c AS (SELECT 1) SELECT * FROM c",
            "WITH c AS (SELECT 1) SELECT * FROM c",
        ),
        ("TABLE t", "SELECT * FROM t"),
        (
            "TABLE s.\"T\" ORDER BY 1",
            "SELECT * FROM s.\"T\" ORDER BY 1",
        ),
        ("SELECT 1 UNION TABLE t", "SELECT 1 UNION SELECT * FROM t"),
        (
            "SELECT a FROM t WHERE b = $1 AND c @> '{}'",
            "SELECT a FROM t WHERE b = $1 AND c @> '{}'",
        ),
        (
            "SELECT DISTINCT ON (a) * FROM t ORDER BY a, b",
            "SELECT DISTINCT ON (a) * FROM t ORDER BY a, b",
        ),
        ("SELECT 'a'\n 'b', E'c'\n'd'", "SELECT 'ab', E'cd'"),
        (
            "SELECT ts AT TIME ZONE 'UTC' FROM t",
            "SELECT ts AT TIME ZONE 'UTC' FROM t",
        ),
        ("SELECT (s).a FROM t", "SELECT (s).a FROM t"),
        ("SELECT x::int[] FROM t", "SELECT x::INT[] FROM t"),
        ("SELECT struct, floor FROM t", "SELECT struct, floor FROM t"),
        (
            "SELECT count(*) FILTER (WHERE a > 1) FROM t",
            "SELECT count(*) FILTER (WHERE a > 1) FROM t",
        ),
        (
            "SELECT x >> 2 FROM t WHERE a < b AND c > d",
            "SELECT x >> 2 FROM t WHERE a < b AND c > d",
        ),
    ]);
}

#[test]
fn window_functions_have_one_form() {
    check_all(&[
        (
            "SELECT * FROM TUMBLE(r, ts, INTERVAL '1 minute')",
            "SELECT * FROM tumble(r, ts, INTERVAL '1 minute')",
        ),
        (
            "SELECT * FROM TABLE(TUMBLE(TABLE s.r, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) AS w",
            "SELECT * FROM tumble(s.r, ts, INTERVAL '1' MINUTE) AS w",
        ),
        (
            "SELECT * FROM TABLE(HOP(TABLE r, DESCRIPTOR(ts), INTERVAL '5' SECONDS, INTERVAL '1' MINUTE))",
            "SELECT * FROM hop(r, ts, INTERVAL '5' SECONDS, INTERVAL '1' MINUTE)",
        ),
        (
            "SELECT * FROM TABLE(HOP(DATA => TABLE r, TIMECOL => DESCRIPTOR(ts), SIZE => '10 s', SLIDE => '5 s'))",
            "SELECT * FROM hop(r, ts, '5 s', '10 s')",
        ),
        (
            "SELECT * FROM TUMBLE((SELECT a, ts FROM r WHERE a > 1), ts, '1 minute', '5 s') t",
            "SELECT * FROM tumble((SELECT a, ts FROM r WHERE a > 1), ts, '1 minute', '5 s') t",
        ),
        (
            "SELECT * FROM Cumulate(TABLE r, DESCRIPTOR(\"Ts\"), INTERVAL '1' HOUR, INTERVAL '1' DAY)",
            "SELECT * FROM cumulate(r, \"Ts\", INTERVAL '1' HOUR, INTERVAL '1' DAY)",
        ),
        (
            "SELECT * FROM SESSION(r, ts, INTERVAL '1' MINUTE PARTITION BY k, l)",
            "SELECT * FROM session(r, ts, INTERVAL '1' MINUTE, partition_by => k, partition_by => l)",
        ),
        (
            "SELECT * FROM TABLE(SESSION(DATA => TABLE r PARTITION BY k, TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '1' MINUTE))",
            "SELECT * FROM session(r, ts, INTERVAL '1' MINUTE, partition_by => k)",
        ),
        (
            "SELECT * FROM SESSION(TABLE r PARTITION BY (k, l), DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
            "SELECT * FROM session(r, ts, INTERVAL '1' MINUTE, partition_by => (k, l))",
        ),
        (
            "SELECT * FROM generate_series(1, 3) AS g(i)",
            "SELECT * FROM generate_series(1, 3) AS g (i)",
        ),
    ]);
}

#[test]
fn changes() {
    check_all(&[
        (
            "INSERT INTO t VALUES (1, DEFAULT)",
            "INSERT INTO t VALUES (1, DEFAULT)",
        ),
        (
            "insert into t (a) select b from u",
            "INSERT INTO t (a) SELECT b FROM u",
        ),
        (
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t DEFAULT VALUES",
        ),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING RETURNING *",
            "INSERT INTO t VALUES (1) ON CONFLICT(a) DO NOTHING RETURNING *",
        ),
        (
            "UPDATE t SET a = a + 1 WHERE b",
            "UPDATE t SET a = a + 1 WHERE b",
        ),
        ("DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = 1"),
        (
            "DELETE FROM t USING u WHERE t.a = u.a",
            "DELETE FROM t USING u WHERE t.a = u.a",
        ),
    ]);
}

#[test]
fn views() {
    check_all(&[
        ("CREATE VIEW v AS SELECT 1", "view v or=false [] SELECT 1"),
        (
            "CREATE OR REPLACE VIEW s.v (a, \"B\") AS TABLE t",
            "view s.v or=true [\"a\", \"B\"] SELECT * FROM t",
        ),
        (
            "CREATE MATERIALIZED VIEW mv AS SELECT 1",
            "mv mv or=false ine=false [] {} eowc=false SELECT 1",
        ),
        (
            "CREATE MATERIALIZED VIEW IF NOT EXISTS rivermark.public.mv (a) WITH (Retention = '7 days') AS \
             SELECT count(*) FROM TUMBLE(r, ts, '1 s') GROUP BY window_start EMIT ON WINDOW CLOSE;",
            "mv mv or=false ine=true [\"a\"] {\"retention\": \"7 days\"} eowc=true \
             SELECT count(*) FROM tumble(r, ts, '1 s') GROUP BY window_start",
        ),
        (
            "CREATE OR REPLACE MATERIALIZED VIEW mv AS SELECT * FROM t WITH DATA",
            "mv mv or=true ine=false [] {} eowc=false SELECT * FROM t",
        ),
    ]);
}

#[test]
fn tables() {
    check_all(&[
        (
            "CREATE TABLE t (a INT)",
            "table t ine=false a:integer key=[] append_only=false",
        ),
        (
            "create table if not exists T (A int primary key, \"B\" varchar(3) not null, c numeric(10,2) default 1.5)",
            "table t ine=true a:integer,B:character varying(3),c:numeric(10,2) key=[0] append_only=false",
        ),
        (
            "CREATE TABLE t (a INT, b INT, ts TIMESTAMPTZ, PRIMARY KEY (b, a), WATERMARK FOR ts AS ts) \
             WITH (append_only = true)",
            "table t ine=false a:integer,b:integer,ts:timestamp with time zone key=[1, 0] append_only=true",
        ),
        (
            "CREATE TABLE t (a INT DEFAULT 5 NOT NULL CHECK (a > 0), CONSTRAINT c CHECK (a < 9))",
            "table t ine=false a:integer key=[] append_only=false",
        ),
    ]);
}

/// Schemas, comments, SHOW, settings, transactions, prepared statements, cursors, EXPLAIN, COPY.
const REST: &[(&str, &str)] = &[
    (
        "WITH n AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM n",
        "WITH n AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM n",
    ),
    (
        "WITH n AS (SELECT 1 AS a) UPDATE t SET (a, b) = (1, 2) FROM n WHERE t.a = n.a RETURNING *",
        "WITH n AS (SELECT 1 AS a) UPDATE t SET (a, b) = (1, 2) FROM n WHERE t.a = n.a RETURNING *",
    ),
    (
        "WITH n AS (SELECT 1 AS a) DELETE FROM t USING n WHERE t.a = n.a",
        "WITH n AS (SELECT 1 AS a) DELETE FROM t USING n WHERE t.a = n.a",
    ),
    (
        "TRUNCATE TABLE ONLY t, \"S\".u RESTART IDENTITY CASCADE",
        "truncate t, \"S\".u",
    ),
    (
        "CREATE SCHEMA IF NOT EXISTS s",
        "CreateSchema { name: \"s\", if_not_exists: true }",
    ),
    (
        "CREATE UNIQUE INDEX IF NOT EXISTS i ON s.t USING btree (a DESC, \"B\" NULLS FIRST)",
        "CreateIndex(CreateIndex { name: Some(\"i\"), if_not_exists: true, is_unique: true, \
             relation: ObjectName { schema: Some(\"s\"), name: \"t\" }, columns: [\
             NamedIndexColumn { name: \"a\", is_descending: true, nulls_first: true }, \
             NamedIndexColumn { name: \"B\", is_descending: false, nulls_first: true }] })",
    ),
    (
        "CREATE INDEX ON t (a)",
        "CreateIndex(CreateIndex { name: None, if_not_exists: false, is_unique: false, \
             relation: ObjectName { schema: None, name: \"t\" }, columns: [\
             NamedIndexColumn { name: \"a\", is_descending: false, nulls_first: false }] })",
    ),
    (
        "DROP MATERIALIZED VIEW IF EXISTS a, s.b CASCADE",
        "Drop { kind: MaterializedView, names: [ObjectName { schema: None, name: \"a\" }, \
             ObjectName { schema: Some(\"s\"), name: \"b\" }], if_exists: true, cascade: true }",
    ),
    (
        "DROP SOURCE x RESTRICT",
        "Drop { kind: Source, names: [ObjectName { schema: None, name: \"x\" }], if_exists: false, cascade: false }",
    ),
    (
        "DROP SCHEMA a, b",
        "DropSchema { names: [\"a\", \"b\"], if_exists: false, cascade: false }",
    ),
    (
        "COMMENT ON COLUMN s.t.c IS 'it''s'",
        "Comment { kind: Column, name: ObjectName { schema: Some(\"s\"), name: \"t\" }, column: Some(\"c\"), \
             comment: Some(\"it's\") }",
    ),
    (
        "COMMENT ON MATERIALIZED VIEW v IS NULL",
        "Comment { kind: Relation, name: ObjectName { schema: None, name: \"v\" }, column: None, comment: None }",
    ),
    ("SHOW TABLES", "Show(Tables)"),
    ("SHOW MATERIALIZED VIEWS", "Show(MaterializedViews)"),
    (
        "SHOW COLUMNS FROM t",
        "Show(Columns { relation: ObjectName { schema: None, name: \"t\" } })",
    ),
    (
        "SHOW CREATE MATERIALIZED VIEW t",
        "Show(Create { name: ObjectName { schema: None, name: \"t\" } })",
    ),
    (
        "SHOW CREATE t",
        "Show(Create { name: ObjectName { schema: None, name: \"t\" } })",
    ),
    ("SHOW ALL", "Show(AllSettings)"),
    ("SHOW Search_Path", "Show(Setting(\"search_path\"))"),
    (
        "SHOW TRANSACTION ISOLATION LEVEL",
        "Show(Setting(\"transaction_isolation\"))",
    ),
    ("SHOW TIME ZONE", "Show(Setting(\"timezone\"))"),
    (
        "DESC t",
        "Describe { name: ObjectName { schema: None, name: \"t\" } }",
    ),
    ("FLUSH", "Flush"),
    ("VACUUM FULL", "Vacuum"),
    (
        "SET a.b TO 'x', Y, -1",
        "Set { name: \"a.b\", value: Value([\"x\", \"y\", \"-1\"]), local: false }",
    ),
    (
        "SET LOCAL x = DEFAULT",
        "Set { name: \"x\", value: Default, local: true }",
    ),
    (
        "SET SESSION x = on",
        "Set { name: \"x\", value: Value([\"on\"]), local: false }",
    ),
    (
        "SET TIME ZONE 'UTC'",
        "Set { name: \"timezone\", value: Value([\"UTC\"]), local: false }",
    ),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "Set { name: \"default_transaction_isolation\", value: Value([\"repeatable read\"]), local: false }",
    ),
    (
        "SET TRANSACTION READ ONLY",
        "Set { name: \"transaction_read_only\", value: Value([\"on\"]), local: true }",
    ),
    ("RESET ALL", "Reset { name: None }"),
    ("RESET x", "Reset { name: Some(\"x\") }"),
    ("BEGIN", "Begin { modes: [] }"),
    (
        "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "Begin { modes: [(\"transaction_isolation\", \"serializable\"), (\"transaction_read_only\", \"on\")] }",
    ),
    ("START TRANSACTION", "Begin { modes: [] }"),
    ("END", "Commit"),
    ("COMMIT WORK AND NO CHAIN", "Commit"),
    ("ABORT", "Rollback"),
    (
        "PREPARE p (int, text) AS SELECT $1",
        "prepare p [Int(None), Text] SELECT $1",
    ),
    ("EXECUTE p (1, 'a')", "execute p 1,'a'"),
    ("DEALLOCATE PREPARE ALL", "Deallocate { name: None }"),
    (
        "DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
        "declare c SELECT 1",
    ),
    (
        "FETCH FORWARD 10 FROM c",
        "Fetch { name: \"c\", count: Rows(10), timeout: None }",
    ),
    (
        "FETCH c",
        "Fetch { name: \"c\", count: Rows(1), timeout: None }",
    ),
    (
        "FETCH ALL IN c",
        "Fetch { name: \"c\", count: All, timeout: None }",
    ),
    ("CLOSE ALL", "CloseCursor { name: None }"),
    ("DISCARD ALL", "Discard(All)"),
    (
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "explain a=true v=true SELECT 1",
    ),
    (
        "EXPLAIN (VERBOSE, ANALYZE off, FORMAT text) SELECT 1",
        "explain a=false v=true SELECT 1",
    ),
    (
        "EXPLAIN ANALYZE MATERIALIZED VIEW s.v",
        "explain running s.v",
    ),
    ("EXPLAIN (SELECT 1)", "explain a=false v=false (SELECT 1)"),
    (
        "EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT 1 EMIT ON WINDOW CLOSE",
        "explain a=false v=false mv v or=false ine=false [] {} eowc=true SELECT 1",
    ),
    (
        "COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'n')",
        "copy SELECT 1 CopyOptions { format: Csv, header: Line, delimiter: Some(59), null: Some(\"n\"), quote: None, escape: None, force_not_null: [], force_null: [] }",
    ),
    (
        "COPY s.t (a, \"B\") FROM STDIN (FORMAT csv, HEADER match, QUOTE '''', ESCAPE '\\', FORCE_NULL (a)) WHERE a > 1",
        "CopyIn { name: ObjectName { schema: Some(\"s\"), name: \"t\" }, columns: [\"a\", \"B\"], options: CopyOptions { format: Csv, header: Match, delimiter: None, null: None, quote: Some(39), escape: Some(92), force_not_null: [], force_null: [\"a\"] }, filter: Some(\"a > 1\") }",
    ),
    (
        "COPY s.t (a, \"B\") TO STDOUT CSV HEADER",
        "copy SELECT a, \"B\" FROM s.t CopyOptions { format: Csv, header: Line, delimiter: None, null: None, quote: None, escape: None, force_not_null: [], force_null: [] }",
    ),
];

#[test]
fn the_rest() {
    check_all(REST);
}

#[test]
fn several_statements_with_their_texts() {
    let parsed = parse("BEGIN; /* x */ SELECT ';' ; -- done\n COMMIT").expect("parses");
    let texts: Vec<&str> = parsed.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(texts, ["BEGIN", "SELECT ';'", "COMMIT"]);
    assert!(parse("-- nothing").expect("parses").is_empty());
}
