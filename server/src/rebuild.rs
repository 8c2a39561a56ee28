//! CREATE OR REPLACE MATERIALIZED VIEW and ALTER MATERIALIZED VIEW ... REBUILD: views built beside the old ones.

use datafusion::sql::sqlparser::ast;
use rivermark_executor::ExecutorError;
use rivermark_executor::api::{CatalogChange, Retention, ViewState};
use rivermark_planner::alter::{NewDefinition, all_dependents, described, plan_replacement};
use rivermark_planner::catalog::{Catalog, Object, ObjectId, ObjectKind, QualifiedName};
use rivermark_planner::lower::{ViewQuery, plan_view};
use rivermark_planner::retention::RowRetention;
use rivermark_planner::statement::{ObjectName, RelationKind, Statement};

use crate::catalog::creation_name;
use crate::ddl::ATTEMPTS;
use crate::half_built::HalfBuilt;
use crate::pg_error::{Notice, PgError};
use crate::session::Session;
use crate::sqlstate::SqlState;

/// What the successor of a view is to be.
enum New<'a> {
    /// As the statement says.
    Replaced {
        statement: &'a Statement,
        query: Box<ast::Query>,
        zone: String,
        sql: &'a str,
    },
    /// As it is.
    Rebuilt,
}

impl Session {
    /// Runs CREATE OR REPLACE MATERIALIZED VIEW where there is such a view; `false` where there is none yet.
    pub async fn replace_materialized_view(
        &mut self,
        statement: &Statement,
        sql: &str,
    ) -> Result<bool, PgError> {
        let Statement::CreateMaterializedView { name, query, .. } = statement else {
            return Err(PgError::new(
                SqlState::InternalError,
                "not a CREATE MATERIALIZED VIEW",
            ));
        };
        let name = creation_name(name, &self.shared)?;
        let new = New::Replaced {
            statement,
            query: Box::new(self.resolved(query, sql)?),
            zone: self.zone(),
            sql,
        };
        self.build_beside(Retention::NotAsked, &new, |session, catalog| {
            let old = existing(catalog, &name)?;
            if let Some(object) = old.and_then(|id| catalog.get(id)) {
                session.require_owner(catalog, object)?;
            }
            Ok(old)
        })
        .await
    }

    /// Runs ALTER MATERIALIZED VIEW ... REBUILD.
    pub async fn rebuild(
        &mut self,
        name: &ObjectName,
        if_exists: bool,
        force: bool,
    ) -> Result<(), PgError> {
        let retention = match force {
            true => Retention::Force,
            false => Retention::Refuse,
        };
        self.build_beside(retention, &New::Rebuilt, |session, catalog| {
            let kind = RelationKind::MaterializedView;
            let target = session.alter_target(catalog, kind, name, if_exists, false)?;
            Ok(target.map(|object| object.id))
        })
        .await
        .map(|_| ())
    }

    /// Runs ALTER MATERIALIZED VIEW ... RESUME: by the sources' offsets where that is possible, else by a rebuild.
    pub async fn resume(&mut self, name: &ObjectName, if_exists: bool) -> Result<(), PgError> {
        let (mut must_rebuild, mut is_asked) = (false, false);
        let resumed = self
            .change_catalog(|session, catalog| {
                let kind = RelationKind::MaterializedView;
                let target = session.alter_target(catalog, kind, name, if_exists, false)?;
                let Some(object) = target else {
                    must_rebuild = false;
                    return Ok(None);
                };
                session.refuse_unpaused(&object)?;
                must_rebuild = !reads_only_sources(catalog, object.id);
                is_asked = !must_rebuild;
                Ok(is_asked.then_some(CatalogChange::Resume { view: object.id }))
            })
            .await;
        match resumed {
            // One of those that read it was paused before it was.
            Err(error) if is_asked && error.state == SqlState::ObjectNotInPrerequisiteState => {
                self.rebuild(name, if_exists, false).await
            }
            Err(error) => Err(error),
            Ok(_) if must_rebuild => self.rebuild(name, if_exists, false).await,
            Ok(_) => Ok(()),
        }
    }

    fn refuse_unpaused(&self, object: &Object) -> Result<(), PgError> {
        let views = self.server.engine.materialized_views();
        let is_paused = views
            .iter()
            .any(|view| view.view == object.id && view.state == ViewState::Paused);
        if is_paused {
            return Ok(());
        }
        let message = format!("{} is not paused", described(object));
        Err(PgError::new(
            SqlState::ObjectNotInPrerequisiteState,
            message,
        ))
    }

    async fn build_beside(
        &mut self,
        retention: Retention,
        new: &New<'_>,
        mut target: impl FnMut(&mut Session, &Catalog) -> Result<Option<ObjectId>, PgError>,
    ) -> Result<bool, PgError> {
        let is_awaited = !self.shared.settings.lock().is_on("background_ddl");
        for attempt in 1.. {
            let turn = self.turn().await;
            let Some(id) = target(self, &turn.catalog)? else {
                return Ok(false);
            };
            let definition = new_definition(&turn.catalog, id, new)?;
            let notices = definition.planned.plan.notices.clone();
            self.require_readable(&turn.catalog, &definition.planned.view.depends_on)?;
            let members = plan_replacement(&turn.catalog, id, definition)?;
            let change = CatalogChange::Replace { members, retention };
            let mut half_built = HalfBuilt::submit(self, turn, change);
            match half_built.registered().await {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => continue,
                other => other?,
            }
            if matches!(new, New::Replaced { .. }) {
                for notice in notices {
                    self.notify_now(Notice::new(notice));
                }
            }
            if is_awaited {
                half_built.ready().await?;
            }
            half_built.keep();
            break;
        }
        Ok(true)
    }
}

fn new_definition(
    catalog: &Catalog,
    id: ObjectId,
    new: &New<'_>,
) -> Result<NewDefinition, PgError> {
    let New::Replaced {
        statement,
        query,
        zone,
        sql,
    } = new
    else {
        return Ok(NewDefinition::of_present(catalog, id)?);
    };
    let Statement::CreateMaterializedView {
        columns,
        options,
        emit_on_window_close,
        ..
    } = statement
    else {
        return Err(PgError::new(SqlState::InternalError, "not a definition"));
    };
    let view = ViewQuery {
        query,
        columns,
        time_zone: zone,
        text: Some(sql),
        emit_on_window_close: *emit_on_window_close,
    };
    let planned = plan_view(catalog, view)?;
    Ok(NewDefinition {
        retention: RowRetention::of(options, &planned.plan.root)?,
        sql: sql.to_string(),
        planned,
        emit_on_window_close: *emit_on_window_close,
        options: options.clone(),
    })
}

/// Whether a view and all that read it scan nothing but sources and one another.
fn reads_only_sources(catalog: &Catalog, id: ObjectId) -> bool {
    let mut group = all_dependents(catalog, id);
    group.push(id);
    let mut pending = group.clone();
    while let Some(id) = pending.pop() {
        for input in catalog.get(id).iter().flat_map(|o| &o.depends_on) {
            match catalog.get(*input).map(|o| &o.kind) {
                Some(ObjectKind::View(_)) => pending.push(*input),
                Some(ObjectKind::Source(_)) => {}
                Some(ObjectKind::MaterializedView(_)) if group.contains(input) => {}
                Some(
                    ObjectKind::Table(_) | ObjectKind::MaterializedView(_) | ObjectKind::Index(_),
                )
                | None => {
                    return false;
                }
            }
        }
    }
    true
}

/// The materialized view of that name, if there is one; no other relation is replaced.
fn existing(catalog: &Catalog, name: &QualifiedName) -> Result<Option<ObjectId>, PgError> {
    let Some(object) = catalog.find(name) else {
        return Ok(None);
    };
    if matches!(object.kind, ObjectKind::MaterializedView(_)) {
        return Ok(Some(object.id));
    }
    let message = format!("\"{}\" is not a materialized view", name.name);
    let hint = format!("It is a {}; drop it first.", object.kind_name());
    Err(PgError::new(SqlState::WrongObjectType, message).with_hint(hint))
}
