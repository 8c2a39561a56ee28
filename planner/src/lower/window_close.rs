//! `EMIT ON WINDOW CLOSE`: the view's rows are held back until the watermark says that they are final.

use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;

use super::{Lowered, node_of};
use crate::catalog::{Catalog, ObjectId, ObjectKind};
use crate::error::{PlanError, Result};
use crate::functions::CumulateEnds;
use crate::plan::{BoundExpr, JoinKind, PlanNode, PlanOp, Properties};
use crate::properties::unaliased;

/// The operator that holds the rows of `input`, the whole plan of a view, back.
pub(super) fn on_window_close(input: Lowered, catalog: &Catalog) -> Result<Lowered> {
    let Lowered { node, lineage } = input;
    let marks = &node.properties.watermark_columns;
    let Some(column) = time_of_rows(&node) else {
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

/// The column that says when a row is final.
pub(crate) fn time_of_rows(node: &PlanNode) -> Option<usize> {
    // Rows without a match have no times of the other side.
    let marks = node.properties.watermark_columns.iter();
    let mut marks = marks.filter(|column| !is_padded(node, **column));
    let first = marks.clone().next();
    // The windows of CUMULATE start together and close one by one.
    marks
        .find(|column| is_cumulated(node, **column))
        .or(first)
        .copied()
}

/// Whether the column can be NULL because a row of an outer join has no match.
fn is_padded(node: &PlanNode, column: usize) -> bool {
    let plain = |exprs: &[BoundExpr]| {
        let expr = exprs.get(column)?.physical.as_ref() as &dyn std::any::Any;
        Some(expr.downcast_ref::<Column>()?.index())
    };
    let below = match &node.op {
        PlanOp::Project { exprs } if exprs.get(column).is_some_and(is_null) => return true,
        // What is computed of several columns takes the one that is there.
        PlanOp::Project { exprs } => plain(exprs),
        PlanOp::Aggregate { group_by, .. } => plain(group_by),
        PlanOp::Join { kind, .. } => {
            let width = node.inputs.first().map_or(0, |l| l.schema.fields().len());
            let is_left = column < width;
            let is_padded_here = match kind {
                JoinKind::Left => !is_left,
                JoinKind::Right => is_left,
                JoinKind::Full => true,
                JoinKind::Inner
                | JoinKind::Semi
                | JoinKind::Anti
                | JoinKind::NotIn
                | JoinKind::Mark => false,
            };
            let (side, column) = if is_left {
                (0, column)
            } else {
                (1, column - width)
            };
            let input = node.inputs.get(side);
            return is_padded_here || input.is_some_and(|input| is_padded(input, column));
        }
        PlanOp::Nearest {
            keeps_unmatched, ..
        } => {
            let [left, right] = &node.inputs[..] else {
                return true;
            };
            let width = left.schema.fields().len();
            return match column < width {
                true => is_padded(left, column),
                false => *keeps_unmatched || is_padded(right, column - width),
            };
        }
        PlanOp::UnionAll => return node.inputs.iter().any(|input| is_padded(input, column)),
        PlanOp::Filter { .. }
        | PlanOp::Unnest { .. }
        | PlanOp::Over { .. }
        | PlanOp::TopN { .. }
        | PlanOp::WindowClose { .. } => Some(column),
        // Rows without a time are in no window.
        PlanOp::Panes { .. }
        | PlanOp::Scan { .. }
        | PlanOp::TemporalFilter { .. }
        | PlanOp::Session { .. }
        | PlanOp::Values { .. }
        | PlanOp::GroupingSets { .. }
        | PlanOp::SetOperation { .. } => None,
    };
    let input = node.inputs.first();
    input
        .zip(below)
        .is_some_and(|(input, column)| is_padded(input, column))
}

fn is_null(expr: &BoundExpr) -> bool {
    matches!(&expr.logical, Expr::Literal(value, _) if value.is_null())
}

/// Of groups' columns, which are the input's at `places`, puts one with a watermark first: where the input has it.
pub(super) fn window_first(
    groups: &mut [BoundExpr],
    places: &[Option<usize>],
    input: &PlanNode,
) -> Option<usize> {
    let marks = &input.properties.watermark_columns;
    let is_window = |place: &Option<usize>| place.is_some_and(|place| marks.contains(&place));
    let at = places.iter().position(is_window)?;
    groups.get_mut(..=at)?.rotate_right(1);
    places[at]
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
        | PlanOp::Panes { .. }
        | PlanOp::TemporalFilter { .. }
        | PlanOp::Session { .. }
        | PlanOp::Values { .. }
        | PlanOp::GroupingSets { .. }
        | PlanOp::SetOperation { .. }
        | PlanOp::Nearest { .. }
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
