//! CREATE TABLE of a stored table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sqlparser::ast::Expr;
use sqlparser::tokenizer::Token;

use super::columns::{Check, ColumnList, Owner, column_list};
use super::input::Input;
use super::options::with_options;
use super::watermark::check_watermark;
use crate::catalog::{ColumnDef, TableDef, TableId};
use crate::error::{PlanError, Result, UndefinedKind};
use crate::names::fold;
use crate::parse::parse_expression;
use crate::statement::{ObjectName, Statement};
use crate::watermark::WatermarkOptions;

/// What stands behind CREATE TABLE. The rows' state table is allocated by the server: here it is `TableId(0)`.
pub(super) fn create_table(input: &mut Input) -> Result<Statement> {
    let if_not_exists = input.if_not_exists();
    let name = input.object_name("a table name")?;
    if input.is_at(&["AS"]) {
        return Err(PlanError::unsupported(
            "CREATE TABLE ... AS",
            "create the table with its columns, then INSERT INTO ... SELECT ...; or create a materialized view",
        ));
    }
    if !input.is_at_token(&Token::LParen) {
        return Err(input.expected("\"(\" and the table's columns"));
    }
    let list = column_list(input, Owner::Table)?;
    let table_options = with_options(input)?;
    if let Some(error) = refused_clause(input, &table_options) {
        return Err(error);
    }
    Ok(Statement::CreateTable {
        def: definition(&name, list, table_options)?,
        name,
        if_not_exists,
    })
}

fn refused_clause(input: &Input, options: &BTreeMap<String, String>) -> Option<PlanError> {
    if options.contains_key("connector") || input.is_at_one_of(&["INCLUDE", "FORMAT"]) {
        return Some(PlanError::unsupported(
            "CREATE TABLE with a connector",
            "create a source with FORMAT PLAIN and read it through a materialized view",
        ));
    }
    if input.is_at(&["AS"]) {
        return Some(PlanError::unsupported(
            "CREATE TABLE ... AS",
            "use INSERT INTO ... SELECT ... afterwards",
        ));
    }
    if input.is_at_one_of(&[
        "PARTITION",
        "INHERITS",
        "TABLESPACE",
        "USING",
        "ON",
        "WITHOUT",
    ]) {
        return Some(PlanError::unsupported(
            "this clause of CREATE TABLE",
            "leave it out",
        ));
    }
    None
}

fn definition(
    name: &ObjectName,
    list: ColumnList,
    options: BTreeMap<String, String>,
) -> Result<TableDef> {
    let ColumnList {
        mut columns,
        primary_key,
        unique,
        checks,
        watermark,
    } = list;
    if columns.is_empty() {
        return Err(PlanError::invalid_definition("the table has no columns"));
    }
    let mut key = Vec::new();
    for column in primary_key.unwrap_or_default() {
        let Some(index) = columns.iter().position(|c| c.name == column) else {
            return Err(PlanError::Undefined {
                kind: UndefinedKind::Column,
                message: format!("column \"{column}\" named in key does not exist"),
                position: None,
            });
        };
        columns[index].not_null = true;
        key.push(index);
    }
    refuse_unique(&unique, &key, &columns)?;
    let append_only = append_only(&options)?;
    if let Some(watermark) = &watermark {
        check_watermark(watermark, &columns)?;
        if !append_only {
            return Err(PlanError::InvalidDefinition {
                message: "WATERMARK FOR needs an append-only table".to_string(),
                hint: Some("add WITH (append_only = 'true')".to_string()),
            });
        }
    }
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    Ok(TableDef {
        columns,
        primary_key: key,
        append_only,
        watermark,
        checks: named_checks(&name.name, &names, checks)?,
        options,
        rows: TableId(0),
    })
}

/// What is unique besides the primary key is not checked; what is the primary key says nothing new.
fn refuse_unique(unique: &[Vec<String>], key: &[usize], columns: &[ColumnDef]) -> Result<()> {
    let key: BTreeSet<&str> = key.iter().map(|i| columns[*i].name.as_str()).collect();
    for names in unique {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        if let Some(unknown) = names.iter().find(|n| columns.iter().all(|c| c.name != **n)) {
            return Err(PlanError::Undefined {
                kind: UndefinedKind::Column,
                message: format!("column \"{unknown}\" named in key does not exist"),
                position: None,
            });
        }
        if names != key {
            return Err(PlanError::unsupported(
                "UNIQUE besides the primary key",
                "declare the columns as PRIMARY KEY, or look for duplicates in a view",
            ));
        }
    }
    Ok(())
}

/// A table's rows have no timestamp but their own, which `max_future` could be measured by.
const TABLE_WATERMARK_OPTIONS: [&str; 3] = ["late", "idle_timeout", "watermark_on_idle"];

fn append_only(options: &BTreeMap<String, String>) -> Result<bool> {
    let is_known = |k: &str| k == "append_only" || TABLE_WATERMARK_OPTIONS.contains(&k);
    if let Some(unknown) = options.keys().find(|k| !is_known(k)) {
        return Err(PlanError::invalid_option(format!(
            "unknown option \"{unknown}\": allowed are append_only, {}",
            TABLE_WATERMARK_OPTIONS.join(", ")
        )));
    }
    WatermarkOptions::of(options)?;
    match options
        .get("append_only")
        .map(|v| v.to_lowercase())
        .as_deref()
    {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(PlanError::invalid_option(format!(
            "option \"append_only\" must be 'true' or 'false', not '{other}'"
        ))),
    }
}

/// The only column that an expression reads.
fn single_column<'a>(expression: &str, columns: &'a [String]) -> Option<&'a String> {
    let expr = parse_expression(expression).ok()?;
    let mut read = BTreeSet::new();
    let _ = sqlparser::ast::visit_expressions(&expr, |expr| {
        let name = match expr {
            Expr::Identifier(name) => Some(fold(name)),
            Expr::CompoundIdentifier(parts) => parts.last().map(fold),
            _ => None,
        };
        read.extend(name.and_then(|name| columns.iter().find(|c| **c == name)));
        ControlFlow::<()>::Continue(())
    });
    let mut read = read.into_iter();
    match (read.next(), read.next()) {
        (Some(column), None) => Some(column),
        _ => None,
    }
}

/// Names for the nameless, as PostgreSQL makes them: `table_column_check` where it reads one column, `table_check`,
/// numbered where taken.
fn named_checks(
    table: &str,
    columns: &[String],
    checks: Vec<Check>,
) -> Result<Vec<(String, String)>> {
    let mut named: Vec<(String, String)> = Vec::with_capacity(checks.len());
    let given: Vec<String> = checks.iter().filter_map(|c| c.name.clone()).collect();
    for check in checks {
        let name = match check.name {
            Some(name) if named.iter().any(|(taken, _)| *taken == name) => {
                return Err(PlanError::Duplicate {
                    kind: UndefinedKind::Constraint,
                    message: format!("check constraint \"{name}\" already exists"),
                });
            }
            Some(name) => name,
            None => {
                let base = match single_column(&check.expression, columns) {
                    Some(column) => format!("{table}_{column}_check"),
                    None => format!("{table}_check"),
                };
                let is_taken =
                    |n: &String| given.contains(n) || named.iter().any(|(taken, _)| taken == n);
                let numbered = (1_u32..).map(|i| format!("{base}{i}"));
                std::iter::once(base.clone())
                    .chain(numbered)
                    .find(|n| !is_taken(n))
                    .unwrap_or(base)
            }
        };
        named.push((name, check.expression));
    }
    Ok(named)
}
