//! A small catalog and ways to run queries over it, for this crate's tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::prelude::SessionContext;
use sqlparser::ast;

use crate::bind::Binder;
use crate::catalog::{
    Catalog, ColumnDef, Encode, Format, Include, Object, ObjectKind, QualifiedName, SourceDef,
    TableDef, TableId, ViewDef, WatermarkDef,
};
use crate::error::Result;
use crate::explain::explain;
use crate::lower::{PlannedView, ViewQuery, bind_view, plan_view};
use crate::parse_query::parse_query;
use crate::relations::{Relation, Relations};
use crate::session::session_state;
use crate::statement::ObjectName;
use crate::types::SqlType;

fn text() -> SqlType {
    SqlType::Text { max_length: None }
}

fn column(name: &str, data_type: SqlType) -> ColumnDef {
    ColumnDef {
        name: name.to_string(),
        data_type,
        not_null: false,
        default: None,
        generated: None,
        include: None,
        comment: None,
    }
}

fn add(catalog: &mut Catalog, name: &str, kind: ObjectKind, depends_on: Vec<crate::ObjectId>) {
    let id = catalog.allocate_object();
    let name = QualifiedName {
        schema: "public".to_string(),
        name: name.to_string(),
    };
    catalog.put(Object {
        id,
        name,
        sql: String::new(),
        comment: None,
        depends_on,
        kind,
    });
}

/// `readings`: a source with a watermark and a generated column. `t(id, a, b, name)`: a table with a key.
/// `log(k, v, x, at)`: a table without one. `busy`: a view on `t`.
pub fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    let mut lag = column("lag_ms", SqlType::BigInt);
    lag.generated = Some("EXTRACT(EPOCH FROM kafka_ts - ts) * 1000".to_string());
    let mut kafka_ts = column("kafka_ts", SqlType::Timestamptz);
    kafka_ts.include = Some(Include::Timestamp);
    let source = SourceDef {
        columns: vec![
            column("device_id", text()),
            column("temperature", SqlType::Double),
            column("ts", SqlType::Timestamptz),
            lag,
            column("tags", SqlType::Array(Box::new(text()))),
            kafka_ts,
        ],
        watermark: Some(WatermarkDef {
            column: "ts".to_string(),
            delay_us: 5_000_000,
        }),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        format: Format::Plain,
        encode: Encode::Json,
        encode_options: BTreeMap::new(),
        start: BTreeMap::new(),
    };
    add(&mut catalog, "readings", ObjectKind::Source(source), vec![]);
    let table = |columns: Vec<ColumnDef>, primary_key: Vec<usize>| {
        ObjectKind::Table(TableDef {
            columns,
            primary_key,
            append_only: false,
            watermark: None,
            checks: vec![],
            options: BTreeMap::new(),
            rows: TableId(1),
        })
    };
    let mut id = column("id", SqlType::Integer);
    id.not_null = true;
    let columns = vec![
        id,
        column("a", SqlType::Integer),
        column("b", SqlType::Integer),
        column("name", text()),
    ];
    add(&mut catalog, "t", table(columns, vec![0]), vec![]);
    let columns = vec![
        column("k", text()),
        column("v", SqlType::BigInt),
        column("x", SqlType::Double),
        column("at", SqlType::Timestamp),
        column(
            "n",
            SqlType::Numeric {
                precision: 10,
                scale: 2,
            },
        ),
    ];
    add(&mut catalog, "log", table(columns, vec![]), vec![]);
    let query = parse("SELECT id, a + b AS total FROM t WHERE a > 0");
    let bound = bind_view(&catalog, view_query(&query, &[])).unwrap();
    let view = ObjectKind::View(ViewDef {
        columns: bound.columns,
        query: bound.bound_sql,
    });
    add(&mut catalog, "busy", view, bound.depends_on);
    catalog
}

/// Parses a query.
pub fn parse(sql: &str) -> ast::Query {
    parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn view_query<'a>(query: &'a ast::Query, columns: &'a [String]) -> ViewQuery<'a> {
    ViewQuery {
        query,
        columns,
        time_zone: "UTC",
        text: None,
        emit_on_window_close: false,
    }
}

/// Plans `sql` as a materialized view over [`catalog`].
pub fn plan(sql: &str) -> Result<PlannedView> {
    let query = parse(sql);
    plan_view(
        &catalog(),
        ViewQuery {
            text: Some(sql),
            ..view_query(&query, &[])
        },
    )
}

/// The EXPLAIN lines of `sql` as a materialized view, without the fingerprint.
pub fn explained(sql: &str) -> String {
    let planned = plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut lines = explain(&planned.plan);
    lines.pop();
    lines.join("\n")
}

/// Relations of a catalog with rows in memory.
pub struct Rows<'a> {
    pub catalog: &'a Catalog,
    pub rows: BTreeMap<&'static str, RecordBatch>,
}

impl Relations for Rows<'_> {
    fn relation(&self, name: &ObjectName) -> Option<Relation> {
        let object = self.catalog.find(&name.resolve("public"))?;
        Relation::of_object(object, |schema| {
            let batch = match self.rows.get(name.name.as_str()) {
                Some(batch) => {
                    RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).unwrap()
                }
                None => RecordBatch::new_empty(Arc::clone(&schema)),
            };
            provider_as_source(Arc::new(
                MemTable::try_new(schema, vec![vec![batch]]).unwrap(),
            ))
        })
    }
}

/// Runs `sql` as a batch query: column names, then one line per row; or the error.
pub fn run(sql: &str, relations: &dyn Relations) -> String {
    let state = session_state("UTC");
    let bound = match Binder::new(relations, &state)
        .with_text(sql)
        .bind_query(&parse(sql))
    {
        Ok(bound) => bound,
        Err(error) => return format!("error: {error}"),
    };
    let runtime = tokio_runtime();
    let context = SessionContext::new_with_state(state);
    let batches = runtime.block_on(async {
        let frame = context.execute_logical_plan(bound.plan).await?;
        frame.collect().await
    });
    let batches = match batches {
        Ok(batches) => batches,
        Err(error) => return format!("error: {}", error.strip_backtrace()),
    };
    let mut lines = vec![bound.columns.join("|")];
    let options = FormatOptions::default().with_null("NULL");
    for batch in &batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            lines.push(values.join("|"));
        }
    }
    lines.join("\n")
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
