//! Functions in FROM: the window functions, which become subqueries, and all others, whose column is named as
//! PostgreSQL names it.

use std::collections::HashMap;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName as AstName, Query, TableAlias, TableFactor,
    Value,
};

use crate::error::{PlanError, Result};
use crate::names::fold;
use crate::parse_query::parse_query;
use crate::rewrite::aliases::{name_columns, numbered, scope_of, table_alias};
use crate::rewrite::function_names::{array_of_rows, type_of_rows};
use crate::rewrite::qualify::{Mode, Qualifier, derived, lateral, object_name};
use crate::rewrite::scope::Scope;
use crate::window::{PARTITION_ARGUMENT, WindowCall, WindowKind};

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
        let has_ordinality = has_ordinality(factor);
        let mut alias = alias.unwrap_or_else(|| table_alias(&function));
        let mut columns = match row_columns(&function) {
            [] if function == "unnest" => numbered(&fold(&alias.name), args.len()),
            [] => vec![fold(&alias.name)],
            named => named.iter().map(ToString::to_string).collect(),
        };
        if has_ordinality {
            columns.push("ordinality".to_string());
        }
        let is_value = columns.len() == 1;
        let mut scope = scope_of(Some(&mut alias), columns)?;
        if is_value {
            scope.is_value();
        }
        name_columns(&mut alias, &scope);
        let mut args = args;
        for arg in &mut args {
            self.subqueries(arg, ctes)?;
        }
        if self.mode.is_expanded()
            && let Some(query) = rows_query(&function, &args, has_ordinality, self.mode)?
        {
            *factor = lateral(query, alias);
            return Ok(scope);
        }
        set_call(factor, alias, args);
        Ok(scope)
    }

    /// `unnest(…)`, which the parser knows by itself.
    pub(super) fn unnest(
        &mut self,
        factor: &mut TableFactor,
        ctes: &HashMap<String, Vec<String>>,
    ) -> Result<Scope> {
        let has_ordinality = has_ordinality(factor);
        let TableFactor::UNNEST {
            alias, array_exprs, ..
        } = factor
        else {
            return Err(PlanError::Internal("not an unnest".to_string()));
        };
        for expr in array_exprs.iter_mut() {
            self.subqueries(expr, ctes)?;
        }
        let alias = alias.get_or_insert_with(|| table_alias("unnest"));
        let mut columns = numbered(&fold(&alias.name), array_exprs.len());
        if has_ordinality {
            columns.push("ordinality".to_string());
        }
        let scope = scope_of(Some(alias), columns)?;
        name_columns(alias, &scope);
        if has_ordinality && self.mode.is_expanded() {
            let arg = |expr: &Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
            let args: Vec<FunctionArg> = array_exprs.iter().map(arg).collect();
            let alias = alias.clone();
            if let Some(query) = rows_query("unnest", &args, true, self.mode)? {
                *factor = lateral(query, alias);
            }
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
        let (mut exprs, mut keys) = (Vec::with_capacity(args.len()), Vec::new());
        for arg in &args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => exprs.push(expr),
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } if fold(name) == PARTITION_ARGUMENT => match expr {
                    Expr::Tuple(parts) => keys.extend(parts),
                    Expr::Nested(inner) => keys.push(inner.as_ref()),
                    key => keys.push(key),
                },
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
        let call = WindowCall::parse(kind, rest, &keys, &columns)?;
        let inner_sql = without_alias(inner);

        let mut alias = alias.unwrap_or_else(|| table_alias(&default_name));
        if self.mode.is_expanded() {
            let query = parse_query(&call.to_sql(&inner_sql, &columns))?;
            columns.extend(kind.added_columns().iter().map(ToString::to_string));
            let scope = scope_of(Some(&mut alias), columns)?;
            *factor = derived(query, alias);
            return Ok(scope);
        }
        columns.extend(kind.added_columns().iter().map(ToString::to_string));
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

fn has_ordinality(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table {
            with_ordinality, ..
        }
        | TableFactor::Function {
            with_ordinality, ..
        }
        | TableFactor::UNNEST {
            with_ordinality, ..
        } => *with_ordinality,
        _ => false,
    }
}

/// Gives the call in `factor` an alias and other arguments.
fn set_call(factor: &mut TableFactor, to: TableAlias, arguments: Vec<FunctionArg>) {
    match factor {
        TableFactor::Table {
            alias,
            args: Some(args),
            ..
        } => {
            *alias = Some(to);
            args.args = arguments;
        }
        TableFactor::Function { alias, args, .. } => {
            *alias = Some(to);
            *args = arguments;
        }
        _ => {}
    }
}

/// The rows of a function in FROM as a query, unless DataFusion has it as a table function.
fn rows_query(
    function: &str,
    args: &[FunctionArg],
    has_ordinality: bool,
    mode: Mode,
) -> Result<Option<Query>> {
    // counts without making an array
    let is_counted = function == "generate_series"
        && mode == Mode::Expand
        && !has_ordinality
        && args.iter().all(is_integer);
    if is_counted {
        return Ok(None);
    }
    let texts: Vec<String> = args.iter().map(ToString::to_string).collect();
    let call = |array: &str| format!("{array}({})", texts.join(", "));
    let arrays: Vec<String> = match function {
        "jsonb_each" => vec![call("rm_json_object_keys"), call("rm_jsonb_object_values")],
        "json_each" => vec![call("rm_json_object_keys"), call("rm_json_object_values")],
        "jsonb_each_text" | "json_each_text" => vec![
            call("rm_json_object_keys"),
            call("rm_json_object_value_texts"),
        ],
        "unnest" => texts.clone(),
        other => match array_of_rows(other) {
            Some(array) => vec![call(array)],
            None if has_ordinality => return Err(not_of_rows(function)),
            None => return parse_query(&format!("SELECT {} AS c0", call(other))).map(Some),
        },
    };
    let last = arrays.len().saturating_sub(1);
    let mut columns: Vec<String> = arrays
        .iter()
        .enumerate()
        .map(
            |(i, array)| match type_of_rows(function).filter(|_| i == last) {
                Some(json) => format!("CAST(unnest({array}) AS {json}) AS c{i}"),
                None => format!("unnest({array}) AS c{i}"),
            },
        )
        .collect();
    if has_ordinality {
        let lengths: Vec<String> = arrays.iter().map(|a| format!("cardinality({a})")).collect();
        let longest = format!("greatest({})", lengths.join(", "));
        columns.push(format!(
            "CAST(unnest(generate_series(1, {longest})) AS bigint) AS ordinality"
        ));
    }
    parse_query(&format!("SELECT {}", columns.join(", "))).map(Some)
}

fn not_of_rows(function: &str) -> PlanError {
    PlanError::unsupported(
        format!("WITH ORDINALITY of {function}()"),
        "it goes with unnest(), generate_series() and other functions that give rows",
    )
}

/// Whether an argument is an integer, written out.
fn is_integer(arg: &FunctionArg) -> bool {
    fn is_number(expr: &Expr) -> bool {
        match expr {
            Expr::Value(value) => {
                matches!(&value.value, Value::Number(digits, _) if digits.parse::<i64>().is_ok())
            }
            Expr::UnaryOp { expr, .. } | Expr::Nested(expr) => is_number(expr),
            _ => false,
        }
    }
    matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if is_number(expr))
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
