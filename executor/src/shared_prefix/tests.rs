//! Views that share prefixes give what each gives alone, failures included.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::util::pretty::pretty_format_batches;
use rivermark_planner::TableId;
use rivermark_planner::catalog::{
    Catalog, ColumnDef, Object, ObjectId, ObjectKind, QualifiedName, TableDef,
};
use rivermark_planner::lower::{ViewQuery, plan_view};
use rivermark_planner::parse_query::parse_query;
use rivermark_planner::plan::PlanNode;
use rivermark_planner::types::SqlType;
use tempfile::TempDir;

use super::*;
use crate::consolidate::consolidate;
use crate::dataflow::{Dataflow, InputPart, ScanInput, Sharing, ViewInputs};
use crate::state::{CacheHandle, MemoryPlan, Store, StoreOptions};

const PLENTY: usize = 1 << 30;

/// A table `t(a INT, b INT, s TEXT)`.
fn catalog() -> (Catalog, ObjectId) {
    let mut catalog = Catalog::new();
    let column = |name: &str, data_type| ColumnDef {
        name: name.to_string(),
        data_type,
        not_null: false,
        default: None,
        generated: None,
        include: None,
        comment: None,
    };
    let def = TableDef {
        columns: vec![
            column("a", SqlType::Integer),
            column("b", SqlType::Integer),
            column("s", SqlType::Text { max_length: None }),
        ],
        primary_key: Vec::new(),
        append_only: false,
        watermark: None,
        checks: Vec::new(),
        options: BTreeMap::new(),
        rows: TableId(1),
    };
    let id = catalog.allocate_object();
    catalog.put(Object {
        id,
        name: QualifiedName {
            schema: "public".into(),
            name: "t".into(),
        },
        sql: String::new(),
        comment: None,
        depends_on: Vec::new(),
        kind: ObjectKind::Table(def),
    });
    (catalog, id)
}

fn plan(catalog: &Catalog, sql: &str) -> PlanNode {
    let query = parse_query(sql).unwrap();
    let view = ViewQuery {
        query: &query,
        columns: &[],
        time_zone: "UTC",
        text: None,
        emit_on_window_close: false,
    };
    plan_view(catalog, view).unwrap().plan.root
}

/// Several views on one table.
struct Bench {
    _dir: TempDir,
    table: ObjectId,
    views: Vec<Dataflow>,
    prefixes: SharedPrefixes,
}

impl Bench {
    fn new(queries: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let memory = MemoryPlan {
            block_cache_bytes: 8 << 20,
            write_buffer_bytes: 16 << 20,
        };
        let store = Store::open(&StoreOptions::new(dir.path(), memory)).unwrap();
        let cache = CacheHandle::new(1 << 20);
        let (catalog, table) = catalog();
        let mut prefixes = SharedPrefixes::default();
        let mut next = TableId(100);
        let views = (0..).zip(queries).map(|(number, sql)| {
            let plan = plan(&catalog, sql);
            let mut view = Dataflow::build(&plan, next, &store, &cache).unwrap();
            next.0 += plan.state_tables();
            view.share(ObjectId(1000 + number), &mut prefixes);
            view
        });
        let views = views.collect();
        Bench {
            _dir: dir,
            table,
            views,
            prefixes,
        }
    }

    /// What each view gives for an epoch's rows (a, b, s, weight), its failures, and how many outputs were shared.
    fn epoch(
        &mut self,
        rows: &[(i32, i32, &str, i64)],
        is_live: bool,
        max_bytes: usize,
    ) -> (Vec<String>, usize) {
        let mut shares = EpochShares::default();
        let mut results = Vec::new();
        for view in &mut self.views {
            let columns = view.scan_columns()[&self.table].clone();
            let delta = delta(rows, &columns);
            let parts = vec![
                InputPart::Delta(delta.slice(0, rows.len() / 2)),
                InputPart::Delta(delta.slice(rows.len() / 2, rows.len() - rows.len() / 2)),
            ];
            let inputs = ViewInputs::from([(
                self.table,
                ScanInput {
                    parts,
                    is_live,
                    watermarks: Default::default(),
                },
            )]);
            let mut context = EpochContext {
                epoch: 1,
                now_us: 0,
                shards: 1,
                held_limit: usize::MAX,
                failures: Vec::new(),
            };
            let mut sharing = Sharing {
                prefixes: &self.prefixes,
                shares: &mut shares,
                max_bytes,
            };
            let mut output = Vec::new();
            let take = &mut |delta: Delta| {
                output.push(delta);
                Ok(())
            };
            view.run(&inputs, false, &mut sharing, &mut context, take)
                .unwrap();
            let shown = match output.first() {
                Some(first) => {
                    let whole = Delta::concat(first.schema(), &output).unwrap();
                    text(&consolidate(whole).unwrap())
                }
                None => String::new(),
            };
            results.push(format!("{shown}\n{:?}", context.failures));
        }
        (results, shares.kept())
    }
}

fn delta(rows: &[(i32, i32, &str, i64)], columns: &[usize]) -> Delta {
    let batch = RecordBatch::try_from_iter_with_nullable([
        (
            "a",
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))) as ArrayRef,
            true,
        ),
        (
            "b",
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.1))) as ArrayRef,
            true,
        ),
        (
            "s",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.2))) as ArrayRef,
            true,
        ),
    ])
    .unwrap();
    let weights: Vec<i64> = rows.iter().map(|r| r.3).collect();
    Delta::new(batch.project(columns).unwrap(), Some(weights.into()))
}

fn text(delta: &Delta) -> String {
    let whole = concat_batches(&delta.schema(), [delta.batch()]).unwrap();
    let weights: Vec<i64> = (0..delta.num_rows()).map(|row| delta.weight(row)).collect();
    format!("{}\n{weights:?}", pretty_format_batches(&[whole]).unwrap())
}

const ROWS: [(i32, i32, &str, i64); 6] = [
    (10, 2, "5", 1),
    (1, 0, "1", 2),
    (7, 7, "x", 2),
    (30, 3, "8", 1),
    (10, 2, "5", -1),
    (12, 4, "9", 3),
];

const QUERIES: [&str; 7] = [
    "SELECT a / b AS q, s::INT AS n FROM t WHERE a / b < 100",
    "SELECT q, n, count(*) AS c FROM (SELECT a / b AS q, s::INT AS n FROM t WHERE a / b < 100) AS x GROUP BY q, n",
    "SELECT q + n AS m FROM (SELECT a / b AS q, s::INT AS n FROM t WHERE a / b < 100) AS x WHERE n <> 5",
    // the same condition, but for other columns
    "SELECT a FROM t WHERE a / b < 100",
    // the second time in one view, with operators of other numbers
    "SELECT a / b AS q, s::INT AS n FROM t WHERE b > 100 UNION ALL SELECT a / b AS q, s::INT AS n FROM t WHERE a / b < 100",
    "SELECT unnest(ARRAY[a, b]) AS v, s FROM t",
    "SELECT v, count(*) AS n, max(s) AS s FROM (SELECT unnest(ARRAY[a, b]) AS v, s FROM t) AS x GROUP BY v",
];

#[test]
fn shared_work_is_the_same_work() {
    let (alone, nothing) = Bench::new(&QUERIES).epoch(&ROWS, false, PLENTY);
    assert_eq!(nothing, 0, "a view that backfills shares nothing");
    let (shared, kept) = Bench::new(&QUERIES).epoch(&ROWS, true, PLENTY);
    assert!(kept >= 2, "{kept} outputs were shared");
    for ((alone, shared), sql) in alone.iter().zip(&shared).zip(QUERIES) {
        assert_eq!(alone, shared, "{sql}");
    }
    assert!(
        shared[0].contains("division by zero") && shared[0].contains("type integer"),
        "{}",
        shared[0]
    );
    // Too large to be kept: each for itself again.
    let (tight, kept) = Bench::new(&QUERIES).epoch(&ROWS, true, 10);
    assert_eq!(kept, 0);
    assert_eq!(alone, tight);
}

#[test]
fn nobody_else_means_nothing_is_kept() {
    let (_, kept) = Bench::new(&QUERIES[..1]).epoch(&ROWS, true, PLENTY);
    assert_eq!(kept, 0);
    let mut bench = Bench::new(&QUERIES[..2]);
    assert_eq!(
        bench.epoch(&ROWS, true, PLENTY).1,
        1,
        "what is below it, both get from it"
    );
    bench.prefixes.remove(ObjectId(1001));
    bench.views.pop();
    assert_eq!(bench.epoch(&ROWS, true, PLENTY).1, 0);
}
