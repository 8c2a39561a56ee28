//! Subqueries that depend on the row around them in ways that DataFusion does not decorrelate, or decorrelates wrongly,
//! and LATERAL: each becomes a join.
//!
//! What the subquery gives is computed for all values that it refers to at once (the *domain*: see [`apply`]), and joined
//! back to the rows. Where DataFusion is right ([`simple`]: conditions on the row in a WHERE clause) it keeps the
//! subquery; `IN` and `EXISTS` of others are brought to that form: `EXISTS (SELECT … FROM <rows for the domain> WHERE
//! domain IS NOT DISTINCT FROM row)`. Before, subqueries in aggregates, window functions, ORDER BY and ON are moved to
//! a projection below ([`lift`]). Runs on a plan that is not yet analysed.

mod aggregate;
mod apply;
mod domain;
mod first_rows;
mod joins;
mod lateral;
mod lift;
mod nearest;
mod references;
mod simple;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result, plan_datafusion_err};
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, Filter, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit,
};

use self::apply::is_row_wise;
use self::domain::{Domain, Reference, same};
use self::references::references;
use self::simple::{Use, is_simple};

pub use self::references::with_references;

/// `plan` without the subqueries of this module. `is_for_stream`: joins with the nearest row are marked as such.
pub fn decorrelated(plan: LogicalPlan, is_for_stream: bool) -> Result<LogicalPlan> {
    let mut decorrelation = Decorrelation {
        is_for_stream,
        ..Decorrelation::default()
    };
    decorrelation.plan(plan)
}

/// What [`references()`] says, for subqueries of all depths: DataFusion's binder does not see through nested ones.
pub fn complete_references(plan: LogicalPlan) -> Result<LogicalPlan> {
    let completed = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let completed = expr.transform_up(|part| on_subquery(part, with_references))?;
            Ok(completed.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(completed.data)
}

/// One statement's rewriting.
#[derive(Default)]
struct Decorrelation {
    /// How many columns have been given a name.
    named: usize,
    /// How many subqueries are around.
    depth: usize,
    /// What streams do in their own way is kept for them.
    is_for_stream: bool,
}

impl Decorrelation {
    /// A column's name that no other has.
    fn fresh(&mut self, kind: &str) -> Column {
        self.named += 1;
        Column::new_unqualified(format!("rm:{kind}{}", self.named))
    }

    fn plan(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        plan.transform_up(|node| self.node(node).map(Transformed::yes))
            .data()
    }

    /// A node whose inputs are done.
    fn node(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = self.inner_plans(plan)?;
        match plan {
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => self.host(plan),
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => {
                self.lifted(plan)
            }
            other => Ok(other),
        }
    }

    /// Does the subqueries of the subqueries in the expressions of `plan`.
    fn inner_plans(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !plan.expressions().iter().any(has_subquery) {
            return Ok(plan);
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let done = expr.transform_up(|part| {
                on_subquery(part, |subquery| {
                    self.depth += 1;
                    let plan = self.plan(subquery.subquery.as_ref().clone())?;
                    self.depth -= 1;
                    with_references(subquery.with_plan(Arc::new(plan)))
                })
            })?;
            Ok(done.update_data(|expr| name.restore(expr)))
        })
        .data()
    }

    /// A projection or filter, with the subqueries in its expressions.
    fn host(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !plan.expressions().iter().any(has_subquery) {
            return Ok(plan);
        }
        let names = NamePreserver::new(&plan);
        match plan {
            LogicalPlan::Projection(projection) => {
                let base = projection.input.as_ref().clone();
                let mut input = base.clone();
                let exprs = projection.expr.into_iter().map(|expr| {
                    let name = names.save(&expr);
                    Ok(name.restore(self.replaced(expr, &base, &mut input)?))
                });
                let exprs = exprs.collect::<Result<Vec<_>>>()?;
                let projection = Projection::try_new(exprs, Arc::new(input))?;
                Ok(LogicalPlan::Projection(projection))
            }
            LogicalPlan::Filter(filter) => {
                let base = filter.input.as_ref().clone();
                let mut input = base.clone();
                let predicate = self.replaced(filter.predicate, &base, &mut input)?;
                let columns = base.schema().columns();
                let is_wider = input.schema().fields().len() > columns.len();
                let filter = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?);
                if !is_wider {
                    return Ok(filter);
                }
                projected(filter, columns.into_iter().map(Expr::Column).collect())
            }
            other => Ok(other),
        }
    }

    /// `expr` over the rows of `base`, whose subqueries become simple tests, or columns that are joined to `input`.
    fn replaced(
        &mut self,
        expr: Expr,
        base: &LogicalPlan,
        input: &mut LogicalPlan,
    ) -> Result<Expr> {
        let replaced = expr.transform_up(|part| {
            let (subquery, of) = match &part {
                Expr::Exists(test) => (&test.subquery, Use::Test),
                Expr::InSubquery(test) => (&test.subquery, Use::Test),
                Expr::ScalarSubquery(subquery) => (subquery, Use::Value),
                _ => return Ok(Transformed::no(part)),
            };
            if is_simple(&subquery.subquery, of, base.schema())? {
                return match part {
                    Expr::InSubquery(test) => self.with_named_value(test),
                    other => Ok(Transformed::no(other)),
                };
            }
            let reaches_out = references(&subquery.subquery)?
                .iter()
                .any(|(_, column)| !base.schema().has_column(column));
            let done = match part {
                Expr::ScalarSubquery(subquery) => self.value(&subquery, base, input)?,
                Expr::Exists(test) if reaches_out => {
                    let count = self.counted(test.subquery, None, base, input)?;
                    signed(count, test.negated)
                }
                Expr::InSubquery(test) if reaches_out => {
                    let count = self.counted(test.subquery, Some(*test.expr), base, input)?;
                    signed(count, test.negated)
                }
                Expr::Exists(test) => {
                    let subquery = self.test(&test.subquery, base, false)?;
                    Expr::Exists(Exists::new(subquery, test.negated))
                }
                Expr::InSubquery(test) => {
                    let subquery = self.test(&test.subquery, base, true)?;
                    Expr::InSubquery(InSubquery::new(test.expr, subquery, test.negated))
                }
                other => other,
            };
            Ok(Transformed::new(done, true, TreeNodeRecursion::Jump))
        })?;
        Ok(replaced.data)
    }

    /// The subquery of a test in the form that DataFusion decorrelates. `has_value`: its first column counts.
    fn test(
        &mut self,
        subquery: &Subquery,
        base: &LogicalPlan,
        has_value: bool,
    ) -> Result<Subquery> {
        let own = references(&subquery.subquery)?;
        let domain = Domain::of_values(base, &own, self)?;
        let applied = self.apply(&domain, &subquery.subquery)?;
        let conditions = applied.columns.iter().zip(&own).map(|(ours, reference)| {
            let (field, column) = reference;
            let outer = Expr::OuterReferenceColumn(Arc::clone(field), column.clone());
            same(
                Expr::Column(ours.clone()),
                outer,
                applied.is_null_safe(field),
            )
        });
        let mut plan = applied.plan.clone();
        if let Some(condition) = conjunction(conditions.collect::<Vec<_>>()) {
            plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
        }
        if has_value {
            let value = first_column(&subquery.subquery)?;
            plan = self.named_value(plan, value)?;
        }
        with_references(subquery.with_plan(Arc::new(plan)))
    }

    /// `column` of `plan` under a name that no column below has: DataFusion would take it for that one too.
    fn named_value(&mut self, plan: LogicalPlan, column: Column) -> Result<LogicalPlan> {
        let value = Expr::Column(column).alias(self.fresh("value").name());
        projected(plan, vec![value])
    }

    fn with_named_value(&mut self, test: InSubquery) -> Result<Transformed<Expr>> {
        let plan = &test.subquery.subquery;
        let value = first_column(plan)?;
        if value.relation.is_some() || matches!(plan.as_ref(), LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(Expr::InSubquery(test)));
        }
        let plan = self.named_value(plan.as_ref().clone(), value)?;
        let subquery = test.subquery.with_plan(Arc::new(plan));
        let test = InSubquery::new(test.expr, subquery, test.negated);
        Ok(Transformed::yes(Expr::InSubquery(test)))
    }

    /// Joins the value of a scalar subquery, which gives one row at most, to `input`; the column that it is.
    fn value(
        &mut self,
        subquery: &Subquery,
        base: &LogicalPlan,
        input: &mut LogicalPlan,
    ) -> Result<Expr> {
        let plan = subquery.subquery.as_ref();
        let own: Vec<Reference> = references(plan)?
            .into_iter()
            .filter(|(_, column)| base.schema().has_column(column))
            .collect();
        let value = first_column(plan)?;
        let ours = self.fresh("value");
        let valued = Expr::Column(value).alias(ours.name());
        if !own.is_empty() && is_row_wise(plan) && always_gives_a_row(plan) {
            let (carried, restored) = self.carried(input, plan)?;
            let exprs = restored.into_iter().chain([valued]).collect();
            *input = projected(carried, exprs)?;
            return Ok(Expr::Column(ours));
        }
        let domain = Domain::of_values(base, &own, self)?;
        let applied = self.apply(&domain, plan)?;
        let on = applied.condition(&own);
        let columns = applied.columns.iter().cloned().map(Expr::Column);
        let right = projected(applied.plan, columns.chain([valued]).collect())?;
        *input = LogicalPlanBuilder::from(input.clone())
            .join_on(right, JoinType::Left, [on])?
            .build()?;
        Ok(Expr::Column(ours))
    }

    /// Whether the subquery gives rows (that equal `value`, if it is given), as a comparison of their number.
    fn counted(
        &mut self,
        subquery: Subquery,
        value: Option<Expr>,
        base: &LogicalPlan,
        input: &mut LogicalPlan,
    ) -> Result<Expr> {
        let mut plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
        if let Some(value) = value {
            let value = as_outer(value, base.schema())?;
            let found = Expr::Column(first_column(&subquery.subquery)?);
            plan = plan.filter(value.eq(found))?;
        }
        let plan = plan
            .aggregate(Vec::<Expr>::new(), vec![count_all()])?
            .build()?;
        let count = with_references(subquery.with_plan(Arc::new(plan)))?;
        Ok(self.value(&count, base, input)?.gt(lit(0_i64)))
    }
}

fn signed(test: Expr, negated: bool) -> Expr {
    match negated {
        true => Expr::Not(Box::new(test)),
        false => test,
    }
}

/// Whether `plan`, which is row-wise, gives one row for each row around it.
fn always_gives_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => always_gives_a_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => always_gives_a_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

/// The columns of `base` in `expr` as a subquery of it sees them.
pub fn as_outer(expr: Expr, base: &DFSchema) -> Result<Expr> {
    let outer = expr.transform_up(|part| match part {
        Expr::Column(column) => {
            let (_, field) = base.qualified_field_from_column(&column)?;
            let outer = Expr::OuterReferenceColumn(Arc::clone(field), column);
            Ok(Transformed::yes(outer))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outer.data)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_)
    )
}

pub(super) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_subquery(part))).unwrap_or(false)
}

/// `part` with its subquery, if it is one, as `change` makes it.
pub(super) fn on_subquery(
    part: Expr,
    change: impl FnOnce(Subquery) -> Result<Subquery>,
) -> Result<Transformed<Expr>> {
    Ok(Transformed::yes(match part {
        Expr::Exists(test) => Expr::Exists(Exists::new(change(test.subquery)?, test.negated)),
        Expr::InSubquery(test) => Expr::InSubquery(InSubquery::new(
            test.expr,
            change(test.subquery)?,
            test.negated,
        )),
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(change(subquery)?),
        other => return Ok(Transformed::no(other)),
    }))
}

fn first_column(plan: &LogicalPlan) -> Result<Column> {
    let column = plan.schema().columns().into_iter().next();
    column.ok_or_else(|| plan_datafusion_err!("subquery has no column"))
}

fn projected(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    let projection = Projection::try_new(exprs, Arc::new(plan))?;
    Ok(LogicalPlan::Projection(projection))
}
