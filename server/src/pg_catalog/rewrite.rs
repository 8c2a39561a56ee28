//! What only statements about the catalog say, in words that every query may use: names of catalog functions, types
//! and operators with their schema, casts to `regclass` and its kin, `tableoid`, collations, functions in FROM.
//!
//! A cast to `regclass` is an oid where it is compared or cast on, and the name that PostgreSQL prints in a select list.

mod calls;
mod casts;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SetExpr, TableFactor, Value, VisitMut, VisitorMut,
};

use self::calls::{of_nothing, plain_call, relation_of_function};
pub use self::casts::oid_parameters;
use self::casts::{
    as_oid, compared, is_function_name, is_text, is_written, plain_type, reg_call, reg_cast,
    reg_type,
};

/// Schemas whose functions, types and operators are known without them.
const SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// Words that only statements about the catalog contain.
const MARKS: [&str; 6] = [
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

/// The query in words that the binder knows.
pub fn in_plain_words(query: &Query) -> Query {
    let mut query = query.clone();
    let mut relations = Relations::default();
    let _: ControlFlow<()> = VisitMut::visit(&mut query, &mut relations);
    show_names(&mut query);
    let mut words = Words {
        relations: relations.by_alias,
    };
    let _: ControlFlow<()> = VisitMut::visit(&mut query, &mut words);
    query
}

/// Relations by the name that the statement knows them under.
#[derive(Default)]
struct Relations {
    by_alias: BTreeMap<String, String>,
}

impl VisitorMut for Relations {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let known_as = match alias {
                    Some(alias) => folded(&alias.name),
                    None => last_part(name),
                };
                self.by_alias.insert(known_as, name.to_string());
            }
            factor => {
                if let Some(relation) = relation_of_function(factor) {
                    *factor = relation;
                } else if let TableFactor::Table { name, .. } = factor {
                    strip_schema(name);
                }
            }
        }
        ControlFlow::Continue(())
    }
}
/// Rewrites from the outside in, but for what depends on the rewritten inside.
struct Words {
    relations: BTreeMap<String, String>,
}

impl VisitorMut for Words {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            keep_name(item);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                if let Some(plain) = plain_operator(op) {
                    *op = plain;
                }
                if is_comparison(op) {
                    let (is_left_text, is_right_text) =
                        (is_function_name(left), is_function_name(right));
                    compared(left, is_right_text);
                    compared(right, is_left_text);
                }
            }
            Expr::InList { expr, list, .. } => {
                as_oid(expr);
                list.iter_mut().for_each(as_oid);
            }
            Expr::InSubquery { expr, .. } => as_oid(expr),
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            }
            | Expr::AllOp {
                left,
                compare_op,
                right,
            } => {
                if let Some(plain) = plain_operator(compare_op) {
                    *compare_op = plain;
                }
                as_oid(left);
                as_oid(right);
            }
            Expr::Like {
                pattern,
                escape_char,
                ..
            }
            | Expr::ILike {
                pattern,
                escape_char,
                ..
            } => escape_with_backslash(pattern, escape_char),
            Expr::Cast { .. } => self.cast(expr),
            Expr::CompoundFieldAccess { .. } => self.join_name(expr),
            Expr::Subquery(query) => {
                if let Some(nothing) = of_nothing(query) {
                    *expr = nothing;
                }
            }
            Expr::CompoundIdentifier(parts) => {
                if let Some(oid) = self.table_oid(parts) {
                    *expr = oid;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate { expr: inner, .. } => {
                let inner = std::mem::replace(inner.as_mut(), Expr::Value(Value::Null.into()));
                *expr = Expr::Nested(Box::new(inner));
            }
            Expr::Function(function) => {
                strip_schema(&mut function.name);
                if let Some(plain) = plain_call(function) {
                    *expr = plain;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Words {
    fn cast(&mut self, expr: &mut Expr) {
        let Expr::Cast {
            expr: operand,
            data_type,
            ..
        } = expr
        else {
            return;
        };
        if let Some(reg) = reg_type(data_type) {
            let is_name = is_written(operand);
            let operand = std::mem::replace(operand.as_mut(), Expr::Value(Value::Null.into()));
            let function = if is_name { "rm_reg_oid" } else { "rm_reg_name" };
            *expr = reg_call(function, reg, operand);
            return;
        }
        let is_text = is_text(data_type);
        if let Some(plain) = plain_type(data_type) {
            *data_type = plain;
        }
        // what is cast on is a name where text is wanted, and an oid otherwise
        if let Some((reg, inner)) = reg_cast(operand) {
            let function = if is_text { "rm_reg_name" } else { "rm_reg_oid" };
            **operand = reg_call(function, reg, inner);
        }
    }

    /// `alias.column[1]` as an element of the column, not of something in a column `alias`.
    fn join_name(&self, expr: &mut Expr) {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else {
            return;
        };
        let Expr::Identifier(table) = root.as_ref() else {
            return;
        };
        if let Some(AccessExpr::Dot(Expr::Identifier(column))) = access_chain.first()
            && self.relations.contains_key(&folded(table))
        {
            let name = vec![table.clone(), column.clone()];
            **root = Expr::CompoundIdentifier(name);
            access_chain.remove(0);
        }
    }

    /// `alias.tableoid`: PostgreSQL's system column.
    fn table_oid(&self, parts: &[Ident]) -> Option<Expr> {
        let [.., table, column] = parts else {
            return None;
        };
        if folded(column) != "tableoid" {
            return None;
        }
        let relation = self.relations.get(&folded(table))?;
        Some(call("to_regclass", vec![text(relation)]))
    }
}
/// In the outermost select list a cast to `regclass` is shown, be it of a literal.
fn show_names(query: &mut Query) {
    if let SetExpr::Select(select) = query.body.as_mut() {
        for item in &mut select.projection {
            keep_name(item);
            if let SelectItem::ExprWithAlias { expr, .. } = item
                && let Some((reg, operand)) = reg_cast(expr)
            {
                *expr = reg_call("rm_reg_name", reg, operand);
            }
        }
    }
}

/// Gives an item the name that PostgreSQL gives it, before it becomes something else.
fn keep_name(item: &mut SelectItem) {
    if let SelectItem::UnnamedExpr(expr) = item
        && let Expr::Cast { .. }
        | Expr::CompoundIdentifier(_)
        | Expr::Function(_)
        | Expr::Collate { .. } = expr
        && let Some(name) = output_name(expr)
    {
        *item = SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias: Ident::with_quote('"', name),
        };
    }
}

fn output_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => output_name(inner),
        Expr::Cast {
            expr, data_type, ..
        } => output_name(expr).or_else(|| reg_type(data_type).map(str::to_string)),
        Expr::Function(function) => Some(last_part(&function.name)),
        _ => None,
    }
}
/// `OPERATOR(pg_catalog.~)` as `~`.
fn plain_operator(op: &BinaryOperator) -> Option<BinaryOperator> {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else {
        return None;
    };
    Some(match parts.last()?.as_str() {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "||" => BinaryOperator::StringConcat,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        _ => return None,
    })
}

fn is_comparison(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

/// `LIKE 'pg/_%' ESCAPE '/'` with the escape character that LIKE has by itself.
fn escape_with_backslash(pattern: &mut Expr, escape_char: &mut Option<ast::ValueWithSpan>) {
    let escape = match escape_char.as_ref().map(|value| &value.value) {
        Some(Value::SingleQuotedString(escape)) => escape.clone(),
        _ => return,
    };
    let Expr::Value(value) = pattern else { return };
    let Value::SingleQuotedString(written) = &mut value.value else {
        return;
    };
    let mut escaped = String::new();
    let mut characters = written.chars();
    while let Some(c) = characters.next() {
        if escape.chars().eq([c]) {
            escaped.push('\\');
            escaped.extend(characters.next());
        } else if c == '\\' {
            escaped.push_str("\\\\");
        } else {
            escaped.push(c);
        }
    }
    *written = escaped;
    *escape_char = None;
}
fn strip_schema(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(schema), _] = name.0.as_slice()
        && SCHEMAS.contains(&folded(schema).as_str())
    {
        name.0.remove(0);
    }
}

fn last_part(name: &ObjectName) -> String {
    match name.0.last() {
        Some(ObjectNamePart::Identifier(ident)) => folded(ident),
        _ => name.to_string(),
    }
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_string()).into())
}

fn number(value: usize) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments
        .into_iter()
        .map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let query = rivermark_planner::parse::parse_query(sql).unwrap();
        in_plain_words(&query).to_string()
    }

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
    fn statements_are_put_into_plain_words() {
        for (sql, plain) in [
            (
                "SELECT pg_catalog.quote_ident(n) FROM pg_catalog.pg_class",
                "SELECT quote_ident(n) AS \"quote_ident\" FROM pg_catalog.pg_class",
            ),
            (
                "SELECT a FROM t WHERE a OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default",
                "SELECT a FROM t WHERE a ~ ('^(x)$')",
            ),
            (
                "SELECT 'items'::regclass, c.oid::pg_catalog.regclass AS r FROM c WHERE o = 'items'::regclass",
                "SELECT rm_reg_name('regclass', 'items') AS \"regclass\", rm_reg_name('regclass', c.oid) AS r \
                 FROM c WHERE o = rm_reg_oid('regclass', 'items')",
            ),
            (
                "SELECT 'x'::regclass::oid AS o, c.oid::regclass::text AS t FROM c",
                "SELECT rm_reg_oid('regclass', 'x')::INT AS o, rm_reg_name('regclass', c.oid)::TEXT AS t FROM c",
            ),
            (
                "SELECT p.tableoid FROM pg_catalog.pg_proc AS p",
                "SELECT to_regclass('pg_catalog.pg_proc') AS \"tableoid\" FROM pg_catalog.pg_proc AS p",
            ),
            (
                "SELECT n FROM s WHERE n NOT LIKE 'pg/_%' ESCAPE '/'",
                "SELECT n FROM s WHERE n NOT LIKE 'pg\\_%'",
            ),
            (
                "SELECT generate_subscripts(i.indkey, 1) AS n FROM i",
                "SELECT unnest(rm_subscripts(i.indkey, 0)) AS n FROM i",
            ),
            (
                "SELECT word FROM pg_catalog.pg_get_keywords()",
                "SELECT word FROM pg_catalog.pg_get_keywords AS pg_get_keywords",
            ),
        ] {
            assert_eq!(rewritten(sql), plain, "{sql}");
        }
    }
}
