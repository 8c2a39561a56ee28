//! DROP: what goes, what depends on it, and what the statement says about that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rivermark_executor::ExecutorError;
use rivermark_executor::api::CatalogChange;
use rivermark_planner::alter::described;
use rivermark_planner::catalog::{Catalog, DEFAULT_SCHEMA, Object, ObjectId};
use rivermark_planner::security::BOOTSTRAP;
use rivermark_planner::statement::{ObjectName, RelationKind};

use crate::catalog::{SYSTEM_SCHEMAS, written};
use crate::ddl::ATTEMPTS;
use crate::pg_error::{Notice, PgError};
use crate::session::Session;
use crate::sqlstate::SqlState;

impl Session {
    /// Drops relations of one kind; the statement's tag.
    pub async fn drop_relations(
        &mut self,
        kind: RelationKind,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
    ) -> Result<&'static str, PgError> {
        self.change_catalog(|session, catalog| {
            let mut targets = BTreeSet::new();
            for name in names {
                targets.extend(session.drop_target(catalog, kind, name, if_exists)?);
            }
            let objects = session.with_dependents(catalog, targets, cascade)?;
            Ok((!objects.is_empty()).then_some(CatalogChange::Drop { objects }))
        })
        .await?;
        Ok(drop_tag(kind))
    }

    fn drop_target(
        &mut self,
        catalog: &Catalog,
        kind: RelationKind,
        name: &ObjectName,
        if_exists: bool,
    ) -> Result<Option<ObjectId>, PgError> {
        let path = self.shared.settings.lock().search_path();
        let found = find_relation(catalog, name, path);
        let what = kind_name(kind);
        let Some(object) = found else {
            let message = format!("{what} \"{}\" does not exist", written(name));
            if !if_exists {
                return Err(PgError::new(SqlState::UndefinedTable, message));
            }
            self.notify(Notice::new(format!("{message}, skipping")));
            return Ok(None);
        };
        if object.kind_name() != what {
            let error = PgError::new(
                SqlState::WrongObjectType,
                format!("\"{}\" is not a {what}", name.name),
            );
            let hint = format!(
                "Use DROP {} to remove a {}.",
                object.kind_name().to_uppercase(),
                object.kind_name()
            );
            return Err(error.with_hint(hint));
        }
        self.require_dropper(catalog, object)?;
        Ok(Some(object.id))
    }

    /// The targets and, with CASCADE, all that depends on them; without, dependants are an error.
    fn with_dependents(
        &mut self,
        catalog: &Catalog,
        targets: BTreeSet<ObjectId>,
        cascade: bool,
    ) -> Result<Vec<ObjectId>, PgError> {
        let (all, dependents) = closure(catalog, &targets);
        if !dependents.is_empty() && !cascade {
            let mut names = targets.iter().filter_map(|id| catalog.get(*id));
            let message = match (names.next(), names.next()) {
                (Some(one), None) => {
                    let one = described(one);
                    format!("cannot drop {one} because other objects depend on it")
                }
                _ => "cannot drop desired object(s) because other objects depend on them".into(),
            };
            return Err(PgError::new(SqlState::DependentObjectsStillExist, message)
                .with_detail(dependents.join("\n"))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let also: Vec<String> = all
            .difference(&targets)
            .filter_map(|id| catalog.get(*id))
            .map(|o| described(o))
            .collect();
        self.notify_cascade(&also);
        Ok(all.into_iter().collect())
    }

    /// Says what else goes, as PostgreSQL does.
    fn notify_cascade(&mut self, also: &[String]) {
        match also {
            [] => {}
            [one] => self.notify(Notice::new(format!("drop cascades to {one}"))),
            many => {
                let lines: Vec<String> = many
                    .iter()
                    .map(|one| format!("drop cascades to {one}"))
                    .collect();
                self.notify(Notice {
                    detail: Some(lines.join("\n")),
                    ..Notice::new(format!("drop cascades to {} other objects", many.len()))
                });
            }
        }
    }

    pub async fn drop_schemas(
        &mut self,
        names: &[String],
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), PgError> {
        for name in names {
            self.drop_schema(name, if_exists, cascade).await?;
        }
        Ok(())
    }

    async fn drop_schema(
        &mut self,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), PgError> {
        require_droppable(name)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let turn = self.turn().await;
            if !turn.catalog.schemas().iter().any(|s| s == name) {
                let message = format!("schema \"{name}\" does not exist");
                if !if_exists {
                    return Err(PgError::new(SqlState::InvalidSchemaName, message));
                }
                self.notify(Notice::new(format!("{message}, skipping")));
                return Ok(());
            }
            self.require_schema_owner(&turn.catalog, name)?;
            let inside: BTreeSet<ObjectId> = turn
                .catalog
                .objects()
                .filter(|o| o.name.schema == name)
                .map(|o| o.id)
                .collect();
            if !inside.is_empty() && !cascade {
                let message =
                    format!("cannot drop schema {name} because other objects depend on it");
                let detail = inside.iter().filter_map(|id| turn.catalog.get(*id));
                let detail: Vec<_> = detail
                    .map(|o| format!("{} depends on schema {name}", described(o)))
                    .collect();
                return Err(PgError::new(SqlState::DependentObjectsStillExist, message)
                    .with_detail(detail.join("\n"))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            // two changes: first what is inside, then the schema, which the next round finds empty
            let (all, _) = closure(&turn.catalog, &inside);
            let also = all.iter().filter_map(|id| turn.catalog.get(*id));
            let also: Vec<String> = also.map(|o| described(o)).collect();
            let objects: Vec<ObjectId> = all.into_iter().collect();
            let is_empty = objects.is_empty();
            let change = match is_empty {
                true => CatalogChange::DropSchema {
                    name: name.to_string(),
                },
                false => CatalogChange::Drop { objects },
            };
            match self.apply(&turn, change).await {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(_) if is_empty => return Ok(()),
                Ok(_) => self.notify_cascade(&also),
            }
        }
    }
}

impl Session {
    /// DROP OWNED: what the roles own goes, and what was granted to them.
    pub async fn drop_owned(&mut self, names: &[String], cascade: bool) -> Result<(), PgError> {
        let catalog = self.newest_names().snapshot.catalog.clone();
        let mut owners = Vec::new();
        for name in names {
            owners.push(self.meant_role(&catalog, name)?.name);
        }
        let own = self.shared.role(&catalog);
        if owners.iter().any(|owner| *owner != own) {
            self.require_superuser("permission denied to drop objects")?;
        }
        if owners.iter().any(|owner| owner == BOOTSTRAP) {
            let message = format!(
                "cannot drop objects owned by role {BOOTSTRAP} because they are required by the database system"
            );
            return Err(PgError::new(SqlState::DependentObjectsStillExist, message));
        }
        // Before anything is dropped: beside what can not be dropped nothing else must have gone.
        let mut schemas = owners
            .iter()
            .flat_map(|o| catalog.security.owned_schemas(o));
        schemas.try_for_each(require_droppable)?;
        self.change_catalog(|session, catalog| {
            let objects = session.owned_objects(catalog, &owners, cascade)?;
            Ok((!objects.is_empty()).then_some(CatalogChange::Drop { objects }))
        })
        .await?;
        let security = self.newest_names().snapshot.catalog.security.clone();
        for schema in owners
            .iter()
            .flat_map(|owner| security.owned_schemas(owner))
        {
            self.drop_schema(schema, true, cascade).await?;
        }
        self.change_security(|_, catalog| {
            let security = &mut catalog.security;
            owners.iter().for_each(|owner| security.revoke_all(owner));
            Ok(())
        })
        .await
    }

    /// What the roles own with all that depends on it, which without CASCADE is theirs too.
    fn owned_objects(
        &mut self,
        catalog: &Catalog,
        owners: &[String],
        cascade: bool,
    ) -> Result<Vec<ObjectId>, PgError> {
        let is_theirs = |owner: &str| owners.iter().any(|known| known == owner);
        let targets: BTreeSet<ObjectId> = catalog
            .objects()
            .filter(|object| object.as_index().is_none() && is_theirs(catalog.owner(object)))
            .map(|object| object.id)
            .collect();
        let others = catalog.objects().find(|object| {
            let owner = catalog.security.schema_owner(&object.name.schema);
            !targets.contains(&object.id) && object.as_index().is_none() && is_theirs(owner)
        });
        if let Some(object) = others.filter(|_| !cascade) {
            let schema = &object.name.schema;
            let message = format!("cannot drop schema {schema} because other objects depend on it");
            let detail = format!("{} depends on schema {schema}", described(object));
            return Err(PgError::new(SqlState::DependentObjectsStillExist, message)
                .with_detail(detail)
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        self.with_dependents(catalog, targets, cascade)
    }
}

/// The schemas of the server itself, and that of what has no other, stay.
fn require_droppable(schema: &str) -> Result<(), PgError> {
    if SYSTEM_SCHEMAS.contains(&schema) || schema == DEFAULT_SCHEMA {
        let message =
            format!("cannot drop schema {schema} because it is required by the database system");
        return Err(PgError::new(SqlState::DependentObjectsStillExist, message));
    }
    Ok(())
}

/// The targets with all that depends on them, and a line for each of the latter.
fn closure(catalog: &Catalog, targets: &BTreeSet<ObjectId>) -> (BTreeSet<ObjectId>, Vec<String>) {
    let mut all = targets.clone();
    let mut pending: VecDeque<ObjectId> = targets.iter().copied().collect();
    let mut lines = Vec::new();
    while let Some(id) = pending.pop_front() {
        // Indexes go with their relation, without a word.
        for object in catalog.dependents(id).filter(|o| o.as_index().is_none()) {
            if all.insert(object.id) {
                let on = catalog.get(id).map(|o| described(o)).unwrap_or_default();
                lines.push(format!("{} depends on {on}", described(object)));
                pending.push_back(object.id);
            }
        }
    }
    (all, lines)
}

/// The relation that `name` means with this search path.
pub fn find_relation<'a>(
    catalog: &'a Catalog,
    name: &ObjectName,
    search_path: Vec<String>,
) -> Option<&'a Arc<Object>> {
    let schemas = name
        .schema
        .clone()
        .map_or(search_path, |schema| vec![schema]);
    schemas
        .iter()
        .find_map(|schema| catalog.find(&name.resolve(schema)))
}

pub fn kind_name(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Source => "source",
        RelationKind::Table => "table",
        RelationKind::View => "view",
        RelationKind::MaterializedView => "materialized view",
        RelationKind::Sink => "sink",
        RelationKind::Index => "index",
    }
}

fn drop_tag(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Source => "DROP SOURCE",
        RelationKind::Table => "DROP TABLE",
        RelationKind::View => "DROP VIEW",
        RelationKind::MaterializedView => "DROP MATERIALIZED VIEW",
        RelationKind::Sink => "DROP SINK",
        RelationKind::Index => "DROP INDEX",
    }
}
