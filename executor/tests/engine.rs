//! The engine as the server uses it: catalog changes, writes, views and snapshots, with restarts in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use rivermark_executor::api::{
    CatalogChange, EngineConfig, NewMaterializedView, Retention, TableChange, TableWrite,
};
use rivermark_executor::source::{ConnectorFactory, Source, SourceError};
use rivermark_executor::state::{MemoryPlan, Store, StoreOptions, WriteSet};
use rivermark_executor::{Engine, ExecutorError};
use rivermark_planner::TableId;
use rivermark_planner::alter::{NewDefinition, plan_replacement};
use rivermark_planner::catalog::{ColumnDef, ObjectId, QualifiedName, SourceDef, TableDef};
use rivermark_planner::lower::{ViewQuery, plan_view};
use rivermark_planner::parse_query::parse_query;
use rivermark_planner::types::SqlType;

struct NoConnectors;

impl ConnectorFactory for NoConnectors {
    fn source(&self, _name: &str, _def: &SourceDef) -> Result<Arc<dyn Source>, SourceError> {
        Err(SourceError::InvalidOption(
            "no connectors in this test".into(),
        ))
    }
}

fn open(dir: &Path) -> Engine {
    let config = EngineConfig {
        data_dir: dir.to_path_buf(),
        memory_limit: 256 << 20,
        shards: 2,
        min_epoch_interval: Duration::from_millis(1),
        wal_sync_interval: Duration::from_secs(1),
        max_epoch_rows: 100_000,
        ingest_threshold: 64 << 20,
        dead_letter_bytes: 1 << 20,
        change_log_retention: Duration::ZERO,
    };
    Engine::open(config, Arc::new(NoConnectors)).unwrap()
}

fn name(name: &str) -> QualifiedName {
    QualifiedName {
        schema: "public".into(),
        name: name.into(),
    }
}

fn column(name: &str, data_type: SqlType, not_null: bool) -> ColumnDef {
    ColumnDef {
        name: name.into(),
        data_type,
        not_null,
        default: None,
        generated: None,
        include: None,
        comment: None,
    }
}

/// A table (id bigint, device text, value bigint), with `id` as its key if `keyed`.
async fn create_table(engine: &Engine, table: &str, keyed: bool, append_only: bool) -> ObjectId {
    let def = TableDef {
        columns: vec![
            column("id", SqlType::BigInt, keyed),
            column("device", SqlType::Text { max_length: None }, false),
            column("value", SqlType::BigInt, false),
        ],
        primary_key: if keyed { vec![0] } else { Vec::new() },
        append_only,
        watermark: None,
        checks: Vec::new(),
        options: BTreeMap::new(),
        rows: TableId(0),
    };
    let change = CatalogChange::CreateTable {
        name: name(table),
        sql: String::new(),
        def,
    };
    engine
        .change_catalog(engine.snapshot().catalog.version, change)
        .await
        .unwrap()
        .unwrap()
}

async fn create_view(engine: &Engine, view: &str, sql: &str) -> ObjectId {
    let snapshot = engine.snapshot();
    let query = parse_query(sql).unwrap();
    let view_query = ViewQuery {
        query: &query,
        columns: &[],
        time_zone: "UTC",
        text: None,
        emit_on_window_close: false,
    };
    let planned = plan_view(&snapshot.catalog, view_query).unwrap();
    let change = CatalogChange::CreateMaterializedView(Box::new(NewMaterializedView {
        retention: None,
        name: name(view),
        sql: sql.into(),
        bound_sql: planned.view.bound_sql,
        columns: planned.view.columns,
        depends_on: planned.view.depends_on,
        emit_on_window_close: false,
        options: BTreeMap::new(),
        plan: planned.plan,
    }));
    let id = engine
        .change_catalog(snapshot.catalog.version, change)
        .await
        .unwrap()
        .unwrap();
    engine.wait_until_ready(id).await.unwrap();
    id
}

fn rows(rows: &[(i64, &str, i64)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let devices: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2)));
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids, true),
        ("device", devices, true),
        ("value", values, true),
    ])
    .unwrap()
}

async fn insert(engine: &Engine, table: ObjectId, new: &[(i64, &str, i64)]) {
    engine
        .write(vec![TableWrite {
            table,
            delete: None,
            insert: Some(rows(new)),
        }])
        .await
        .unwrap();
}

/// The relation's rows, sorted, one line each.
async fn read(engine: &Engine, object: ObjectId) -> Vec<String> {
    let provider = engine.snapshot().table_provider(object).unwrap();
    let batches = SessionContext::new()
        .read_table(provider)
        .unwrap()
        .collect()
        .await
        .unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| l.starts_with('|'))
        .skip(1)
        .map(|l| {
            l.split('|')
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn views_follow_their_tables_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let keyed = create_table(&engine, "keyed", true, false).await;
    let bag = create_table(&engine, "bag", false, false).await;
    insert(&engine, keyed, &[(1, "a", 10), (2, "b", 20)]).await;
    let sums = create_view(
        &engine,
        "sums",
        "SELECT device, sum(value) AS s, count(*) AS n FROM keyed GROUP BY device",
    )
    .await;
    let big = create_view(&engine, "big", "SELECT device, s FROM sums WHERE s > 15").await;
    let union = create_view(
        &engine,
        "u",
        "SELECT device FROM keyed UNION ALL SELECT device FROM bag",
    )
    .await;
    assert_eq!(read(&engine, sums).await, ["a 10 1", "b 20 1"]);
    assert_eq!(read(&engine, big).await, ["b 20"]);
    insert(&engine, keyed, &[(3, "a", 7)]).await;
    insert(&engine, bag, &[(0, "x", 0), (0, "x", 0)]).await;
    assert_eq!(read(&engine, big).await, ["a 17", "b 20"]);
    assert_eq!(read(&engine, union).await, ["a", "a", "b", "x", "x"]);

    engine.shutdown().await;
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(read(&engine, big).await, ["a 17", "b 20"]);
    let update = TableWrite {
        table: keyed,
        delete: Some(rows(&[(1, "a", 10)])),
        insert: Some(rows(&[(1, "b", 1)])),
    };
    engine.write(vec![update]).await.unwrap();
    assert_eq!(read(&engine, sums).await, ["a 7 1", "b 21 2"]);
    let status = engine.materialized_views();
    let counted = status.iter().find(|status| status.view == sums);
    assert_eq!(counted.map(|status| status.rows), Some(2));
    assert_eq!(read(&engine, big).await, ["b 21"]);
    let delete = TableWrite {
        table: bag,
        delete: Some(rows(&[(0, "x", 0)])),
        insert: None,
    };
    engine.write(vec![delete]).await.unwrap();
    assert_eq!(read(&engine, union).await, ["a", "b", "b", "x"]);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_fail_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let table = create_table(&engine, "t", true, false).await;
    insert(&engine, table, &[(1, "a", 1)]).await;
    let write = |delete: Option<RecordBatch>, insert: Option<RecordBatch>| TableWrite {
        table,
        delete,
        insert,
    };
    let duplicate = engine
        .write(vec![write(None, Some(rows(&[(2, "b", 2), (1, "c", 3)])))])
        .await;
    assert!(
        matches!(duplicate, Err(ExecutorError::UniqueViolation { ref detail, .. }) if detail == "Key (id)=(1) already exists.")
    );
    let stale = engine
        .write(vec![write(Some(rows(&[(1, "a", 99)])), None)])
        .await;
    assert!(matches!(stale, Err(ExecutorError::Conflict)));
    let second_fails = engine
        .write(vec![
            write(None, Some(rows(&[(5, "e", 5)]))),
            write(None, Some(rows(&[(1, "c", 3)]))),
        ])
        .await;
    assert!(second_fails.is_err());
    assert_eq!(read(&engine, table).await, ["1 a 1"]);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_backfilled_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for (kind, keyed, append_only) in [
        ("keyed", true, false),
        ("bag", false, false),
        ("log", false, true),
    ] {
        let table = create_table(&engine, kind, keyed, append_only).await;
        for block in 0..20 {
            let many: Vec<(i64, &str, i64)> =
                (0..10_000).map(|i| (block * 10_000 + i, "d", 1)).collect();
            insert(&engine, table, &many).await;
        }
        let writer = engine.clone();
        let writes = tokio::spawn(async move {
            for i in 0..50 {
                insert(&writer, table, &[(1_000_000 + i, "d", 1)]).await;
            }
        });
        let view = create_view(
            &engine,
            &format!("v_{kind}"),
            &format!("SELECT count(*) AS n, sum(value) AS s FROM {kind}"),
        )
        .await;
        writes.await.unwrap();
        assert_eq!(read(&engine, view).await, ["200050 200050"], "{kind}");
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_use_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let table = create_table(&engine, "t", true, false).await;
    let view = create_view(&engine, "v", "SELECT count(*) AS n FROM t").await;
    assert_eq!(
        read(&engine, view).await,
        ["0"],
        "a global aggregate has its row from the start"
    );
    let drop = |objects| CatalogChange::Drop { objects };
    let version = engine.snapshot().catalog.version;
    let refused = engine.change_catalog(version, drop(vec![table])).await;
    assert!(
        matches!(refused, Err(ExecutorError::DependentObjects { ref dependents, .. }) if dependents == &["v"])
    );
    engine
        .change_catalog(version, drop(vec![view, table]))
        .await
        .unwrap();
    assert!(engine.snapshot().catalog.objects().next().is_none());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_goes_with_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let table = create_table(&engine, "t", true, false).await;
    let quotients = "SELECT id, 100 / value AS q FROM t";
    let first = create_view(&engine, "first", quotients).await;
    let second = create_view(&engine, "second", quotients).await;
    insert(&engine, table, &[(1, "a", 0), (2, "b", 5)]).await;
    let letters = |engine: &Engine| {
        let letters = engine.snapshot().dead_letters().unwrap();
        let mut objects: Vec<ObjectId> = letters.iter().map(|letter| letter.object).collect();
        objects.sort();
        objects
    };
    for view in [first, second] {
        assert_eq!(read(&engine, view).await, ["2 20"]);
    }
    assert_eq!(letters(&engine), [first, second]);

    engine.shutdown().await;
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(letters(&engine), [first, second]);
    let update = TableWrite {
        table,
        delete: Some(rows(&[(1, "a", 0)])),
        insert: Some(rows(&[(1, "a", 4)])),
    };
    engine.write(vec![update]).await.unwrap();
    for view in [first, second] {
        assert_eq!(read(&engine, view).await, ["1 25", "2 20"]);
    }
    assert!(letters(&engine).is_empty());
    engine.shutdown().await;
}

/// Changes stored metadata, as another version or a failure would have left it.
fn edit_meta(dir: &Path, key: &[u8], edit: impl FnOnce(&mut serde_json::Value)) {
    let memory = MemoryPlan {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 16 << 20,
    };
    let store = Store::open(&StoreOptions::new(dir, memory)).unwrap();
    let mut value = serde_json::from_slice(&store.get_meta(key).unwrap().unwrap()).unwrap();
    edit(&mut value);
    let mut writes = WriteSet::default();
    writes.put_meta(key, &serde_json::to_vec(&value).unwrap());
    store.commit(&writes, true).unwrap();
}

async fn rebuild(engine: &Engine, view: ObjectId) -> ObjectId {
    let catalog = engine.snapshot().catalog.clone();
    let definition = NewDefinition::of_present(&catalog, view).unwrap();
    let change = CatalogChange::Replace {
        members: plan_replacement(&catalog, view, definition).unwrap(),
        retention: Retention::Refuse,
    };
    let changed = engine.change_catalog(catalog.version, change).await;
    let first = changed.unwrap().unwrap();
    engine.wait_until_ready(first).await.unwrap();
    first
}

fn states(engine: &Engine) -> Vec<&'static str> {
    let mut views = engine.materialized_views();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views.iter().map(|view| view.state.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_views_and_those_of_another_version_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = open(dir.path());
    let table = create_table(&engine, "t", false, false).await;
    insert(&engine, table, &[(1, "a", 1), (2, "b", 2)]).await;
    let mut base = create_view(
        &engine,
        "base",
        "SELECT device, sum(value) AS s FROM t GROUP BY device",
    )
    .await;
    let above = create_view(&engine, "over", "SELECT sum(s) AS s FROM base").await;
    let mut total = 3;
    for round in 0..2 {
        engine.shutdown().await;
        drop(engine);
        match round {
            0 => edit_meta(dir.path(), b"catalog", |catalog| {
                let view = &mut catalog["objects"][base.0.to_string()];
                view["kind"]["MaterializedView"]["fingerprint"] = 1.into();
            }),
            _ => edit_meta(dir.path(), format!("view/{base}").as_bytes(), |progress| {
                progress["failed"] = "for the test".into();
            }),
        }
        engine = open(dir.path());
        let state = ["NEEDS_REBUILD", "FAILED"][round];
        assert_eq!(states(&engine), [state, "RUNNING"]);
        insert(&engine, table, &[(3, "a", 10)]).await;
        total += 10;
        base = rebuild(&engine, base).await;
        assert_eq!(states(&engine), ["RUNNING", "RUNNING"]);
        insert(&engine, table, &[(4, "b", 100)]).await;
        total += 100;
        let catalog = engine.snapshot().catalog.clone();
        assert!(catalog.get(above).is_none(), "it was rebuilt, too");
        let above = catalog.find(&name("over")).unwrap().id;
        assert_eq!(read(&engine, above).await, [total.to_string()]);
        assert_eq!(read(&engine, base).await.len(), 2);
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_gets_a_column_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for (kind, keyed, append_only) in [
        ("keyed", true, false),
        ("bag", false, false),
        ("log", false, true),
    ] {
        let table = create_table(&engine, kind, keyed, append_only).await;
        for block in 0..20 {
            let many: Vec<(i64, &str, i64)> =
                (0..10_000).map(|i| (block * 10_000 + i, "d", 1)).collect();
            insert(&engine, table, &many).await;
        }
        let sql = format!("SELECT count(*) AS n, sum(value) AS s FROM {kind}");
        let view = create_view(&engine, &format!("v_{kind}"), &sql).await;
        let writer = engine.clone();
        // Rows of the old form, until they are refused.
        let writes = tokio::spawn(async move {
            for i in 0.. {
                let write = TableWrite {
                    table,
                    delete: (i % 2 == 1 && !append_only).then(|| rows(&[(i, "d", 1)])),
                    insert: Some(rows(&[(1_000_000 + i, "d", 1)])),
                };
                match writer.write(vec![write]).await {
                    Ok(_) => {}
                    Err(ExecutorError::CatalogChanged) => return i,
                    Err(error) => panic!("{error}"),
                }
            }
            0
        });
        let change = CatalogChange::ChangeTable {
            table,
            change: TableChange::AddColumn {
                column: column("extra", SqlType::BigInt, true),
                fill: Arc::new(Int64Array::from(vec![7])),
            },
        };
        let version = engine.snapshot().catalog.version;
        engine.change_catalog(version, change).await.unwrap();
        let written = writes.await.unwrap();
        let deleted = if append_only { 0 } else { written / 2 };
        let expected = 200_000 + written - deleted;
        assert_eq!(
            read(&engine, view).await,
            [format!("{expected} {expected}")],
            "{kind}"
        );
        let all = read(&engine, table).await;
        assert_eq!(all.len() as i64, expected, "{kind}");
        assert!(all.iter().all(|row| row.ends_with(" d 1 7")), "{kind}");
    }
    engine.shutdown().await;
}
