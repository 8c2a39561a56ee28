//! `x IN (subquery)` and `x NOT IN (subquery)` with SQL's three values, before DataFusion gives them two.
//!
//! DataFusion makes them joins that know true and false only. That is right where NULL and false mean the same (a
//! condition and what AND and OR make of it, but not below NOT), and for `NOT IN` as a condition of its own without
//! correlation. Everywhere else the test is spelled out:
//! `CASE WHEN x IN (S) THEN 1 WHEN <a value of S is NULL> OR x IS NULL AND EXISTS (S) THEN NULL ELSE 0 END`.
//!
//! An aggregate that refers to the row around it gives exactly one row, but DataFusion's join gives none where it
//! aggregates nothing: `x IN (SELECT count(*) …)` is a comparison, and `EXISTS` of it is true.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, Filter, LogicalPlan, Operator, Projection, Subquery, lit, when,
};

use crate::rewrite::mistaken::is_one_row;

/// Name of the value of a correlated subquery.
const VALUE: &str = "rm:member";

/// Rewrites all of `plan`, which is not yet analysed.
pub fn three_valued(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let place = match &plan {
            LogicalPlan::Filter(_) => Place::Condition,
            _ => Place::Value,
        };
        if !plan.expressions().iter().any(has_membership) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(Transformed::yes(name.restore(spelled_out(expr, place)?)))
        })
    })?;
    Ok(rewritten.data)
}

/// What an expression's value is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the conditions that a row must fulfil.
    Condition,
    /// A test in which NULL means false.
    Test,
    Value,
}

impl Place {
    fn within(self) -> Place {
        match self {
            Place::Condition | Place::Test => Place::Test,
            Place::Value => Place::Value,
        }
    }
}

fn has_membership(expr: &Expr) -> bool {
    let is_membership = |part: &Expr| Ok(matches!(part, Expr::InSubquery(_) | Expr::Exists(_)));
    expr.exists(is_membership).unwrap_or(false)
}

fn spelled_out(expr: Expr, place: Place) -> Result<Expr> {
    if !has_membership(&expr) {
        return Ok(expr);
    }
    let boxed = |expr: Box<Expr>, place| spelled_out(*expr, place).map(Box::new);
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == Operator::And => {
            let (left, right) = (boxed(left, place)?, boxed(right, place)?);
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == Operator::Or => {
            let place = place.within();
            let (left, right) = (boxed(left, place)?, boxed(right, place)?);
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        Expr::Alias(mut alias) => {
            alias.expr = boxed(alias.expr, place)?;
            Expr::Alias(alias)
        }
        Expr::IsTrue(inner) => Expr::IsTrue(boxed(inner, Place::Test)?),
        Expr::IsNotTrue(inner) => Expr::IsNotTrue(boxed(inner, Place::Test)?),
        Expr::Case(case) if case.expr.is_none() => {
            let result = place.within();
            let branches = case
                .when_then_expr
                .into_iter()
                .map(|(test, then)| Ok((boxed(test, Place::Test)?, boxed(then, result)?)));
            let branches = branches.collect::<Result<Vec<_>>>()?;
            let otherwise = case.else_expr.map(|e| boxed(e, result)).transpose()?;
            Expr::Case(Case::new(None, branches, otherwise))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(test) => membership(test.negated(), place)?,
            inner => Expr::Not(Box::new(spelled_out(inner, Place::Value)?)),
        },
        Expr::InSubquery(test) => membership(test, place)?,
        Expr::Exists(test) if is_correlated_row(&test.subquery) => lit(!test.negated),
        other => {
            let children = other
                .map_children(|child| Ok(Transformed::yes(spelled_out(child, Place::Value)?)))?;
            children.data
        }
    })
}

/// The opposite of a test.
trait Negated {
    fn negated(self) -> Self;
}

impl Negated for InSubquery {
    fn negated(mut self) -> Self {
        self.negated = !self.negated;
        self
    }
}

fn membership(mut test: InSubquery, place: Place) -> Result<Expr> {
    test.expr = Box::new(spelled_out(*test.expr, Place::Value)?);
    if !test.subquery.outer_ref_columns.is_empty() {
        test.subquery = with_named_value(&test.subquery)?;
    }
    if is_correlated_row(&test.subquery) {
        let value = Expr::ScalarSubquery(test.subquery);
        return Ok(match test.negated {
            true => Expr::not_eq(*test.expr, value),
            false => Expr::eq(*test.expr, value),
        });
    }
    let is_right = match place {
        Place::Condition => !test.negated || test.subquery.outer_ref_columns.is_empty(),
        Place::Test => !test.negated,
        Place::Value => false,
    };
    if is_right {
        return Ok(Expr::InSubquery(test));
    }
    let InSubquery {
        expr,
        subquery,
        negated,
    } = test;
    let exists = |subquery: Subquery| Expr::Exists(Exists::new(subquery, false));
    let has_null = exists(null_rows(&subquery)?);
    let is_unknown = has_null.or(expr
        .as_ref()
        .clone()
        .is_null()
        .and(exists(subquery.clone())));
    let is_found = Expr::InSubquery(InSubquery::new(expr, subquery, false));
    // Integers, because DataFusion turns a CASE of booleans into AND and OR of many copies.
    let outcome = when(is_found, lit(1_i32))
        .when(is_unknown, lit(ScalarValue::Int32(None)))
        .otherwise(lit(0_i32))?;
    Ok(outcome.eq(lit(i32::from(!negated))))
}

fn is_correlated_row(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty() && is_one_row(&subquery.subquery)
}

/// The subquery with a name of its own for its value. If coercion casts the value and decorrelation adds the column as it
/// is, because the condition uses it too, DataFusion would have one name for both.
fn with_named_value(subquery: &Subquery) -> Result<Subquery> {
    let plan = Arc::clone(&subquery.subquery);
    let [column] = &plan.schema().columns()[..] else {
        return Ok(subquery.clone());
    };
    let value = Expr::Column(column.clone()).alias(VALUE);
    let named = Projection::try_new(vec![value], plan)?;
    Ok(subquery.with_plan(Arc::new(LogicalPlan::Projection(named))))
}

/// The rows of a subquery whose value is NULL.
fn null_rows(subquery: &Subquery) -> Result<Subquery> {
    let column = subquery.subquery.schema().columns().into_iter().next();
    let column = column.ok_or_else(|| plan_datafusion_err!("subquery has no column"))?;
    let is_null = Expr::Column(column).is_null();
    let filter = Filter::try_new(is_null, Arc::clone(&subquery.subquery))?;
    Ok(subquery.with_plan(Arc::new(LogicalPlan::Filter(filter))))
}
