//! Small rewrites of expressions on the AST, for what DataFusion's binder lacks or reads differently.

use std::convert::Infallible;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, ObjectName, Select, SelectItem, Subscript, UnaryOperator, Value, VisitMut,
    VisitorMut,
};

use super::aggregate_calls::{order_by_constants, rewrite_aggregate};
use super::any_all::{like_any, with_nulls};
use super::array_query::array_of_query;
use super::gap_values::rewrite_gap_value;
use super::over_calls::{computed_default, write_out_windows};
use super::rows::by_column;
use crate::names::{fold, ident};
use crate::rewrite::function_names::rewrite_function;
use crate::rewrite::output_names::output_name;
use crate::rewrite::syntax::{local_timestamp, rewrite_literal, rewrite_syntax};
use crate::rewrite::time_aggregates::rewrite_time_aggregate;

/// Rewrites every expression of `node`.
pub fn rewrite_expressions<T: VisitMut>(node: &mut T) {
    let ControlFlow::Continue(()) = node.visit(&mut Rewriter::default());
}

/// A call of `name`.
pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![ident(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args
                .into_iter()
                .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)))
                .collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[derive(Default)]
struct Rewriter {
    /// Names of the columns of the SELECTs around, as they are before their expressions change.
    names: Vec<Vec<Option<String>>>,
}

impl VisitorMut for Rewriter {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        let name = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) => Some(output_name(expr)),
            _ => None,
        };
        self.names
            .push(select.projection.iter().map(name).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        write_out_windows(select);
        let names = self.names.pop().unwrap_or_default();
        for (item, before) in select.projection.iter_mut().zip(names) {
            if let (SelectItem::UnnamedExpr(expr), Some(before)) = (&mut *item, before)
                && output_name(expr) != before
            {
                *item = SelectItem::ExprWithAlias {
                    expr: take(expr),
                    alias: ident(&before),
                };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Some(compared) = by_column(expr).or_else(|| like_any(expr)) {
            *expr = compared;
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Value(value) => {
                if let Some(other) = rewrite_literal(value) {
                    *expr = other;
                }
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let (timestamp, time_zone) = (take(timestamp), take(time_zone));
                *expr = call("timezone", vec![time_zone, timestamp]);
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                fill_slices(access_chain);
                *expr = field_access(take(root), std::mem::take(access_chain));
            }
            Expr::Function(function) => {
                order_by_constants(function);
                if let Some(other) = rewrite_aggregate(function)
                    .or_else(|| rewrite_time_aggregate(function))
                    .or_else(|| rewrite_gap_value(function))
                    .or_else(|| local_timestamp(function))
                    .or_else(|| computed_default(function))
                    .or_else(|| array_of_query(function))
                {
                    *expr = other;
                } else if let Some(rows) = rewrite_function(function) {
                    *expr = rows;
                }
            }
            Expr::InList {
                expr: left,
                list,
                negated,
            } => {
                // `x IN ((SELECT …))`: the outer parentheses mean nothing
                if let [Expr::Subquery(subquery)] = list.as_mut_slice() {
                    *expr = Expr::InSubquery {
                        expr: Box::new(take(left)),
                        subquery: subquery.clone(),
                        negated: *negated,
                    };
                }
            }
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: operand,
            } if matches!(**operand, Expr::Interval(_)) => {
                // DataFusion would write the sign into the literal, which may have one of its own
                **operand = Expr::Nested(Box::new(take(operand)));
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                if let Some(compared) = with_nulls(expr) {
                    *expr = compared;
                }
            }
            other => rewrite_syntax(other),
        }
        ControlFlow::Continue(())
    }
}

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

/// `a[:2]` and `a[2:]` with the bounds that they mean.
fn fill_slices(chain: &mut [AccessExpr]) {
    let bound = |digits: &str| Expr::Value(Value::Number(digits.to_string(), false).into());
    for access in chain {
        if let AccessExpr::Subscript(Subscript::Slice {
            lower_bound,
            upper_bound,
            ..
        }) = access
        {
            lower_bound.get_or_insert_with(|| bound("1"));
            upper_bound.get_or_insert_with(|| bound("2147483647"));
        }
    }
}

/// `(root).a.b` as `get_field(get_field(root, 'a'), 'b')`; what follows the first subscript stays as it is.
fn field_access(root: Expr, chain: Vec<AccessExpr>) -> Expr {
    let mut access = root;
    let mut rest = chain.into_iter().peekable();
    while let Some(AccessExpr::Dot(Expr::Identifier(field))) = rest.peek() {
        let name = Value::SingleQuotedString(fold(field));
        access = call("get_field", vec![access, Expr::Value(name.into())]);
        rest.next();
    }
    let access_chain: Vec<AccessExpr> = rest.collect();
    if access_chain.is_empty() {
        return access;
    }
    Expr::CompoundFieldAccess {
        root: Box::new(access),
        access_chain,
    }
}
