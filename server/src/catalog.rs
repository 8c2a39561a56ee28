//! What names mean to a statement: relations of its snapshot, system views and PostgreSQL's catalogs, in one place.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemTable, TableProvider};
use rivermark_executor::snapshot::Snapshot;
use rivermark_executor::stored_rows::StoredRows;
use rivermark_planner::catalog::{Object, ObjectId, QualifiedName};
use rivermark_planner::statement::ObjectName;

use crate::pg_error::PgError;
use crate::rows::Rows;
use crate::serve::ServerState;
use crate::sessions::SessionShared;
use crate::sqlstate::SqlState;
use crate::transaction::WrittenTables;
use crate::{information_schema, pg_catalog, system_views};

/// The one database.
pub const DATABASE_NAME: &str = "rivermark";

/// Schemas that the server itself provides.
pub const SYSTEM_SCHEMAS: &[&str] = &["information_schema", "pg_catalog", "rivermark"];

/// What `version()` says; clients look for "PostgreSQL N".
pub const VERSION_TEXT: &str = concat!(
    "PostgreSQL 15.0 (Rivermark ",
    env!("CARGO_PKG_VERSION"),
    "), compiled by rustc, 64-bit"
);

/// The names that one statement can see: those of its snapshot and the system's.
#[derive(Clone)]
pub struct Namespace {
    pub snapshot: Arc<Snapshot>,
    pub session: Arc<SessionShared>,
    pub server: Arc<ServerState>,
    /// What the transaction has written.
    pub written: WrittenTables,
}

impl Namespace {
    /// The schemas to look an unqualified name up in, in order. `pg_catalog` comes first, as in PostgreSQL.
    pub fn search_path(&self) -> Vec<String> {
        let mut path = self.session.settings.lock().search_path();
        if !path.iter().any(|s| s == "pg_catalog") {
            path.insert(0, "pg_catalog".to_string());
        }
        path
    }

    /// The catalog object of that name, if there is one.
    pub fn object(&self, name: &ObjectName) -> Option<Arc<Object>> {
        let catalog = &self.snapshot.catalog;
        let find = |schema: &str| catalog.find(&name.resolve(schema)).cloned();
        match &name.schema {
            Some(schema) => find(schema),
            None => self.search_path().iter().find_map(|schema| find(schema)),
        }
    }

    /// The rows of a table, materialized view or source.
    pub fn object_table(&self, object: &Object) -> Result<Arc<dyn TableProvider>, PgError> {
        Ok(match self.written.get(&object.id) {
            Some(own) => self.snapshot.table_provider_with(object.id, own.clone())?,
            None => self.snapshot.table_provider(object.id)?,
        })
    }

    /// Single rows of a table or materialized view.
    pub fn stored_rows(&self, relation: ObjectId) -> Result<StoredRows, PgError> {
        let own = self.written.get(&relation).cloned();
        Ok(self.snapshot.stored_rows(relation, own)?)
    }

    /// The rows of a relation that the server itself provides; `None` if it is none.
    pub fn system_table(
        &self,
        schema: &str,
        name: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>, PgError> {
        match schema {
            // every unqualified name comes by here first
            "pg_catalog" if !pg_catalog::has(name) => Ok(None),
            "pg_catalog" => pg_catalog::table(name, &self.pg_scope()),
            "information_schema" => {
                let catalog = match self.is_superuser() {
                    true => self.snapshot.catalog.clone(),
                    false => {
                        let role = self.session.role(&self.snapshot.catalog);
                        Arc::new(self.snapshot.catalog.seen_by(&role))
                    }
                };
                let rows = information_schema::table(
                    name,
                    &catalog,
                    pg_catalog::system_relations(),
                    &self.session.user,
                );
                rows.map(|rows| provider(&rows)).transpose()
            }
            "rivermark" => {
                let rows = system_views::rows(name, self)?;
                rows.map(|rows| provider(&rows)).transpose()
            }
            _ => Ok(None),
        }
    }

    fn pg_scope(&self) -> pg_catalog::Scope {
        // Released before the sessions are listed: this one's settings are among theirs.
        let settings = self.session.settings.lock().clone();
        pg_catalog::Scope {
            catalog: self.snapshot.catalog.clone(),
            settings,
            user: self.session.user.clone(),
            sessions: self.sessions(),
        }
    }

    /// The schema of a relation that the server itself provides.
    pub fn system_schema(&self, schema: &str, name: &str) -> Result<Option<SchemaRef>, PgError> {
        Ok(self.system_table(schema, name)?.map(|table| table.schema()))
    }
}

/// Rows as a table that DataFusion can scan.
pub fn provider(rows: &Rows) -> Result<Arc<dyn TableProvider>, PgError> {
    let table = MemTable::try_new(rows.schema(), vec![vec![rows.batch()]])?;
    Ok(Arc::new(table))
}

/// The error for a relation that does not exist.
pub fn undefined_relation(name: &ObjectName) -> PgError {
    PgError::new(
        SqlState::UndefinedTable,
        format!("relation \"{}\" does not exist", written(name)),
    )
}

/// The error for an index where rows are wanted.
pub fn no_rows_of_index(name: &str) -> PgError {
    let message = format!("cannot open relation \"{name}\"");
    PgError::new(SqlState::WrongObjectType, message)
        .with_detail("This operation is not supported for indexes.")
}

/// A name as it was written.
pub fn written(name: &ObjectName) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

/// The name that a new relation gets; system schemas take no new relations.
pub fn creation_name(name: &ObjectName, session: &SessionShared) -> Result<QualifiedName, PgError> {
    let qualified = name.resolve(&session.settings.lock().current_schema());
    if SYSTEM_SCHEMAS.contains(&qualified.schema.as_str()) {
        let message = format!(
            "permission denied to create relations in system schema \"{}\"",
            qualified.schema
        );
        return Err(PgError::new(SqlState::InsufficientPrivilege, message));
    }
    Ok(qualified)
}
