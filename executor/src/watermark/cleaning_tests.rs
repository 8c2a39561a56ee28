//! Views over streams with watermarks, which forget what is over, against the same views that are never told a
//! watermark and forget nothing: for random streams, any split into epochs and deltas, and restarts, they show the same
//! in every epoch. With `EMIT ON WINDOW CLOSE` they have given, once, what is below the bound of its time. In the end
//! little state is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_planner::TableId;
use rivermark_planner::catalog::{
    Catalog, ColumnDef, Object, ObjectId, ObjectKind, QualifiedName, TableDef, WatermarkDef,
};
use rivermark_planner::lower::{ViewQuery, plan_view};
use rivermark_planner::parse_query::parse_query;
use rivermark_planner::plan::{PlanNode, PlanOp};
use rivermark_planner::types::SqlType;
use tempfile::TempDir;

use super::Watermarks;
use crate::dataflow::{Dataflow, InputPart, ScanInput, Sharing, ViewInputs};
use crate::delta::Delta;
use crate::operator::EpochContext;
use crate::shared_prefix::{EpochShares, SharedPrefixes};
use crate::state::{
    CacheHandle, Family, KeyRange, MemoryPlan, StateTable, Store, StoreOptions, WriteSet,
};

pub(super) const SECOND: i64 = 1_000_000;
const STREAMS: u64 = 3;
const EPOCHS: usize = 24;

/// (key, time, value)
pub(super) type Row = (i64, Option<i64>, i64);

/// Rows of a table in parts, and its watermark.
pub(super) type Input = (ObjectId, Vec<Vec<Row>>, Option<i64>);

const WINDOWS: &str = "(SELECT k, window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '5 seconds') GROUP BY 1, 2) AS a \
    KIND JOIN (SELECT k, window_start, sum(v)::BIGINT AS s FROM TUMBLE(u, ts, INTERVAL '5 seconds') GROUP BY 1, 2) AS b \
    ON a.window_start = b.window_start AND a.k = b.k";
const NEAR: &str =
    "b.ts BETWEEN a.ts - INTERVAL '2 seconds' AND a.ts + INTERVAL '3 seconds' AND a.k = b.k";

/// With whether all of their state is bounded, and whether rows can be given on window close.
fn queries() -> Vec<(String, bool, bool)> {
    let mut all = Vec::new();
    for kind in ["INNER", "LEFT", "RIGHT", "FULL"] {
        let windows = WINDOWS.replace("KIND", kind);
        let select = "SELECT a.k, a.window_start, a.n, b.k AS bk, b.window_start AS bw, b.s FROM";
        all.push((format!("{select} {windows}"), true, kind != "FULL"));
        let select = "SELECT coalesce(a.window_start, b.window_start) AS w, a.n, b.s FROM";
        all.push((format!("{select} {windows}"), true, true));
        let near = format!("t AS a {kind} JOIN u AS b ON {NEAR}");
        let select = "SELECT a.k, a.ts, a.v, b.ts AS bts, b.v AS bv FROM";
        all.push((format!("{select} {near}"), true, kind != "FULL"));
        let condition = "a.ts >= b.ts AND a.ts < b.ts + INTERVAL '4 seconds' AND a.v <> b.v";
        let far = format!("t AS a {kind} JOIN u AS b ON {condition}");
        all.push((format!("{select} {far}"), true, kind != "FULL"));
        if kind == "FULL" {
            let select =
                "SELECT coalesce(a.ts, b.ts) AS time, a.k, a.ts, a.v, b.ts AS bts, b.v AS bv FROM";
            all.extend([near, far].map(|from| (format!("{select} {from}"), true, true)));
        }
    }
    for not in ["", "NOT "] {
        let exists = format!("{not}EXISTS (SELECT FROM u AS b WHERE {NEAR})");
        all.push((
            format!("SELECT k, ts, v FROM t AS a WHERE {exists}"),
            true,
            true,
        ));
        let exists = format!(
            "{not}EXISTS (SELECT FROM TUMBLE(u, ts, INTERVAL '4 seconds') AS b \
             WHERE a.window_start = b.window_start AND a.k = b.k)"
        );
        let windows = "TUMBLE(t, ts, INTERVAL '4 seconds') AS a";
        let query = format!("SELECT k, window_start, v FROM {windows} WHERE {exists}");
        all.push((query, true, true));
    }
    for over in [
        "row_number() OVER (PARTITION BY k, window_start ORDER BY ts, v)",
        "sum(v) OVER (PARTITION BY window_start ORDER BY ts, v, k ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
        "lag(v) OVER (PARTITION BY window_start, k ORDER BY ts, v)",
    ] {
        let from = "TUMBLE(t, ts, INTERVAL '6 seconds')";
        let query = format!("SELECT k, v, window_start, {over} AS x FROM {from}");
        all.push((query, true, true));
        let query = format!(
            "SELECT * FROM (SELECT k, v, window_start, {over} AS x FROM {from}) AS q WHERE x <= 2"
        );
        all.push((query, true, true));
    }
    // In the order of the time, whether what is far back is forgotten, and whether rows are final by the time.
    for (over, is_bounded, is_final) in [
        ("lag(v) OVER (PARTITION BY k ORDER BY ts, v)", true, true),
        (
            "sum(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
            true,
            true,
        ),
        (
            "count(*) OVER (ORDER BY ts ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING)",
            true,
            false,
        ),
        (
            "lead(v, 2) OVER (PARTITION BY k ORDER BY ts, v)",
            true,
            false,
        ),
        (
            "row_number() OVER (PARTITION BY k ORDER BY ts, v)",
            false,
            true,
        ),
        ("max(v) OVER (PARTITION BY k ORDER BY ts)", false, true),
    ] {
        let query = format!("SELECT k, ts, v, {over} AS x FROM t");
        all.push((query, is_bounded, is_final));
    }
    let latest = "SELECT k, ts, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts DESC, v) AS place FROM t) AS q \
        WHERE place <= 2";
    all.push((latest.to_string(), true, false));
    all.push((
        "SELECT DISTINCT ON (k) k, ts, v FROM t ORDER BY k, ts DESC".to_string(),
        true,
        false,
    ));
    let from = "HOP(t, ts, INTERVAL '2 seconds', INTERVAL '4 seconds')";
    let first = format!(
        "SELECT DISTINCT ON (k, window_start) k, window_start, v FROM {from} ORDER BY k, window_start, v"
    );
    all.push((first, true, true));
    let session = "SESSION(t, ts, INTERVAL '2 seconds' PARTITION BY k)";
    all.push((
        format!("SELECT k, ts, v, window_start, window_end FROM {session}"),
        true,
        true,
    ));
    all.push((
        format!(
            "SELECT k, window_start, window_end, count(*) AS n, min(v) AS m FROM {session} GROUP BY 1, 2, 3"
        ),
        true,
        true,
    ));
    all
}

/// Tables `t` and `u (k BIGINT, ts TIMESTAMP, v BIGINT, WATERMARK FOR ts)`.
pub(super) fn catalog() -> (Catalog, [ObjectId; 2]) {
    catalog_of(true)
}

/// The same, or tables whose rows can go, without a watermark.
pub(super) fn catalog_of(append_only: bool) -> (Catalog, [ObjectId; 2]) {
    catalog_with([append_only; 2])
}

/// The same, table by table.
pub(super) fn catalog_with(append_only: [bool; 2]) -> (Catalog, [ObjectId; 2]) {
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
    let ids = [("t", append_only[0]), ("u", append_only[1])].map(|(name, append_only)| {
        let def = TableDef {
            columns: vec![
                column("k", SqlType::BigInt),
                column("ts", SqlType::Timestamp),
                column("v", SqlType::BigInt),
            ],
            primary_key: Vec::new(),
            append_only,
            watermark: append_only.then(|| WatermarkDef {
                column: "ts".into(),
                delay_us: 0,
            }),
            checks: Vec::new(),
            options: BTreeMap::new(),
            rows: TableId(1),
        };
        let id = catalog.allocate_object();
        catalog.put(Object {
            id,
            name: QualifiedName {
                schema: "public".into(),
                name: name.into(),
            },
            sql: String::new(),
            comment: None,
            depends_on: Vec::new(),
            kind: ObjectKind::Table(def),
        });
        id
    });
    (catalog, ids)
}

/// Rows of the output, as often as they are there.
pub(super) type Sum = BTreeMap<String, (Vec<ScalarValue>, i64)>;

/// One view that runs.
pub(super) struct Running {
    pub(super) plan: PlanNode,
    first_table: TableId,
    pub(super) dataflow: Dataflow,
    is_first: bool,
    pub(super) sum: Sum,
    /// Of the output's columns.
    bounds: Watermarks,
}

pub(super) struct Bench {
    _dir: TempDir,
    store: Store,
    cache: CacheHandle,
    next_table: TableId,
    epoch: u64,
    /// Bytes of an epoch's input that an operator may hold.
    pub(super) held_limit: usize,
    pub(super) now_us: i64,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let dir = TempDir::new().unwrap();
        let memory = MemoryPlan {
            block_cache_bytes: 8 << 20,
            write_buffer_bytes: 16 << 20,
        };
        let store = Store::open(&StoreOptions::new(dir.path(), memory)).unwrap();
        Bench {
            _dir: dir,
            store,
            cache: CacheHandle::new(1 << 20),
            next_table: TableId(100),
            epoch: 0,
            held_limit: usize::MAX,
            now_us: 0,
        }
    }

    pub(super) fn view(&mut self, plan: PlanNode) -> Running {
        let first_table = self.next_table;
        self.next_table.0 += plan.state_tables();
        Running {
            dataflow: Dataflow::build(&plan, first_table, &self.store, &self.cache).unwrap(),
            plan,
            first_table,
            is_first: true,
            sum: Sum::new(),
            bounds: Watermarks::default(),
        }
    }

    /// Runs an epoch: rows and watermark of each table.
    pub(super) fn run(&mut self, view: &mut Running, tables: &[Input]) {
        let mut inputs = ViewInputs::new();
        for (table, parts, watermark) in tables {
            let Some(columns) = view.dataflow.scan_columns().get(table).cloned() else {
                continue;
            };
            let parts = parts
                .iter()
                .map(|rows| InputPart::Delta(delta(rows, &columns)));
            let input = ScanInput {
                parts: parts.collect(),
                is_live: false,
                watermarks: Watermarks::of_column(1, *watermark).project(&columns),
            };
            inputs.insert(*table, input);
        }
        self.run_inputs(view, &inputs);
    }

    /// Runs an epoch of any input.
    pub(super) fn run_inputs(&mut self, view: &mut Running, inputs: &ViewInputs) {
        self.epoch += 1;
        let mut context = EpochContext {
            epoch: self.epoch,
            shards: 1,
            held_limit: self.held_limit,
            now_us: self.now_us,
            failures: Vec::new(),
        };
        let mut shares = EpochShares::default();
        let mut sharing = Sharing {
            prefixes: &SharedPrefixes::default(),
            shares: &mut shares,
            max_bytes: 0,
        };
        let sum = &mut view.sum;
        let mut take = |delta: Delta| {
            for row in 0..delta.num_rows() {
                let values = delta.columns().iter();
                let values = values.map(|c| ScalarValue::try_from_array(c, row).unwrap());
                let values: Vec<ScalarValue> = values.collect();
                let text = format!("{values:?}");
                sum.entry(text).or_insert((values, 0)).1 += delta.weight(row);
            }
            Ok(())
        };
        view.bounds = view
            .dataflow
            .run(inputs, view.is_first, &mut sharing, &mut context, &mut take)
            .unwrap();
        view.is_first = false;
        view.sum.retain(|_, (_, weight)| *weight != 0);
        assert_eq!(context.failures, []);
        let mut writes = WriteSet::default();
        view.dataflow.drain_into(&mut writes);
        self.store.commit(&writes, false).unwrap();
        view.dataflow.committed();
    }

    pub(super) fn restart(&self, view: &mut Running) {
        let (store, cache) = (&self.store, CacheHandle::new(1 << 20));
        view.dataflow = Dataflow::build(&view.plan, view.first_table, store, &cache).unwrap();
    }

    /// How many keys the view's state has.
    pub(super) fn stored(&self, view: &Running) -> usize {
        let first = view.first_table.0;
        let tables = (first..first + view.plan.state_tables()).map(TableId);
        let both = tables.flat_map(|id| [(id, Family::State), (id, Family::Windowed)]);
        let count = |(id, family)| {
            let table = StateTable::new(id, family, self.store.clone(), CacheHandle::new(0));
            table.scan(&KeyRange::all()).unwrap().count()
        };
        both.map(count).sum()
    }
}

pub(super) fn delta(rows: &[Row], columns: &[usize]) -> Delta {
    let all: [ArrayRef; 3] = [
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(TimestampMicrosecondArray::from_iter(
            rows.iter().map(|r| r.1),
        )),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))),
    ];
    let named = columns
        .iter()
        .map(|&c| (["k", "ts", "v"][c], all[c].clone(), true));
    Delta::insertions(RecordBatch::try_from_iter_with_nullable(named).unwrap())
}

/// A random stream that is out of order, but never late.
pub(super) struct Stream {
    clock: i64,
    delay: i64,
    bound: Option<i64>,
}

impl Stream {
    fn rows(&mut self, rng: &mut StdRng) -> Vec<Vec<Row>> {
        let mut parts = vec![Vec::new(); rng.random_range(1..4)];
        for _ in 0..rng.random_range(0..7) {
            self.clock += rng.random_range(0..2 * SECOND);
            let time = self.clock - rng.random_range(0..=self.delay);
            // Whole seconds meet more often.
            let time = if rng.random_bool(0.5) {
                (time.div_euclid(SECOND) * SECOND).max(self.bound.unwrap_or(time))
            } else {
                time
            };
            self.bound = self.bound.max(Some(time - self.delay));
            let time = (!rng.random_bool(0.03)).then_some(time);
            let part = rng.random_range(0..parts.len());
            parts[part].push((rng.random_range(0..3), time, rng.random_range(0..3)));
        }
        parts
    }
}

pub(super) fn planned(catalog: &Catalog, sql: &str, emit_on_window_close: bool) -> PlanNode {
    let query = parse_query(sql).unwrap();
    let view = ViewQuery {
        query: &query,
        columns: &[],
        time_zone: "UTC",
        text: None,
        emit_on_window_close,
    };
    let planned = plan_view(catalog, view);
    planned
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .plan
        .root
}

#[test]
fn what_is_forgotten_is_never_missed() {
    let (catalog, tables) = catalog();
    let mut bench = Bench::new();
    let mut closed_rows = 0;
    for (number, (sql, is_bounded, closes)) in queries().into_iter().enumerate() {
        for seed in 0..STREAMS {
            let mut rng = StdRng::seed_from_u64(1000 * number as u64 + seed);
            let mut plain = bench.view(planned(&catalog, &sql, false));
            let mut cleaned = bench.view(planned(&catalog, &sql, false));
            let mut closing = closes.then(|| bench.view(planned(&catalog, &sql, true)));
            let mut streams = [0, 1].map(|_| Stream {
                clock: rng.random_range(-20 * SECOND..20 * SECOND),
                delay: rng.random_range(0..3 * SECOND),
                bound: None,
            });
            let mut most = 0;
            for epoch in 0..EPOCHS + 4 {
                let label = format!("{sql}, seed {seed}, epoch {epoch}");
                let mut input: Vec<Input> = tables
                    .iter()
                    .zip(&mut streams)
                    .map(|(table, stream)| {
                        let parts = match epoch < EPOCHS {
                            true => stream.rows(&mut rng),
                            false => Vec::new(),
                        };
                        (*table, parts, stream.bound)
                    })
                    .collect();
                if epoch >= EPOCHS {
                    let end = 1_000_000 * SECOND + epoch as i64;
                    input.iter_mut().for_each(|(_, _, mark)| *mark = Some(end));
                }
                bench.run(&mut cleaned, &input);
                if let Some(closing) = &mut closing {
                    bench.run(closing, &input);
                }
                input.iter_mut().for_each(|(_, _, mark)| *mark = None);
                bench.run(&mut plain, &input);
                assert_same(&cleaned.sum, &plain.sum, &label);
                if let Some(closing) = &mut closing {
                    let expected = final_rows(closing, &plain);
                    assert_same(&closing.sum, &expected, &format!("closing {label}"));
                    closed_rows += expected.len();
                }
                if rng.random_bool(0.15) {
                    bench.restart(&mut cleaned);
                    closing.iter_mut().for_each(|view| bench.restart(view));
                }
                most = most.max(bench.stored(&plain));
            }
            // Rows without a time are kept, and marks.
            let limit = 12 + most / 8;
            let left = bench.stored(&cleaned);
            assert!(
                !is_bounded || left <= limit,
                "{sql}: {left} of {most} keys are left"
            );
            if let Some(closing) = &closing {
                let left = bench.stored(closing);
                assert!(
                    !is_bounded || left <= limit + 12,
                    "closing {sql}: {left} of {most} keys are left"
                );
            }
        }
    }
    assert!(closed_rows > 1000, "too little closes: {closed_rows}");
}

pub(super) fn assert_same(found: &Sum, expected: &Sum, label: &str) {
    let only = |a: &Sum, b: &Sum| -> Vec<String> {
        let differs = |row: &(&String, &(Vec<ScalarValue>, i64))| b.get(row.0) != Some(row.1);
        a.iter()
            .filter(differs)
            .map(|(text, row)| format!("{text} {}", row.1))
            .collect()
    };
    let (more, less) = (only(found, expected), only(expected, found));
    assert!(
        more.is_empty() && less.is_empty(),
        "{label}: has {more:?}, lacks {less:?}"
    );
}

/// What of the rows of `plain` is below the bound of the time by which `closing` gives rows.
fn final_rows(closing: &Running, plain: &Running) -> Sum {
    let PlanOp::WindowClose { column } = closing.plan.op else {
        panic!("{:?}", closing.plan.op.name());
    };
    let bound = closing.bounds.get(column);
    let is_final = |values: &[ScalarValue]| match values[column] {
        ScalarValue::TimestampMicrosecond(Some(time), _) => Some(time) < bound,
        _ => false,
    };
    let rows = plain.sum.iter();
    let rows = rows.filter(|(_, (values, _))| is_final(values));
    rows.map(|(text, row)| (text.clone(), row.clone()))
        .collect()
}
