//! Definitions: what a CREATE means, and that its canonical text means the same.

use super::{error, one};
use crate::catalog::{
    Include, MaterializedViewDef, Object, ObjectId, ObjectKind, OutputColumn, SourceDef, TableDef,
    TableId, ViewDef,
};
use crate::definition::create_statement;
use crate::statement::{ObjectName, Statement};
use crate::types::SqlType;

const SOURCE: &str = "CREATE SOURCE IF NOT EXISTS readings (
  device_id VARCHAR, \"Temp\" DOUBLE PRECISION NOT NULL, ts TIMESTAMPTZ,
  nested STRUCT<a INT, b STRUCT<c VARCHAR[]>>[],
  kafka_lag_ms BIGINT AS (EXTRACT(EPOCH FROM kafka_ts - ts) * 1000)::BIGINT NOT NULL,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
)
INCLUDE key AS k  INCLUDE key BYTEA AS kb  INCLUDE partition AS p  INCLUDE offset AS o  INCLUDE timestamp AS kafka_ts
INCLUDE header AS h  INCLUDE header 'trace' AS trace  INCLUDE payload
WITH (
  connector = 'kafka', Topic = 'readings', properties.bootstrap.server = 'localhost:9092',
  scan.startup.mode = earliest, fields.\"Temp\".kind = 'random', rows_per_second = 1000,
  properties.sasl.password = 'hunter2'
)
FORMAT PLAIN ENCODE JSON (timestamp.unit = 'ms')";

fn source(sql: &str) -> SourceDef {
    match one(sql) {
        Statement::CreateSource { def, .. } => def,
        other => panic!("{other:?}"),
    }
}

fn table(sql: &str) -> TableDef {
    match one(sql) {
        Statement::CreateTable { def, .. } => def,
        other => panic!("{other:?}"),
    }
}

fn object(name: &str, kind: ObjectKind) -> Object {
    let name = ObjectName {
        schema: None,
        name: name.to_string(),
    }
    .resolve("public");
    Object {
        id: ObjectId(1),
        name,
        sql: String::new(),
        comment: None,
        depends_on: Vec::new(),
        kind,
    }
}

#[test]
fn a_source_in_full() {
    let def = source(SOURCE);
    let columns: Vec<String> = def
        .columns
        .iter()
        .map(|c| {
            let null = if c.not_null { " not null" } else { "" };
            let generated = c
                .generated
                .as_ref()
                .map(|e| format!(" as {e}"))
                .unwrap_or_default();
            let include = c
                .include
                .as_ref()
                .map(|i| format!(" {i:?}"))
                .unwrap_or_default();
            format!("{} {}{null}{generated}{include}", c.name, c.data_type)
        })
        .collect();
    assert_eq!(
        columns,
        [
            "device_id text",
            "Temp double precision not null",
            "ts timestamp with time zone",
            "nested struct<a integer, b struct<c text[]>>[]",
            "kafka_lag_ms bigint not null as (EXTRACT(EPOCH FROM kafka_ts - ts) * 1000)::BIGINT",
            "k text Key",
            "kb bytea Key",
            "p integer Partition",
            "o bigint Offset",
            "kafka_ts timestamp with time zone Timestamp",
            "h struct<key text, value bytea>[] Headers",
            "trace bytea Header(\"trace\")",
            "_payload text Payload",
        ]
    );
    assert_eq!(
        def.watermark.map(|w| (w.column, w.delay_us)),
        Some(("ts".to_string(), 5_000_000))
    );
    assert_eq!(def.options["topic"], "readings");
    assert_eq!(def.options["scan.startup.mode"], "earliest");
    assert_eq!(def.options["fields.temp.kind"], "random");
    assert_eq!(def.options["rows_per_second"], "1000");
    assert_eq!(def.encode_options["timestamp.unit"], "ms");
}

#[test]
fn spellings_of_a_delay() {
    let cases = [
        ("ts", 0),
        ("ts - INTERVAL '5' SECOND", 5_000_000),
        ("ts - INTERVAL '5 seconds'", 5_000_000),
        ("ts - '5 seconds'::interval", 5_000_000),
        ("(ts - INTERVAL '1' MINUTES)", 60_000_000),
        ("ts - INTERVAL '1 day 2 hours'", 93_600_000_000),
        ("ts - INTERVAL '500 milliseconds'", 500_000),
        ("\"ts\" - INTERVAL '0.5' SECOND", 500_000),
        ("ts - INTERVAL '00:00:05'", 5_000_000),
    ];
    for (expression, delay_us) in cases {
        let sql = format!(
            "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS {expression}) FORMAT PLAIN ENCODE JSON"
        );
        let watermark = source(&sql).watermark.expect("declared");
        assert_eq!(watermark.delay_us, delay_us, "{expression}");
    }
}

#[test]
fn table_constraints() {
    let def = table(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, price NUMERIC DEFAULT (1 + 2) * 3 NOT NULL CHECK (price > 0), \
         CHECK (price < 100), CHECK (id > 0), twice NUMERIC GENERATED ALWAYS AS (price * 2) STORED, \
         at TIMESTAMPTZ DEFAULT now(), CONSTRAINT \"My check\" CHECK (id <> 3))",
    );
    assert!(def.columns[0].not_null && def.columns[1].not_null && !def.columns[3].not_null);
    assert_eq!(def.columns[1].default.as_deref(), Some("(1 + 2) * 3"));
    assert_eq!(def.columns[2].generated.as_deref(), Some("(price * 2)"));
    assert_eq!(def.columns[3].default.as_deref(), Some("now()"));
    let names: Vec<&str> = def.checks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["t_price_check", "t_price_check1", "t_id_check", "My check"]
    );
    assert_eq!(def.rows, TableId(0));
}

#[test]
fn a_definition_reads_back_from_its_text() {
    let mut expected = source(SOURCE);
    expected
        .options
        .insert("properties.sasl.password".to_string(), "***".to_string());
    let text = create_statement(&object("readings", ObjectKind::Source(expected.clone())));
    assert!(!text.contains("hunter2"), "{text}");
    let again = source(&text);
    // The text of a generated column gains parentheses.
    expected.columns[4].generated = again.columns[4].generated.clone();
    assert_eq!(again, expected);

    let sql = "CREATE TABLE \"T 1\" (a INT, b VARCHAR(7) DEFAULT 'it''s', ts TIMESTAMP(3), PRIMARY KEY (b, a), \
               CHECK (a > 0), WATERMARK FOR ts AS ts - INTERVAL '1500' MILLISECONDS) WITH (append_only = 'true')";
    let def = table(sql);
    assert_eq!(
        table(&create_statement(&object(
            "T 1",
            ObjectKind::Table(def.clone())
        ))),
        def
    );
}

#[test]
fn canonical_texts() {
    let column = |name: &str| OutputColumn {
        name: name.to_string(),
        data_type: SqlType::BigInt,
        nullable: true,
        comment: None,
    };
    let view = ViewDef {
        columns: vec![column("a"), column("Order")],
        query: "SELECT 1, 2".to_string(),
    };
    assert_eq!(
        create_statement(&object("v", ObjectKind::View(view))),
        "CREATE VIEW v (a, \"Order\") AS\nSELECT 1, 2"
    );
    let view = MaterializedViewDef {
        columns: vec![column("n")],
        query: "SELECT count(*) FROM public.t".to_string(),
        emit_on_window_close: true,
        options: [("retention".to_string(), "7 days".to_string())].into(),
        stream_key: None,
        append_only: false,
        watermark_columns: Vec::new(),
        retention: None,
        rows: TableId(1),
        first_state_table: TableId(2),
        state_tables: 1,
        fingerprint: 0,
    };
    let text = create_statement(&object("mv", ObjectKind::MaterializedView(view)));
    assert_eq!(
        text,
        "CREATE MATERIALIZED VIEW mv (n)\nWITH (retention = '7 days') AS\nSELECT count(*) FROM public.t\n\
         EMIT ON WINDOW CLOSE"
    );
    one(&text);
    let table = table("CREATE TABLE t (id INT PRIMARY KEY, n TEXT NOT NULL DEFAULT 'x')");
    assert_eq!(
        create_statement(&object("t", ObjectKind::Table(table))),
        "CREATE TABLE t (\n  id integer NOT NULL,\n  n text DEFAULT 'x' NOT NULL,\n  PRIMARY KEY (id)\n)"
    );
}

#[test]
fn includes_without_a_name_and_wrong_ones() {
    let def = source(
        "CREATE SOURCE s (a INT) INCLUDE HEADER 'x-id' INCLUDE key FORMAT PLAIN ENCODE JSON",
    );
    let names: Vec<&str> = def.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a", "_header_x-id", "_key"]);
    assert_eq!(
        def.columns[1].include,
        Some(Include::Header("x-id".to_string()))
    );
    let e = error("CREATE SOURCE s (a INT) INCLUDE topic FORMAT PLAIN ENCODE JSON");
    assert_eq!(e.position(), Some(33));
}
