//! Subqueries in aggregates, GROUP BY, window functions, ORDER BY and ON, moved to a projection below: DataFusion makes
//! joins of those in projections and filters only.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, not_impl_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, Filter, Join, LogicalPlan, Sort, Window};

use super::lateral::columns_of;
use super::{Decorrelation, has_subquery, is_subquery, projected};

/// Subqueries that were moved, and the columns that stand for them.
type Moved = Vec<(Expr, Expr)>;

impl Decorrelation {
    /// `plan`, an aggregate, window or sort, without subqueries in its expressions.
    pub fn lifted(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !plan.expressions().iter().any(has_subquery) {
            return Ok(plan);
        }
        let names = NamePreserver::new(&plan);
        let mut moved = Moved::new();
        let mut lift = |expr: Expr| -> Result<Expr> {
            let name = names.save(&expr);
            Ok(name.restore(self.moved(expr, &mut moved)?))
        };
        match plan {
            LogicalPlan::Aggregate(aggregate) => {
                let keys = aggregate.group_expr.into_iter().map(&mut lift);
                let keys = keys.collect::<Result<Vec<_>>>()?;
                let calls = aggregate.aggr_expr.into_iter().map(&mut lift);
                let calls = calls.collect::<Result<Vec<_>>>()?;
                let input = Arc::new(self.below(&aggregate.input, moved)?);
                Aggregate::try_new(input, keys, calls).map(LogicalPlan::Aggregate)
            }
            LogicalPlan::Window(window) => {
                let columns = window.schema.columns();
                let results = window.window_expr.into_iter().map(&mut lift);
                let results = results.collect::<Result<Vec<_>>>()?;
                let input = Arc::new(self.below(&window.input, moved)?);
                let window = LogicalPlan::Window(Window::try_new(results, input)?);
                projected(window, columns.into_iter().map(Expr::Column).collect())
            }
            LogicalPlan::Sort(sort) => {
                let columns = columns_of(&sort.input);
                let by = sort.expr.into_iter().map(|by| {
                    let expr = lift(by.expr.clone())?.unalias();
                    Ok(by.with_expr(expr))
                });
                let by = by.collect::<Result<Vec<_>>>()?;
                let wider = widened(&sort.input, &moved)?;
                let input = Arc::new(self.below(&wider, moved)?);
                let sort = Sort {
                    expr: by,
                    input,
                    fetch: sort.fetch,
                };
                projected(LogicalPlan::Sort(sort), columns)
            }
            other => Ok(other),
        }
    }

    /// A join, without subqueries in its condition.
    pub fn conditions(&mut self, mut join: Join) -> Result<LogicalPlan> {
        if !join.filter.as_ref().is_some_and(has_subquery) {
            return Ok(LogicalPlan::Join(join));
        }
        let filter = join.filter.take().into_iter();
        let (with, without): (Vec<Expr>, Vec<Expr>) = filter
            .flat_map(split_conjunction_owned)
            .partition(has_subquery);
        join.filter = conjunction(without);
        if join.join_type == JoinType::Inner {
            let Some(condition) = conjunction(with) else {
                return Ok(LogicalPlan::Join(join));
            };
            let joined = Arc::new(LogicalPlan::Join(join));
            return self.host(LogicalPlan::Filter(Filter::try_new(condition, joined)?));
        }
        self.of_one_side(join, with)
    }

    /// An outer join's condition, of which each subquery is about the rows of one side.
    fn of_one_side(&mut self, join: Join, with: Vec<Expr>) -> Result<LogicalPlan> {
        let columns = join.schema.columns();
        let (mut of_left, mut of_right) = (Moved::new(), Moved::new());
        let mut conditions: Vec<Expr> = join.filter.iter().cloned().collect();
        for condition in with {
            let mut moved = Moved::new();
            conditions.push(self.moved(condition, &mut moved)?);
            for (subquery, column) in moved {
                let refers_to = own_columns(&subquery);
                let is_of = |input: &LogicalPlan| {
                    refers_to
                        .iter()
                        .all(|column| input.schema().has_column(column))
                };
                if is_of(&join.left) {
                    of_left.push((subquery, column));
                } else if is_of(&join.right) {
                    of_right.push((subquery, column));
                } else {
                    return not_impl_err!(
                        "a subquery that refers to both sides in the ON of an outer join"
                    );
                }
            }
        }
        let left = self.below(&join.left, of_left)?;
        let right = self.below(&join.right, of_right)?;
        let joined = Join::try_new(
            Arc::new(left),
            Arc::new(right),
            join.on,
            conjunction(conditions),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let columns = columns.into_iter().map(Expr::Column).collect();
        projected(LogicalPlan::Join(joined), columns)
    }

    /// `expr` with columns in place of its subqueries.
    fn moved(&mut self, expr: Expr, moved: &mut Moved) -> Result<Expr> {
        let without = expr.transform_down(|part| {
            if !is_subquery(&part) {
                return Ok(Transformed::no(part));
            }
            let known = moved.iter().find(|(subquery, _)| *subquery == part);
            let column = match known {
                Some((_, column)) => column.clone(),
                None => {
                    let column = Expr::Column(self.fresh("subquery"));
                    moved.push((part, column.clone()));
                    column
                }
            };
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        })?;
        Ok(without.data)
    }

    /// `input` with the columns that stand for subqueries.
    fn below(&mut self, input: &LogicalPlan, moved: Moved) -> Result<LogicalPlan> {
        if moved.is_empty() {
            return Ok(input.clone());
        }
        let values = moved.into_iter().map(|(subquery, column)| {
            let (_, name) = column.qualified_name();
            subquery.alias(name)
        });
        let exprs = columns_of(input).into_iter().chain(values).collect();
        let projection = projected(input.clone(), exprs)?;
        self.host(projection)
    }
}

/// `plan`, the select list, with the columns below it that subqueries in ORDER BY refer to.
fn widened(plan: &LogicalPlan, moved: &Moved) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else {
        return Ok(plan.clone());
    };
    let below = projection.input.schema();
    let mut exprs = projection.expr.clone();
    for column in moved.iter().flat_map(|(subquery, _)| own_columns(subquery)) {
        let expr = Expr::Column(column.clone());
        let is_missing = !projection.schema.has_column(&column) && !exprs.contains(&expr);
        if is_missing && below.has_column(&column) {
            exprs.push(expr);
        }
    }
    projected(projection.input.as_ref().clone(), exprs)
}

/// The columns of the row that a subquery is for.
fn own_columns(subquery: &Expr) -> Vec<datafusion::common::Column> {
    let (outer, own) = match subquery {
        Expr::Exists(test) => (&test.subquery.outer_ref_columns, None),
        Expr::InSubquery(test) => (&test.subquery.outer_ref_columns, Some(&test.expr)),
        Expr::ScalarSubquery(subquery) => (&subquery.outer_ref_columns, None),
        _ => return Vec::new(),
    };
    let outer = outer.iter().filter_map(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
        _ => None,
    });
    let own = own
        .into_iter()
        .flat_map(|expr| expr.column_refs().into_iter().cloned());
    outer.chain(own).collect()
}
