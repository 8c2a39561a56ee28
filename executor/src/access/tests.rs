//! Random rows, changes and conditions: what a scan gives through keys and indexes, behind the filter, equals the
//! filtered rows; for every layout, for indexes older and younger than the rows, across epochs, restarts and parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, Operator, binary_expr};
use datafusion::prelude::{SessionConfig, SessionContext, cast, col, lit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_planner::TableId;
use rivermark_planner::catalog::{IndexColumn, IndexDef, ObjectId};
use tempfile::TempDir;

use crate::delta::Delta;
use crate::index::{IndexFormat, IndexProgress, RowIndex};
use crate::meta;
use crate::row_store::RowStore;
use crate::rows::{RowFormat, RowLayout};
use crate::state::{CacheHandle, MemoryPlan, Store, StoreOptions, WriteSet};
use crate::stored_scan::StoredScan;

const ROWS: TableId = TableId(7);
const NAMES: [&str; 6] = ["id", "a", "b", "f", "n", "ok"];

type Row = Vec<ScalarValue>;

fn schema() -> SchemaRef {
    let types = [
        DataType::Int32,
        DataType::Int32,
        DataType::Utf8,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Boolean,
    ];
    let fields = NAMES.iter().zip(types);
    let fields = fields.map(|(name, t)| Field::new(*name, t, *name != "id"));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn random_value(random: &mut StdRng, column: usize) -> ScalarValue {
    let is_null = random.random_bool(0.2);
    match column {
        0 => ScalarValue::Int32(Some(random.random_range(0..60))),
        1 => ScalarValue::Int32((!is_null).then(|| random.random_range(-3..4))),
        2 => {
            let text = ["", "a", "a\0", "ab", "b"][random.random_range(0..5)];
            ScalarValue::Utf8((!is_null).then(|| text.to_string()))
        }
        3 => {
            let floats = [
                0.0,
                -0.0,
                1.5,
                -2.25,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ];
            let float = floats[random.random_range(0..floats.len())];
            ScalarValue::Float64((!is_null).then_some(float))
        }
        4 => ScalarValue::Decimal128((!is_null).then(|| random.random_range(-300..300)), 10, 2),
        _ => ScalarValue::Boolean((!is_null).then(|| random.random_bool(0.5))),
    }
}

fn random_row(random: &mut StdRng) -> Row {
    (0..NAMES.len()).map(|c| random_value(random, c)).collect()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns = (0..NAMES.len()).map(|c| -> ArrayRef {
        let values = rows.iter().map(|row| row[c].clone());
        ScalarValue::iter_to_array(values).unwrap()
    });
    match rows.is_empty() {
        true => RecordBatch::new_empty(schema()),
        false => RecordBatch::try_new(schema(), columns.collect()).unwrap(),
    }
}

/// A constant of the column's type, or one that it has to be cast to.
fn random_constant(random: &mut StdRng, column: usize) -> (Expr, Expr) {
    let named = col(NAMES[column]);
    let cents = random.random_range(-400..400);
    match column {
        0 | 1 if random.random_bool(0.2) => {
            let wide = lit(ScalarValue::Decimal128(Some(cents), 20, 2));
            (cast(named, DataType::Decimal128(20, 2)), wide)
        }
        0 | 1 if random.random_bool(0.2) => {
            let wide = [i64::MIN, -1, 2, i64::MAX][random.random_range(0..4)];
            (cast(named, DataType::Int64), lit(wide))
        }
        4 if random.random_bool(0.4) => {
            let wide = lit(ScalarValue::Decimal128(Some(cents * 5), 20, 3));
            (cast(named, DataType::Decimal128(20, 3)), wide)
        }
        _ => (named, lit(random_value(random, column))),
    }
}

fn random_condition(random: &mut StdRng, depth: usize) -> Expr {
    if depth > 0 && random.random_bool(0.5) {
        let count = random.random_range(2..4);
        let op = if random.random_bool(0.6) {
            Operator::And
        } else {
            Operator::Or
        };
        let parts: Vec<Expr> = (0..count)
            .map(|_| random_condition(random, depth - 1))
            .collect();
        let joined = parts.into_iter().reduce(|a, b| binary_expr(a, op, b));
        return joined.expect("there are at least two");
    }
    let column = random.random_range(0..NAMES.len());
    let named = col(NAMES[column]);
    let operators = [
        Operator::Eq,
        Operator::Eq,
        Operator::Lt,
        Operator::LtEq,
        Operator::Gt,
        Operator::GtEq,
        Operator::NotEq,
        Operator::IsNotDistinctFrom,
        Operator::IsDistinctFrom,
    ];
    match random.random_range(0..12) {
        0 => named.is_null(),
        1 => named.is_not_null(),
        2 if column == 5 => named,
        3 if column == 5 => Expr::Not(Box::new(named)),
        2 | 3 => {
            let list = (0..random.random_range(1..5)).map(|_| lit(random_value(random, column)));
            named.in_list(list.collect(), random.random_bool(0.2))
        }
        4 => {
            let bounds = [random_value(random, column), random_value(random, column)];
            let [low, high] = bounds.map(lit);
            named.between(low, high)
        }
        _ => {
            let (named, value) = random_constant(random, column);
            let op = operators[random.random_range(0..operators.len())];
            match random.random_bool(0.2) {
                true => binary_expr(value, op, named),
                false => binary_expr(named, op, value),
            }
        }
    }
}

fn random_index(random: &mut StdRng, table: u32) -> IndexDef {
    let columns = (0..random.random_range(1..4)).map(|_| IndexColumn {
        column: random.random_range(0..NAMES.len()),
        is_descending: random.random_bool(0.5),
        nulls_first: random.random_bool(0.5),
    });
    IndexDef {
        relation: ObjectId(1),
        columns: columns.collect(),
        is_unique: false,
        is_complete: false,
        entries: TableId(table),
    }
}

/// A relation with indexes, and the rows it must have.
struct Relation {
    directory: TempDir,
    layout: RowLayout,
    store: Option<Store>,
    rows: Option<RowStore>,
    indexes: Vec<IndexDef>,
    expected: Vec<Row>,
}

impl Relation {
    fn new(layout: RowLayout) -> Self {
        let mut relation = Relation {
            directory: tempfile::tempdir().unwrap(),
            layout,
            store: None,
            rows: None,
            indexes: Vec::new(),
            expected: Vec::new(),
        };
        relation.open();
        relation
    }

    /// Opens the store anew: what is not committed is gone.
    fn open(&mut self) {
        (self.rows, self.store) = (None, None);
        let memory = MemoryPlan {
            block_cache_bytes: 8 << 20,
            write_buffer_bytes: 8 << 20,
        };
        let store = Store::open(&StoreOptions::new(self.directory.path(), memory)).unwrap();
        let format = RowFormat::new(ROWS, schema(), self.layout.clone()).unwrap();
        let count = self.expected.len() as u64;
        let cache = CacheHandle::new(1 << 20);
        self.rows = Some(RowStore::new(Arc::new(format), count, &store, &cache).unwrap());
        self.store = Some(store);
        for at in 0..self.indexes.len() {
            self.attach(at);
        }
    }

    fn attach(&mut self, at: usize) {
        let (def, store) = (&self.indexes[at], self.store.as_ref().unwrap());
        let id = ObjectId(100 + at as u32);
        let progress: Option<IndexProgress> = meta::get(store, &meta::index_key(id)).unwrap();
        let format = IndexFormat::new(id, "i", def, &schema()).unwrap();
        let index = RowIndex::new(format, def.is_complete, progress.unwrap_or_default(), store);
        self.rows.as_mut().unwrap().add_index(index);
    }

    fn add_index(&mut self, random: &mut StdRng) {
        let table = 50 + self.indexes.len() as u32;
        self.indexes.push(random_index(random, table));
        self.attach(self.indexes.len() - 1);
    }

    fn key_of(&self, row: &Row) -> Option<ScalarValue> {
        matches!(self.layout, RowLayout::Keyed(_)).then(|| row[0].clone())
    }

    /// An epoch: deletions and insertions, as one change, then a piece of every index that is being built.
    fn change(&mut self, random: &mut StdRng) {
        let is_log = self.layout == RowLayout::Log;
        let mut changes: BTreeMap<String, (Row, i64)> = BTreeMap::new();
        let mut add = |row: &Row, weight: i64| {
            let entry = changes.entry(format!("{row:?}"));
            entry.or_insert_with(|| (row.clone(), 0)).1 += weight;
        };
        let mut kept = Vec::new();
        for row in std::mem::take(&mut self.expected) {
            match !is_log && random.random_bool(0.2) {
                true => add(&row, -1),
                false => kept.push(row),
            }
        }
        for _ in 0..random.random_range(0..30) {
            let row = random_row(random);
            let key = self.key_of(&row);
            if key.is_none() || kept.iter().all(|other| self.key_of(other) != key) {
                add(&row, 1);
                kept.push(row);
            }
        }
        self.expected = kept;
        let changes: Vec<(Row, i64)> = changes.into_values().filter(|(_, w)| *w != 0).collect();
        let rows: Vec<Row> = changes.iter().map(|(row, _)| row.clone()).collect();
        let delta = match is_log {
            true => {
                let copies = changes.iter();
                let copies = copies.flat_map(|(row, w)| std::iter::repeat_n(row, *w as usize));
                Delta::insertions(batch(&copies.cloned().collect::<Vec<_>>()))
            }
            false => {
                let weights: Vec<i64> = changes.iter().map(|(_, weight)| *weight).collect();
                Delta::new(batch(&rows), Some(weights.into()))
            }
        };
        let store = self.rows.as_mut().unwrap();
        store.apply(&delta).unwrap();
        if random.random_bool(0.1) {
            // As if the epoch had failed, and ran again.
            store.discard();
            store.apply(&delta).unwrap();
        }
        let (completed, _) = store.build_indexes(random.random_range(1..40)).unwrap();
        for id in completed {
            self.indexes[id.0 as usize - 100].is_complete = true;
        }
        let mut writes = WriteSet::new();
        store.drain_into(&mut writes).unwrap();
        self.store.as_ref().unwrap().commit(&writes, false).unwrap();
        store.committed();
        store.merge_blocks().unwrap();
    }

    fn scan(&self) -> StoredScan {
        let rows = self.rows.as_ref().unwrap();
        StoredScan {
            name: "t".to_string(),
            format: rows.format.clone(),
            indexes: rows.complete_indexes().into(),
            store: self.store.as_ref().unwrap().snapshot(),
            own: None,
        }
    }
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows()).map(|row| {
                let values = batch.columns().iter();
                let values = values.map(|c| ScalarValue::try_from_array(c, row).unwrap());
                format!("{:?}", values.collect::<Vec<_>>())
            })
        })
        .collect();
    rows.sort();
    rows
}

/// Whether an index or the key was used.
async fn check(context: &SessionContext, relation: &Relation, condition: &Expr) -> bool {
    let provider = Arc::new(relation.scan());
    let indexed = context.read_table(provider).unwrap();
    let indexed = indexed.filter(condition.clone()).unwrap();
    let plan = indexed.clone().create_physical_plan().await.unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref())
        .indent(false)
        .to_string();
    let all = MemTable::try_new(schema(), vec![vec![batch(&relation.expected)]]).unwrap();
    let filtered = context.read_table(Arc::new(all)).unwrap();
    let filtered = filtered.filter(condition.clone()).unwrap();
    let (found, wanted) = (indexed.collect().await, filtered.collect().await);
    let (found, wanted) = (texts(&found.unwrap()), texts(&wanted.unwrap()));
    assert_eq!(found, wanted, "{condition}\n{plan}");
    !plan.contains("all rows")
}

fn run(layout: &RowLayout, seed: u64) {
    println!("layout {layout:?}, seed {seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let mut relation = Relation::new(layout.clone());
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut narrowed = 0;
    for epoch in 0..10 {
        if epoch == 0 || random.random_bool(0.2) {
            relation.add_index(random);
        }
        relation.change(random);
        if random.random_bool(0.2) {
            relation.open();
        }
        for _ in 0..8 {
            let condition = random_condition(random, 2);
            narrowed += usize::from(runtime.block_on(check(&context, &relation, &condition)));
        }
    }
    assert!(narrowed > 0, "no condition used a key or an index");
}

fn seeds() -> Vec<u64> {
    match std::env::var("RIVERMARK_TEST_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => vec![seed],
        _ => (0..4).collect(),
    }
}

#[test]
fn keyed_rows_are_found() {
    for seed in seeds() {
        run(&RowLayout::Keyed(vec![0]), seed);
    }
}

#[test]
fn bags_are_found() {
    for seed in seeds() {
        run(&RowLayout::Bag, seed);
    }
}

#[test]
fn appended_rows_are_found() {
    for seed in seeds() {
        run(&RowLayout::Log, seed);
    }
}
