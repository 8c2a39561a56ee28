//! Makes a query independent of its surroundings: names qualified, stars expanded, output columns named.
//!
//! With [`Mode::Bind`] the result is what is stored with a view. With [`Mode::Expand`] also views, generated columns
//! and window functions are replaced by the subqueries they stand for, so that DataFusion can bind it.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, Cte, DataType, Expr, GroupByExpr, JoinConstraint, ObjectName as AstName, Query,
    Select, SelectItem, SetExpr, Spanned, TableAlias, TableFactor, TableWithJoins, Value, VisitMut,
    VisitorMut,
};

use crate::bind_error::SourceText;
use crate::catalog::QualifiedName;
use crate::error::{PlanError, Result, UndefinedKind};
use crate::names::{fold, ident};
use crate::parse_query::parse_query;
use crate::relations::{Relation, RelationBody, Relations};
use crate::rewrite::aliases::{aliased, column_alias, scope_of, table_alias};
use crate::rewrite::asof::expand_asof;
use crate::rewrite::bags::{bag_operation, is_bag_difference};
use crate::rewrite::cast_names::name_casts;
use crate::rewrite::expressions::rewrite_expressions;
use crate::rewrite::first_rows::fetch_as_limit;
use crate::rewrite::grouping_keys::separate_grouping_keys;
use crate::rewrite::proctime::{check_as_of_now, is_as_of_now, mark_as_of_now, refuse_alone};
use crate::rewrite::scope::{Scope, constraint};
use crate::rewrite::select_list::{Names, expand_select_list, resolve_ordinals, strip_schemas};
use crate::rewrite::value_lists::type_literals;
use crate::statement::ObjectName;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Names, stars and output columns only.
    Bind,
    /// Also views, generated columns and windows.
    Expand,
    /// As [`Mode::Expand`], but EXCEPT ALL and INTERSECT ALL stay, for the streaming operator that counts rows.
    ExpandForStream,
}

impl Mode {
    /// Whether views, generated columns and windows are replaced.
    pub fn is_expanded(self) -> bool {
        match self {
            Mode::Bind => false,
            Mode::Expand | Mode::ExpandForStream => true,
        }
    }
}

/// A qualified query.
#[derive(Debug, Clone)]
pub struct Qualified {
    pub query: Query,
    /// PostgreSQL's names of the output columns, possibly with duplicates.
    pub columns: Vec<String>,
    /// Every relation that is read, by name; of an expanded query also those below views.
    pub relations: BTreeMap<QualifiedName, Relation>,
}

/// Qualifies `query`.
pub fn qualify(
    query: &Query,
    relations: &dyn Relations,
    mode: Mode,
    text: SourceText<'_>,
) -> Result<Qualified> {
    let mut query = query.clone();
    if mode.is_expanded() {
        rewrite_expressions(&mut query);
    }
    let mut qualifier = Qualifier {
        relations,
        mode,
        text,
        found: BTreeMap::new(),
        around: Vec::new(),
    };
    let names = qualifier.query(&mut query, &Ctes::default())?;
    if mode.is_expanded() {
        separate_grouping_keys(&mut query);
        name_casts(&mut query);
    }
    Ok(Qualified {
        query,
        columns: names.shown,
        relations: qualifier.found,
    })
}

/// Numbers in the first part of a recursive query as the integers that they are: DataFusion takes the types of what is
/// read again from there, before it knows PostgreSQL's.
fn integers_of(first: &mut SetExpr) {
    let SetExpr::Select(select) = first else {
        return;
    };
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        let Expr::Value(value) = &*expr else {
            continue;
        };
        if matches!(&value.value, Value::Number(digits, _) if digits.parse::<i32>().is_ok()) {
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(expr.clone()),
                data_type: DataType::Integer(None),
                array: false,
                format: None,
            };
        }
    }
}

/// Columns of the common table expressions in scope.
type Ctes = HashMap<String, Vec<String>>;

pub(super) struct Qualifier<'a> {
    relations: &'a dyn Relations,
    pub(super) mode: Mode,
    text: SourceText<'a>,
    found: BTreeMap<QualifiedName, Relation>,
    /// Columns of the queries around: there a name means one of these rather than the row of a relation.
    around: Vec<String>,
}

impl Qualifier<'_> {
    fn query(&mut self, query: &mut Query, outer: &Ctes) -> Result<Names> {
        if self.mode.is_expanded() {
            fetch_as_limit(query)?;
        }
        let mut ctes = outer.clone();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let columns = self.cte(cte, with.recursive, &ctes)?;
                ctes.insert(fold(&cte.alias.name), columns);
            }
        }
        let names = self.set_expr(&mut query.body, &ctes)?;
        // ORDER BY, LIMIT: only subqueries in them need anything
        let body = std::mem::replace(&mut query.body, Box::new(empty_values()));
        let with = query.with.take();
        let visited = self.subqueries(query, &ctes);
        (query.body, query.with) = (body, with);
        visited?;
        Ok(names)
    }

    fn cte(&mut self, cte: &mut Cte, is_recursive: bool, ctes: &Ctes) -> Result<Vec<String>> {
        let mut scope = ctes.clone();
        if is_recursive {
            if self.mode.is_expanded()
                && let SetExpr::SetOperation { left, .. } = cte.query.body.as_mut()
            {
                integers_of(left);
            }
            let mut first = cte.query.clone();
            if let SetExpr::SetOperation { left, .. } = *first.body {
                first.body = left;
            }
            let names = self.query(&mut first, ctes)?;
            scope.insert(
                fold(&cte.alias.name),
                aliased(&mut cte.alias.clone(), names.unique)?,
            );
        }
        let names = self.query(&mut cte.query, &scope)?;
        aliased(&mut cte.alias, names.unique)
    }

    fn set_expr(&mut self, body: &mut SetExpr, ctes: &Ctes) -> Result<Names> {
        match body {
            SetExpr::Select(select) => self.select(select, ctes),
            SetExpr::Query(query) => self.query(query, ctes),
            SetExpr::SetOperation {
                op,
                set_quantifier,
                left,
                right,
            } => {
                let names = self.set_expr(left, ctes)?;
                self.set_expr(right, ctes)?;
                if self.mode == Mode::Expand && is_bag_difference(*op, *set_quantifier) {
                    *body = bag_operation(*op, left, right, &names.unique)?;
                }
                Ok(names)
            }
            SetExpr::Values(values) => {
                let width = values.rows.first().map_or(0, |row| row.content.len());
                type_literals(values);
                self.subqueries(values, ctes)?;
                Ok(Names::of(
                    (1..=width).map(|i| format!("column{i}")).collect(),
                ))
            }
            SetExpr::Table(table) => {
                let parts = [&table.schema_name, &table.table_name];
                let name: Vec<String> = parts
                    .into_iter()
                    .flatten()
                    .map(|n| ident(n).to_string())
                    .collect();
                let mut query = parse_query(&format!("SELECT * FROM {}", name.join(".")))?;
                let names = self.query(&mut query, ctes)?;
                *body = *query.body;
                Ok(names)
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(unsupported(
                    "a data-changing statement in a query",
                    "run it as a statement of its own",
                ))
            }
        }
    }

    fn select(&mut self, select: &mut Select, ctes: &Ctes) -> Result<Names> {
        let mut from = std::mem::take(&mut select.from);
        let mut scope = Scope::default();
        for table in &mut from {
            scope.resolve_arguments(&mut table.relation);
            for join in &mut table.joins {
                scope.resolve_arguments(&mut join.relation);
            }
            let seen = seen_by(&table.relation, &scope);
            let joined = self.within(&seen, |inner| inner.table_with_joins(table, ctes))?;
            scope.cross(joined);
        }
        self.within(&scope, |inner| inner.subqueries(select, ctes))?;
        strip_schemas(select, &scope, &self.found);
        for table in &mut from {
            for join in &mut table.joins {
                strip_schemas(&mut join.join_operator, &scope, &self.found);
            }
        }
        select.from = from;
        let names = expand_select_list(select, &scope)?;
        resolve_ordinals(select);
        let from = std::mem::take(&mut select.from);
        let none = GroupByExpr::Expressions(Vec::new(), Vec::new());
        let keys = std::mem::replace(&mut select.group_by, none);
        scope.without_rows(&self.around).resolve_merged(select);
        (select.from, select.group_by) = (from, keys);
        // there a name is rather a result's than a row's
        scope
            .without_rows(&names.unique)
            .resolve_merged(&mut select.group_by);
        reject_star_elsewhere(&select.group_by)?;
        Ok(names)
    }

    /// Qualifies something that may refer to the columns of `scope` around it.
    fn within<T>(
        &mut self,
        scope: &Scope,
        qualify: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = self.around.len();
        let names = scope.star.iter().map(|column| column.name.clone());
        self.around.extend(names);
        let qualified = qualify(self);
        self.around.truncate(before);
        qualified
    }

    fn table_with_joins(&mut self, table: &mut TableWithJoins, ctes: &Ctes) -> Result<Scope> {
        refuse_alone(&table.relation)?;
        let mut scope = self.table_factor(&mut table.relation, ctes)?;
        for join in &mut table.joins {
            let is_as_of_now = is_as_of_now(&join.relation);
            if is_as_of_now {
                check_as_of_now(join)?;
            }
            scope.resolve_arguments(&mut join.relation);
            let seen = seen_by(&join.relation, &scope);
            let right = self.within(&seen, |inner| inner.table_factor(&mut join.relation, ctes))?;
            if let Some(JoinConstraint::On(_)) = constraint(&join.join_operator) {
                self.subqueries(&mut join.join_operator, ctes)?;
            }
            let columns: Vec<String> = right.star.iter().map(|c| c.name.clone()).collect();
            scope.join(join, right);
            scope.resolve_values(&mut join.join_operator);
            if join.global && self.mode.is_expanded() {
                expand_asof(join, &columns)?;
            }
            if is_as_of_now && self.mode == Mode::ExpandForStream {
                mark_as_of_now(join)?;
            }
        }
        Ok(scope)
    }

    pub(super) fn table_factor(&mut self, factor: &mut TableFactor, ctes: &Ctes) -> Result<Scope> {
        if let TableFactor::Table {
            sample: Some(_), ..
        }
        | TableFactor::Derived {
            sample: Some(_), ..
        } = factor
        {
            return Err(unsupported(
                "TABLESAMPLE",
                "filter by a value of the rows, such as WHERE id % 100 = 0",
            ));
        }
        match factor {
            TableFactor::Table { args: None, .. } => self.named(factor, ctes),
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                ..
            } => {
                let args = args.args.clone();
                let (name, alias) = (name.clone(), alias.clone());
                self.table_function(factor, &name, alias, args, ctes)
            }
            TableFactor::Function {
                name, alias, args, ..
            } => {
                let (name, alias, args) = (name.clone(), alias.clone(), args.clone());
                self.table_function(factor, &name, alias, args, ctes)
            }
            TableFactor::Derived {
                subquery, alias, ..
            } => {
                let names = self.query(subquery, ctes)?;
                scope_of(alias.as_mut(), names.unique)
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let scope = self.table_with_joins(table_with_joins, ctes)?;
                match alias {
                    Some(_) => scope_of(
                        alias.as_mut(),
                        scope.star.into_iter().map(|c| c.name).collect(),
                    ),
                    None => Ok(scope),
                }
            }
            TableFactor::UNNEST { .. } => self.unnest(factor, ctes),
            other => Err(unsupported(
                &format!("{other} in FROM"),
                "use a table, a view or a subquery",
            )),
        }
    }

    /// A table, view or common table expression.
    fn named(&mut self, factor: &mut TableFactor, ctes: &Ctes) -> Result<Scope> {
        let TableFactor::Table { name, alias, .. } = factor else {
            return Err(PlanError::Internal("not a named relation".to_string()));
        };
        let written = object_name(name)?;
        if written.schema.is_none()
            && let Some(columns) = ctes.get(&written.name)
        {
            let alias = alias.get_or_insert_with(|| table_alias(&written.name));
            return scope_of(Some(alias), columns.clone());
        }
        let Some(relation) = self.relations.relation(&written) else {
            return Err(PlanError::Undefined {
                kind: UndefinedKind::Relation,
                message: format!("relation \"{}\" does not exist", display_name(&written)),
                position: self.text.position_of(name.span()),
            });
        };
        *name = AstName::from(vec![
            ident(&relation.name.schema),
            ident(&relation.name.name),
        ]);
        let mut alias = alias
            .get_or_insert_with(|| table_alias(&relation.name.name))
            .clone();
        let scope = scope_of(Some(&mut alias), relation.columns())?;
        set_alias(factor, alias.clone());
        if self.mode.is_expanded() {
            self.expand_relation(factor, &relation, alias)?;
        }
        self.found.insert(relation.name.clone(), relation);
        Ok(scope)
    }

    /// Replaces a view, or a relation with generated columns, by its subquery.
    fn expand_relation(
        &mut self,
        factor: &mut TableFactor,
        relation: &Relation,
        mut alias: TableAlias,
    ) -> Result<()> {
        let subquery = match &relation.body {
            RelationBody::Rows(_) => return Ok(()),
            RelationBody::Generated { .. } => {
                let sql = relation.generated_sql().unwrap_or_default();
                let mut query = parse_query(&sql)?;
                rewrite_expressions(&mut query);
                query
            }
            RelationBody::View { columns, query } => {
                let mut query = parse_query(query)?;
                rewrite_expressions(&mut query);
                let names = self.query(&mut query, &Ctes::new())?;
                if alias.columns.is_empty() && names.unique != *columns {
                    alias.columns = columns.iter().map(|c| column_alias(c)).collect();
                }
                query
            }
        };
        *factor = derived(subquery, alias);
        Ok(())
    }

    /// Subqueries in the expressions of `node`, which holds no FROM clause of its own.
    pub(super) fn subqueries<T: VisitMut>(&mut self, node: &mut T, ctes: &Ctes) -> Result<()> {
        let mut visitor = Subqueries {
            qualifier: self,
            ctes,
            depth: 0,
        };
        match node.visit(&mut visitor) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// What of the relations before it a relation can refer to.
fn seen_by(factor: &TableFactor, before: &Scope) -> Scope {
    match factor {
        TableFactor::Derived { lateral: true, .. } => before.clone(),
        _ => Scope::default(),
    }
}

/// Calls the qualifier for the outermost queries inside expressions.
struct Subqueries<'a, 'b> {
    qualifier: &'a mut Qualifier<'b>,
    ctes: &'a Ctes,
    depth: usize,
}

impl VisitorMut for Subqueries<'_, '_> {
    type Break = Box<PlanError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        // The node itself may be the query whose other clauses are visited; its body is away then.
        let is_emptied =
            matches!(query.body.as_ref(), SetExpr::Values(values) if values.rows.is_empty());
        if self.depth == 0
            && !is_emptied
            && let Err(error) = self.qualifier.query(query, self.ctes)
        {
            return ControlFlow::Break(Box::new(error));
        }
        if !is_emptied {
            self.depth += 1;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let is_emptied =
            matches!(query.body.as_ref(), SetExpr::Values(values) if values.rows.is_empty());
        if !is_emptied {
            self.depth -= 1;
        }
        ControlFlow::Continue(())
    }
}

fn reject_star_elsewhere(group_by: &GroupByExpr) -> Result<()> {
    match group_by {
        GroupByExpr::All(_) => Err(unsupported("GROUP BY ALL", "list the columns to group by")),
        GroupByExpr::Expressions(..) => Ok(()),
    }
}

fn set_alias(factor: &mut TableFactor, to: TableAlias) {
    if let TableFactor::Table { alias, .. } = factor {
        *alias = Some(to);
    }
}

pub(super) fn derived(query: Query, alias: TableAlias) -> TableFactor {
    derived_of(query, alias, false)
}

/// A subquery that may refer to what stands before it in FROM, as a function there may.
pub(super) fn lateral(query: Query, alias: TableAlias) -> TableFactor {
    derived_of(query, alias, true)
}

fn derived_of(query: Query, alias: TableAlias, lateral: bool) -> TableFactor {
    TableFactor::Derived {
        lateral,
        subquery: Box::new(query),
        alias: Some(alias),
        sample: None,
    }
}

fn empty_values() -> SetExpr {
    SetExpr::Values(sqlparser::ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: Vec::new(),
    })
}

/// A relation's name as written; the database's own name may come first.
pub(super) fn object_name(name: &AstName) -> Result<ObjectName> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(fold))
        .collect();
    match parts.unwrap_or_default().as_slice() {
        [name] => Ok(ObjectName {
            schema: None,
            name: name.clone(),
        }),
        [schema, name] => Ok(ObjectName {
            schema: Some(schema.clone()),
            name: name.clone(),
        }),
        [database, schema, name] if database == "rivermark" => Ok(ObjectName {
            schema: Some(schema.clone()),
            name: name.clone(),
        }),
        _ => Err(unsupported(
            &format!("the relation name {name}"),
            "write schema.name; there is one database",
        )),
    }
}

fn display_name(name: &ObjectName) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

pub(super) fn unsupported(feature: &str, hint: &str) -> PlanError {
    PlanError::Unsupported {
        feature: feature.to_string(),
        hint: hint.to_string(),
    }
}
