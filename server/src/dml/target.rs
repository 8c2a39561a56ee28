//! The table that a statement changes.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{self, Ident, TableFactor, TableWithJoins};
use rivermark_executor::stored_rows::StoredRows;
use rivermark_planner::catalog::{Object, ObjectKind, TableDef};
use rivermark_planner::names::{fold, ident};
use rivermark_planner::security::Privilege;
use rivermark_planner::statement::ObjectName;

use crate::catalog::{no_rows_of_index, undefined_relation};
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::session::Session;
use crate::sqlstate::SqlState;

/// A table that a statement changes.
#[derive(Clone)]
pub struct Target {
    pub object: Arc<Object>,
    pub table: Arc<TableDef>,
    /// What its columns are qualified with.
    pub alias: Ident,
}

impl Target {
    pub fn name(&self) -> &str {
        &self.object.name.name
    }

    /// The position of a column.
    pub fn column(&self, name: &str) -> Result<usize, PgError> {
        self.table
            .columns
            .iter()
            .position(|c| c.name == name)
            .ok_or_else(|| {
                let message = format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    self.name()
                );
                PgError::new(SqlState::UndefinedColumn, message)
            })
    }

    /// Its columns, qualified.
    pub fn column_items(&self) -> impl Iterator<Item = ast::SelectItem> {
        self.table.columns.iter().map(|column| {
            let parts = vec![self.alias.clone(), ident(&column.name)];
            ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts))
        })
    }

    /// Its rows as the statement sees them.
    pub fn stored_rows(&self, planner: &StatementPlanner) -> Result<StoredRows, PgError> {
        let table = self.object.id;
        let own = planner.names.written.get(&table).cloned();
        Ok(planner.names.snapshot.stored_rows(table, own)?)
    }
}

/// What a statement does with the rows of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    Delete,
    Truncate,
    Copy,
}

impl Verb {
    fn words(self) -> &'static str {
        match self {
            Verb::Insert => "insert into",
            Verb::Update => "update",
            Verb::Delete => "delete from",
            Verb::Truncate => "truncate",
            Verb::Copy => "copy to",
        }
    }

    /// What it takes, but for what the statement reads.
    fn privilege(self) -> Privilege {
        match self {
            Verb::Insert | Verb::Copy => Privilege::Insert,
            Verb::Update => Privilege::Update,
            Verb::Delete => Privilege::Delete,
            Verb::Truncate => Privilege::Truncate,
        }
    }

    fn only_adds(self) -> bool {
        match self {
            Verb::Insert | Verb::Copy => true,
            Verb::Update | Verb::Delete | Verb::Truncate => false,
        }
    }
}

impl Session {
    /// The table that a statement changes; other relations can not be.
    pub fn target(
        &mut self,
        name: &ObjectName,
        alias: Option<Ident>,
        verb: Verb,
    ) -> Result<Target, PgError> {
        let names = self.namespace();
        let object = names.object(name).ok_or_else(|| undefined_relation(name))?;
        names.authorize(&object, verb.privilege())?;
        let hint = match &object.kind {
            ObjectKind::Table(table) if table.append_only && !verb.only_adds() => {
                let message = format!(
                    "cannot {} table \"{}\": it is append-only",
                    verb.words(),
                    object.name.name
                );
                return Err(PgError::new(SqlState::WrongObjectType, message));
            }
            ObjectKind::Table(table) => {
                let table = Arc::new(table.clone());
                let alias = alias.unwrap_or_else(|| ident(&object.name.name));
                return Ok(Target {
                    object,
                    table,
                    alias,
                });
            }
            ObjectKind::Source(_) => {
                "A source's rows come from its topic. Write to the topic, or use a table."
            }
            ObjectKind::View(_) | ObjectKind::MaterializedView(_) => {
                "Change the tables that the view reads."
            }
            ObjectKind::Index(_) => return Err(no_rows_of_index(&object.name.name)),
        };
        let message = format!(
            "cannot {} {} \"{}\"",
            verb.words(),
            object.kind_name(),
            object.name.name
        );
        Err(PgError::new(SqlState::WrongObjectType, message).with_hint(hint))
    }
}

/// A relation's name; a database before it must be ours.
pub fn object_name(name: &ast::ObjectName) -> Result<ObjectName, PgError> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(fold))
        .collect();
    let named = |schema: Option<&String>, name: &String| ObjectName {
        schema: schema.cloned(),
        name: name.clone(),
    };
    match parts.as_deref() {
        Some([name]) => Ok(named(None, name)),
        Some([schema, name]) => Ok(named(Some(schema), name)),
        Some([database, schema, name]) if database == crate::catalog::DATABASE_NAME => {
            Ok(named(Some(schema), name))
        }
        _ => {
            let message = format!("cross-database references are not implemented: \"{name}\"");
            Err(PgError::new(SqlState::FeatureNotSupported, message))
        }
    }
}

/// The name and alias of the table that an UPDATE or DELETE changes.
pub fn changed_table(table: &TableWithJoins) -> Result<(ObjectName, Option<Ident>), PgError> {
    match &table.relation {
        TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } if table.joins.is_empty() => {
            Ok((object_name(name)?, alias.as_ref().map(|a| a.name.clone())))
        }
        _ => {
            let message = format!("syntax error: expected a table's name, not {table}");
            Err(PgError::new(SqlState::SyntaxError, message))
        }
    }
}
