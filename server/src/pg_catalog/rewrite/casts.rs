//! Casts to the catalog's own types: to those that stand for oids and are written as names, and to names of plain ones.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, DataType, Expr, Query, Value};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::{SCHEMAS, call, output_name, text};

/// Types that stand for oids and are written as names.
const REG_TYPES: [&str; 9] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// Types of the catalog, by types that hold the same values.
const TYPES: &[(&str, &str)] = &[
    ("\"char\"", "text"),
    ("aclitem", "text"),
    ("bpchar", "text"),
    ("cardinal_number", "int"),
    ("character_data", "text"),
    ("char", "text"),
    ("cid", "bigint"),
    ("cstring", "text"),
    ("inet", "text"),
    ("int2vector", "smallint[]"),
    ("name", "text"),
    ("oid", "int"),
    ("oidvector", "int[]"),
    ("pg_lsn", "text"),
    ("pg_node_tree", "text"),
    ("sql_identifier", "text"),
    ("tid", "text"),
    ("xid", "bigint"),
    ("xid8", "bigint"),
    ("yes_or_no", "text"),
];
/// A text or a parameter: the name of something, not its oid.
pub(super) fn is_written(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(
            value.value,
            Value::SingleQuotedString(_) | Value::Placeholder(_)
        ),
        Expr::Nested(inner) => is_written(inner),
        Expr::Cast {
            expr, data_type, ..
        } => is_text(data_type) && is_written(expr),
        _ => false,
    }
}

/// The operand of a cast to a type that stands for oids.
pub(super) fn reg_cast(expr: &Expr) -> Option<(&'static str, Expr)> {
    match expr {
        Expr::Nested(inner) => reg_cast(inner),
        Expr::Cast {
            expr, data_type, ..
        } => Some((reg_type(data_type)?, expr.as_ref().clone())),
        _ => None,
    }
}

/// The catalog keeps functions as names in columns such as `typinput`, and as oids in those that are called so.
pub(super) fn is_function_name(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            let name = output_name(expr).unwrap_or_default();
            name == "aggfnoid" || !name.ends_with("oid")
        }
        _ => false,
    }
}

/// An operand of a comparison; the other one may be a function's name.
pub(super) fn compared(expr: &mut Expr, with_name: bool) {
    match reg_cast(expr) {
        Some((reg @ ("regproc" | "regprocedure"), operand)) if with_name => {
            *expr = reg_call("rm_reg_name", reg, operand);
        }
        _ => as_oid(expr),
    }
}

pub(super) fn as_oid(expr: &mut Expr) {
    if let Some((reg, operand)) = reg_cast(expr) {
        *expr = reg_call("rm_reg_oid", reg, operand);
    }
}

pub(super) fn reg_call(function: &str, reg: &str, operand: Expr) -> Expr {
    call(function, vec![text(reg), operand])
}

/// The type's name without a schema, in lower case.
fn type_name(data_type: &DataType) -> String {
    let name = data_type.to_string();
    let name = name.to_ascii_lowercase();
    let plain = SCHEMAS
        .iter()
        .find_map(|schema| name.strip_prefix(schema)?.strip_prefix('.'));
    plain.unwrap_or(&name).to_string()
}

pub(super) fn reg_type(data_type: &DataType) -> Option<&'static str> {
    let name = type_name(data_type);
    REG_TYPES.into_iter().find(|reg| *reg == name)
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        type_name(data_type).as_str(),
        "text" | "varchar" | "character varying" | "name" | "char" | "\"char\""
    )
}

/// What holds the values of a catalog's type; `None` for a type that is plain already.
pub(super) fn plain_type(data_type: &DataType) -> Option<DataType> {
    if let DataType::Array(ast::ArrayElemTypeDef::SquareBracket(element, size)) = data_type {
        let element =
            plain_type(element).or_else(|| reg_type(element).map(|_| DataType::Int(None)))?;
        return Some(DataType::Array(ast::ArrayElemTypeDef::SquareBracket(
            Box::new(element),
            *size,
        )));
    }
    let name = type_name(data_type);
    let plain = match TYPES.iter().find(|(known, _)| *known == name) {
        Some((_, plain)) => (*plain).to_string(),
        None if matches!(data_type, DataType::Custom(..)) => name,
        None => return None,
    };
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(&plain)
        .ok()?;
    parser.parse_data_type().ok()
}

/// Parameters that the statement casts to `oid` or `oid[]`, and whether to the latter.
pub fn oid_parameters(query: &Query) -> Vec<(usize, bool)> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = ast::visit_expressions(query, |expr| {
        if let Expr::Cast {
            expr, data_type, ..
        } = expr
            && let Some(n) = crate::parameters::number(expr)
        {
            match type_name(data_type).as_str() {
                "oid" => found.push((n, false)),
                "oid[]" => found.push((n, true)),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    });
    found
}
