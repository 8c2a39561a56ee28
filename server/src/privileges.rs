//! Whether a session may do what it asks: see `rivermark_planner::access` for what follows from roles, owners and grants.
//!
//! A query needs SELECT on what it names itself. UPDATE and DELETE read the rows they change, so they need SELECT too. A
//! statement sees the catalog of its transaction; what was revoked since then is denied all the same.

use std::sync::Arc;

use rivermark_planner::Catalog;
use rivermark_planner::catalog::{Object, ObjectId};
use rivermark_planner::security::Privilege;

use crate::catalog::Namespace;
use crate::pg_error::PgError;
use crate::serve::ServerState;
use crate::session::Session;
use crate::sessions::SessionRow;
use crate::sqlstate::SqlState;
use crate::transaction::WrittenTables;

/// Relations of the server itself that show what is not everyone's.
const FOR_SUPERUSERS: [(&str, &str); 5] = [
    ("pg_catalog", "pg_authid"),
    ("pg_catalog", "pg_shadow"),
    ("rivermark", "dead_letters"),
    ("rivermark", "secrets"),
    ("rivermark", "late_rows"),
];

/// What others see of a session's statement, as in PostgreSQL.
const HIDDEN: &str = "<insufficient privilege>";

impl Namespace {
    fn newest_catalog(&self) -> Arc<Catalog> {
        self.server.engine.snapshot().catalog.clone()
    }

    pub fn is_superuser(&self) -> bool {
        let catalog = self.newest_catalog();
        let role = self.session.role(&catalog);
        catalog.security.is_superuser(&role)
    }

    /// Whether nothing can be unreadable: for a superuser only views whose owners are none can be.
    pub fn may_read_all(&self) -> bool {
        let (newest, seen) = (self.newest_catalog(), &self.snapshot.catalog.security);
        let security = &newest.security;
        security.is_superuser(&self.session.role(&newest))
            && security.has_one_owner()
            && seen.has_one_owner()
    }

    /// An error unless the session may do this to a relation.
    pub fn authorize(&self, object: &Object, privilege: Privilege) -> Result<(), PgError> {
        let newest = self.newest_catalog();
        let role = self.session.role(&newest);
        authorize_in(&newest, &role, object.id, privilege)?;
        match newest.version == self.snapshot.catalog.version {
            true => Ok(()),
            false => authorize_in(&self.snapshot.catalog, &role, object.id, privilege),
        }
    }

    /// The role that the session's statements run as now.
    pub fn role(&self) -> String {
        self.session.role(&self.newest_catalog())
    }

    /// An error unless the session may read a relation of the server itself.
    pub fn authorize_system(&self, schema: &str, name: &str) -> Result<(), PgError> {
        match FOR_SUPERUSERS.contains(&(schema, name)) && !self.is_superuser() {
            true => Err(denied("table", name)),
            false => Ok(()),
        }
    }

    /// All sessions, of those of other roles only what everyone may see.
    pub fn sessions(&self) -> Vec<SessionRow> {
        let mut rows = self.server.sessions.rows();
        if !self.is_superuser() {
            let others = rows.iter_mut();
            for row in others.filter(|row| row.user != self.session.user) {
                row.statement = HIDDEN.to_string();
                row.peer = None;
            }
        }
        rows
    }
}

impl Session {
    /// The newest names, whatever epoch the transaction reads.
    pub fn newest_names(&self) -> Namespace {
        Namespace {
            snapshot: self.server.engine.snapshot(),
            session: self.shared.clone(),
            server: self.server.clone(),
            written: WrittenTables::new(),
        }
    }

    /// An error, which begins with what is denied, unless the session may do everything.
    pub fn require_superuser(&self, denied: &str) -> Result<(), PgError> {
        if self.newest_names().is_superuser() {
            return Ok(());
        }
        let error = PgError::new(SqlState::InsufficientPrivilege, denied);
        Err(error.with_hint("Only superusers may do this."))
    }

    /// An error unless the session may act as a role.
    pub fn check_role(&self, role: &str) -> Result<(), PgError> {
        let catalog = self.newest_names().newest_catalog();
        let login = self.shared.login_role(&catalog);
        if role == "none" {
            return Ok(());
        }
        if catalog.security.role(role).is_none() {
            let message = format!("role \"{role}\" does not exist");
            return Err(PgError::new(SqlState::InvalidParameterValue, message));
        }
        if role == login || catalog.security.is_superuser(&login) {
            return Ok(());
        }
        let message = format!("permission denied to set role \"{role}\"");
        Err(PgError::new(SqlState::InsufficientPrivilege, message))
    }

    /// An error unless the session may alter and drop an object.
    pub fn require_owner(&self, catalog: &Catalog, object: &Object) -> Result<(), PgError> {
        match catalog.is_owner(&self.shared.role(catalog), object) {
            true => Ok(()),
            false => Err(not_owner(object.kind_name(), &object.name.name)),
        }
    }

    /// An error unless the session may drop an object, which the owner of its schema may too.
    pub fn require_dropper(&self, catalog: &Catalog, object: &Object) -> Result<(), PgError> {
        let role = self.shared.role(catalog);
        match catalog.security.schema_owner(&object.name.schema) == role {
            true => Ok(()),
            false => self.require_owner(catalog, object),
        }
    }

    /// An error unless the session may alter and drop a schema.
    pub fn require_schema_owner(&self, catalog: &Catalog, schema: &str) -> Result<(), PgError> {
        let role = self.shared.role(catalog);
        let security = &catalog.security;
        match security.is_superuser(&role) || security.schema_owner(schema) == role {
            true => Ok(()),
            false => Err(not_owner("schema", schema)),
        }
    }

    /// An error unless the session may create relations in a schema.
    pub fn require_creator(&self, catalog: &Catalog, schema: &str) -> Result<(), PgError> {
        let role = self.shared.role(catalog);
        match catalog.may_in_schema(&role, Privilege::Create, schema) {
            true => Ok(()),
            false => Err(denied("schema", schema)),
        }
    }

    /// An error unless the session may read all of these.
    pub fn require_readable(&self, catalog: &Catalog, ids: &[ObjectId]) -> Result<(), PgError> {
        let role = self.shared.role(catalog);
        ids.iter()
            .try_for_each(|id| authorize_in(catalog, &role, *id, Privilege::Select))
    }
}

/// An error unless the role may still read a relation, by the newest catalog.
pub fn authorize_still(server: &ServerState, role: &str, id: ObjectId) -> Result<(), PgError> {
    let newest = server.engine.snapshot();
    authorize_in(&newest.catalog, role, id, Privilege::Select)
}

/// An error unless the role may do this to a relation. One that is not in this catalog is judged by another.
fn authorize_in(
    catalog: &Catalog,
    role: &str,
    id: ObjectId,
    privilege: Privilege,
) -> Result<(), PgError> {
    let Some(object) = catalog.get(id) else {
        return Ok(());
    };
    if !catalog.may_in_schema(role, Privilege::Usage, &object.name.schema) {
        return Err(denied("schema", &object.name.schema));
    }
    let obstacle = match privilege {
        Privilege::Select => catalog.unreadable(role, object),
        other => (!catalog.may(role, other, object)).then_some(id),
    };
    match obstacle.and_then(|id| catalog.get(id)) {
        Some(object) => Err(denied(object.kind_name(), &object.name.name)),
        None => Ok(()),
    }
}

pub fn denied(kind: &str, name: &str) -> PgError {
    let message = format!("permission denied for {kind} {name}");
    PgError::new(SqlState::InsufficientPrivilege, message)
}

fn not_owner(kind: &str, name: &str) -> PgError {
    let message = format!("must be owner of {kind} {name}");
    PgError::new(SqlState::InsufficientPrivilege, message)
}
