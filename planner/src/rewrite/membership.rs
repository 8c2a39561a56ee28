//! `x IN (subquery)`, `x NOT IN (subquery)` and `x op ANY | ALL (subquery)` with SQL's three values, before DataFusion
//! gives them two.
//!
//! DataFusion makes them joins that know true and false only. That is right where NULL and false mean the same (a
//! condition and what AND and OR make of it, but not below NOT), and for `NOT IN` as a condition of its own without
//! correlation. Everywhere else the test is spelled out:
//! `CASE WHEN x IN (S) THEN 1 WHEN <a value of S is NULL> OR x IS NULL AND EXISTS (S) THEN NULL ELSE 0 END`.
//!
//! `x < ANY (S)` is true if `EXISTS (S WHERE x < s)`, `x < ALL (S)` if `NOT EXISTS (S WHERE (x < s) IS NOT TRUE)`; where
//! NULL and false differ they are spelled out in the same way.
//!
//! An aggregate that refers to the row around it gives exactly one row, but DataFusion's join gives none where it
//! aggregates nothing: `x IN (SELECT count(*) …)` is a comparison, and `EXISTS` of it is true. `EXISTS` with a limit that
//! matters is a comparison of the number of rows.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, plan_datafusion_err};
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Case, Expr, FetchType, Filter, LogicalPlan, LogicalPlanBuilder, Operator,
    Projection, SkipType, Subquery, lit, when,
};

use crate::rewrite::decorrelate::{as_outer, with_references};
use crate::rewrite::scalar_subquery::is_one_row;

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
        let schema = merge_schema(&plan.inputs());
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let spelled_out = Rewriter { schema: &schema }.spelled_out(expr, place)?;
            Ok(Transformed::yes(name.restore(spelled_out)))
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
    let is_membership = |part: &Expr| {
        Ok(matches!(
            part,
            Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
        ))
    };
    expr.exists(is_membership).unwrap_or(false)
}

/// Rewrites the expressions of a node whose inputs have the columns of `schema`.
struct Rewriter<'a> {
    schema: &'a DFSchema,
}

impl Rewriter<'_> {
    fn spelled_out(&self, expr: Expr, place: Place) -> Result<Expr> {
        if !has_membership(&expr) {
            return Ok(expr);
        }
        let boxed = |expr: Box<Expr>, place| self.spelled_out(*expr, place).map(Box::new);
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
                Expr::InSubquery(test) => self.membership(test.negated(), place)?,
                Expr::SetComparison(test) if test.op.negate().is_some() => {
                    self.comparison(test.negated(), place)?
                }
                inner => Expr::Not(Box::new(self.spelled_out(inner, Place::Value)?)),
            },
            Expr::InSubquery(test) => self.membership(test, place)?,
            Expr::SetComparison(test) => self.comparison(test, place)?,
            Expr::Exists(test) if is_correlated_row(&test.subquery) => lit(!test.negated),
            Expr::Exists(test) => existence(test)?,
            other => {
                let children = other.map_children(|child| {
                    Ok(Transformed::yes(self.spelled_out(child, Place::Value)?))
                })?;
                children.data
            }
        })
    }

    fn membership(&self, mut test: InSubquery, place: Place) -> Result<Expr> {
        test.expr = Box::new(self.spelled_out(*test.expr, Place::Value)?);
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
        let has_null = exists(null_rows(&subquery)?);
        let is_unknown = has_null.or(expr
            .as_ref()
            .clone()
            .is_null()
            .and(exists(subquery.clone())));
        let is_found = Expr::InSubquery(InSubquery::new(expr, subquery, false));
        let outcome = three_values(is_found, is_unknown)?;
        Ok(outcome.eq(lit(i32::from(!negated))))
    }

    /// `x op ANY (S)` and `x op ALL (S)`.
    fn comparison(&self, mut test: SetComparison, place: Place) -> Result<Expr> {
        test.expr = Box::new(self.spelled_out(*test.expr, Place::Value)?);
        let SetComparison {
            expr,
            subquery,
            op,
            quantifier,
        } = test;
        if is_one_row(&subquery.subquery) {
            let value = Box::new(Expr::ScalarSubquery(subquery));
            return Ok(Expr::BinaryExpr(BinaryExpr::new(expr, op, value)));
        }
        match (op, quantifier) {
            (Operator::Eq, SetQuantifier::Any) => {
                return self.membership(InSubquery::new(expr, subquery, false), place);
            }
            (Operator::NotEq, SetQuantifier::All) => {
                return self.membership(InSubquery::new(expr, subquery, true), place);
            }
            _ => {}
        }
        let (subquery, column) = with_own_name(&subquery)?;
        let outer = Box::new(as_outer(*expr, self.schema)?);
        let compared = BinaryExpr::new(outer, op, Box::new(Expr::Column(column)));
        let compared = Expr::BinaryExpr(compared);
        let rows = |condition: Expr| filtered(&subquery, condition).map(exists);
        let is_test = place != Place::Value;
        match quantifier {
            SetQuantifier::Any if is_test => rows(compared),
            SetQuantifier::All if is_test => {
                let refuting = filtered(&subquery, compared.is_not_true())?;
                Ok(Expr::Exists(Exists::new(refuting, true)))
            }
            SetQuantifier::Any => {
                let is_unknown = rows(compared.clone().is_null())?;
                Ok(three_values(rows(compared)?, is_unknown)?.eq(lit(1_i32)))
            }
            SetQuantifier::All => {
                let is_unknown = rows(compared.clone().is_null())?;
                Ok(three_values(rows(compared.is_false())?, is_unknown)?.eq(lit(0_i32)))
            }
        }
    }
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

impl Negated for SetComparison {
    /// Of an operator that has an opposite.
    fn negated(mut self) -> Self {
        self.op = self.op.negate().unwrap_or(self.op);
        self.quantifier = match self.quantifier {
            SetQuantifier::Any => SetQuantifier::All,
            SetQuantifier::All => SetQuantifier::Any,
        };
        self
    }
}

/// The subquery with its value under a name that the row around it can not have.
fn with_own_name(subquery: &Subquery) -> Result<(Subquery, Column)> {
    let column = subquery.subquery.schema().columns().into_iter().next();
    let column = column.ok_or_else(|| plan_datafusion_err!("subquery has no column"))?;
    let value = Expr::Column(column).alias("rm:compared");
    let plan = Projection::try_new(vec![value], Arc::clone(&subquery.subquery))?;
    let subquery = subquery.with_plan(Arc::new(LogicalPlan::Projection(plan)));
    Ok((subquery, Column::new_unqualified("rm:compared")))
}

fn exists(subquery: Subquery) -> Expr {
    Expr::Exists(Exists::new(subquery, false))
}

/// 1, NULL or 0. Integers, because DataFusion turns a CASE of booleans into AND and OR of many copies.
fn three_values(is_true: Expr, is_unknown: Expr) -> Result<Expr> {
    when(is_true, lit(1_i32))
        .when(is_unknown, lit(ScalarValue::Int32(None)))
        .otherwise(lit(0_i32))
}

/// Without the limit and the order that do not matter; with a limit that does, by the number of rows.
fn existence(mut test: Exists) -> Result<Expr> {
    loop {
        let input = match test.subquery.subquery.as_ref() {
            LogicalPlan::Sort(sort) => Arc::clone(&sort.input),
            LogicalPlan::Limit(limit) => {
                let is_idle = matches!(limit.get_skip_type()?, SkipType::Literal(0))
                    && !matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0)));
                if !is_idle {
                    break;
                }
                Arc::clone(&limit.input)
            }
            _ => return Ok(Expr::Exists(test)),
        };
        test.subquery = test.subquery.with_plan(input);
    }
    let rows = LogicalPlanBuilder::from(test.subquery.subquery.as_ref().clone());
    let counted = rows.aggregate(Vec::<Expr>::new(), vec![count_all()])?;
    let count = Expr::ScalarSubquery(test.subquery.with_plan(Arc::new(counted.build()?)));
    Ok(match test.negated {
        true => count.eq(lit(0_i64)),
        false => count.gt(lit(0_i64)),
    })
}

fn is_correlated_row(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty() && is_one_row(&subquery.subquery)
}

/// The rows of a subquery whose value is NULL.
fn null_rows(subquery: &Subquery) -> Result<Subquery> {
    let column = subquery.subquery.schema().columns().into_iter().next();
    let column = column.ok_or_else(|| plan_datafusion_err!("subquery has no column"))?;
    filtered(subquery, Expr::Column(column).is_null())
}

fn filtered(subquery: &Subquery, condition: Expr) -> Result<Subquery> {
    let filter = Filter::try_new(condition, Arc::clone(&subquery.subquery))?;
    with_references(subquery.with_plan(Arc::new(LogicalPlan::Filter(filter))))
}
