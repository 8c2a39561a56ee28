//! The row that is nearest in time: `LATERAL (SELECT … FROM b WHERE b.k = a.k AND b.ts <= a.ts ORDER BY b.ts DESC LIMIT 1)`, as
//! which ASOF joins come here, too. A stream has an operator for it; the join is marked until it is captured
//! (`rewrite/nearest_join.rs`).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Operator,
    ScalarUDF, SkipType, lit,
};

use super::lateral::condition_of;
use super::references::references;
use super::{Decorrelation, has_subquery, projected};
use crate::functions::Mark;
use crate::rewrite::first_rows::ties_of;

/// What a subquery gives of its rows, as far as it is one of the first row of an order.
struct Shape {
    /// They depend on nothing around them.
    rows: LogicalPlan,
    /// What they must fulfil, over them and the row around.
    conditions: Vec<Expr>,
    /// The subquery's columns, over the rows.
    columns: Vec<Expr>,
    /// What they are in the order of, and whether that ascends.
    order: Option<(Expr, bool)>,
    has_limit: bool,
}

/// A subquery's conditions, by what they are to the operator.
#[derive(Default)]
struct Conditions {
    /// Of the rows alone.
    own: Vec<Expr>,
    /// A value of the row around, and the equal one of the rows.
    equal: Vec<(Expr, Expr)>,
    /// `rows' time <op> time around`.
    near: Option<(Operator, Expr)>,
    /// The same, of the other direction: rows that are nearer fulfil it sooner.
    tolerance: Vec<(Operator, Expr)>,
}

impl Decorrelation {
    /// The rows of `left` with the one that `right` gives for each, if that is the nearest of some order.
    pub fn nearest(
        &mut self,
        left: &LogicalPlan,
        right: &LogicalPlan,
        join: &Join,
    ) -> Result<Option<LogicalPlan>> {
        let is_plain = condition_of(join).is_none_or(|condition| condition == lit(true));
        if !self.is_for_stream || !is_plain {
            return Ok(None);
        }
        let Some(shape) = Shape::of(right)?.filter(|shape| shape.has_limit) else {
            return Ok(None);
        };
        let Some((time, is_ascending)) = shape.order.clone() else {
            return Ok(None);
        };
        let outer = left.schema();
        let Some(conditions) = Conditions::of(&shape, (&time, is_ascending), outer) else {
            return Ok(None);
        };
        self.marked(left, right, shape, time, conditions, join)
            .map(Some)
    }

    fn marked(
        &mut self,
        left: &LogicalPlan,
        right: &LogicalPlan,
        shape: Shape,
        time: Expr,
        conditions: Conditions,
        join: &Join,
    ) -> Result<LogicalPlan> {
        let Conditions {
            own,
            equal,
            near,
            tolerance,
        } = conditions;
        // What is NULL equals and precedes nothing.
        let compared = equal.iter().map(|(_, own)| own).chain([&time]);
        let there = compared.map(|value| value.clone().is_not_null());
        let condition = conjunction(own.into_iter().chain(there).collect::<Vec<_>>());
        let filter =
            condition.map(|condition| Filter::try_new(condition, Arc::new(shape.rows.clone())));
        let rows = filter.transpose()?.map_or(shape.rows, LogicalPlan::Filter);

        let names = right.schema().columns();
        let mut columns: Vec<Expr> = Vec::new();
        for (expr, name) in shape.columns.iter().zip(&names) {
            let name = name.clone();
            columns.push(expr.clone().alias_qualified(name.relation, name.name));
        }
        let mut column_of = |value: &Expr| {
            let known = shape.columns.iter().position(|column| column == value);
            Expr::Column(match known {
                Some(index) => names[index].clone(),
                None => {
                    let ours = self.fresh("value");
                    columns.push(value.clone().alias(ours.name()));
                    ours
                }
            })
        };
        let time = column_of(&time);
        let against = |(op, around): (Operator, Expr)| {
            Expr::BinaryExpr(BinaryExpr::new(
                Box::new(time.clone()),
                op,
                Box::new(around),
            ))
        };
        let mark = ScalarUDF::from(Mark::new(Mark::NEAREST)).call(Vec::new());
        let mut on: Vec<Expr> = near.into_iter().map(against).chain([mark]).collect();
        for (around, own) in equal {
            on.push(around.eq(column_of(&own)));
        }
        on.extend(tolerance.into_iter().map(against));
        let rows = projected(rows, columns)?;
        let joined = LogicalPlanBuilder::from(left.clone())
            .join_on(rows, join.join_type, on)?
            .build()?;
        let columns = join.schema.columns().into_iter().map(Expr::Column);
        projected(joined, columns.collect())
    }
}

impl Shape {
    fn of(plan: &LogicalPlan) -> Result<Option<Shape>> {
        Ok(match plan {
            LogicalPlan::SubqueryAlias(alias) => Shape::of(&alias.input)?,
            LogicalPlan::Projection(projection) => match Shape::of(&projection.input)? {
                Some(mut shape) => {
                    let exprs = projection.expr.iter();
                    let columns = exprs.map(|expr| shape.over(expr, projection.input.schema()));
                    shape.columns = columns.collect::<Result<_>>()?;
                    Some(shape)
                }
                None => None,
            },
            LogicalPlan::Sort(sort) => match (Shape::of(&sort.input)?, sort.expr.as_slice()) {
                (Some(mut shape), [by]) if sort.fetch.is_none() && shape.order.is_none() => {
                    let time = shape.over(&by.expr, sort.input.schema())?;
                    shape.order = Some((time, by.asc));
                    Some(shape)
                }
                _ => None,
            },
            LogicalPlan::Limit(limit) => match Shape::of(&limit.input)? {
                Some(mut shape) if !shape.has_limit && is_of_one(limit)? => {
                    shape.has_limit = true;
                    Some(shape)
                }
                _ => None,
            },
            LogicalPlan::Filter(filter) if references(&filter.input)?.is_empty() => Some(Shape {
                rows: filter.input.as_ref().clone(),
                conditions: split_conjunction(&filter.predicate)
                    .into_iter()
                    .cloned()
                    .collect(),
                columns: filter
                    .input
                    .schema()
                    .columns()
                    .into_iter()
                    .map(Expr::Column)
                    .collect(),
                order: None,
                has_limit: false,
            }),
            _ => None,
        })
    }

    /// `expr`, whose columns are those of this shape as `names` calls them, over the rows.
    fn over(&self, expr: &Expr, names: &DFSchema) -> Result<Expr> {
        let of_rows = expr.clone().unalias().transform(|part| {
            let index = match &part {
                Expr::Column(column) => names.maybe_index_of_column(column),
                _ => None,
            };
            Ok(match index.and_then(|index| self.columns.get(index)) {
                Some(column) => Transformed::yes(column.clone()),
                None => Transformed::no(part),
            })
        })?;
        Ok(of_rows.data)
    }
}

impl Conditions {
    /// `None`: there are others, or none by which a row is near.
    fn of(shape: &Shape, (time, is_ascending): (&Expr, bool), outer: &DFSchema) -> Option<Self> {
        let mut found = Conditions::default();
        let is_own = |expr: &Expr| !expr.contains_outer() && !has_subquery(expr);
        if !is_own(time) || !shape.columns.iter().all(is_own) {
            return None;
        }
        for condition in &shape.conditions {
            if is_own(condition) {
                found.own.push(condition.clone());
                continue;
            }
            let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
                return None;
            };
            let (own, op, around) = match (of_around(left, outer), of_around(right, outer)) {
                (None, Some(around)) if is_own(left) => (left.as_ref(), *op, around),
                (Some(around), None) if is_own(right) => (right.as_ref(), op.swap()?, around),
                _ => return None,
            };
            let is_near = match op {
                Operator::Eq if own.any_column_refs() => {
                    found.equal.push((around, own.clone()));
                    continue;
                }
                Operator::Lt | Operator::LtEq => !is_ascending,
                Operator::Gt | Operator::GtEq => is_ascending,
                _ => return None,
            };
            match (is_near, &found.near) {
                _ if own != time => return None,
                (true, Some(_)) => return None,
                (true, None) => found.near = Some((op, around)),
                (false, _) => found.tolerance.push((op, around)),
            }
        }
        found.near.is_some().then_some(found)
    }
}

/// `expr` over the columns of `outer`, if it has no others.
fn of_around(expr: &Expr, outer: &DFSchema) -> Option<Expr> {
    if !expr.contains_outer() || expr.any_column_refs() || has_subquery(expr) {
        return None;
    }
    let mut is_known = true;
    let around = expr.clone().transform(|part| {
        Ok(match part {
            Expr::OuterReferenceColumn(_, column) => {
                is_known &= outer.has_column(&column);
                Transformed::yes(Expr::Column(column))
            }
            other => Transformed::no(other),
        })
    });
    around.ok().filter(|_| is_known).map(|around| around.data)
}

/// `LIMIT 1`.
fn is_of_one(limit: &Limit) -> Result<bool> {
    let is_one = matches!(
        (limit.get_skip_type()?, limit.get_fetch_type()?),
        (SkipType::Literal(0), FetchType::Literal(Some(1)))
    );
    Ok(is_one && ties_of(limit)?.is_none())
}
