//! Any operator on a temporary store, random changes of its inputs, and what its output adds up to: for tests that
//! compare an operator with a naive batch computation, whatever the split into epochs and deltas.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::Column;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rivermark_planner::plan::{BoundExpr, PlanNode, PlanOp, Properties};
use tempfile::TempDir;

use super::build_operator;
use crate::delta::Delta;
use crate::operator::{EpochContext, Failure, Operator};
use crate::state::{
    CacheHandle, Family, KeyRange, MemoryPlan, RowCodec, StateTable, Store, StoreOptions, TableId,
    WriteSet,
};

pub type Row = Vec<ScalarValue>;

const MEMORY: MemoryPlan = MemoryPlan {
    block_cache_bytes: 8 << 20,
    write_buffer_bytes: 16 << 20,
};

/// `g`: groups, `o`: an order with ties and NULLs, `f`: a float with NaN and both zeros, `s`: a text.
pub fn schema() -> SchemaRef {
    let fields = [
        ("g", DataType::Int64),
        ("o", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
    ];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(fields.to_vec()))
}

/// A column of [`schema`].
pub fn column(name: &str) -> BoundExpr {
    let schema = schema();
    let physical = Column::new_with_schema(name, &schema).unwrap();
    BoundExpr {
        logical: datafusion::prelude::col(name),
        data_type: schema.field_with_name(name).unwrap().data_type().clone(),
        nullable: true,
        physical: Arc::new(physical),
        is_fallible: false,
    }
}

pub fn options(descending: bool, nulls_first: bool) -> SortOptions {
    SortOptions {
        descending,
        nulls_first,
    }
}

fn random_row(random: &mut StdRng) -> Row {
    let group = random.random_range(0i64..4);
    let order = random.random_range(-2i64..6);
    let float = [0.0, -0.0, 1.5, -2.25, f64::NAN][random.random_range(0..5)];
    let text = ["", "a", "b\0c"][random.random_range(0..3)];
    vec![
        ScalarValue::Int64((group > 0).then_some(group)),
        ScalarValue::Int64((order < 5).then_some(order)),
        ScalarValue::Float64(random.random_bool(0.8).then_some(float)),
        ScalarValue::from(text),
    ]
}

/// Rows as often as they are there.
#[derive(Debug, Clone, Default)]
pub struct Bag {
    pub rows: Vec<(Row, i64)>,
}

impl Bag {
    /// An epoch's changes in an order in which weights may be negative on the way.
    pub fn change(&mut self, random: &mut StdRng, is_append_only: bool) -> Vec<(Row, i64)> {
        let mut changes = Vec::new();
        for _ in 0..random.random_range(0..25) {
            let row = random_row(random);
            let weight = if random.random_bool(0.8) { 1 } else { 3 };
            if !is_append_only && random.random_bool(0.2) {
                // comes and goes within the epoch
                changes.extend([(row.clone(), weight), (row, -weight)]);
                continue;
            }
            changes.push((row.clone(), weight));
            self.add(row, weight);
        }
        let is_purge = random.random_bool(0.1);
        for (row, weight) in &mut self.rows {
            if is_append_only
                || *weight == 0
                || !random.random_bool(if is_purge { 0.9 } else { 0.2 })
            {
                continue;
            }
            let taken = if is_purge {
                *weight
            } else {
                random.random_range(1..=*weight)
            };
            *weight -= taken;
            changes.push((row.clone(), -taken));
        }
        self.rows.retain(|(_, weight)| *weight > 0);
        if !is_append_only {
            changes.shuffle(random);
        }
        changes
    }

    fn add(&mut self, row: Row, weight: i64) {
        let text = format!("{row:?}");
        match self
            .rows
            .iter_mut()
            .find(|(other, _)| format!("{other:?}") == text)
        {
            Some((_, sum)) => *sum += weight,
            None => self.rows.push((row, weight)),
        }
    }

    /// Every copy of every row, in the order that the whole row gives where `compare` finds two equal.
    pub fn sorted(&self, compare: impl Fn(&Row, &Row) -> std::cmp::Ordering) -> Vec<Row> {
        let mut rows: Vec<&(Row, i64)> = self.rows.iter().collect();
        rows.sort_by(|(a, _), (b, _)| compare(a, b).then_with(|| encoded(a).cmp(&encoded(b))));
        rows.into_iter()
            .flat_map(|(row, weight)| std::iter::repeat_n(row.clone(), *weight as usize))
            .collect()
    }

    /// The rows of each `g`.
    pub fn groups(&self) -> Vec<Bag> {
        let mut groups: BTreeMap<String, Bag> = BTreeMap::new();
        for (row, weight) in &self.rows {
            let group = groups.entry(format!("{:?}", row[0])).or_default();
            group.rows.push((row.clone(), *weight));
        }
        groups.into_values().collect()
    }
}

fn encoded(row: &Row) -> Vec<u8> {
    let types = row.iter().map(ScalarValue::data_type).collect();
    let columns: Vec<ArrayRef> = row.iter().map(|value| value.to_array().unwrap()).collect();
    let mut bytes = Vec::new();
    let codec = RowCodec::new(types).unwrap();
    codec.encode_row_into(&columns, 0, &mut bytes).unwrap();
    bytes
}

/// By `o` as SQL sorts it.
pub fn by_order(options: SortOptions) -> impl Fn(&Row, &Row) -> std::cmp::Ordering {
    move |a, b| {
        let key = |row: &Row| match row[1] {
            ScalarValue::Int64(value) => value,
            ref other => panic!("{other:?}"),
        };
        match (key(a), key(b)) {
            (None, None) => std::cmp::Ordering::Equal,
            (None, Some(_)) if options.nulls_first => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(_), None) if options.nulls_first => std::cmp::Ordering::Greater,
            (Some(_), None) => std::cmp::Ordering::Less,
            (Some(a), Some(b)) if options.descending => b.cmp(&a),
            (Some(a), Some(b)) => a.cmp(&b),
        }
    }
}

/// Rows with how often they are there, by their text.
pub type Sum = BTreeMap<String, i64>;

/// What a batch computation answers.
pub fn sum_of(rows: impl IntoIterator<Item = Row>) -> Sum {
    let mut sum = Sum::new();
    for row in rows {
        *sum.entry(format!("{row:?}")).or_default() += 1;
    }
    sum
}

/// An operator, its store, and the sum of its output so far.
pub struct Bench {
    node: PlanNode,
    store: Store,
    _directory: TempDir,
    operator: Box<dyn Operator>,
    epoch: u64,
    /// The next epoch's time.
    pub now_us: i64,
    pub shards: usize,
    pub sum: Sum,
    pub failures: Vec<Failure>,
    /// Output rows of the last epoch.
    pub emitted: usize,
}

impl Bench {
    /// An operator with inputs of [`schema`].
    pub fn new(op: PlanOp, inputs: usize, output: Vec<Field>, is_append_only: bool) -> Self {
        let properties = Properties {
            append_only: is_append_only,
            ..Properties::default()
        };
        let input = PlanNode {
            op: PlanOp::UnionAll,
            inputs: Vec::new(),
            schema: schema(),
            properties,
        };
        let node = PlanNode {
            op,
            inputs: vec![input; inputs],
            schema: Arc::new(Schema::new(output)),
            properties: Properties::default(),
        };
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::new(directory.path(), MEMORY)).unwrap();
        let operator = build(&node, &store);
        Bench {
            node,
            store,
            _directory: directory,
            operator,
            epoch: 0,
            now_us: 0,
            shards: 1,
            sum: Sum::new(),
            failures: Vec::new(),
            emitted: 0,
        }
    }

    fn run(&mut self, deltas: Vec<(usize, Delta)>) -> (Vec<Delta>, EpochContext) {
        self.epoch += 1;
        let mut context = EpochContext {
            epoch: self.epoch,
            now_us: self.now_us,
            shards: self.shards,
            held_limit: usize::MAX,
            failures: Vec::new(),
        };
        let mut output = Vec::new();
        for (port, delta) in deltas {
            output.extend(self.operator.push(port, delta, &mut context).unwrap());
        }
        let emit = &mut |delta: Delta, _: &mut EpochContext| {
            output.push(delta);
            Ok(())
        };
        self.operator.finish_into(&mut context, emit).unwrap();
        (output, context)
    }

    /// Runs one epoch and commits it.
    pub fn epoch(&mut self, deltas: Vec<(usize, Delta)>) {
        let (output, context) = self.run(deltas);
        let mut writes = WriteSet::new();
        self.operator.drain_into(&mut writes);
        self.store.commit(&writes, false).unwrap();
        self.operator.committed();
        self.failures.extend(context.failures);
        self.emitted = output.iter().map(Delta::num_rows).sum();
        for delta in output {
            assert_eq!(delta.schema(), self.node.schema);
            for row in 0..delta.num_rows() {
                *self.sum.entry(text(delta.batch(), row)).or_default() += delta.weight(row);
            }
        }
        self.sum.retain(|_, weight| *weight != 0);
        assert!(
            self.sum.values().all(|weight| *weight > 0),
            "{:?}",
            self.sum
        );
    }

    /// Runs an epoch and forgets it.
    pub fn failed_epoch(&mut self, deltas: Vec<(usize, Delta)>) {
        self.run(deltas);
        self.operator.discard();
    }

    /// A new operator on the same store.
    pub fn restart(&mut self) {
        self.operator = build(&self.node, &self.store);
    }

    /// How many keys a state table has.
    pub fn stored(&mut self, table: usize) -> usize {
        let table = self.operator.state_tables().swap_remove(table);
        let scan = table.scan(&KeyRange::all()).unwrap();
        scan.map(Result::unwrap).count()
    }
}

fn build(node: &PlanNode, store: &Store) -> Box<dyn Operator> {
    let cache = CacheHandle::new(1 << 16);
    let table = |id| {
        let id = TableId(id);
        StateTable::new(id, Family::State, store.clone(), cache.clone())
    };
    let tables = (1..=node.op.state_tables()).map(table).collect();
    build_operator(9, node, tables).unwrap()
}

fn text(batch: &RecordBatch, row: usize) -> String {
    let values: Row = batch
        .columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, row).unwrap())
        .collect();
    format!("{values:?}")
}

/// A batch of [`schema`].
pub fn batch_of(rows: &[Row]) -> RecordBatch {
    if rows.is_empty() {
        return RecordBatch::new_empty(schema());
    }
    let columns = (0..schema().fields().len()).map(|index| {
        ScalarValue::iter_to_array(rows.iter().map(|row| row[index].clone())).unwrap()
    });
    RecordBatch::try_new(schema(), columns.collect()).unwrap()
}

/// `changes` of the input at `port`, in any number of deltas.
fn split(port: usize, changes: &[(Row, i64)], random: &mut StdRng) -> Vec<(usize, Delta)> {
    let mut deltas = Vec::new();
    let mut rest = changes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(random.random_range(1..=rest.len()));
        let rows: Vec<Row> = now.iter().map(|change| change.0.clone()).collect();
        let weights: Vec<i64> = now.iter().map(|change| change.1).collect();
        let weights = weights.iter().any(|w| *w != 1).then(|| weights.into());
        deltas.push((port, Delta::new(batch_of(&rows), weights)));
        rest = later;
    }
    deltas
}

/// Random epochs with failed ones, restarts and several threads in between; after each the output must add up to what
/// `reference` says of the inputs.
pub fn check(
    seed: u64,
    bench: &mut Bench,
    is_append_only: bool,
    reference: impl Fn(&[Bag]) -> Sum,
) {
    check_in_time(seed, bench, is_append_only, |bags, _| reference(bags));
}

/// As [`check`]; time passes between the epochs, and `reference` is told the last one's.
pub fn check_in_time(
    seed: u64,
    bench: &mut Bench,
    is_append_only: bool,
    reference: impl Fn(&[Bag], i64) -> Sum,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bags = vec![Bag::default(); bench.node.inputs.len()];
    for epoch in 0..14 {
        bench.shards = [1, 3][random.random_range(0..2)];
        bench.now_us += random.random_range(0..3);
        if random.random_bool(0.2) {
            let lost = Bag::default().change(&mut random, true);
            bench.failed_epoch(split(0, &lost, &mut random));
        }
        let mut deltas = Vec::new();
        for (port, bag) in bags.iter_mut().enumerate() {
            let changes = bag.change(&mut random, is_append_only);
            deltas.extend(split(port, &changes, &mut random));
        }
        deltas.shuffle(&mut random);
        bench.epoch(deltas);
        let expected = reference(&bags, bench.now_us);
        assert_eq!(bench.sum, expected, "seed {seed}, epoch {epoch}");
        if random.random_bool(0.25) {
            bench.restart();
        }
    }
    assert!(bench.failures.is_empty());
}
