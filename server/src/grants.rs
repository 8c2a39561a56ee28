//! GRANT, REVOKE and ALTER DEFAULT PRIVILEGES.

use std::collections::BTreeSet;

use rivermark_planner::Catalog;
use rivermark_planner::security::{Grant, GrantTarget, Grantee, Privilege};
use rivermark_planner::statement::{GrantOn, GrantStatement, ObjectName};

use crate::catalog::{DATABASE_NAME, no_rows_of_index, undefined_relation};
use crate::drop::find_relation;
use crate::pg_error::PgError;
use crate::roles::known_schema;
use crate::session::Session;
use crate::sqlstate::SqlState;

impl Session {
    pub async fn grant(&mut self, grant: &GrantStatement) -> Result<(), PgError> {
        self.change_security(|session, catalog| {
            let grantees = grant.grantees.iter().map(|grantee| match grantee {
                Grantee::Public => Ok(Grantee::Public),
                Grantee::Role(role) => Ok(Grantee::Role(session.meant_role(catalog, role)?.name)),
            });
            let grantees = grantees.collect::<Result<Vec<_>, PgError>>()?;
            for target in session.grant_targets(catalog, &grant.on)? {
                let privileges = privileges(grant.privileges.as_deref(), &target)?;
                for grantee in &grantees {
                    let one = Grant {
                        target: target.clone(),
                        grantee: grantee.clone(),
                        privileges: privileges.clone(),
                    };
                    match grant.is_revoke {
                        true => catalog.security.revoke(&one),
                        false => catalog.security.grant(one),
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// What is granted on, all of which must be the session's own.
    fn grant_targets(&self, catalog: &Catalog, on: &GrantOn) -> Result<Vec<GrantTarget>, PgError> {
        match on {
            GrantOn::Databases(names) => names.iter().map(|name| self.database(name)).collect(),
            GrantOn::Schemas(names) => {
                for name in names {
                    known_schema(catalog, name)?;
                    self.require_schema_owner(catalog, name)?;
                }
                Ok(names.iter().cloned().map(GrantTarget::Schema).collect())
            }
            GrantOn::AllIn(names) => {
                names.iter().try_for_each(|n| known_schema(catalog, n))?;
                let is_meant = |schema: &String| names.contains(schema);
                let objects = catalog
                    .objects()
                    .filter(|o| is_meant(&o.name.schema) && o.as_index().is_none());
                objects
                    .map(|object| {
                        self.require_owner(catalog, object)?;
                        Ok(GrantTarget::Relation(object.id))
                    })
                    .collect()
            }
            GrantOn::Future { creators, schemas } => self.future(catalog, creators, schemas),
            GrantOn::Relations(names) => {
                let relations = names
                    .iter()
                    .map(|name| self.granted_relation(catalog, name));
                relations.collect()
            }
        }
    }

    fn database(&self, name: &str) -> Result<GrantTarget, PgError> {
        if name != DATABASE_NAME {
            let message = format!("database \"{name}\" does not exist");
            return Err(PgError::new(SqlState::InvalidCatalogName, message));
        }
        self.require_superuser(&format!("must be owner of database {DATABASE_NAME}"))?;
        Ok(GrantTarget::Database)
    }

    fn granted_relation(
        &self,
        catalog: &Catalog,
        name: &ObjectName,
    ) -> Result<GrantTarget, PgError> {
        let path = self.shared.settings.lock().search_path();
        let object = find_relation(catalog, name, path).ok_or_else(|| undefined_relation(name))?;
        if object.as_index().is_some() {
            return Err(no_rows_of_index(&object.name.name));
        }
        self.require_owner(catalog, object)?;
        Ok(GrantTarget::Relation(object.id))
    }

    fn future(
        &self,
        catalog: &Catalog,
        creators: &[String],
        schemas: &[String],
    ) -> Result<Vec<GrantTarget>, PgError> {
        schemas.iter().try_for_each(|n| known_schema(catalog, n))?;
        let own = self.shared.role(catalog);
        let mut meant = Vec::new();
        for creator in creators {
            let creator = self.meant_role(catalog, creator)?.name;
            if creator != own {
                self.require_superuser("permission denied to change default privileges")?;
            }
            meant.push(creator);
        }
        if meant.is_empty() {
            meant.push(own);
        }
        let within: Vec<Option<String>> = match schemas {
            [] => vec![None],
            schemas => schemas.iter().cloned().map(Some).collect(),
        };
        let of = |creator: &String| {
            let creator = creator.clone();
            let future = move |schema: &Option<String>| GrantTarget::Future {
                creator: creator.clone(),
                schema: schema.clone(),
            };
            within.iter().map(future).collect::<Vec<_>>()
        };
        Ok(meant.iter().flat_map(of).collect())
    }
}

/// Those that are meant on this target.
fn privileges(
    given: Option<&[Privilege]>,
    target: &GrantTarget,
) -> Result<BTreeSet<Privilege>, PgError> {
    let all = target.privileges();
    let given = given.unwrap_or(all);
    if let Some(wrong) = given.iter().find(|privilege| !all.contains(privilege)) {
        let kind = match target {
            GrantTarget::Schema(_) => "schema",
            GrantTarget::Database => "database",
            GrantTarget::Relation(_) | GrantTarget::Future { .. } => "relation",
        };
        let message = format!("invalid privilege type {} for {kind}", wrong.name());
        return Err(PgError::new(SqlState::InvalidGrantOperation, message));
    }
    Ok(given.iter().copied().collect())
}
