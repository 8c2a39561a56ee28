//! Groups, distinct rows and window functions per row of a domain.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, Result, plan_datafusion_err};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Window,
    lit, when,
};

use super::apply::{over, resolved};
use super::domain::{Applied, Domain, all_same};
use super::references::references;
use super::{Decorrelation, projected};
use crate::properties::unaliased;

impl Decorrelation {
    /// An aggregate with GROUP BY: each group of each row of the domain.
    pub fn groups(&mut self, domain: &Domain, aggregate: &Aggregate) -> Result<Applied> {
        let input = self.apply(domain, &aggregate.input)?;
        let plan = LogicalPlan::Aggregate(aggregate.clone());
        let names = NamePreserver::new(&plan);
        let resolve = |expr: &Expr| -> Result<Expr> {
            let name = names.save(expr);
            let expr = resolved(expr.clone(), domain, &input.columns)?;
            Ok(name.restore(expr))
        };
        let mut keys = aggregate
            .group_expr
            .iter()
            .map(|key| match key {
                Expr::GroupingSet(_) => resolved(key.clone(), domain, &input.columns),
                key => resolve(key),
            })
            .collect::<Result<Vec<_>>>()?;
        keys.extend(input.columns.iter().cloned().map(Expr::Column));
        let calls = aggregate.aggr_expr.iter().map(resolve);
        let calls = calls.collect::<Result<Vec<_>>>()?;
        let grouped = Aggregate::try_new(Arc::new(input.plan), keys, calls)?;
        Ok(Applied {
            plan: LogicalPlan::Aggregate(grouped),
            columns: input.columns,
            has_no_null: input.has_no_null,
        })
    }

    /// An aggregate without GROUP BY: one row for each row of the domain, also where there is nothing to aggregate.
    pub fn one_row(&mut self, domain: &Domain, aggregate: &Aggregate) -> Result<Applied> {
        let refers_to = references(&LogicalPlan::Aggregate(aggregate.clone()))?;
        let (values, here) = domain.values(&refers_to, self)?;
        let grouped = self.groups(&values, aggregate)?;
        let own = aggregate.schema.columns();
        // Under names of their own, of which one says whether there was anything.
        let found = self.fresh("found");
        let mut exprs: Vec<Expr> = grouped.columns.iter().cloned().map(Expr::Column).collect();
        exprs.push(lit(true).alias(found.name()));
        let mut results: Vec<Expr> = Vec::new();
        for (column, call) in own.iter().zip(&aggregate.aggr_expr) {
            let ours = self.fresh("result");
            exprs.push(Expr::Column(column.clone()).alias(ours.name()));
            results.push(or_default(ours, &found, call, aggregate)?);
        }
        let right = projected(grouped.plan, exprs)?;
        let on = all_same(&here, &grouped.columns);
        let joined = LogicalPlanBuilder::from(domain.plan.clone())
            .join_on(right, JoinType::Left, on)?
            .build()?;
        let applied = Applied {
            plan: joined,
            columns: domain.own_columns(),
            has_no_null: false,
        };
        over(applied, domain, &results, &aggregate.schema)
    }

    pub fn distinct(&mut self, domain: &Domain, distinct: &Distinct) -> Result<Applied> {
        match distinct {
            Distinct::All(input) => {
                let applied = self.apply(domain, input)?;
                let columns = applied.columns.iter().cloned();
                let columns = columns.chain(input.schema().columns());
                let rows = projected(applied.plan, columns.map(Expr::Column).collect())?;
                Ok(Applied {
                    plan: LogicalPlan::Distinct(Distinct::All(Arc::new(rows))),
                    columns: applied.columns,
                    has_no_null: applied.has_no_null,
                })
            }
            Distinct::On(on) => self.distinct_on(domain, on),
        }
    }

    fn distinct_on(&mut self, domain: &Domain, on: &DistinctOn) -> Result<Applied> {
        let input = self.apply(domain, &on.input)?;
        let domain_columns = || input.columns.iter().cloned().map(Expr::Column);
        let resolve = |expr: &Expr| resolved(expr.clone(), domain, &input.columns);
        let keys = on.on_expr.iter().map(resolve).collect::<Result<Vec<_>>>()?;
        let order = on
            .sort_expr
            .iter()
            .flatten()
            .map(|sort| Ok(sort.clone().with_expr(resolve(&sort.expr)?)))
            .collect::<Result<Vec<SortExpr>>>()?;
        let order = on.sort_expr.as_ref().map(|_| {
            let by_domain = domain_columns().map(|column| column.sort(true, false));
            by_domain.chain(order).collect::<Vec<_>>()
        });
        let mut selected: Vec<Expr> = domain_columns().collect();
        for (expr, (qualifier, field)) in on.select_expr.iter().zip(on.schema.iter()) {
            let expr = resolve(expr)?.unalias();
            selected.push(expr.alias_qualified(qualifier.cloned(), field.name()));
        }
        let keys = domain_columns().chain(keys).collect();
        let first = DistinctOn::try_new(keys, selected, order, Arc::new(input.plan))?;
        Ok(Applied {
            plan: LogicalPlan::Distinct(Distinct::On(first)),
            columns: input.columns,
            has_no_null: input.has_no_null,
        })
    }

    pub fn window(&mut self, domain: &Domain, window: &Window) -> Result<Applied> {
        let input = self.apply(domain, &window.input)?;
        let plan = LogicalPlan::Window(window.clone());
        let names = NamePreserver::new(&plan);
        let results = window
            .window_expr
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                let mut expr = resolved(expr.clone(), domain, &input.columns)?;
                if let Expr::Alias(alias) = &mut expr {
                    partition(&mut alias.expr, &input.columns);
                } else {
                    partition(&mut expr, &input.columns);
                }
                Ok(name.restore(expr))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Applied {
            plan: LogicalPlan::Window(Window::try_new(results, Arc::new(input.plan))?),
            columns: input.columns,
            has_no_null: input.has_no_null,
        })
    }
}

fn partition(expr: &mut Expr, by: &[Column]) {
    if let Expr::WindowFunction(function) = expr {
        let columns = by.iter().cloned().map(Expr::Column);
        function.params.partition_by.extend(columns);
    }
}

/// The result of `call`, which `found` is not NULL beside, or what it gives for no rows at all.
fn or_default(result: Column, found: &Column, call: &Expr, aggregate: &Aggregate) -> Result<Expr> {
    let Expr::AggregateFunction(function) = unaliased(call) else {
        return Err(plan_datafusion_err!("not an aggregate: {call}"));
    };
    let data_type = call.get_type(aggregate.input.schema())?;
    let default = function.func.default_value(&data_type)?;
    let result = Expr::Column(result);
    if default.is_null() {
        return Ok(result);
    }
    when(Expr::Column(found.clone()).is_null(), lit(default)).otherwise(result)
}
