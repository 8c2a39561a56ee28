//! What PostgreSQL calls an output column that has no alias (its `FigureColname`).

use sqlparser::ast::{AccessExpr, Expr, SelectItem, SetExpr, Subscript};

use crate::names::fold;

/// PostgreSQL's name where nothing better is known.
pub const UNNAMED: &str = "?column?";

/// The output name of a select item's expression.
pub fn output_name(expr: &Expr) -> String {
    strong_name(expr)
        .or_else(|| weak_name(expr))
        .unwrap_or_else(|| UNNAMED.to_string())
}

/// Names that survive being cast.
fn strong_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        Expr::CompoundFieldAccess { root, access_chain } => access_chain
            .iter()
            .rev()
            .find_map(|access| match access {
                AccessExpr::Dot(field) => strong_name(field),
                AccessExpr::Subscript(Subscript::Index { .. } | Subscript::Slice { .. }) => None,
            })
            .or_else(|| strong_name(root)),
        Expr::Function(function) => function
            .name
            .0
            .last()
            .and_then(|part| part.as_ident())
            .map(fold),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => strong_name(inner),
        Expr::Cast { expr, .. } => strong_name(expr),
        Expr::Extract { .. } => Some("extract".to_string()),
        Expr::Ceil { .. } => Some("ceil".to_string()),
        Expr::Floor { .. } => Some("floor".to_string()),
        Expr::Position { .. } => Some("position".to_string()),
        Expr::Substring { .. } => Some("substring".to_string()),
        Expr::Trim { .. } => Some("btrim".to_string()),
        Expr::Overlay { .. } => Some("overlay".to_string()),
        Expr::AtTimeZone { .. } => Some("timezone".to_string()),
        Expr::Exists { negated: false, .. } => Some("exists".to_string()),
        Expr::Array(_) => Some("array".to_string()),
        Expr::Tuple(_) | Expr::Struct { .. } => Some("row".to_string()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => strong_name(expr),
                SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Names that a better one replaces: a type's, `case`.
fn weak_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Case { else_result, .. } => Some(
            else_result
                .as_ref()
                .and_then(|result| strong_name(result))
                .unwrap_or_else(|| "case".to_string()),
        ),
        Expr::Cast { data_type, .. } => type_name(data_type),
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => Some("interval".to_string()),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => weak_name(inner),
        _ => None,
    }
}

/// The name of the type in PostgreSQL's catalog.
fn type_name(data_type: &sqlparser::ast::DataType) -> Option<String> {
    use crate::types::SqlType;
    let name = match crate::type_planner::sql_type(data_type).ok().flatten()? {
        SqlType::Boolean => "bool",
        SqlType::SmallInt => "int2",
        SqlType::Integer => "int4",
        SqlType::BigInt => "int8",
        SqlType::Real => "float4",
        SqlType::Double => "float8",
        SqlType::Numeric { .. } => "numeric",
        SqlType::Text { max_length: None } => "text",
        SqlType::Text {
            max_length: Some(_),
        } => "varchar",
        SqlType::Bytea => "bytea",
        SqlType::Date => "date",
        SqlType::Time => "time",
        SqlType::Timestamp => "timestamp",
        SqlType::Timestamptz => "timestamptz",
        SqlType::Interval => "interval",
        SqlType::Uuid => "uuid",
        SqlType::Json => "json",
        SqlType::Jsonb => "jsonb",
        SqlType::Array(_) | SqlType::Struct(_) => return None,
    };
    Some(name.to_string())
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn names_are_those_of_postgres() {
        for (expr, expected) in [
            ("1", "?column?"),
            ("a + b", "?column?"),
            ("t.a", "a"),
            ("\"Odd Name\"", "Odd Name"),
            ("avg(x)", "avg"),
            ("COUNT(*)", "count"),
            ("a::text", "a"),
            ("1::bigint", "int8"),
            ("'x'::varchar", "text"),
            ("CASE WHEN a THEN 1 END", "case"),
            ("CASE WHEN a THEN 1 ELSE b END", "b"),
            ("coalesce(a, b)", "coalesce"),
            ("DATE '2026-01-01'", "date"),
            ("INTERVAL '1 day'", "interval"),
            ("extract(hour from ts)", "extract"),
            ("ts AT TIME ZONE 'UTC'", "timezone"),
            ("ARRAY[1, 2]", "array"),
            ("(SELECT max(x) FROM t)", "max"),
            ("EXISTS (SELECT 1)", "exists"),
            ("a IS NULL", "?column?"),
        ] {
            let parsed = Parser::new(&PostgreSqlDialect {})
                .try_with_sql(expr)
                .unwrap()
                .parse_expr()
                .unwrap();
            assert_eq!(output_name(&parsed), expected, "{expr}");
        }
    }
}
