//! Functions in FROM: the window functions, which become subqueries, and all others, whose column is named as
//! PostgreSQL names it.

use std::collections::HashMap;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName as AstName, TableAlias, TableFactor,
};

use crate::error::{PlanError, Result};
use crate::names::fold;
use crate::parse_query::parse_query;
use crate::rewrite::aliases::{name_columns, scope_of, table_alias};
use crate::rewrite::function_names::{array_of_rows, type_of_rows};
use crate::rewrite::qualify::{Qualifier, derived, object_name};
use crate::rewrite::scope::Scope;
use crate::window::{WINDOW_COLUMNS, WindowCall, WindowKind};

impl Qualifier<'_> {
    pub(super) fn table_function(
        &mut self,
        factor: &mut TableFactor,
        name: &AstName,
        alias: Option<TableAlias>,
        args: Vec<FunctionArg>,
        ctes: &HashMap<String, Vec<String>>,
    ) -> Result<Scope> {
        let function = object_name(name)?.name;
        if let Some(kind) = WindowKind::of(&function)? {
            return self.window_function(factor, kind, alias, args, ctes);
        }
        let mut alias = alias.unwrap_or_else(|| table_alias(&function));
        let columns = match row_columns(&function) {
            [] => vec![fold(&alias.name)],
            named => named.iter().map(ToString::to_string).collect(),
        };
        let scope = scope_of(Some(&mut alias), columns)?;
        if self.mode.is_expanded()
            && let Some(query) = rows_query(&function, &args)?
        {
            name_columns(&mut alias, &scope);
            *factor = derived(query, alias);
            return Ok(scope);
        }
        name_columns(&mut alias, &scope);
        match factor {
            TableFactor::Table {
                alias: named,
                args: Some(args),
                ..
            } => {
                *named = Some(alias);
                for arg in &mut args.args {
                    self.subqueries(arg, ctes)?;
                }
            }
            TableFactor::Function { alias: named, .. } => *named = Some(alias),
            _ => {}
        }
        Ok(scope)
    }

    fn window_function(
        &mut self,
        factor: &mut TableFactor,
        kind: WindowKind,
        alias: Option<TableAlias>,
        args: Vec<FunctionArg>,
        ctes: &HashMap<String, Vec<String>>,
    ) -> Result<Scope> {
        let mut exprs = Vec::with_capacity(args.len());
        for arg in &args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => exprs.push(expr),
                other => return Err(misused(&format!("{other}"))),
            }
        }
        let Some((relation, rest)) = exprs.split_first() else {
            return Err(misused("no arguments"));
        };
        let (mut inner, default_name) = relation_of(relation)?;
        let mut columns: Vec<String> = self
            .table_factor(&mut inner, ctes)?
            .star
            .into_iter()
            .map(|c| c.name)
            .collect();
        let call = WindowCall::parse(kind, rest, &columns)?;
        let inner_sql = without_alias(inner);

        let mut alias = alias.unwrap_or_else(|| table_alias(&default_name));
        if self.mode.is_expanded() {
            let query = parse_query(&call.to_sql(&inner_sql, &columns))?;
            columns.extend(WINDOW_COLUMNS.map(str::to_string));
            let scope = scope_of(Some(&mut alias), columns)?;
            *factor = derived(query, alias);
            return Ok(scope);
        }
        columns.extend(WINDOW_COLUMNS.map(str::to_string));
        let scope = scope_of(Some(&mut alias), columns)?;
        let mut rewritten = vec![qualified_argument(&inner_sql)?];
        rewritten.extend(args.into_iter().skip(1));
        match factor {
            TableFactor::Table {
                alias: named,
                args: Some(args),
                ..
            } => {
                args.args = rewritten;
                *named = Some(alias);
            }
            TableFactor::Function {
                alias: named, args, ..
            } => {
                *args = rewritten;
                *named = Some(alias);
            }
            _ => {}
        }
        Ok(scope)
    }
}

/// Columns that a function names itself; of others there is one, called as the function is.
fn row_columns(function: &str) -> &'static [&'static str] {
    match function {
        "json_each" | "jsonb_each" | "json_each_text" | "jsonb_each_text" => &["key", "value"],
        "json_array_elements"
        | "jsonb_array_elements"
        | "json_array_elements_text"
        | "jsonb_array_elements_text" => &["value"],
        _ => &[],
    }
}

/// The rows of a function in FROM as a query, if it is one of those that give them as arrays.
fn rows_query(function: &str, args: &[FunctionArg]) -> Result<Option<sqlparser::ast::Query>> {
    let arrays: &[&str] = match function {
        "jsonb_each" => &["rm_json_object_keys", "rm_jsonb_object_values"],
        "json_each" => &["rm_json_object_keys", "rm_json_object_values"],
        "jsonb_each_text" | "json_each_text" => {
            &["rm_json_object_keys", "rm_json_object_value_texts"]
        }
        // DataFusion's own table function
        "generate_series" => return Ok(None),
        other => match array_of_rows(other) {
            Some(array) => &[array],
            None => return Ok(None),
        },
    };
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let columns: Vec<String> = arrays
        .iter()
        .enumerate()
        .map(|(i, array)| {
            let rows = format!("unnest({array}({}))", args.join(", "));
            match type_of_rows(function).filter(|_| i + 1 == arrays.len()) {
                Some(json) => format!("CAST({rows} AS {json}) AS c{i}"),
                None => format!("{rows} AS c{i}"),
            }
        })
        .collect();
    parse_query(&format!("SELECT {}", columns.join(", "))).map(Some)
}

/// The relation that the first argument names, and its name.
fn relation_of(argument: &Expr) -> Result<(TableFactor, String)> {
    let (sql, name) = match argument {
        Expr::Identifier(name) => (name.to_string(), fold(name)),
        Expr::CompoundIdentifier(parts) => {
            let text = parts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(".");
            (text, parts.last().map(fold).unwrap_or_default())
        }
        Expr::Subquery(query) => {
            return Ok((
                derived((**query).clone(), table_alias("t")),
                "t".to_string(),
            ));
        }
        Expr::Nested(inner) => return relation_of(inner),
        other => return Err(misused(&format!("{other}"))),
    };
    let query = parse_query(&format!("SELECT 1 FROM {sql}"))?;
    match *query.body {
        sqlparser::ast::SetExpr::Select(mut select) if select.from.len() == 1 => {
            Ok((select.from.remove(0).relation, name))
        }
        _ => Err(misused(&sql)),
    }
}

/// The factor as a FROM item without its alias. A subquery with renamed columns keeps them by another subquery.
fn without_alias(mut factor: TableFactor) -> String {
    match &mut factor {
        TableFactor::Derived {
            alias: Some(alias), ..
        } if !alias.columns.is_empty() => {
            let columns: Vec<String> = alias.columns.iter().map(|c| c.name.to_string()).collect();
            return format!("(SELECT {} FROM {factor})", columns.join(", "));
        }
        TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } => *alias = None,
        _ => {}
    }
    factor.to_string()
}

/// A FROM item as an argument again.
fn qualified_argument(sql: &str) -> Result<FunctionArg> {
    let mut parser = sqlparser::parser::Parser::new(&sqlparser::dialect::PostgreSqlDialect {})
        .try_with_sql(sql)
        .map_err(|error| PlanError::Internal(error.to_string()))?;
    let expr = parser
        .parse_expr()
        .map_err(|error| PlanError::Internal(error.to_string()))?;
    Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)))
}

fn misused(what: &str) -> PlanError {
    PlanError::InvalidDefinition {
        message: format!("a window function takes a relation and constant intervals, not {what}"),
        hint: Some("for example TUMBLE(readings, ts, INTERVAL '1 minute')".to_string()),
    }
}
