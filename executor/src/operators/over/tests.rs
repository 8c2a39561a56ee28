//! Window functions against evaluating every partition as a whole.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::functions_aggregate::expr_fn::{count, max, sum};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::{
    cume_dist, dense_rank, first_value, lag, lead, nth_value, ntile, percent_rank, rank, row_number,
};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, ExprSchemable, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_planner::create_window_expr;
use datafusion::prelude::{col, lit};
use rivermark_planner::plan::{FrameAggregate, PlanOp, Reach, WindowCall};

use super::results::results;
use crate::operators::property_bench::{
    Bag, Bench, Row, Sum, batch_of, by_order, check, column, options, schema, sum_of,
};

fn rows_frame(before: u64, after: u64) -> WindowFrame {
    WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(before))),
        WindowFrameBound::Following(ScalarValue::UInt64(Some(after))),
    )
}

fn call(expr: Expr, reach: Reach) -> WindowCall {
    let schema = DFSchema::try_from(schema().as_ref().clone()).unwrap();
    let order = vec![col("o").sort(false, true)];
    // The builder forgets a frame that was given before the order.
    let frame = match &expr {
        Expr::WindowFunction(function) => function.params.window_frame.clone(),
        other => panic!("{other}"),
    };
    let mut expr = expr.partition_by(vec![col("g")]).order_by(order);
    if frame != WindowFrame::new(None) {
        expr = expr.window_frame(frame);
    }
    let expr = expr.build().unwrap();
    let function = create_window_expr(
        &expr,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .unwrap();
    WindowCall {
        data_type: expr.get_type(&schema).unwrap(),
        display: expr.to_string(),
        function,
        anew: anew(&expr),
        reach,
    }
}

/// As the planner decides it for the functions below.
fn anew(expr: &Expr) -> Option<FrameAggregate> {
    let Expr::WindowFunction(function) = expr else {
        panic!("{expr}");
    };
    let WindowFunctionDefinition::AggregateUDF(aggregate) = &function.fun else {
        return None;
    };
    let [Expr::Column(argument)] = function.params.args.as_slice() else {
        return None;
    };
    if function.params.window_frame.start_bound.is_unbounded() || aggregate.name() == "count" {
        return None;
    }
    let args = vec![column(&argument.name).physical];
    let function = AggregateExprBuilder::new(aggregate.clone(), args)
        .schema(schema())
        .alias("x")
        .build()
        .unwrap();
    Some(FrameAggregate {
        function: Arc::new(function),
        filter: None,
    })
}

fn framed(expr: Expr, frame: WindowFrame) -> Expr {
    expr.window_frame(frame).build().unwrap()
}

fn over(expr: Expr) -> Expr {
    match expr {
        Expr::AggregateFunction(aggregate) => {
            Expr::from(WindowFunction::new(aggregate.func, aggregate.params.args))
        }
        other => other,
    }
}

fn bench(calls: &[WindowCall]) -> Bench {
    let mut fields: Vec<Field> = schema()
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    let results = calls.iter().enumerate();
    fields
        .extend(results.map(|(i, call)| Field::new(format!("r{i}"), call.data_type.clone(), true)));
    let op = PlanOp::Over {
        partition_by: vec![column("g")],
        order_by: vec![(column("o"), options(true, true))],
        checked: Vec::new(),
        calls: calls.to_vec(),
        window: None,
        due: None,
    };
    Bench::new(op, 1, fields, false)
}

fn reference(calls: &[WindowCall], bag: &Bag) -> Sum {
    let mut shown = Vec::new();
    for group in bag.groups() {
        let rows = group.sorted(by_order(options(true, true)));
        let columns = results(calls, &batch_of(&rows)).unwrap();
        for (index, row) in rows.into_iter().enumerate() {
            let values = columns
                .iter()
                .map(|column| ScalarValue::try_from_array(column, index).unwrap());
            shown.push(row.into_iter().chain(values).collect::<Row>());
        }
    }
    sum_of(shown)
}

fn check_calls(seed: u64, calls: &[WindowCall]) {
    let mut bench = bench(calls);
    check(seed, &mut bench, false, |bags| reference(calls, &bags[0]));
}

#[test]
fn functions_of_near_rows_equal_the_batch() {
    let rows = |before, after| Reach::Rows { before, after };
    let all = [
        call(lag(col("o"), Some(1), None), rows(1, 0)),
        call(lag(col("s"), Some(3), None), rows(3, 0)),
        call(lead(col("o"), Some(2), None), rows(0, 2)),
        call(framed(over(count(col("f"))), rows_frame(2, 1)), rows(2, 1)),
        call(framed(over(sum(col("f"))), rows_frame(1, 0)), rows(1, 0)),
        call(framed(over(max(col("o"))), rows_frame(0, 2)), rows(0, 2)),
        call(framed(first_value(col("o")), rows_frame(1, 1)), rows(1, 1)),
        call(framed(nth_value(col("s"), 2), rows_frame(3, 3)), rows(3, 3)),
    ];
    for seed in 0..5 {
        for (index, call) in all.iter().enumerate() {
            check_calls(seed * 10 + index as u64, std::slice::from_ref(call));
        }
        check_calls(seed, &all[..4]);
    }
}

#[test]
fn functions_of_earlier_rows_equal_the_batch() {
    let before = Reach::Before;
    let running = Expr::from(WindowFunction::new(sum_udaf(), vec![col("o")]));
    let calls = [
        call(row_number(), before),
        call(rank(), before),
        call(dense_rank(), before),
        call(running, before),
    ];
    for seed in 0..6 {
        check_calls(seed, &calls);
    }
}

#[test]
fn functions_of_partitions_equal_the_batch() {
    let all = Reach::Partition;
    let calls = [
        call(percent_rank(), all),
        call(cume_dist(), all),
        call(ntile(lit(3_i64)), all),
        call(row_number(), Reach::Before),
    ];
    for seed in 0..6 {
        check_calls(seed, &calls);
    }
}

/// Far from a change nothing is read or emitted.
#[test]
fn a_change_stays_near_its_place() {
    let calls = [call(
        lag(col("o"), Some(1), None),
        Reach::Rows {
            before: 1,
            after: 0,
        },
    )];
    let mut bench = bench(&calls);
    let row = |order: i64| -> Row {
        vec![
            ScalarValue::Int64(None),
            ScalarValue::from(order * 2),
            ScalarValue::Float64(None),
            ScalarValue::from(""),
        ]
    };
    let rows: Vec<Row> = (0..1000).map(row).collect();
    bench.epoch(vec![(0, crate::delta::Delta::insertions(batch_of(&rows)))]);
    assert_eq!(bench.emitted, 1000);
    let mut between = row(500);
    between[1] = ScalarValue::from(1001_i64);
    bench.epoch(vec![(
        0,
        crate::delta::Delta::insertions(batch_of(&[between])),
    )]);
    assert_eq!(
        bench.emitted, 3,
        "itself, and the next row before and after"
    );
}
