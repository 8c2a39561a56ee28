//! Small rewrites of expressions on the AST, for what DataFusion's binder lacks or reads differently.

use std::convert::Infallible;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, ObjectName, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::any_all::with_nulls;
use crate::interval_text::without_clock;
use crate::names::ident;

/// Digits that a number in scientific notation may be written out to.
const MAX_DIGITS: i64 = 38;

/// Rewrites every expression of `node`.
pub fn rewrite_expressions<T: VisitMut>(node: &mut T) {
    let ControlFlow::Continue(()) = node.visit(&mut Rewriter);
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

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Value(ValueWithSpan {
                value: Value::Number(number, _),
                ..
            }) => {
                if let Some(plain) = without_exponent(number) {
                    *number = plain;
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
                *expr = field_access(take(root), std::mem::take(access_chain));
            }
            Expr::Function(function) => rename_function(function),
            Expr::Interval(interval) if interval.leading_field.is_none() => {
                if let Expr::Value(ValueWithSpan {
                    value: Value::SingleQuotedString(text),
                    ..
                }) = interval.value.as_mut()
                    && let Some(words) = without_clock(text)
                {
                    *text = words;
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
            Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                if let Some(compared) = with_nulls(expr) {
                    *expr = compared;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

/// `(root).a.b` as `get_field(get_field(root, 'a'), 'b')`; what follows the first subscript stays as it is.
fn field_access(root: Expr, chain: Vec<AccessExpr>) -> Expr {
    let mut access = root;
    let mut rest = chain.into_iter().peekable();
    while let Some(AccessExpr::Dot(Expr::Identifier(field))) = rest.peek() {
        let name = Value::SingleQuotedString(crate::names::fold(field));
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

/// PostgreSQL's names for functions that DataFusion has under another one.
fn rename_function(function: &mut Function) {
    let [part] = function.name.0.as_slice() else {
        return;
    };
    let Some(name) = part.as_ident().map(crate::names::fold) else {
        return;
    };
    let renamed = match name.as_str() {
        "every" => "bool_and",
        "time_bucket" => "date_bin",
        "variance" => "var_samp",
        _ => return,
    };
    function.name = ObjectName::from(vec![ident(renamed)]);
}

/// `1.5e3` as `1500`: a numeric of the right scale, as in PostgreSQL. `None`: not in scientific notation, or too long.
fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    let length = digits.len() as i64;
    if point.max(length) - point.min(0) > MAX_DIGITS {
        return None;
    }
    Some(if point <= 0 {
        format!("0.{}{digits}", "0".repeat(-point as usize))
    } else if point >= length {
        format!("{digits}{}", "0".repeat((point - length) as usize))
    } else {
        format!(
            "{}.{}",
            &digits[..point as usize],
            &digits[point as usize..]
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_written_out() {
        for (number, expected) in [
            ("1e3", Some("1000")),
            ("1.5e3", Some("1500")),
            ("1.5E-2", Some("0.015")),
            ("12.345e1", Some("123.45")),
            ("1e300", None),
            ("1.5", None),
        ] {
            assert_eq!(without_exponent(number).as_deref(), expected, "{number}");
        }
    }
}
