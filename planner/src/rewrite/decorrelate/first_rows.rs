//! LIMIT per row of a domain: the place of a row among those of the domain's row.

use std::sync::Arc;

use datafusion::common::{Column, Result, not_impl_err};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, FetchType, Filter, Limit, LogicalPlan, SkipType, Window, lit,
};

use super::apply::{over, resolved};
use super::domain::{Applied, Domain};
use super::{Decorrelation, projected};
use crate::functions::{rank, row_number};
use crate::rewrite::first_rows::ties_of;

/// Which rows of an order are wanted.
struct Rows {
    skip: u64,
    fetch: Option<u64>,
    has_ties: bool,
}

impl Decorrelation {
    pub fn limit(&mut self, domain: &Domain, limit: &Limit) -> Result<Applied> {
        let ties = ties_of(limit)?;
        let (SkipType::Literal(skip), Ok(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type())
        else {
            return not_impl_err!("OFFSET with anything but a number in a correlated subquery");
        };
        let fetch = match (ties, fetch) {
            (Some(fetch), _) => Some(fetch),
            (None, FetchType::Literal(fetch)) => fetch.map(|fetch| fetch as u64),
            (None, FetchType::UnsupportedExpr) => {
                return not_impl_err!("LIMIT with anything but a number in a correlated subquery");
            }
        };
        let rows = Rows {
            skip: skip as u64,
            fetch,
            has_ties: ties.is_some(),
        };
        self.first(domain, &limit.input, &rows)
    }

    fn first(&mut self, domain: &Domain, plan: &LogicalPlan, rows: &Rows) -> Result<Applied> {
        match plan {
            LogicalPlan::Projection(projection) if is_sorted(&projection.input) => {
                let input = self.first(domain, &projection.input, rows)?;
                over(input, domain, &projection.expr, &projection.schema)
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let input = self.apply(domain, &sort.input)?;
                let order = sort.expr.iter().map(|sort| {
                    let expr = resolved(sort.expr.clone(), domain, &input.columns)?;
                    Ok(sort.clone().with_expr(expr))
                });
                let order = order.collect::<Result<Vec<_>>>()?;
                self.placed(input, sort.input.schema().columns(), order, rows)
            }
            other => {
                let input = self.apply(domain, other)?;
                self.placed(input, other.schema().columns(), Vec::new(), rows)
            }
        }
    }

    /// The wanted rows of `input`, whose own columns are `own`.
    fn placed(
        &mut self,
        input: Applied,
        own: Vec<Column>,
        order: Vec<SortExpr>,
        rows: &Rows,
    ) -> Result<Applied> {
        let all: Vec<Expr> = input
            .columns
            .iter()
            .cloned()
            .chain(own)
            .map(Expr::Column)
            .collect();
        let partition: Vec<Expr> = input.columns.iter().cloned().map(Expr::Column).collect();
        let mut places = Vec::new();
        let mut kept: Option<Expr> = None;
        let mut keep = |condition: Expr| {
            kept = Some(match kept.take() {
                Some(kept) => kept.and(condition),
                None => condition,
            });
        };
        let mut place = |function: Expr, name: &Column| -> Result<()> {
            let mut function = function.partition_by(partition.clone());
            if !order.is_empty() {
                function = function.order_by(order.clone());
            }
            places.push(function.build()?.alias(name.name()));
            Ok(())
        };
        let (row, tie) = (self.fresh("row"), self.fresh("rank"));
        if let Some(fetch) = rows.fetch {
            let last = rows.skip.saturating_add(fetch).min(i64::MAX as u64) as i64;
            let by = if rows.has_ties { &tie } else { &row };
            keep(Expr::Column(by.clone()).lt_eq(lit(last)));
        }
        if rows.skip > 0 {
            keep(Expr::Column(row.clone()).gt(lit(rows.skip as i64)));
        }
        if rows.has_ties {
            place(rank(), &tie)?;
        }
        if !rows.has_ties || rows.skip > 0 {
            place(row_number(), &row)?;
        }
        let Some(kept) = kept else {
            return Ok(input);
        };
        let window = LogicalPlan::Window(Window::try_new(places, Arc::new(input.plan))?);
        let filter = LogicalPlan::Filter(Filter::try_new(kept, Arc::new(window))?);
        Ok(Applied {
            plan: projected(filter, all)?,
            columns: input.columns,
            has_no_null: input.has_no_null,
        })
    }
}

fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Projection(projection) => is_sorted(&projection.input),
        _ => false,
    }
}
