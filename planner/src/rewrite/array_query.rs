//! `ARRAY(SELECT x … ORDER BY o)` as `(SELECT array_agg(x ORDER BY its place) …)`, empty where there are no rows.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArguments, OrderByKind, Query, SelectItem, SetExpr, Value,
    visit_expressions,
};

use crate::names::fold;
use crate::parse_query::parse_query;
use crate::rewrite::expressions::call;

/// What stands for `function`, if it makes an array of a query.
pub(super) fn array_of_query(function: &Function) -> Option<Expr> {
    let [part] = function.name.0.as_slice() else {
        return None;
    };
    let FunctionArguments::Subquery(query) = &function.args else {
        return None;
    };
    if part.as_ident().map(fold).as_deref() != Some("array") {
        return None;
    }
    let sql = match placed(query) {
        Some(placed) => format!(
            "SELECT array_agg(rm_rows.rm_value ORDER BY rm_rows.rm_place) FROM ({placed}) AS rm_rows (rm_value, rm_place)"
        ),
        None => format!(
            "SELECT array_agg(rm_rows.rm_value{}) FROM ({query}) AS rm_rows (rm_value)",
            by_value(query)
        ),
    };
    let subquery = Expr::Subquery(Box::new(parse_query(&sql).ok()?));
    Some(call("rm_or_empty", vec![subquery]))
}

/// The orders of `query`, if there are any.
fn orders(query: &Query) -> Vec<sqlparser::ast::OrderByExpr> {
    match query.order_by.as_ref().map(|by| &by.kind) {
        Some(OrderByKind::Expressions(exprs)) => exprs.clone(),
        _ => Vec::new(),
    }
}

/// `query` with each row's place in its order as a second column.
fn placed(query: &Query) -> Option<Query> {
    let mut orders = orders(query);
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let [item] = select.projection.as_slice() else {
        return None;
    };
    let (value, alias) = match item {
        SelectItem::UnnamedExpr(value) => (value.clone(), None),
        SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), Some(fold(alias))),
        _ => return None,
    };
    if orders.is_empty() || select.distinct.is_some() || gives_rows(&value) {
        return None;
    }
    for order in &mut orders {
        let is_value = match &order.expr {
            Expr::Identifier(name) => Some(fold(name)) == alias,
            Expr::Value(number) => {
                matches!(&number.value, Value::Number(digits, _) if digits == "1")
            }
            _ => false,
        };
        if is_value {
            order.expr = value.clone();
        }
    }
    let list: Vec<String> = orders.iter().map(ToString::to_string).collect();
    let place = format!("SELECT row_number() OVER (ORDER BY {})", list.join(", "));
    let SetExpr::Select(mut with_place) = *parse_query(&place).ok()?.body else {
        return None;
    };
    select.projection.push(with_place.projection.pop()?);
    Some(query)
}

/// Where the order can only be one of the values themselves.
fn by_value(query: &Query) -> String {
    match orders(query).as_slice() {
        [] => String::new(),
        [first, ..] => {
            let mut order = first.clone();
            order.expr = Expr::CompoundIdentifier(vec!["rm_rows".into(), "rm_value".into()]);
            format!(" ORDER BY {order}")
        }
    }
}

fn gives_rows(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::Function(function)
            if function.over.is_none()
                && function
                    .name
                    .0
                    .last()
                    .and_then(|part| part.as_ident())
                    .map(fold)
                    == Some("unnest".to_string()) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}
