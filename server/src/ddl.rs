//! CREATE, DROP and COMMENT. Statements take turns, so that what was planned against one catalog is applied to it.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use rivermark_executor::ExecutorError;
use rivermark_executor::api::{CatalogChange, NewMaterializedView, OperatorStatus};
use rivermark_planner::alter::described;
use rivermark_planner::bind::bind_scalar;
use rivermark_planner::catalog::{
    Catalog, DEFAULT_SCHEMA, Object, ObjectId, ObjectKind, QualifiedName, SourceDef, TableDef,
    ViewDef,
};
use rivermark_planner::computed_time::computed_time;
use rivermark_planner::explain::{explain_shared, explain_with};
use rivermark_planner::lower::{BoundView, PlannedView, ViewQuery, bind_view, plan_view};
use rivermark_planner::parse_query::parse_query;
use rivermark_planner::plan::PlanNode;
use rivermark_planner::prefix::Prefix;
use rivermark_planner::retention::RowRetention;
use rivermark_planner::security::Privilege;
use rivermark_planner::statement::{ObjectName, Statement};
use tokio::sync::OwnedMutexGuard;

use crate::assignment::arrow_zone;
use crate::catalog::{DATABASE_NAME, SYSTEM_SCHEMAS, creation_name, undefined_relation};
use crate::half_built::HalfBuilt;
use crate::pg_error::{Notice, PgError};
use crate::privileges::denied;
use crate::session::Session;
use crate::sqlstate::SqlState;

/// How often a change is planned again because the catalog changed under it.
pub const ATTEMPTS: usize = 5;

/// What an operator has done, at the end of its line.
fn measured(operator: &OperatorStatus) -> String {
    let mut text = format!(
        "(rows in={} out={}, time={:.3} ms",
        operator.rows_in,
        operator.rows_out,
        operator.busy.as_secs_f64() * 1000.0
    );
    if operator.has_state {
        text += &format!(", state={} bytes", operator.state_bytes);
    }
    if let Some(ratio) = operator.cache_hit_ratio {
        text += &format!(", cache hits={:.0} %", ratio * 100.0);
    }
    text + ")"
}

/// A statement's turn at the catalog.
pub struct Turn {
    pub catalog: Arc<Catalog>,
    _guard: OwnedMutexGuard<()>,
}

impl Session {
    /// Waits for this session's turn at changing the catalog.
    pub async fn turn(&mut self) -> Turn {
        let guard = self.server.ddl.clone().lock_owned().await;
        let catalog = self.server.engine.snapshot().catalog.clone();
        *self.shared.catalog.write() = catalog.clone();
        Turn {
            catalog,
            _guard: guard,
        }
    }

    /// Takes a turn, plans a change and applies it; again if the catalog has changed meanwhile without a turn of ours.
    /// A plan that finds nothing to do is `None`.
    pub async fn change_catalog(
        &mut self,
        mut plan: impl FnMut(&mut Session, &Catalog) -> Result<Option<CatalogChange>, PgError>,
    ) -> Result<(), PgError> {
        for attempt in 1.. {
            let turn = self.turn().await;
            let Some(change) = plan(self, &turn.catalog)? else {
                break;
            };
            match self.apply(&turn, change).await {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => {}
                other => return other.map(|_| ()).map_err(PgError::from),
            }
        }
        Ok(())
    }

    pub async fn apply(
        &mut self,
        turn: &Turn,
        change: CatalogChange,
    ) -> Result<Option<ObjectId>, ExecutorError> {
        let role = self.shared.role(&turn.catalog);
        self.server
            .engine
            .change_catalog_as(&role, turn.catalog.version, change)
            .await
    }

    /// Whether a relation of that name may be created; `false` (with a notice) where IF NOT EXISTS skips it.
    pub fn may_create(
        &mut self,
        catalog: &Catalog,
        name: &QualifiedName,
        if_not_exists: bool,
    ) -> Result<bool, PgError> {
        if !catalog.schemas().contains(&name.schema) {
            let message = format!("schema \"{}\" does not exist", name.schema);
            return Err(PgError::new(SqlState::InvalidSchemaName, message));
        }
        self.require_creator(catalog, &name.schema)?;
        if catalog.find(name).is_none() {
            return Ok(true);
        }
        let message = format!("relation \"{}\" already exists", name.name);
        if !if_not_exists {
            return Err(PgError::new(SqlState::DuplicateTable, message));
        }
        self.notify(Notice::new(format!("{message}, skipping")));
        Ok(false)
    }

    /// Checks that a source's generated columns can be computed from its messages' columns.
    pub fn check_generated(&mut self, def: &SourceDef) -> Result<(), PgError> {
        let planner = self.planner("");
        computed_time(def)?;
        let schema = def.of_messages().physical_schema();
        for column in &def.columns {
            if let Some(text) = &column.generated {
                bind_scalar(text, &schema, &planner.state, Some(&column.data_type))?;
            }
        }
        Ok(())
    }

    pub async fn create_source(
        &mut self,
        name: &ObjectName,
        if_not_exists: bool,
        def: &SourceDef,
        sql: &str,
    ) -> Result<(), PgError> {
        // The server reaches more brokers than whoever asks for one.
        self.require_superuser("permission denied to create source")?;
        let name = creation_name(name, &self.shared)?;
        self.check_generated(def)?;
        self.change_catalog(|session, catalog| {
            let is_new = session.may_create(catalog, &name, if_not_exists)?;
            Ok(is_new.then(|| CatalogChange::CreateSource {
                name: name.clone(),
                sql: sql.to_string(),
                def: def.clone(),
            }))
        })
        .await
    }

    pub async fn create_table(
        &mut self,
        name: &ObjectName,
        if_not_exists: bool,
        def: &TableDef,
        sql: &str,
    ) -> Result<(), PgError> {
        let name = creation_name(name, &self.shared)?;
        self.check_expressions(def)?;
        self.change_catalog(|session, catalog| {
            let is_new = session.may_create(catalog, &name, if_not_exists)?;
            Ok(is_new.then(|| CatalogChange::CreateTable {
                name: name.clone(),
                sql: sql.to_string(),
                def: def.clone(),
            }))
        })
        .await
    }

    fn view_query<'a>(
        &self,
        query: &'a ast::Query,
        columns: &'a [String],
        zone: &'a str,
        sql: &'a str,
    ) -> ViewQuery<'a> {
        ViewQuery {
            query,
            columns,
            time_zone: zone,
            text: Some(sql),
            emit_on_window_close: false,
        }
    }

    pub fn zone(&self) -> String {
        arrow_zone(&self.shared.settings.lock().time_zone())
    }

    /// The query with its names resolved by this session's search_path, where that is not the default one.
    pub fn resolved(&mut self, query: &ast::Query, sql: &str) -> Result<ast::Query, PgError> {
        let path = self.shared.settings.lock().search_path();
        if path == [DEFAULT_SCHEMA] {
            return Ok(query.clone());
        }
        self.planner(sql).qualify(query)
    }

    pub async fn create_view(
        &mut self,
        name: &ObjectName,
        or_replace: bool,
        columns: &[String],
        query: &ast::Query,
        sql: &str,
    ) -> Result<(), PgError> {
        let name = creation_name(name, &self.shared)?;
        let query = self.resolved(query, sql)?;
        let zone = self.zone();
        self.change_catalog(|session, catalog| {
            let old = catalog.find(&name).cloned();
            match &old {
                Some(old) if or_replace && !matches!(old.kind, ObjectKind::View(_)) => {
                    let message = format!("\"{}\" is not a view", name.name);
                    return Err(PgError::new(SqlState::WrongObjectType, message));
                }
                Some(old) if or_replace => session.require_owner(catalog, old)?,
                _ => {
                    session.may_create(catalog, &name, false)?;
                }
            }
            let view = bind_view(catalog, session.view_query(&query, columns, &zone, sql))?;
            session.require_readable(catalog, &view.depends_on)?;
            if let Some(old) = &old {
                check_replacement(old, &view, catalog)?;
            }
            let BoundView {
                columns,
                bound_sql,
                depends_on,
            } = view;
            Ok(Some(CatalogChange::CreateView {
                name: name.clone(),
                sql: sql.to_string(),
                def: ViewDef {
                    columns,
                    query: bound_sql,
                },
                depends_on,
                replace: old.is_some(),
            }))
        })
        .await
    }

    pub async fn create_materialized_view(
        &mut self,
        statement: &Statement,
        sql: &str,
    ) -> Result<(), PgError> {
        let Statement::CreateMaterializedView {
            name,
            or_replace,
            if_not_exists,
            columns,
            options,
            query,
            emit_on_window_close,
        } = statement
        else {
            return Err(PgError::new(
                SqlState::InternalError,
                "not a CREATE MATERIALIZED VIEW",
            ));
        };
        if *or_replace && self.replace_materialized_view(statement, sql).await? {
            return Ok(());
        }
        let name = creation_name(name, &self.shared)?;
        let query = self.resolved(query, sql)?;
        let zone = self.zone();
        let is_awaited = !self.shared.settings.lock().is_on("background_ddl");
        for attempt in 1.. {
            let turn = self.turn().await;
            if !self.may_create(&turn.catalog, &name, *if_not_exists)? {
                return Ok(());
            }
            let view = ViewQuery {
                emit_on_window_close: *emit_on_window_close,
                ..self.view_query(&query, columns, &zone, sql)
            };
            let PlannedView { view, plan } = plan_view(&turn.catalog, view)?;
            self.require_readable(&turn.catalog, &view.depends_on)?;
            let notices = plan.notices.clone();
            let retention = RowRetention::of(options, &plan.root)?;
            let change = CatalogChange::CreateMaterializedView(Box::new(NewMaterializedView {
                name: name.clone(),
                sql: sql.to_string(),
                bound_sql: view.bound_sql,
                columns: view.columns,
                depends_on: view.depends_on,
                emit_on_window_close: *emit_on_window_close,
                options: options.clone(),
                retention,
                plan,
            }));
            let mut half_built = HalfBuilt::submit(self, turn, change);
            match half_built.registered().await {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => continue,
                other => other?,
            }
            // the view may take long to catch up
            for notice in notices {
                self.notify_now(Notice::new(notice));
            }
            if is_awaited {
                half_built.ready().await?;
            }
            half_built.keep();
            break;
        }
        Ok(())
    }

    /// The lines of EXPLAIN CREATE MATERIALIZED VIEW.
    pub fn explain_materialized_view(
        &mut self,
        statement: &Statement,
        sql: &str,
    ) -> Result<Vec<String>, PgError> {
        let Statement::CreateMaterializedView {
            columns,
            query,
            emit_on_window_close,
            ..
        } = statement
        else {
            return Err(PgError::new(
                SqlState::InternalError,
                "not a CREATE MATERIALIZED VIEW",
            ));
        };
        let query = self.resolved(query, sql)?;
        let zone = self.zone();
        let names = self.namespace();
        // positions would count from the wrong place: the text begins with EXPLAIN
        let view = ViewQuery {
            query: &query,
            columns,
            time_zone: &zone,
            text: Some(sql),
            emit_on_window_close: *emit_on_window_close,
        };
        let planned = plan_view(&names.snapshot.catalog, view)?;
        self.require_readable(&names.snapshot.catalog, &planned.view.depends_on)?;
        let views_with = |prefix: &Prefix| names.server.engine.views_with(prefix);
        let mut lines = explain_shared(&planned.plan, &views_with);
        lines.extend(
            planned
                .plan
                .notices
                .iter()
                .map(|notice| format!("NOTICE: {notice}")),
        );
        Ok(lines)
    }

    /// The lines of EXPLAIN ANALYZE MATERIALIZED VIEW: the plan with what its operators have done.
    pub fn explain_running(&mut self, name: &ObjectName) -> Result<Vec<String>, PgError> {
        let names = self.namespace();
        let object = names.object(name).ok_or_else(|| undefined_relation(name))?;
        let ObjectKind::MaterializedView(def) = &object.kind else {
            let message = format!("\"{}\" is not a materialized view", object.name);
            return Err(PgError::new(SqlState::WrongObjectType, message));
        };
        names.authorize(&object, Privilege::Select)?;
        let query = parse_query(&def.query)?;
        let view = ViewQuery {
            emit_on_window_close: def.emit_on_window_close,
            ..self.view_query(&query, &[], "UTC", &def.query)
        };
        let plan = plan_view(&names.snapshot.catalog, view)?.plan;
        if plan.fingerprint != def.fingerprint {
            let message = format!(
                "materialized view \"{}\" needs a rebuild: this version has another plan for it",
                object.name
            );
            return Err(PgError::new(
                SqlState::ObjectNotInPrerequisiteState,
                message,
            ));
        }
        let mut operators = names.server.engine.operators();
        operators.retain(|operator| operator.view == object.id);
        let note = |line: usize, _: Option<&PlanNode>| operators.get(line).map(measured);
        Ok(explain_with(&plan, &note))
    }

    pub async fn create_schema(&mut self, name: &str, if_not_exists: bool) -> Result<(), PgError> {
        if name.starts_with("pg_") || SYSTEM_SCHEMAS.contains(&name) {
            let message = format!("unacceptable schema name \"{name}\"");
            return Err(
                PgError::new(SqlState::InvalidName, message).with_detail("The name is reserved.")
            );
        }
        self.change_catalog(|session, catalog| {
            let role = session.shared.role(catalog);
            if !catalog.may_in_database(&role, Privilege::Create) {
                return Err(denied("database", DATABASE_NAME));
            }
            if !catalog.schemas().iter().any(|s| s == name) {
                let name = name.to_string();
                return Ok(Some(CatalogChange::CreateSchema { name }));
            }
            let message = format!("schema \"{name}\" already exists");
            if !if_not_exists {
                return Err(PgError::new(SqlState::DuplicateSchema, message));
            }
            session.notify(Notice::new(format!("{message}, skipping")));
            Ok(None)
        })
        .await
    }

    pub async fn comment(
        &mut self,
        name: &ObjectName,
        column: Option<&str>,
        comment: Option<&str>,
    ) -> Result<(), PgError> {
        self.change_catalog(|session, catalog| {
            let object = session
                .namespace()
                .object(name)
                .ok_or_else(|| crate::catalog::undefined_relation(name))?;
            session.require_owner(catalog, &object)?;
            if let Some(column) = column
                && object.schema().index_of(column).is_err()
            {
                let message = format!(
                    "column \"{column}\" of relation \"{}\" does not exist",
                    name.name
                );
                return Err(PgError::new(SqlState::UndefinedColumn, message));
            }
            Ok(Some(CatalogChange::Comment {
                object: object.id,
                column: column.map(str::to_string),
                comment: comment.map(str::to_string),
            }))
        })
        .await
    }
}

/// A replaced view must keep its columns, as in PostgreSQL, and must not read itself.
fn check_replacement(old: &Object, new: &BoundView, catalog: &Catalog) -> Result<(), PgError> {
    let ObjectKind::View(view) = &old.kind else {
        return Ok(());
    };
    let invalid = |message: String| Err(PgError::new(SqlState::InvalidTableDefinition, message));
    for (i, column) in view.columns.iter().enumerate() {
        match new.columns.get(i) {
            None => return invalid("cannot drop columns from view".to_string()),
            Some(now) if now.name != column.name => {
                return invalid(format!(
                    "cannot change name of view column \"{}\" to \"{}\"",
                    column.name, now.name
                ));
            }
            Some(now) if now.data_type != column.data_type => {
                return invalid(format!(
                    "cannot change data type of view column \"{}\" from {} to {}",
                    column.name, column.data_type, now.data_type
                ));
            }
            Some(_) => {}
        }
    }
    let mut pending = new.depends_on.clone();
    while let Some(id) = pending.pop() {
        if id == old.id {
            return Err(PgError::new(
                SqlState::InvalidObjectDefinition,
                format!(
                    "infinite recursion detected in rules for relation \"{}\"",
                    old.name.name
                ),
            ));
        }
        pending.extend(
            catalog
                .get(id)
                .iter()
                .flat_map(|o| o.depends_on.iter().copied()),
        );
    }
    let readers: Vec<_> = catalog
        .dependents(old.id)
        .filter(|o| matches!(o.kind, ObjectKind::MaterializedView(_)))
        .map(|o| described(o))
        .collect();
    if readers.is_empty() {
        return Ok(());
    }
    let message = format!(
        "cannot replace view {} because materialized views are built from it",
        old.name
    );
    Err(PgError::new(SqlState::DependentObjectsStillExist, message)
        .with_detail(readers.join("\n"))
        .with_hint("Drop the materialized views first."))
}
