//! Aggregates that DataFusion lacks, as functions of those that it has.
//!
//! - `json_agg(x ORDER BY o)` is `('[' || string_agg(x as JSON, ', ' ORDER BY o) || ']')::json`, and so are the others
//!   that make JSON.
//! - `regr_r2` is 1 where DataFusion's is NULL: where all `y` are alike.
//! - `mode() WITHIN GROUP (ORDER BY x)` is `rm_mode(array_agg(x ORDER BY x))`, and so are percentiles.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, ObjectName,
    OrderByExpr, Value,
};

use super::build::{binary, cast, number, text};
use crate::names::{fold, ident};
use crate::rewrite::expressions::call;

/// What stands for a call of such an aggregate.
pub(super) fn rewrite_aggregate(function: &Function) -> Option<Expr> {
    let [part] = function.name.0.as_slice() else {
        return None;
    };
    let name = part.as_ident().map(fold)?;
    let args = arguments(function)?;
    match (name.as_str(), args.as_slice()) {
        ("json_agg", [value]) if !is_distinct(function) => {
            Some(array(function, "to_json", value, DataType::JSON))
        }
        ("jsonb_agg", [value]) if is_distinct(function) => {
            let values = Expr::Function(renamed(function, "array_agg", vec![value.clone()]));
            Some(call("to_jsonb", vec![values]))
        }
        ("jsonb_agg", [value]) => Some(array(function, "to_jsonb", value, DataType::JSONB)),
        ("json_object_agg", [key, value]) if !is_distinct(function) => {
            let field = fields("json_build_object", key, value);
            Some(joined(function, field, ["{ ", " }"], DataType::JSON))
        }
        ("jsonb_object_agg", [key, value]) if !is_distinct(function) => {
            let field = fields("jsonb_build_object", key, value);
            Some(joined(function, field, ["{", "}"], DataType::JSONB))
        }
        ("regr_r2", [y, x]) if function.over.is_none() => Some(r_squared(function, y, x)),
        ("mode", []) => Some(call("rm_mode", vec![in_order(function)?])),
        ("percentile_disc", [fraction]) => {
            let values = in_order(function)?;
            Some(call("rm_percentile_disc", vec![values, fraction.clone()]))
        }
        ("percentile_cont", [fraction]) if is_array(fraction) => {
            let values = in_order(function)?;
            Some(call("rm_percentile_cont", vec![values, fraction.clone()]))
        }
        _ => None,
    }
}

/// `regr_r2(y, x)`, which is 1 where all `y` are alike and not all `x` are.
fn r_squared(function: &Function, y: &Expr, x: &Expr) -> Expr {
    let of = |name: &str| Expr::Function(renamed(function, name, vec![y.clone(), x.clone()]));
    let is_flat = binary(of("regr_syy"), BinaryOperator::Eq, number("0"));
    let is_spread = binary(of("regr_sxx"), BinaryOperator::Gt, number("0"));
    let mut chosen = chosen(binary(is_flat, BinaryOperator::And, is_spread), number("1"));
    if let Expr::Case { else_result, .. } = &mut chosen {
        *else_result = Some(Box::new(Expr::Function(function.clone())));
    }
    chosen
}

/// `ORDER BY 1` within an aggregate is an order by a constant, in parentheses so that DataFusion takes it for no column's
/// number.
pub(super) fn order_by_constants(function: &mut Function) {
    let mut keys: Vec<&mut OrderByExpr> = function.within_group.iter_mut().collect();
    if let FunctionArguments::List(list) = &mut function.args {
        for clause in &mut list.clauses {
            if let FunctionArgumentClause::OrderBy(order) = clause {
                keys.extend(order.iter_mut());
            }
        }
    }
    for key in keys {
        if let Expr::Value(value) = &key.expr
            && matches!(value.value, Value::Number(..))
        {
            key.expr = Expr::Nested(Box::new(key.expr.clone()));
        }
    }
}

pub(super) fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let list = match &function.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => return None,
    };
    let value = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.iter().map(value).collect()
}

pub(super) fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

fn is_array(expr: &Expr) -> bool {
    match expr {
        Expr::Array(_) => true,
        Expr::Nested(inner) => is_array(inner),
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Array(_)),
        _ => false,
    }
}

/// The same call of another aggregate: its order, filter and window stay.
pub(super) fn renamed(function: &Function, name: &str, args: Vec<Expr>) -> Function {
    let mut function = function.clone();
    function.name = ObjectName::from(vec![ident(name)]);
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = args
            .into_iter()
            .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)))
            .collect();
    }
    function
}

/// The values of `WITHIN GROUP (ORDER BY x)` as an array.
fn in_order(function: &Function) -> Option<Expr> {
    let [OrderByExpr { expr, .. }] = function.within_group.as_slice() else {
        return None;
    };
    let mut values = renamed(function, "array_agg", Vec::new());
    let order = std::mem::take(&mut values.within_group);
    values.args = FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: None,
        args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()))],
        clauses: vec![FunctionArgumentClause::OrderBy(order)],
    });
    Some(Expr::Function(values))
}

fn array(function: &Function, form: &str, value: &Expr, data_type: DataType) -> Expr {
    let json = cast(call(form, vec![value.clone()]), DataType::Text);
    let element = call("coalesce", vec![json, text("null")]);
    joined(function, element, ["[", "]"], data_type)
}

/// `"key": value`, the inside of an object of one field; fails for a key that is NULL.
fn fields(object: &str, key: &Expr, value: &Expr) -> Expr {
    let object = cast(
        call(object, vec![key.clone(), value.clone()]),
        DataType::Text,
    );
    let length = binary(
        call("length", vec![object.clone()]),
        BinaryOperator::Minus,
        number("2"),
    );
    call("substr", vec![object, number("2"), length])
}

/// The elements of a group, between brackets.
fn joined(function: &Function, element: Expr, brackets: [&str; 2], data_type: DataType) -> Expr {
    // what the filter rejects must not fail
    let element = match &function.filter {
        None => element,
        Some(filter) => chosen(filter.as_ref().clone(), element),
    };
    let elements = renamed(function, "string_agg", vec![element, text(", ")]);
    let [open, close] = brackets.map(text);
    let opened = binary(open, BinaryOperator::StringConcat, Expr::Function(elements));
    let closed = binary(opened, BinaryOperator::StringConcat, close);
    cast(Expr::Nested(Box::new(closed)), data_type)
}

/// `CASE WHEN condition THEN result END`
pub(super) fn chosen(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: None,
    }
}
