//! `EMIT ON WINDOW CLOSE`: the view's rows are held back until the watermark says that they are final.

use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;

use super::{Lowered, node_of};
use crate::catalog::{Catalog, ObjectId, ObjectKind};
use crate::error::{PlanError, Result};
use crate::functions::CumulateEnds;
use crate::plan::{BoundExpr, PlanNode, PlanOp, Properties};
use crate::properties::unaliased;

/// The operator that holds the rows of `input`, the whole plan of a view, back.
pub(super) fn on_window_close(input: Lowered, catalog: &Catalog) -> Result<Lowered> {
    let Lowered { node, lineage } = input;
    let marks = &node.properties.watermark_columns;
    // The windows of CUMULATE start together and close one by one.
    let column = marks
        .iter()
        .find(|column| is_cumulated(&node, **column))
        .or_else(|| marks.first());
    let Some(&column) = column else {
        return Err(no_watermark(&node, catalog));
    };
    let properties = Properties {
        append_only: true,
        stream_key: node.properties.stream_key.clone(),
        watermark_columns: marks.clone(),
        grows: Vec::new(),
    };
    let schema = node.schema.clone();
    let op = PlanOp::WindowClose { column };
    Ok(Lowered {
        node: node_of(op, vec![node], schema, properties),
        lineage,
    })
}

/// Of group columns with a watermark, `marks`, the one that is over first.
pub(super) fn closing_column(
    input: &PlanNode,
    group_by: &[BoundExpr],
    marks: impl Iterator<Item = usize>,
) -> Option<usize> {
    let marks: Vec<usize> = marks.collect();
    let cumulated = marks
        .iter()
        .find(|key| is_cumulated_expr(&group_by[**key], Some(input)));
    cumulated.or_else(|| marks.first()).copied()
}

fn no_watermark(node: &PlanNode, catalog: &Catalog) -> PlanError {
    let scanned = node.scanned_objects();
    let is_lost = scanned.iter().any(|id| has_watermark(catalog, *id));
    let (why, hint) = match is_lost {
        false => (
            "nothing that the view reads has a watermark",
            "declare one where the rows come from: CREATE SOURCE s (..., WATERMARK FOR ts AS ts - INTERVAL '5 seconds'), \
             or on a table WITH (append_only = 'true')",
        ),
        true => (
            "no watermark reaches the view's columns",
            "group by a window of the watermark's column (TUMBLE, HOP, CUMULATE) and select window_start or window_end",
        ),
    };
    PlanError::InvalidDefinition {
        message: format!("EMIT ON WINDOW CLOSE can not tell when a window closes: {why}"),
        hint: Some(hint.to_string()),
    }
}

fn has_watermark(catalog: &Catalog, object: ObjectId) -> bool {
    catalog
        .get(object)
        .is_some_and(|object| match &object.kind {
            ObjectKind::Source(source) => source.watermark.is_some(),
            ObjectKind::Table(table) => table.watermark.is_some(),
            ObjectKind::MaterializedView(view) => !view.watermark_columns.is_empty(),
            ObjectKind::View(_) | ObjectKind::Index(_) => false,
        })
}

/// Whether the column is an end of CUMULATE's windows.
fn is_cumulated(node: &PlanNode, column: usize) -> bool {
    let input = node.inputs.first();
    let of_expr = |exprs: &[BoundExpr]| {
        exprs
            .get(column)
            .is_some_and(|expr| is_cumulated_expr(expr, input))
    };
    match &node.op {
        PlanOp::Project { exprs } => of_expr(exprs),
        PlanOp::Aggregate { group_by, .. } => of_expr(group_by),
        PlanOp::Filter { .. }
        | PlanOp::Unnest { .. }
        | PlanOp::UnionAll
        | PlanOp::Over { .. }
        | PlanOp::TopN { .. }
        | PlanOp::WindowClose { .. } => input.is_some_and(|input| is_cumulated(input, column)),
        PlanOp::Scan { .. }
        | PlanOp::TemporalFilter { .. }
        | PlanOp::Session { .. }
        | PlanOp::Values { .. }
        | PlanOp::GroupingSets { .. }
        | PlanOp::SetOperation { .. }
        | PlanOp::Join { .. } => false,
    }
}

fn is_cumulated_expr(expr: &BoundExpr, input: Option<&PlanNode>) -> bool {
    let plain = expr.physical.as_ref() as &dyn std::any::Any;
    match plain.downcast_ref::<Column>() {
        Some(plain) => input.is_some_and(|input| is_cumulated(input, plain.index())),
        None => matches!(
            unaliased(&expr.logical),
            Expr::ScalarFunction(function) if function.name() == CumulateEnds::NAME
        ),
    }
}
