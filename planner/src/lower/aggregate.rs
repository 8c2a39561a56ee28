//! Lowers grouping: each aggregate call gets the strategy by which it is kept up to date.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan};

use super::window_close::closing_column;
use super::{Lowered, Lowering, bound, column_index, internal, node_of, panes, renamed_columns};
use crate::describe::{describe, list};
use crate::error::{PlanError, Result};
use crate::functions;
use crate::plan::{AggregateCall, AggregateStrategy, BoundExpr, PlanOp};
use crate::properties::{self, Lineage, unaliased};

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Lowered> {
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(aggregate, sets);
        }
        let schema = Arc::new(aggregate.schema.as_arrow().clone());
        self.group(
            &aggregate.input,
            &aggregate.group_expr,
            &aggregate.aggr_expr,
            schema,
        )
    }

    /// Groups `input` by `keys`; without `calls` it is DISTINCT.
    pub(super) fn group(
        &mut self,
        input: &LogicalPlan,
        keys: &[Expr],
        calls: &[Expr],
        schema: SchemaRef,
    ) -> Result<Lowered> {
        let lowered = self.lower(input)?;
        let from = input.schema();
        let names = lowered.node.schema.as_ref();
        let group_by = keys
            .iter()
            .map(|key| bound(key, from, names))
            .collect::<Result<Vec<_>>>()?;
        let calls = calls_of(calls, from, &lowered)?;
        let (known, lineage) = (&lowered.node.properties, &lowered.lineage);
        let projected =
            properties::of_project(keys, known, lineage, &|expr| column_index(expr, from));
        let marks = projected.0.watermark_columns.iter().copied();
        let marks = marks.filter(|key| properties::is_instant(&group_by[*key].data_type));
        let window = closing_column(&lowered.node, &group_by, marks);
        let grows = match window {
            Some(_) => Vec::new(),
            None => growing(keys, &calls, &projected.1),
        };
        let marks = projected.0.watermark_columns.clone();
        let (mut properties, lineage) =
            properties::of_aggregate(projected, keys.len(), calls.len());
        properties.grows = grows;
        let schema = renamed(&schema, &group_by, &calls);
        if self.emits_on_window_close
            && window.is_some()
            && let Some(paned) = panes::paned(&lowered.node, &group_by, &calls, &marks)
        {
            properties.append_only = true;
            return Ok(Lowered {
                node: node_of(paned.op, vec![paned.input], schema, properties),
                lineage,
            });
        }
        let op = PlanOp::Aggregate {
            group_by,
            calls,
            permanent: Vec::new(),
            window,
        };
        Ok(Lowered {
            node: node_of(op, vec![lowered.node], schema, properties),
            lineage,
        })
    }
}

/// The aggregates over the rows of `input`, whose columns DataFusion knows as `from`.
pub(super) fn calls_of(
    calls: &[Expr],
    from: &DFSchema,
    input: &Lowered,
) -> Result<Vec<AggregateCall>> {
    let (names, known) = (input.node.schema.as_ref(), &input.node.properties);
    calls
        .iter()
        .map(|expr| call(expr, from, names, known.append_only))
        .collect()
}

/// The output's columns, named as EXPLAIN shows what they hold.
pub(super) fn renamed(
    schema: &Schema,
    group_by: &[BoundExpr],
    calls: &[AggregateCall],
) -> SchemaRef {
    let keys = group_by.iter().map(|key| describe(&key.logical));
    let names = keys.chain(calls.iter().map(|call| call.display.clone()));
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(names)
        .map(|(f, name)| f.as_ref().clone().with_name(name))
        .collect();
    Arc::new(Schema::new(fields))
}

fn call(
    expr: &Expr,
    from: &DFSchema,
    names: &Schema,
    is_append_only: bool,
) -> Result<AggregateCall> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = unaliased(expr) else {
        return Err(PlanError::Internal(format!("not an aggregate: {expr}")));
    };
    let name = func.name().to_lowercase();
    let strategy = functions::strategy(
        &name,
        params.distinct,
        !params.order_by.is_empty(),
        is_append_only,
    )
    .ok_or_else(|| PlanError::Unsupported {
        feature: format!("the aggregate {name}() in a materialized view"),
        hint: "it is not known how to keep it up to date; use it in the query that reads the view"
            .to_string(),
    })?;
    let order_by = params
        .order_by
        .iter()
        .map(|sort| {
            let options = SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            };
            Ok((bound(&sort.expr, from, names)?, options))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(AggregateCall {
        name,
        function: Arc::clone(func),
        args: params
            .args
            .iter()
            .map(|arg| bound(arg, from, names))
            .collect::<Result<Vec<_>>>()?,
        distinct: params.distinct,
        filter: params
            .filter
            .as_ref()
            .map(|filter| bound(filter, from, names))
            .transpose()?,
        order_by,
        ignore_nulls: params.null_treatment == Some(NullTreatment::IgnoreNulls),
        strategy,
        data_type: unaliased(expr).get_type(from).map_err(internal)?,
        display: describe(&renamed_columns(expr.clone(), from, names)?),
    })
}

/// Sentences about state that no window bounds.
pub(super) fn growing(keys: &[Expr], calls: &[AggregateCall], lineage: &Lineage) -> Vec<String> {
    if lineage.unbounded.is_empty() {
        return Vec::new();
    }
    let of = lineage.unbounded.join(", ");
    if lineage.windowed.iter().any(|is_windowed| *is_windowed) {
        return vec![format!(
            "the state of GROUP BY {} keeps every window of source {of}, since no watermark says when one is over; \
             declare WATERMARK FOR its time to bound it",
            list(keys)
        )];
    }
    let mut sentences = Vec::new();
    if !keys.is_empty() {
        sentences.push(format!(
            "the state of GROUP BY {} grows with every new key of source {of} and is never dropped; \
             group by a window (TUMBLE, HOP) too to bound it",
            list(keys)
        ));
    }
    for call in calls
        .iter()
        .filter(|call| call.strategy == AggregateStrategy::Multiset)
    {
        sentences.push(format!(
            "{} keeps every distinct value of source {of} that it has seen; group by a window (TUMBLE, HOP) to bound it",
            call.display
        ));
    }
    sentences
}
