//! ALTER: what is altered, what of it is allowed, and the change of the catalog or of the rows that it comes to.

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use datafusion::arrow;
use rivermark_executor::ExecutorError;
use rivermark_executor::api::{CatalogChange, TableChange};
use rivermark_planner::alter::{self, all_dependents, check_dependents, described};
use rivermark_planner::bind::bind_scalar;
use rivermark_planner::catalog::{
    Catalog, ColumnDef, Object, ObjectId, ObjectKind, QualifiedName, TableDef,
};
use rivermark_planner::statement::{AlterAction, ObjectName, RelationKind};

use crate::catalog::{SYSTEM_SCHEMAS, undefined_relation, written};
use crate::constraints::bind_rules;
use crate::ddl::ATTEMPTS;
use crate::drop::{find_relation, kind_name};
use crate::pg_error::{Notice, PgError};
use crate::session::Session;
use crate::sqlstate::SqlState;

impl Session {
    /// Runs ALTER; the statement's tag.
    pub async fn alter(
        &mut self,
        kind: RelationKind,
        name: &ObjectName,
        if_exists: bool,
        action: &AlterAction,
    ) -> Result<&'static str, PgError> {
        if let AlterAction::Rebuild { force } = action {
            self.rebuild(name, if_exists, *force).await?;
            return Ok(alter_tag(kind));
        }
        if let AlterAction::Resume = action {
            self.resume(name, if_exists).await?;
            return Ok(alter_tag(kind));
        }
        for attempt in 1.. {
            let turn = self.turn().await;
            let catalog = turn.catalog.clone();
            let is_naming = matches!(
                action,
                AlterAction::Rename { .. }
                    | AlterAction::RenameColumn { .. }
                    | AlterAction::SetSchema { .. }
                    | AlterAction::SetOwner { .. }
            );
            let target = self.alter_target(&catalog, kind, name, if_exists, is_naming)?;
            let Some(object) = target else {
                break;
            };
            let Some(change) = self.alteration(&catalog, &object, action)? else {
                break;
            };
            // A change of rows may take long; other definitions go on meanwhile.
            drop(turn);
            match self
                .server
                .engine
                .change_catalog(catalog.version, change)
                .await
            {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok(alter_tag(kind))
    }

    /// The relation that is altered. `is_naming`: ALTER TABLE may then mean a view too, as in PostgreSQL.
    pub fn alter_target(
        &mut self,
        catalog: &Catalog,
        kind: RelationKind,
        name: &ObjectName,
        if_exists: bool,
        is_naming: bool,
    ) -> Result<Option<Object>, PgError> {
        let path = self.shared.settings.lock().search_path();
        let Some(object) = find_relation(catalog, name, path) else {
            if !if_exists {
                return Err(undefined_relation(name));
            }
            let message = format!("relation \"{}\" does not exist, skipping", written(name));
            self.notify(Notice::new(message));
            return Ok(None);
        };
        let is_table_like = kind == RelationKind::Table
            && is_naming
            && !matches!(object.kind, ObjectKind::Source(_) | ObjectKind::Index(_));
        if object.kind_name() != kind_name(kind) && !is_table_like {
            let message = format!("\"{}\" is not a {}", name.name, kind_name(kind));
            let hint = format!(
                "Use ALTER {} for a {}.",
                object.kind_name().to_uppercase(),
                object.kind_name()
            );
            return Err(PgError::new(SqlState::WrongObjectType, message).with_hint(hint));
        }
        self.require_owner(catalog, object)?;
        Ok(Some(object.as_ref().clone()))
    }

    /// What the action comes to; `None`: nothing is to be done.
    fn alteration(
        &mut self,
        catalog: &Catalog,
        object: &Object,
        action: &AlterAction,
    ) -> Result<Option<CatalogChange>, PgError> {
        refuse_replaced(catalog, object)?;
        let id = object.id;
        let mut after = catalog.clone();
        match action {
            AlterAction::Rename { to } => {
                let to = QualifiedName {
                    schema: object.name.schema.clone(),
                    name: to.clone(),
                };
                rename(&mut after, id, to)?;
            }
            AlterAction::SetSchema { schema } => {
                if *schema == object.name.schema {
                    return Ok(None);
                }
                let to = QualifiedName {
                    schema: schema.clone(),
                    name: object.name.name.clone(),
                };
                rename(&mut after, id, to)?;
                self.require_creator(catalog, schema)?;
            }
            AlterAction::SetOwner { owner } => {
                self.require_superuser("permission denied to change owners")?;
                let owner = self.meant_role(catalog, owner)?.name;
                after.security.give_relation(id, &owner);
                return Ok(Some(CatalogChange::Secure {
                    security: Box::new(after.security),
                }));
            }
            AlterAction::RenameColumn { column, to } => {
                alter::rename_column(&mut after, id, column, to)?;
            }
            AlterAction::SetDefault { column, default } => {
                alter::set_default(&mut after, id, column, default.clone())?;
                if let Some(ObjectKind::Table(table)) = after.get(id).map(|o| &o.kind) {
                    self.check_expressions(table)?;
                }
            }
            AlterAction::Pause => return Ok(Some(CatalogChange::Pause { view: id })),
            AlterAction::Rebuild { .. } | AlterAction::Resume => {
                let message = "a rebuild changes no definition";
                return Err(PgError::new(SqlState::InternalError, message));
            }
            AlterAction::AddColumn {
                column,
                if_not_exists,
            } => return self.add_column(after, object, column, *if_not_exists),
            AlterAction::SetNotNull { column, not_null } => {
                alter::set_not_null(&mut after, id, column, *not_null)?;
                if is_not_null(object, column) == *not_null {
                    return Ok(None);
                }
                if *not_null {
                    check_dependents(catalog, &after, id)?;
                    return Ok(Some(CatalogChange::ChangeTable {
                        table: id,
                        change: TableChange::SetNotNull {
                            column: column.clone(),
                        },
                    }));
                }
                refuse_readers(catalog, object, column)?;
            }
        }
        check_dependents(catalog, &after, id)?;
        Ok(Some(CatalogChange::Alter {
            after: Box::new(after),
        }))
    }

    fn add_column(
        &mut self,
        mut after: Catalog,
        object: &Object,
        column: &ColumnDef,
        if_not_exists: bool,
    ) -> Result<Option<CatalogChange>, PgError> {
        let before = after.clone();
        if if_not_exists && object.schema().index_of(&column.name).is_ok() {
            self.notify(Notice::new(format!(
                "column \"{}\" of relation \"{}\" already exists, skipping",
                column.name, object.name.name
            )));
            return Ok(None);
        }
        alter::add_column(&mut after, object.id, column.clone())?;
        check_dependents(&before, &after, object.id)?;
        match after.get(object.id).map(|o| &o.kind) {
            Some(ObjectKind::Source(def)) => {
                if column.not_null {
                    let message = "a new column of a source can not be NOT NULL";
                    return Err(
                        PgError::new(SqlState::FeatureNotSupported, message).with_hint(
                            "Messages that lack it would become dead letters; filter in the view.",
                        ),
                    );
                }
                self.check_generated(def)?;
                Ok(Some(CatalogChange::Alter {
                    after: Box::new(after),
                }))
            }
            Some(ObjectKind::Table(_)) => {
                if column.generated.is_some() {
                    let message =
                        "ALTER TABLE ... ADD COLUMN of a generated column is not supported";
                    return Err(PgError::new(SqlState::FeatureNotSupported, message)
                        .with_hint("Compute it in a view on the table."));
                }
                let fill = self.default_value(column)?;
                Ok(Some(CatalogChange::ChangeTable {
                    table: object.id,
                    change: TableChange::AddColumn {
                        column: column.clone(),
                        fill,
                    },
                }))
            }
            _ => Err(PgError::new(SqlState::InternalError, "a view got a column")),
        }
    }

    /// A new column's value for the rows that exist, one row long.
    fn default_value(&mut self, column: &ColumnDef) -> Result<ArrayRef, PgError> {
        let planner = self.planner("");
        if let Some(text) = &column.default {
            let nothing = Schema::empty();
            let bound = bind_scalar(text, &nothing, &planner.state, Some(&column.data_type))?;
            if bound.logical.is_volatile() {
                let message = "a new column's default must be the same for all rows that exist";
                return Err(
                    PgError::new(SqlState::FeatureNotSupported, message).with_hint(
                        "Add the column without it, UPDATE, and then ALTER COLUMN ... SET DEFAULT.",
                    ),
                );
            }
        }
        let alone = TableDef {
            columns: vec![column.clone()],
            primary_key: Vec::new(),
            append_only: false,
            watermark: None,
            checks: Vec::new(),
            options: Default::default(),
            rows: rivermark_planner::TableId(0),
        };
        let zone = self.shared.settings.lock().time_zone();
        bind_rules(&planner, &alone)?.default(0, 1, &zone, column)
    }
}

/// What is being built knows its inputs by the names that they have.
fn refuse_replaced(catalog: &Catalog, object: &Object) -> Result<(), PgError> {
    let mut ids = all_dependents(catalog, object.id);
    ids.push(object.id);
    if ids.iter().all(|id| catalog.replacement_of(*id).is_none()) {
        return Ok(());
    }
    let message = format!(
        "{} can not be altered while a materialized view that has to do with it is being rebuilt",
        described(object)
    );
    Err(PgError::new(SqlState::ObjectInUse, message)
        .with_hint("Wait until that is done; its progress is in rivermark.materialized_views."))
}

/// Checks the new name and gives it.
fn rename(catalog: &mut Catalog, id: ObjectId, to: QualifiedName) -> Result<(), PgError> {
    if SYSTEM_SCHEMAS.contains(&to.schema.as_str()) {
        let message = format!("permission denied for schema {}", to.schema);
        return Err(PgError::new(SqlState::InsufficientPrivilege, message));
    }
    if !catalog.schemas().contains(&to.schema) {
        let message = format!("schema \"{}\" does not exist", to.schema);
        return Err(PgError::new(SqlState::InvalidSchemaName, message));
    }
    if catalog.find(&to).is_some() {
        let message = format!("relation \"{}\" already exists", to.name);
        return Err(PgError::new(SqlState::DuplicateTable, message));
    }
    Ok(alter::rename(catalog, id, to)?)
}

fn is_not_null(object: &Object, column: &str) -> bool {
    match &object.kind {
        ObjectKind::Table(table) => table.columns.iter().any(|c| c.name == column && c.not_null),
        ObjectKind::Source(_)
        | ObjectKind::View(_)
        | ObjectKind::MaterializedView(_)
        | ObjectKind::Index(_) => false,
    }
}

/// Materialized views may rely on there being no NULL.
fn refuse_readers(catalog: &Catalog, object: &Object, column: &str) -> Result<(), PgError> {
    let readers: Vec<String> = all_dependents(catalog, object.id)
        .into_iter()
        .filter_map(|id| catalog.get(id))
        .filter(|o| matches!(o.kind, ObjectKind::MaterializedView(_)))
        .map(|o| described(o))
        .collect();
    if readers.is_empty() {
        return Ok(());
    }
    let message = format!(
        "cannot drop NOT NULL of column \"{column}\" because materialized views are built from {}",
        described(object)
    );
    Err(PgError::new(SqlState::DependentObjectsStillExist, message)
        .with_detail(readers.join("\n"))
        .with_hint("Drop the materialized views first, and create them again afterwards."))
}

fn alter_tag(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Source => "ALTER SOURCE",
        RelationKind::Table => "ALTER TABLE",
        RelationKind::View => "ALTER VIEW",
        RelationKind::MaterializedView => "ALTER MATERIALIZED VIEW",
        RelationKind::Sink => "ALTER SINK",
        RelationKind::Index => "ALTER INDEX",
    }
}
