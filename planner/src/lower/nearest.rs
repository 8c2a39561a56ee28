//! Lowers joins with the row that is nearest in time (ASOF).

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::expressions::Column;

use super::join::{Side, compared, key, output_schema, pair_fields};
use super::{Lowered, Lowering, bound, internal, node_of};
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, JoinKind, NearestTimes, PlanOp};
use crate::properties;
use crate::rewrite::nearest_join::NearestJoinNode;

impl Lowering<'_> {
    pub(super) fn nearest_join(&mut self, node: &NearestJoinNode) -> Result<Lowered> {
        let join = &node.join;
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            other => {
                return Err(PlanError::Internal(format!(
                    "a nearest join that is {other}"
                )));
            }
        };
        let (left, right) = (
            self.side(&join.left, "rm:left")?,
            self.side(&join.right, "rm:right")?,
        );
        let (near, others) = node
            .conditions
            .split_first()
            .ok_or_else(|| PlanError::Internal("a nearest join without times".into()))?;
        let times = times_of(near, &left, &right)?;
        let (mut keys, mut rest) = (Vec::new(), Vec::new());
        for condition in others {
            match compared(condition, &left.schema, &right.schema) {
                Some((of_left, of_right, false)) => {
                    keys.push(key(of_left, of_right, false, &left, &right)?);
                }
                _ => rest.push(condition.clone()),
            }
        }
        let both = left.schema.join(&right.schema).map_err(internal)?;
        let names = Schema::new(pair_fields(&left.lowered.node, &right.lowered.node));
        let tolerance = conjunction(rest).map(|expr| bound(&expr, &both, &names));
        let tolerance = tolerance.transpose()?;
        let forgets = marked_times(&times, &left, &right);
        let sides = (left.as_input(&keys, true), right.as_input(&keys, false));
        let (properties, lineage) = properties::of_nearest(kind, &sides.0, &sides.1, forgets);
        let schema = output_schema(kind, &left.lowered.node, &right.lowered.node, join);
        let op = PlanOp::Nearest {
            keeps_unmatched: kind == JoinKind::Left,
            keys,
            times: Box::new(times),
            tolerance,
            forgets,
        };
        let inputs = vec![left.lowered.node, right.lowered.node];
        Ok(Lowered {
            node: node_of(op, inputs, Arc::new(schema), properties),
            lineage,
        })
    }
}

/// What `near`, a comparison of the right side's time with the left's, says.
fn times_of(near: &Expr, left: &Side, right: &Side) -> Result<NearestTimes> {
    let misread = || PlanError::Internal(format!("no comparison of two times: {near}"));
    let Expr::BinaryExpr(BinaryExpr {
        left: a,
        op,
        right: b,
    }) = near
    else {
        return Err(misread());
    };
    let is_of = |expr: &Expr, schema: &DFSchema| {
        expr.column_refs()
            .iter()
            .all(|column| schema.has_column(column))
    };
    let (of_right, op, of_left) = match is_of(a, &right.schema) && is_of(b, &left.schema) {
        true => (a, *op, b),
        false => (b, op.swap().ok_or_else(misread)?, a),
    };
    let bind = |expr: &Expr, side: &Side| bound(expr, &side.schema, &side.lowered.node.schema);
    let (of_left, of_right) = (bind(of_left, left)?, bind(of_right, right)?);
    if of_left.data_type != of_right.data_type {
        return Err(misread());
    }
    let (is_latest, is_strict) = match op {
        Operator::LtEq => (true, false),
        Operator::Lt => (true, true),
        Operator::GtEq => (false, false),
        Operator::Gt => (false, true),
        _ => return Err(misread()),
    };
    Ok(NearestTimes {
        left: of_left,
        right: of_right,
        is_latest,
        is_strict,
    })
}

/// The columns that are the times, if watermarks of both say what no row can be the nearest of any more: of later rows those
/// that wait for one have no bound.
fn marked_times(times: &NearestTimes, left: &Side, right: &Side) -> Option<(usize, usize)> {
    let marked = |expr: &BoundExpr, side: &Side| {
        let any = expr.physical.as_ref() as &dyn std::any::Any;
        let index = any.downcast_ref::<Column>()?.index();
        let is_time = matches!(
            expr.data_type,
            DataType::Timestamp(TimeUnit::Microsecond, _)
        );
        let marks = &side.lowered.node.properties.watermark_columns;
        (is_time && marks.contains(&index)).then_some(index)
    };
    let both = marked(&times.left, left).zip(marked(&times.right, right));
    both.filter(|_| times.is_latest)
}
