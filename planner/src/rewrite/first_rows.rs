//! DISTINCT ON and WITH TIES as filters on the place of a row, which is what they mean.
//!
//! - `FETCH FIRST n ROWS ONLY` is `LIMIT n`, on the AST.
//! - `FETCH FIRST n ROWS WITH TIES` becomes `LIMIT rm_with_ties(n)` there, and over the sort of the logical plan, where
//!   the order is known, `rank() OVER (ORDER BY …) <= offset + n AND row_number() OVER (…) > offset`.
//! - `DISTINCT ON (k) … ORDER BY k, o` becomes `row_number() OVER (PARTITION BY k ORDER BY o) = 1`. (DataFusion
//!   makes an aggregate `first_value(… ORDER BY o)` of every column, and panics if a column is in `o` twice.)

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{
    ColumnarValue, Distinct, DistinctOn, Expr, ExprFunctionExt, Filter, Limit, LogicalPlan,
    Projection, ScalarFunctionArgs, ScalarUDFImpl, Signature, Sort, Volatility, Window, col, lit,
};
use datafusion::optimizer::AnalyzerRule;
use sqlparser::ast::{Expr as AstExpr, Fetch, LimitClause, Query, Value};

use crate::error::{PlanError, Result as PlanResult};
use crate::functions::{rank, row_number};
use crate::rewrite::expressions::call;

/// Names of the columns for a row's place.
const RANK: &str = "rm:rank";
const ROW: &str = "rm:row";

/// Turns FETCH into LIMIT.
pub fn fetch_as_limit(query: &mut Query) -> PlanResult<()> {
    let Some(Fetch {
        with_ties,
        percent,
        quantity,
    }) = query.fetch.take()
    else {
        return Ok(());
    };
    if percent {
        return Err(PlanError::Unsupported {
            feature: "FETCH with PERCENT".to_string(),
            hint: "fetch a number of rows".to_string(),
        });
    }
    if with_ties && query.order_by.is_none() {
        return Err(PlanError::Syntax {
            message: "WITH TIES cannot be specified without ORDER BY clause".to_string(),
            position: None,
        });
    }
    let one = || AstExpr::Value(Value::Number("1".to_string(), false).into());
    let quantity = quantity.unwrap_or_else(one);
    let limited = match with_ties {
        true => call(WithTies::NAME, vec![quantity]),
        false => quantity,
    };
    let offset = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, .. }) => offset,
        Some(LimitClause::OffsetCommaLimit { .. }) | None => None,
    };
    query.limit_clause = Some(LimitClause::LimitOffset {
        limit: Some(limited),
        offset,
        limit_by: Vec::new(),
    });
    Ok(())
}

/// `rm_with_ties(n)`: marks the limit of a query that wants ties too. Never runs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct WithTies {
    signature: Signature,
}

impl WithTies {
    const NAME: &'static str = "rm_with_ties";
}

impl Default for WithTies {
    fn default() -> Self {
        WithTies {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WithTies {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("WITH TIES needs a number of rows")
    }
}

/// Analyzer rule: gives limits with ties their meaning. Runs before coercion.
#[derive(Debug, Default)]
pub struct LimitWithTies;

impl AnalyzerRule for LimitWithTies {
    fn name(&self) -> &str {
        "limit_with_ties"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Limit(limit) = &plan else {
                return Ok(Transformed::no(plan));
            };
            let Some(fetch) = ties_of(limit)? else {
                return Ok(Transformed::no(plan));
            };
            let skip = match limit.skip.as_deref() {
                None => 0,
                Some(skip) => number(skip)?,
            };
            Ok(Transformed::yes(with_ties(&limit.input, skip, fetch)?))
        })?;
        Ok(rewritten.data)
    }
}

/// How many rows a limit `WITH TIES` wants.
pub(super) fn ties_of(limit: &Limit) -> Result<Option<u64>> {
    let mut fetch = limit.fetch.as_deref();
    if let Some(Expr::Cast(cast)) = fetch {
        fetch = Some(&cast.expr);
    }
    match fetch {
        Some(Expr::ScalarFunction(function)) if function.name() == WithTies::NAME => {
            function.args.first().map(number).transpose()
        }
        _ => Ok(None),
    }
}

fn number(expr: &Expr) -> Result<u64> {
    let number = match expr {
        Expr::Literal(ScalarValue::Int64(number), _) => *number,
        Expr::Literal(ScalarValue::Int32(number), _) => number.map(i64::from),
        Expr::Cast(cast) => return number(&cast.expr),
        _ => None,
    };
    match number.map(u64::try_from) {
        Some(Ok(number)) => Ok(number),
        _ => plan_err!("FETCH and OFFSET with ties take a number of rows, not {expr}"),
    }
}

/// The rows of a sorted plan behind the first `skip`, `fetch` of them and those that equal the last.
fn with_ties(input: &LogicalPlan, skip: u64, fetch: u64) -> Result<LogicalPlan> {
    match input {
        LogicalPlan::Projection(projection) => {
            let below = with_ties(&projection.input, skip, fetch)?;
            Ok(LogicalPlan::Projection(Projection::try_new_with_schema(
                projection.expr.clone(),
                Arc::new(below),
                Arc::clone(&projection.schema),
            )?))
        }
        LogicalPlan::Sort(sort) => {
            let place = |function: Expr, name: &str| {
                let over = function.order_by(sort.expr.clone()).build();
                over.map(|over| over.alias(name))
            };
            let mut places = vec![place(rank(), RANK)?];
            let last = skip.saturating_add(fetch).min(i64::MAX as u64);
            let mut kept = named(RANK).lt_eq(lit(last as i64));
            if skip > 0 {
                places.push(place(row_number(), ROW)?);
                kept = kept.and(named(ROW).gt(lit(skip as i64)));
            }
            let first = ranked(&sort.input, places, kept)?;
            let first = all_columns(&sort.input, first)?;
            Ok(served(sort.expr.clone(), first))
        }
        _ => plan_err!("WITH TIES cannot be specified without ORDER BY clause"),
    }
}

/// Analyzer rule: DISTINCT ON as a row's place. Runs after coercion.
#[derive(Debug, Default)]
pub struct DistinctOnAsPlace;

impl AnalyzerRule for DistinctOnAsPlace {
    fn name(&self) -> &str {
        "distinct_on_as_place"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Distinct(Distinct::On(distinct)) => {
                Ok(Transformed::yes(first_of_each(distinct)?))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(rewritten.data)
    }
}

fn first_of_each(distinct: DistinctOn) -> Result<LogicalPlan> {
    let DistinctOn {
        on_expr,
        select_expr,
        sort_expr,
        input,
        schema,
    } = distinct;
    let mut by_key = sort_expr.unwrap_or_default();
    let order: Vec<SortExpr> = by_key.split_off(on_expr.len().min(by_key.len()));
    let place = row_number().partition_by(on_expr).order_by(order).build()?;
    let mut first = ranked(&input, vec![place.alias(ROW)], named(ROW).lt_eq(lit(1_i64)))?;
    if !by_key.is_empty() {
        first = served(by_key, first);
    }
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(
        select_expr,
        Arc::new(first),
        schema,
    )?))
}

/// `plan` in an order that a query shows, and that has served its purpose for a view.
fn served(expr: Vec<SortExpr>, plan: LogicalPlan) -> LogicalPlan {
    LogicalPlan::Limit(Limit {
        skip: None,
        fetch: None,
        input: Arc::new(LogicalPlan::Sort(Sort {
            expr,
            input: Arc::new(plan),
            fetch: None,
        })),
    })
}

/// A view's plan without the orders that the rules here have made.
pub fn without_served_orders(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        if let LogicalPlan::Limit(limit) = &plan
            && limit.skip.is_none()
            && limit.fetch.is_none()
            && let LogicalPlan::Sort(sort) = limit.input.as_ref()
        {
            return Ok(Transformed::yes(sort.input.as_ref().clone()));
        }
        Ok(Transformed::no(plan))
    })?;
    Ok(rewritten.data)
}

fn named(place: &str) -> Expr {
    col(Column::from_name(place))
}

fn ranked(input: &Arc<LogicalPlan>, places: Vec<Expr>, kept: Expr) -> Result<LogicalPlan> {
    let window = LogicalPlan::Window(Window::try_new(places, Arc::clone(input))?);
    Ok(LogicalPlan::Filter(Filter::try_new(
        kept,
        Arc::new(window),
    )?))
}

/// The columns of `like`, out of a plan that has more.
fn all_columns(like: &LogicalPlan, plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = like.schema().columns().into_iter().map(Expr::Column);
    Ok(LogicalPlan::Projection(Projection::try_new(
        columns.collect(),
        Arc::new(plan),
    )?))
}
