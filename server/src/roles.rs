//! CREATE, ALTER and DROP ROLE, and who owns what: ALTER … OWNER TO, REASSIGN OWNED.

use rivermark_executor::ExecutorError;
use rivermark_executor::api::CatalogChange;
use rivermark_planner::Catalog;
use rivermark_planner::alter::described;
use rivermark_planner::pg_text::datetime_input::parse_timestamptz;
use rivermark_planner::security::{BOOTSTRAP, Grant, GrantTarget, Role, Security};
use rivermark_planner::statement::RoleOptions;

use crate::catalog::DATABASE_NAME;
use crate::ddl::ATTEMPTS;
use crate::passwords;
use crate::pg_error::{Notice, PgError};
use crate::session::Session;
use crate::sqlstate::SqlState;

/// What a statement says of a role, checked and with the password as it is kept. The outer `None`: nothing.
struct Facts {
    is_superuser: Option<bool>,
    can_login: Option<bool>,
    verifier: Option<Option<String>>,
    connection_limit: Option<Option<u32>>,
    valid_until_us: Option<Option<i64>>,
}

impl Facts {
    fn apply_to(&self, role: Role) -> Role {
        Role {
            is_superuser: self.is_superuser.unwrap_or(role.is_superuser),
            can_login: self.can_login.unwrap_or(role.can_login),
            verifier: self.verifier.clone().unwrap_or(role.verifier),
            connection_limit: self.connection_limit.unwrap_or(role.connection_limit),
            valid_until_us: self.valid_until_us.unwrap_or(role.valid_until_us),
            ..role
        }
    }
}

impl Session {
    pub async fn create_role(&mut self, name: &str, options: &RoleOptions) -> Result<(), PgError> {
        self.require_superuser("permission denied to create role")?;
        if name.starts_with("pg_") || matches!(name, "public" | "none") {
            let message = format!("role name \"{name}\" is reserved");
            return Err(PgError::new(SqlState::ReservedName, message));
        }
        let facts = self.facts(options)?;
        self.change_security(|_, catalog| {
            let security = &mut catalog.security;
            if security.role(name).is_some() {
                let message = format!("role \"{name}\" already exists");
                return Err(PgError::new(SqlState::DuplicateObject, message));
            }
            let role = Role {
                oid: security.allocate(),
                name: name.to_string(),
                is_superuser: false,
                can_login: false,
                verifier: None,
                connection_limit: None,
                valid_until_us: None,
            };
            security.put(facts.apply_to(role));
            Ok(())
        })
        .await
    }

    /// Everyone may change the own password; the rest is for superusers.
    pub async fn alter_role(&mut self, name: &str, options: &RoleOptions) -> Result<(), PgError> {
        let only_password = RoleOptions {
            password: options.password.clone(),
            ..RoleOptions::default()
        };
        let catalog = self.newest_names().snapshot.catalog.clone();
        let role = self.meant_role(&catalog, name)?;
        let name = role.name.as_str();
        if self.shared.role(&catalog) != name || *options != only_password {
            self.require_superuser("permission denied to alter role")?;
        }
        let facts = self.facts(options)?;
        self.change_security(|session, catalog| {
            let role = facts.apply_to(session.meant_role(catalog, name)?);
            if name == BOOTSTRAP && !(role.is_superuser && role.can_login) {
                let message = format!("role \"{BOOTSTRAP}\" stays a superuser that can log in");
                return Err(PgError::new(SqlState::FeatureNotSupported, message));
            }
            catalog.security.put(role);
            Ok(())
        })
        .await
    }

    fn facts(&self, options: &RoleOptions) -> Result<Facts, PgError> {
        let zone = self.shared.settings.lock().time_zone();
        let verifier = match &options.password {
            None => None,
            Some(None) => Some(None),
            Some(Some(password)) => Some(Some(passwords::verifier(password)?)),
        };
        let valid_until_us = match options.valid_until.as_deref() {
            None => None,
            Some("infinity") => Some(None),
            Some(text) => {
                let time = parse_timestamptz(text, &zone).map_err(|_| {
                    let message = format!(
                        "invalid input syntax for type timestamp with time zone: \"{text}\""
                    );
                    PgError::new(SqlState::InvalidDatetimeFormat, message)
                })?;
                Some(Some(time))
            }
        };
        Ok(Facts {
            is_superuser: options.is_superuser,
            can_login: options.can_login,
            verifier,
            connection_limit: options.connection_limit,
            valid_until_us,
        })
    }

    pub async fn drop_roles(&mut self, names: &[String], if_exists: bool) -> Result<(), PgError> {
        self.require_superuser("permission denied to drop role")?;
        let own = self.shared.role(&self.newest_names().snapshot.catalog);
        for name in names {
            let message = match name.as_str() {
                BOOTSTRAP => format!("role \"{name}\" is required by the server"),
                _ if *name == own || *name == self.shared.user => {
                    "current user cannot be dropped".to_string()
                }
                _ => continue,
            };
            return Err(PgError::new(SqlState::ObjectInUse, message));
        }
        let mut missing = Vec::new();
        self.change_security(|_, catalog| {
            missing.clear();
            for name in names {
                match known_role(&catalog.security, name) {
                    Ok(_) => refuse_needed(catalog, name)?,
                    Err(_) if if_exists => missing.push(name.clone()),
                    Err(error) => return Err(error),
                }
                catalog.security.remove(name);
            }
            Ok(())
        })
        .await?;
        for name in missing {
            let message = format!("role \"{name}\" does not exist, skipping");
            self.notify(Notice::new(message));
        }
        Ok(())
    }

    /// REASSIGN OWNED.
    pub async fn reassign(&mut self, from: &[String], to: &str) -> Result<(), PgError> {
        self.require_superuser("permission denied to reassign objects")?;
        self.change_security(|session, catalog| {
            let to = session.meant_role(catalog, to)?.name;
            for owner in from {
                let owner = &session.meant_role(catalog, owner)?.name;
                let security = &mut catalog.security;
                if owner == BOOTSTRAP {
                    let message = format!("cannot reassign what belongs to role {BOOTSTRAP} because the server requires it");
                    return Err(PgError::new(SqlState::DependentObjectsStillExist, message));
                }
                let relations: Vec<_> = security.owned_relations(owner).collect();
                let schemas: Vec<String> =
                    security.owned_schemas(owner).map(str::to_string).collect();
                for relation in relations {
                    security.give_relation(relation, &to);
                }
                for schema in schemas {
                    security.give_schema(&schema, &to);
                }
            }
            Ok(())
        })
        .await
    }

    /// ALTER SCHEMA … OWNER TO.
    pub async fn give_schema(&mut self, name: &str, owner: &str) -> Result<(), PgError> {
        self.require_superuser("permission denied to change owners")?;
        self.change_security(|session, catalog| {
            let owner = session.meant_role(catalog, owner)?.name;
            known_schema(catalog, name)?;
            catalog.security.give_schema(name, &owner);
            Ok(())
        })
        .await
    }

    /// The role that a statement names, or means with CURRENT_USER.
    pub fn meant_role(&self, catalog: &Catalog, name: &str) -> Result<Role, PgError> {
        let own = match name {
            "current_user" | "current_role" => Some(self.shared.role(catalog)),
            "session_user" => Some(self.shared.login_role(catalog)),
            _ => None,
        };
        known_role(&catalog.security, own.as_deref().unwrap_or(name))
    }

    /// Makes a change on the newest catalog's security, again if the catalog has changed meanwhile.
    pub async fn change_security(
        &mut self,
        mut change: impl FnMut(&Session, &mut Catalog) -> Result<(), PgError>,
    ) -> Result<(), PgError> {
        for attempt in 1.. {
            let turn = self.turn().await;
            let mut after = turn.catalog.as_ref().clone();
            change(self, &mut after)?;
            let change = CatalogChange::Secure {
                security: Box::new(after.security),
            };
            match self.apply(&turn, change).await {
                Err(ExecutorError::CatalogChanged) if attempt < ATTEMPTS => {}
                other => return other.map(|_| ()).map_err(PgError::from),
            }
        }
        Ok(())
    }
}

fn known_role(security: &Security, name: &str) -> Result<Role, PgError> {
    security.role(name).ok_or_else(|| {
        let message = format!("role \"{name}\" does not exist");
        PgError::new(SqlState::UndefinedObject, message)
    })
}

pub fn known_schema(catalog: &Catalog, name: &str) -> Result<(), PgError> {
    match catalog.schemas().iter().any(|schema| schema == name) {
        true => Ok(()),
        false => {
            let message = format!("schema \"{name}\" does not exist");
            Err(PgError::new(SqlState::InvalidSchemaName, message))
        }
    }
}

/// An error if the role owns something, or something was granted to it.
fn refuse_needed(catalog: &Catalog, role: &str) -> Result<(), PgError> {
    let security = &catalog.security;
    let relations = security
        .owned_relations(role)
        .filter_map(|id| catalog.get(id));
    let mut owned: Vec<String> = relations
        .map(|object| format!("owner of {}", described(object)))
        .collect();
    owned.extend(
        security
            .owned_schemas(role)
            .map(|schema| format!("owner of schema {schema}")),
    );
    owned.extend(
        security
            .grants_of(role)
            .map(|grant| grant_text(catalog, grant, role)),
    );
    if owned.is_empty() {
        return Ok(());
    }
    let message = format!("role \"{role}\" cannot be dropped because some objects depend on it");
    Err(PgError::new(SqlState::DependentObjectsStillExist, message)
        .with_detail(owned.join("\n"))
        .with_hint("Use REASSIGN OWNED to give what it owns to another role, DROP OWNED to take back the rest."))
}

/// A grant as PostgreSQL speaks of it.
fn grant_text(catalog: &Catalog, grant: &Grant, role: &str) -> String {
    match &grant.target {
        GrantTarget::Relation(id) => match catalog.get(*id) {
            Some(object) => format!("privileges for {}", described(object)),
            None => "privileges for a relation".to_string(),
        },
        GrantTarget::Schema(schema) => format!("privileges for schema {schema}"),
        GrantTarget::Database => format!("privileges for database {DATABASE_NAME}"),
        GrantTarget::Future { creator, schema } => {
            let word = if creator == role {
                "owner of"
            } else {
                "privileges for"
            };
            let within = schema.as_ref().map(|schema| format!(" in schema {schema}"));
            format!(
                "{word} default privileges on new relations belonging to role {creator}{}",
                within.unwrap_or_default()
            )
        }
    }
}
