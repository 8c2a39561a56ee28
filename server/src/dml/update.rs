//! UPDATE and DELETE as queries for the rows that they take away.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, FromTable, Ident, SelectItem, SetExpr, TableFactor, TableWithJoins,
};
use rivermark_planner::names::{fold, ident};
use rivermark_planner::parse::parse_query;
use rivermark_planner::statement::{Change, ObjectName};

use crate::dml::row_query::{Joined, RowQuery};
use crate::dml::set_list::SetList;
use crate::dml::target::{Target, changed_table};
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::sqlstate::SqlState;

/// The relations that an UPDATE reads besides its table.
pub fn update_from(update: &ast::Update) -> &[TableWithJoins] {
    match &update.from {
        Some(
            ast::UpdateTableFromKind::AfterSet(from) | ast::UpdateTableFromKind::BeforeSet(from),
        ) => from,
        None => &[],
    }
}

pub fn update_query(
    change: &Change<ast::Update>,
    target: &Target,
    planner: &StatementPlanner,
) -> Result<RowQuery, PgError> {
    let update = &change.body;
    let reads = Reads {
        with: &change.with,
        target,
        table: &update.table,
        from: update_from(update),
        selection: &update.selection,
        has_returning: update.returning.is_some(),
    };
    reads.query(SetList::of(&update.assignments, target, planner)?, planner)
}

/// The table that a DELETE names.
pub fn delete_table(delete: &ast::Delete) -> Result<(ObjectName, Option<Ident>), PgError> {
    changed_table(deleted_from(delete)?)
}

fn deleted_from(delete: &ast::Delete) -> Result<&TableWithJoins, PgError> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    match tables.as_slice() {
        [table] => Ok(table),
        _ => Err(PgError::new(
            SqlState::SyntaxError,
            "syntax error: DELETE takes one table; others stand behind USING",
        )),
    }
}

pub fn delete_query(
    change: &Change<ast::Delete>,
    target: &Target,
    planner: &StatementPlanner,
) -> Result<RowQuery, PgError> {
    let delete = &change.body;
    let reads = Reads {
        with: &change.with,
        target,
        table: deleted_from(delete)?,
        from: delete.using.as_deref().unwrap_or_default(),
        selection: &delete.selection,
        has_returning: delete.returning.is_some(),
    };
    reads.query(SetList::default(), planner)
}

/// Every row of a table.
pub fn all_rows_query(target: &Target) -> Result<ast::Query, PgError> {
    let name = &target.object.name;
    let text = format!(
        "SELECT 1 FROM {}.{} AS {}",
        ident(&name.schema),
        ident(&name.name),
        target.alias
    );
    let mut query = *parse_query(&text)?;
    select_of(&mut query)?.projection = target.column_items().collect();
    Ok(query)
}

fn select_of(query: &mut ast::Query) -> Result<&mut ast::Select, PgError> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Ok(select),
        other => {
            let message = format!("not a SELECT: {other}");
            Err(PgError::new(SqlState::InternalError, message))
        }
    }
}

/// Whether an expression names no column and asks no query.
fn is_constant(expr: &Expr) -> bool {
    let found = ast::visit_expressions(expr, |expr| match expr {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::CompoundFieldAccess { .. }
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..)
        | Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let relation: ControlFlow<()> = ast::visit_relations(expr, |_| ControlFlow::Break(()));
    found.is_continue() && relation.is_continue()
}

/// Whether two rows can get the same key, so that an error tells those of its columns that are as they were.
fn shows_keys(set: &SetList, target: &Target) -> bool {
    let key = &target.table.primary_key;
    key.len() > 1 && set.columns.iter().any(|column| key.contains(column))
}

/// What a statement reads to find its rows.
struct Reads<'a> {
    with: &'a Option<ast::With>,
    target: &'a Target,
    table: &'a TableWithJoins,
    from: &'a [TableWithJoins],
    selection: &'a Option<Expr>,
    has_returning: bool,
}

impl Reads<'_> {
    /// `SELECT columns of the table, new values, columns of the others FROM table, others WHERE condition`.
    fn query(&self, set: SetList, planner: &StatementPlanner) -> Result<RowQuery, PgError> {
        let mut aliases = Vec::new();
        for table in self.from {
            add_aliases(table, &mut aliases);
        }
        check_unique(&aliases, self.target)?;
        let joined = match self.has_returning {
            true => joined(aliases, self.with, self.from, planner)?,
            false => Vec::new(),
        };
        let is_blind = self.with.is_none()
            && self.from.is_empty()
            && !self.has_returning
            && !shows_keys(&set, self.target)
            && self.selection.iter().chain(&set.values).all(is_constant);
        let mut query = *parse_query("SELECT 1")?;
        query.with.clone_from(self.with);
        let select = select_of(&mut query)?;
        select.projection = self.target.column_items().collect();
        select.projection.extend(set.items());
        for relation in &joined {
            for column in &relation.columns {
                let expr = Expr::CompoundIdentifier(vec![relation.alias.clone(), ident(column)]);
                let alias = Ident::new(format!("rm_from_{}", select.projection.len()));
                select
                    .projection
                    .push(SelectItem::ExprWithAlias { expr, alias });
            }
        }
        select.from = vec![self.table.clone()];
        select.from.extend_from_slice(self.from);
        select.selection.clone_from(self.selection);
        Ok(RowQuery {
            query,
            columns: set.columns,
            are_listed: true,
            is_width_open: false,
            assigned: set.assigned,
            is_blind,
            is_join: !self.from.is_empty(),
            joined,
        })
    }
}

fn check_unique(aliases: &[Ident], target: &Target) -> Result<(), PgError> {
    let mut met = BTreeSet::from([fold(&target.alias)]);
    match aliases
        .iter()
        .map(fold)
        .find(|name| !met.insert(name.clone()))
    {
        None => Ok(()),
        Some(name) => {
            let message = format!("table name \"{name}\" specified more than once");
            Err(PgError::new(SqlState::DuplicateAlias, message))
        }
    }
}

/// The named relations of a FROM clause, with their columns.
fn joined(
    aliases: Vec<Ident>,
    with: &Option<ast::With>,
    from: &[TableWithJoins],
    planner: &StatementPlanner,
) -> Result<Vec<Joined>, PgError> {
    let of_alias = |alias: Ident| {
        let mut query = *parse_query(&format!("SELECT {alias}.*"))?;
        query.with.clone_from(with);
        select_of(&mut query)?.from = from.to_vec();
        let columns = planner.qualify_named(&query)?.1;
        Ok(Joined { alias, columns })
    };
    aliases.into_iter().map(of_alias).collect()
}

/// What `*` stands for in a FROM clause.
pub fn star_items(
    with: &Option<ast::With>,
    from: &[TableWithJoins],
    planner: &StatementPlanner,
) -> Result<Vec<SelectItem>, PgError> {
    if from.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = *parse_query("SELECT *")?;
    query.with.clone_from(with);
    select_of(&mut query)?.from = from.to_vec();
    let (mut query, names) = planner.qualify_named(&query)?;
    let projection = std::mem::take(&mut select_of(&mut query)?.projection);
    let named = projection
        .into_iter()
        .zip(names)
        .map(|(item, name)| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                let alias = ident(&name);
                SelectItem::ExprWithAlias { expr, alias }
            }
            other => other,
        });
    Ok(named.collect())
}

fn add_aliases(table: &TableWithJoins, aliases: &mut Vec<Ident>) {
    let joins = table.joins.iter().map(|join| &join.relation);
    for factor in std::iter::once(&table.relation).chain(joins) {
        let (alias, name) = match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                add_aliases(table_with_joins, aliases);
                continue;
            }
            TableFactor::Table { alias, name, .. } | TableFactor::Function { alias, name, .. } => {
                (alias, name.0.last().and_then(|part| part.as_ident()))
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::NestedJoin { alias, .. }
            | TableFactor::TableFunction { alias, .. } => (alias, None),
            TableFactor::UNNEST { alias, .. } => match alias {
                Some(_) => (alias, None),
                None => {
                    aliases.push(Ident::new("unnest"));
                    continue;
                }
            },
            // The binder refuses it.
            _ => continue,
        };
        if let Some(alias) = alias.as_ref().map(|a| &a.name).or(name) {
            aliases.push(ident(&fold(alias)));
        }
    }
}
