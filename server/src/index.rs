//! CREATE INDEX.

use std::collections::BTreeSet;

use rivermark_executor::ExecutorError;
use rivermark_executor::api::CatalogChange;
use rivermark_planner::catalog::{
    Catalog, IndexColumn, IndexDef, Object, ObjectKind, QualifiedName, TableId,
};
use rivermark_planner::statement::{CreateIndex, NamedIndexColumn};
use rivermark_planner::types::SqlType;

use crate::catalog::{no_rows_of_index, undefined_relation};
use crate::ddl::ATTEMPTS;
use crate::half_built::HalfBuilt;
use crate::pg_catalog::indexes::find_index;
use crate::pg_catalog::relations::{Attribute, attributes};
use crate::pg_error::PgError;
use crate::session::Session;
use crate::sqlstate::SqlState;

/// Columns of an index at most, as in PostgreSQL.
const MAX_COLUMNS: usize = 32;
/// Bytes of a made name at most, as in PostgreSQL.
const MAX_NAME: usize = 63;

impl Session {
    /// Returns once the index is complete, unless `background_ddl` is set.
    pub async fn create_index(&mut self, create: &CreateIndex, sql: &str) -> Result<(), PgError> {
        let is_awaited = !self.shared.settings.lock().is_on("background_ddl");
        for attempt in 1.. {
            let turn = self.turn().await;
            let names = self.namespace();
            let object = names.object(&create.relation);
            let object = object.ok_or_else(|| undefined_relation(&create.relation))?;
            self.require_owner(&turn.catalog, &object)?;
            let def = definition(create, &object)?;
            let name = QualifiedName {
                schema: object.name.schema.clone(),
                name: match &create.name {
                    Some(name) => name.clone(),
                    None => made_name(&turn.catalog, &object, &create.columns),
                },
            };
            if !self.may_create(&turn.catalog, &name, create.if_not_exists)? {
                return Ok(());
            }
            if find_index(&turn.catalog, &name.schema, &name.name).is_some() {
                let message = format!("relation \"{}\" already exists", name.name);
                return Err(PgError::new(SqlState::DuplicateTable, message));
            }
            let sql = sql.to_string();
            let change = CatalogChange::CreateIndex { name, sql, def };
            let mut half_built = HalfBuilt::submit(self, turn, change);
            match half_built.registered().await {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => continue,
                other => other?,
            }
            if is_awaited {
                half_built.ready().await?;
            }
            half_built.keep();
            break;
        }
        Ok(())
    }
}

fn definition(create: &CreateIndex, object: &Object) -> Result<IndexDef, PgError> {
    check_relation(object)?;
    if create.columns.len() > MAX_COLUMNS {
        return Err(PgError::new(
            SqlState::TooManyColumns,
            format!("cannot use more than {MAX_COLUMNS} columns in an index"),
        ));
    }
    let all = attributes(object);
    let mut columns = Vec::with_capacity(create.columns.len());
    for named in &create.columns {
        let Some(column) = all.iter().position(|a| a.name == named.name) else {
            let message = format!("column \"{}\" does not exist", named.name);
            return Err(PgError::new(SqlState::UndefinedColumn, message));
        };
        check_type(&all[column])?;
        columns.push(IndexColumn {
            column,
            is_descending: named.is_descending,
            nulls_first: named.nulls_first,
        });
    }
    if create.is_unique {
        check_unique(object, &columns)?;
    }
    Ok(IndexDef {
        relation: object.id,
        columns,
        is_unique: create.is_unique,
        is_complete: false,
        entries: TableId(0),
    })
}

fn check_relation(object: &Object) -> Result<(), PgError> {
    let (detail, hint) = match &object.kind {
        ObjectKind::Table(_) | ObjectKind::MaterializedView(_) => return Ok(()),
        ObjectKind::Index(_) => return Err(no_rows_of_index(&object.name.name)),
        ObjectKind::View(_) => (
            "This operation is not supported for views.",
            "A view has no rows of its own. Index what it reads, or make it a materialized view.",
        ),
        ObjectKind::Source(_) => (
            "This operation is not supported for sources.",
            "A source is not stored. Create a materialized view of it and index that.",
        ),
    };
    let message = format!("cannot create index on relation \"{}\"", object.name.name);
    let error = PgError::new(SqlState::WrongObjectType, message);
    Err(error.with_detail(detail).with_hint(hint))
}

/// Types whose comparisons an index can serve.
fn check_type(column: &Attribute) -> Result<(), PgError> {
    match &column.data_type {
        SqlType::Boolean
        | SqlType::SmallInt
        | SqlType::Integer
        | SqlType::BigInt
        | SqlType::Real
        | SqlType::Double
        | SqlType::Numeric { .. }
        | SqlType::Text { .. }
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Uuid => Ok(()),
        SqlType::Json => Err(PgError::new(
            SqlState::UndefinedObject,
            "data type json has no default operator class for access method \"btree\"",
        )),
        SqlType::Interval | SqlType::Jsonb | SqlType::Array(_) | SqlType::Struct(_) => {
            let message = format!(
                "an index on column \"{}\" of type {} is not supported",
                column.name, column.data_type
            );
            let hint = "Index a column of a simple type; a materialized view can compute one.";
            Err(PgError::new(SqlState::FeatureNotSupported, message).with_hint(hint))
        }
    }
}

/// Uniqueness is only known where the primary key says so.
fn check_unique(object: &Object, columns: &[IndexColumn]) -> Result<(), PgError> {
    let key: BTreeSet<usize> = match &object.kind {
        ObjectKind::Table(table) => table.primary_key.iter().copied().collect(),
        ObjectKind::Source(_)
        | ObjectKind::View(_)
        | ObjectKind::MaterializedView(_)
        | ObjectKind::Index(_) => BTreeSet::new(),
    };
    let indexed: BTreeSet<usize> = columns.iter().map(|c| c.column).collect();
    if !key.is_empty() && key.is_subset(&indexed) {
        return Ok(());
    }
    let message = "a unique index is supported on the columns of the primary key only";
    let hint = "Only a primary key keeps rows unique: leave UNIQUE out, or make the columns the primary key.";
    Err(PgError::new(SqlState::FeatureNotSupported, message).with_hint(hint))
}

/// PostgreSQL's name for an index without one: `table_column_column_idx`, numbered where taken.
fn made_name(catalog: &Catalog, object: &Object, columns: &[NamedIndexColumn]) -> String {
    let columns: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let mut base = format!("{}_{}", object.name.name, columns.join("_"));
    let is_taken = |name: &str| {
        let name = QualifiedName {
            schema: object.name.schema.clone(),
            name: name.to_string(),
        };
        catalog.find(&name).is_some()
    };
    let suffixes = std::iter::once("_idx".to_string()).chain((1_u32..).map(|n| format!("_idx{n}")));
    for suffix in suffixes {
        while base.len() + suffix.len() > MAX_NAME {
            base.pop();
        }
        let name = format!("{base}{suffix}");
        if !is_taken(&name) {
            return name;
        }
    }
    base
}
