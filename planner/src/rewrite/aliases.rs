//! Table aliases: the names that `AS t (a, b)` gives, filled up to all columns as DataFusion wants them.

use sqlparser::ast::{TableAlias, TableAliasColumnDef};

use crate::error::{PlanError, Result};
use crate::names::{fold, ident};
use crate::rewrite::scope::Scope;

/// The scope of a relation with an optional alias, whose column list is filled up to the relation's width.
pub(super) fn scope_of(alias: Option<&mut TableAlias>, columns: Vec<String>) -> Result<Scope> {
    match alias {
        Some(alias) => {
            let name = fold(&alias.name);
            let columns = aliased(alias, columns)?;
            Ok(Scope::of_table(Some(name), columns))
        }
        None => Ok(Scope::of_table(None, columns)),
    }
}

/// The columns as `alias` names them.
pub(super) fn aliased(alias: &mut TableAlias, mut columns: Vec<String>) -> Result<Vec<String>> {
    if alias.columns.is_empty() {
        return Ok(columns);
    }
    if alias.columns.len() > columns.len() {
        return Err(PlanError::InvalidDefinition {
            message: format!(
                "table \"{}\" has {} columns available but {} columns specified",
                fold(&alias.name),
                columns.len(),
                alias.columns.len()
            ),
            hint: None,
        });
    }
    for (column, named) in columns.iter_mut().zip(&alias.columns) {
        *column = fold(&named.name);
    }
    alias.columns.extend(
        columns[alias.columns.len()..]
            .iter()
            .map(|c| column_alias(c)),
    );
    Ok(columns)
}

/// Writes the names of `scope` into `alias`, for functions whose columns DataFusion names otherwise.
pub(super) fn name_columns(alias: &mut TableAlias, scope: &Scope) {
    alias.columns = scope.star.iter().map(|c| column_alias(&c.name)).collect();
}

/// `name`, `name:2`, ...: as many as `count`.
pub(super) fn numbered(name: &str, count: usize) -> Vec<String> {
    (1..=count)
        .map(|i| {
            if i == 1 {
                name.to_string()
            } else {
                format!("{name}:{i}")
            }
        })
        .collect()
}

pub(super) fn column_alias(name: &str) -> TableAliasColumnDef {
    TableAliasColumnDef {
        name: ident(name),
        data_type: None,
    }
}

/// `AS name`.
pub(super) fn table_alias(name: &str) -> TableAlias {
    TableAlias {
        explicit: true,
        name: ident(name),
        columns: Vec::new(),
        at: None,
    }
}
