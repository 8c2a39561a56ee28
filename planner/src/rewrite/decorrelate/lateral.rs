//! LATERAL: the right side of a join that refers to the rows of the left one.
//!
//! What works row by row takes the left rows along and needs no join: `FROM t, unnest(t.list)` is a projection with an
//! unnest, as if it stood in the select list.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, NullHandling, Result, ScalarValue, not_impl_err};
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, Subquery,
    SubqueryAlias, Unnest, lit, when,
};

use super::apply::is_row_wise;
use super::domain::{Domain, Reference};
use super::references::{is_lateral, references, with_references};
use super::{Decorrelation, projected};
use crate::functions;

impl Decorrelation {
    /// A join, lateral or with subqueries in its condition.
    pub fn join(&mut self, join: Join) -> Result<LogicalPlan> {
        if !is_lateral(&join.left) && !self.is_lateral(&join)? {
            return self.conditions(join);
        }
        let (left, right) = (unmarked(&join.left)?, unmarked(&join.right)?);
        let own: Vec<Reference> = references(&right)?
            .into_iter()
            .filter(|(_, column)| left.schema().has_column(column))
            .collect();
        let nearest = match (own.is_empty(), join.join_type) {
            (false, JoinType::Inner | JoinType::Left) => self.nearest(&left, &right, &join)?,
            _ => None,
        };
        let plan = match (own.is_empty(), join.join_type) {
            _ if nearest.is_some() => nearest.unwrap_or(right),
            (true, _) => {
                let mut plain = join.clone();
                (plain.left, plain.right) = (Arc::new(left), Arc::new(right));
                self.conditions(plain)?
            }
            (false, JoinType::Inner) => self.each(&left, &right, &own, &join)?,
            (false, JoinType::Left) => match or_null(&right, &join)? {
                Some(right) => self.each(&left, &right, &own, &join)?,
                None => self.left_each(&left, &right, &own, &join)?,
            },
            (false, kind) => {
                return not_impl_err!("LATERAL on the right of a {kind} join");
            }
        };
        // what is left may refer to what stands before this join
        if references(&plan)?.is_empty() {
            return Ok(plan);
        }
        let marked = Subquery {
            subquery: Arc::new(plan),
            outer_ref_columns: Vec::new(),
            spans: datafusion::common::Spans::new(),
        };
        Ok(LogicalPlan::Subquery(with_references(marked)?))
    }

    /// Whether the right side refers to the left one. DataFusion does not mark it if only subqueries within it do; where
    /// nothing is around, there is nothing else to refer to.
    fn is_lateral(&self, join: &Join) -> Result<bool> {
        if is_lateral(&join.right) {
            return Ok(true);
        }
        let is_of_left = |(_, column): &Reference| join.left.schema().has_column(column);
        Ok(self.depth == 0 && references(&join.right)?.iter().any(is_of_left))
    }

    /// Each row of `left` with the rows that `right` gives for it.
    fn each(
        &mut self,
        left: &LogicalPlan,
        right: &LogicalPlan,
        own: &[Reference],
        join: &Join,
    ) -> Result<LogicalPlan> {
        let condition = condition_of(join);
        if is_row_wise(right) {
            let (carried, restored) = self.carried(left, right)?;
            let columns = right.schema().columns().into_iter().map(Expr::Column);
            let rows = projected(carried, restored.into_iter().chain(columns).collect())?;
            return self.kept(rows, condition);
        }
        let domain = Domain::of_values(left, own, self)?;
        let applied = self.apply(&domain, right)?;
        let on = applied.condition(own);
        let joined = LogicalPlanBuilder::from(left.clone())
            .join_on(applied.plan, JoinType::Inner, [on])?
            .build()?;
        let columns = join.schema.columns().into_iter().map(Expr::Column);
        let rows = projected(joined, columns.collect())?;
        self.kept(rows, condition)
    }

    fn kept(&mut self, rows: LogicalPlan, condition: Option<Expr>) -> Result<LogicalPlan> {
        match condition {
            None => Ok(rows),
            Some(condition) => {
                let filter = Filter::try_new(condition, Arc::new(rows))?;
                self.host(LogicalPlan::Filter(filter))
            }
        }
    }

    /// As [`Self::each`], with NULLs for a row that gets none.
    fn left_each(
        &mut self,
        left: &LogicalPlan,
        right: &LogicalPlan,
        own: &[Reference],
        join: &Join,
    ) -> Result<LogicalPlan> {
        let domain = Domain::of_values(left, own, self)?;
        let applied = self.apply(&domain, right)?;
        let on = [applied.condition(own)]
            .into_iter()
            .chain(condition_of(join));
        let joined = LogicalPlanBuilder::from(left.clone())
            .join_on(applied.plan, JoinType::Left, on)?
            .build()?;
        let joined = match joined {
            LogicalPlan::Join(joined) => self.conditions(joined)?,
            other => other,
        };
        let columns = join.schema.columns().into_iter().map(Expr::Column);
        projected(joined, columns.collect())
    }

    /// The rows of `base` with those of `plan`, which is row-wise, for each; and the columns of `base` in it.
    pub fn carried(
        &mut self,
        base: &LogicalPlan,
        plan: &LogicalPlan,
    ) -> Result<(LogicalPlan, Vec<Expr>)> {
        let rows = Domain::of_rows(base, self)?;
        let applied = self.apply(&rows, plan)?;
        let restored = base.schema().columns().into_iter().zip(applied.columns);
        let restored = restored
            .map(|(column, ours)| Expr::Column(ours).alias_qualified(column.relation, column.name));
        Ok((applied.plan, restored.collect()))
    }
}

/// All that a join demands.
pub fn condition_of(join: &Join) -> Option<Expr> {
    let equal = join
        .on
        .iter()
        .map(|(left, right)| left.clone().eq(right.clone()));
    equal.chain(join.filter.clone()).reduce(Expr::and)
}

/// `plan` without the mark that says that it may refer to what stands before it.
fn unmarked(plan: &LogicalPlan) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => subquery.subquery.as_ref().clone(),
        LogicalPlan::SubqueryAlias(alias) if is_lateral(&alias.input) => {
            let input = Arc::new(unmarked(&alias.input)?);
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?)
        }
        other => other.clone(),
    })
}

/// For `LEFT JOIN LATERAL unnest(…) ON true`: an unnest that gives a NULL where there is nothing to unnest.
fn or_null(plan: &LogicalPlan, join: &Join) -> Result<Option<LogicalPlan>> {
    if condition_of(join).is_some_and(|condition| condition != lit(true)) {
        return Ok(None);
    }
    Ok(match plan {
        LogicalPlan::SubqueryAlias(alias) => or_null(&alias.input, join)?
            .map(|input| SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()))
            .transpose()?
            .map(LogicalPlan::SubqueryAlias),
        LogicalPlan::Projection(projection) if projection.expr.iter().all(is_plain) => {
            let Some(input) = or_null(&projection.input, join)? else {
                return Ok(None);
            };
            let projection = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            Some(LogicalPlan::Projection(projection))
        }
        LogicalPlan::Unnest(unnest) => padded(unnest)?.map(LogicalPlan::Unnest),
        _ => None,
    })
}

/// An expression that is NULL for a NULL.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => is_plain(&alias.expr),
        Expr::Cast(Cast { expr, .. }) => is_plain(expr),
        _ => false,
    }
}

fn padded(unnest: &Unnest) -> Result<Option<Unnest>> {
    let LogicalPlan::Projection(lists) = unnest.input.as_ref() else {
        return Ok(None);
    };
    let is_rows =
        matches!(lists.input.as_ref(), LogicalPlan::EmptyRelation(empty) if empty.produce_one_row);
    let is_lists_only = unnest.list_type_columns.len() == lists.expr.len()
        && unnest.options.null_handling == NullHandling::Drop;
    if !is_rows || !is_lists_only {
        return Ok(None);
    }
    let cardinality = functions::named("cardinality")?;
    let mut is_empty: Option<Expr> = None;
    for list in &lists.expr {
        let length = cardinality.call(vec![list.clone().unalias()]);
        let nothing = length.clone().is_null().or(length.eq(lit(0_i32)));
        is_empty = Some(match is_empty.take() {
            Some(others) => others.and(nothing),
            None => nothing,
        });
    }
    let (Some(is_empty), Some(first)) = (is_empty, lists.expr.first()) else {
        return Ok(None);
    };
    let name = first.qualified_name();
    let data_type = first.get_type(lists.input.schema())?;
    let one_null = match &data_type {
        arrow::datatypes::DataType::List(item) => ScalarValue::List(ScalarValue::new_list(
            &[ScalarValue::try_from(item.data_type())?],
            item.data_type(),
            true,
        )),
        _ => return Ok(None),
    };
    let mut exprs = lists.expr.clone();
    exprs[0] = when(is_empty, lit(one_null))
        .otherwise(first.clone().unalias())?
        .alias_qualified(name.0, name.1);
    let input = LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&lists.input))?);
    let options = unnest.options.clone();
    Unnest::try_new(Arc::new(input), unnest.exec_columns.clone(), options).map(Some)
}

/// Columns of `plan` as expressions.
pub fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    let columns: Vec<Column> = plan.schema().columns();
    columns.into_iter().map(Expr::Column).collect()
}
