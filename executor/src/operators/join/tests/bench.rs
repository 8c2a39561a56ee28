//! A join operator on a temporary store, and what its output adds up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Operator as Binary;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{BoundExpr, JoinKey, JoinKind, PlanNode, PlanOp, Properties};
use tempfile::TempDir;

use crate::delta::Delta;
use crate::evaluate::row_as_json;
use crate::operator::{EpochContext, Failure, Operator};
use crate::operators::build_operator;
use crate::state::{
    CacheHandle, Family, KeyRange, MemoryPlan, StateTable, Store, StoreOptions, TableId, WriteSet,
};

/// A row of either input.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub k: Option<i64>,
    pub f: Option<f64>,
    pub v: Option<i64>,
    pub s: Option<&'static str>,
}

impl Row {
    pub fn of(k: Option<i64>, v: i64) -> Row {
        Row {
            k,
            f: Some(1.0),
            v: Some(v),
            s: None,
        }
    }

    /// What tells it apart from other rows: −0.0 is another row than 0.0.
    pub fn text(&self) -> String {
        let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_string());
        format!(
            "{} {} {} {}",
            text(self.k.map(|k| k.to_string())),
            text(self.f.map(|f| format!("{f:?}"))),
            text(self.v.map(|v| v.to_string())),
            text(self.s.map(|s| format!("{s:?}"))),
        )
    }
}

/// What must hold of a pair besides equal keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    None,
    /// `left.v < right.v`
    Less,
    /// `100 / (left.v - right.v) > 20`: fails where both are equal.
    Quotient,
}

/// A join as tests write it: keys are the columns 0 (`k`) and 1 (`f`), and whether NULLs match.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub kind: JoinKind,
    pub keys: &'static [(usize, bool)],
    pub condition: Condition,
}

const WIDTH: usize = 4;

fn schema(prefix: &str) -> SchemaRef {
    let fields = [
        ("k", DataType::Int64),
        ("f", DataType::Float64),
        ("v", DataType::Int64),
        ("s", DataType::Utf8),
    ];
    let fields = fields.map(|(name, t)| Field::new(format!("{prefix}{name}"), t, true));
    Arc::new(Schema::new(fields.to_vec()))
}

fn column(index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new("c", index))
}

fn bound(physical: Arc<dyn PhysicalExpr>, data_type: DataType, is_fallible: bool) -> BoundExpr {
    BoundExpr {
        logical: datafusion::prelude::lit(1),
        physical,
        data_type,
        nullable: true,
        is_fallible,
    }
}

fn residual(condition: Condition, schema: &Schema) -> Option<BoundExpr> {
    let (left, right) = (column(2), column(WIDTH + 2));
    let predicate = match condition {
        Condition::None => return None,
        Condition::Less => binary(left, Binary::Lt, right, schema).unwrap(),
        Condition::Quotient => {
            let difference = binary(left, Binary::Minus, right, schema).unwrap();
            let quotient = binary(lit(100i64), Binary::Divide, difference, schema).unwrap();
            binary(quotient, Binary::Gt, lit(20i64), schema).unwrap()
        }
    };
    let is_fallible = condition == Condition::Quotient;
    Some(bound(predicate, DataType::Boolean, is_fallible))
}

fn node(case: Case) -> PlanNode {
    let both: Vec<Field> = [schema("l"), schema("r")]
        .iter()
        .flat_map(|s| {
            s.fields()
                .iter()
                .map(|f| f.as_ref().clone())
                .collect::<Vec<_>>()
        })
        .collect();
    let both = Schema::new(both);
    let keys = case
        .keys
        .iter()
        .map(|(index, matches_null)| {
            let data_type = schema("").field(*index).data_type().clone();
            let key = bound(column(*index), data_type, false);
            JoinKey {
                left: key.clone(),
                right: key,
                matches_null: *matches_null,
            }
        })
        .collect();
    let residual = residual(case.condition, &both);
    let input = |schema: SchemaRef| PlanNode {
        op: PlanOp::UnionAll,
        inputs: Vec::new(),
        schema,
        properties: Properties::default(),
    };
    let mut fields = both.fields()[..if case.kind.is_pairing() {
        2 * WIDTH
    } else {
        WIDTH
    }]
        .to_vec();
    if case.kind == JoinKind::Mark {
        fields.push(Arc::new(Field::new("mark", DataType::Boolean, false)));
    }
    PlanNode {
        op: PlanOp::Join {
            kind: case.kind,
            keys,
            residual,
            window: None,
            is_as_of_now: false,
        },
        inputs: vec![input(schema("l")), input(schema("r"))],
        schema: Arc::new(Schema::new(fields)),
        properties: Properties::default(),
    }
}

fn delta(side: usize, rows: &[(Row, i64)]) -> Delta {
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0.k))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.0.f))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0.v))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.0.s))),
    ];
    let batch = RecordBatch::try_new(schema(["l", "r"][side]), columns).unwrap();
    let weights: Vec<i64> = rows.iter().map(|r| r.1).collect();
    let is_plain = weights.iter().all(|weight| *weight == 1);
    Delta::new(batch, (!is_plain).then(|| weights.into()))
}

const MEMORY: MemoryPlan = MemoryPlan {
    block_cache_bytes: 8 << 20,
    write_buffer_bytes: 16 << 20,
};

/// Rows pushed at one input.
pub type Piece = (usize, Vec<(Row, i64)>);

/// An operator, its store, and the sum of its output so far.
pub struct Bench {
    node: PlanNode,
    store: Store,
    _directory: TempDir,
    operator: Box<dyn Operator>,
    epoch: u64,
    /// Output rows by their text, with weights.
    pub rows: BTreeMap<String, i64>,
    /// Failures by what failed.
    pub failures: BTreeMap<(Vec<u8>, String), i64>,
}

impl Bench {
    pub fn new(case: Case) -> Self {
        let node = node(case);
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::new(directory.path(), MEMORY)).unwrap();
        let operator = build(&node, &store);
        Bench {
            node,
            store,
            _directory: directory,
            operator,
            epoch: 0,
            rows: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    fn run(&mut self, pieces: &[Piece]) -> (Vec<Delta>, Vec<Failure>) {
        self.epoch += 1;
        let mut context = EpochContext {
            epoch: self.epoch,
            now_us: 0,
            shards: 1,
            held_limit: usize::MAX,
            failures: Vec::new(),
        };
        for (side, rows) in pieces {
            let output = self.operator.push(*side, delta(*side, rows), &mut context);
            assert!(output.unwrap().is_empty());
        }
        let mut output = Vec::new();
        let mut emit = |delta: Delta, _: &mut EpochContext| {
            output.push(delta);
            Ok(())
        };
        self.operator.finish_into(&mut context, &mut emit).unwrap();
        (output, context.failures)
    }

    /// Runs one epoch and commits it. Gives the changes of the output: each of its rows is in there once.
    pub fn epoch(&mut self, pieces: &[Piece]) -> BTreeMap<String, i64> {
        let (output, failures) = self.run(pieces);
        let mut writes = WriteSet::new();
        self.operator.drain_into(&mut writes);
        self.store.commit(&writes, false).unwrap();
        self.operator.committed();
        for failure in failures {
            let key = (failure.key, failure.payload);
            *self.failures.entry(key).or_default() += failure.weight;
        }
        self.failures.retain(|_, weight| *weight != 0);
        let mut changes: BTreeMap<String, i64> = BTreeMap::new();
        for delta in &output {
            assert_eq!(delta.schema(), self.node.schema);
            for row in 0..delta.num_rows() {
                let text = row_as_json(self.node.schema.fields(), delta.columns(), row).unwrap();
                assert_ne!(delta.weight(row), 0);
                let was_there = changes.insert(text.clone(), delta.weight(row));
                assert!(was_there.is_none(), "the output has {text} twice");
            }
        }
        for (text, weight) in &changes {
            *self.rows.entry(text.clone()).or_default() += weight;
        }
        self.rows.retain(|_, weight| *weight != 0);
        changes
    }

    /// Runs an epoch and forgets it.
    pub fn failed_epoch(&mut self, pieces: &[Piece]) {
        self.run(pieces);
        self.operator.discard();
    }

    /// A new operator on the same store.
    pub fn restart(&mut self) {
        self.operator = build(&self.node, &self.store);
    }

    /// How many keys each state table has.
    pub fn stored(&mut self) -> Vec<usize> {
        let tables = self.operator.state_tables();
        let count = |table: &mut StateTable| table.scan(&KeyRange::all()).unwrap().count();
        tables.into_iter().map(count).collect()
    }

    /// A row of the output, as `rows` has it.
    pub fn text(&self, left: Option<&Row>, right: Option<&Row>, mark: Option<bool>) -> String {
        let of = |side: usize, row: Option<&Row>| match row {
            Some(row) => delta(side, &[(row.clone(), 1)]).columns().to_vec(),
            None => schema("")
                .fields()
                .iter()
                .map(|f| arrow::array::new_null_array(f.data_type(), 1))
                .collect(),
        };
        let mut columns = of(0, left);
        let PlanOp::Join { kind, .. } = &self.node.op else {
            unreachable!("the bench runs joins");
        };
        if kind.is_pairing() {
            columns.extend(of(1, right));
        }
        if let Some(mark) = mark {
            columns.push(Arc::new(arrow::array::BooleanArray::from(vec![mark])));
        }
        row_as_json(self.node.schema.fields(), &columns, 0).unwrap()
    }
}

fn build(node: &PlanNode, store: &Store) -> Box<dyn Operator> {
    let cache = CacheHandle::new(1 << 16);
    let table = |id| StateTable::new(TableId(id), Family::State, store.clone(), cache.clone());
    build_operator(9, node, vec![table(1), table(2), table(3)]).unwrap()
}
