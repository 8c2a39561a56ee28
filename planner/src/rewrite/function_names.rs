//! Functions whose names, arguments, types or rows differ between PostgreSQL and DataFusion.

use sqlparser::ast::{
    ArrayElemTypeDef, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    ObjectName, Value,
};

use super::build::cast;
use crate::names::{fold, ident};
use crate::rewrite::expressions::call;

/// PostgreSQL's names for functions that DataFusion or we have under another one.
const RENAMED: &[(&str, &str)] = &[
    ("array_remove", "array_remove_all"),
    ("array_replace", "array_replace_all"),
    ("ceiling", "ceil"),
    ("every", "bool_and"),
    ("gen_random_uuid", "uuid"),
    ("time_bucket", "date_bin"),
    ("variance", "var_samp"),
];

/// Functions that give rows in a SELECT list, by those of ours that give the rows as an array.
const ROWS: &[(&str, &str)] = &[
    ("generate_series", "generate_series"),
    ("json_array_elements", "rm_json_array_elements"),
    ("json_array_elements_text", "rm_json_array_elements_text"),
    ("json_object_keys", "rm_json_object_keys"),
    ("jsonb_array_elements", "rm_jsonb_array_elements"),
    ("jsonb_array_elements_text", "rm_json_array_elements_text"),
    ("jsonb_object_keys", "rm_json_object_keys"),
    ("regexp_matches", "rm_regexp_matches"),
    ("regexp_split_to_table", "regexp_split_to_array"),
    ("string_to_table", "string_to_array"),
];

/// Parameters of functions that are called with names.
const PARAMETERS: &[(&str, &[&str])] = &[(
    "make_interval",
    &["years", "months", "weeks", "days", "hours", "mins", "secs"],
)];

/// Types whose names are called like functions: `date(x)` is `x::date`.
const TYPES: &[(&str, DataType)] = &[
    ("bool", DataType::Bool),
    ("date", DataType::Date),
    ("float4", DataType::Float4),
    ("float8", DataType::Float8),
    ("int2", DataType::Int2(None)),
    ("int4", DataType::Int4(None)),
    ("int8", DataType::Int8(None)),
    ("text", DataType::Text),
];

/// The array that holds the rows of a function.
pub fn array_of_rows(name: &str) -> Option<&'static str> {
    ROWS.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, array)| *array)
}

/// Renames a call, orders its named arguments; what it becomes if it gives rows.
pub(super) fn rewrite_function(function: &mut Function) -> Option<Expr> {
    let [part] = function.name.0.as_slice() else {
        return None;
    };
    let name = part.as_ident().map(fold)?;
    if let Some((_, renamed)) = RENAMED.iter().find(|(known, _)| *known == name) {
        function.name = ObjectName::from(vec![ident(renamed)]);
        return None;
    }
    if let Some((_, parameters)) = PARAMETERS.iter().find(|(known, _)| *known == name) {
        order_arguments(function, parameters);
    }
    if let Some(data_type) = integer_type(&name) {
        return Some(cast(Expr::Function(function.clone()), data_type));
    }
    if let Some((_, data_type)) = TYPES.iter().find(|(known, _)| *known == name)
        && let Some(argument) = only_argument(function)
    {
        return Some(cast(argument.clone(), data_type.clone()));
    }
    let array = array_of_rows(&name)?;
    function.name = ObjectName::from(vec![ident(array)]);
    let rows = call("unnest", vec![Expr::Function(function.clone())]);
    Some(match type_of_rows(&name) {
        Some(data_type) => cast(rows, data_type),
        None => rows,
    })
}

/// The argument of a plain call with one.
fn only_argument(function: &Function) -> Option<&Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let is_plain = function.over.is_none()
        && function.filter.is_none()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty();
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] if is_plain => Some(argument),
        _ => None,
    }
}

/// The type of what DataFusion counts in integers without a sign.
fn integer_type(name: &str) -> Option<DataType> {
    let integer = DataType::Int(None);
    match name {
        "array_length" | "array_position" => Some(integer),
        "array_positions" => Some(DataType::Array(ArrayElemTypeDef::SquareBracket(
            Box::new(integer),
            None,
        ))),
        _ => None,
    }
}

/// The type of a function's rows where arrays hold them as texts.
pub fn type_of_rows(name: &str) -> Option<DataType> {
    match name {
        "jsonb_array_elements" | "jsonb_each" => Some(DataType::JSONB),
        "json_array_elements" | "json_each" => Some(DataType::JSON),
        _ => None,
    }
}

/// `f(days => 10)` as `f(0, 0, 0, 10)`.
fn order_arguments(function: &mut Function, parameters: &[&str]) {
    let FunctionArguments::List(list) = &mut function.args else {
        return;
    };
    let is_named = |arg: &FunctionArg| !matches!(arg, FunctionArg::Unnamed(_));
    if !list.args.iter().any(is_named) {
        return;
    }
    let zero = || {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(
            Value::Number("0".to_string(), false).into(),
        )))
    };
    let mut ordered: Vec<FunctionArg> = Vec::new();
    for (i, arg) in list.args.iter().enumerate() {
        let (at, value) = match arg {
            FunctionArg::Unnamed(value) => (i, value.clone()),
            FunctionArg::Named { name, arg, .. } => {
                let name = fold(name);
                let Some(at) = parameters.iter().position(|p| *p == name) else {
                    return;
                };
                (at, arg.clone())
            }
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg,
                ..
            } => {
                let name = fold(name);
                let Some(at) = parameters.iter().position(|p| *p == name) else {
                    return;
                };
                (at, arg.clone())
            }
            FunctionArg::ExprNamed { .. } => return,
        };
        while ordered.len() <= at {
            ordered.push(zero());
        }
        ordered[at] = FunctionArg::Unnamed(value);
    }
    list.args = ordered;
}
