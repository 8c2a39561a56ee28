//! Lowers window functions: one operator per partitioning and order.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, when,
};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_planner::create_window_expr_with_name;

use super::session::is_session;
use super::top_n::ordered;
use super::window_close::window_first;
use super::{Lowered, Lowering, bound, column_index, internal, node_of, renamed_columns};
use crate::describe::{describe, list};
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, FrameAggregate, PlanNode, PlanOp, Reach, WindowCall};
use crate::properties::{self, Lineage, unaliased};
use crate::rewrite::float_keys::with_equal_zeros;
use crate::rewrite::guard::is_fallible;

/// Functions with the same partitions and order, each with its place among all.
type Group<'a> = (&'a WindowFunctionParams, Vec<(usize, &'a WindowFunction)>);

impl Lowering<'_> {
    pub(super) fn over(&mut self, window: &Window) -> Result<Lowered> {
        let mut lowered = self.lower(&window.input)?;
        let from = window.input.schema();
        let width = from.fields().len();
        // Rows of which only the number is wanted have a constant column that DataFusion does not know.
        let unknown = lowered.node.schema.fields().len() - width;
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (place, expr) in window.window_expr.iter().enumerate() {
            let Expr::WindowFunction(function) = unaliased(expr) else {
                return Err(PlanError::Internal(format!(
                    "not a window function: {expr}"
                )));
            };
            let params = &function.params;
            let is_alike = |(of, _): &&mut Group<'_>| {
                of.partition_by == params.partition_by && of.order_by == params.order_by
            };
            match groups.iter_mut().find(is_alike) {
                Some((_, functions)) => functions.push((place, function)),
                None => groups.push((params, vec![(place, function)])),
            }
        }
        let mut places = Vec::new();
        for (params, functions) in &groups {
            places.extend(functions.iter().map(|(place, _)| *place));
            let fields: Vec<&Field> = functions
                .iter()
                .map(|(place, _)| window.schema.field(width + place).as_ref())
                .collect();
            lowered = match is_session(functions) {
                true => self.session(lowered, from, params, functions, &fields)?,
                false => one_over(lowered, from, params, functions, &fields)?,
            };
        }
        if places.is_sorted() && unknown == 0 {
            return Ok(lowered);
        }
        // Results of the first operator come first, wherever they were written.
        let results = (0..places.len()).map(|place| {
            let found = places.iter().position(|p| *p == place);
            width + unknown + found.unwrap_or(place)
        });
        picked(lowered, (0..width).chain(results), window.schema.as_arrow())
    }
}

/// The columns at these places, typed as in `schema`.
pub(super) fn picked(
    input: Lowered,
    places: impl Iterator<Item = usize>,
    schema: &Schema,
) -> Result<Lowered> {
    let columns: Vec<Expr> = places
        .map(|index| Expr::Column(Column::new_unqualified(name_of(index))))
        .collect();
    let of = numbered(&input.node.schema)?;
    super::projected(input, &columns, &of, schema)
}

/// A name by which the column at `index` can be told from others that are called alike.
pub(super) fn name_of(index: usize) -> String {
    format!("c{index}")
}

/// The columns as [`name_of`] calls them.
pub(super) fn numbered(schema: &Schema) -> Result<DFSchema> {
    let fields = schema.fields().iter().enumerate();
    let fields: Vec<Field> = fields
        .map(|(index, field)| field.as_ref().clone().with_name(name_of(index)))
        .collect();
    DFSchema::try_from(Schema::new(fields)).map_err(internal)
}

/// `functions` over `input`, whose first columns DataFusion knows as `from`.
fn one_over(
    input: Lowered,
    from: &DFSchema,
    params: &WindowFunctionParams,
    functions: &[(usize, &WindowFunction)],
    fields: &[&Field],
) -> Result<Lowered> {
    let Lowered { node, lineage } = input;
    let partition_by = params
        .partition_by
        .iter()
        .map(|key| bound(key, from, &node.schema))
        .collect::<Result<Vec<_>>>()?;
    let mut partition_by = partition_by;
    let places: Vec<Option<usize>> = params
        .partition_by
        .iter()
        .map(|key| column_index(unaliased(key), from))
        .collect();
    let window = window_first(&mut partition_by, &places, &node);
    let order_by = ordered(&params.order_by, from, &node.schema)?;
    let mut checked = Vec::new();
    let mut calls = Vec::new();
    let mut all: Vec<Field> = node
        .schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    for ((_, function), field) in functions.iter().zip(fields) {
        let call = call(
            function,
            from,
            &node.schema,
            field.data_type(),
            &mut checked,
        )?;
        all.push(Field::new(&call.display, field.data_type().clone(), true));
        calls.push(call);
    }
    let reach = calls.iter().map(|call| call.reach).reduce(Reach::and);
    // Where windows are over as a whole, their rows are final then.
    let time = timed_order(&order_by, &node).filter(|_| window.is_none());
    let due = time.filter(|_| matches!(reach, Some(Reach::Rows { .. })));
    let final_by = time.filter(|_| match reach {
        Some(Reach::Rows { after, .. }) => after == 0,
        // One that fails takes the whole partition out of the result.
        Some(Reach::Before) => functions.iter().all(|(_, function)| never_fails(function)),
        Some(Reach::Partition) | None => false,
    });
    let (mut properties, new_lineage) =
        properties::of_over(&node.properties, &lineage, &places, final_by, calls.len());
    properties.grows = match (window, due) {
        (Some(_), _) => Vec::new(),
        (None, Some(_)) => growing_keys(&lineage, &params.partition_by),
        (None, None) => growing(&lineage, &params.partition_by, &places),
    };
    let op = PlanOp::Over {
        partition_by,
        order_by,
        checked,
        calls,
        window,
        due,
    };
    Ok(Lowered {
        node: node_of(op, vec![node], Arc::new(Schema::new(all)), properties),
        lineage: new_lineage,
    })
}

/// The column of `input` that the order begins with, if no row goes, and the watermark of that column says before which place
/// none comes: ascending, and rows without a time at the end.
fn timed_order(order_by: &[(BoundExpr, SortOptions)], input: &PlanNode) -> Option<usize> {
    let (first, options) = order_by.first()?;
    let any = first.physical.as_ref() as &dyn std::any::Any;
    let column = any
        .downcast_ref::<datafusion::physical_expr::expressions::Column>()?
        .index();
    let is_time = matches!(
        first.data_type,
        DataType::Timestamp(TimeUnit::Microsecond, _)
    );
    let known = &input.properties;
    let is_bounded = known.append_only && known.watermark_columns.contains(&column);
    (is_time && is_bounded && !options.descending && !options.nulls_first).then_some(column)
}

/// Whether the function has a result for any rows.
fn never_fails(function: &WindowFunction) -> bool {
    matches!(
        function.fun.name(),
        "row_number"
            | "rank"
            | "dense_rank"
            | "count"
            | "min"
            | "max"
            | "first_value"
            | "last_value"
    )
}

fn call(
    function: &WindowFunction,
    from: &DFSchema,
    names: &Schema,
    data_type: &DataType,
    checked: &mut Vec<BoundExpr>,
) -> Result<WindowCall> {
    let mut function = function.clone();
    let params = &mut function.params;
    for arg in &mut params.args {
        if !is_fallible(arg, from) {
            continue;
        }
        if let Some(filter) = &params.filter {
            // Rows that the filter rejects must not fail.
            *arg = when(filter.as_ref().clone(), arg.clone())
                .end()
                .map_err(internal)?;
        }
        checked.push(bound(arg, from, names)?);
    }
    if let Some(filter) = params.filter.as_deref().filter(|f| is_fallible(f, from)) {
        checked.push(bound(filter, from, names)?);
    }
    let anew = frame_aggregate(&function, from)?;
    let reach = reach(&function);
    let display = display(&function, from, names)?;
    with_equal_zeros(&mut function.params.order_by, from).map_err(internal)?;
    let physical = create_window_expr_with_name(
        &Expr::from(function),
        display.clone(),
        from,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .map_err(internal)?;
    Ok(WindowCall {
        function: physical,
        anew,
        reach,
        data_type: data_type.clone(),
        display,
    })
}

/// Set if rows that leave a moving frame can not be taken out of the aggregate again: floats lose digits and never get
/// rid of NaN, and most functions have no way back at all.
fn frame_aggregate(function: &WindowFunction, from: &DFSchema) -> Result<Option<FrameAggregate>> {
    let WindowFunctionDefinition::AggregateUDF(aggregate) = &function.fun else {
        return Ok(None);
    };
    let params = &function.params;
    let is_exact = |arg: &Expr| matches!(arg.get_type(from), Ok(t) if !t.is_floating());
    let can_subtract = !params.distinct
        && match aggregate.name() {
            "count" => true,
            "sum" | "avg" => params.args.iter().all(is_exact),
            _ => false,
        };
    if is_unbounded_before(&params.window_frame) || can_subtract {
        return Ok(None);
    }
    let physical = |expr: &Expr| {
        let context = PhysicalPlanningContext::default();
        create_physical_expr(expr, from, &ExecutionProps::new(), &context).map_err(internal)
    };
    let args = params.args.iter().map(physical).collect::<Result<_>>()?;
    let ignores_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let function = AggregateExprBuilder::new(Arc::clone(aggregate), args)
        .schema(Arc::clone(from.inner()))
        .alias(aggregate.name())
        .with_ignore_nulls(ignores_nulls)
        .with_distinct(params.distinct)
        .build()
        .map_err(internal)?;
    Ok(Some(FrameAggregate {
        function: Arc::new(function),
        filter: params.filter.as_deref().map(physical).transpose()?,
    }))
}

fn reach(function: &WindowFunction) -> Reach {
    let params = &function.params;
    let is_respecting_nulls = params.null_treatment != Some(NullTreatment::IgnoreNulls);
    let of_frame = || reach_of_frame(&params.window_frame);
    match (&function.fun, function.fun.name()) {
        (WindowFunctionDefinition::AggregateUDF(_), _) => of_frame(),
        (_, "row_number" | "rank" | "dense_rank") => Reach::Before,
        (_, name @ ("lag" | "lead")) if is_respecting_nulls => {
            match offset(params).map(|by| if name == "lag" { by } else { -by }) {
                Some(by) if by >= 0 => Reach::Rows {
                    before: by.unsigned_abs(),
                    after: 0,
                },
                Some(by) => Reach::Rows {
                    before: 0,
                    after: by.unsigned_abs(),
                },
                None => Reach::Partition,
            }
        }
        (_, "first_value" | "last_value" | "nth_value") => of_frame(),
        _ => Reach::Partition,
    }
}

/// How far back `lag` looks.
fn offset(params: &WindowFunctionParams) -> Option<i64> {
    match params.args.get(1) {
        None => Some(1),
        Some(Expr::Literal(ScalarValue::Int64(by), _)) => *by,
        Some(Expr::Literal(ScalarValue::Int32(by), _)) => by.map(i64::from),
        Some(_) => None,
    }
}

fn reach_of_frame(frame: &WindowFrame) -> Reach {
    let (start, end) = (&frame.start_bound, &frame.end_bound);
    if frame.units == WindowFrameUnits::Rows
        && let (Some(start), Some(end)) = (rows(start), rows(end))
    {
        return Reach::Rows {
            before: (-start).max(0).unsigned_abs(),
            after: end.max(0).unsigned_abs(),
        };
    }
    match end {
        // Peers count as before.
        WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_) => Reach::Before,
        WindowFrameBound::Following(_) => Reach::Partition,
    }
}

/// The place of a bound, seen from the current row.
fn rows(bound: &WindowFrameBound) -> Option<i64> {
    let number = |value: &ScalarValue| match value {
        ScalarValue::UInt64(number) => number.and_then(|number| i64::try_from(number).ok()),
        ScalarValue::Int64(number) => *number,
        ScalarValue::Int32(number) => number.map(i64::from),
        _ => None,
    };
    match bound {
        WindowFrameBound::CurrentRow => Some(0),
        WindowFrameBound::Preceding(value) => number(value).map(|number| -number),
        WindowFrameBound::Following(value) => number(value),
    }
}

fn is_unbounded_before(frame: &WindowFrame) -> bool {
    matches!(&frame.start_bound, WindowFrameBound::Preceding(value) if value.is_null())
}

/// `sum(x) ROWS BETWEEN 1 PRECEDING AND CURRENT ROW`.
fn display(function: &WindowFunction, from: &DFSchema, names: &Schema) -> Result<String> {
    let params = &function.params;
    let args = params
        .args
        .iter()
        .map(|arg| renamed_columns(arg.clone(), from, names))
        .collect::<Result<Vec<_>>>()?;
    let is_star = function.fun.name() == "count" && matches!(args.as_slice(), [Expr::Literal(..)]);
    let args = if is_star {
        "*".to_string()
    } else {
        list(&args)
    };
    let mut text = format!("{}({args})", function.fun.name());
    if let Some(filter) = &params.filter {
        let filter = renamed_columns(filter.as_ref().clone(), from, names)?;
        text += &format!(" FILTER (WHERE {})", describe(&filter));
    }
    let frame = &params.window_frame;
    let is_default = is_unbounded_before(frame)
        && match (&frame.end_bound, params.order_by.is_empty()) {
            (WindowFrameBound::CurrentRow, false) => frame.units == WindowFrameUnits::Range,
            (WindowFrameBound::Following(value), true) => value.is_null(),
            _ => false,
        };
    let has_frame = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => true,
        WindowFunctionDefinition::WindowUDF(udf) => {
            matches!(udf.name(), "first_value" | "last_value" | "nth_value")
        }
    };
    if has_frame && !is_default {
        text += &format!(" {frame}");
    }
    Ok(text)
}

/// A sentence if there are ever more partitions, of each of which the last rows are kept.
fn growing_keys(lineage: &Lineage, partition_by: &[Expr]) -> Vec<String> {
    if lineage.unbounded.is_empty() || partition_by.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the last rows of every {} of source {} are kept, and each new one adds to them; partition by a window (TUMBLE, \
         HOP) too to bound it",
        list(partition_by),
        lineage.unbounded.join(", ")
    )]
}

/// Sentences about state that nothing bounds.
fn growing(lineage: &Lineage, partition_by: &[Expr], places: &[Option<usize>]) -> Vec<String> {
    let is_windowed = places
        .iter()
        .flatten()
        .any(|c| lineage.windowed.get(*c) == Some(&true));
    if lineage.unbounded.is_empty() {
        return Vec::new();
    }
    let by = match partition_by {
        [] => "OVER without PARTITION BY".to_string(),
        keys => format!("OVER (PARTITION BY {})", list(keys)),
    };
    let of = lineage.unbounded.join(", ");
    vec![match is_windowed {
        true => format!(
            "{by} keeps every window of source {of}, since no watermark says when one is over; declare WATERMARK FOR its \
             time to bound it"
        ),
        false => format!(
            "{by} keeps every row of source {of}; partition by a window (TUMBLE, HOP) too to bound it, or order by a time with \
             a WATERMARK and look at so many rows only (lag, ROWS BETWEEN n PRECEDING AND CURRENT ROW)"
        ),
    }]
}
