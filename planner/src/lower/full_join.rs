//! FULL JOINs of rows whose times lie close together: the LEFT JOIN, and the rows of the right side that match none.
//!
//! Of a join that is cut into buckets of time only rows of the side that is in one bucket can show without a match. So each
//! half cuts the sides in its own way, and forgets what is over by itself.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, Join};

use super::interval_join::Buckets;
use super::join::{Side, bucketed, output_schema};
use super::over::{name_of, numbered};
use super::{Lowered, internal, node_of, projected};
use crate::error::{PlanError, Result};
use crate::plan::{JoinInterval, JoinKey, JoinKind, PlanNode, PlanOp, Properties};
use crate::properties;

/// The FULL JOIN of `left` and `right` by `keys` and the conditions `rest`, which say that times lie in `interval`.
pub(super) fn full_within(
    join: &Join,
    (left, right): (Side, Side),
    keys: Vec<JoinKey>,
    rest: Vec<Expr>,
    interval: JoinInterval,
) -> Result<Lowered> {
    let (known, lineage) = properties::of_join(
        JoinKind::Full,
        &left.as_input(&keys, true),
        &right.as_input(&keys, false),
        true,
        Some(interval),
    );
    let (of_left, of_right) = (&left.lowered.node, &right.lowered.node);
    let schema = output_schema(JoinKind::Full, of_left, of_right, join);
    let of_left = of_left.clone();
    let turned = JoinInterval {
        left: interval.right,
        right: interval.left,
        least_us: -interval.most_us,
        most_us: -interval.least_us,
    };
    let half = |kind, sides, keys, interval| {
        let cut = Buckets::of(interval, true)
            .ok_or_else(|| PlanError::Internal("an interval that can not be cut".into()))?;
        bucketed((kind, join), sides, keys, rest.clone(), interval, &cut)
    };
    let sides = (left.clone(), right.clone());
    let matched = half(JoinKind::Left, sides, keys.clone(), interval)?;
    let turned_keys = keys.into_iter().map(turned_key).collect();
    let alone = half(JoinKind::Anti, (right, left), turned_keys, turned)?;
    let alone = padded(alone, &of_left, &schema, &known)?;

    let halves = [&matched, &alone].map(|half| (&half.node.properties, &half.lineage));
    let (united, _) = properties::of_union(&halves, schema.fields().len());
    let properties = Properties {
        watermark_columns: united.watermark_columns,
        ..known
    };
    let inputs = vec![matched.node, alone.node];
    Ok(Lowered {
        node: node_of(PlanOp::UnionAll, inputs, Arc::new(schema), properties),
        lineage,
    })
}

fn turned_key(key: JoinKey) -> JoinKey {
    JoinKey {
        left: key.right,
        right: key.left,
        matches_null: key.matches_null,
    }
}

/// Rows of the right side behind NULLs for the columns of `left`.
fn padded(
    alone: Lowered,
    left: &PlanNode,
    schema: &Schema,
    joined: &Properties,
) -> Result<Lowered> {
    let from = numbered(&alone.node.schema)?;
    let mut exprs = Vec::with_capacity(schema.fields().len());
    for field in left.schema.fields() {
        let null = ScalarValue::try_from(field.data_type()).map_err(internal)?;
        exprs.push(Expr::Literal(null, None));
    }
    let own = 0..alone.node.schema.fields().len();
    exprs.extend(own.map(|index| Expr::Column(Column::new_unqualified(name_of(index)))));
    let mut padded = projected(alone, &exprs, &from, schema)?;
    // Where there are no values, there are none below any bound.
    padded.node.properties.watermark_columns = joined.watermark_columns.clone();
    Ok(padded)
}
