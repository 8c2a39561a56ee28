//! Client tools' statements about the catalog, made fit for DataFusion.
//!
//! Only statements that mention `pg_catalog`'s or `information_schema`'s relations come here: the rewriting rules of
//! `datafusion-pg-catalog` change a statement freely and lose positions. What they can not rewrite and what tools are
//! known to send is replaced as text first, each with the reason.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, Ident, ObjectName, ObjectNamePart, OrderByKind, SelectItem, SetExpr,
    Statement, visit_expressions_mut, visit_relations_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

static PARSER: LazyLock<PostgresCompatibilityParser> =
    LazyLock::new(PostgresCompatibilityParser::new);

/// Words that only statements about the catalog contain.
const MARKS: &[&str] = &[
    "pg_catalog",
    "information_schema",
    "regclass",
    "regtype",
    "regproc",
    "regnamespace",
];

/// Whether the statement is about the catalog.
pub fn mentions_catalog(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    if MARKS.iter().any(|mark| lower.contains(mark)) {
        return true;
    }
    // `FROM pg_class`, `JOIN pg_type t`: any word that names one of the catalog's tables
    lower
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .any(|word| {
            word.starts_with("pg_") && super::system_relations().iter().any(|r| r.name == word)
        })
}

/// Fragments of statements that DataFusion can not run, with what means the same here.
const REPLACEMENTS: &[(&str, &str)] = &[
    // psql \d+: TOAST options of the table. DataFusion has no array(SELECT …); there is no TOAST.
    (
        "pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ')",
        "pg_catalog.array_to_string(c.reloptions, ', ')",
    ),
    // psql \d of a foreign table: its options. pg_foreign_table keeps them as name=value already.
    (
        "pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.quote_ident(option_name) || ' ' || pg_catalog.quote_literal(option_value) FROM pg_catalog.pg_options_to_table(ftoptions)), ', ')",
        "pg_catalog.array_to_string(f.ftoptions, ', ')",
    ),
    (
        "pg_catalog.array_to_string(ARRAY( SELECT pg_catalog.quote_ident(option_name) || ' ' || pg_catalog.quote_literal(option_value) FROM pg_catalog.pg_options_to_table(ftoptions)), ', ')",
        "pg_catalog.array_to_string(f.ftoptions, ', ')",
    ),
    // psql \d: a column's options as a foreign table's. There are none.
    (
        "CASE WHEN attfdwoptions IS NULL THEN '' ELSE '(' || pg_catalog.array_to_string(ARRAY(SELECT pg_catalog.quote_ident(option_name) || ' ' || pg_catalog.quote_literal(option_value) FROM pg_catalog.pg_options_to_table(attfdwoptions)), ', ') || ')' END",
        "''",
    ),
    // psql \d: a collation other than the type's. The subquery's inner join on two outer columns can not be planned.
    (
        "(SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation)",
        "CAST(NULL AS VARCHAR)",
    ),
    // psql \d: triggers' parents (WITH ORDINALITY). There are no triggers.
    (
        "(SELECT u.tgrelid::pg_catalog.regclass FROM pg_catalog.pg_trigger AS u, pg_catalog.pg_partition_ancestors(t.tgrelid) WITH ORDINALITY AS a(relid, depth) WHERE u.tgname = t.tgname AND u.tgrelid = a.relid AND u.tgparentid = 0 ORDER BY a.depth LIMIT 1)",
        "NULL",
    ),
    // psql \d: foreign keys that refer to the table, by way of its partitions. There are none of either.
    (
        "confrelid IN (SELECT pg_catalog.pg_partition_ancestors(",
        "confrelid IN (SELECT rm_oid(",
    ),
    // psql \z: the roles of a policy, kept as text in the static table. There are no policies.
    ("WHERE oid = ANY (polroles)", "WHERE false"),
    // psql \d: a column's default. The crate's rules would make it NULL, since it is a subquery of the select list.
    (
        "(SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef)",
        "rm_column_default(a.attrelid, a.attnum)",
    ),
    // psql \d of an index: deferrable constraints. There are none.
    (
        "(NOT i.indimmediate) AND EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x') AND condeferrable)",
        "false",
    ),
    (
        "(NOT i.indimmediate) AND EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x') AND condeferred)",
        "false",
    ),
    // psql \dT: row types. They have no rows in pg_type here.
    (
        "(SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)",
        "false",
    ),
    // psql \du: memberships. There is one role.
    (
        "ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid) WHERE m.member = r.oid)",
        "CAST(NULL AS VARCHAR)",
    ),
];

/// Collapses white space outside of quotes, so that fragments compare equal however a tool breaks its lines.
fn normalize(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut quote: Option<char> = None;
    for c in sql.chars() {
        match quote {
            Some(q) => {
                out.push(c);
                if c == q {
                    quote = None;
                }
            }
            None if c.is_whitespace() => {
                if !out.ends_with(' ') && !out.ends_with('(') {
                    out.push(' ');
                }
            }
            None => {
                if matches!(c, '\'' | '"') {
                    quote = Some(c);
                }
                if c == ')' && out.ends_with(' ') {
                    out.pop();
                }
                out.push(c);
            }
        }
    }
    out
}

/// Removes `--` comments, which `normalize` would otherwise run into the next line.
fn without_comments(sql: &str) -> String {
    sql.lines()
        .map(|line| {
            if line.trim_start().starts_with("--") {
                ""
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The statement, made fit. Fails where even PostgreSQL's parser would.
pub fn rewrite(sql: &str) -> Result<Statement, PgError> {
    let mut text = normalize(&without_comments(sql));
    for (from, to) in REPLACEMENTS {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    let statements = PARSER
        .parse(&text)
        .map_err(|error| PgError::new(SqlState::SyntaxError, format!("syntax error: {error}")))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(mut statement), None) => {
            let _: ControlFlow<()> = visit_expressions_mut(&mut statement, |expr| {
                if let Some(aggregated) = aggregated_array(expr) {
                    *expr = aggregated;
                }
                ControlFlow::Continue(())
            });
            let _: ControlFlow<()> = visit_relations_mut(&mut statement, |name| {
                qualify(name);
                ControlFlow::Continue(())
            });
            Ok(statement)
        }
        _ => Err(PgError::new(
            SqlState::SyntaxError,
            "syntax error: expected one statement",
        )),
    }
}

/// Names the schema of a table of the catalog that stands without one: the crate's rules know not all of them.
fn qualify(name: &mut ObjectName) {
    let [ObjectNamePart::Identifier(only)] = name.0.as_slice() else {
        return;
    };
    if super::has(&only.value) {
        let schema = ObjectNamePart::Identifier(Ident::new("pg_catalog"));
        name.0.insert(0, schema);
    }
}

/// `ARRAY(SELECT x FROM … ORDER BY y)` as `(SELECT array_agg(x ORDER BY y) FROM …)`, which DataFusion has.
fn aggregated_array(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let FunctionArguments::Subquery(query) = &function.args else {
        return None;
    };
    if !function.name.to_string().eq_ignore_ascii_case("array") {
        return None;
    }
    let mut query = query.as_ref().clone();
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_mut_slice()
    else {
        return None;
    };
    let order = match order.map(|o| o.kind) {
        Some(OrderByKind::Expressions(keys)) => {
            // `ORDER BY 1` is the item itself
            let keys = keys.iter().map(|key| match key.expr.to_string().as_str() {
                "1" => item.to_string(),
                _ => key.to_string(),
            });
            format!(" ORDER BY {}", keys.collect::<Vec<_>>().join(", "))
        }
        Some(OrderByKind::All(_)) | None => String::new(),
    };
    let call = format!("array_agg({item}{order})");
    *item = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(&call)
        .ok()?
        .parse_expr()
        .ok()?;
    Some(Expr::Subquery(Box::new(query)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_about_the_catalog_are_rewritten() {
        for (sql, expected) in [
            ("SELECT * FROM pg_class", true),
            ("select 1 from pg_catalog.pg_type", true),
            ("SELECT 'items'::regclass", true),
            ("SELECT table_name FROM information_schema.tables", true),
            ("SELECT pg_classic FROM t", false),
            ("SELECT pg_backend_pid()", false),
            ("SELECT * FROM readings", false),
        ] {
            assert_eq!(mentions_catalog(sql), expected, "{sql}");
        }
    }

    #[test]
    fn white_space_is_collapsed_outside_of_quotes_only() {
        assert_eq!(normalize("a\n  ( b ,  'x  y' )"), "a (b , 'x  y')");
    }

    #[test]
    fn array_subqueries_become_aggregates() {
        let rewritten = rewrite(
            "SELECT ARRAY(SELECT a FROM pg_catalog.pg_am a WHERE oid = c.oid ORDER BY 1) FROM pg_class c",
        );
        let text = rewritten.unwrap().to_string();
        assert!(
            text.contains(
                "(SELECT array_agg(a ORDER BY a) FROM pg_catalog.pg_am a WHERE oid = c.oid)"
            ),
            "{text}"
        );
    }
}
