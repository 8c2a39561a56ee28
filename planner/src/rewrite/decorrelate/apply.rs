//! Computes a dependent plan for every row of a domain, by moving the domain down to where it is referred to
//! (Neumann and Kemper, "Unnesting Arbitrary Queries", 2015).
//!
//! Nodes that work row by row take the domain's columns along as they are. All others need the domain's rows to be
//! distinct: they work once per row of the domain, so its columns become part of what they group, partition or join by.
//! Where a condition equates each column of the domain with a value of the plan, the domain is not needed at all:
//! those values take its place ([`derived`]).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result, not_impl_err};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    Union, Unnest,
};

use super::domain::{Applied, Domain, all_same};
use super::references::references;
use super::{Decorrelation, projected};

/// Whether nothing in `plan` looks at more than a row at a time, but for an aggregate that gives it its one row.
pub fn is_row_wise(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_row_wise(&projection.input),
        LogicalPlan::Filter(filter) => is_row_wise(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => is_row_wise(&alias.input),
        LogicalPlan::Subquery(subquery) => is_row_wise(&subquery.subquery),
        LogicalPlan::Unnest(unnest) => is_row_wise(&unnest.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

impl Decorrelation {
    /// The rows of `plan` for each row of `domain`; of a distinct one, also for others, if that is simpler.
    pub fn apply(&mut self, domain: &Domain, plan: &LogicalPlan) -> Result<Applied> {
        if domain.columns.is_empty() {
            return Ok(Applied {
                plan: plan.clone(),
                columns: Vec::new(),
                has_no_null: true,
            });
        }
        let refers_to = references(plan)?;
        if !domain.answers(&refers_to) {
            return beside(domain, plan);
        }
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.apply(domain, &projection.input)?;
                over(input, domain, &projection.expr, &projection.schema)
            }
            LogicalPlan::Filter(filter) => self.filtered(domain, filter),
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.apply(domain, &alias.input)?;
                let columns = alias.input.schema().columns().into_iter();
                let exprs: Vec<Expr> = columns.map(Expr::Column).collect();
                over(input, domain, &exprs, &alias.schema)
            }
            LogicalPlan::Subquery(subquery) => self.apply(domain, &subquery.subquery),
            LogicalPlan::Unnest(unnest) => {
                let input = self.apply(domain, &unnest.input)?;
                let options = unnest.options.clone();
                let unnest =
                    Unnest::try_new(Arc::new(input.plan), unnest.exec_columns.clone(), options)?;
                Ok(Applied {
                    plan: LogicalPlan::Unnest(unnest),
                    ..input
                })
            }
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
                self.one_row(domain, aggregate)
            }
            _ if !domain.is_distinct => {
                let (values, here) = domain.values(&refers_to, self)?;
                let applied = self.apply(&values, plan)?;
                let on = all_same(&here, &applied.columns);
                let joined = LogicalPlanBuilder::from(domain.plan.clone())
                    .join_on(applied.plan, JoinType::Inner, on)?
                    .build()?;
                Ok(Applied {
                    plan: joined,
                    columns: domain.own_columns(),
                    has_no_null: false,
                })
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.apply(domain, &sort.input),
            LogicalPlan::Limit(limit) => self.limit(domain, limit),
            LogicalPlan::Aggregate(aggregate) => self.groups(domain, aggregate),
            LogicalPlan::Distinct(distinct) => self.distinct(domain, distinct),
            LogicalPlan::Window(window) => self.window(domain, window),
            LogicalPlan::Join(join) => self.join_within(domain, join),
            LogicalPlan::Union(union) => self.union(domain, union),
            other => not_impl_err!(
                "{} in a subquery that refers to the row around it",
                other
                    .display()
                    .to_string()
                    .split(':')
                    .next()
                    .unwrap_or_default()
            ),
        }
    }

    fn filtered(&mut self, domain: &Domain, filter: &Filter) -> Result<Applied> {
        if domain.is_distinct
            && !domain.answers(&references(&filter.input)?)
            && let Some(applied) = derived(domain, filter, self)?
        {
            return Ok(applied);
        }
        let input = self.apply(domain, &filter.input)?;
        let predicate = resolved(filter.predicate.clone(), domain, &input.columns)?;
        let filter = Filter::try_new(predicate, Arc::new(input.plan))?;
        Ok(Applied {
            plan: LogicalPlan::Filter(filter),
            ..input
        })
    }

    fn union(&mut self, domain: &Domain, union: &Union) -> Result<Applied> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        let mut has_no_null = true;
        for input in &union.inputs {
            let again = domain.again(self)?;
            let applied = self.apply(&again, input)?;
            has_no_null &= applied.has_no_null;
            let columns = applied.columns.into_iter().chain(input.schema().columns());
            let columns = columns.map(Expr::Column).collect();
            inputs.push(Arc::new(projected(applied.plan, columns)?));
        }
        let united = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let mut united_columns = united.schema().columns();
        let of_plan = united_columns.split_off(domain.columns.len());
        let applied = Applied {
            columns: united_columns,
            plan: united,
            has_no_null,
        };
        let exprs: Vec<Expr> = of_plan.into_iter().map(Expr::Column).collect();
        over(applied, domain, &exprs, &union.schema)
    }
}

/// Every row of `plan` with every row of the domain.
fn beside(domain: &Domain, plan: &LogicalPlan) -> Result<Applied> {
    let is_nothing = |plan: &LogicalPlan| matches!(plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row);
    let plan = match is_nothing(plan) && plan.schema().fields().is_empty() {
        true => domain.plan.clone(),
        false => LogicalPlanBuilder::from(domain.plan.clone())
            .cross_join(plan.clone())?
            .build()?,
    };
    Ok(Applied {
        plan,
        columns: domain.own_columns(),
        has_no_null: false,
    })
}

/// `exprs` over what was applied, named as in `schema`, and the domain's columns.
pub fn over(input: Applied, domain: &Domain, exprs: &[Expr], schema: &DFSchema) -> Result<Applied> {
    let mut all: Vec<Expr> = input.columns.iter().cloned().map(Expr::Column).collect();
    for (expr, (qualifier, field)) in exprs.iter().zip(schema.iter()) {
        let expr = resolved(expr.clone(), domain, &input.columns)?;
        let name = (qualifier.cloned(), field.name().clone());
        all.push(match expr.qualified_name() == name {
            true => expr,
            false => expr.unalias().alias_qualified(name.0, name.1),
        });
    }
    let plan = LogicalPlan::Projection(Projection::try_new(all, Arc::new(input.plan))?);
    Ok(Applied { plan, ..input })
}

/// `expr` with the domain's columns, which are now called `columns`, in place of the references to them.
pub fn resolved(expr: Expr, domain: &Domain, columns: &[Column]) -> Result<Expr> {
    replaced(expr, domain, |index| Expr::Column(columns[index].clone()))
}

fn replaced(expr: Expr, domain: &Domain, with: impl Fn(usize) -> Expr) -> Result<Expr> {
    let replaced = expr.transform_up(|part| {
        let place = match &part {
            Expr::OuterReferenceColumn(_, column) => domain
                .columns
                .iter()
                .position(|(theirs, _)| theirs == column),
            _ => None,
        };
        Ok(match place {
            Some(index) => Transformed::yes(with(index)),
            None => Transformed::no(part),
        })
    })?;
    Ok(replaced.data)
}

/// The filtered rows, if each column of the domain is equated with a value of theirs, which then stands for it.
fn derived(domain: &Domain, filter: &Filter, names: &mut Decorrelation) -> Result<Option<Applied>> {
    let schema = filter.input.schema();
    let conjuncts = split_conjunction(&filter.predicate);
    let mut values: Vec<Expr> = Vec::new();
    for (theirs, _) in &domain.columns {
        let value = conjuncts
            .iter()
            .find_map(|conjunct| equated(conjunct, theirs, schema));
        match value {
            Some(value) => values.push(value),
            None => return Ok(None),
        }
    }
    let mut rest: Vec<Expr> = Vec::new();
    for conjunct in conjuncts {
        let with_values = replaced(conjunct.clone(), domain, |index| values[index].clone())?;
        match with_values {
            // a value that equals itself is one that is not NULL
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Eq,
                right,
            }) if left == right => rest.push(left.is_not_null()),
            other => rest.push(other),
        }
    }
    let mut plan = filter.input.as_ref().clone();
    if let Some(condition) = conjunction(rest) {
        plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
    }
    let columns: Vec<Column> = values.iter().map(|_| names.fresh("outer")).collect();
    let own = schema.columns().into_iter().map(Expr::Column);
    let values = values.into_iter().zip(&columns);
    let values = values.map(|(value, column)| value.alias(column.name()));
    Ok(Some(Applied {
        plan: projected(plan, values.chain(own).collect())?,
        columns,
        has_no_null: true,
    }))
}

/// What `conjunct` says that the column `theirs` of the row around equals: of the same type, and the same value then.
fn equated(conjunct: &Expr, theirs: &Column, schema: &DFSchema) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = conjunct
    else {
        return None;
    };
    let (own, field) = match (left.as_ref(), right.as_ref()) {
        (own, Expr::OuterReferenceColumn(field, column)) if column == theirs => (own, field),
        (Expr::OuterReferenceColumn(field, column), own) if column == theirs => (own, field),
        _ => return None,
    };
    let is_own = !own.contains_outer() && own.any_column_refs();
    let is_same = own.get_type(schema).ok().as_ref() == Some(field.data_type());
    (is_own && is_same && is_identity(field.data_type())).then(|| own.clone())
}

/// Whether values of the type that are equal can not be told apart.
fn is_identity(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::Date32
                | DataType::Timestamp(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
        )
}
