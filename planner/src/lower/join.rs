//! Lowers joins: what is compared for equality becomes the key by which rows are found, the rest is checked per pair.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan, Operator};

use super::full_join::full_within;
use super::interval_join::{Buckets, interval_of};
use super::over::picked;
use super::temporal::time_filtered;
use super::{Lowered, Lowering, bound, column_index, internal, node_of};
use crate::error::{PlanError, Result};
use crate::plan::{BoundExpr, JoinInterval, JoinKey, JoinKind, JoinWindow, PlanNode, PlanOp};
use crate::properties::{self, JoinSide, unaliased};
use crate::rewrite::temporal::has_now_test;

/// One input, lowered.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) lowered: Lowered,
    /// Its columns as expressions name them, as many as the node has.
    pub(super) schema: DFSchema,
    /// Only the number of its rows is wanted: the node has one constant column that no expression knows.
    is_counted: bool,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<Lowered> {
        match kind_of(join) {
            Some(kind) => self.joined(kind, join, false),
            None => self.join(&swapped(join)),
        }
    }

    /// A join with the right side as it is when a row of the left comes.
    pub(super) fn as_of_join(&mut self, join: &Join) -> Result<Lowered> {
        match kind_of(join) {
            Some(kind @ (JoinKind::Inner | JoinKind::Left)) => self.joined(kind, join, true),
            _ => Err(PlanError::Internal(format!(
                "no as-of join of type {}",
                join.join_type
            ))),
        }
    }

    fn joined(&mut self, kind: JoinKind, join: &Join, is_as_of_now: bool) -> Result<Lowered> {
        let (left, right) = (
            self.side(&join.left, "rm:left")?,
            self.side(&join.right, "rm:right")?,
        );
        if is_as_of_now && !left.lowered.node.properties.append_only {
            return Err(left_changes());
        }
        let both = left.schema.join(&right.schema).map_err(internal)?;
        let mut keys = Vec::new();
        for (left_expr, right_expr) in &join.on {
            let matches_null = join.null_equality == NullEquality::NullEqualsNull;
            keys.push(key(left_expr, right_expr, matches_null, &left, &right)?);
        }
        let (mut rest, mut tests) = (Vec::new(), Vec::new());
        for conjunct in join.filter.iter().flat_map(split_conjunction) {
            if has_now_test(conjunct) {
                tests.push(conjunct);
                continue;
            }
            match compared(conjunct, &left.schema, &right.schema) {
                Some((l, r, matches_null)) => keys.push(key(l, r, matches_null, &left, &right)?),
                None if *conjunct == datafusion::prelude::lit(true) => {}
                None => rest.push(conjunct.clone()),
            }
        }
        self.notices
            .extend(unkeyed_cost(kind, &keys, !rest.is_empty(), &left, &right));
        if kind == JoinKind::NotIn && (keys.len() != 1 || !rest.is_empty()) {
            return Err(PlanError::unsupported(
                "this form of NOT IN in a materialized view",
                "write NOT EXISTS",
            ));
        }
        let hidden = (left.is_counted, right.is_counted && kind.is_pairing());
        if !tests.is_empty()
            && (kind != JoinKind::Inner || hidden != (false, false) || is_as_of_now)
        {
            return Err(PlanError::unsupported(
                format!(
                    "now() in ON of this {} join in a materialized view",
                    kind.name()
                ),
                "write the condition into a subquery in FROM, of the side whose rows come and go",
            ));
        }
        let window = match is_as_of_now {
            true => None,
            false => window_key(kind, &mut keys, &left, &right),
        };
        let buckets = match window {
            None if !is_as_of_now => buckets_of(kind, &rest, &left, &right),
            _ => None,
        };
        let widths = (left.width(), right.width());
        let joined = match buckets {
            Some((interval, _)) if kind == JoinKind::Full => {
                full_within(join, (left, right), keys, rest, interval)?
            }
            Some((interval, buckets)) => {
                bucketed((kind, join), (left, right), keys, rest, interval, &buckets)?
            }
            None => {
                let moment = (window, is_as_of_now);
                paired((kind, join), (left, right), keys, rest, moment)?
            }
        };
        if hidden == (false, false) {
            return time_filtered(joined, &tests, &both);
        }
        without_counted(joined, hidden, widths)
    }

    pub(super) fn side(&mut self, plan: &LogicalPlan, hidden: &str) -> Result<Side> {
        let mut lowered = self.lower(plan)?;
        if lowered.node.schema.fields().is_empty() {
            lowered = super::counted(lowered)?;
        }
        let is_counted = plan.schema().fields().is_empty();
        let schema = if is_counted {
            let hidden = Field::new(hidden, DataType::Int32, false);
            DFSchema::try_from(Schema::new(vec![hidden])).map_err(internal)?
        } else {
            plan.schema().as_ref().clone()
        };
        Ok(Side {
            lowered,
            schema,
            is_counted,
        })
    }
}

impl Side {
    fn width(&self) -> usize {
        self.lowered.node.schema.fields().len()
    }

    fn is_single_row(&self) -> bool {
        self.lowered.node.properties.stream_key.as_deref() == Some(&[])
    }

    pub(super) fn as_input(&self, keys: &[JoinKey], is_left: bool) -> JoinSide<'_> {
        let names = &self.lowered.node.schema;
        let plain = |key: &JoinKey| {
            let expr = if is_left { &key.left } else { &key.right };
            // bound expressions are named as the node's columns are, which may occur twice
            let index = expr
                .physical
                .downcast_ref::<datafusion::physical_expr::expressions::Column>();
            index
                .map(|column| column.index())
                .filter(|index| *index < names.fields().len())
        };
        let stream_key = self.lowered.node.properties.stream_key.iter().flatten();
        let mut certain = stream_key.filter(|column| !names.field(**column).is_nullable());
        let has_certain_key = certain.next().is_some();
        JoinSide {
            properties: &self.lowered.node.properties,
            lineage: &self.lowered.lineage,
            width: self.width(),
            keys: keys.iter().map(plain).collect(),
            has_certain_key,
        }
    }
}

/// The join itself, without what hides columns.
fn paired(
    (kind, join): (JoinKind, &Join),
    (left, right): (Side, Side),
    keys: Vec<JoinKey>,
    rest: Vec<Expr>,
    (window, is_as_of_now): (Option<JoinWindow>, bool),
) -> Result<Lowered> {
    let both = left.schema.join(&right.schema).map_err(internal)?;
    let pair_names = pair_fields(&left.lowered.node, &right.lowered.node);
    let residual = conjunction(rest)
        .map(|expr| bound(&expr, &both, &Schema::new(pair_names)))
        .transpose()?;
    let sides = (left.as_input(&keys, true), right.as_input(&keys, false));
    let (properties, lineage) = match is_as_of_now {
        true => properties::of_as_of_join(kind, &sides.0, &sides.1),
        false => properties::of_join(
            kind,
            &sides.0,
            &sides.1,
            window.is_some(),
            window.and_then(|window| window.interval),
        ),
    };
    let schema = output_schema(kind, &left.lowered.node, &right.lowered.node, join);
    let inputs = vec![left.lowered.node, right.lowered.node];
    let op = PlanOp::Join {
        kind,
        keys,
        residual,
        window,
        is_as_of_now,
    };
    Ok(Lowered {
        node: node_of(op, inputs, Arc::new(schema), properties),
        lineage,
    })
}

/// The join with buckets of time as its first key, which do not show.
pub(super) fn bucketed(
    (kind, join): (JoinKind, &Join),
    (left, right): (Side, Side),
    mut keys: Vec<JoinKey>,
    rest: Vec<Expr>,
    interval: JoinInterval,
    buckets: &Buckets,
) -> Result<Lowered> {
    let (known, lineage) = properties::of_join(
        kind,
        &left.as_input(&keys, true),
        &right.as_input(&keys, false),
        true,
        Some(interval),
    );
    let (left_width, right_width) = (left.width(), right.width());
    let (left_cut, right_cut) = buckets.cut(left.lowered, right.lowered)?;
    let side = |lowered: Lowered, schema: DFSchema, name: &str| -> Result<Side> {
        let bucket = lowered.node.schema.fields().last().cloned();
        let bucket = bucket.map(|field| field.as_ref().clone().with_name(name));
        let bucket = Schema::new(bucket.into_iter().collect::<Vec<_>>());
        let bucket = DFSchema::try_from(bucket).map_err(internal)?;
        Ok(Side {
            lowered,
            schema: schema.join(&bucket).map_err(internal)?,
            is_counted: false,
        })
    };
    let (left_name, right_name) = ("rm:left bucket", "rm:right bucket");
    let left = side(left_cut, left.schema, left_name)?;
    let right = side(right_cut, right.schema, right_name)?;
    let bucket = |name: &str| Expr::Column(Column::new_unqualified(name));
    let (of_left, of_right) = (bucket(left_name), bucket(right_name));
    keys.insert(0, key(&of_left, &of_right, false, &left, &right)?);
    let window = JoinWindow {
        left: left_width,
        right: right_width,
        interval: Some(interval),
    };
    let joined = paired(
        (kind, join),
        (left, right),
        keys,
        rest,
        (Some(window), false),
    )?;
    let all = joined.node.schema.fields().len();
    let is_bucket =
        |place: &usize| *place == left_width || (kind.is_pairing() && *place + 1 == all);
    let places: Vec<usize> = (0..all).filter(|place| !is_bucket(place)).collect();
    let schema = joined
        .node
        .schema
        .project(&places)
        .map_err(|error| PlanError::Internal(error.to_string()))?;
    let mut picked = picked(joined, places.into_iter(), &schema)?;
    // As without buckets: each pair is met in one of them.
    picked.node.properties = known;
    Ok(Lowered { lineage, ..picked })
}

fn left_changes() -> PlanError {
    PlanError::unsupported(
        "FOR SYSTEM_TIME AS OF PROCTIME() with a left side whose rows can change or go",
        "let them come from a source, from a table WITH (append_only = 'true') or from a view that is append-only \
         (EXPLAIN says which is); or leave the clause out: the view then follows later changes of both sides",
    )
}

/// Of the keys, one that is a time with a watermark on both sides comes first.
fn window_key(
    kind: JoinKind,
    keys: &mut [JoinKey],
    left: &Side,
    right: &Side,
) -> Option<JoinWindow> {
    if kind == JoinKind::NotIn {
        return None;
    }
    let marked = |expr: &BoundExpr, side: &Side| {
        let any = expr.physical.as_ref() as &dyn std::any::Any;
        let index = any
            .downcast_ref::<datafusion::physical_expr::expressions::Column>()?
            .index();
        let marks = &side.lowered.node.properties.watermark_columns;
        marks.contains(&index).then_some(index)
    };
    let places = |key: &JoinKey| Some((marked(&key.left, left)?, marked(&key.right, right)?));
    let at = keys.iter().position(|key| places(key).is_some())?;
    keys.get_mut(..=at)?.rotate_right(1);
    let (left, right) = places(&keys[0])?;
    Some(JoinWindow {
        left,
        right,
        interval: None,
    })
}

/// How time is cut for a condition that bounds how far two times lie apart.
fn buckets_of(
    kind: JoinKind,
    rest: &[Expr],
    left: &Side,
    right: &Side,
) -> Option<(JoinInterval, Buckets)> {
    // Rows of the side that is in one bucket only can show without a match; of a full join each side is in turn.
    let is_left_single = match kind {
        JoinKind::Inner
        | JoinKind::Left
        | JoinKind::Full
        | JoinKind::Semi
        | JoinKind::Anti
        | JoinKind::Mark => true,
        JoinKind::Right => false,
        JoinKind::NotIn => return None,
    };
    let marks = |side: &'_ Side| side.lowered.node.properties.watermark_columns.clone();
    let interval = interval_of(
        rest,
        (&left.schema, &marks(left)),
        (&right.schema, &marks(right)),
    )?;
    let buckets = Buckets::of(interval, is_left_single)?;
    Some((interval, buckets))
}

/// `None`: what the right side keeps, to be swapped.
fn kind_of(join: &Join) -> Option<JoinKind> {
    Some(match join.join_type {
        JoinType::Inner => JoinKind::Inner,
        JoinType::Left => JoinKind::Left,
        JoinType::Right => JoinKind::Right,
        JoinType::Full => JoinKind::Full,
        JoinType::LeftSemi => JoinKind::Semi,
        JoinType::LeftAnti if join.null_aware => JoinKind::NotIn,
        JoinType::LeftAnti => JoinKind::Anti,
        JoinType::LeftMark => JoinKind::Mark,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => return None,
    })
}

fn swapped(join: &Join) -> Join {
    let mut swapped = join.clone();
    std::mem::swap(&mut swapped.left, &mut swapped.right);
    swapped.join_type = join.join_type.swap();
    for (left, right) in &mut swapped.on {
        std::mem::swap(left, right);
    }
    swapped
}

pub(super) fn key(
    left: &Expr,
    right: &Expr,
    matches_null: bool,
    sides: &Side,
    others: &Side,
) -> Result<JoinKey> {
    let bind = |expr: &Expr, side: &Side| bound(expr, &side.schema, &side.lowered.node.schema);
    let (left, right) = (bind(left, sides)?, bind(right, others)?);
    if left.data_type != right.data_type {
        return Err(PlanError::Internal(format!(
            "join keys {left} and {right} are of the types {} and {}",
            left.data_type, right.data_type
        )));
    }
    Ok(JoinKey {
        left,
        right,
        matches_null,
    })
}

/// The sides of an equality between a value of the left row and one of the right row, and whether NULLs are equal.
pub(super) fn compared<'a>(
    conjunct: &'a Expr,
    left: &DFSchema,
    right: &DFSchema,
) -> Option<(&'a Expr, &'a Expr, bool)> {
    let Expr::BinaryExpr(BinaryExpr {
        left: a,
        op,
        right: b,
    }) = unaliased(conjunct)
    else {
        return None;
    };
    let matches_null = match op {
        Operator::Eq => false,
        Operator::IsNotDistinctFrom => true,
        _ => return None,
    };
    let is_of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
    };
    if is_of(a, left) && is_of(b, right) {
        Some((a, b, matches_null))
    } else if is_of(b, left) && is_of(a, right) {
        Some((b, a, matches_null))
    } else {
        None
    }
}

/// What a join without an equality costs, if it is one of many rows with many.
fn unkeyed_cost(
    kind: JoinKind,
    keys: &[JoinKey],
    has_residual: bool,
    left: &Side,
    right: &Side,
) -> Option<String> {
    let has_single_row = left.is_single_row() || right.is_single_row();
    if !keys.is_empty() || has_single_row || (!kind.is_pairing() && !has_residual) {
        return None;
    }
    let what = match (kind.is_pairing(), has_residual) {
        (true, false) => "CROSS JOIN pairs all rows",
        (true, true) => "JOIN without an equality compares all rows",
        (false, _) => "a subquery that depends on the row without an equality compares all rows",
    };
    Some(format!(
        "{what}: each changed row meets every row of the other side, so keep one side small or add an equality \
         (a.k = b.k)"
    ))
}

pub(super) fn pair_fields(left: &PlanNode, right: &PlanNode) -> Vec<Field> {
    let fields = left.schema.fields().iter().chain(right.schema.fields());
    fields.map(|field| field.as_ref().clone()).collect()
}

/// The output's columns, named as the inputs name them.
pub(super) fn output_schema(
    kind: JoinKind,
    left: &PlanNode,
    right: &PlanNode,
    join: &Join,
) -> Schema {
    let width = left.schema.fields().len();
    let mut fields = match kind.is_pairing() {
        true => pair_fields(left, right),
        false => left
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect(),
    };
    for (index, field) in fields.iter_mut().enumerate() {
        let can_lack = match kind {
            JoinKind::Left => index >= width,
            JoinKind::Right => index < width,
            JoinKind::Full => true,
            _ => false,
        };
        if can_lack {
            *field = field.clone().with_nullable(true);
        }
    }
    if let (JoinKind::Mark, Some(mark)) = (kind, join.schema.fields().last()) {
        fields.push(mark.as_ref().clone());
    }
    Schema::new(fields)
}

/// Removes the constant columns of inputs of which only the number of rows is wanted.
fn without_counted(
    joined: Lowered,
    (hides_left, hides_right): (bool, bool),
    (left_width, right_width): (usize, usize),
) -> Result<Lowered> {
    let is_hidden = |index: &usize| {
        (hides_left && *index < left_width)
            || (hides_right && (left_width..left_width + right_width).contains(index))
    };
    let all = joined.node.schema.fields().len();
    let kept: Vec<usize> = (0..all).filter(|index| !is_hidden(index)).collect();
    if kept.is_empty() {
        return super::counted(joined);
    }
    let names: Vec<Field> = (0..all)
        .map(|index| {
            joined
                .node
                .schema
                .field(index)
                .clone()
                .with_name(format!("c{index}"))
        })
        .collect();
    let from = DFSchema::try_from(Schema::new(names)).map_err(internal)?;
    let columns: Vec<Expr> = from.columns().into_iter().map(Expr::Column).collect();
    let columns: Vec<Expr> = kept.iter().map(|index| columns[*index].clone()).collect();
    let exprs = columns
        .iter()
        .map(|expr| bound(expr, &from, &joined.node.schema))
        .collect::<Result<Vec<_>>>()?;
    let fields: Vec<Field> = kept
        .iter()
        .map(|index| joined.node.schema.field(*index).clone())
        .collect();
    let (properties, lineage) = properties::of_project(
        &columns,
        &joined.node.properties,
        &joined.lineage,
        &|expr| column_index(expr, &from),
    );
    let op = PlanOp::Project { exprs };
    Ok(Lowered {
        node: node_of(
            op,
            vec![joined.node],
            Arc::new(Schema::new(fields)),
            properties,
        ),
        lineage,
    })
}
