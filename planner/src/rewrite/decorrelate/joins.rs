//! Joins within a dependent plan: a side that refers to the domain is computed for each of its rows, and both sides
//! meet on the domain's columns. A side whose rows are kept without a match needs the domain in any case.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, Result, not_impl_err};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

use super::apply::resolved;
use super::domain::{Applied, Domain, all_same};
use super::references::references;
use super::{Decorrelation, projected};

impl Decorrelation {
    pub fn join_within(&mut self, domain: &Domain, join: &Join) -> Result<Applied> {
        let of_left = domain.answers(&references(&join.left)?);
        let of_right = domain.answers(&references(&join.right)?);
        let of_condition = join
            .on
            .iter()
            .flat_map(|(left, right)| [left, right])
            .chain(&join.filter)
            .any(Expr::contains_outer);
        let (needs_left, needs_right) = match join.join_type {
            JoinType::Inner => (of_left || !of_right, of_right),
            JoinType::Left => (true, of_right),
            JoinType::Right => (of_left, true),
            JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti => (true, true),
            JoinType::RightSemi
            | JoinType::RightAnti
            | JoinType::LeftMark
            | JoinType::RightMark => {
                return not_impl_err!("this join in a subquery that refers to the row around it");
            }
        };
        let left = self.side(domain, &join.left, needs_left)?;
        let right = self.side(domain, &join.right, needs_right)?;
        let columns = match needs_left {
            true => left.columns.clone(),
            false => right.columns.clone(),
        };
        let mut joined = join.clone();
        if of_condition {
            for (left, right) in &mut joined.on {
                *left = resolved(left.clone(), domain, &columns)?;
                *right = resolved(right.clone(), domain, &columns)?;
            }
            let filter = joined.filter.take();
            joined.filter = filter
                .map(|filter| resolved(filter, domain, &columns))
                .transpose()?;
        }
        let is_set_operation = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
        if is_set_operation {
            let pairs = left.columns.iter().zip(&right.columns);
            let pair =
                |(l, r): (&Column, &Column)| (Expr::Column(l.clone()), Expr::Column(r.clone()));
            joined.on.splice(0..0, pairs.map(pair));
        } else if needs_left && needs_right {
            let both = all_same(&left.columns, &right.columns);
            joined.filter = both.into_iter().chain(joined.filter).reduce(Expr::and);
        }
        let has_no_null = match (needs_left, needs_right) {
            (true, true) => left.has_no_null && right.has_no_null,
            (true, false) => left.has_no_null,
            (false, _) => right.has_no_null,
        };
        let right_columns = right.columns;
        joined.left = Arc::new(left.plan);
        joined.right = Arc::new(right.plan);
        let plan = LogicalPlan::Join(Join::try_new(
            joined.left,
            joined.right,
            joined.on,
            joined.filter,
            joined.join_type,
            joined.join_constraint,
            joined.null_equality,
            joined.null_aware,
        )?);
        let applied = Applied {
            plan,
            columns,
            has_no_null,
        };
        match join.join_type {
            JoinType::Right if needs_left => Ok(Applied {
                columns: right_columns,
                ..applied
            }),
            JoinType::Full => self.either(applied, &right_columns, join),
            _ => Ok(applied),
        }
    }

    /// One side, with the domain if it is needed: its columns first, then the side's own.
    fn side(&mut self, domain: &Domain, plan: &LogicalPlan, is_needed: bool) -> Result<Applied> {
        if !is_needed {
            return Ok(Applied {
                plan: plan.clone(),
                columns: Vec::new(),
                has_no_null: true,
            });
        }
        let domain = domain.again(self)?;
        if let LogicalPlan::Distinct(distinct) = plan {
            // stays on top, by which EXCEPT is told from EXCEPT ALL
            return self.distinct(&domain, distinct);
        }
        let applied = self.apply(&domain, plan)?;
        let columns = applied.columns.iter().cloned();
        let columns = columns.chain(plan.schema().columns()).map(Expr::Column);
        Ok(Applied {
            plan: projected(applied.plan, columns.collect())?,
            columns: applied.columns,
            has_no_null: applied.has_no_null,
        })
    }

    /// A full join gives the domain's columns on the side that is there.
    fn either(&mut self, applied: Applied, others: &[Column], join: &Join) -> Result<Applied> {
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for (left, right) in applied.columns.iter().zip(others) {
            let column = self.fresh("outer");
            let both = vec![Expr::Column(left.clone()), Expr::Column(right.clone())];
            exprs.push(coalesce(both).alias(column.name()));
            columns.push(column);
        }
        exprs.extend(join.schema.columns().into_iter().map(Expr::Column));
        Ok(Applied {
            plan: projected(applied.plan, exprs)?,
            columns,
            has_no_null: applied.has_no_null,
        })
    }
}
