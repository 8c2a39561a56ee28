//! What `EMIT ON WINDOW CLOSE` gives, against a plain computation: for random streams that are out of order, several
//! partitions, any split into epochs and deltas, and restarts, each window comes once, in the epoch in which the watermark
//! passes its end, in order, with the rows that were not late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_planner::TableId;
use rivermark_planner::catalog::{
    Catalog, ColumnDef, Object, ObjectId, ObjectKind, QualifiedName, TableDef, WatermarkDef,
};
use rivermark_planner::lower::{ViewQuery, plan_view};
use rivermark_planner::parse_query::parse_query;
use rivermark_planner::plan::PlanNode;
use rivermark_planner::types::SqlType;
use rivermark_planner::watermark::WatermarkOptions;
use tempfile::TempDir;

use super::*;
use crate::dataflow::{Dataflow, InputPart, ScanInput, Sharing, ViewInputs};
use crate::delta::Delta;
use crate::lateness::EventTime;
use crate::operator::EpochContext;
use crate::shared_prefix::{EpochShares, SharedPrefixes};
use crate::state::{CacheHandle, MemoryPlan, Store, StoreOptions, WriteSet};

/// Each plan is tried with so many streams.
const STREAMS: usize = 25;
const PLANS: usize = 40;

/// (key, time, value)
type Row = (i64, Option<i64>, i64);
/// (window end, window start, key): count, sum, distinct values or the greatest one
type Windows = BTreeMap<(i64, i64, i64), (i64, i64, i64)>;

/// An entry of it.
type Given = ((i64, i64, i64), (i64, i64, i64));

#[derive(Debug, Clone, Copy)]
struct Shape {
    kind: &'static str,
    step: i64,
    size: i64,
    /// Whether distinct values are counted, for which each row is copied into all its windows.
    is_distinct: bool,
}

impl Shape {
    fn random(rng: &mut StdRng) -> Shape {
        let step = rng.random_range(1..8);
        let is_distinct = rng.random_bool(0.5);
        match rng.random_range(0..3) {
            0 => Shape {
                kind: "TUMBLE",
                step,
                size: step,
                is_distinct,
            },
            1 => Shape {
                kind: "HOP",
                step,
                size: rng.random_range(1..20),
                is_distinct,
            },
            _ => Shape {
                kind: "CUMULATE",
                step,
                size: step * rng.random_range(1..5),
                is_distinct,
            },
        }
    }

    fn sql(&self) -> String {
        let interval = |us: i64| format!("INTERVAL '{us} microseconds'");
        let lengths = match self.kind {
            "TUMBLE" => interval(self.size),
            _ => format!("{}, {}", interval(self.step), interval(self.size)),
        };
        let third = if self.is_distinct {
            "count(DISTINCT v)"
        } else {
            "max(v)"
        };
        // HOP has no rows without a window.
        let filter = if self.kind == "HOP" {
            ""
        } else {
            "WHERE window_start IS NOT NULL"
        };
        format!(
            "SELECT k, window_start, window_end, count(*) AS n, sum(v)::BIGINT AS s, {third} AS d \
             FROM {}(t, ts, {lengths}) {filter} GROUP BY k, window_start, window_end",
            self.kind
        )
    }

    /// Start and end of all windows that hold `time`, found by trying.
    fn windows(&self, time: i64) -> Vec<(i64, i64)> {
        let reach = self.size + self.step;
        let steps = (time - reach).div_euclid(self.step)..=(time + reach).div_euclid(self.step);
        let of_step = |n: i64| match self.kind {
            "CUMULATE" => {
                let end = n * self.step;
                ((end - 1).div_euclid(self.size) * self.size, end)
            }
            _ => (n * self.step, n * self.step + self.size),
        };
        steps
            .map(of_step)
            .filter(|(start, end)| (*start..*end).contains(&time))
            .collect()
    }

    fn aggregated(&self, rows: &[Row]) -> Windows {
        let mut values: BTreeMap<(i64, i64, i64), Vec<i64>> = BTreeMap::new();
        for (k, time, v) in rows {
            for (start, end) in time.iter().flat_map(|time| self.windows(*time)) {
                values.entry((end, start, *k)).or_default().push(*v);
            }
        }
        let result = |values: Vec<i64>| {
            let distinct: BTreeSet<i64> = values.iter().copied().collect();
            let greatest = distinct.last().copied().unwrap_or_default();
            (
                values.len() as i64,
                values.iter().sum(),
                if self.is_distinct {
                    distinct.len() as i64
                } else {
                    greatest
                },
            )
        };
        values
            .into_iter()
            .map(|(key, v)| (key, result(v)))
            .collect()
    }
}

/// A table `t(k BIGINT, ts TIMESTAMP, v BIGINT, WATERMARK FOR ts)`.
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
            column("k", SqlType::BigInt),
            column("ts", SqlType::Timestamp),
            column("v", SqlType::BigInt),
        ],
        primary_key: Vec::new(),
        append_only: true,
        watermark: Some(WatermarkDef {
            column: "ts".into(),
            delay_us: 0,
        }),
        checks: Vec::new(),
        options: BTreeMap::new(),
        rows: TableId(1),
    };
    let id = catalog.allocate_object();
    let name = QualifiedName {
        schema: "public".into(),
        name: "t".into(),
    };
    catalog.put(Object {
        id,
        name,
        sql: String::new(),
        comment: None,
        depends_on: Vec::new(),
        kind: ObjectKind::Table(def),
    });
    (catalog, id)
}

struct Bench {
    _dir: TempDir,
    store: Store,
    cache: CacheHandle,
    next_table: TableId,
    epoch: u64,
}

/// One view that runs.
struct Running<'a> {
    bench: &'a mut Bench,
    plan: &'a PlanNode,
    first_table: TableId,
    table: ObjectId,
    dataflow: Dataflow,
    is_first: bool,
}

impl Bench {
    fn new() -> Bench {
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
        }
    }
}

impl Running<'_> {
    /// The output of an epoch, in order.
    fn epoch(&mut self, parts: &[Vec<Row>], watermark: Option<i64>) -> Vec<Given> {
        self.bench.epoch += 1;
        let columns = self.dataflow.scan_columns()[&self.table].clone();
        let parts = parts
            .iter()
            .map(|rows| InputPart::Delta(delta(rows, &columns)));
        let input = ScanInput {
            parts: parts.collect(),
            is_live: false,
            watermarks: Watermarks::of_column(1, watermark).project(&columns),
        };
        let inputs = ViewInputs::from([(self.table, input)]);
        let mut context = EpochContext {
            epoch: self.bench.epoch,
            shards: 1,
            held_limit: usize::MAX,
            now_us: 0,
            failures: Vec::new(),
        };
        let mut shares = EpochShares::default();
        let mut sharing = Sharing {
            prefixes: &SharedPrefixes::default(),
            shares: &mut shares,
            max_bytes: 0,
        };
        let mut output = Vec::new();
        let mut take = |delta: Delta| {
            assert!(delta.weights().is_none(), "append-only");
            let column = |at: usize| delta.columns()[at].clone();
            let time = |at: usize| {
                column(at)
                    .as_primitive::<TimestampMicrosecondType>()
                    .clone()
            };
            let number = |at: usize| column(at).as_primitive::<Int64Type>().clone();
            let (k, start, end) = (number(0), time(1), time(2));
            let (n, s, d) = (number(3), number(4), number(5));
            for row in 0..delta.num_rows() {
                let key = (end.value(row), start.value(row), k.value(row));
                output.push((key, (n.value(row), s.value(row), d.value(row))));
            }
            Ok(())
        };
        self.dataflow
            .run(
                &inputs,
                self.is_first,
                &mut sharing,
                &mut context,
                &mut take,
            )
            .unwrap();
        self.is_first = false;
        assert_eq!(context.failures, []);
        let mut writes = WriteSet::default();
        self.dataflow.drain_into(&mut writes);
        self.bench.store.commit(&writes, false).unwrap();
        self.dataflow.committed();
        output
    }

    fn restart(&mut self) {
        self.dataflow = Dataflow::build(
            self.plan,
            self.first_table,
            &self.bench.store,
            &self.bench.cache,
        )
        .unwrap();
    }
}

fn delta(rows: &[Row], columns: &[usize]) -> Delta {
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

/// A partition of a random stream.
struct Partition {
    time: EventTime,
    bound: Option<i64>,
    clock: i64,
}

#[test]
fn windows_close_once_and_as_computed_plainly() {
    let seed = std::env::var("RIVERMARK_SEED").ok();
    let seed = seed
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_240_101);
    println!("RIVERMARK_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (catalog, table) = catalog();
    let mut bench = Bench::new();
    let mut seen = [0usize; 4];
    for _ in 0..PLANS {
        let shape = Shape::random(&mut rng);
        let query = parse_query(&shape.sql()).unwrap();
        let view = ViewQuery {
            query: &query,
            columns: &[],
            time_zone: "UTC",
            text: None,
            emit_on_window_close: true,
        };
        let plan = plan_view(&catalog, view).unwrap().plan.root;
        for stream in 0..STREAMS {
            let first_table = bench.next_table;
            bench.next_table.0 += plan.state_tables();
            let dataflow = Dataflow::build(&plan, first_table, &bench.store, &bench.cache).unwrap();
            let mut view = Running {
                bench: &mut bench,
                plan: &plan,
                first_table,
                table,
                dataflow,
                is_first: true,
            };
            let label = format!("{shape:?}, stream {stream}");
            let found = one_stream(&mut rng, shape, &mut view, &label);
            for (total, one) in seen.iter_mut().zip(found) {
                *total += one;
            }
        }
    }
    println!("rows, late rows, closed windows, restarts: {seen:?}");
    assert!(
        seen.iter().all(|n| *n >= 500),
        "what is tested came too seldom: {seen:?}"
    );
}

/// Rows, late rows, windows closed, restarts.
fn one_stream(rng: &mut StdRng, shape: Shape, view: &mut Running<'_>, label: &str) -> [usize; 4] {
    let options = WatermarkOptions {
        includes_late: false,
        idle_timeout_us: None,
        follows_clock: false,
        max_future_us: i64::MAX,
    };
    let mut partitions: Vec<Partition> = (0..rng.random_range(1..4))
        .map(|_| Partition {
            time: EventTime {
                column: 1,
                delay_us: rng.random_range(0..10),
                options: options.clone(),
            },
            bound: None,
            clock: rng.random_range(-30..30),
        })
        .collect();
    let jitter = rng.random_range(1..15);
    let (mut kept, mut closed) = (Vec::<Row>::new(), Windows::new());
    let (mut watermark, mut counts) = (None, [0; 4]);
    for _ in 0..rng.random_range(3..12) {
        if rng.random_bool(0.2) {
            view.restart();
            counts[3] += 1;
        }
        let mut parts = vec![Vec::new(); rng.random_range(1..4)];
        for _ in 0..rng.random_range(0..20) {
            let at = rng.random_range(0..partitions.len());
            let partition = &mut partitions[at];
            partition.clock += rng.random_range(0..4);
            let time = partition.clock - rng.random_range(0..jitter);
            let time = (!rng.random_bool(0.03)).then_some(time);
            counts[0] += 1;
            let late = partition
                .time
                .late_rows([time].into_iter(), &mut partition.bound);
            if !late.is_empty() {
                counts[1] += 1;
                continue;
            }
            let row = (rng.random_range(0..3), time, rng.random_range(-2..3));
            kept.push(row);
            let part = rng.random_range(0..parts.len());
            parts[part].push(row);
        }
        let bounds = partitions.iter().map(|p| p.bound);
        watermark = watermark.max(bounds.min().flatten());
        let given = view.epoch(&parts, watermark);
        check(shape, &kept, watermark, &given, &mut closed, label);
        counts[2] += given.len();
    }
    // In the end everything is what a query over all rows gives.
    let given = view.epoch(&[], Some(1_000_000));
    check(shape, &kept, Some(1_000_000), &given, &mut closed, label);
    assert_eq!(closed, shape.aggregated(&kept), "{label}");
    counts
}

/// What an epoch gave is what the watermark has passed since the one before, in order.
fn check(
    shape: Shape,
    kept: &[Row],
    watermark: Option<i64>,
    given: &[Given],
    closed: &mut Windows,
    label: &str,
) {
    let due: Windows = shape
        .aggregated(kept)
        .into_iter()
        .filter(|(key, _)| Some(key.0) <= watermark && !closed.contains_key(key))
        .collect();
    assert!(
        given.is_sorted_by_key(|(key, _)| key.0),
        "{label}: {given:?}"
    );
    let found: Windows = given.iter().copied().collect();
    assert_eq!(found.len(), given.len(), "twice: {label}");
    assert_eq!(found, due, "{label}, watermark {watermark:?}");
    closed.extend(found);
}

#[test]
fn of_several_inputs_the_lower_bound_counts() {
    let marks = |bounds: &[Option<i64>]| Watermarks(bounds.to_vec());
    for (inputs, expected) in [
        (
            vec![marks(&[Some(3), Some(4)]), marks(&[Some(5), Some(1)])],
            marks(&[Some(3), Some(1)]),
        ),
        (vec![marks(&[Some(3)]), marks(&[None])], marks(&[None])),
        (vec![marks(&[Some(3)]), marks(&[])], marks(&[None])),
        (vec![marks(&[Some(3)])], marks(&[Some(3)])),
    ] {
        assert_eq!(Watermarks::least(&inputs), expected, "{inputs:?}");
    }
}

#[test]
fn late_is_below_the_highest_time_before_less_the_delay() {
    let time = EventTime {
        column: 0,
        delay_us: 10,
        options: WatermarkOptions {
            includes_late: false,
            idle_timeout_us: None,
            follows_clock: false,
            max_future_us: 0,
        },
    };
    let mut bound = None;
    let times = [
        Some(100),
        Some(90),
        None,
        Some(89),
        Some(130),
        Some(119),
        Some(120),
    ];
    let late = time.late_rows(times.into_iter(), &mut bound);
    let found: Vec<_> = late
        .iter()
        .map(|l| (l.row, l.time_us, l.bound_us))
        .collect();
    assert_eq!(found, [(3, 89, 90), (5, 119, 120)]);
    assert_eq!(bound, Some(120));
}
