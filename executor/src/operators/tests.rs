//! The stateless operators, made from plan nodes as the dataflow makes them.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::logical_expr::Operator as Binary;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{BoundExpr, GroupingSet, PlanNode, PlanOp, Properties};

use super::build_operator;
use crate::delta::Delta;
use crate::operator::{EpochContext, Failure, Operator};

fn schema(names: &[&str]) -> SchemaRef {
    let fields = names
        .iter()
        .map(|name| Field::new(*name, DataType::Int64, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn bound(physical: Arc<dyn PhysicalExpr>, data_type: DataType) -> BoundExpr {
    let logical = datafusion::prelude::lit(1);
    BoundExpr {
        logical,
        physical,
        data_type,
        nullable: true,
        is_fallible: true,
    }
}

/// `100 / a`.
fn quotient() -> Arc<dyn PhysicalExpr> {
    let input = schema(&["a"]);
    binary(
        lit(100i64),
        Binary::Divide,
        col("a", &input).unwrap(),
        &input,
    )
    .unwrap()
}

fn operator(op: PlanOp, names: &[&str]) -> Box<dyn Operator> {
    let node = PlanNode {
        op,
        inputs: Vec::new(),
        schema: schema(names),
        properties: Properties::default(),
    };
    build_operator(3, &node, Vec::new()).unwrap()
}

fn context(shards: usize) -> EpochContext {
    EpochContext {
        epoch: 1,
        now_us: 0,
        shards,
        held_limit: usize::MAX,
        failures: Vec::new(),
    }
}

fn input(rows: &[(Option<i64>, i64)]) -> Delta {
    let values = Int64Array::from_iter(rows.iter().map(|row| row.0));
    let batch = RecordBatch::try_new(schema(&["a"]), vec![Arc::new(values)]).unwrap();
    Delta::new(
        batch,
        Some(rows.iter().map(|row| row.1).collect::<Vec<_>>().into()),
    )
}

/// The rows of the first column with their weights, and the failures.
fn push(
    operator: &mut dyn Operator,
    rows: &[(Option<i64>, i64)],
    shards: usize,
) -> (Vec<(Option<i64>, i64)>, Vec<Failure>) {
    let mut context = context(shards);
    let output = operator.push(0, input(rows), &mut context).unwrap();
    let rows = output.iter().flat_map(|delta| {
        let values = delta.columns()[0].as_primitive::<Int64Type>().clone();
        (0..delta.num_rows())
            .map(move |row| (values.iter().nth(row).flatten(), delta.weight(row)))
            .collect::<Vec<_>>()
    });
    (rows.collect(), context.failures)
}

#[test]
fn filter_keeps_what_is_true() {
    let predicate = binary(quotient(), Binary::Gt, lit(10i64), &schema(&["a"])).unwrap();
    let mut filter = operator(
        PlanOp::Filter {
            predicate: bound(predicate, DataType::Boolean),
        },
        &["a"],
    );
    let rows = [
        (Some(1), 2),
        (Some(50), 1),
        (None, 1),
        (Some(0), -3),
        (Some(9), -1),
    ];
    let (kept, failures) = push(filter.as_mut(), &rows, 1);
    assert_eq!(kept, [(Some(1), 2), (Some(9), -1)]);
    assert_eq!(
        (
            failures.len(),
            failures[0].weight,
            failures[0].payload.as_str()
        ),
        (1, -3, r#"{"a":0}"#)
    );
    assert!(
        filter
            .push(0, input(&[(Some(50), 1)]), &mut context(1))
            .unwrap()
            .is_empty()
    );
    // Nothing but NULL is left out.
    let (kept, _) = push(filter.as_mut(), &[(None, 1), (Some(1), 1)], 1);
    assert_eq!(kept, [(Some(1), 1)]);
}

#[test]
fn a_retraction_takes_its_failure_back() {
    let mut project = operator(
        PlanOp::Project {
            exprs: vec![bound(quotient(), DataType::Int64)],
        },
        &["q"],
    );
    let (rows, mut failures) = push(project.as_mut(), &[(Some(0), 2), (Some(20), 3)], 1);
    assert_eq!(rows, [(Some(5), 3)]);
    failures.extend(push(project.as_mut(), &[(Some(0), -2)], 1).1);
    assert_eq!(failures[0].key, failures[1].key);
    assert_eq!(failures[0].weight + failures[1].weight, 0);
}

#[test]
fn threads_change_nothing() {
    let mut project = operator(
        PlanOp::Project {
            exprs: vec![bound(quotient(), DataType::Int64)],
        },
        &["q"],
    );
    let rows: Vec<(Option<i64>, i64)> = (0..500).map(|i| (Some(i % 7), i - 100)).collect();
    let expected = push(project.as_mut(), &rows, 1);
    assert_eq!(expected.1.len(), 72);
    for shards in [2, 3, 8] {
        assert_eq!(push(project.as_mut(), &rows, shards), expected);
    }
}

#[test]
fn union_and_values() {
    let mut union = operator(PlanOp::UnionAll, &["renamed"]);
    let output = union
        .push(1, input(&[(Some(4), -1)]), &mut context(1))
        .unwrap();
    assert_eq!(
        (output[0].schema(), output[0].weight(0)),
        (schema(&["renamed"]), -1)
    );
    let rows = input(&[(Some(4), 1), (None, 1)]).batch().clone();
    let mut values = operator(PlanOp::Values { rows }, &["v"]);
    let output = values.initialize(&mut context(1)).unwrap();
    assert_eq!(
        (output[0].num_rows(), output[0].schema()),
        (2, schema(&["v"]))
    );
    assert!(values.finish(&mut context(1)).unwrap().is_empty());
}

#[test]
fn grouping_sets_repeat_rows() {
    let set = |is_left_out, id| GroupingSet {
        left_out: vec![is_left_out],
        id,
    };
    let mut sets = operator(
        PlanOp::GroupingSets {
            keys: vec![bound(quotient(), DataType::Int64)],
            sets: vec![set(false, 7), set(true, 8)],
        },
        &["a", "key", "set"],
    );
    let mut context = context(1);
    let rows = input(&[(Some(20), 2), (Some(0), -1)]);
    let output = sets.push(0, rows, &mut context).unwrap();
    let rows: Vec<(Vec<Option<i64>>, i64)> = output
        .iter()
        .map(|delta| {
            assert_eq!(delta.num_rows(), 1);
            let columns = delta.columns().iter();
            let values = columns.map(|c| c.as_primitive::<Int64Type>().iter().next().flatten());
            (values.collect(), delta.weight(0))
        })
        .collect();
    let expected = [
        (vec![Some(20), Some(5), Some(7)], 2),
        (vec![Some(20), None, Some(8)], 2),
    ];
    assert_eq!(rows, expected);
    assert_eq!(
        (context.failures.len(), context.failures[0].weight),
        (1, -1)
    );
}
