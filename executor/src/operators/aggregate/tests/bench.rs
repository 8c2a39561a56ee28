//! An aggregate operator on a temporary store, and what its output adds up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_empty_array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::{AggregateUDF, Expr};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{
    AggregateCall, AggregateStrategy, BoundExpr, PlanNode, PlanOp, Properties,
};
use tempfile::TempDir;

use crate::delta::Delta;
use crate::operator::{EpochContext, Failure, Operator};
use crate::operators::build_operator;
use crate::state::{
    CacheHandle, Family, MemoryPlan, StateTable, Store, StoreOptions, TableId, WriteSet,
};

/// A call as tests write it: `args` are column names, or literals: `'text'`, `0.5`, `2`.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub args: &'static [&'static str],
    pub distinct: bool,
    /// A boolean column.
    pub filter: Option<&'static str>,
    /// A column, and whether it is descending.
    pub order: Option<(&'static str, bool)>,
}

impl Case {
    pub const fn new(name: &'static str, args: &'static [&'static str]) -> Self {
        Case {
            name,
            args,
            distinct: false,
            filter: None,
            order: None,
        }
    }

    pub const fn distinct(mut self) -> Self {
        self.distinct = true;
        self
    }

    pub const fn filter(mut self, column: &'static str) -> Self {
        self.filter = Some(column);
        self
    }

    pub const fn order(mut self, column: &'static str, is_descending: bool) -> Self {
        self.order = Some((column, is_descending));
        self
    }

    pub fn call(&self, schema: &Schema, strategy: AggregateStrategy) -> AggregateCall {
        let args: Vec<BoundExpr> = self.args.iter().map(|arg| bound(arg, schema)).collect();
        let function = function(self.name);
        let exprs = args.iter().map(|arg| arg.physical.clone()).collect();
        let typed = AggregateExprBuilder::new(function.clone(), exprs)
            .schema(Arc::new(schema.clone()))
            .alias(self.name)
            .build()
            .unwrap();
        AggregateCall {
            name: self.name.to_string(),
            function,
            args,
            distinct: self.distinct,
            filter: self.filter.map(|column| bound(column, schema)),
            order_by: self
                .order
                .iter()
                .map(|&(c, desc)| (bound(c, schema), options(desc)))
                .collect(),
            ignore_nulls: false,
            strategy,
            data_type: typed.field().data_type().clone(),
            display: format!("{self:?}"),
        }
    }
}

pub fn options(is_descending: bool) -> SortOptions {
    SortOptions {
        descending: is_descending,
        nulls_first: is_descending,
    }
}

pub fn function(name: &str) -> Arc<AggregateUDF> {
    all_default_aggregate_functions()
        .into_iter()
        .find(|function| function.name() == name)
        .unwrap()
}

pub fn bound(text: &str, schema: &Schema) -> BoundExpr {
    let literal = if let Some(text) = text.strip_prefix('\'') {
        Some(ScalarValue::from(text.trim_end_matches('\'')))
    } else if text.contains('.') {
        Some(ScalarValue::from(text.parse::<f64>().unwrap()))
    } else {
        text.parse::<i64>().ok().map(ScalarValue::from)
    };
    let physical: Arc<dyn PhysicalExpr> = match &literal {
        Some(value) => Arc::new(Literal::new(value.clone())),
        None => Arc::new(Column::new_with_schema(text, schema).unwrap()),
    };
    BoundExpr {
        logical: literal.map_or_else(
            || datafusion::prelude::col(text),
            |value| Expr::Literal(value, None),
        ),
        data_type: physical.data_type(schema).unwrap(),
        nullable: true,
        physical,
        is_fallible: false,
    }
}

const MEMORY: MemoryPlan = MemoryPlan {
    block_cache_bytes: 8 << 20,
    write_buffer_bytes: 16 << 20,
};

/// An operator, its store, and the sum of its output so far.
pub struct Bench {
    node: PlanNode,
    store: Store,
    _directory: TempDir,
    operator: Box<dyn Operator>,
    epoch: u64,
    pub shards: usize,
    /// Output rows by their text; each must be there once.
    pub rows: BTreeMap<String, Vec<ScalarValue>>,
    pub failures: Vec<Failure>,
}

impl Bench {
    pub fn new(input: &SchemaRef, group_by: &[&str], calls: Vec<AggregateCall>) -> Self {
        let group_by: Vec<BoundExpr> = group_by.iter().map(|column| bound(column, input)).collect();
        let types = group_by
            .iter()
            .map(|key| &key.data_type)
            .chain(calls.iter().map(|call| &call.data_type));
        let fields = types
            .enumerate()
            .map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let op = PlanOp::Aggregate {
            window: None,
            group_by,
            calls,
            permanent: Vec::new(),
        };
        let node = PlanNode {
            op,
            inputs: Vec::new(),
            schema,
            properties: Properties::default(),
        };
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::new(directory.path(), MEMORY)).unwrap();
        let operator = build(&node, &store);
        let mut bench = Bench {
            node,
            store,
            _directory: directory,
            operator,
            epoch: 0,
            shards: 1,
            rows: BTreeMap::new(),
            failures: Vec::new(),
        };
        let mut context = bench.context();
        let initial = bench.operator.initialize(&mut context).unwrap();
        bench.take(initial, context);
        bench
    }

    fn context(&mut self) -> EpochContext {
        self.epoch += 1;
        EpochContext {
            epoch: self.epoch,
            now_us: 0,
            shards: self.shards,
            held_limit: usize::MAX,
            failures: Vec::new(),
        }
    }

    /// Runs one epoch and commits it. The output is added to `rows` and returned.
    pub fn epoch(&mut self, deltas: Vec<Delta>) -> Vec<Delta> {
        let mut context = self.context();
        let output = run(self.operator.as_mut(), deltas, &mut context);
        let mut writes = WriteSet::new();
        self.operator.drain_into(&mut writes);
        self.store.commit(&writes, false).unwrap();
        self.operator.committed();
        self.take(output.clone(), context);
        output
    }

    /// Runs an epoch and forgets it.
    pub fn failed_epoch(&mut self, deltas: Vec<Delta>) {
        let mut context = self.context();
        run(self.operator.as_mut(), deltas, &mut context);
        self.operator.discard();
    }

    /// A new operator on the same store.
    pub fn restart(&mut self) {
        self.operator = build(&self.node, &self.store);
    }

    /// All keys and values of a state table: 0 groups, 1 collections.
    pub fn stored(&mut self, table: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let table = self.operator.state_tables().swap_remove(table);
        table
            .scan(&crate::state::KeyRange::all())
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    fn take(&mut self, output: Vec<Delta>, context: EpochContext) {
        self.failures.extend(context.failures);
        for delta in &output {
            assert_eq!(delta.schema(), self.node.schema);
            // Retractions first: an update may put both in one delta in any order.
            for is_insertion in [false, true] {
                for row in 0..delta.num_rows() {
                    let values = scalars(delta.batch(), row);
                    let text = format!("{values:?}");
                    match delta.weight(row) {
                        1 if is_insertion => {
                            assert!(self.rows.insert(text, values).is_none(), "a row twice")
                        }
                        -1 if !is_insertion => {
                            assert!(
                                self.rows.remove(&text).is_some(),
                                "retracted but never shown: {text}"
                            );
                        }
                        1 | -1 => {}
                        weight => panic!("output row of weight {weight}"),
                    }
                }
            }
        }
    }
}

fn run(operator: &mut dyn Operator, deltas: Vec<Delta>, context: &mut EpochContext) -> Vec<Delta> {
    for delta in deltas {
        assert!(operator.push(0, delta, context).unwrap().is_empty());
    }
    operator.finish(context).unwrap()
}

fn build(node: &PlanNode, store: &Store) -> Box<dyn Operator> {
    let cache = CacheHandle::new(1 << 16);
    let table = |id| StateTable::new(TableId(id), Family::State, store.clone(), cache.clone());
    build_operator(9, node, vec![table(1), table(2)]).unwrap()
}

pub fn scalars(batch: &RecordBatch, row: usize) -> Vec<ScalarValue> {
    batch
        .columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, row).unwrap())
        .collect()
}

/// A batch of one column per field, from rows of scalars.
pub fn batch_of(schema: &SchemaRef, rows: &[Vec<ScalarValue>]) -> RecordBatch {
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| match rows {
            [] => new_empty_array(field.data_type()),
            rows => ScalarValue::iter_to_array(rows.iter().map(|row| row[index].clone())).unwrap(),
        });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// Rows with weights.
pub fn delta_of(schema: &SchemaRef, rows: &[(Vec<ScalarValue>, i64)]) -> Delta {
    let values: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    let weights = rows.iter().map(|row| row.1).collect::<Vec<_>>();
    let weights = weights
        .iter()
        .any(|&weight| weight != 1)
        .then(|| weights.into());
    Delta::new(batch_of(schema, &values), weights)
}

/// Columns of every kind; see `random_row` in the equivalence test.
pub fn input_schema() -> SchemaRef {
    let fields = [
        ("g", DataType::Int64),
        ("k", DataType::Float64),
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("w", DataType::Float64),
        ("s", DataType::Utf8),
        ("b", DataType::Boolean),
        ("d", DataType::Decimal128(10, 2)),
        ("t", DataType::Date32),
    ];
    Arc::new(Schema::new(
        fields
            .map(|(name, data_type)| Field::new(name, data_type, true))
            .to_vec(),
    ))
}
